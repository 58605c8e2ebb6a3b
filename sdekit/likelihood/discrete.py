"""Probabilities of data with levels, through a density of the dequantised data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import InvalidArgument, InvalidType, batch, describe, number, whole
from ..models.base import ScoreModel, check_model
from ..noise import KeyedNoise
from .exact import log_likelihood
from .levels import OFF


@runtime_checkable
class Transform(Protocol):
    """A smooth map of data, one to one, that knows its volumes."""

    def __call__(self, x: Tensor) -> Tensor:
        """y, (B, *event)."""

    def log_slope(self, x: Tensor) -> Tensor:
        """log |det dy/dx| of each row, (B,)."""


@dataclass(frozen=True)
class DiscreteLikelihood:
    """Bounds of the log-probability of each row of data with levels, in nats."""

    each: Tensor
    """(K, B): log p(x + w u) + D log w of every draw u; their mean over draws is a lower bound of log P(x)."""
    nfe: Tensor
    """(B,) network evaluations, of all draws together."""
    dimension: int
    """Coordinates of an event."""
    estimated: bool
    """Whether the trace was: the exponential of a noisy estimate is too large in expectation."""

    @property
    def log_prob(self) -> Tensor:
        """(B,): the importance-weighted bound, log mean_k p(x + w u_k) w^D <= log P(x) in expectation, tighter with K.

        Of an estimated trace, whose noise that would count as probability, it is the plain bound, the mean of ``each``.
        (Burda et al. 2016, eq. 8, arXiv:1509.00519; of dequantisation, Hoogeboom et al. 2021, arXiv:2001.11235.)
        """
        if self.estimated:
            return self.each.mean(0)
        return torch.logsumexp(self.each, 0) - math.log(len(self.each))

    @property
    def bits_per_dim(self) -> Tensor:
        """(B,): -log_prob / (D log 2), an upper bound of the code length of a coordinate."""
        if not self.dimension:
            raise InvalidArgument("bits_per_dim: an event must have at least one coordinate, got none")
        return -self.log_prob / (self.dimension * math.log(2))

    def mean(self) -> tuple[float, float]:
        """The mean of bits_per_dim over the data set, and its standard error; infinite of a single row."""
        bits = self.bits_per_dim
        error = float(bits.std()) / math.sqrt(len(bits)) if len(bits) > 1 else math.inf
        return float(bits.mean()), error


def discrete_log_likelihood(
    model: ScoreModel,
    x: Tensor,
    *,
    bin_width: float,
    origin: float,
    draws: int = 1,
    transform: Transform | None = None,
    seed: int | Sequence[int] = 0,
    **settings: Any,
) -> DiscreteLikelihood:
    """Lower bounds of the log-probability of data with levels, by uniform dequantisation.

    log P(x) = log E_u p(x + w (u - 1/2)) w^D,    u uniform on the unit cube, w the width of a level.

    (Theis et al. 2016, section 3.1, arXiv:1511.01844.) ``model``: of the dequantised data's density, as
    ``data.Dequantised`` trains it. ``x``: (B, *event), floats on the levels origin + k ``bin_width``: others, such as
    data that are dequantised already, are refused. ``draws``: K of u a row, each of a seed of its own; one gives the
    usual bound, and so does an estimated trace, the default above 128 coordinates. ``transform``: what the model's
    data went through once they were dequantised, such as ``data.Logit``; its slope is counted. ``settings``: those of
    :func:`log_likelihood`, as tol and trace; there is no budget.

    Example: ``discrete_log_likelihood(model, x, bin_width=2 / 255, origin=-1.0, draws=5, tol=0.03).mean()``.
    """
    owner = "discrete_log_likelihood"
    check_model(owner, model)
    x = batch(owner, "x", x)
    width = number(owner, "bin_width", bin_width, above=0.0)
    origin = number(owner, "origin", origin)
    draws = whole(owner, "draws", draws, at_least=1)
    if transform is not None and (isinstance(transform, type) or not isinstance(transform, Transform)):
        raise InvalidType(
            f"{owner}: transform must be one such as data.Logit(low, high), with log_slope, got {describe(transform)}"
        )
    for name in ("noise", "budget", "dtype", "gradient"):
        if name in settings:
            raise InvalidArgument(f"{owner}: {name} must be left out, got {describe(settings[name])}")
    place = (x.double() - origin) / width
    off = (place - place.round()).abs() > OFF
    if bool(off.any()):
        raise InvalidArgument(
            f"{owner}: x must lie on levels {width:g} apart from {origin:g}, got {int(off.sum())} numbers that do not, "
            f"such as {float(x[off][0]):g}: data without levels need log_likelihood"
        )
    n = math.prod(x.shape[1:])
    ids = settings.get("ids")
    found, nfe, estimated = [], torch.zeros(len(x), dtype=torch.int64, device=x.device), False
    base = tuple(seed) if isinstance(seed, Sequence) else (seed,)
    for k in range(draws):
        u = torch.special.ndtr(KeyedNoise((*base, k), ids).normal(x.shape, stream="dequantise", dtype=torch.float64))
        spread = origin + width * (place.round() + u.to(x.device) - 0.5)
        y = spread if transform is None else transform(spread)
        slope = 0.0 if transform is None else transform.log_slope(spread)
        r = log_likelihood(model, y, seed=(*base, k, 1), budget=False, **settings)
        found.append(r.log_prob + slope + n * math.log(width))
        nfe, estimated = nfe + r.nfe, r.probes > 0
    return DiscreteLikelihood(torch.stack(found), nfe, n, estimated)
