"""What data cost once the first level is known: -log p(x0 | x_1), of a density or of the mass of a level's bin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidArgument, InvalidType, describe, number


def check_decoder(owner: str, width: float | None, ends: Any) -> tuple[float, float]:
    """The two ends as floats where they and the width of a bin, or None, are valid settings; else a named error."""
    if width is not None:
        number(owner, "decoder_bin", width, above=0.0)
    if not isinstance(ends, Sequence) or isinstance(ends, str) or len(ends) != 2:
        raise InvalidType(f"{owner}: decoder_ends must be two numbers, the lower one first, got {describe(ends)}")
    low = number(owner, "decoder_ends[0]", ends[0])
    return low, number(owner, "decoder_ends[1]", ends[1], above=low)


def check_levels(owner: str, name: str, x0: Tensor, width: float | None, ends: tuple[float, float]) -> None:
    """Raises InvalidArgument for data that do not lie on the decoder's levels; any will do without a width."""
    if width is None:
        return
    low, high = ends
    place = (x0.double() - low) / width
    inside = (x0 >= low - 1e-6) & (x0 <= high + 1e-6)
    if not bool((inside & ((place - place.round()).abs() < 1e-3)).all()):
        raise InvalidArgument(
            f"{owner}: {name} must hold levels {width:g} apart from {low:g} to {high:g} for the "
            "discretised decoder, got others; data that are not discrete need decoder_bin=None"
        )


def decoded(x0: Tensor, mean: Tensor, log_var: Tensor, width: float | None, ends: tuple[float, float]) -> Tensor:
    """-log p(x0 | x_1) of each coordinate, of the shape of x0, in nats: N(mean, exp(log_var)) is what x_1 says of it.

    Without a width, of its density; with one, of its mass on the datum's bin, which reaches to infinity at the ends.
    (Ho et al. 2020, eq. 13, arXiv:2006.11239.)
    """
    std = torch.exp(0.5 * log_var)
    if width is None:
        return 0.5 * (math.log(2 * math.pi) + log_var + ((x0 - mean) / std).square())
    half, (low, high) = 0.5 * width, ends
    a, b = (x0 - half - mean) / std, (x0 + half - mean) / std
    a = torch.where(x0 < low + half, -torch.inf, a)
    b = torch.where(x0 > high - half, torch.inf, b)
    # both in the left tail, where the differences of the distribution function do not cancel
    flip = a > 0
    a, b = torch.where(flip, -b, a), torch.where(flip, -a, b)
    # logarithms: ndtr itself is 0.5 + 0.5 erf, which cancels there
    low_log, high_log = torch.special.log_ndtr(a.double()), torch.special.log_ndtr(b.double())
    log_mass: Tensor = high_log + torch.log(-torch.expm1(low_log - high_log))
    return -log_mass.to(x0.dtype)
