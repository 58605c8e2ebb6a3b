"""The prior that has the data's mean and covariance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InvalidArgument, InvalidType, batch, check_source, describe, floating, real, sizes
from ..types import Device, NoiseSource
from .gaussian import GaussianSDE
from .prior import Prior


class FittedPrior(Prior):
    """N(alpha_T m, alpha_T^2 C + sigma_T^2 I), with the mean m and the covariance C of data: p_T's own two moments.

    What it differs from p_T by is of the third order of alpha_T / sigma_T, where the standard prior is of the first.

    ``data``: (n, *event) with n > 1, of which the moments are taken in float64, C with the divisor n - 1. C has D^2
    numbers: of data of many coordinates, ``sde.with_prior(mean, std)`` takes D.

    Raises InvalidArgument for fewer than two rows, and InvalidType for a process without alpha and sigma.

    Example: ``log_likelihood(model, x, prior=FittedPrior(model.sde, train))``.
    """

    def __init__(self, sde: GaussianSDE, data: Tensor):
        if not isinstance(sde, GaussianSDE):
            raise InvalidType(f"FittedPrior: sde must be a process with alpha and sigma, got {describe(sde)}")
        data = batch("FittedPrior", "data", data).detach()
        if len(data) < 2:
            raise InvalidArgument(f"FittedPrior: data must hold at least two rows, got {len(data)}")
        rows = data.reshape(len(data), -1).double()
        end = sde.one(sde.t_max)
        alpha, sigma = float(end.alpha), float(end.sigma)
        centred = rows - rows.mean(0)
        covariance = alpha**2 * (centred.mT @ centred) / (len(rows) - 1)
        self.event = tuple(data.shape[1:])
        self.mean = alpha * rows.mean(0)
        self.root = torch.linalg.cholesky(covariance + sigma**2 * torch.eye(len(self.mean)).to(covariance))

    def sample(
        self, shape: Sequence[int], noise: NoiseSource, *, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """mean + L z with z standard normal and L L^T the covariance, of shape (B, *event)."""
        check_source("FittedPrior", noise)
        shape = sizes("FittedPrior", "shape", shape)
        if tuple(shape[1:]) != self.event:
            raise InvalidArgument(f"FittedPrior: shape must be (B, *event) with event {self.event}, got {shape}")
        dtype = None if dtype is None else floating("FittedPrior", "dtype", dtype)
        z = noise.normal(shape, stream="prior", dtype=dtype, device=device)
        mean, root = self.mean.to(z), self.root.to(z)
        drawn: Tensor = (z.reshape(len(z), len(mean)) @ root.mT + mean).reshape(z.shape)
        return drawn

    def log_prob(self, x: Tensor) -> Tensor:
        """-|L^-1 (x - mean)|^2 / 2 - sum log(L_ii) - D log(2 pi) / 2, in nats: (B, *event) -> (B,)."""
        if real("FittedPrior", "x", x).ndim == 0 or tuple(x.shape[1:]) != self.event:
            raise InvalidArgument(f"FittedPrior: x must be (B, *event) with event {self.event}, got {describe(x)}")
        mean, root = self.mean.to(x), self.root.to(x)
        gap = x.reshape(len(x), len(mean)) - mean
        z = torch.linalg.solve_triangular(root, gap.mT, upper=False)
        constant = root.diagonal().log().sum() + 0.5 * len(mean) * math.log(2 * math.pi)
        found: Tensor = -0.5 * z.square().sum(0) - constant
        return found

    def __repr__(self) -> str:
        return f"FittedPrior({len(self.mean)} coordinates)"
