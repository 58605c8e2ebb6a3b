"""Adaptive steps along the path of the reverse SDE, a step of its own for every row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import UnsupportedCombination, number, whole
from ..models.base import GaussianPrediction, ScoreModel
from ..ode.rows import Rows
from ..sdes.base import Level
from ..sdes.gaussian import GaussianLevel, GaussianSDE
from ..types import NoiseSource, Scalar, Time, align, exp, lincomb, scale, sqrt
from .base import GaussianSolver, State, check_one_time, level_where
from .multistep import check_angle, position, shifted

LARGEST = 0.3
"""The largest step in the angle: a longer one could pass over what it does not see."""

FAR = 4.0
"""Beyond so many standard deviations the tolerance grows with the distance."""

FIRST = 0.1
"""The first trial step in the angle."""


@dataclass(frozen=True)
class AdaptiveSDE(GaussianSolver):
    """The reverse SDE with steps of each row's own, to a tolerance: ``AdaptiveSDE(tol=0.01)``.

    With y = x / alpha, n = sigma / alpha, and data of the process's mean m and deviation std (``sde.with_prior``), let
    k = 1 / (n^2 + std^2), the inverse variance of y. Then w = k (y - m) has additive noise, in the clock k:

        dw = ((x0 - m) - std^2 eps / n) dk + dB(k).

    Its drift is 0 where the data are normal: one step is then exact, however large. A step takes Euler's end, asks the
    model there, and ends by the trapezoidal rule on one Brownian path, at one evaluation:

        w' = w + h F_t + B(k') - B(k),    w_s = w' + h (F_s - F_t) / 2,    F_s at w',  h = k' - k.

    Along a drift of slope J the rule misses J times the path's integral over the step beside its trapezoid, of
    deviation |J| sqrt(h^3 / 12), and Euler's end J h (B(k') - B(k)) / 2 more than that, of sqrt(3) times as much: e =
    |w_s - w'| std^2 / sqrt(3) estimates the error of a step, in the units of the data. Errors of steps add up as
    squares, so that a step in the angle u = atan(n / std) is accepted where, in the largest coordinate,

        e <= tol sqrt((u_t - u_s) / (pi / 2)) max(1, std |w_s| / 4),

    std |w| being at most the number of standard deviations of y from m: only far outliers have a relative tolerance.
    A refused step leaves the path as it is: the next ones are of the same B. The tests hold the root mean square
    distance from the path's own solution on Gaussian data to at most 3 tol, and to tol / 30 on average at least, over
    six processes. ``Samples.nfe`` and ``Samples.error`` tell each row's evaluations and the root of its sum of e^2.

    The clock of an increment is k, and not a level's: another solver sees another path of the same source. The weak
    order is 2, the strong order 1, in the size of the steps. Of the grid it takes the ends that it is given, as
    :class:`ProbabilityFlow` does with an adaptive method.

    Refused steps that keep their path: Gaines & Lyons 1997 (doi 10.1137/S0036139995286515); Jelinčič et al. 2024
    (arXiv:2405.06464). An adaptive solver of this equation for rows of their own: Jolicoeur-Martineau et al. 2021,
    algorithm 2 (arXiv:2105.14080), whose noise is drawn anew. Raises InvalidArgument unless 1e-6 <= tol <= 1, and
    UnsupportedCombination for a process without alpha and sigma, for data of std 0 and for a source without a path.
    """

    tol: float = 0.02
    max_steps: int = 100_000

    order = None
    stochastic = True
    evaluations = None
    adaptive = True

    def __post_init__(self) -> None:
        number("AdaptiveSDE", "tol", self.tol, at_least=1e-6, at_most=1.0)
        whole("AdaptiveSDE", "max_steps", self.max_steps, at_least=1)

    def check(self, model: ScoreModel) -> None:
        """Raises UnsupportedCombination for a process without alpha and sigma, and for data of std 0."""
        super().check(model)
        check_angle(self, model.sde)

    def step(self, model: ScoreModel, state: State[Any], s: Level, noise: NoiseSource) -> State[Any]:
        """The state at the level s; the model's x0 where s is clean."""
        x, t, spent = state
        if s.clean:
            return State(model(x, t).x0, s, spent)
        check_one_time(self, t, s)
        if not hasattr(noise, "path"):
            raise UnsupportedCombination(
                f"{self}: needs a source with a path, such as Noise(0), KeyedNoise(0) or BrownianPath(0), got {noise!r}"
            )
        assert isinstance(t, GaussianLevel)
        assert isinstance(s, GaussianLevel)
        field = Pull(model, noise.path())
        u, v = (float(position("angle", level, field.std)) for level in (t, s))
        w, stats = _Run(self, field, field.enter(x, t), u, v).run(self.max_steps)
        assert stats.error is not None
        return State(field.leave(w, s), s, stats.error if spent is None else torch.hypot(spent, stats.error))

    def error(self, state: State[Any]) -> Tensor | None:
        """The root of the sum of e^2, of the coordinate where it is the largest, (B,)."""
        spent: Tensor | None = state.memory
        return None if spent is None or not spent[:1].numel() else spent.reshape(len(spent), -1).amax(1)


