"""Distances of the first two moments."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

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
        try:
            m, c = (torch.as_tensor(v, dtype=torch.float64) for v in (mean, covariance))
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidType(
                f"{owner}: mean and covariance must be numbers, got {describe(mean)} and {describe(covariance)}"
            ) from error
        m = m.reshape(-1)
        if c.shape != (len(m), len(m)) or not bool(torch.isfinite(c).all()) or not torch.allclose(c, c.mT):
            raise InvalidArgument(
                f"{owner}: covariance must be symmetric and finite, ({len(m)}, {len(m)}), got {describe(covariance)}"
            )
        if not bool(torch.isfinite(m).all()):
            raise InvalidArgument(f"{owner}: mean must be finite, got {describe(mean)} with NaN or infinity")
        return cls(m, c)

    @classmethod
    def of(cls, owner: str, reference: Tensor) -> Moments:
        """Those of a sample, the covariance without bias."""
        y = rows(owner, "reference", reference)
        mean = y.mean(0)
        return cls(mean, (y - mean).mT @ (y - mean) / (len(y) - 1))

    @classmethod
    def weighted(cls, x: Tensor, counts: Tensor) -> Iterator[Moments]:
        """Those of x, (N, D), whose rows count as each line of (R, N) says."""
        for w in counts:
            total = w.sum()
            mean = w @ x / total
            yield cls(mean, (x - mean).mT @ (w[:, None] * (x - mean)) / (total - 1))


class MomentDistance(Distance):
    """A distance between the moments of the samples and those of a law.

    ``mean``: (*event), ``covariance``: (D, D); or ``of(reference)``, the moments of a sample, (M, *event). Raises
    InvalidArgument where they do not fit, or the covariance is 0.
    """

    def __init__(self, mean: Any, covariance: Any):
        self.law = Moments.given(type(self).__name__, mean, covariance)
        if not float(self.law.covariance.trace()) > 0:
            raise InvalidArgument(f"{type(self).__name__}: covariance must not be 0, got {describe(covariance)}")

    @classmethod
    def of(cls, reference: Tensor) -> Self:
        """To the moments of a reference, (M, *event)."""
        return cls(*Moments.of(cls.__name__, reference))

    @property
    def size(self) -> int:
        """The numbers in an event."""
        return len(self.law.mean)

    def values(self, x: Tensor, counts: Tensor) -> Tensor:
        """The distances of the moments that the counts make."""
        law = Moments(*(v.to(x) for v in self.law))
        return torch.stack([self.between(own, law) for own in Moments.weighted(x, counts)])

    @abstractmethod
    def between(self, own: Moments, law: Moments) -> Tensor:
        """The distance of the samples' moments to the law's."""


class MeanError(MomentDistance):
    """|m_x - m| / sqrt(tr C): how far the samples' mean is off, in units of the law's own spread."""

    name = "mean error"

    def between(self, own: Moments, law: Moments) -> Tensor:
        """The error of the mean."""
        error: Tensor = (own.mean - law.mean).norm() / law.covariance.trace().sqrt()
        return error


class CovarianceError(MomentDistance):
    """|C_x - C| / |C| in Frobenius norms: how far the samples' covariance is off."""

    name = "covariance error"

    def between(self, own: Moments, law: Moments) -> Tensor:
        """The error of the covariance."""
        error: Tensor = (own.covariance - law.covariance).norm() / law.covariance.norm()
        return error


class GaussianWasserstein(MomentDistance):
    """The Wasserstein distance of order 2 between Gaussians of the samples' moments and of the law's.

    W^2 = |m_x - m|^2 + tr(C_x + C - 2 (C^1/2 C_x C^1/2)^1/2).  (Dowson & Landau 1982, doi 10.1016/0047-259X(82)90077-X;
    on features of a network it is the Frechet distance of Heusel et al. 2017, arXiv:1706.08500, whose square is FID.)
    """

    name = "Gaussian Wasserstein"

    def between(self, own: Moments, law: Moments) -> Tensor:
        """W."""
        values, vectors = torch.linalg.eigh(law.covariance)
        root = (vectors * values.clamp(min=0.0).sqrt()) @ vectors.mT
        crossed = torch.linalg.eigvalsh(root @ own.covariance @ root).clamp(min=0.0).sqrt().sum()
        spread = own.covariance.trace() + law.covariance.trace() - 2 * crossed
        distance: Tensor = ((own.mean - law.mean).square().sum() + spread.clamp(min=0.0)).sqrt()
        return distance
