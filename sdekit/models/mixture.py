"""The exact model of a Gaussian mixture: the oracle."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..errors import MOST, InvalidArgument, InvalidType, check_source, describe, whole
from ..sdes.base import SDE, Level
from ..sdes.gaussian import GaussianLevel, GaussianSDE
from ..types import NoiseSource, Time, lincomb
from .base import GaussianPrediction, ScoreModel, gaussian, gaussian_level


class GaussianMixture(ScoreModel):
    """The exact model of data from sum_k w_k N(mu_k, C_k), with full covariances or variances alone.

    Every marginal is again a mixture, p_t(x) = sum_k w_k N(x; alpha mu_k, alpha^2 C_k + sigma^2 I), so that with
    V_k = alpha^2 C_k + sigma^2 I and responsibilities r_k = p_t(k | x)

        x0 = sum_k r_k (mu_k + alpha C_k V_k^-1 (x - alpha mu_k)),    eps = sigma sum_k r_k V_k^-1 (x - alpha mu_k).

    ``weights``: (K,), positive, normalised here. ``means``: (K, *event). ``covariances``: (K, D, D) with D = numel of
    the event, or variances as a number, (K,) (isotropic) or (K, *event) (diagonal), for which no D x D matrix is made.
    Stored in the dtype of ``means``, answers in the dtype of x.

    Raises InvalidArgument for shapes that do not fit, weights that are not positive and finite, and covariances that
    are not symmetric or not positive semi-definite.
    """

    sde: GaussianSDE
    weights: Tensor
    means: Tensor
    values: Tensor
    vectors: Tensor | None

    def __init__(self, sde: SDE, weights: Any, means: Any, covariances: Any):
        super().__init__()
        self.sde = gaussian("GaussianMixture", sde)
        means = _real("means", means)
        weights, covariances = _real("weights", weights, means), _real("covariances", covariances, means)
        if weights.ndim != 1 or len(weights) == 0 or not bool((weights > 0).all()):
            raise InvalidArgument(f"GaussianMixture: weights must be positive, of shape (K,), got {describe(weights)}")
        if means.ndim == 0 or len(means) != len(weights):
            raise InvalidArgument(
                f"GaussianMixture: means must be of shape (K, *event) with K = {len(weights)}, got {describe(means)}"
            )
        self.event = tuple(means.shape[1:])
        values, vectors = _eigen(covariances, means)
        self.register_buffer("weights", weights / weights.sum())
        self.register_buffer("means", means.reshape(len(means), -1))
        self.register_buffer("values", values)
        self.register_buffer("vectors", vectors)

    def _parts(self, x: Tensor, level: GaussianLevel) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """In the eigenbasis of each C_k: x - alpha mu_k, C_k, V_k; and the joint log-density of x and k, (B, K)."""
        if x.shape[1:] != self.event:
            raise InvalidArgument(f"GaussianMixture: x must be of shape (B, *{self.event}), got {tuple(x.shape)}")
        alpha, sigma = (
            v.reshape(-1, 1, 1).to(x.dtype) if isinstance(v, Tensor) else v for v in (level.alpha, level.sigma)
        )
        means, values = self.means.to(x), self.values.to(x)
        y = x.reshape(len(x), 1, means.shape[1]) - alpha * means
        if self.vectors is not None:
            y = torch.einsum("bkd,kde->bke", y, self.vectors.to(x))
        variance = alpha * alpha * values + sigma * sigma
        log_joint = (
            self.weights.to(x).log()
            - 0.5 * (y * y / variance + variance.log()).sum(-1)
            - 0.5 * y.shape[-1] * math.log(2 * math.pi)
        )
        return y, values, variance, log_joint

    def forward(self, x: Tensor, t: Time | Level, **condition: Any) -> GaussianPrediction:
        """The exact prediction at x of shape (B, *event)."""
        if condition:
            raise InvalidArgument(f"GaussianMixture: condition must be empty, got {', '.join(condition)}")
        level = gaussian_level("GaussianMixture", self.sde, t, x)
        narrow, x = x, wide(x)
        y, values, variance, log_joint = self._parts(x, level)
        r = torch.softmax(log_joint, -1)
        whitened = y / variance
        mean = (r @ self.means.to(x)).reshape(x.shape)
        pull = self._mixed(r, whitened).reshape(x.shape)
        shrink = self._mixed(r, whitened * values).reshape(x.shape)
        x0 = lincomb(level.alpha, shrink, 1.0, mean)
        # v = alpha eps - sigma x0: from it x0 is well conditioned where sigma is large, and eps where it is small
        value = lincomb(level.alpha * level.sigma, pull, -level.sigma, x0)
        return GaussianPrediction(narrow, level, value.to(narrow.dtype), -level.sigma, level.alpha)

    def _mixed(self, r: Tensor, y: Tensor) -> Tensor:
        """The mean over components of (B, K, D) in their eigenbases, as (B, D)."""
        if self.vectors is None:
            return torch.einsum("bk,bkd->bd", r, y)
        return torch.einsum("bk,bke,kde->bd", r, y, self.vectors.to(y))

    def covariances(self) -> Tensor:
        """The covariances of the components: (K, D, D)."""
        if self.vectors is None:
            return torch.diag_embed(self.values)
        return (self.vectors * self.values[:, None]) @ self.vectors.mT

    def log_prob(self, x: Tensor, t: Time | Level) -> Tensor:
        """log p_t of each row of x, in nats: (B, *event) -> (B,)."""
        level = gaussian_level("GaussianMixture", self.sde, t, x)
        return torch.logsumexp(self._parts(wide(x), level)[3], -1).to(x.dtype)

    def sample(self, n: int, noise: NoiseSource, t: Time | Level | None = None) -> Tensor:
        """n draws of p_t, or of the data themselves without t: (n, *event) in the mixture's dtype."""
        n = whole("GaussianMixture.sample", "n", n, at_least=0, at_most=MOST)
        check_source("GaussianMixture.sample", noise)
        u = noise.uniform(n, stream="component", device=self.means.device)
        k = torch.searchsorted(self.weights.to(torch.float64).cumsum(0), u).clamp(max=len(self.weights) - 1)
        z = noise.normal((n, self.means.shape[1]), stream="data", dtype=self.means.dtype, device=self.means.device)
        # one product a component: no (n, D, D) tensor
        x0 = self.means[k]
        for i in range(len(self.weights)):
            rows = (k == i).nonzero()[:, 0]
            off = z[rows] * self.values[i].sqrt()
            x0[rows] += off if self.vectors is None else off @ self.vectors[i].T
        x0 = x0.reshape(n, *self.event)
        if t is None:
            return x0
        level = gaussian_level("GaussianMixture", self.sde, t, x0)
        eps = noise.normal(x0.shape, stream="perturb", dtype=x0.dtype, device=x0.device)
        return lincomb(level.alpha, x0, level.sigma, eps)

    def extra_repr(self) -> str:
        """The process, the number of components and the shape of an event."""
        return f"sde={self.sde}, components={len(self.weights)}, event={self.event}"


