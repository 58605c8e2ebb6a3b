"""The picture of docs/spot-the-bug.md: what seven slips do to samples of a spiral, beside the right ones.

python docs/figures/spot_the_bug.py [PATH]

The score is exact everywhere: a mixture of many small normals along a spiral. The slips are written here.
"""

import math
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

import sdekit as sk
from sdekit.sdes import tables

F64 = torch.float64
EACH = 700
EXTENT = 2.6
CHAIN = 0.15
"""The noise level of the Langevin chains, as a standard deviation."""


def spiral(sde: sk.GaussianSDE) -> sk.models.GaussianMixture:
    """The exact model of a spiral of about unit variance."""
    angle = torch.linspace(1.5 * math.pi, 4.5 * math.pi, 60, dtype=F64)
    points = angle[:, None] * torch.stack([angle.cos(), angle.sin()], 1) / 7.5
    return sk.models.GaussianMixture(sde, torch.ones(60), points, 0.0016)


def normals(seed: int) -> torch.Tensor:
    """Standard normals, (EACH, 2)."""
    return sk.Noise(seed).normal((EACH, 2), stream="start", dtype=F64)


def ddpm(sde: sk.DiscreteVPSDE, *, seed: int, masked: bool = True, bars: int = 0) -> torch.Tensor:
    """DDPM's algorithm 2 from N(0, I), without its mask, or with alpha_bar for alpha in the last so many steps."""
    model, noise, x = spiral(sde), sk.Noise(seed), normals(seed)
    b, bar = sde.betas, (1 - sde.betas).cumprod(0)
    for i in reversed(range(len(b))):
        eps = model(x, float(i + 1)).eps
        x = (x - b[i] / (1 - bar[i]).sqrt() * eps) / (bar[i] if i < bars else 1 - b[i]).sqrt()
        if i or not masked:
            x = x + b[i].sqrt() * noise.normal(x.shape, stream=("step", i), dtype=F64)
    return x


def forward(sde: sk.DiscreteVPSDE, *, seed: int) -> torch.Tensor:
    """The forward chain with beta times uniform numbers."""
    noise, x = sk.Noise(seed), spiral(sde).sample(EACH, sk.Noise(seed))
    for i, b in enumerate(sde.betas):
        u = noise.uniform(2 * EACH, stream=("step", i)).reshape(EACH, 2)
        x = (1 - b).sqrt() * x + b * u
    return x


def langevin(*, seed: int, uniform: bool = False, rate: float = 1.0, sign: float = 1.0, steps: int = 1500):
    """A chain at one noise level from N(0, I), with uniform numbers, steps that shrink, or the opposite score."""
    model, noise, x, h = spiral(sk.VESDE()), sk.Noise(seed), normals(seed), 0.1 * CHAIN**2
    t = float(sk.VESDE().time_at(torch.tensor(-2 * math.log(CHAIN), dtype=F64)))
    for k in range(steps):
        z = noise.normal(x.shape, stream=("step", k), dtype=F64)
        if uniform:
            z = noise.uniform(2 * EACH, stream=("step", k)).reshape(EACH, 2)
        x = x + sign * h * model(x, t).score + math.sqrt(2 * h) * z
        h *= rate
    return x


def panels() -> list[tuple[str, torch.Tensor]]:
    """The title and the samples of each panel."""
    table, coarse, short = (
        sk.DiscreteVPSDE(tables.linear(100, *ends)) for ends in ((1e-3, 0.12), (2e-2, 0.1), (1e-5, 1e-2))
    )
    solver = sk.solvers.Ancestral("upper")
    right = sk.sample(spiral(table), (EACH, 2), solver=solver, grid=table.times.flip(0), seed=0, dtype=F64)
    return [
        ("right: Ancestral", right),
        ("1. rand for randn", langevin(seed=5, uniform=True)),
        ("2. steps shrink by 0.9", langevin(seed=6, rate=0.9)),
        (r"3. forward by $\beta$ rand", forward(table, seed=4)),
        (r"6. $\bar\alpha_T = 0.605$, from $N(0, I)$", ddpm(short, seed=1)),
        ("7. noise in the last step", ddpm(coarse, seed=2, masked=False)),
        (r"8. $\sqrt{\bar\alpha}$ in the last 40 steps", ddpm(table, seed=3, bars=40)),
        ("10. minus the score, 40 steps", langevin(seed=7, sign=-1.0, steps=40)),
    ]


def main(path: Path) -> None:
    """Writes the picture."""
    data = spiral(sk.VPSDE()).means
    with sk.plots.styled():
        figure = Figure(figsize=(10.4, 5.5), dpi=200, layout="constrained")
        for axes, (title, x) in zip(figure.subplots(2, 4).flat, panels(), strict=True):
            axes.plot(*data.T, color=sk.plots.style.RULE, linewidth=3.0, solid_capstyle="round", zorder=0)
            colour = sk.plots.style.BLUE if title.startswith("right") else sk.plots.style.VERMILION
            axes.scatter(*x.T, s=3.0, color=colour, alpha=0.7, linewidths=0, rasterized=True)
            axes.set(xlim=(-EXTENT, EXTENT), ylim=(-EXTENT, EXTENT), xticks=[], yticks=[], aspect="equal", title=title)
            axes.spines[:].set_visible(True)
        sk.plots.save(figure, path)


if __name__ == "__main__":
    default = Path(__file__).resolve().parents[1] / "images" / "spot-the-bug.png"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
