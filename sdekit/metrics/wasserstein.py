"""The Wasserstein distance of projections to lines."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import MOST, whole
from ..noise import Noise
from .base import Distance, rows


class SlicedWasserstein(Distance):
    """The sliced Wasserstein distance of order 2 to a reference, (M, *event).

    SW^2 = mean over unit directions u of int_0^1 (F_x^-1(q) - F_y^-1(q))^2 dq, with the quantiles of u.x and u.y;
    integrated exactly, whatever N and M are. (Bonneel et al. 2015, doi 10.1007/s10851-014-0506-3.)

    ``projections`` directions, drawn once by ``seed``; of events of one number there is one. It is positive for equal
    laws, too: compare it with its ``floor``.
    """

    name = "sliced Wasserstein"

    def __init__(self, reference: Tensor, projections: int = 128, seed: int | Sequence[int] = 0):
        y = rows("SlicedWasserstein", "reference", reference)
        count = whole("SlicedWasserstein", "projections", projections, at_least=1, at_most=MOST)
        d = y.shape[1]
        if d == 1:
            axes = y.new_ones(1, 1)
        else:
            # drawn on the host: the same directions on every device
            axes = Noise(seed).normal((count, d), stream="projections", dtype=y.dtype).to(y.device)
        self.axes = axes / axes.norm(dim=1, keepdim=True)
        self.sorted = (self.axes @ y.mT).sort(1).values

    @property
    def size(self) -> int:
        """The numbers in an event."""
        return int(self.axes.shape[1])

    def values(self, x: Tensor, counts: Tensor) -> Tensor:
        """The distances of the samples in which each row is repeated as often as it counts."""
        axes, y = self.axes.to(x.device), self.sorted.to(x.device)
        lines, order = (axes @ x.mT).sort(1)
        return torch.stack([between(_repeated(lines, count[order].long()), y) for count in counts])


def _repeated(lines: Tensor, counts: Tensor) -> Tensor:
    """Lines of sorted numbers, each as often as it counts: as often in all in every line."""
    return lines.reshape(-1).repeat_interleave(counts.reshape(-1)).reshape(len(lines), -1)


def between(x: Tensor, y: Tensor) -> Tensor:
    """(mean over lines of int_0^1 (F_x^-1 - F_y^-1)^2)^1/2, of lines of sorted numbers, (L, N) and (L, M)."""
    n, m = x.shape[1], y.shape[1]
    # both quantile functions are constant between the multiples of 1/n and 1/m, here in units of 1/(n m)
    every = torch.cat([torch.arange(n + 1) * m, torch.arange(m + 1) * n])
    edges = torch.unique_consecutive(every.sort().values).to(y.device)
    widths = edges.diff().to(y) / (n * m)
    gaps = x[:, edges[:-1] // m] - y[:, edges[:-1] // n]
    distance: Tensor = (gaps.square() @ widths).mean().sqrt()
    return distance
