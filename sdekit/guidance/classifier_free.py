"""Classifier-free guidance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import UnsupportedCombination
from ..models.base import Prediction, ScoreModel, check_model
from ..sdes.base import Level
from ..types import Time
from .base import Guidance, Weight, mixed


class ClassifierFree(Guidance):
    """Classifier-free guidance: (1 - w) uncond + w cond, in eps, and so in x0, score and velocity.

    w = 0 is ``uncond``, w = 1 is ``cond``, and w > 1 extrapolates, towards p(x) p(y | x)^w at each level. Ho & Salimans
    2022, eq. 6 (arXiv:2207.12598), who write 1 + w for this w.

    ``cond``, ``uncond``: models of one process, often one network with and without a label. A condition that is given
    later goes to ``cond`` alone: ``ClassifierFree(model.given(y=labels), model, w)`` and
    ``ClassifierFree(model, model, w).given(y=labels)`` are the same, and ``uncond`` knows what is bound to it.
    ``weight``: a number, a tensor (B,) of one a row, or a function of the level, such as an interval (Kynkaanniemi et
    al. 2024, arXiv:2404.07724). Both models are asked at every evaluation, whatever the weight, and counted.

    Raises InvalidType for what is no model, UnsupportedCombination for models of two processes, and the errors of the
    weight.

    Example: ``x = sample(ClassifierFree(model, model, 3.0).given(y=labels), (len(labels), 1, 28, 28))``.
    """

    def __init__(self, cond: ScoreModel, uncond: ScoreModel, weight: Weight):
        check_model("ClassifierFree: cond", cond)
        check_model("ClassifierFree: uncond", uncond)
        if cond.sde != uncond.sde:
            raise UnsupportedCombination(
                f"ClassifierFree: cond and uncond must be of one process, got {cond.sde} and {uncond.sde}"
            )
        super().__init__(cond.sde, weight)
        self.cond = cond
        self.uncond = uncond
        self.evaluations = cond.evaluations + uncond.evaluations
        self.divisible = cond.divisible and uncond.divisible
        self.has_variance = cond.has_variance
        self.estimates_noise = cond.estimates_noise

    def forward(self, x: Tensor, t: Time | Level, **condition: Any) -> Prediction:
        """The guided prediction at x of shape (B, *event); the condition goes to ``cond``."""
        level = self.sde.level(t, x)
        w = self.weight_at(level, x)
        return mixed(self.uncond(x, level), self.cond(x, level, **condition), w)

    def rows(self, index: Tensor) -> ClassifierFree:
        """The model of some rows: conditions and weights follow."""
        return ClassifierFree(self.cond.rows(index), self.uncond.rows(index), self.weight_of(index))

    @property
    def condition(self) -> dict[str, Any]:
        """The conditions bound to both models, those of the second under ``uncond.``, and a weight of one a row."""
        apart = {f"uncond.{name}": value for name, value in self.uncond.condition.items()}
        return {**super().condition, **apart, **self.cond.condition}

    @property
    def dtype(self) -> torch.dtype:
        """That of ``cond``."""
        return self.cond.dtype
