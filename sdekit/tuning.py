"""``tune_grid``: a grid fitted to a model and a solver, by the ends of a pilot batch."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .choice import for_budget
from .errors import (
    MOST,
    CheckpointCorrupt,
    InvalidArgument,
    ScheduleError,
    UnsupportedCombination,
    describe,
    file_path,
    sizes,
    whole,
)
from .grids import karras, log_snr
from .models.base import ScoreModel, check_model
from .noise import Noise
from .sampling import sample
from .sdes.base import SDE
from .sdes.gaussian import GaussianSDE
from .solvers.base import Solver, check_solver

Array = NDArray[np.float64]

FINE = {torch.float64: 1e-8, torch.float32: 1e-4}
"""The tolerance of the exact flow by the dtype of a model, in units of the data's deviation."""

KNOTS = 12
"""Of the line that the logarithms of the steps follow, where there are more steps."""


@dataclass(frozen=True)
class TunedGrid:
    """A grid by its values of log(alpha^2 / sigma^2), noisiest first: ``sample(..., grid=tuned, steps=tuned.steps)``.

    The last step of a run goes from the last of them to the clean level. ``solver``: what it was fitted for. ``error``:
    the root mean square error at the end of the flow, on rows that it was not fitted to; ``before``: that of the best
    grid it was fitted from, on the same rows.
    """

    log_snr: tuple[float, ...]
    solver: str
    error: float
    before: float

    @property
    def steps(self) -> int:
        """The steps of a run, the one to the clean level among them."""
        return len(self.log_snr)

    def __call__(self, sde: SDE, steps: int) -> Tensor:
        """The times (steps + 1,); raises ScheduleError for other steps, or a process whose range is narrower."""
        steps = whole("TunedGrid", "steps", steps, at_least=0, at_most=MOST)
        if not isinstance(sde, GaussianSDE):
            raise UnsupportedCombination(f"TunedGrid: sde must have alpha and sigma, got {describe(sde)}")
        if steps + 1 != self.steps:
            raise ScheduleError(
                f"TunedGrid: steps must be {self.steps} with denoise=True, as it was fitted, got {steps + 1}"
            )
        wanted = torch.tensor(self.log_snr, dtype=torch.float64)
        low, high = sde.log_snr(torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64)).tolist()
        slack = 1e-9 * (high - low)
        if self.log_snr[0] < low - slack or self.log_snr[-1] > high + slack:
            raise ScheduleError(
                f"TunedGrid: sde must reach log-SNRs from {self.log_snr[0]:.4g} to {self.log_snr[-1]:.4g}, "
                f"got {low:.4g} to {high:.4g} of {sde}"
            )
        times = sde.time_at(wanted)
        if self.log_snr[0] <= low + slack:
            times[0] = sde.t_max
        return times

    def save(self, path: Path | str) -> Path:
        """Writes the grid as JSON, and returns the path."""
        path = file_path("TunedGrid.save", "path", path)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")
        return path

    @classmethod
    def load(cls, path: Path | str) -> TunedGrid:
        """The grid that ``save`` wrote; raises CheckpointCorrupt for a file that holds none."""
        path = file_path("TunedGrid.load", "path", path)
        try:
            known = json.loads(path.read_text("utf-8"))
            levels = tuple(float(v) for v in known.pop("log_snr"))
            grid = cls(levels, **known)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointCorrupt(f"TunedGrid.load: {path} must be a file that save wrote ({error})") from error
        if not levels or any(b <= a for a, b in itertools.pairwise(levels)):
            raise CheckpointCorrupt(f"TunedGrid.load: {path} must hold log-SNRs that rise, got {levels[:4]}")
        return grid


def tune_grid(
    model: ScoreModel,
    solver: Solver | None,
    steps: int,
    *,
    shape: Sequence[int] | None = None,
    seed: int | Sequence[int] = 0,
    rounds: int = 10,
) -> TunedGrid:
    """Fits the grid of a deterministic solver to a model: least squares of the errors at the end of the flow.

    A pilot batch of starts is taken once to the end of the exact probability flow. Then the steps of the grid in
    log(alpha / sigma), and its last level, are moved by trust-region least squares so that the solver ends there, too,
    from each of the two best of three beginnings: the grid that ``nfe=N`` takes, log-SNR's, and Karras'. What is best
    on the half of the pilot that nothing was fitted to is kept, the beginnings among the candidates. (The ends as the
    target: Tong et al. 2024, arXiv:2405.15506; the least squares: Branch, Coleman & Li 1999, doi
    10.1137/S1064827595289108.)

    ``solver``: None for what ``nfe=N`` takes. ``steps``: of a run, the one to the clean level among them. ``shape``: of
    the pilot, (N, *event), 256 rows of the model's own event unless given. ``rounds``: steps of each fit, each of which
    costs min(steps, 13) + 1 runs of half the pilot.

    Returns a :class:`TunedGrid`, which can be saved. Raises UnsupportedCombination for a solver that draws noise or
    chooses its own steps, and for a process without alpha and sigma.

    Example: ``grid = tune_grid(model, DPMSolver(), 10)``, then ``sample(model, shape, solver=DPMSolver(), grid=grid,
    steps=10)``.
    """
    check_model("tune_grid", model)
    if not isinstance(model.sde, GaussianSDE):
        raise UnsupportedCombination(
            f"tune_grid: model must be on a process with alpha and sigma, got {type(model.sde).__name__}"
        )
    steps = whole("tune_grid", "steps", steps, at_least=1, at_most=1000)
    rounds = whole("tune_grid", "rounds", rounds, at_least=1, at_most=1000)
    solver = for_budget(model, steps * model.evaluations)[0] if solver is None else check_solver("tune_grid", solver)
    solver.check(model)
    if solver.stochastic or solver.evaluations is None:
        raise UnsupportedCombination(f"tune_grid: solver must be deterministic, with steps of the grid, got {solver}")
    pilot = Pilot(model, solver, _shape(model, shape), seed)
    begun = sorted(beginnings(model, steps), key=pilot.fitted)
    found = [pilot.fit(levels, rounds) for levels in begun[:2]] if steps > 1 else []
    best = min([*found, *begun], key=pilot.held_out)
    return TunedGrid(tuple(best), repr(solver), pilot.held_out(best), min(map(pilot.held_out, begun)))


