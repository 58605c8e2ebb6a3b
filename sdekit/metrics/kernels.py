"""Distances that are mean differences of a kernel: energy distance and maximum mean discrepancy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InvalidArgument, InvalidType, describe, number
from .base import Distance, rows

CHUNK = 1024


class KernelDistance(Distance):
    """2 E d(x, y) - E d(x, x') - E d(y, y'), over pairs of different rows: a U-statistic, without bias.

    d is a distance, or minus a kernel. (Sejdinovic et al. 2013, arXiv:1207.6076: both are one thing.)
    """

    def __init__(self, reference: Tensor):
        self.reference = rows(type(self).__name__, "reference", reference)
        n = len(self.reference)
        parts = torch.split(self.reference, CHUNK)
        self._own = sum(float(self.between(distances(part, self.reference)).sum()) for part in parts) / (n * (n - 1))

    @property
    def size(self) -> int:
        """The numbers in an event."""
        return self.reference.shape[1]

    @abstractmethod
    def between(self, distances: Tensor) -> Tensor:
        """d of Euclidean distances, less d(0), so that a row and itself count for nothing."""

    def values(self, x: Tensor, counts: Tensor) -> Tensor:
        """2 sum w d / sum w - sum_{i != j} w_i w_j d_ij / sum_{i != j} w_i w_j - what the reference has."""
        reference, total = self.reference.to(x.device), counts.sum(1)
        cross, own = x.new_zeros(len(counts)), x.new_zeros(len(counts))
        for part, w in zip(torch.split(x, CHUNK), torch.split(counts, CHUNK, 1), strict=True):
            cross += w @ self.between(distances(part, reference)).sum(1)
            own += ((counts @ self.between(distances(x, part))) * w).sum(1)
        return 2 * cross / (total * len(reference)) - own / (total**2 - counts.square().sum(1)) - self._own

    def among(self, real: Tensor, chosen: Sequence[Tensor]) -> Tensor:
        """Each pair of rows is compared once, however many subsets hold it."""
        counts = real.new_zeros(len(chosen), len(real))
        for line, numbers in zip(counts, chosen, strict=True):
            line[numbers] = 1.0
        return self.values(real, counts)


class EnergyDistance(KernelDistance):
    """The energy distance to a reference, (M, *event): ``energy_distance`` with one side that stays, and intervals.

    2 E|x - y| - E|x - x'| - E|y - y'|.  (Szekely & Rizzo 2013, doi 10.1016/j.jspi.2013.03.018.)
    """

    name = "energy distance"

    def between(self, distances: Tensor) -> Tensor:
        """The distances."""
        return distances


class MMD(KernelDistance):
    """The squared maximum mean discrepancy to a reference, (M, *event), by a mean of Gaussian kernels.

    E k(x, x') + E k(y, y') - 2 E k(x, y),  k = mean over widths w of exp(-|x - y|^2 / (2 (w m)^2)),

    with m the median distance of two rows of the reference, of its first 2,000. ``widths``: 1/4 to 4 unless given.
    (Gretton et al. 2012, eq. 3, JMLR 13:723; several widths: Li et al. 2015, arXiv:1502.02761.)

    Raises InvalidArgument for a reference whose rows are all equal, and widths that are not positive.
    """

    name = "squared MMD"

    def __init__(self, reference: Tensor, widths: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0)):
        if not isinstance(widths, (list, tuple)) or not widths:
            raise InvalidType(f"MMD: widths must be a list of numbers > 0, got {describe(widths)}")
        self.widths = tuple(number("MMD", "widths", width, above=0.0) for width in widths)
        few = rows("MMD", "reference", reference)[:2000]
        self.median = float(torch.pdist(few).median())
        if not self.median > 0:
            raise InvalidArgument("MMD: reference must have rows that differ, got a median distance of 0")
        super().__init__(reference)

    def between(self, distances: Tensor) -> Tensor:
        """1 - k."""
        squares = (distances / self.median) ** 2
        return torch.stack([-torch.expm1(-0.5 * squares / width**2) for width in self.widths]).mean(0)


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances (N, M) of rows."""
    # not cdist's default, by matrix products: that cancels where two rows are close
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
