"""``compare``: samplers of one model beside each other, from one noise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import metrics
from ..choice import for_budget
from ..errors import MOST, InvalidArgument, InvalidType, UnsupportedCombination, describe, flag, sizes, whole
from ..grids import Grid, levels
from ..metrics import Distance, Interval, NoiseFloor
from ..metrics.base import bootstrap, rows
from ..models import GaussianMixture, ScoreModel
from ..models.base import check_model
from ..noise import Noise
from ..noise.checks import Seed, fold
from ..sampling import Samples, sample
from ..sdes import GaussianSDE
from ..solvers.base import Solver
from . import oracles
from .entry import DEFAULT, Entry
from .entry import entries as read
from .result import Comparison, Measured, to_data

START, PATH, LAW, SUBSETS, BOOTSTRAP = range(5)
"""Beside the seed, what draws are for."""

FINE = {torch.float64: 1e-8, torch.float32: 1e-4}
"""The tolerance of the exact flow by the dtype of a model, in units of the data's deviation."""

PARTS = 8
"""Of the model's own law N times as many samples are drawn; a quarter of them is the reference, the others make the
floors. Of data likewise. Floors of fewer would be too narrow: their draws would be nearly the same rows."""


def compare(
    model: ScoreModel,
    shape: Sequence[int],
    entries: Sequence[Entry | Solver] = DEFAULT,
    *,
    nfe: Sequence[int] = (5, 10, 20, 50),
    data: Tensor | None = None,
    seed: Seed = 0,
    repeats: int = 200,
    progress: bool = False,
) -> Comparison:
    """Measures samplers of a model at budgets of network evaluations, all from the same starts.

    ``shape``: (N, *event), N samples of each, 4 at least. ``entries``: solvers on the log-SNR grid, or :class:`Entry`.
    ``nfe``: the most network evaluations that a sample may cost.

    A deterministic sampler is compared, row by row, with the exact probability flow from the same start: the root mean
    square of the difference, which is the error of the solver alone. Any sampler's law is compared with the model's
    own, of which 2 N samples are the reference: exact draws of a :class:`GaussianMixture`, and else the ends of the
    exact flow from other starts. By energy distance, squared MMD, sliced Wasserstein, a classifier's share, Gaussian
    Wasserstein, mean and covariance, each beside its noise floor: what N of 6 N other samples of the law have. With
    ``data``, (M, *event) of 4 N rows at least, the same to data, a quarter of them the reference and the others the
    floor's; and the model's own distance to data, which is the error of the model apart from any solver.

    The exact flow is Dopri5 to 1e-8 of the data's deviation, and to 1e-4 for a model in float32. Intervals: 95 %, of
    ``repeats`` bootstrap draws of the rows; floors are of as many. One seed gives one result, but for the seconds:
    those of one run, before which every sampler has run at the least budget.

    Raises named errors at the door: for a sampler that chooses its own evaluations, and a grid that begins elsewhere
    than at t_max; UnsupportedCombination for a process without alpha and sigma.

    Example: ``print(compare(oracle("ring"), (1000, 2)))``.
    """
    flag("compare", "progress", progress)
    shape, runs = check(model, shape, entries, nfe=nfe, data=data, seed=seed, repeats=repeats)
    seed, repeats = tuple(map(int, seed)) if isinstance(seed, Sequence) else int(seed), int(repeats)
    x_T = _starts(model, shape, _part(seed, START))
    exact = _flow(model, x_T)
    own = _law(model, shape, seed)
    known = oracles.moments(model) if isinstance(model, GaussianMixture) else None
    goals = [Goal.split(own, shape[0], str, known)]
    if data is not None:
        order = Noise(_part(seed, SUBSETS)).uniform(len(data), stream="rows").argsort().to(data.device)
        goals.append(Goal.split(data[order], shape[0], to_data, None))
    for run in (run for run in runs if run.budget == min(run.budget for run in runs)):
        _timed(model, run, x_T, seed)  # what is paid once is in no one's seconds
    found = tuple(_measured(model, run, x_T, exact, goals, seed, repeats) for run in _shown(runs, progress))
    return Comparison(
        model=repr(model) if isinstance(model, GaussianMixture) else type(model).__name__,
        shape=shape,
        seed=seed,
        rows=found,
        floors={name: floor for goal in goals for name, floor in goal.floors(repeats, seed).items()},
        model_error={
            goal.named(name): value
            for goal in goals[1:]
            for name, value in goal.measured(goals[0].pool[: shape[0]], repeats, seed).items()
        },
    )


