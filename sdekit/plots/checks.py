"""What a picture refuses, before it is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..errors import InvalidArgument, InvalidType, describe, real


def listed(owner: str, name: str, value: Any, kind: type, *, empty: bool = False) -> Sequence[Any]:
    """The value where it is a list of things of a kind, or a named error."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise InvalidType(f"{owner}: {name} must be a list of {kind.__name__}, got {describe(value)}")
    if not value and not empty:
        raise InvalidArgument(f"{owner}: {name} must hold at least one {kind.__name__}, got {describe(value)}")
    for item in value:
        if not isinstance(item, kind):
            raise InvalidType(f"{owner}: {name} must be a list of {kind.__name__}, got one that holds {describe(item)}")
    return value


def text(owner: str, name: str, value: Any) -> str:
    """The value where it is a text, or a named error."""
    if not isinstance(value, str):
        raise InvalidType(f"{owner}: {name} must be a text, got {describe(value)}")
    return value


def named(owner: str, name: str, value: Any) -> Mapping[str, Any]:
    """The value where it holds things by name, one at least; or a named error."""
    if not isinstance(value, Mapping):
        raise InvalidType(f"{owner}: {name} must be things by name, got {describe(value)}")
    if not value:
        raise InvalidArgument(f"{owner}: {name} must hold at least one entry, got {describe(value)}")
    return value


def one(owner: str, name: str, value: Any, kind: type) -> None:
    """Raises InvalidType unless the value is of a kind."""
    if not isinstance(value, kind):
        raise InvalidType(f"{owner}: {name} must be a {kind.__name__}, got {describe(value)}")


def count(owner: str, name: str, value: Sequence[Any], wanted: int) -> None:
    """Raises InvalidArgument unless there are as many as wanted."""
    if len(value) != wanted:
        raise InvalidArgument(f"{owner}: {name} must hold {wanted} entries, got {len(value)}")


def finite(owner: str, name: str, values: Sequence[Any]) -> None:
    """Raises a named error unless every value is a finite number."""
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InvalidArgument(f"{owner}: {name} must hold finite numbers, got {describe(value)}")


def images(owner: str, name: str, value: Any) -> Tensor:
    """The value where it is a batch of one-channel images, (N, 1, H, W) or (N, H, W); or a named error."""
    x = real(owner, name, value, "(N, 1, H, W) or (N, H, W)")
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[1] != 1) or not x.numel():
        raise InvalidArgument(
            f"{owner}: {name} must be of shape (N, 1, H, W) or (N, H, W) with N >= 1, got {describe(x)}"
        )
    return x


def of_lattice(owner: str, name: str, value: Any, points: int) -> Tensor:
    """The value where it has one number a point of a lattice, or a named error."""
    if real(owner, name, value, f"({points},)").numel() != points:
        raise InvalidArgument(f"{owner}: {name} must hold one number a point, {points}, got {describe(value)}")
    return value  # type: ignore[no-any-return]
