"""``compare``: samplers of one model beside each other, from one noise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import metrics
from ..choice import for_budget
from ..errors import MOST, InvalidArgument, UnsupportedCombination, describe, flag, sizes, whole
from ..metrics import Distance, Interval, NoiseFloor
from ..metrics.base import bootstrap, rows
from ..models import GaussianMixture, ScoreModel
from ..models.base import check_model
from ..noise import Noise
from ..sampling import sample
from ..sdes import GaussianSDE
from ..solvers.base import Solver
from . import oracles
from .entry import DEFAULT, Entry, OnGrid
from .entry import entries as read
from .result import Comparison, Measured, to_data

START, PATH, LAW, SUBSETS, BOOTSTRAP = range(5)
"""Beside the seed, what draws are for."""

FINE = {torch.float64: 1e-8, torch.float32: 1e-4}
"""The tolerance of the exact flow by the dtype of a model, in units of the data's deviation."""


def compare(
    model: ScoreModel,
    shape: Sequence[int],
    entries: Sequence[Entry | Solver] = DEFAULT,
    *,
    nfe: Sequence[int] = (5, 10, 20, 50),
    data: Tensor | None = None,
    seed: int | Sequence[int] = 0,
    repeats: int = 200,
    progress: bool = False,
) -> Comparison:
    """Measures samplers of a model at budgets of network evaluations, all from the same noise.

    ``shape``: (N, *event), N samples of each. ``entries``: solvers on the log-SNR grid, or :class:`Entry`. ``nfe``: the
    most network evaluations that a sample may cost; a sampler that one step of would cost more is left out there.

    A deterministic sampler is compared, row by row, with the exact probability flow from the same start: the root mean
    square of the difference, which is the error of the solver alone. Any sampler's law is compared with the model's
    own, 2 N exact draws of a :class:`GaussianMixture` and else the ends of the exact flow from other starts: energy
    distance, MMD, sliced Wasserstein, a classifier's share, Gaussian Wasserstein, mean and covariance, each beside the
    noise floor of N exact samples. With ``data``, (M, *event) of 2 N rows at least, the same to data, and the model's
    own distance to them: the error of the model, apart. The exact flow is Dopri5 to 1e-8 of the data's deviation, and
    1e-4 for a model in float32.

    Intervals: 95 %, ``repeats`` bootstrap draws of the rows. One seed gives one result, but for the seconds.

    Raises named errors at the door; UnsupportedCombination for a process without alpha and sigma.

    Example: ``print(compare(oracle("ring"), (1000, 2)))``.
    """
    check_model("compare", model)
    if not isinstance(model.sde, GaussianSDE):
        raise UnsupportedCombination(
            f"compare: model must be on a process with alpha and sigma, got {type(model.sde).__name__}"
        )
    shape = sizes("compare", "shape", shape)
    if shape[0] < 4:
        raise InvalidArgument(f"compare: shape must ask for at least 4 samples, got {shape}")
    samplers = read(entries)
    for entry in samplers:
        if entry.solver is not None:
            entry.solver.check(model)
    if isinstance(nfe, (int, str)) or not isinstance(nfe, Sequence) or not nfe:
        raise InvalidArgument(f"compare: nfe must be a list of budgets, got {describe(nfe)}")
    budgets = [whole("compare", "nfe", n, at_least=1, at_most=MOST) for n in nfe]
    repeats = whole("compare", "repeats", repeats, at_least=2, at_most=MOST)
    flag("compare", "progress", progress)
    x_T = model.sde.prior.sample(shape, Noise(_part(seed, START)), dtype=model.dtype, device=model.device)
    goals = _goals(model, shape, data, seed)
    exact = _flow(model, x_T)
    runs = [(entry, n) for n in budgets for entry in samplers if _fits(model, entry, n)]
    found = []
    for entry, n in _shown(runs, progress):
        found.append(_measured(model, entry, n, x_T, exact, goals, seed, repeats))
    return Comparison(
        model=repr(model) if isinstance(model, GaussianMixture) else type(model).__name__,
        shape=shape,
        seed=seed if isinstance(seed, int) else list(seed),
        rows=tuple(found),
        floors={name: floor for goal in goals for name, floor in goal.floors(seed).items()},
        model_error={
            to_data(d.name): d.interval(goals[0].pool[: shape[0]], repeats=repeats, seed=_part(seed, BOOTSTRAP))
            for goal in goals[1:]
            for d in goal.distances
        },
    )


@dataclass(frozen=True)
class Goal:
    """A law that samples should have: distances to it, and other rows of it."""

    distances: tuple[Distance, ...]
    pool: Tensor
    samples: int
    named: Callable[[str], str]

    def measured(self, x: Tensor, repeats: int, seed: Any) -> dict[str, Interval]:
        """The distances of samples, by name."""
        return {d.name: d.interval(x, repeats=repeats, seed=_part(seed, BOOTSTRAP)) for d in self.distances}

    def floors(self, seed: Any) -> Mapping[str, NoiseFloor]:
        """What perfect samples have."""
        return {
            self.named(d.name): d.floor(self.pool, self.samples, repeats=100, seed=_part(seed, SUBSETS))
            for d in self.distances
        }


