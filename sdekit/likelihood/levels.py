"""Data with levels, which have probabilities and no density."""

from __future__ import annotations

import torch
from torch import Tensor

OFF = 1e-3
"""Of a bin: what a datum may be off its level by."""

REPEATS = 10
"""Numbers a level, from which on data are taken to lie on them."""


def levels_of(x: Tensor) -> tuple[int, float, float] | None:
    """How many levels the numbers of x lie on, the lowest and their distance; None where they are no such data.

    At least two evenly spaced values, a tenth as many as there are numbers or fewer. Values may be missing.
    """
    values = torch.unique(x.double())
    if len(values) < 2 or REPEATS * len(values) > x.numel():
        return None
    width = float(values.diff().min())
    place = (values - values[0]) / width
    if bool(((place - place.round()).abs() > OFF).any()):
        return None
    return len(values), float(values[0]), width
