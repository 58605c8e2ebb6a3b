"""Distances of the first two moments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidArgument, InvalidType, describe
from .base import Distance, rows


class Moments(NamedTuple):
    """A mean (D,) and a covariance (D, D), in float64."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def given(cls, owner: str, mean: Any, covariance: Any) -> Moments:
        """The moments as they are given, the mean of any event shape; raises a named error where they do not fit."""
        m, c = _numbers(owner, "mean", mean).reshape(-1), _numbers(owner, "covariance", covariance)
        if c.shape != (len(m), len(m)) or not torch.allclose(c, c.mT):
            raise InvalidArgument(
                f"{owner}: covariance must be symmetric, of shape ({len(m)}, {len(m)}), got {describe(covariance)}"
            )
        values = torch.linalg.eigvalsh(c)
        if not float(values.sum()) > 0 or float(values.min()) < -1e-6 * float(values.max()):
            raise InvalidArgument(
                f"{owner}: covariance must be positive semi-definite and not 0, got {describe(covariance)}"
            )
        return cls(m, c)

    @classmethod
    def of(cls, owner: str, reference: Tensor) -> Moments:
        """Those of a sample, the covariance without bias."""
        y = rows(owner, "reference", reference)
        mean = y.mean(0)
        return cls(mean, (y - mean).mT @ (y - mean) / (len(y) - 1))


class MomentDistance(Distance):
    """A distance between the moments of the samples and those of a law.

    ``mean``: (*event), ``covariance``: (D, D); or ``of(reference)``, the moments of a sample, (M, *event). Raises
    InvalidArgument where they do not fit, or the covariance is 0 or has a negative eigenvalue.
    """

    def __init__(self, mean: Any, covariance: Any):
        self.law = Moments.given(type(self).__name__, mean, covariance)

    @classmethod
    def of(cls, reference: Tensor) -> Self:
        """To the moments of a reference, (M, *event)."""
        return cls(*Moments.of(cls.__name__, reference))

    @property
    def size(self) -> int:
        """The numbers in an event."""
        return len(self.law.mean)

    def moments(self, x: Tensor, counts: Tensor) -> Iterator[Moments]:
        """Those of x, (N, D), in which each row is repeated as often as each line of (R, N) says."""
        for w in counts:
            total = w.sum()
            mean = w @ x / total
            yield Moments(mean, (x - mean).mT @ (w[:, None] * (x - mean)) / (total - 1))


class MeanError(MomentDistance):
    """|m_x - m| / sqrt(tr C): how far the samples' mean is off, in units of the law's own spread."""

    name = "mean error"

    def values(self, x: Tensor, counts: Tensor) -> Tensor:
        """The errors of the means."""
        mean, covariance = (v.to(x) for v in self.law)
        off = counts @ x / counts.sum(1, keepdim=True) - mean
        errors: Tensor = off.norm(dim=1) / covariance.trace().sqrt()
        return errors


class CovarianceError(MomentDistance):
    """|C_x - C| / |C| in Frobenius norms: how far the samples' covariance is off."""

    name = "covariance error"

    def values(self, x: Tensor, counts: Tensor) -> Tensor:
        """The errors of the covariances."""
        covariance = self.law.covariance.to(x)
        off = torch.stack([(own.covariance - covariance).norm() for own in self.moments(x, counts)])
        errors: Tensor = off / covariance.norm()
        return errors


class GaussianWasserstein(MomentDistance):
    """The Wasserstein distance of order 2 between Gaussians of the samples' moments and of the law's.

    W^2 = |m_x - m|^2 + tr(C_x + C - 2 (C^1/2 C_x C^1/2)^1/2).  (Dowson & Landau 1982, doi 10.1016/0047-259X(82)90077-X;
    on features of a network it is the Frechet distance of Heusel et al. 2017, arXiv:1706.08500, whose square is FID.)
    """

    name = "Gaussian Wasserstein"

    def values(self, x: Tensor, counts: Tensor) -> Tensor:
        """W of the moments."""
        mean, covariance = (v.to(x) for v in self.law)
        values, vectors = torch.linalg.eigh(covariance)
        root = (vectors * values.clamp(min=0.0).sqrt()) @ vectors.mT
        squares = [
            (own.mean - mean).square().sum() + _apart(own.covariance, covariance, root)
            for own in self.moments(x, counts)
        ]
        return torch.stack(squares).sqrt()


def _apart(own: Tensor, covariance: Tensor, root: Tensor) -> Tensor:
    """tr(C_x + C - 2 (C^1/2 C_x C^1/2)^1/2), which is never below 0."""
    crossed = torch.linalg.eigvalsh(root @ own @ root).clamp(min=0.0).sqrt().sum()
    apart: Tensor = (own.trace() + covariance.trace() - 2 * crossed).clamp(min=0.0)
    return apart


def _numbers(owner: str, name: str, value: Any) -> Tensor:
    """The value as finite real numbers in float64, on its own device."""
    try:
        tensor = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidType(f"{owner}: {name} must be numbers, got {describe(value)}") from error
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise InvalidType(f"{owner}: {name} must be real numbers, got {describe(value)}")
    if not bool(torch.isfinite(tensor).all()):
        raise InvalidArgument(f"{owner}: {name} must be finite, got {describe(value)} with NaN or infinity")
    return tensor.detach().to(torch.float64)
