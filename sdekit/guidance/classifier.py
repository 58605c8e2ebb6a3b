"""Classifier guidance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidArgument, InvalidType, describe
from ..models.base import Prediction, ScoreModel, check_model
from ..sdes.base import Level
from ..types import Time
from .base import Guidance, Weight, moved


class Classifier(Guidance):
    """Classifier guidance: score + w grad_x log p(y | x_t = x), from any differentiable log-probability.

    w = 1 is Bayes' rule, the score of p(x | y); other weights give that of p(x) p(y | x)^w at each level. Dhariwal &
    Nichol 2021, eq. 14 and algorithm 2 (arXiv:2105.05233); Song et al. 2021, eq. 14 (arXiv:2011.13456).

    ``log_prob(x, t, **condition)``: x of shape (B, *event) and t of shape (B,) in the dtype of x -> (B,) nats, up to
    a term that does not depend on x; a function or a module, which has learned to read *noisy* data. Conditions that
    are given go to it; ``model`` knows what is bound to it. ``weight``: a number, a tensor (B,) of one a row, or a
    function of the level. For any process, also one without alpha and sigma.

    The gradient is autograd's, without gradients in the caller, and with them where the caller differentiates, as an
    exact likelihood does. ``log_prob`` is asked once an evaluation; it is not of the model and not counted.

    Raises InvalidType for what is no model or cannot be called; the errors of the weight; and at the first evaluation
    InvalidArgument where ``log_prob`` returns another shape, or a value that autograd cannot follow to x.

    Example: ``x = sample(Classifier(model, log_prob, 2.0).given(y=labels), (len(labels), 2))``.
    """

    def __init__(self, model: ScoreModel, log_prob: Callable[..., Tensor], weight: Weight = 1.0):
        check_model("Classifier", model)
        if not callable(log_prob):
            raise InvalidType(f"Classifier: log_prob must be a callable (x, t), got {describe(log_prob)}")
        super().__init__(model.sde, weight)
        self.model = model
        self.log_prob = log_prob
        self.evaluations = model.evaluations
        self.divisible = model.divisible
        self.has_variance = model.has_variance
        self.estimates_noise = model.estimates_noise

    def forward(self, x: Tensor, t: Time | Level, **condition: Any) -> Prediction:
        """The guided prediction at x of shape (B, *event); the condition goes to ``log_prob``."""
        level = self.sde.level(t, x)
        w = self.weight_at(level, x)
        return moved(self.model(x, level), w, self._slope(x, level, condition))

    def _slope(self, x: Tensor, level: Level, condition: dict[str, Any]) -> Tensor:
        """grad_x log p(y | x), (B, *event): part of the caller's graph where there is one."""
        follow = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            # clones: autograd refuses what was made in inference mode
            x = x if follow and x.requires_grad else x.clone().detach().requires_grad_()
            time = torch.as_tensor(level.t, dtype=x.dtype, device=x.device).reshape(-1).expand(len(x)).clone()
            free = {
                name: value.clone() if isinstance(value, Tensor) and value.is_inference() else value
                for name, value in condition.items()
            }
            value = self.log_prob(x, time, **free)
            if not isinstance(value, Tensor) or value.shape != x.shape[:1]:
                raise InvalidArgument(f"Classifier: log_prob must return (B,) = ({len(x)},), got {describe(value)}")
            if value.requires_grad:
                (slope,) = torch.autograd.grad(value.sum(), x, create_graph=follow, allow_unused=True)
                if slope is not None:
                    return slope
        raise InvalidArgument("Classifier: log_prob must be differentiable in x, got a value without a gradient")

    def rows(self, index: Tensor) -> Classifier:
        """The model of some rows: conditions and weights follow."""
        return Classifier(self.model.rows(index), self.log_prob, self.weight_of(index))

    @property
    def condition(self) -> dict[str, Any]:
        """The condition bound to the model, and a weight of one a row."""
        return {**super().condition, **self.model.condition}

    @property
    def dtype(self) -> torch.dtype:
        """That of ``model``: a classifier of another dtype changes nothing."""
        return self.model.dtype
