"""The contract of a solver: a pure function of an interval."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, NamedTuple, TypeVar

from torch import Tensor

from ..errors import InvalidArgument, InvalidType, UnsupportedCombination, describe
from ..models.base import GaussianPrediction, ScoreModel
from ..sdes.base import Level
from ..sdes.gaussian import GaussianLevel, GaussianSDE
from ..types import NoiseSource, Scalar, exp

M = TypeVar("M")


class State(NamedTuple, Generic[M]):
    """Where a run stands: x of shape (B, *event), its level, and a multistep solver's memory, None at the start."""

    x: Tensor
    level: Level
    memory: M | None = None


class Solver(ABC):
    """One step of sampling: ``step(model, state, s, noise)`` takes a state from its level t to a level s < t.

    ``order``: of convergence in the size of the steps, the weak order where ``stochastic``; None where the method has
    none. ``evaluations``: of the network a step; None where steps differ in them. First steps may cost more: ``cost``
    counts them. ``adaptive``: whether it takes steps of its own between the levels that it is given. The step to the
    clean level, alpha = 1 and sigma = 0, ends at the model's x0 and draws no noise.

    A solver holds its settings and nothing else: what a run remembers travels in the state.
    """

    order: float | None
    stochastic: bool
    evaluations: int | None
    adaptive: bool = False

    @abstractmethod
    def step(self, model: ScoreModel, state: State[Any], s: Level, noise: NoiseSource) -> State[Any]:
        """The state at the level s."""

    def cost(self, steps: int) -> int | None:
        """Of the network in the first ``steps`` steps of a run; one to the clean level costs 1. None as above."""
        return None if self.evaluations is None else steps * self.evaluations

    def error(self, state: State[Any]) -> Tensor | None:
        """The solver's own estimate of the error of each row of a state, (B,); None where it has none."""
        return None

    def log_change(self, state: State[Any]) -> tuple[Tensor, Tensor] | None:
        """What the log-density of each row has changed by since the run began, (B,), and the standard error of that,
        (B,); None where they are not kept."""
        return None

    def check(self, model: ScoreModel) -> None:  # noqa: B027 - a hook
        """Raises UnsupportedCombination where the solver cannot serve the model's process; called before a run."""


class GaussianSolver(Solver, ABC):
    """A solver written in alpha and sigma: it needs a process with a closed-form kernel."""

    def check(self, model: ScoreModel) -> None:
        """Raises UnsupportedCombination for a process with no alpha and sigma."""
        if not isinstance(model.sde, GaussianSDE):
            raise UnsupportedCombination(
                f"{self}: needs a process with alpha and sigma (a GaussianSDE), got {type(model.sde).__name__}; "
                "EulerMaruyama, ReverseDiffusion, Langevin and ProbabilityFlow serve it"
            )


class Wrapper(GaussianSolver, ABC):
    """A solver written in alpha and sigma around another one: what it can serve, and whether it is adaptive, follow."""

    solver: Solver

    @property
    def adaptive(self) -> bool:  # type: ignore[override]
        """Whether the solver is."""
        return self.solver.adaptive

    def check(self, model: ScoreModel) -> None:
        """Raises UnsupportedCombination for a process with no alpha and sigma, or one that the solver cannot serve."""
        super().check(model)
        self.solver.check(model)


def predict(model: ScoreModel, state: State[Any], s: Level) -> tuple[GaussianPrediction, GaussianLevel, GaussianLevel]:
    """The model's prediction at the state, its level t, and s: for solvers written in alpha and sigma."""
    return model(state.x, state.level), state.level, s  # type: ignore[return-value]


def level_where(sde: GaussianSDE, log_snr: Scalar, x: Tensor) -> GaussianLevel:
    """The level of a log-SNR, a float or (B, 1, ..., 1): sigma is alpha exp(-log_snr / 2) to the last bits.

    Beyond the process's range it keeps the time and the alpha of the range's end.
    """
    there = sde.at(sde.time_at(log_snr), x) if isinstance(log_snr, Tensor) else sde.one_at(log_snr)
    sigma = there.alpha * exp(-0.5 * log_snr)
    return GaussianLevel(sde, there.t, there.alpha, sigma, log_snr, lambda: (there.f, there.g2))


def check_one_time(solver: Solver, *levels: Level) -> None:
    """Raises UnsupportedCombination for levels of a time per row."""
    if any(isinstance(level.t, Tensor) for level in levels):
        raise UnsupportedCombination(f"{solver}: needs one time for the whole batch, got a time per row")


def check_solver(owner: str, value: object, name: str = "solver") -> Solver:
    """The value where it is a solver, else a named error."""
    if not isinstance(value, Solver):
        hint = "; give an instance, such as DDIM()" if isinstance(value, type) and issubclass(value, Solver) else ""
        raise InvalidType(f"{owner}: {name} must be one such as DDIM(), got {describe(value)}{hint}")
    return value


def check_deterministic(owner: str, value: object) -> Solver:
    """The value where it is a solver that draws no noise, else a named error."""
    solver = check_solver(owner, value)
    if solver.stochastic:
        raise InvalidArgument(f"{owner}: solver must draw no noise of its own, such as DDIM(), got {solver}")
    return solver
