"""The probability flow, by any ODE method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InvalidType, UnsupportedCombination, describe, one_of
from ..models.base import GaussianPrediction, Prediction, ScoreModel
from ..ode.adaptive import Dopri5
from ..ode.base import ODEMethod
from ..sdes.base import SDE, Level
from ..sdes.gaussian import GaussianLevel, GaussianSDE
from ..types import NoiseSource, Scalar, Time, cos, lincomb, scale, sin
from .base import Solver, State, check_one_time
from .multistep import check_angle, position, shifted, turn


class Slope(NamedTuple):
    """The slope dw/du of a frame's variable w, whose Jacobian by w is keep I + gain (d value / d x)."""

    slope: Tensor
    x: Tensor
    """What the model was asked at."""
    value: Tensor
    """What its network answered, or the slope itself, flat: (B, D)."""
    keep: Scalar
    gain: Scalar


class InTime:
    """The flow's own variables: x as a function of t."""

    std = 1.0

    def __init__(self, sde: SDE, *levels: Level):
        self.sde = sde
        self.levels = {level.t: level for level in levels if isinstance(level.t, float)}

    def position(self, level: Level) -> float:
        """t."""
        return float(level.t)

    def enter(self, x: Tensor, level: Level) -> Tensor:
        """x."""
        return x

    leave = enter

    def level(self, t: Time, x: Tensor) -> Level:
        """The level at t; those that are given are used, others computed once."""
        if isinstance(t, Tensor):
            return self.sde.at(t, x)
        return self.levels.get(t) or self.levels.setdefault(t, self.sde.at(t, x))

    def expect(self, times: Sequence[float]) -> None:
        """Computes the levels at the times at once."""
        new = _unknown(times, self.levels)
        if new:
            self.levels.update(zip(new, self.sde.levels(torch.tensor(new, dtype=torch.float64)), strict=True))

    def slope(self, p: Prediction) -> Tensor:
        """dx/dt."""
        return p.velocity

    def split(self, p: GaussianPrediction) -> tuple[Tensor, Scalar, Scalar]:
        """The slope, and (keep, gain) of its Jacobian."""
        c, d = p.velocity_coefficients
        return lincomb(c, p.x, d, p.value), c, d

    def score(self, x: Tensor, slope: Tensor, t: Tensor) -> Tensor:
        """The score, from dx/dt at the (B,) times: 2 (f - dx/dt) / g^2."""
        level = self.level(t, x)
        return scale(2.0 / level.g2, level.drift(x) - slope)

    def log_slope(self, level: Level) -> float:
        """log of the frame's variable per unit of x: 0."""
        return 0.0


