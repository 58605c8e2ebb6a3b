"""The types and the scalar arithmetic that every layer shares.

A schedule value is a python float where the time is one number for the whole batch, and a float64 tensor of shape
(B, 1, ..., 1) where each row has its own. The functions here act on both, so that a formula is written once.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor

Scalar: TypeAlias = float | Tensor
"""A coefficient: a python float, or a float64 tensor aligned with the batch, (B, 1, ..., 1)."""

Time: TypeAlias = float | Tensor
"""A time: a float, a tensor of shape (), or one of shape (B,)."""

Stream: TypeAlias = Hashable
"""The purpose of a draw, a name or a tuple such as ("corrector", 3): draws of different streams are independent."""

Device: TypeAlias = torch.device | str | None

S = TypeVar("S", float, Tensor, float | Tensor)


def exp(v: S) -> S:
    """exp(v)."""
    return torch.exp(v) if isinstance(v, Tensor) else math.exp(v)


def expm1(v: S) -> S:
    """exp(v) - 1, without cancellation near 0."""
    return torch.expm1(v) if isinstance(v, Tensor) else math.expm1(v)


def log(v: S) -> S:
    """The natural logarithm."""
    return torch.log(v) if isinstance(v, Tensor) else math.log(v)


def sin(v: S) -> S:
    """The sine."""
    return torch.sin(v) if isinstance(v, Tensor) else math.sin(v)


def cos(v: S) -> S:
    """The cosine."""
    return torch.cos(v) if isinstance(v, Tensor) else math.cos(v)


def atan(v: S) -> S:
    """The inverse tangent."""
    return torch.atan(v) if isinstance(v, Tensor) else math.atan(v)


def sqrt(v: S) -> S:
    """The square root; a negative radicand that is rounding error counts as 0."""
    return torch.sqrt(v.clamp(min=0.0)) if isinstance(v, Tensor) else math.sqrt(max(v, 0.0))


def minimum(v: S, bound: float) -> S:
    """min(v, bound)."""
    return v.clamp(max=bound) if isinstance(v, Tensor) else min(v, bound)


HALF = (torch.bfloat16, torch.float16)
ZEROS = {dtype: torch.zeros((), dtype=dtype, device="cpu") for dtype in (torch.float64, torch.float32, *HALF)}


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x in a dtype: x itself where it has it, which ``to`` takes as long to find out as an operation takes."""
    return x if x.dtype == dtype else x.to(dtype)


def scale(a: Scalar, x: Tensor) -> Tensor:
    """a x, in the dtype of x; the coefficient keeps float32 where x is of half precision."""
    if isinstance(a, Tensor):
        return (x.float() * a.float()).to(x.dtype) if x.dtype in HALF else x * a.to(x.dtype)
    if a == 1.0:
        return x
    zero = ZEROS.get(x.dtype)
    # x * a makes a tensor of a first, and takes twice as long
    return x * a if zero is None else torch.add(zero, x, alpha=a)


def lincomb(a: Scalar, x: Tensor, b: Scalar, y: Tensor) -> Tensor:
    """a x + b y, in the dtype of x and y; a term whose coefficient is the float 0 is left out, whatever it holds.

    Half precision is rounded once, at the end: alpha rounded on its own is off by more than a small sigma.
    """
    if x.dtype in HALF and y.dtype in HALF:
        return lincomb(a, x.float(), b, y.float()).to(torch.promote_types(x.dtype, y.dtype))
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return scale(a, x) + scale(b, y)
    if a == 0.0:
        return scale(b, y)
    if b == 0.0:
        return scale(a, x)
    return torch.add(scale(a, x), y, alpha=b)


def combine(coefficients: Sequence[Scalar], tensors: Sequence[Tensor]) -> Tensor:
    """The sum of a_i x_i over two terms or more, in the dtype of the tensors; half precision is rounded once."""
    if tensors[0].dtype in HALF:
        return combine(coefficients, [x.float() for x in tensors]).to(tensors[0].dtype)
    result = lincomb(coefficients[0], tensors[0], coefficients[1], tensors[1])
    for a, x in zip(coefficients[2:], tensors[2:], strict=True):
        if isinstance(a, Tensor):
            result = result + scale(a, x)
        elif a != 0.0:
            result = torch.add(result, x, alpha=a)
    return result


def align(t: Tensor, x: Tensor) -> Tensor:
    """A tensor of shape (B,) as float64 of shape (B, 1, ..., 1), to stand beside x of shape (B, *event)."""
    return t.to(device=x.device, dtype=torch.float64).reshape(-1, *(1,) * (x.ndim - 1))


def schedule(method: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Time], Tensor]:
    """Lets a schedule written for float64 tensors take any time.

    A float gives a float64 tensor of shape (); a tensor of any float dtype is computed in float64 and the result is
    returned in its dtype, so that a float32 time loses nothing but the last rounding.
    """

    name = inspect.getfullargspec(method).args[1]

    @functools.wraps(method)
    def of_any_time(self: Any, *given: Time, **named: Time) -> Tensor:
        if len(given) + len(named) != 1 or not named.keys() <= {name}:
            return method(self, *given, **named)  # type: ignore[arg-type]  # Python's own error
        t = given[0] if given else named[name]
        if not isinstance(t, Tensor):
            if isinstance(t, (bool, type)) or not hasattr(t, "__float__"):
                raise TypeError(f"{type(self).__name__}: {name} must be a number or a tensor of numbers, got {t!r}")
            t = torch.tensor(t, dtype=torch.float64)
        if t.dtype == torch.float64:
            return method(self, t)
        result = method(self, t.to(torch.float64))
        return result.to(t.dtype) if t.is_floating_point() else result

    return of_any_time


class NoiseSource(Protocol):
    """What every function that draws random numbers takes: the one source of randomness, passed in.

    See :mod:`sdekit.noise` for the implementations and for what ``stream`` means.
    """

    def __call__(self, x: Tensor, t: Any, s: Any, stream: Stream = "path") -> Tensor:
        """A standard normal like x: the scaled Brownian increment over the interval between levels s and t."""

    def normal(
        self, shape: Sequence[int], *, stream: Stream, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """Standard normals of the given shape (B, *event)."""

    def uniform(self, n: int, *, stream: Stream, device: Device = None) -> Tensor:
        """Numbers uniform on (0, 1), (n,) in float64: one a row."""

    def rademacher(self, like: Tensor, *, stream: Stream) -> Tensor:
        """Independent signs, +1 or -1, of the shape, dtype and device of a tensor."""

    def path(self) -> NoiseSource:
        """A source of the same rows whose draws are increments of one Brownian path each, as BrownianPath's are."""
