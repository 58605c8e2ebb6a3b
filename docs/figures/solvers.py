"""The picture of docs/solvers.md: one exact model, every solver from one noise; and their errors.

python docs/figures/solvers.py [FILE]
"""

import math
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

import sdekit as sk

S = sk.solvers
ROWS = 500
BUDGET = 13
EXTENT = 1.75
SOLVERS: dict[str, S.Solver] = {
    "Ancestral()": S.Ancestral(),
    'Ancestral("upper")': S.Ancestral("upper"),
    "EulerMaruyama()": S.EulerMaruyama(),
    "ReverseDiffusion()": S.ReverseDiffusion(),
    "PredictorCorrector()": S.PredictorCorrector(),
    "AnnealedLangevin(): 1001": S.AnnealedLangevin(0.3, 20),
    "Heun(churn=0.1)": S.Heun(churn=0.1),
    "DDIM()": S.DDIM(),
    "Heun()": S.Heun(),
    "DPMSolver()": S.DPMSolver(),
    "ProbabilityFlow(RK4())": S.ProbabilityFlow(sk.ode.RK4()),
}
CURVES = {
    "DDIM()": ("#56b4e9", 1),
    "Heun()": ("#009e73", 2),
    "DPMSolver()": ("#0072b2", 2),
    "ProbabilityFlow(RK4())": ("#cc79a7", 4),
}


def spiral(sde: sk.GaussianSDE) -> sk.models.GaussianMixture:
    """The exact model of 60 narrow Gaussians along a spiral."""
    angle = torch.linspace(0.5, 3.0, 60, dtype=torch.float64) ** 0.5 * 2.2 * math.pi
    means = 0.13 * angle[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return sk.models.GaussianMixture(sde, torch.ones(60), means, 0.03**2)


def budget_of(solver: S.Solver) -> int:
    """Evaluations in the picture: at as few as the others annealed Langevin is noise still."""
    return 1001 if isinstance(solver, S.AnnealedLangevin) else BUDGET


def steps_for(solver: S.Solver, budget: int) -> int:
    """Steps that cost at most ``budget`` evaluations; the one to the clean level costs one."""
    return 1 + (budget - 1) // (solver.evaluations or 1)


def draw(path: Path) -> Path:
    """Draws the picture and returns its path."""
    model = spiral(sk.VPSDE(t_min=1e-3))
    start = model.sde.prior.sample((ROWS, 2), sk.Noise(1), dtype=torch.float64)
    with sk.plots.styled():
        figure = Figure(figsize=(11.6, 5.6), dpi=200, layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=(4, 1.75))
        panels = left.subplots(3, 4).ravel()
        truth = model.sample(ROWS, sk.Noise(2), t=model.sde.t_min)
        pictures = [("the law itself", truth)]
        for name, solver in SOLVERS.items():
            run = sk.sample(
                model, x_T=start, solver=solver, steps=steps_for(solver, budget_of(solver)), seed=3, full=True
            )
            assert run.nfe == budget_of(solver)
            pictures.append((name, run.x))
        for axes, (name, x) in zip(panels, pictures, strict=True):
            solver = SOLVERS.get(name)
            colour = "#66707c" if solver is None else "#d55e00" if solver.stochastic else "#0072b2"
            axes.plot(*x.T, "o", color=colour, markersize=1.7, markeredgewidth=0, alpha=0.8)
            axes.set(xlim=(-EXTENT, EXTENT), ylim=(-EXTENT, EXTENT), xticks=[], yticks=[], aspect="equal")
            axes.set_title(name, fontsize=9)
            axes.spines[:].set_visible(True)
        few = start[:128]
        exact = sk.sample(model, x_T=few, solver=S.DPMSolver(), steps=6000, denoise=False)
        axes = right.subplots()
        for name, (colour, order) in CURVES.items():
            points = []
            solver = SOLVERS[name]
            for budget in (8, 16, 32, 64, 128, 256, 512):
                steps = max(2, budget // (solver.evaluations or 1))
                run = sk.sample(model, x_T=few, solver=solver, steps=steps, denoise=False, full=True)
                points.append((run.nfe, float((run.x - exact).square().mean().sqrt())))
            axes.loglog(*zip(*points, strict=True), "o-", color=colour, markersize=3.5, label=f"{name}, order {order}")
        axes.axvline(BUDGET, color="#d5dae0", linewidth=0.8, zorder=0)
        axes.set(xlabel="network evaluations", title="RMS distance from the exact flow", xticks=[10, 100])
        axes.legend(loc="lower left", frameon=True, edgecolor="none", facecolor="white", framealpha=1.0)
        return sk.plots.save(figure, path)


if __name__ == "__main__":
    default = Path(__file__).parents[1] / "images" / "solvers.png"
    print(draw(Path(sys.argv[1]) if len(sys.argv) > 1 else default))
