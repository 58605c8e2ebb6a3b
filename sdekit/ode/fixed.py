"""Explicit Runge-Kutta methods of fixed steps: each is its tableau."""

from __future__ import annotations

import itertools
from abc import ABC
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..errors import whole
from .base import Field, ODEMethod, Scheduled, Stats, Tableau, check_slope, check_start


@dataclass(frozen=True)
class FixedStep(ODEMethod, ABC):
    """An explicit Runge-Kutta method: ``steps`` equal steps over each interval it is given.

    k_i = field(x + h sum_j a_ij k_j, t + c_i h),   x' = x + h sum_i b_i k_i.
    """

    steps: int = 1

    tableau: ClassVar[Tableau]

    def __post_init__(self) -> None:
        whole(type(self).__name__, "steps", self.steps, at_least=1)

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """Field evaluations an interval."""
        return self.steps * len(self.tableau.b)

    def advance(self, field: Field, x: Tensor, t: float, s: float) -> tuple[Tensor, Stats]:
        """x at s, from x of shape (B, *event) at t."""
        owner = type(self).__name__
        check_start(owner, field, x, t, s)
        c, a, b, _ = self.tableau
        h = (s - t) / self.steps
        times = [[t + i * h + node * h for node in c] for i in range(self.steps)]
        if self.steps > 1 and isinstance(field, Scheduled):
            field.expect(list(itertools.chain(*times)))
        for at in times:
            stages: list[Tensor] = []
            for time, row in zip(at, a, strict=True):
                y = _advance(x, h, row, stages)
                stages.append(check_slope(owner, field(y, time), y))
            x = _advance(x, h, b, stages)
        return x, Stats(self.evaluations)

    def coarser(self) -> Self | None:
        """The method of half the steps; None for one step."""
        return replace(self, steps=self.steps // 2) if self.steps > 1 else None


def _advance(x: Tensor, h: float, weights: tuple[float, ...], stages: list[Tensor]) -> Tensor:
    for weight, stage in zip(weights, stages, strict=True):
        if weight:
            x = torch.add(x, stage, alpha=h * weight)
    return x


@dataclass(frozen=True)
class Euler(FixedStep):
    """Euler's method, order 1: x' = x + h field(x, t)."""

    order = 1
    tableau: ClassVar[Tableau] = Tableau((0.0,), ((),), (1.0,))


@dataclass(frozen=True)
class Heun(FixedStep):
    """Heun's method, order 2: the mean of the slopes at both ends, the far one found by an Euler step."""

    order = 2
    tableau: ClassVar[Tableau] = Tableau((0.0, 1.0), ((), (1.0,)), (0.5, 0.5))


@dataclass(frozen=True)
class RK4(FixedStep):
    """The classical Runge-Kutta method, order 4.  (Kutta 1901; Hairer, Norsett & Wanner 1993, table II.1.2.)"""

    order = 4
    tableau: ClassVar[Tableau] = Tableau(
        (0.0, 0.5, 0.5, 1.0), ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)
    )
