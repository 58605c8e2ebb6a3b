"""The picture of docs/models.md: the exact model of six data beside that of the law they were drawn from.

python docs/figures/models.py [FILE]
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

import sdekit as sk

MEANS = torch.tensor([[-1.2], [1.0]], dtype=torch.float64)
VARIANCE = 0.12
SIGMAS = {2.0: "#e69f00", 0.7: "#009e73", 0.2: "#0072b2", 0.05: "#d55e00"}
SEED = 3
N = 6


def models(sde: sk.GaussianSDE) -> tuple[sk.models.GaussianMixture, sk.models.Empirical]:
    """The law, and a few of its draws."""
    mixture = sk.models.GaussianMixture(sde, [0.5, 0.5], MEANS, VARIANCE)
    return mixture, sk.models.Empirical(sde, mixture.sample(N, sk.Noise(SEED)))


def draw(path: Path) -> Path:
    """Draws the picture and returns its path."""
    mixture, empirical = models(sk.EDMSDE())
    x = torch.linspace(-2.6, 2.6, 1041, dtype=torch.float64)[:, None]
    with sk.plots.styled():
        figure = Figure(figsize=(10.4, 3.5), dpi=200, layout="constrained")
        panels = figure.subplots(1, 3, width_ratios=(1, 1, 1.15))
        for axes, model, title in (
            (panels[0], mixture, "GaussianMixture: E[x0 | x]"),
            (panels[1], empirical, f"Empirical, {N} data: E[x0 | x]"),
        ):
            for y in empirical.data[:, 0] if model is empirical else []:
                axes.axhline(float(y), color="#d5dae0", linewidth=0.8, zorder=0)
            for sigma, colour in SIGMAS.items():
                axes.plot(x[:, 0], model(x, sigma).x0[:, 0], color=colour, linewidth=1.5, label=f"σ = {sigma:g}")
            axes.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), xlabel="x", title=title, aspect="equal")
        panels[0].legend(loc="upper left")
        panels[0].set_ylabel("x0")
        start = mixture.sde.prior.sample((40, 1), sk.Noise(1), dtype=torch.float64)
        axes = panels[2]
        for y in empirical.data[:, 0]:
            axes.axhline(float(y), color="#d5dae0", linewidth=0.8, zorder=0)
        for model, place, colour in ((mixture, 0.0, "#66707c"), (empirical, 1.0, "#1c2127")):
            end = sk.sample(model, x_T=start, steps=60)[:, 0]
            spread = torch.linspace(-0.28, 0.28, len(end))
            axes.plot(place + spread, end, "o", color=colour, markersize=3.2, markeredgewidth=0)
        axes.plot(torch.full((N,), 1.52), empirical.data[:, 0], "<", color="#d55e00", markersize=6, clip_on=False)
        axes.set(
            xlim=(-0.5, 1.5), ylim=(-2.6, 2.6), xticks=[0, 1], xticklabels=["GaussianMixture", "Empirical"],
            title="40 samples of each, from one noise",
        )  # fmt: skip
        axes.text(1.44, -2.35, "◂ data", color="#d55e00", ha="right", fontsize=8.5)
        return sk.plots.save(figure, path)


if __name__ == "__main__":
    default = Path(__file__).parents[1] / "images" / "models.png"
    print(draw(Path(sys.argv[1]) if len(sys.argv) > 1 else default))
