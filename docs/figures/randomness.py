"""The picture of docs/randomness.md: one Brownian path under three grids, beside independent draws.

    python docs/figures/randomness.py [PATH]

Euler-Maruyama in EDM's process with the exact score of a mixture of two normals, in 10, 40 and 640 steps.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import sdekit as sk

STEPS = {10: "#e69f00", 40: "#d55e00", 640: "#0072b2"}
START = (-2.0, 1.5)
SEED = 5


def main(path: Path) -> None:
    """Writes the picture."""
    means = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    model = sk.models.GaussianMixture(sk.EDMSDE(t_min=0.05, t_max=2.0), [0.5, 0.5], means, 0.09)
    start = torch.tensor(START, dtype=torch.float64)[:, None]
    with sk.plots.styled():
        fig, panels = plt.subplots(1, 2, figsize=(9.0, 3.6), sharey=True, layout="constrained")
        for axes, source in zip(panels, (sk.BrownianPath, sk.KeyedNoise), strict=True):
            for steps, colour in reversed(STEPS.items()):
                film = list(
                    sk.trajectory(
                        model, sk.solvers.EulerMaruyama(), start, "log_snr", source(SEED), steps=steps, denoise=False
                    )
                )
                times = [state.level.t for state in film]
                paths = torch.stack([state.x[:, 0] for state in film])
                width = 0.8 if steps == max(STEPS) else 1.6
                lines = axes.plot(times, paths, color=colour, linewidth=width)
                axes.plot([times[-1]] * len(START), paths[-1], "o", color=colour, markersize=4, clip_on=False)
                lines[0].set_label(f"{steps} steps")
            axes.set(xscale="log", xlim=(2.0, 0.05), xlabel="noise level t", title=f"{source.__name__}(seed={SEED})")
        panels[0].set_ylabel("x")
        panels[0].legend(loc="upper center", frameon=False)
        sk.plots.save(fig, path)
    plt.close(fig)


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[1]
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else here / "images" / "randomness.png")
