"""A loss on data with levels: dequantised afresh at every step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..errors import InvalidArgument, InvalidType, batch, check_source, describe, number
from ..losses import DenoisingScoreMatching
from ..models.base import ScoreModel, check_model
from ..types import NoiseSource
from .base import spread
from .logit import Logit


@dataclass(frozen=True)
class Dequantised:
    """Denoising score matching on x0 + bin_width (u - 1/2), with a new u whenever a row is seen.

    A model so trained is of the dequantised data's density, whose bits per dimension count; one trained on the bare
    levels is of points, and its likelihood grows without bound.

    ``bin_width``: as of ``dequantise``. ``loss``: what is asked of the dequantised rows. ``transform``: a
    :class:`Logit` that they go through first, whose ends hold every level's whole bin; the model is then of its image.
    """

    bin_width: float
    loss: DenoisingScoreMatching = field(default_factory=DenoisingScoreMatching)
    transform: Logit | None = None

    def __post_init__(self) -> None:
        number("Dequantised", "bin_width", self.bin_width, above=0.0)
        if not callable(getattr(self.loss, "per_sample", None)) or isinstance(self.loss, type):
            raise InvalidType(
                f"Dequantised: loss must be one such as DenoisingScoreMatching(), got {describe(self.loss)}"
            )
        if self.transform is not None and not isinstance(self.transform, Logit):
            raise InvalidType(f"Dequantised: transform must be a Logit or None, got {describe(self.transform)}")

    def __call__(self, model: ScoreModel, x0: Tensor, noise: NoiseSource, **condition: Any) -> Tensor:
        """The loss of a batch x0, (B, *event), as a scalar tensor."""
        check_model("Dequantised", model)
        if not len(batch("Dequantised", "x0", x0)):
            raise InvalidArgument("Dequantised: x0 must hold at least one row, got none")
        check_source("Dequantised", noise)
        return self.loss(model, self._spread(x0, noise), noise, **condition)

    def per_sample(self, model: ScoreModel, x0: Tensor, noise: NoiseSource, **condition: Any) -> Tensor:
        """The loss of each row, (B, *event) -> (B,), unchecked."""
        return self.loss.per_sample(model, self._spread(x0, noise), noise, **condition)

    def _spread(self, x0: Tensor, noise: NoiseSource) -> Tensor:
        x = spread(x0, self.bin_width, noise)
        return x if self.transform is None else self.transform(x)
