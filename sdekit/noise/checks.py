"""What a source is made from, checked at the door: seeds and ids; and the door of those who take a source."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidArgument, InvalidType, describe, floating, sizes, whole
from .counter import MASK

Seed = int | Sequence[int]
"""A seed: an integer, or several, such as (seed, step), folded into one."""


def check_noise(owner: str, noise: object, rows: int | None = None) -> None:
    """Raises InvalidType unless the value can be asked for draws, ``noise(x, t, s)``; and InvalidArgument unless its
    ids, where it has any, are as many as the rows."""
    if not callable(noise) or isinstance(noise, type):
        raise InvalidType(f"{owner}: noise must be a source such as Noise(seed=0), got {describe(noise)}")
    ids = getattr(noise, "ids", None)
    if rows is not None and ids is not None and len(ids) != rows:
        raise InvalidArgument(f"{owner}: ids must name every row, got {len(ids)} ids for {rows} rows")


def check_normal(owner: str, shape: Any, dtype: Any) -> tuple[tuple[int, ...], torch.dtype | None]:
    """The shape and the dtype of draws, or a named error."""
    return sizes(owner, "shape", shape), None if dtype is None else floating(owner, "dtype", dtype)


def fold(seed: Seed) -> int:
    """A seed in [0, 2^63): a non-negative int as it is, several ints by a hash."""
    if isinstance(seed, (tuple, list)):
        text = ",".join(str(whole("Noise", "seed", part, at_least=0)) for part in seed)
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
    return whole("Noise", "seed", seed, at_least=0)


def check_ids(owner: str, ids: Tensor | Sequence[int]) -> Tensor:
    """The ids as int64 on the host, (B,), where they are distinct whole numbers in [0, 2^32); else a named error."""
    try:
        # an empty list would be a tensor of floats
        ids = ids if isinstance(ids, Tensor) else torch.as_tensor(ids, dtype=None if len(ids) else torch.int64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidType(f"{owner}: ids must be whole numbers of shape (B,), got {describe(ids)}") from error
    if ids.ndim != 1 or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise InvalidType(f"{owner}: ids must be whole numbers of shape (B,), got {describe(ids)}")
    ids = ids.to(device="cpu", dtype=torch.int64)
    if len(ids) and (int(ids.min()) < 0 or int(ids.max()) > MASK):
        raise InvalidArgument(f"{owner}: ids must lie in [0, 2^32), got {int(ids.min())} to {int(ids.max())}")
    if len(set(ids.tolist())) != len(ids):
        raise InvalidArgument(f"{owner}: ids must be distinct, got {describe(ids)}: rows of one id would be equal")
    return ids