def beginnings(model: ScoreModel, steps: int) -> list[list[float]]:
    """The log-SNRs of the grids that a fit begins at."""
    sde = model.sde
    assert isinstance(sde, GaussianSDE)
    rule = for_budget(model, steps * model.evaluations)[2]
    kinds = dict.fromkeys([log_snr, karras, log_snr if isinstance(rule, str) else rule])
    return [sde.log_snr(kind(sde, steps - 1)).tolist() for kind in kinds]


class Pilot:
    """Starts, and where the exact flow takes them; an even row is fitted to, an odd one is not."""

    def __init__(self, model: ScoreModel, solver: Solver, shape: tuple[int, ...], seed: int | Sequence[int]):
        assert isinstance(model.sde, GaussianSDE)
        self.model, self.solver, self.sde = model, solver, model.sde
        self.x_T = self.sde.prior.sample(shape, Noise(seed), dtype=model.dtype, device=model.device)
        tol = FINE.get(self.x_T.dtype, FINE[torch.float32]) * (self.sde.centre[1] or 1.0)
        self.ends = sample(model, x_T=self.x_T, tol=min(max(tol, 1e-12), 1.0)).double()
        low, high = self.sde.log_snr(torch.tensor([self.sde.t_max, self.sde.t_min], dtype=torch.float64)).tolist()
        self.low, self.width = low, high - low

    def errors(self, levels: Sequence[float], part: slice) -> Tensor:
        """The solver's ends less the flow's, of some rows."""
        times = self.sde.time_at(torch.tensor(levels, dtype=torch.float64))
        x = sample(self.model, x_T=self.x_T[part], solver=self.solver, grid=times)
        return x.double() - self.ends[part]

    def fitted(self, levels: Sequence[float]) -> float:
        """The root mean square error of the rows that are fitted to."""
        return float(self.errors(levels, slice(0, None, 2)).square().mean().sqrt())

    def held_out(self, levels: Sequence[float]) -> float:
        """That of the others."""
        return float(self.errors(levels, slice(1, None, 2)).square().mean().sqrt())

    def fit(self, levels: Sequence[float], rounds: int) -> list[float]:
        """The levels that least squares comes to.

        The range of the process is divided in proportion to exp(v): the steps, and what is left behind the last level.
        """
        from scipy.optimize import least_squares

        edges = np.array([*levels, self.low + self.width])
        shares = np.log(np.maximum(np.diff(edges), 1e-4 * self.width))
        count = len(shares) - 1
        knots = np.linspace(0, count - 1, min(count, KNOTS))
        along = np.stack([np.interp(np.arange(count), knots, row) for row in np.eye(len(knots))], 1)

        def placed(v: Array) -> list[float]:
            moved = shares[:count] + along @ v[:-1]
            sizes = np.exp(np.append(moved, shares[-1] + v[-1]))
            return [self.low, *(self.low + self.width * np.cumsum(sizes)[:-1] / sizes.sum()).tolist()]

        def residuals(v: Array) -> Array:
            off: Array = self.errors(placed(v), slice(0, None, 2)).reshape(-1).cpu().numpy()
            return off

        moves = np.zeros(len(knots) + 1)
        return placed(least_squares(residuals, moves, x_scale=1.0, diff_step=1e-4, max_nfev=rounds).x)


def _shape(model: ScoreModel, shape: Sequence[int] | None) -> tuple[int, ...]:
    if shape is None:
        event = getattr(model, "event", None)
        if event is None:
            raise InvalidArgument(
                "tune_grid: shape (N, *event) must be given for a model that tells no event, got None"
            )
        return (256, *event)
    shape = sizes("tune_grid", "shape", shape)
    if shape[0] < 4:
        raise InvalidArgument(f"tune_grid: shape must be of at least 4 rows, got {shape}")
    return shape
