"""The exponential moving average of a model's weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

M = TypeVar("M", bound=nn.Module)


class Average(Generic[M]):
    """A copy of a model whose parameters are a moving average of the model's: a_n = d(n) a_(n-1) + (1 - d(n)) w_n.

    Buffers are copied, not averaged: they are counts and tables as often as statistics. The copy, ``average.model``,
    is in evaluation mode and asks for no gradient.
    """

    def __init__(self, model: M, decay: Callable[[int], float]):
        self.source = model
        self.model: M = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay
        # the lists are made once: AveragedModel walks the modules at every update, six times the cost of the average
        pairs = list(zip(self.model.parameters(), model.parameters(), strict=True))
        self._averaged: list[Tensor] = [a for a, w in pairs if w.is_floating_point()]
        self._weights: list[Tensor] = [w for _, w in pairs if w.is_floating_point()]
        self._buffered = any(True for _ in model.buffers())

    @torch.no_grad()
    def update(self, step: int, stopped: Tensor | None = None) -> None:
        """Takes in the weights of a step, counted from 1; nothing, where ``stopped`` is 1 and not 0 on the device."""
        decay = self.decay(step)
        if stopped is None:
            average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            average(self._averaged, self._weights, step)
        else:
            change = list(torch._foreach_sub(self._weights, self._averaged))
            torch._foreach_mul_(change, (1.0 - decay) * (1.0 - stopped))
            torch._foreach_add_(self._averaged, change)
        if self._buffered:
            for mine, theirs in zip(self.model.buffers(), self.source.buffers(), strict=True):
                mine.copy_(theirs)