class Clock(NamedTuple):
    """A level of nothing but a clock."""

    clock: Tensor

    @property
    def t(self) -> Tensor:
        """The clock."""
        return self.clock


class Pull:
    """The drift of w = k (y - m) in the clock k, and the path that drives it; both at angles."""

    def __init__(self, model: ScoreModel, path: NoiseSource):
        assert isinstance(model.sde, GaussianSDE)
        self.model = model
        self.path = path
        self.mean, self.std = model.sde.centre

    def clock(self, level: GaussianLevel) -> Scalar:
        """k."""
        return 1.0 / (exp(-level.log_snr) + self.std**2)

    def enter(self, x: Tensor, level: GaussianLevel) -> Tensor:
        """w."""
        k = self.clock(level)
        return shifted(scale(k / level.alpha, x), -k, self.mean)

    def leave(self, w: Tensor, level: GaussianLevel) -> Tensor:
        """x."""
        return shifted(scale(level.alpha / self.clock(level), w), level.alpha, self.mean)

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """The drift (x0 - m) - std^2 eps / n at w and at the angle."""
        tangent = torch.tan(align(torch.as_tensor(t), x))
        level = level_where(self.model.sde, -2.0 * torch.log(self.std * tangent), x)  # type: ignore[arg-type]
        p = self.model(self.leave(x, level), level)
        assert isinstance(p, GaussianPrediction)
        return shifted(lincomb(1.0, p.x0, -self.std / tangent, p.eps), -1.0, self.mean)

    def increment(self, w: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """B(k_v) - B(k_u)."""
        before, after = (torch.cos(angle).square() / self.std**2 for angle in (u, v))
        return scale(align(sqrt(after - before), w), self.path(w, Clock(after), Clock(before)))

    @property
    def divisible(self) -> bool:
        """Whether the model is."""
        return self.model.divisible

    def rows(self, index: Tensor) -> Pull:
        """The drift and the path of some rows of the batch."""
        return Pull(self.model.rows(index), self.path.rows(index))  # type: ignore[attr-defined]

    def on_behalf(self, index: Tensor) -> Pull:
        """The drift and the path of the whole batch, asked for some rows."""
        return Pull(self.model.on_behalf(index), self.path)


class _Run(Rows):
    """One run along the path, in the angle."""

    field: Pull

    def __init__(self, solver: AdaptiveSDE, field: Pull, w: Tensor, u: float, v: float):
        self.unit = field.std**2 / math.sqrt(3.0)
        self.tol = solver.tol
        super().__init__("AdaptiveSDE", f"tol={solver.tol:g}", field, w, u, v)

    def first_step(self) -> Tensor:
        """FIRST, of every row."""
        return torch.full_like(self.t, FIRST)

    def _rung(self, h: Tensor) -> Tensor:
        """LARGEST 2^(-j / 4), the next below h: steps that follow every last bit would have the path do so, too."""
        rung = torch.ceil(4.0 * self.each(torch.log2, LARGEST / h)).clamp(min=0.0)
        return LARGEST * self.each(torch.exp2, -0.25 * rung)

    def step(self) -> bool:
        """One trial step of every row under way; False where none is left."""
        if not len(self.index):
            return False
        h, last, end = self.ahead()
        # cos^2 u' - cos^2 u, without cancellation
        gap = self.each(torch.sin, self.t - end) * self.each(torch.sin, self.t + end) / self.field.std**2
        step = gap.to(self.x.dtype)[:, None]
        euler = self.x + step * self.slope + self.of_rows(self.field.increment, self.x, self.t, end)
        slope = self.asked(euler, end)
        correction = 0.5 * step * (slope - self.slope)
        local = correction.abs() * self.unit
        w = euler + correction
        far = (w.abs() * (self.field.std / FAR)).clamp(min=1.0)
        ratio = (local / far).amax(1).double() / (self.tol * torch.sqrt(h / (0.5 * math.pi)))
        ratio = torch.where(torch.isfinite(slope).all(1), torch.nan_to_num(ratio, nan=torch.inf), torch.inf)
        taken = ratio <= 1.0
        kept = ratio.clamp(min=1e-4)
        grown = 0.9 * self.power(kept, -0.7) * self.power(self.ratio, 0.4)
        factor = torch.where(taken, grown, 0.9 / kept).clamp(0.2, 3.0)
        self.ratio = torch.where(taken, kept, self.ratio)
        self.h = self._rung(h * factor)
        self.settle(taken, last, end, w, slope, torch.hypot(self.total, local))
        return bool(len(self.index))
