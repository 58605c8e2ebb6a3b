"""The picture of docs/objectives.md: weights, time densities, and the spread of the likelihood-weighted loss.

python docs/figures/objectives.py [PATH]
"""

import sys
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import sdekit as sk

F64 = torch.float64
ROWS = 2000
ERROR = 0.1
"""Of x0, in the left panel."""


def weigh(axes: Axes, sde: sk.GaussianSDE) -> None:
    """w |error in eps|^2 for one error in x0, over the log-SNR."""
    t = sde.time_at(torch.linspace(11.4, -10.0, 300, dtype=F64))
    level = sde.level(t, torch.zeros(len(t), 1, dtype=F64))
    for k, (name, weight) in enumerate(sk.losses.weights.NAMES.items()):
        cost = weight(level) * torch.exp(level.log_snr) * ERROR**2
        axes.plot(level.log_snr.flatten(), cost.flatten(), label=name, color=sk.plots.style.CYCLE[k])
    axes.set(yscale="log", ylim=(1e-7, 1e7), title="cost of an error of 0.1 in $x_0$")
    axes.legend(loc="upper right", frameon=False, fontsize=7.5)


def place(axes: Axes, sde: sk.GaussianSDE) -> None:
    """The density of each time density's draws over the log-SNR."""
    for k, name in enumerate(("stratified", "importance", "log_normal", "logit_normal")):
        t, _ = sk.losses.times.NAMES[name](sde, 400_000, sk.Noise(0))
        share, edges = torch.histogram(sde.log_snr(t), torch.linspace(-10.05, 11.51, 99, dtype=F64), density=True)
        axes.stairs(share, edges, label=name, color=sk.plots.style.CYCLE[k], linewidth=1.4)
    axes.set(ylim=(0, 0.3), yticks=[], title="where the draws fall")
    axes.legend(loc="upper center", frameon=False, fontsize=7.5, ncols=2)


def scatter(axes: Axes, sde: sk.GaussianSDE) -> None:
    """Rows of the likelihood-weighted loss under uniform and importance times."""
    data = sk.models.GaussianMixture(sde, [1.0], torch.full((1, 1), 0.8, dtype=F64), 0.3)
    wrong = sk.models.GaussianMixture(sde, [1.0], torch.full((1, 1), 0.9, dtype=F64), 0.35)
    x0 = data.sample(ROWS, sk.Noise(1))
    for name, colour in (("stratified", sk.plots.style.VERMILION), ("importance", sk.plots.style.BLUE)):
        density = sk.losses.times.NAMES[name]
        loss = sk.losses.DenoisingScoreMatching("likelihood", times=name)
        rows = loss.per_sample(wrong, x0, sk.Noise(2))
        t, _ = density(sde, ROWS, sk.Noise(2))
        label = f"{name}: {float(rows.std()):.0f}"
        axes.scatter(sde.log_snr(t), rows, s=3.0, color=colour, alpha=0.6, linewidths=0, rasterized=True, label=label)
    axes.set(yscale="log", ylim=(1e-3, 1e4), title="a row of the likelihood loss")
    axes.legend(loc="upper right", frameon=False, fontsize=7.5, markerscale=3, title="deviation", title_fontsize=7.5)


def main(path: Path) -> None:
    """Writes the picture."""
    sde = sk.VPSDE()
    with sk.plots.styled():
        figure = Figure(figsize=(10.4, 3.3), dpi=200, layout="constrained")
        for axes, draw in zip(figure.subplots(1, 3), (weigh, place, scatter), strict=True):
            draw(axes, sde)
            axes.set(xlim=(11.7, -10.3), xlabel="log-SNR: data to noise")
        sk.plots.save(figure, path)


if __name__ == "__main__":
    default = Path(__file__).resolve().parents[1] / "images" / "objectives.png"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
