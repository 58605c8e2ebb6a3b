"""The picture of docs/views.md: one run as DDPM sees it and as NCSN sees it.

python docs/figures/views.py [FILE]
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

import sdekit as sk

MEANS = torch.tensor([[-1.0], [0.4], [1.6]], dtype=torch.float64)
COLOURS = ("#0072b2", "#d55e00", "#009e73")
START = (-1.6, -0.8, -0.1, 0.4, 0.9, 1.7)
STEPS = 60
EVERY = 4


def film(sde: sk.GaussianSDE, log_snr: torch.Tensor) -> list[sk.solvers.State]:
    """The states of the run in a process."""
    model = sk.models.GaussianMixture(sde, [1.0, 1.0, 1.0], MEANS, 0.02)
    times = sde.time_at(log_snr)
    start = torch.tensor(START, dtype=torch.float64)[:, None] * sde.sigma(times[0])
    return list(sk.trajectory(model, sk.solvers.DDIM(eta=0.5), start, times, sk.Noise(4), denoise=False))


def draw(path: Path) -> Path:
    """Draws the picture and returns its path."""
    log_snr = torch.linspace(-9.0, 9.0, STEPS + 1, dtype=torch.float64)
    vp, ve = (film(sde, log_snr) for sde in (sk.VPSDE(), sk.VESDE(sigma_min=0.002, sigma_max=160.0)))
    x, y = (torch.stack([state.x[:, 0] for state in run], 1) for run in (vp, ve))
    rescaled = torch.stack([state.x[:, 0] / state.level.alpha for state in vp], 1)
    assert float((rescaled - y).abs().max()) < 1e-10 * float(y.abs().max())
    colours = [COLOURS[int((end - MEANS[:, 0]).abs().argmin())] for end in y[:, -1]]
    with sk.plots.styled():
        figure = Figure(figsize=(10.4, 3.9), dpi=200, layout="constrained")
        left, right = figure.subplots(1, 2)
        for row, colour in enumerate(colours):
            left.plot(log_snr, x[row], color=colour, linewidth=1.1)
            right.plot(log_snr, y[row], color=colour, linewidth=1.1)
            left.plot(log_snr[::EVERY], x[row, ::EVERY], "o", color=colour, markersize=2.6)
            right.plot(
                log_snr[::EVERY], rescaled[row, ::EVERY], "o", color=colour, markerfacecolor="white", markersize=3.6
            )
        left.set(title="DDPM's view, VPSDE:  x", ylim=(-3.0, 3.0), ylabel="x")
        right.set(title="NCSN's view, VESDE:  y = x / α", ylabel="y")
        right.set_yscale("symlog", linthresh=3.0, linscale=1.2)
        right.set_yticks([-100, -10, -2, 0, 2, 10, 100], ["-100", "-10", "-2", "0", "2", "10", "100"])
        for axes in (left, right):
            axes.set(xlim=(-9.2, 9.2), xticks=range(-8, 9, 4), xlabel="log-SNR, from noise to data")
            for mean in MEANS[:, 0]:
                axes.axhline(float(mean), color="#d5dae0", linewidth=0.8, zorder=0)
        return sk.plots.save(figure, path)


if __name__ == "__main__":
    default = Path(__file__).parents[1] / "images" / "views.png"
    print(draw(Path(sys.argv[1]) if len(sys.argv) > 1 else default))
