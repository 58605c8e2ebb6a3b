"""The logit of bounded data: a density on all of space for a model, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidArgument, batch, number


@dataclass(frozen=True)
class Logit:
    """y = logit(margin + (1 - 2 margin) (x - low) / (high - low)), coordinate by coordinate, for x in [low, high].

    (Dinh et al. 2017, section 4.1, arXiv:1605.08803; with a margin on both sides Papamakarios et al. 2017,
    arXiv:1705.07057.) A model of y gives a density of x that ends at low and high, where one of x itself must learn two
    cliffs: log p(x) = log p(y) + ``log_slope``(x). Of data with levels, low and high are half a level beyond the first
    and the last one.

    Example: ``Logit(-0.5 / 255, 255.5 / 255)``, for 8-bit images in [0, 1] that ``dequantise`` has spread.
    """

    low: float
    high: float
    margin: float = 0.05

    def __post_init__(self) -> None:
        number("Logit", "high", self.high, above=number("Logit", "low", self.low))
        number("Logit", "margin", self.margin, above=0.0, below=0.5)

    @property
    def _scale(self) -> float:
        return (1 - 2 * self.margin) / (self.high - self.low)

    def __call__(self, x: Tensor) -> Tensor:
        """y, of the shape and dtype of x, (B, *event); numbers outside [low, high] are refused."""
        return torch.logit(self._share(x))

    def inverse(self, y: Tensor) -> Tensor:
        """x, of the shape and dtype of y; what lies beyond low and high belongs to the margin."""
        y = batch("Logit.inverse", "y", y)
        return self.low + (torch.sigmoid(y) - self.margin) / self._scale

    def log_slope(self, x: Tensor) -> Tensor:
        """log |det dy/dx| of each row, (B,)."""
        share = self._share(x)
        each = math.log(self._scale) - torch.log(share) - torch.log1p(-share)
        return each.reshape(len(x), -1).sum(1)

    def _share(self, x: Tensor) -> Tensor:
        x = batch("Logit", "x", x)
        slack = 1e-6 * (self.high - self.low)
        outside = (x < self.low - slack) | (x > self.high + slack)
        if bool(outside.any()):
            raise InvalidArgument(
                f"Logit: x must lie between {self.low:g} and {self.high:g}, got {float(x[outside][0]):g}"
            )
        return self.margin + self._scale * (x - self.low)