def wide(x: Tensor) -> Tensor:
    """x in float32 at least: squares of half-precision numbers overflow."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _real(name: str, value: Any, like: Tensor | None = None) -> Tensor:
    """The value as a finite real tensor, in the dtype and on the device of another where there is one."""
    try:
        # python numbers straight into the dtype: a float is not first rounded to the default one
        python = not isinstance(value, Tensor) and not hasattr(value, "dtype")
        tensor = torch.as_tensor(value, dtype=like.dtype if python and like is not None else None)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidType(f"GaussianMixture: {name} must be numbers, got {describe(value)}") from error
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise InvalidType(f"GaussianMixture: {name} must be real numbers, got {describe(tensor)}")
    tensor = tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())
    tensor = tensor if like is None else tensor.to(like)
    if not bool(torch.isfinite(tensor).all()):
        raise InvalidArgument(f"GaussianMixture: {name} must be finite, got {describe(tensor)} with NaN or infinity")
    return tensor


def _eigen(covariances: Tensor, means: Tensor) -> tuple[Tensor, Tensor | None]:
    """Eigenvalues (K, D) and eigenvectors (K, D, D), in the columns, of the covariances; None for the axes."""
    k, event = len(means), means.shape[1:]
    d = math.prod(event)
    vectors = None
    if covariances.shape == (k, d, d):
        if not torch.allclose(covariances, covariances.mT, rtol=1e-5, atol=1e-7):
            raise InvalidArgument(f"GaussianMixture: covariances must be symmetric, got {describe(covariances)}")
        values, vectors = torch.linalg.eigh(covariances)
    elif covariances.shape == means.shape or covariances.shape in ((), (k,)):
        spread = covariances if covariances.shape == means.shape else covariances.reshape(-1, *(1,) * len(event))
        values = spread.expand(means.shape).reshape(k, d).clone()
    else:
        raise InvalidArgument(
            f"GaussianMixture: covariances must be of shape ({k}, {d}, {d}), {tuple(means.shape)}, ({k},) or (), "
            f"got {describe(covariances)}"
        )
    if float(values.min()) < -1e-6 * float(values.abs().max()):
        raise InvalidArgument(
            f"GaussianMixture: covariances must be positive semi-definite, got an eigenvalue of {float(values.min()):g}"
        )
    return values.clamp(min=0.0), vectors
