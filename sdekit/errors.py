"""What can go wrong, by name; and the checks that say so at the door.

Every message names the argument, what was given, and what would be right.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MOST = 10_000_000
"""More levels, draws or components than this in one call are a slip: they would be held in memory at once."""


class SDEKitError(Exception):
    """The root of every error that sdekit raises on purpose.

    ``rows`` are the numbers of the rows at fault, where it is single rows: the others can be had without them, and with
    ``per_sample=True`` and the same ids they are the same bits.
    """

    rows: tuple[int, ...] = ()
    _message: str = ""


class InvalidArgument(SDEKitError, ValueError):
    """A value outside its range: a shape, a time, a count, a name."""


class InvalidType(SDEKitError, TypeError):
    """A value of the wrong kind: an integer image where floats are needed, a string for a number."""


class ScheduleError(InvalidArgument):
    """The parameters of a process, or the times of a grid, that describe no valid schedule."""


class UnsupportedCombination(SDEKitError, TypeError):
    """Two parts that cannot work together, such as DDIM on a process with no closed-form kernel."""


class NonFiniteError(SDEKitError, RuntimeError):
    """A NaN or an infinity that a network, a density or an integration produced."""


class IntegrationError(SDEKitError, RuntimeError):
    """An adaptive integration that cannot reach its tolerance."""


class CertificationFailed(SDEKitError, RuntimeError):
    """A sampler that is not what it is declared to be."""


class PriorWarning(UserWarning):
    """A run that starts from a prior which is not the law there: samples that are off, though nothing fails."""


class CheckpointError(SDEKitError, RuntimeError):
    """A checkpoint that cannot be written or read."""


class CheckpointNotFound(CheckpointError):
    """No checkpoint where one was to be resumed or loaded."""


class CheckpointCorrupt(CheckpointError):
    """A checkpoint whose bytes do not match its manifest."""


class CheckpointWriteError(CheckpointError):
    """A checkpoint that could not be written; the one before it is untouched."""


class CheckpointTooNew(CheckpointError):
    """A checkpoint written by a later format than this version reads."""


def number(
    owner: str,
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    kind: type[InvalidArgument] = InvalidArgument,
) -> float:
    """The value as a finite float within the bounds, or a named error."""
    if not _is(numbers.Real, value):
        raise InvalidType(f"{owner}: {name} must be a number, got {describe(value)}")
    given = ""
    try:
        result = float(value)
    except OverflowError:  # a whole number beyond the floats
        result, given = math.inf, describe(value)
    bounds = []
    ok = math.isfinite(result)
    checks: tuple[tuple[float | None, str, Callable[[float], bool]], ...] = (
        (above, ">", lambda b: result > b),
        (at_least, ">=", lambda b: result >= b),
        (below, "<", lambda b: result < b),
        (at_most, "<=", lambda b: result <= b),
    )
    for bound, sign, holds in checks:
        if bound is not None:
            bounds.append(f"{sign} {bound:g}")
            ok = ok and holds(bound)
    if not ok:
        wanted = " and ".join(["finite", *bounds])
        raise kind(f"{owner}: {name} must be {wanted}, got {given or f'{name}={result:g}'}")
    return result


def whole(owner: str, name: str, value: Any, *, at_least: int, at_most: int = 2**63 - 1) -> int:
    """The value as an int within the bounds, or a named error."""
    if not _is(numbers.Integral, value):
        raise InvalidType(f"{owner}: {name} must be a whole number, got {describe(value)}")
    result = int(value)
    if not at_least <= result <= at_most:
        most = "below 2^63" if at_most == 2**63 - 1 else f"at most {at_most}"
        bound = f"at least {at_least}" if result < at_least else most
        given = f"{name}={result}" if result.bit_length() <= 64 else describe(result)
        raise InvalidArgument(f"{owner}: {name} must be {bound}, got {given}")
    return result


def flag(owner: str, name: str, value: Any) -> bool:
    """The value where it is True or False, or a named error: a word that means no would count as yes."""
    if type(value).__name__ not in ("bool", "bool_"):  # NumPy's, too
        raise InvalidType(f"{owner}: {name} must be True or False, got {describe(value)}")
    return bool(value)


def function(owner: str, name: str, value: Any, call: str) -> Any:
    """The value where it can be called, or an error that says how it will be."""
    if not callable(value):
        raise InvalidType(f"{owner}: {name} must be a callable {call}, got {describe(value)}")
    return value


def check_source(owner: str, noise: Any, draws: str = "normal") -> None:
    """Raises InvalidType unless the value can be asked for such draws."""
    if not hasattr(noise, draws) or isinstance(noise, type):
        raise InvalidType(f"{owner}: noise must be a source such as Noise(0), got {describe(noise)}")


def real(owner: str, name: str, value: Any, shape: str = "(B, *event)") -> Tensor:
    """The value where it is a tensor of a floating-point dtype, or a named error."""
    if not isinstance(value, Tensor):
        raise InvalidType(f"{owner}: {name} must be a tensor of shape {shape}, got {describe(value)}")
    if not value.is_floating_point():
        raise InvalidType(f"{owner}: {name} must be of a floating-point dtype, got {value.dtype}")
    return value


def sizes(owner: str, name: str, value: Any) -> tuple[int, ...]:
    """The value as a shape (B, *event), or a named error."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or len(value) == 0:
        raise InvalidType(f"{owner}: {name} must be (B, *event), a tuple of whole numbers, got {describe(value)}")
    return tuple(whole(owner, f"{name}[{i}]", n, at_least=0) for i, n in enumerate(value))


