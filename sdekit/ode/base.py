"""The contract of an ODE method, and the Runge-Kutta tableau."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from ..errors import InvalidArgument, InvalidType, describe, function, number, real
from ..types import Time


class Field(Protocol):
    """The right-hand side of dx/dt = field(x, t), with t a float or one time a row, (B,)."""

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """dx/dt, of the shape of x."""


@runtime_checkable
class Batched(Field, Protocol):
    """A field that knows its rows, as a ``ScoreModel`` does: adaptive methods drop the rows that have arrived where it
    is ``divisible``; else it is asked for the whole batch, and told for which rows: it may count what they cost."""

    @property
    def divisible(self) -> bool:
        """Whether it may be asked for some rows of the batch alone."""

    def rows(self, index: Tensor) -> Batched:
        """The field of the rows at the (n,) indices."""

    def on_behalf(self, index: Tensor) -> Batched:
        """The field, still of the whole batch, asked for the rows at the (n,) indices of those it was asked for."""


@runtime_checkable
class Weighing(Field, Protocol):
    """A field that knows what its errors count for: adaptive methods then hold that, row by row."""

    def weigh(self, error: Tensor, x: Tensor, slope: Tensor, t: Tensor) -> Tensor:
        """What the local errors (n, *event) of a step that began at x, slope and t count for, (n,), at least 0."""


@runtime_checkable
class Passive(Field, Protocol):
    """A field some of whose coordinates no slope depends on, such as a log-density: where a method gives a slope no
    weight of its own, and asks for it on the way to others alone, they need not be known."""

    def active(self, x: Tensor, t: Time) -> Tensor:
        """The field, with 0 in those coordinates."""


@runtime_checkable
class Scheduled(Field, Protocol):
    """A field with a schedule: what it needs at times that are known ahead, as floats, is computed at once."""

    def expect(self, times: Sequence[float]) -> None:
        """The field will be asked at the times."""


class Stats(NamedTuple):
    """What an integration knows of itself."""

    nfe: int | Tensor
    """Evaluations of the field: one number, or (B,) where each row has its own."""

    error: Tensor | None = None
    """The sum of the local error estimates: of each coordinate, of the shape of x; of each row, (B,), where the field
    weighs them; None where the method has none."""


class Tableau(NamedTuple):
    """A Butcher tableau: nodes c, stages a, weights b, and weights e of the error estimate."""

    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    e: tuple[float, ...] = ()


class ODEMethod(ABC):
    """A method for dx/dt = field(x, t) over an interval, in either direction.

    ``order`` is its order of convergence; ``evaluations`` counts field evaluations an interval, None where the method
    chooses its own steps.
    """

    order: int
    evaluations: int | None

    @abstractmethod
    def advance(self, field: Field, x: Tensor, t: float, s: float) -> tuple[Tensor, Stats]:
        """x at s, from x of shape (B, *event) at t."""

    def coarser(self) -> ODEMethod | None:
        """The method of half the steps, or of ten times the tolerance: how far it ends from this one estimates the
        error of this one. None where there is none."""
        return None


def check_start(owner: str, field: object, x: Tensor, t: float, s: float) -> Field:
    """The field, which names itself where it answers with another shape; or a named error for what is no start."""
    function(owner, "field", field, "(x, t)")
    if real(owner, "x", x).ndim == 0:
        raise InvalidArgument(f"{owner}: x must be of shape (B, *event), got a tensor of shape ()")
    for name, value in (("t", t), ("s", s)):
        number(owner, name, value)
    return field  # type: ignore[return-value]


def check_slope(owner: str, slope: object, x: Tensor) -> Tensor:
    """What a field answered, where it is a tensor of as many numbers as x; else a named error."""
    if not isinstance(slope, Tensor) or slope.shape != x.shape:
        kind = InvalidArgument if isinstance(slope, Tensor) else InvalidType
        raise kind(f"{owner}: field must return a tensor of the shape of x, {tuple(x.shape)}, got {describe(slope)}")
    return slope
