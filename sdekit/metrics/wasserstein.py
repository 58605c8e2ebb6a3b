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
            axes = Noise(seed).normal((count, d), stream="projections", dtype=y.dtype, device=y.device)
        self.axes = axes / axes.norm(dim=1, keepdim=True)
        self.sorted = (self.axes @ y.mT).sort(1).values

    @property
    def size(self) -> int:
        """The numbers in an event."""
        return int(self.axes.shape[1])

    def values(self, x: Tensor, counts: Tensor) -> Tensor:
        """The distances, of the quantiles that the counts make."""
        axes, y = self.axes.to(x.device), self.sorted.to(x.device)
        lines, order = (axes @ x.mT).sort(1)
        return torch.stack([self._one(lines, count[order].long(), y) for count in counts])

    def _one(self, lines: Tensor, counts: Tensor, y: Tensor) -> Tensor:
        n, m = int(counts[0].sum()), y.shape[1]
        ends = counts.cumsum(1)
        places = torch.arange(n, device=y.device).expand(len(lines), n).contiguous()
        x = lines.gather(1, torch.searchsorted(ends, places, right=True))
        # both quantile functions are constant between the multiples of 1/n and 1/m, here in units of 1/(n m)
        every = torch.cat([torch.arange(n + 1) * m, torch.arange(m + 1) * n])
        edges = torch.unique_consecutive(every.sort().values).to(y.device)
        widths = edges.diff().to(y) / (n * m)
        gaps = x[:, edges[:-1] // m] - y[:, edges[:-1] // n]
        distance: Tensor = (gaps.square() @ widths).mean().sqrt()
        return distance
