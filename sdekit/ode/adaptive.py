"""Adaptive Runge-Kutta with a step of its own for every row."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import InvalidArgument, NonFiniteError, at_rows, number, whole
from .base import Field, ODEMethod, Stats, Tableau, Weighing, check_start
from .rows import Rows


@dataclass(frozen=True)
class Adaptive(ODEMethod, ABC):
    """An embedded Runge-Kutta pair; each row of the batch has its own time, step and error control.

    A row's step is accepted where every coordinate's error estimate is within atol + rtol max(|x|, |x'|); of a field
    that weighs its errors, where what they count for is within atol + rtol times what x counts for. With k the order
    and r the largest ratio of estimate and tolerance, the next step is, between a fifth and ten times this one,

        0.9 h r^(-0.7/k) r_before^(0.4/k)      (Gustafsson's PI control; Hairer & Wanner 1996, eq. IV.2.43c)
        0.8 h r^(-1/k)                         (of a field that weighs its errors: all steps may count for as much)

    and 0.9 h r^(-1/k) after a refused one of the former; the last two share what is left. What a row returns does not
    depend on its batch mates. The host waits for the device once a step.

    Raises InvalidArgument for tolerances that the dtype of x is too coarse for, NonFiniteError where the field is not
    finite at the start, or in a trial step that gradients are to pass, and IntegrationError where a row's step
    underflows or ``max_steps`` are not enough; the last two name the rows.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    max_steps: int = 100_000

    tableau: ClassVar[Tableau]
    evaluations = None

    def __post_init__(self) -> None:
        owner = type(self).__name__
        number(owner, "rtol", self.rtol, at_least=0.0)
        number(owner, "atol", self.atol, above=0.0)
        whole(owner, "max_steps", self.max_steps, at_least=1)

    def advance(self, field: Field, x: Tensor, t: float, s: float) -> tuple[Tensor, Stats]:
        """x at s, from x of shape (B, *event) at t; the stats are per row, and per coordinate for the error."""
        check_start(type(self).__name__, field, x, t, s)
        if max(self.rtol, self.atol) < 1e-3 * torch.finfo(x.dtype).eps:
            raise InvalidArgument(
                f"{type(self).__name__}: rtol and atol must be within reach of {x.dtype}, above "
                f"{1e-3 * torch.finfo(x.dtype).eps:.0e}, got rtol={self.rtol:g}, atol={self.atol:g}"
            )
        return _Run(self, field, x, t, s).run(self.max_steps)


class _Run(Rows):
    """One integration by an embedded pair."""

    def __init__(self, method: Adaptive, field: Field, x: Tensor, t: float, s: float):
        self.method = method
        settings = f"rtol={method.rtol:g}, atol={method.atol:g}"
        super().__init__(type(method).__name__, settings, field, x, t, s)

    def _tolerance(self, x: Tensor, other: Tensor) -> Tensor:
        return self.method.atol + self.method.rtol * torch.maximum(x.abs(), other.abs())

    @torch.no_grad()
    def first_step(self) -> Tensor:
        """Hairer, Norsett & Wanner 1993, section II.4, row by row."""
        tolerance = self._tolerance(self.x, self.x)
        size = (self.x / tolerance).abs().amax(1).double()
        slope = (self.slope / tolerance).abs().amax(1).double()
        small = (size < 1e-5) | (slope < 1e-5)
        h0 = torch.where(small, 1e-6 * self.span, 0.01 * size / slope).clamp(max=self.span)
        ahead = self.asked(self.x + self._times(h0, self.slope), self.t + self.sign * h0)
        bend = ((ahead - self.slope) / tolerance).abs().amax(1).double() / h0
        steep = torch.maximum(slope, torch.nan_to_num(bend, nan=torch.inf))
        h1 = torch.where(steep <= 1e-15, 1e-6 * self.span, (0.01 / steep) ** (1 / self.method.order))
        return torch.minimum(torch.minimum(100 * h0, h1), torch.full_like(h0, self.span))

    def _times(self, h: Tensor, slope: Tensor) -> Tensor:
        return (self.sign * h).to(slope.dtype)[:, None] * slope

    def ahead(self) -> tuple[Tensor, Tensor, Tensor]:
        """The trial, after which no smaller one is left: up to 1.1 h to the end are one step, and up to 2 h are two."""
        left = (self.end - self.t).abs()
        half = torch.where(2.0 * self.h > left, 0.5 * left, self.h)
        self.h = torch.where(1.1 * self.h >= left, left, half)
        return super().ahead()

    def step(self) -> bool:
        """One trial step of every row under way; False where none is left."""
        if not len(self.index):
            return False
        c, a, b, e = self.method.tableau
        h, last, end = self.ahead()
        stages = [self.slope]
        for i, (node, row) in enumerate(zip(c[1:], a[1:], strict=True), 1):
            between = not b[i] and not e[i] and i + 1 < len(c)  # the last one is the next step's first
            at = self.t + self.sign * node * h
            stages.append(self.asked(self._combine(self.x, h, row, stages), at, active=between))
        # first same as last: the final stage stands at the step's own result
        x = self._combine(self.x, h, a[-1], stages[:-1])
        local, ratio = self._estimate(h, x, stages)
        ratio = torch.where(torch.isfinite(stages[-1]).all(1), torch.nan_to_num(ratio, nan=torch.inf), torch.inf)
        if x.requires_grad:
            self._check_differentiable(stages)
        taken = ratio <= 1.0
        self.h = h * self._factor(ratio, taken).clamp(0.2, 10.0)
        self.ratio = torch.where(taken, ratio.clamp(min=1e-4), self.ratio)
        self.settle(taken, last, end, x, stages[-1], self.total + local.abs())
        return bool(len(self.index))

    def _factor(self, ratio: Tensor, taken: Tensor) -> Tensor:
        """What the next step is of this one, by its ratio of estimate and tolerance."""
        k = self.method.order
        if self.weighing:
            return 0.8 * self.power(ratio, -1 / k)
        grown = 0.9 * self.power(ratio, -0.7 / k) * self.power(self.ratio, 0.4 / k)
        return torch.where(taken, grown, 0.9 * self.power(ratio, -1 / k))

    def _check_differentiable(self, stages: list[Tensor]) -> None:
        """Raises NonFiniteError for a stage that is not: refused as the step is, its gradient would be 0 times NaN."""
        bad = ~torch.stack([torch.isfinite(stage).all(1) for stage in stages]).all(0)
        if bool(bad.any()):
            message = (
                f"{self.owner}: a trial step must stay where the field is finite for gradients to pass it, got NaN or "
                f"infinity at rows [@]: a smaller tolerance than {self.settings} takes smaller steps"
            )
            raise at_rows(NonFiniteError, message, self.index[bad].tolist())

    @torch.no_grad()  # a gradient is that of the steps as they were taken
    def _estimate(self, h: Tensor, x: Tensor, stages: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The local error of each coordinate, or of each row, (rows, 1), and its largest ratio to the tolerance."""
        local = self._combine(torch.zeros_like(x), h, self.method.tableau.e, stages)
        if isinstance(self.field, Weighing):
            local, before, slope = (v.reshape(len(v), *self.shape[1:]) for v in (local, self.x, self.slope))
            counted = self.field.weigh(local, before, slope, self.t)
            scale = self.field.weigh(before, before, slope, self.t)
            return counted.to(x.dtype)[:, None], (counted / (self.method.atol + self.method.rtol * scale)).double()
        return local, (local.abs() / self._tolerance(self.x, x)).amax(1).double()

    @staticmethod
    def _weighted(row: tuple[float, ...], stages: list[Tensor]) -> Tensor:
        total = torch.zeros_like(stages[0])
        for weight, stage in zip(row, stages, strict=True):
            if weight:
                total = torch.add(total, stage, alpha=weight)
        return total

    def _combine(self, x: Tensor, h: Tensor, row: tuple[float, ...], stages: list[Tensor]) -> Tensor:
        return x + self._times(h, self._weighted(row, stages))


@dataclass(frozen=True)
class Dopri5(Adaptive):
    """Dormand and Prince's pair of orders 5 and 4, with step control per row.

    (Dormand & Prince 1980, doi 10.1016/0771-050X(80)90013-3; Hairer, Norsett & Wanner 1993, table II.5.2.)

    Example: ``x, stats = Dopri5(rtol=1e-8, atol=1e-8).advance(lambda x, t: -x, x, 0.0, 1.0)``.
    """

    order = 5
    tableau: ClassVar[Tableau] = Tableau(
        c=(0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
        a=(
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        ),
        b=(35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
        e=(71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    )