class InAngle:
    """w = cos(u) (x / alpha - mean) as a function of the angle u = atan(sigma / (alpha std)): see LinearMultistep."""

    def __init__(self, sde: SDE, *levels: Level):
        assert isinstance(sde, GaussianSDE)
        self.sde = sde
        self.mean, self.std = sde.centre
        self.levels: dict[float, Level] = {}

    def position(self, level: Level) -> float:
        """u."""
        assert isinstance(level, GaussianLevel)
        return float(position("angle", level, self.std))

    def enter(self, x: Tensor, level: Level) -> Tensor:
        """w."""
        assert isinstance(level, GaussianLevel)
        shrink = cos(position("angle", level, self.std))
        return shifted(scale(shrink / level.alpha, x), -shrink, self.mean)

    def leave(self, w: Tensor, level: Level) -> Tensor:
        """x."""
        assert isinstance(level, GaussianLevel)
        shrink = cos(position("angle", level, self.std))
        return shifted(scale(level.alpha / shrink, w), level.alpha, self.mean)

    def level(self, u: Time, x: Tensor) -> Level:
        """The level where sigma / alpha = std tan(u); those of one angle for all rows are computed once."""
        if not isinstance(u, Tensor):
            if u not in self.levels:
                self.levels[u] = self.sde.one_at(-2 * math.log(self.std * math.tan(u)))
            return self.levels[u]
        return self.sde.at_log_snr(self._log_snr(u), x)

    def expect(self, angles: Sequence[float]) -> None:
        """Computes the levels at the angles at once."""
        new = _unknown(angles, self.levels)
        if new:
            times = self.sde.time_at(self._log_snr(torch.tensor(new, dtype=torch.float64)))
            self.levels.update(zip(new, self.sde.levels(times), strict=True))

    def _log_snr(self, u: Tensor) -> Tensor:
        return -2 * torch.log(self.std * torch.tan(u.to(torch.float64)))

    def slope(self, p: Prediction) -> Tensor:
        """dw/du = std cos(u) eps - sin(u) (x0 - mean)."""
        if not isinstance(p, GaussianPrediction):
            raise UnsupportedCombination(
                'coordinate: must be "t" for a model whose predictions have no x0 and eps, got "angle" and '
                f"{describe(p)}"
            )
        return turn(p)

    def split(self, p: GaussianPrediction) -> tuple[Tensor, Scalar, Scalar]:
        """The slope, and (keep, gain) of its Jacobian."""
        u = position("angle", p.level, self.std)
        bend, shrink = sin(u), cos(u)
        c, d = p.coefficients(-bend, self.std * shrink)
        wide = p.level.alpha / shrink
        return shifted(lincomb(c, p.x, d, p.value), bend, self.mean), wide * c, wide * d

    def score(self, w: Tensor, slope: Tensor, u: Tensor) -> Tensor:
        """The gradient by w of the log-density of w: -eps / (std sin u), with std eps = sin(u) w + cos(u) dw/du."""
        u = u.reshape(-1, *(1,) * (w.ndim - 1))
        return scale(-1 / self.std**2, w + scale(1 / torch.tan(u), slope))

    def log_slope(self, level: Level) -> float:
        """log(dw/dx) of a coordinate, log(cos(u) / alpha)."""
        assert isinstance(level, GaussianLevel)
        return math.log(math.cos(self.position(level)) / float(level.alpha))


def _unknown(times: Sequence[float], levels: Mapping[float, Level]) -> list[float]:
    """The times without a level, each once."""
    return [t for t in dict.fromkeys(times) if t not in levels]


FRAMES: dict[str, type[InTime | InAngle]] = {"t": InTime, "angle": InAngle}


def frame_of(owner: str, sde: SDE, coordinate: str | None) -> InTime | InAngle:
    """The frame of the coordinate; of None, the angle where the process has one, in which the flow is smoothest.

    Raises InvalidArgument for another name, and UnsupportedCombination for an angle that the process has not.
    """
    if coordinate is None:
        return InAngle(sde) if isinstance(sde, GaussianSDE) and sde.centre[1] > 0 else InTime(sde)
    if one_of(owner, "coordinate", coordinate, FRAMES) == "angle":
        check_angle(owner, sde)
    return FRAMES[coordinate](sde)


