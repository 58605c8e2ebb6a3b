"""Priors: the densities that sampling starts from, in place of p_T."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InvalidArgument, InvalidType, check_source, describe, floating, number, real, sizes
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
        for name, value in (("mean", mean), ("std", std)):
            if not isinstance(value, Tensor):
                number("NormalPrior", name, value, above=0.0 if name == "std" else None)
                continue
            if value.is_complex() or value.dtype == torch.bool:
                raise InvalidType(f"NormalPrior: {name} must be real, got {describe(value)}")
            if not bool((torch.isfinite(value) & ((value > 0) | (name == "mean"))).all()):
                wanted = "finite" if name == "mean" else "finite and > 0"
                raise InvalidArgument(f"NormalPrior: {name} must be {wanted} in every coordinate, got {value.tolist()}")
        self.mean = mean
        self.std = std

    def sample(
        self, shape: Sequence[int], noise: NoiseSource, *, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """mean + std z with z standard normal, of shape (B, *event)."""
        check_source("NormalPrior", noise)
        shape = sizes("NormalPrior", "shape", shape)
        dtype = None if dtype is None else floating("NormalPrior", "dtype", dtype)
        z = noise.normal(shape, stream="prior", dtype=dtype, device=device)
        mean, std = self._moments(z)
        return z * std + mean

    def log_prob(self, x: Tensor) -> Tensor:
        """-|(x - mean) / std|^2 / 2 - sum log(std) - D log(2 pi) / 2, in nats: (B, *event) -> (B,)."""
        if real("NormalPrior", "x", x).ndim == 0:
            raise InvalidArgument("NormalPrior: x must be of shape (B, *event), got a tensor of shape ()")
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