class Run(NamedTuple):
    """An entry at a budget, and what ``sample`` takes for it."""

    entry: Entry
    budget: int
    solver: Solver
    steps: int
    grid: str | Grid

    @property
    def on(self) -> str:
        """The grid in a word."""
        if isinstance(self.grid, str):
            return self.grid
        return str(getattr(getattr(self.grid, "func", self.grid), "__name__", self.grid))


def check(
    model: ScoreModel,
    shape: Sequence[int],
    entries: Sequence[Entry | Solver],
    *,
    nfe: Sequence[int],
    data: Tensor | None,
    seed: Seed,
    repeats: int,
) -> tuple[tuple[int, ...], list[Run]]:
    """The shape and every sampler at every budget; raises as ``compare`` does."""
    check_model("compare", model)
    if not isinstance(model.sde, GaussianSDE):
        raise UnsupportedCombination(
            f"compare: model must be on a process with alpha and sigma, got {type(model.sde).__name__}"
        )
    shape = sizes("compare", "shape", shape)
    if shape[0] < 4 or 0 in shape:
        raise InvalidArgument(f"compare: shape must ask for at least 4 samples that are not empty, got {shape}")
    event = event_of(model)
    if event is not None and shape[1:] != event:
        raise InvalidArgument(f"compare: shape must be (N, *{event}) for the model, got {shape}")
    runs = _runs(model, read(entries), nfe)
    fold(seed)
    whole("compare", "repeats", repeats, at_least=2, at_most=MOST)
    if data is not None:
        _check_data(data, shape)
    return shape, runs


def event_of(model: ScoreModel) -> tuple[int, ...] | None:
    """The shape of one sample, where the model or its network knows it."""
    event = getattr(model, "event", getattr(getattr(model, "network", None), "event", None))
    return None if event is None else tuple(event)


def _runs(model: ScoreModel, samplers: Sequence[Entry], nfe: Any) -> list[Run]:
    """Every sampler at every budget, or an error for one that could not run."""
    if isinstance(nfe, str) or not isinstance(nfe, Sequence):
        raise InvalidType(f"compare: nfe must be a list of budgets, got {describe(nfe)}")
    if not nfe:
        raise InvalidArgument(f"compare: nfe must hold at least one budget, got {describe(nfe)}")
    budgets = [whole("compare", "nfe", n, at_least=model.evaluations, at_most=MOST) for n in nfe]
    for solver in (entry.solver for entry in samplers if entry.solver is not None):
        solver.check(model)
        if solver.evaluations is None:
            raise UnsupportedCombination(
                f"compare: entries must cost a number of evaluations a step, got {solver}, which chooses its own"
            )
    runs = [Run(entry, n, *for_budget(model, n, entry.solver, entry.grid)) for n in budgets for entry in samplers]
    for run in runs:
        first = float(levels(model.sde, run.grid, run.steps)[0].t)
        if abs(first - model.sde.t_max) > 1e-9 * abs(model.sde.t_max):
            raise InvalidArgument(
                f"compare: entries must be on grids that begin at t_max={model.sde.t_max:g}, "
                f"got {run.entry.name!r}, whose {run.on} begins at {first:g}"
            )
    return runs


def _check_data(data: Any, shape: tuple[int, ...]) -> None:
    """Raises a named error unless there are enough data of the samples' shape."""
    rows("compare", "data", data)
    if tuple(data.shape[1:]) != shape[1:] or len(data) < 4 * shape[0]:
        raise InvalidArgument(
            f"compare: data must be of shape (M, *{shape[1:]}) with M at least 4 N = {4 * shape[0]}, "
            f"got {describe(data)}"
        )


