"""Which rows of the data a step sees: a function of the seed and of the step alone."""

from __future__ import annotations

import torch
from torch import Tensor

from ..noise import Noise


class Batches:
    """The batches of a run: permutations of the rows, one an epoch, laid end to end and cut into equal lengths.

    Every row occurs once an epoch, every batch has ``size`` rows, and a batch may reach into the next epoch. The order
    of an epoch is drawn from (seed, epoch) on the host, so that it is the same for every device and after a resume.

    Batches come in the given dtype and on the given device; a condition keeps its dtype and follows its rows.
    """

    def __init__(
        self,
        data: Tensor,
        condition: dict[str, Tensor],
        size: int,
        seed: int,
        dtype: torch.dtype,
        device: torch.device,
    ):
        self.data = data
        self.condition = condition
        self.size = size
        self.seed = seed
        self.dtype = dtype
        self.device = device
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64, device=data.device)

    def __call__(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The data and the condition of a step, counted from 1."""
        rows = self.rows(step)
        x0 = self.data.index_select(0, rows).to(device=self.device, dtype=self.dtype)
        condition = {k: v.index_select(0, rows.to(v.device)).to(self.device) for k, v in self.condition.items()}
        return x0, condition

    def rows(self, step: int) -> Tensor:
        """The rows of the data that make the batch of a step, (size,), on the data's device."""
        n, position, end = len(self.data), (step - 1) * self.size, step * self.size
        parts = []
        while position < end:
            epoch, offset = divmod(position, n)
            taken = min(n - offset, end - position)
            parts.append(self._permutation(epoch)[offset : offset + taken])
            position += taken
        return torch.cat(parts)

    def _permutation(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            # three numbers, where a step's noise has two: the order of epoch e is independent of the noise of step e
            draw = Noise((self.seed, epoch, 0)).uniform(len(self.data), stream="order")
            self._epoch, self._order = epoch, torch.argsort(draw, stable=True).to(self.data.device)
        return self._order
