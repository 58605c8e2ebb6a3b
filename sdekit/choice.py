"""What ``sample`` takes where it is told what a sample may cost, or how far off it may be."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from . import errors
from .errors import InvalidArgument, UnsupportedCombination
from .grids import Grid, angle
from .models.base import ScoreModel, check_model
from .ode.adaptive import Dopri5
from .sdes.gaussian import GaussianSDE
from .solvers.base import Solver, check_solver
from .solvers.euler_maruyama import EulerMaruyama
from .solvers.multistep import Multistep
from .solvers.probability_flow import ProbabilityFlow

MANY = 15
"""Steps from which a network of noise is worth a third point, and even steps."""


def for_budget(
    model: ScoreModel,
    nfe: int,
    solver: Solver | None = None,
    grid: str | Grid | Tensor | Sequence[float] | None = None,
    *,
    denoise: bool = True,
) -> tuple[Solver, int, str | Grid]:
    """(solver, steps, grid) of a run that costs at most ``nfe`` network evaluations a sample: what ``sample`` takes.

    One rule for every budget, N steps of one evaluation: ``Multistep(points=4, view="velocity", coordinate="angle")``
    on ``grids.angle``, from t_max to sigma / alpha = std / 5N and from there to the clean level, with std the data's
    (``sde.with_prior``), else 1. Its floor is 0.05 + 20 / N^3: the fewer the steps, the more evenly they lie.

    Where the network estimates noise (``model.estimates_noise``: eps or the score), an error of its x0 has a pole in
    the angle, sigma / alpha times its own, that no polynomial follows: there ``Multistep(2, view="x0",
    coordinate="log_snr")`` on a floor of 0.2 + 20 / N^3, and from N = 15 on 3 points on one of 1.6 + 20 / N^3, nearly
    even in log-SNR. N counts calls of the model: with guidance each is several evaluations. On a process with no alpha
    and sigma, Euler-Maruyama on the uniform grid. A solver or a grid that is given stays; a solver of several
    evaluations a step takes fewer steps.

    Raises InvalidArgument where nfe is less than a run of one step costs, and UnsupportedCombination for a solver whose
    steps differ in their evaluations.
    """
    check_model("sample", model)
    nfe = errors.whole("sample", "nfe", nfe, at_least=model.evaluations, at_most=errors.MOST)
    calls = nfe // model.evaluations
    noise = model.estimates_noise
    if solver is None:
        solver = EulerMaruyama()
        if isinstance(model.sde, GaussianSDE):
            solver = Multistep(3 if calls >= MANY else 2, view="x0", coordinate="log_snr") if noise else Multistep()
    cost = check_solver("sample", solver).evaluations
    if cost is None:
        raise UnsupportedCombination(
            f"sample: nfe must be left out for {solver}, whose steps differ in their evaluations; "
            "give it steps or a tolerance"
        )
    full = calls - denoise  # the step to the clean level costs one
    steps = full // cost
    while steps and (solver.cost(steps) or 0) > full:
        steps -= 1
    steps += denoise
    if steps < 1:
        raise InvalidArgument(
            f"sample: nfe must be at least {(solver.cost(1) or 1) * model.evaluations} for {solver}, got nfe={nfe}"
        )
    if grid is not None and not (isinstance(grid, str) or callable(grid)):
        raise InvalidArgument(
            "sample: grid must be a name or a function (sde, steps) -> times where nfe is given, "
            f"got {errors.describe(grid)}"
        )
    if grid is None and isinstance(model.sde, GaussianSDE):
        end = model.sde.centre[1] / (5 * steps) if denoise else None
        floor = (1.6 if steps >= MANY else 0.2) if noise else 0.05
        grid = partial(angle, end=end, floor=floor + 20 / steps**3) if end is None or end > 0 else "log_snr"
    return solver, steps, "uniform" if grid is None else grid


def for_tolerance(tol: float, **others: object) -> Solver:
    """The solver of a run whose samples may be off by ``tol``: Dopri5 in the angle at 0.6 of it.

    A run adds up the errors of its steps. The tests hold the root mean square at its end to at most 3 tol, and to no
    less than tol / 30 on average, over six processes and models in 1, 2 and 16 dimensions. Raises InvalidArgument
    unless 1e-12 <= tol <= 1, and for whatever else is given.
    """
    tol = errors.number("sample", "tol", tol, at_least=1e-12, at_most=1.0)
    for name, value in others.items():
        if value is not None:
            raise InvalidArgument(f"sample: {name} must be left out where tol is given, got {errors.describe(value)}")
    return ProbabilityFlow(Dopri5(rtol=0.0, atol=0.6 * tol), coordinate="angle")
