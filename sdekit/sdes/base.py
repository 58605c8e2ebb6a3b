"""The contracts of a forward process: SDE, GaussianSDE, their levels, and their priors."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..errors import (
    InvalidArgument,
    InvalidType,
    ScheduleError,
    describe,
    number,
)
from ..types import Scalar, Time, align, lincomb, scale, sqrt
from .prior import Prior

EDGE = 1e-6  # how far outside the domain, relative to t_max, a time counts as float32 rounding of its end


class Level:
    """One point of a process: its time, computed once and carried along.

    ``t`` is a float where the whole batch shares it, and a float64 tensor of shape (B, 1, ..., 1) where each row has
    its own.
    """

    __slots__ = ("sde", "t")

    clean = False

    def __init__(self, sde: SDE, t: Scalar):
        self.sde = sde
        self.t = t

    def drift(self, x: Tensor) -> Tensor:
        """f(x, t)."""
        return self.sde.drift(x, self.t)

    @property
    def g2(self) -> Scalar:
        """g(t)^2, the rate at which the process gains variance."""
        g = self.sde.diffusion(self.t)
        return g * g if isinstance(self.t, Tensor) else float(g) ** 2

    @property
    def clock(self) -> Scalar:
        """The Brownian path's own time: t here, (sigma / alpha)^2 on a Gaussian process."""
        return self.t

    def __repr__(self) -> str:
        return f"{type(self).__name__}(t={self.t})"


class SDE(ABC):
    """A forward process dx = f(x, t) dt + g(t) dw on t in [t_min, t_max]: data at t_min, noise at t_max.

    A subclass gives drift, diffusion and prior. That is all that Euler-Maruyama, reverse diffusion, Langevin and the
    probability flow use: a process with no closed-form kernel is sampled by these. (Song et al. 2021, eq. 5,
    arXiv:2011.13456.)
    """

    t_min: float
    t_max: float

    @abstractmethod
    def drift(self, x: Tensor, t: Time) -> Tensor:
        """f(x, t), of the shape of x; t is a float, or a tensor aligned with x, (B, 1, ..., 1)."""

    @abstractmethod
    def diffusion(self, t: Time) -> Tensor:
        """g(t), of the shape of t."""

    @property
    @abstractmethod
    def prior(self) -> Prior:
        """The density at t_max from which sampling starts."""

    def prior_at(self, t: float) -> Prior:
        """The prior of a run that starts at the time t; raises InvalidArgument where there is none, below t_max."""
        if t != self.t_max:
            raise InvalidArgument(
                f"{type(self).__name__}: a run that starts at t={t:g}, not at t_max={self.t_max:g}, needs x_T: "
                "the prior is the law at t_max"
            )
        return self.prior

    def level(self, t: Time | Level, x: Tensor) -> Level:
        """The level at time t (float, () or (B,)) aligned with x; a level is returned as it is.

        Raises InvalidArgument where t is not within [t_min, t_max] or does not fit the batch of x.
        """
        if isinstance(t, Level):
            return t
        return self.at(self.check_time(t, x), x)

    def check_time(self, t: Time, x: Tensor, label: str = "t") -> Time:
        """The time where it is one number or one a row of x, finite and within [t_min, t_max]; else a named error."""
        name = type(self).__name__
        if not isinstance(x, Tensor):
            raise InvalidType(f"{name}: x must be a tensor of shape (B, *event), got {describe(x)}")
        if isinstance(t, Tensor) and t.ndim == 0 and t.requires_grad and x.ndim:
            t = t.expand(len(x))  # a float would drop its gradient
        if isinstance(t, Tensor) and t.ndim > 0:
            if t.shape != x.shape[:1]:
                raise InvalidArgument(
                    f"{name}: {label} must be a number, of shape () or of shape (B,) = ({x.shape[0]},), "
                    f"got {describe(t)}"
                )
            if t.dtype == torch.bool or t.is_complex():
                raise InvalidType(f"{name}: {label} must be real, got {describe(t)}")
            return self._within(label, t.to(torch.float64))
        return float(self._within(label, torch.tensor(number(name, label, t), dtype=torch.float64)))

    def _within(self, name: str, t: Tensor) -> Tensor:
        """The times clamped to the domain, where no more than rounding took them out of it; else a named error."""
        slack = EDGE * self.t_max
        inside = (t >= self.t_min - slack) & (t <= self.t_max + slack)
        if not bool(inside.all()):
            row = int((~inside).reshape(-1).nonzero()[0])
            where = f" at row {row}" if t.ndim else ""
            raise InvalidArgument(
                f"{type(self).__name__}: {name} must lie within [{self.t_min:g}, {self.t_max:g}], "
                f"got {float(t.reshape(-1)[row]):g}{where}"
            )
        return t.clamp(self.t_min, self.t_max)

    def at(self, t: Time, x: Tensor) -> Level:
        """The level at a time that is known to be valid, such as an integrator's: ``level`` without the checks."""
        if isinstance(t, Tensor):
            return Level(self, align(t, x)) if t.ndim else Level(self, float(t))
        return Level(self, t)

    def levels(self, times: Tensor) -> list[Level]:
        """The levels of a whole grid, (N,) -> N levels of python floats."""
        return [Level(self, t) for t in times.to(torch.float64).tolist()]

    def time_of(self, u: Tensor) -> Tensor:
        """The times at the fractions u in [0, 1] of the domain, of the shape of u: t_min + u (t_max - t_min).

        Losses draw their times so. A process on a table of levels gives the table's own times.
        """
        return self.t_min + (self.t_max - self.t_min) * u

    def clean(self) -> Level | None:
        """The level alpha = 1, sigma = 0 where the process has one, else None."""
        return None

    def step(self, x: Tensor, t: Level, s: Level) -> tuple[Tensor, Scalar]:
        """The forward step s -> t seen from x at its end t: its increment f and the std G of its noise.

        Euler-Maruyama's f(x, t) (t - s) and g(t) sqrt(t - s), unless the process knows its kernel.
        (Song et al. 2021, appendix E, eq. 45.)
        """
        dt = t.t - s.t
        return scale(dt, t.drift(x)), sqrt(t.g2 * dt)

    def forward_step(self, x: Tensor, s: Level, t: Level) -> tuple[Tensor, Scalar]:
        """The forward step s -> t from x at s: the mean of x_t and the std of its noise.

        Euler-Maruyama's x + f(x, s) (t - s) and g(s) sqrt(t - s), unless the process knows its kernel. ``step`` is the
        same discretisation read at its other end, where a reverse step stands.
        (Song et al. 2021, appendix E, arXiv:2011.13456.)
        """
        dt = t.t - s.t
        return lincomb(1.0, x, dt, s.drift(x)), sqrt(s.g2 * dt)


def settle(sde: SDE) -> None:
    """Makes the settings of a process, a dataclass of numbers, python floats; a named error where one is none."""
    for field in dataclasses.fields(sde):  # type: ignore[arg-type]
        value = number(type(sde).__name__, field.name, getattr(sde, field.name), kind=ScheduleError)
        object.__setattr__(sde, field.name, value)


def check_domain(owner: str, t_min: float, t_max: float) -> None:
    """Raises ScheduleError unless 0 < t_min < t_max, both finite."""
    number(owner, "t_min", t_min, above=0.0, kind=ScheduleError)
    number(owner, "t_max", t_max, above=0.0, kind=ScheduleError)
    if t_min >= t_max:
        raise ScheduleError(f"{owner}: t_max must exceed t_min, got t_min={t_min:g}, t_max={t_max:g}")