@dataclass(frozen=True)
class Goal:
    """A law that samples should have: distances to it, and other rows of it."""

    distances: tuple[Distance, ...]
    pool: Tensor
    samples: int
    named: Callable[[str], str]

    @classmethod
    def split(cls, x: Tensor, samples: int, named: Callable[[str], str], moments: tuple[Tensor, Tensor] | None) -> Goal:
        """A quarter of x as the reference, with the law's own moments where they are known."""
        reference, pool = x[: len(x) // 4], x[len(x) // 4 :]
        kinds = (metrics.GaussianWasserstein, metrics.MeanError, metrics.CovarianceError)
        distances = (
            metrics.EnergyDistance(reference),
            metrics.MMD(reference),
            metrics.SlicedWasserstein(reference),
            metrics.NearestNeighbours(reference),
            *(kind.of(reference) if moments is None else kind(*moments) for kind in kinds),
        )
        return cls(distances, pool, samples, named)

    def measured(self, x: Tensor, repeats: int, seed: Seed) -> dict[str, Interval]:
        """The distances of samples, by name."""
        return {d.name: d.interval(x, repeats=repeats, seed=_part(seed, BOOTSTRAP)) for d in self.distances}

    def floors(self, repeats: int, seed: Seed) -> Mapping[str, NoiseFloor]:
        """What perfect samples have."""
        return {
            self.named(d.name): d.floor(self.pool, self.samples, repeats=repeats, seed=_part(seed, SUBSETS))
            for d in self.distances
        }


def _law(model: ScoreModel, shape: tuple[int, ...], seed: Seed) -> Tensor:
    """Samples of the model's own law, PARTS times as many as the shape asks for."""
    if isinstance(model, GaussianMixture):
        return model.sample(PARTS * shape[0], Noise(_part(seed, LAW)))
    # N at a time: no more than a run holds, and as many as a condition of one a row has
    parts = [_flow(model, _starts(model, shape, (*_part(seed, LAW), i))) for i in range(PARTS)]
    return torch.cat(parts)


def _starts(model: ScoreModel, shape: tuple[int, ...], seed: Seed) -> Tensor:
    return model.sde.prior.sample(shape, Noise(seed), dtype=model.dtype, device=model.device)


def _flow(model: ScoreModel, x_T: Tensor) -> Tensor:
    """Where the exact probability flow takes starts."""
    assert isinstance(model.sde, GaussianSDE)
    tol = FINE.get(x_T.dtype, FINE[torch.float32]) * model.sde.centre[1]
    return sample(model, x_T=x_T, tol=min(max(tol, 1e-12), 1.0))


def _measured(
    model: ScoreModel, run: Run, x_T: Tensor, exact: Tensor, goals: Sequence[Goal], seed: Seed, repeats: int
) -> Measured:
    found, seconds = _timed(model, run, x_T, seed)
    return Measured(
        run.entry.name,
        repr(run.solver),
        run.on,
        run.budget,
        float(torch.as_tensor(found.nfe, dtype=torch.float64).mean()),
        seconds,
        None if run.solver.stochastic else _off(found.x, exact, repeats, _part(seed, BOOTSTRAP)),
        *(goal.measured(found.x, repeats, seed) for goal in goals),
    )


def _timed(model: ScoreModel, run: Run, x_T: Tensor, seed: Seed) -> tuple[Samples, float]:
    begin = time.perf_counter()
    found = sample(model, x_T=x_T, solver=run.solver, steps=run.steps, grid=run.grid, seed=_part(seed, PATH), full=True)
    return found, time.perf_counter() - begin


def _off(x: Tensor, exact: Tensor, repeats: int, seed: Seed) -> Interval:
    """The root mean square of a difference, over rows and coordinates."""
    squares = (x.double() - exact.double()).reshape(len(x), -1).square().mean(1).cpu()
    return bootstrap(
        "compare",
        lambda counts: (counts @ squares / counts.sum(1)).sqrt(),
        len(squares),
        repeats=repeats,
        seed=seed,
    )


def _part(seed: Seed, what: int) -> tuple[int, ...]:
    return (*(seed if isinstance(seed, Sequence) else (seed,)), what)


def _shown(runs: Sequence[Run], progress: bool) -> Iterator[Run]:
    if not progress:
        yield from runs
        return
    from tqdm import tqdm

    with tqdm(runs, leave=False) as bar:
        for run in bar:
            bar.set_description(f"{run.entry.name} at {run.budget}")
            yield run
