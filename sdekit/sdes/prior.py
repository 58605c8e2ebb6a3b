"""Priors: the densities that sampling starts from, in place of p_T."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InvalidArgument, describe
from ..types import Device, NoiseSource


class Prior(ABC):
    """The density that sampling starts from, in place of p_T: its draws and its log-density."""

    @abstractmethod
    def sample(
        self, shape: Sequence[int], noise: NoiseSource, *, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """Draws of shape (B, *event)."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density of each row of x, in nats: (B, *event) -> (B,)."""


class NormalPrior(Prior):
    """N(mean, std^2): every coordinate independent; mean and std are numbers or tensors of the event's shape."""

    def __init__(self, mean: float | Tensor = 0.0, std: float | Tensor = 1.0):
        self.mean = mean
        self.std = std

    def sample(
        self, shape: Sequence[int], noise: NoiseSource, *, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """mean + std z with z standard normal, of shape (B, *event)."""
        z = noise.normal(shape, stream="prior", dtype=dtype, device=device)
        mean, std = self._moments(z)
        return z * std + mean

    def log_prob(self, x: Tensor) -> Tensor:
        """-|(x - mean) / std|^2 / 2 - sum log(std) - D log(2 pi) / 2, in nats: (B, *event) -> (B,)."""
        mean, std = self._moments(x)
        z = ((x - mean) / std).flatten(1) if x.ndim > 1 else ((x - mean) / std)[:, None]
        return -0.5 * (z * z).sum(1) - std.expand(x.shape[1:]).log().sum() - 0.5 * z.shape[1] * math.log(2 * math.pi)

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std beside x. Raises InvalidArgument where they are neither numbers nor of the event's shape."""
        mean, std = (torch.as_tensor(value, dtype=x.dtype, device=x.device) for value in (self.mean, self.std))
        for name, value in (("mean", mean), ("std", std)):
            if value.ndim and value.shape != x.shape[1:]:
                raise InvalidArgument(
                    f"NormalPrior: {name} must be a number or of the event's shape {tuple(x.shape[1:])}, "
                    f"got {describe(value)}"
                )
        return mean, std

    def __repr__(self) -> str:
        return f"NormalPrior(mean={brief(self.mean)}, std={brief(self.std)})"


def brief(value: float | Tensor) -> str:
    """A moment in a few words, for a repr."""
    return describe(value) if isinstance(value, Tensor) else f"{value:g}"
