"""The probability flow, by any ODE method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..errors import InvalidType, UnsupportedCombination, describe
from ..models.base import ScoreModel
from ..ode.adaptive import Dopri5
from ..ode.base import ODEMethod
from ..sdes.base import Level
from ..types import NoiseSource, Time
from .base import Solver, State


class Flow:
    """The velocity of the probability flow as a field: dx/dt = f(x, t) - g(t)^2 score / 2.

    Levels that are given are used where the field is asked for at their times; others are computed once.
    """

    def __init__(self, model: ScoreModel, *levels: Level):
        self.model = model
        self.levels = {level.t: level for level in levels if isinstance(level.t, float)}

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """dx/dt, of the shape of x."""
        if isinstance(t, Tensor):
            level = self.model.sde.at(t, x)
        else:
            level = self.levels.get(t) or self.levels.setdefault(t, self.model.sde.at(t, x))
        velocity: Tensor = self.model(x, level).velocity
        return velocity

    def rows(self, index: Tensor) -> Flow:
        """The flow of some rows of the batch."""
        return Flow(self.model.rows(index))


class UndividedFlow:
    """The flow of a model that may not be asked for some rows of its batch alone."""

    def __init__(self, model: ScoreModel, *levels: Level):
        self.flow = Flow(model, *levels)

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """dx/dt, of the shape of x."""
        return self.flow(x, t)

    def on_behalf(self, index: Tensor) -> UndividedFlow:
        """The flow of the whole batch, asked for some rows."""
        return UndividedFlow(self.flow.model.on_behalf(index))


@dataclass(frozen=True)
class ProbabilityFlow(Solver):
    """The probability flow ODE in t, by any method of ``sdekit.ode``: ``ProbabilityFlow(ode.RK4())``.

    dx/dt = f(x, t) - g(t)^2 score(x, t) / 2.

    Song et al. 2021, eq. 13 (arXiv:2011.13456). A fixed-step method takes its steps within each interval of the grid;
    an adaptive one ignores the grid between the ends that it is given, and needs two intervals: one for the whole way
    and one to the clean level. For any process with drift and diffusion.
    """

    method: ODEMethod = field(default_factory=Dopri5)

    def __post_init__(self) -> None:
        if not isinstance(self.method, ODEMethod):
            raise InvalidType(f"ProbabilityFlow: method must be one such as ode.RK4(), got {describe(self.method)}")

    stochastic = False

    @property
    def order(self) -> float:  # type: ignore[override]
        """The order of the method."""
        return self.method.order

    @property
    def evaluations(self) -> int | None:  # type: ignore[override]
        """Of the network a step: the method's."""
        return self.method.evaluations

    def step(self, model: ScoreModel, state: State[Any], s: Level, noise: NoiseSource) -> State[Any]:
        """The state at the level s; Tweedie's x0 where s is clean."""
        x, t, error = state
        if s.clean:
            return State(model(x, t).x0, s, error)
        if isinstance(t.t, Tensor) or isinstance(s.t, Tensor):
            raise UnsupportedCombination(f"{self}: needs one time for the whole batch, got a time per row")
        flow = Flow(model, t, s) if model.divisible else UndividedFlow(model, t, s)
        x, stats = self.method.advance(flow, x, t.t, s.t)
        if stats.error is not None:
            error = stats.error if error is None else error + stats.error
        return State(x, s, error)

    def error(self, state: State[Any]) -> Tensor | None:
        """The largest sum of local error estimates of a row's coordinates, (B,); None for a method without any."""
        error: Tensor | None = state.memory
        return None if error is None or not error[:1].numel() else error.reshape(len(error), -1).amax(1)
