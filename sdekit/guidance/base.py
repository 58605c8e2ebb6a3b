"""The contract of guidance: a model with a weight, and two ways to change a prediction."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from typing import Any, Self, TypeAlias

import torch
from torch import Tensor

from ..errors import InvalidArgument, InvalidType, describe, number
from ..models.base import GaussianPrediction, Prediction, ScoreModel
from ..sdes.base import SDE, Level
from ..types import Scalar, align, lincomb

Weight: TypeAlias = float | Tensor | Callable[[Level], Scalar]
"""How strongly to guide: a number, a tensor (B,) of one a row, or a function of the level that returns either."""


class Guidance(ScoreModel, ABC):
    """A model that guides another by a weight.

    ``weight``: a number; a tensor (B,) of one a row, which follows its rows; or a function of the level, asked at each
    evaluation. Weights are kept in float64, whatever the model is cast to.

    Raises InvalidType or InvalidArgument, naming the weight, for one that is none of these or not finite; and where a
    function returns no number and no tensor of one a row.
    """

    def __init__(self, sde: SDE, weight: Weight):
        super().__init__()
        self.sde = sde
        self.weight = self._checked(weight)

    def _checked(self, weight: Any) -> Weight:
        name = type(self).__name__
        if isinstance(weight, Tensor) and weight.ndim:
            if weight.ndim > 1 or weight.is_complex() or weight.dtype == torch.bool:
                raise InvalidArgument(
                    f"{name}: weight must be real, of shape (B,) where it is a tensor, got {describe(weight)}"
                )
            if not bool(torch.isfinite(weight).all()):
                raise InvalidArgument(f"{name}: weight must be finite, got {describe(weight)} with NaN or infinity")
            return weight.detach().to(torch.float64)
        if callable(weight):
            return weight  # type: ignore[no-any-return]
        try:
            return number(name, "weight", weight)
        except InvalidType as error:
            raise InvalidType(
                f"{name}: weight must be a number, a tensor (B,) or a function of the level, got {describe(weight)}"
            ) from error

    def weight_at(self, level: Level, x: Tensor) -> Scalar:
        """The weight at a level: a float, or a float64 tensor aligned with x of shape (B, *event)."""
        weight = self.weight(level) if callable(self.weight) else self.weight
        if not isinstance(weight, Tensor) or weight.ndim == 0:
            return number(type(self).__name__, "weight", weight)
        if weight.numel() != len(x):
            raise InvalidArgument(
                f"{type(self).__name__}: weight must hold one entry a row, got {describe(weight)} for {len(x)} rows"
            )
        return align(weight, x)

    def weight_of(self, index: Tensor) -> Weight:
        """The weight of some rows of the batch, (n,) indices."""
        return self.weight[index.to(self.weight.device)] if isinstance(self.weight, Tensor) else self.weight

    @property
    def condition(self) -> dict[str, Any]:
        """What follows the rows of the batch, by name."""
        return {"weight": self.weight} if isinstance(self.weight, Tensor) else {}

    def extra_repr(self) -> str:
        """The weight."""
        return f"weight={self.weight}"

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        if isinstance(self.weight, Tensor):
            # only where it stands: a weight of 1.1 is not 1.1 in bfloat16
            self.weight = self.weight.to(fn(self.weight).device)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]


def mixed(one: Any, other: Any, w: Scalar) -> Prediction:
    """(1 - w) one + w other, of two predictions at the same x and level, in the terms in which ``other`` is given.

    Every view is mixed so, because views are affine in each other and the weights sum to 1. An eps-network's eps is
    mixed as it is, an x0-network's x0. A learned variance is ``other``'s.
    """
    if not isinstance(other, GaussianPrediction):
        return other.with_score(lincomb(1.0 - w, one.score, w, other.score))  # type: ignore[no-any-return]
    value = lincomb(1.0 - w, one.mix(other.p, other.q), w, other.value)
    return GaussianPrediction(other.x, other.level, value, other.p, other.q, other.spread)


def moved(prediction: Any, w: Scalar, slope: Tensor) -> Prediction:
    """The prediction whose score is score + w slope, in the terms in which it is given.

    With x fixed, sigma^2 more score is alpha more x0 and sigma less eps: p x0 + q eps gains p sigma^2 / alpha - q sigma
    times w slope.
    """
    if not isinstance(prediction, GaussianPrediction):
        return prediction.with_score(lincomb(1.0, prediction.score, w, slope))  # type: ignore[no-any-return]
    level, p, q = prediction.level, prediction.p, prediction.q
    rate = p * level.sigma * level.sigma / level.alpha - q * level.sigma
    value = lincomb(1.0, prediction.value, w * rate, slope)
    return GaussianPrediction(prediction.x, level, value, p, q, prediction.spread)
