"""What adaptive integrations share: rows with steps of their own, those under way and those that have arrived."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import IntegrationError, NonFiniteError, at_rows
from ..types import Time
from .base import Batched, Field, Passive, Stats, Weighing, check_slope


class Rows(ABC):
    """One integration of a batch from t to s, each row at a time and with a step of its own.

    ``step`` tries one step of every row under way; a row that has arrived is kept in ``result``, and the field is no
    longer asked for it where it can be asked for some rows alone. ``settings``: of the method, for its errors.
    """

    def __init__(self, owner: str, settings: str, field: Field, x: Tensor, t: float, s: float):
        self.owner = owner
        self.settings = settings
        self.field = field
        self.divisible = isinstance(field, Batched) and field.divisible
        self.weighing = isinstance(field, Weighing)
        self.shape = x.shape
        self.start = t
        self.end = s
        self.span = abs(s - t)
        self.sign = 1.0 if s > t else -1.0
        n = x.shape[0]
        f64 = {"dtype": torch.float64, "device": x.device}
        self.x = x.reshape(n, math.prod(x.shape[1:])).clone()
        self.t = torch.full((n,), t, **f64)  # type: ignore[call-overload]
        self.index = torch.arange(n, device=x.device)
        self.total = self.x.new_zeros(n, 1) if self.weighing else torch.zeros_like(self.x)
        self.result = self.x.clone()
        self.error = self.total.clone()
        self.nfe = torch.zeros(n, dtype=torch.int64, device=x.device)
        self.ratio = torch.ones(n, **f64)  # type: ignore[call-overload]
        if x.numel() and self.span:
            self.slope = self.asked(self.x, self.t)
            self._check_start()
            self.h = self.first_step()
        else:
            self.index = self.index[:0]

    @abstractmethod
    def first_step(self) -> Tensor:
        """The size of each row's first trial step, (rows,)."""

    @abstractmethod
    def step(self) -> bool:
        """One trial step of every row under way; False where none is left."""

    def run(self, max_steps: int) -> tuple[Tensor, Stats]:
        """x at the end, after ``max_steps`` trial steps at most."""
        for _ in range(max_steps):
            if not self.step():
                error = self.error[:, 0] if self.weighing else self.error.reshape(self.shape)
                return self.result.reshape(self.shape), Stats(self.nfe, error)
        raise at_rows(
            IntegrationError,
            f"{self.owner}: max_steps={max_steps} steps were not enough between {self.start:g} and {self.end:g} "
            f"for rows [@] at {self.settings}",
            self.index.tolist(),
        )

    def asked(self, x: Tensor, t: Tensor, *, active: bool = False) -> Tensor:
        """The field at the rows under way; what it has of ``active`` coordinates alone is enough where it says so."""
        self.nfe[self.index] += 1

        def field(x: Tensor, t: Time) -> Tensor:
            ask = self.field.active if active and isinstance(self.field, Passive) else self.field
            return check_slope(self.owner, ask(x, t), x)

        return self.of_rows(field, x, t)

    def of_rows(self, function: Callable[..., Tensor], x: Tensor, *times: Tensor) -> Tensor:
        """A function of x and times at the rows under way.

        One that cannot be asked for some rows sees them all, those that have arrived where they stopped.
        """
        if self.divisible or len(self.index) == len(self.result):
            return function(x.reshape(len(x), *self.shape[1:]), *times).reshape(x.shape).to(x.dtype)
        everyone = self.result.index_copy(0, self.index, x)
        ends = torch.full_like(self.nfe, self.end, dtype=torch.float64)
        whole = function(everyone.reshape(self.shape), *(ends.index_copy(0, self.index, t) for t in times))
        return whole.reshape(everyone.shape)[self.index].to(x.dtype)

    def each(self, function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        """A function of a number of each row."""
        # each row where it stands in the whole batch: a result's last bit depends on the place in the vector
        return function(torch.ones_like(self.nfe, dtype=values.dtype).index_copy(0, self.index, values))[self.index]

    def power(self, base: Tensor, exponent: float) -> Tensor:
        """A power of a number of each row."""
        return self.each(lambda v: v**exponent, base)

    def ahead(self) -> tuple[Tensor, Tensor, Tensor]:
        """The trial's size, whether it is a row's last step, and where it ends, (rows,) each."""
        left = (self.end - self.t).abs()
        last = self.h >= left * (1 - 1e-12)
        h = torch.where(last, left, self.h)
        return h, last, torch.where(last, torch.full_like(self.t, self.end), self.t + self.sign * h)

    def settle(self, taken: Tensor, last: Tensor, t: Tensor, x: Tensor, slope: Tensor, total: Tensor) -> None:
        """Moves the rows whose step is taken; those whose last it was have arrived."""
        keep = taken[:, None]
        self.x = torch.where(keep, x, self.x)
        self.slope = torch.where(keep, slope, self.slope)
        self.total = torch.where(keep, total, self.total)
        self.t = torch.where(taken, t, self.t)
        self._arrive(taken & last)

    def _check_start(self) -> None:
        bad = ~torch.isfinite(self.slope).all(1)
        if bool(bad.any()):
            message = f"{self.owner}: the field must be finite, got NaN or infinity at rows [@]"
            raise at_rows(NonFiniteError, message, bad.nonzero()[:, 0].tolist())

    def _arrive(self, done: Tensor) -> None:
        tiny = ~done & (self.h < 1e-14 * torch.maximum(self.t.abs(), torch.full_like(self.t, self.span)))
        flags = torch.stack([done.any(), tiny.any()]).tolist()
        if flags[1]:
            raise at_rows(
                IntegrationError,
                f"{self.owner}: the step underflowed at rows [@], t={float(self.t[tiny][0]):g}: the field is not "
                f"finite there, or the tolerance is out of reach of {self.x.dtype} ({self.settings})",
                self.index[tiny].tolist(),
            )
        if not flags[0]:
            return
        self.result[self.index[done]] = self.x[done]
        self.error[self.index[done]] = self.total[done]
        keep = (~done).nonzero()[:, 0]
        if isinstance(self.field, Batched):
            self.field = self.field.rows(keep) if self.divisible else self.field.on_behalf(keep)
        for name in ("x", "t", "h", "slope", "ratio", "total", "index"):
            setattr(self, name, getattr(self, name)[keep])
