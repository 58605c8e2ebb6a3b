"""A classifier as a two-sample test."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InvalidArgument, whole
from .base import Distance, rows
from .kernels import CHUNK, distances


class NearestNeighbours(Distance):
    """The classifier two-sample test: how often the nearest neighbours of a row tell whether it was sampled or real.

    The share of right answers over as many samples as rows of the reference, each row judged by the majority of its
    ``neighbours`` among all others. Of equal laws it is about 1/2, of disjoint ones 1.
    (Lopez-Paz & Oquab 2017, arXiv:1610.06545, C2ST-KNN.)

    The reference must have as many rows as x at least; the first of them are taken. ``neighbours`` is odd.
    """

    name = "classifier"

    def __init__(self, reference: Tensor, neighbours: int = 5):
        self.reference = rows("NearestNeighbours", "reference", reference)
        self.neighbours = whole("NearestNeighbours", "neighbours", neighbours, at_least=1)
        if self.neighbours % 2 == 0:
            raise InvalidArgument(f"NearestNeighbours: neighbours must be odd, got neighbours={neighbours}")

    @property
    def size(self) -> int:
        """The numbers in an event."""
        return self.reference.shape[1]

    def values(self, x: Tensor, counts: Tensor) -> Tensor:
        """The shares, in which a sampled row's answer counts as often as the row."""
        n = len(x)
        if n > len(self.reference):
            raise InvalidArgument(
                f"NearestNeighbours: x must have at most the {len(self.reference)} rows of the reference, got {n}"
            )
        if self.neighbours >= 2 * n:
            raise InvalidArgument(
                f"NearestNeighbours: x must have more than {self.neighbours // 2} rows for {self.neighbours} "
                f"neighbours, got {n}"
            )
        both = torch.cat([x, self.reference[:n].to(x.device)])
        real = torch.cat(
            [self._votes(both, numbers) for numbers in torch.split(torch.arange(2 * n, device=x.device), CHUNK)]
        )
        of_x, of_reference = (~real[:n]).to(x), real[n:].to(x)
        return 0.5 * (counts @ of_x / counts.sum(1) + of_reference.mean())

    def _votes(self, both: Tensor, numbers: Tensor) -> Tensor:
        """Whether most of the neighbours of some rows lie in the second half."""
        apart = distances(both[numbers], both)
        apart[torch.arange(len(numbers), device=both.device), numbers] = torch.inf
        near = apart.topk(self.neighbours, largest=False).indices
        return (near >= len(both) // 2).sum(1) * 2 > self.neighbours