def _goals(model: ScoreModel, shape: tuple[int, ...], data: Tensor | None, seed: Any) -> list[Goal]:
    """The model's own law and, where there are data, theirs."""
    n = shape[0]
    if data is not None:
        flat = rows("compare", "data", data)
        if tuple(data.shape[1:]) != shape[1:] or len(flat) < 2 * n:
            raise InvalidArgument(
                f"compare: data must be of shape (M, *{shape[1:]}) with M at least 2 N = {2 * n}, got {describe(data)}"
            )
    own = _law(model, (4 * n, *shape[1:]), _part(seed, LAW))
    exact = oracles.moments(model) if isinstance(model, GaussianMixture) else None
    goals = [_goal(own[: 2 * n], own[2 * n :], n, str, exact)]
    if data is not None:
        half = len(data) // 2
        mixed = data[Noise(_part(seed, SUBSETS)).uniform(len(data), stream="rows").argsort().to(data.device)]
        goals.append(_goal(mixed[:half], mixed[half:], n, to_data, None))
    return goals


def _goal(
    reference: Tensor, pool: Tensor, n: int, named: Callable[[str], str], moments: tuple[Tensor, Tensor] | None
) -> Goal:
    kinds = (metrics.GaussianWasserstein, metrics.MeanError, metrics.CovarianceError)
    distances = (
        metrics.EnergyDistance(reference),
        metrics.MMD(reference),
        metrics.SlicedWasserstein(reference),
        metrics.NearestNeighbours(reference),
        *(kind.of(reference) if moments is None else kind(*moments) for kind in kinds),
    )
    return Goal(distances, pool, n, named)


def _law(model: ScoreModel, shape: tuple[int, ...], seed: Any) -> Tensor:
    """Exact draws of the model's own law."""
    if isinstance(model, GaussianMixture):
        return model.sample(shape[0], Noise(seed))
    return _flow(model, model.sde.prior.sample(shape, Noise(seed), dtype=model.dtype, device=model.device))


def _flow(model: ScoreModel, x_T: Tensor) -> Tensor:
    """Where the exact probability flow takes starts."""
    assert isinstance(model.sde, GaussianSDE)
    tol = FINE.get(x_T.dtype, FINE[torch.float32]) * model.sde.centre[1]
    return sample(model, x_T=x_T, tol=min(max(tol, 1e-12), 1.0))


def _fits(model: ScoreModel, entry: Entry, n: int) -> bool:
    """Whether a run of one step is within a budget."""
    try:
        for_budget(model, n, entry.solver, entry.grid)
    except InvalidArgument:
        return False
    return True


def _measured(
    model: ScoreModel,
    entry: Entry,
    n: int,
    x_T: Tensor,
    exact: Tensor,
    goals: Sequence[Goal],
    seed: Any,
    repeats: int,
) -> Measured:
    solver, steps, grid = for_budget(model, n, entry.solver, entry.grid)
    begin = time.perf_counter()
    run = sample(model, x_T=x_T, solver=solver, steps=steps, grid=grid, seed=_part(seed, PATH), full=True)
    seconds = time.perf_counter() - begin
    flow = None
    if not solver.stochastic:
        squares = (run.x.double() - exact.double()).reshape(len(x_T), -1).square().mean(1).cpu()
        flow = bootstrap(
            "compare",
            lambda counts: (counts @ squares / counts.sum(1)).sqrt(),
            len(squares),
            repeats=repeats,
            seed=_part(seed, BOOTSTRAP),
        )
    return Measured(
        entry.name,
        repr(solver),
        entry.grid if isinstance(entry.grid, str) else _grid_name(grid),
        n,
        float(torch.as_tensor(run.nfe, dtype=torch.float64).mean()),
        seconds,
        flow,
        *(goal.measured(run.x, repeats, seed) for goal in goals),
    )


def _grid_name(grid: OnGrid) -> str:
    return str(getattr(grid, "__name__", getattr(getattr(grid, "func", None), "__name__", describe(grid))))


def _part(seed: Any, what: int) -> tuple[int, ...]:
    return (*(seed if isinstance(seed, Sequence) else (seed,)), what)


def _shown(runs: Sequence[tuple[Entry, int]], progress: bool) -> Iterator[tuple[Entry, int]]:
    if not progress:
        yield from runs
        return
    from tqdm import tqdm

    with tqdm(runs, leave=False) as bar:
        for entry, n in bar:
            bar.set_description(f"{entry.name} at {n}")
            yield entry, n
