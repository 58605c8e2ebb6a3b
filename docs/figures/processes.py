"""The picture of docs/processes.md: alpha, sigma and log-SNR of every built-in process.

python docs/figures/processes.py [FILE]
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

import sdekit as sk

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, INK = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1c2127",
)  # fmt: skip
PROCESSES: dict[str, tuple[sk.GaussianSDE, str]] = {
    "VPSDE()": (sk.VPSDE(), BLUE),
    "SubVPSDE()": (sk.SubVPSDE(), SKY),
    "CosineSDE()": (sk.CosineSDE(), GREEN),
    "FlowSDE()": (sk.FlowSDE(), ORANGE),
    "LinearSDE(f=-1, g=√2, t_max=5)": (sk.LinearSDE(-1.0, 2.0**0.5, t_max=5.0), PURPLE),
    "VESDE()": (sk.VESDE(), VERMILION),
    "EDMSDE()": (sk.EDMSDE(), INK),
}
DASHED = {"SubVPSDE()": (0, (4, 2))}  # alpha is that of VPSDE
DOTS: dict[str, tuple[sk.TableSDE, str]] = {
    "DiscreteVPSDE(), every 50th level": (sk.DiscreteVPSDE().respaced(20, "trailing"), BLUE),
    "DiscreteVESDE(), all 10 levels": (sk.DiscreteVESDE(), VERMILION),
}


def draw(path: Path) -> Path:
    """Draws the picture and returns its path."""
    u = torch.linspace(0.0, 1.0, 801, dtype=torch.float64)
    with sk.plots.styled():
        figure = Figure(figsize=(10.4, 4.1), dpi=200, layout="constrained")
        panels = figure.subplots(1, 3)
        for name, (sde, colour) in PROCESSES.items():
            t = sde.t_min + u * (sde.t_max - sde.t_min)
            values = (sde.alpha(t), sde.sigma(t), sde.log_snr(t))
            for axes, value in zip(panels, values, strict=True):
                axes.plot(u, value, color=colour, linewidth=1.5, linestyle=DASHED.get(name, "-"), label=name)
        for name, (sde, colour) in DOTS.items():
            t = sde.times
            end = 1000 if isinstance(sde, sk.DiscreteVPSDE) else sde.t_max
            place = (t - 1) / (end - 1)
            values = (sde.alpha(t), sde.sigma(t), sde.log_snr(t))
            for axes, value in zip(panels, values, strict=True):
                axes.plot(
                    place, value, "o", color=colour, markersize=3.6, markerfacecolor="white", clip_on=False, label=name
                )
        panels[0].set(title="α, what is left of the data", ylim=(-0.03, 1.05))
        panels[1].set(title="σ, the noise (logarithmic)", yscale="log", ylim=(1e-4, 200))
        panels[2].set(title="log-SNR = log(α² / σ²)", ylim=(-15, 19))
        panels[2].axhline(0.0, color="#d5dae0", linewidth=0.8, zorder=0)
        for axes in panels:
            axes.set(xlim=(0, 1), xlabel="(t - t_min) / (t_max - t_min)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
        return sk.plots.save(figure, path)


if __name__ == "__main__":
    default = Path(__file__).parents[1] / "images" / "processes.png"
    print(draw(Path(sys.argv[1]) if len(sys.argv) > 1 else default))
