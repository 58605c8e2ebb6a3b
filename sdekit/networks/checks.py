"""What a network refuses, and the words it says it with."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor


def whole(owner: str, name: str, value: Any, at_least: int) -> int:
    """The value as an int that is not below the bound, or a ValueError that names it."""
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if not at_least <= number < 2**31:
        raise ValueError(f"{owner}: {name} must be a whole number of at least {at_least}, got {shown(value)}")
    return number


def real(owner: str, name: str, value: Any) -> float:
    """The value as a finite float, or a ValueError that names it."""
    kind = None if type(value) is bool or not isinstance(value, numbers.Real) else float
    try:
        number = math.nan if kind is None else kind(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{owner}: {name} must be a finite number, got {shown(value)}")
    return number


def shown(value: Any) -> str:
    """A wrong value in short, for messages."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an int of {value.bit_length()} bits"
    try:
        text = " ".join(repr(value).split())
    except ValueError:
        text = f"{type(value).__name__} without a repr"
    return text if len(text) <= 60 else text[:57] + "..."


def wholes(owner: str, name: str, values: Any, at_least: int) -> list[int]:
    """The values as a list of ints, none below the bound, or a ValueError that names them."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValueError(f"{owner}: {name} must be a list of whole numbers of at least {at_least}, got {shown(values)}")
    return [whole(owner, f"each of {name}", value, at_least) for value in values]


def labelled(owner: str, x: Tensor, label: Tensor, event: str, fits: Callable[[Tensor], bool]) -> None:
    """Raises a ValueError unless x is a batch of the network's events and label holds one number a row."""
    for name, value in (("x", x), ("label", label)):
        if not isinstance(value, Tensor) or value.is_complex():
            raise ValueError(f"{owner}: {name} must be a real tensor, got {shown(value)}")
    if not fits(x):
        raise ValueError(f"{owner}: x must be of shape (B, {event}), got {tuple(x.shape)}")
    if label.shape != x.shape[:1]:
        raise ValueError(f"{owner}: label must be of shape (B,) = ({x.shape[0]},), got {tuple(label.shape)}")
