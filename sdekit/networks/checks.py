"""What a network refuses, and the words it says it with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor


def whole(owner: str, name: str, value: Any, at_least: int) -> int:
    """The value as an int that is not below the bound, or a ValueError that names it."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value.__index__()) < at_least:
        raise ValueError(f"{owner}: {name} must be a whole number of at least {at_least}, got {value!r}")
    return int(value.__index__())


def wholes(owner: str, name: str, values: Any, at_least: int) -> list[int]:
    """The values as a list of ints, none below the bound, or a ValueError that names them."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValueError(f"{owner}: {name} must be a list of whole numbers of at least {at_least}, got {values!r}")
    return [whole(owner, f"each of {name}", value, at_least) for value in values]


def labelled(owner: str, x: Tensor, label: Tensor, event: str, fits: bool) -> None:
    """Raises a ValueError unless x is a batch of the network's events and label holds one number a row."""
    if not fits:
        raise ValueError(f"{owner}: x must be of shape (B, {event}), got {tuple(x.shape)}")
    if label.shape != x.shape[:1]:
        raise ValueError(f"{owner}: label must be of shape (B,) = ({x.shape[0]},), got {tuple(label.shape)}")
