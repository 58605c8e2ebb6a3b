"""A loss on data with levels: dequantised afresh at every step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..losses import DenoisingScoreMatching
from ..models.base import ScoreModel
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

    def __call__(self, model: ScoreModel, x0: Tensor, noise: NoiseSource, **condition: Any) -> Tensor:
        """The loss of a batch x0, (B, *event), as a scalar tensor."""
        return self.loss(model, dequantise(x0, self.bin_width, noise), noise, **condition)

    def per_sample(self, model: ScoreModel, x0: Tensor, noise: NoiseSource, **condition: Any) -> Tensor:
        """The loss of each row, (B, *event) -> (B,), unchecked."""
        return self.loss.per_sample(model, spread(x0, self.bin_width, noise), noise, **condition)