class Flow:
    """The velocity of the probability flow as a field of a frame's variables; in time, f(x, t) - g(t)^2 score / 2."""

    def __init__(self, model: ScoreModel, *levels: Level, frame: InTime | InAngle | None = None):
        self.model = model
        self.frame = frame or InTime(model.sde, *levels)

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """The derivative, of the shape of x."""
        level = self.frame.level(t, x)
        return self.frame.slope(self.model(self.frame.leave(x, level), level))

    def split(self, w: Tensor, t: Time, *, graph: bool) -> Slope:
        """The derivative, and what its Jacobian is made of: the network alone is left to differentiate.

        With a graph, gradients flow through it back to w; without, the value's graph alone is kept, as far as x. To be
        called outside inference mode, with gradients enabled where there is to be a graph.
        """
        t = t.clone() if isinstance(t, Tensor) and t.is_inference() else t
        level = self.frame.level(t, w)
        x = self.frame.leave(w, level)
        if not graph or not x.requires_grad:  # autograd refuses what was made in inference mode
            x = (x.clone() if x.is_inference() else x.detach()).requires_grad_()
        flat = len(w), math.prod(w.shape[1:])
        with torch.enable_grad():
            p = self.model(x, level)
            if not isinstance(p, GaussianPrediction):
                slope = self.frame.slope(p)  # in time alone: x is w
                return Slope(slope, x, slope.reshape(flat), 0.0, 1.0)
            value = p.value.reshape(flat)
        slope, keep, gain = self.frame.split(p)
        return Slope(slope, x, value, keep, gain)

    def expect(self, times: Sequence[float]) -> None:
        """Computes the levels at the times at once."""
        self.frame.expect(times)

    @property
    def divisible(self) -> bool:
        """Whether the model is."""
        return self.model.divisible

    def rows(self, index: Tensor) -> Flow:
        """The flow of some rows of the batch."""
        return Flow(self.model.rows(index), frame=self.frame)

    def on_behalf(self, index: Tensor) -> Flow:
        """The flow of the whole batch, asked for some rows."""
        return Flow(self.model.on_behalf(index), frame=self.frame)


@dataclass(frozen=True)
class ProbabilityFlow(Solver):
    """The probability flow ODE, by any method of ``sdekit.ode``: ``ProbabilityFlow(ode.RK4())``.

    dx/dt = f(x, t) - g(t)^2 score(x, t) / 2,

    in ``coordinate`` "t"; or, on a Gaussian process, in the "angle" u = atan(sigma / (alpha std)) of data centred on
    their mean, as :class:`LinearMultistep` has it: dw/du = std cos(u) eps - sin(u) (x0 - mean). There a tolerance is in
    the units of the data, and the slopes are smooth on every process; ``sample(..., tol=...)`` takes it.

    Song et al. 2021, eq. 13 (arXiv:2011.13456). A fixed-step method takes its steps within each interval of the grid;
    an adaptive one ignores the grid between the ends that it is given, and needs two intervals: one for the whole way
    and one to the clean level. In t, for any process with drift and diffusion.
    """

    method: ODEMethod = field(default_factory=Dopri5)
    coordinate: str = "t"

    def __post_init__(self) -> None:
        one_of("ProbabilityFlow", "coordinate", self.coordinate, FRAMES)
        if not isinstance(self.method, ODEMethod):
            raise InvalidType(f"ProbabilityFlow: method must be one such as ode.RK4(), got {describe(self.method)}")

    stochastic = False

    def check(self, model: ScoreModel) -> None:
        """Raises UnsupportedCombination, in the angle, for a process with no alpha and sigma and for data of std 0."""
        if self.coordinate == "angle":
            check_angle(self, model.sde)

    @property
    def order(self) -> float:  # type: ignore[override]
        """The order of the method."""
        return self.method.order

    @property
    def evaluations(self) -> int | None:  # type: ignore[override]
        """Of the network a step: the method's."""
        return self.method.evaluations

    @property
    def adaptive(self) -> bool:  # type: ignore[override]
        """Whether the method chooses its own steps."""
        return self.method.evaluations is None

    def step(self, model: ScoreModel, state: State[Any], s: Level, noise: NoiseSource) -> State[Any]:
        """The state at the level s; Tweedie's x0 where s is clean."""
        x, t, error = state
        if s.clean:
            return State(model(x, t).x0, s, error)
        check_one_time(self, t, s)
        frame = FRAMES[self.coordinate](model.sde, t, s)
        flow = Flow(model, frame=frame)
        x, stats = self.method.advance(flow, frame.enter(x, t), frame.position(t), frame.position(s))
        x = frame.leave(x, s)
        if stats.error is not None:
            error = stats.error if error is None else error + stats.error
        return State(x, s, error)

    def error(self, state: State[Any]) -> Tensor | None:
        """The largest sum of local error estimates of a row's coordinates, (B,); None for a method without any."""
        error: Tensor | None = state.memory
        return None if error is None or not error[:1].numel() else error.reshape(len(error), -1).amax(1)
