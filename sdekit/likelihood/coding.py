"""Progressive coding: how near a receiver is to the data after how many nats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..chunks import by_row, keyed_source
from ..errors import InvalidArgument, describe, finite_rows, floating
from ..losses.variational import VariationalBound
from ..models.base import ScoreModel, check_condition, evaluating
from ..noise import check_noise
from ..sdes.table import table
from ..types import NoiseSource


@dataclass(frozen=True)
class ProgressiveCoding:
    """What a receiver of the levels of each row has been told, and how near it is; the noisiest level first."""

    times: Tensor
    """(N,): the table's."""
    rate: Tensor
    """(N, B) nats up to each x_t, that one included."""
    distortion: Tensor
    """(N, B): |x0 - x0hat(x_t)| / sqrt(D), the root mean square of what is still wrong."""
    total: Tensor
    """(B,) nats of the datum itself, the decoder's term included: the bound of -log p(x0)."""
    nfe: Tensor
    """(B,) network evaluations."""
    dimension: int
    """Coordinates of an event."""

    @property
    def bits_per_dim(self) -> Tensor:
        """(N, B): rate / (D log 2)."""
        return self.rate / (self.dimension * math.log(2))

    def mean(self) -> tuple[Tensor, Tensor]:
        """Of the data set at each level, (N,) each: the mean bits_per_dim, and the root mean square distortion."""
        return self.bits_per_dim.mean(1), self.distortion.square().mean(1).sqrt()


def progressive_coding(
    model: ScoreModel,
    x0: Tensor,
    *,
    variance: str = "posterior",
    decoder_bin: float | None = None,
    decoder_ends: tuple[float, float] = (-1.0, 1.0),
    seed: int | Sequence[int] = 0,
    noise: NoiseSource | None = None,
    per_sample: bool = False,
    ids: Tensor | Sequence[int] | None = None,
    dtype: torch.dtype = torch.float64,
) -> ProgressiveCoding:
    """The rate and the distortion of sending each row of data level by level, the noisiest first, on a table.

    rate(t) = L_T + sum of L_(s - 1) over the levels s > t,    distortion(t) = |x0 - x0hat(x_t, t)| / sqrt(D).

    To send x_s ~ q(x_s | x_t, x0) to one who has x_t and p(x_s | x_t) takes KL(q || p) = L_(t-1) nats, or little more;
    who has x_t may stop there and take x0hat for the data. (Ho et al. 2020, section 4.3 and algorithms 3 and 4,
    arXiv:2006.11239.) The terms are those of ``losses.VariationalBound``: one draw of x_t a level, and one network
    evaluation for both.

    ``x0``: (B, *event), finite floats, one row at least. ``variance``, ``decoder_bin``, ``decoder_ends``: as of
    :class:`losses.VariationalBound`; the decoder is part of ``total`` alone. ``seed``, ``noise``, ``per_sample``,
    ``ids``, ``dtype``: as of :func:`log_likelihood`.

    Raises named errors at the door, UnsupportedCombination for a process without a table among them; and
    NonFiniteError, whose ``rows`` are those at fault.

    Example: ``rate, distortion = progressive_coding(model, x0, decoder_bin=2 / 255).mean()``, for
    ``plots.rate_distortion({"DDPM": (rate, distortion)})``.
    """
    owner = "progressive_coding"
    bound = VariationalBound(variance, decoder_bin=decoder_bin, decoder_ends=decoder_ends)
    dtype = floating(owner, "dtype", dtype)
    noise = keyed_source(owner, noise, seed, ids, per_sample)
    bound.check(owner, model, x0, noise)
    check_noise(owner, noise, len(x0))
    check_condition(owner, model, len(x0))
    n = math.prod(x0.shape[1:])
    if not n:
        raise InvalidArgument(f"{owner}: x0 must have at least one coordinate, got {describe(x0)}")
    x0 = x0.detach().to(dtype)

    def coded(model: ScoreModel, x0: Tensor, noise: NoiseSource) -> tuple[Tensor, Tensor, Tensor]:
        """Rates and distortions, (B, N) each, and the whole."""
        terms = bound.terms(model, x0, noise)
        rate = torch.cat([terms.prior[None], terms.steps.flip(0)]).cumsum(0)
        return rate.T, (terms.square.flip(0) / n).sqrt().T, terms.total

    with torch.no_grad(), evaluating(model):
        found = by_row(owner, coded, model, x0, noise, per_sample)
    rate, distortion, total = (value for value in found if value is not None)
    finite_rows(owner, "the rate", rate)
    finite_rows(owner, "the distortion", distortion)
    finite_rows(owner, "the whole", total)
    times = table(owner, model.sde).times.flip(0)
    nfe = torch.full((len(x0),), len(times) * model.evaluations, device=x0.device)
    return ProgressiveCoding(times, rate.T, distortion.T, total, nfe, n)
