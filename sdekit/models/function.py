"""A model from a plain function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..errors import InvalidArgument, InvalidType, describe
from ..sdes.base import SDE, Level
from ..sdes.gaussian import GaussianLevel, GaussianSDE
from ..types import Scalar, Time
from .base import (
    GaussianPrediction,
    Prediction,
    ScoreModel,
    ScorePrediction,
    check_output,
    gaussian,
    gaussian_level,
    of_noise,
)

Function = Callable[..., Tensor]

TARGETS: dict[str, Callable[[GaussianLevel], tuple[Scalar, Scalar]]] = {
    "x0": lambda level: (1.0, 0.0),
    "eps": lambda level: (0.0, 1.0),
    "score": lambda level: (0.0, -1.0 / level.sigma),
    # the flow's velocity is alpha' x0 + sigma' eps, with alpha' = f alpha and sigma' = f sigma + g^2 / (2 sigma)
    "velocity": lambda level: (level.f * level.alpha, level.f * level.sigma + 0.5 * level.g2 / level.sigma),
}
"""(p, q) of the quantity p x0 + q eps, by the name of the view."""


class FromFunction(ScoreModel):
    """A model from any callable (x, t, **condition) that returns x0, eps, the score or the flow's velocity.

    Give exactly one of the four by name: ``FromFunction(sde, score=lambda x, t: -x / (1 + t * t))``. The function
    sees t as a python float where the batch shares it, and as a tensor (B, 1, ..., 1) in the dtype of x where each row
    has its own, so that plain arithmetic broadcasts; it returns the shape of x. A process with no closed-form kernel
    takes ``score`` alone.
    """

    def __init__(
        self,
        sde: SDE,
        *,
        eps: Function | None = None,
        score: Function | None = None,
        x0: Function | None = None,
        velocity: Function | None = None,
    ):
        super().__init__()
        given = {k: v for k, v in {"eps": eps, "score": score, "x0": x0, "velocity": velocity}.items() if v is not None}
        if len(given) != 1:
            raise InvalidArgument(
                f"FromFunction: exactly one of eps, score, x0, velocity must be given, got {', '.join(given) or 'none'}"
            )
        ((self.view, self.function),) = given.items()
        if not callable(self.function):
            raise InvalidType(f"FromFunction: {self.view} must be a callable (x, t), got {describe(self.function)}")
        if not isinstance(sde, SDE):
            raise InvalidType(f"FromFunction: sde must be a process such as VPSDE(), got {describe(sde)}")
        if self.view != "score":
            gaussian(f"FromFunction: {self.view}", sde)
        self.sde = sde
        self.estimates_noise = isinstance(sde, GaussianSDE) and of_noise(sde, TARGETS[self.view])

    def forward(self, x: Tensor, t: Time | Level, **condition: Any) -> Prediction:
        """The prediction at x of shape (B, *event)."""
        level = (
            self.sde.level(t, x)
            if not isinstance(self.sde, GaussianSDE)
            else gaussian_level("FromFunction", self.sde, t, x)
        )
        time = level.t.to(x.dtype) if isinstance(level.t, Tensor) else level.t
        value = check_output("FromFunction", self.function(x, time, **condition), x).to(x.dtype)
        if isinstance(level, GaussianLevel):
            return GaussianPrediction(x, level, value, *TARGETS[self.view](level))
        return ScorePrediction(x, level, value)

    def extra_repr(self) -> str:
        """The process and the view that the function gives."""
        return f"sde={self.sde}, view={self.view}"
