"""A loss on data with levels: dequantised afresh at every step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..errors import InvalidArgument, InvalidType, batch, check_source, describe, number
from ..losses import DenoisingScoreMatching
from ..models.base import ScoreModel, check_model
from ..types import NoiseSource
from .base import dequantise, spread


@dataclass(frozen=True)
class Dequantised:
    """Denoising score matching on x0 + bin_width (u - 1/2), with a new u whenever a row is seen.

    A model so trained is of the dequantised data's density, whose bits per dimension count; one trained on the bare
    levels is of points, and its likelihood grows without bound.

    ``bin_width``: as of ``dequantise``. ``loss``: what is asked of the dequantised rows.
    """

    bin_width: float
    loss: DenoisingScoreMatching = field(default_factory=DenoisingScoreMatching)

    def __post_init__(self) -> None:
        number("Dequantised", "bin_width", self.bin_width, above=0.0)
        if not callable(getattr(self.loss, "per_sample", None)) or isinstance(self.loss, type):
            raise InvalidType(
                f"Dequantised: loss must be one such as DenoisingScoreMatching(), got {describe(self.loss)}"
            )

    def __call__(self, model: ScoreModel, x0: Tensor, noise: NoiseSource, **condition: Any) -> Tensor:
        """The loss of a batch x0, (B, *event), as a scalar tensor."""
        check_model("Dequantised", model)
        if not len(batch("Dequantised", "x0", x0)):
            raise InvalidArgument("Dequantised: x0 must hold at least one row, got none")
        check_source("Dequantised", noise)
        return self.loss(model, dequantise(x0, self.bin_width, noise), noise, **condition)

    def per_sample(self, model: ScoreModel, x0: Tensor, noise: NoiseSource, **condition: Any) -> Tensor:
        """The loss of each row, (B, *event) -> (B,), unchecked."""
        return self.loss.per_sample(model, spread(x0, self.bin_width, noise), noise, **condition)