def floating(owner: str, name: str, value: Any) -> torch.dtype:
    """The value where it is a floating-point dtype, or a named error."""
    if not isinstance(value, torch.dtype) or not value.is_floating_point:
        raise InvalidType(f"{owner}: {name} must be a floating-point torch.dtype, got {describe(value)}")
    return value


def file_path(owner: str, name: str, value: Any) -> Path:
    """The value as a path, or a named error."""
    if not isinstance(value, (str, Path)):
        raise InvalidType(f"{owner}: {name} must be a path, got {describe(value)}")
    return Path(value)


def one_of(owner: str, name: str, value: Any, choices: Iterable[str]) -> str:
    """The value where it is one of the names, or an error that lists them."""
    names = list(choices)
    if not isinstance(value, str):
        raise InvalidType(f"{owner}: {name} must be one of {', '.join(names)}, got {describe(value)}")
    if value not in names:
        raise InvalidArgument(f"{owner}: {name} must be one of {', '.join(names)}, got {value!r}")
    return value


def batch(owner: str, name: str, x: Any) -> Tensor:
    """The value where it is a finite floating-point tensor with a batch dimension, or a named error."""
    if real(owner, name, x).ndim == 0:
        raise InvalidArgument(f"{owner}: {name} must be of shape (B, *event), got a tensor of shape ()")
    finite_rows(owner, name, x, InvalidArgument)
    return x  # type: ignore[no-any-return]


def finite_rows(owner: str, name: str, x: Tensor, kind: type[SDEKitError] = NonFiniteError) -> None:
    """Raises an error that names the rows of x that hold a NaN or an infinity."""
    if bool(torch.isfinite(x).all()):
        return
    bad = (~torch.isfinite(x).reshape(x.shape[0], -1).all(1)).nonzero()[:, 0].tolist()
    message = f"{owner}: {name} must be finite, got NaN or infinity in {len(bad)} of {x.shape[0]} rows (rows @)"
    raise at_rows(kind, message, bad)


def at_rows(kind: type[SDEKitError], message: str, rows: Sequence[int]) -> SDEKitError:
    """An error that carries the numbers of rows, and names the first of them where its message has an @."""
    listed = ", ".join(map(str, rows[:8])) + (", ..." if len(rows) > 8 else "")
    error = kind(message.replace("@", listed))
    error.rows, error._message = tuple(rows), message
    return error


def renamed(error: SDEKitError, rows: Sequence[int]) -> SDEKitError:
    """The same error with other numbers for its rows."""
    return at_rows(type(error), error._message, rows)


def _is(kind: type, value: Any) -> bool:
    """Whether the value, or the element of a tensor or an array of shape (), is a number of a kind, and no bool."""
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    return isinstance(value, kind) and not isinstance(value, bool)


def describe(value: Any) -> str:
    """A short name for a wrong value, for messages."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    if isinstance(value, int) and value.bit_length() > 128:  # python refuses to print one that is long enough
        return f"an int of {value.bit_length()} bits"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # whatever a stranger's repr may raise
        text = "without a repr"
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
