"""The picture of docs/guidance.md: three classes whose scores are exact, guided by four weights.

python docs/figures/guidance.py [FILE]
"""

import math
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

import sdekit as sk

MEANS = torch.tensor([[0.0, 1.0], [-0.9, -0.55], [0.9, -0.55]], dtype=torch.float64)
VARIANCE = 0.3
WEIGHTS = (0.0, 1.0, 2.0, 4.0)
COLOURS = ("#0072b2", "#d55e00", "#009e73")
EXTENT = 3.3
EACH = 350


def classes(sde: sk.GaussianSDE) -> list[sk.models.GaussianMixture]:
    """The exact model of each class."""
    return [sk.models.GaussianMixture(sde, [1.0], mean[None], VARIANCE) for mean in MEANS]


def draw(path: Path) -> Path:
    """Draws the picture and returns its path."""
    sde = sk.VPSDE()
    everything = sk.models.GaussianMixture(sde, [1.0, 1.0, 1.0], MEANS, VARIANCE)
    side = torch.linspace(-EXTENT, EXTENT, 161, dtype=torch.float64)
    plane = torch.cartesian_prod(side, side)
    density = everything.log_prob(plane, sde.t_min).exp().reshape(161, 161).T
    with sk.plots.styled():
        figure = Figure(figsize=(10.4, 2.95), dpi=200, layout="constrained")
        for w, axes in zip(WEIGHTS, figure.subplots(1, len(WEIGHTS)), strict=True):
            levels = [float(density.max()) * math.exp(-k) for k in (4, 2.5, 1.2, 0.3)]
            axes.contour(side, side, density, levels=levels, colors="#c3cad2", linewidths=0.7)
            for k, (one, colour) in enumerate(zip(classes(sde), COLOURS, strict=True)):
                guided = sk.guidance.ClassifierFree(one, everything, w)
                x = sk.sample(guided, (EACH, 2), steps=60, seed=k)
                axes.scatter(*x.T, s=3.0, color=colour, alpha=0.75, linewidths=0, rasterized=True)
            names = {0.0: "w = 0: no guidance", 1.0: "w = 1: the class itself"}
            axes.set(xlim=(-EXTENT, EXTENT), ylim=(-EXTENT, EXTENT), xticks=[], yticks=[], aspect="equal")
            axes.set_title(names.get(w, f"w = {w:g}"))
            axes.spines[:].set_visible(True)
        return sk.plots.save(figure, path)


if __name__ == "__main__":
    default = Path(__file__).parents[1] / "images" / "guidance.png"
    print(draw(Path(sys.argv[1]) if len(sys.argv) > 1 else default))
