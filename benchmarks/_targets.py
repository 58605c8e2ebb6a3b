"""Laws with an exact score: the targets of the samplers' benchmarks, and where the exact flow takes 512 starts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch

import sdekit as sk

F64 = torch.float64
HIGH, LOW = 80.0, 0.002
ROWS = 512
HELD_OUT = ("arc2", "gauss16", "aniso4", "far128")
"""Made after the rule of ``nfe=N`` was chosen on the others."""


class Target(NamedTuple):
    """A law with an exact score: a model of it, and where 512 starts end."""

    name: str
    model: sk.models.GaussianMixture
    start: torch.Tensor
    end: torch.Tensor


def rotated(d: int, low: float, high: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of a Gaussian with variances from low to high along random axes."""
    draw = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(d, d, generator=draw, dtype=F64))
    q = q * torch.sign(torch.diagonal(r))
    covariance = (q * torch.logspace(math.log10(low), math.log10(high), d, dtype=F64)) @ q.T
    mean = 0.5 * torch.randn(d, generator=torch.Generator().manual_seed(seed + 100), dtype=F64)
    return mean[None], 0.5 * (covariance + covariance.T)[None]


def laws() -> Iterator[tuple[str, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(name, weights, means, covariances): one Gaussian, or components of one variance each."""
    one = torch.ones(1, dtype=F64)
    yield "gauss2", one, *rotated(2, 0.01, 2.0, 1)
    yield "gauss64", one, *rotated(64, 0.01, 4.0, 3)
    draw = torch.Generator().manual_seed(7)
    places = torch.arange(-2, 3, dtype=F64) * 0.7
    weights = 1 + 2 * torch.rand(25, generator=draw, dtype=F64)
    yield (
        "gmm2",
        weights,
        torch.cartesian_prod(places, places),
        (0.05 + 0.05 * torch.rand(25, generator=draw, dtype=F64)) ** 2,
    )
    draw = torch.Generator().manual_seed(8)
    weights = 1 + 2 * torch.rand(40, generator=draw, dtype=F64)
    means = 0.9 * torch.randn(40, 16, generator=draw, dtype=F64)
    yield "gmm16", weights, means, (0.1 + 0.3 * torch.rand(40, generator=draw, dtype=F64)) ** 2
    draw = torch.Generator().manual_seed(99)
    turn = torch.arange(8, dtype=F64) * (math.pi / 4)
    yield (
        "ring",
        torch.ones(8, dtype=F64),
        2 * torch.stack([turn.cos(), turn.sin()], 1),
        torch.full((8,), 0.02, dtype=F64),
    )
    factor = 0.3 * torch.randn(6, 8, 8, generator=draw, dtype=F64)
    covariances = factor @ factor.mT + 0.01 * torch.eye(8, dtype=F64)
    weights = 0.5 + torch.rand(6, generator=draw, dtype=F64)
    yield "aniso8", weights, 1 + 1.5 * torch.randn(6, 8, generator=draw, dtype=F64), covariances
    means = 0.4 * torch.randn(10, 32, generator=draw, dtype=F64)
    yield "narrow32", torch.ones(10, dtype=F64), means, (0.02 + 0.2 * torch.rand(10, generator=draw, dtype=F64)) ** 2
    yield "gauss8", one, *rotated(8, 0.001, 1.0, 5)
    turn = torch.linspace(0, math.pi, 30, dtype=F64)
    means = torch.stack([1.5 * turn.cos(), turn.sin()], 1)
    yield "arc2", 1 + torch.arange(30, dtype=F64) / 30, means, torch.full((30,), 0.04, dtype=F64) ** 2
    yield "gauss16", one, *rotated(16, 0.005, 3.0, 11)
    draw = torch.Generator().manual_seed(123)
    factor = 0.4 * torch.randn(12, 4, 4, generator=draw, dtype=F64)
    covariances = factor @ factor.mT + 0.003 * torch.eye(4, dtype=F64)
    yield "aniso4", torch.ones(12, dtype=F64), 2 * torch.randn(12, 4, generator=draw, dtype=F64), covariances
    means = torch.randn(20, 128, generator=draw, dtype=F64)
    yield "far128", 0.3 + torch.rand(20, generator=draw, dtype=F64), means, torch.full((20,), 0.15, dtype=F64) ** 2


def targets(chosen: set[str]) -> Iterator[Target]:
    """The targets by name, as models of EDM's process that knows the data's mean and deviation."""
    for name, counts, means, covariances in laws():
        if name not in chosen:
            continue
        weights = counts / counts.sum()
        d = means.shape[1]
        mean = weights @ means
        own = covariances.diagonal(dim1=1, dim2=2).mean(1) if covariances.ndim == 3 else covariances
        variance = float(weights @ own + (weights @ (means - mean) ** 2).mean())
        sde = sk.EDMSDE(t_min=LOW, t_max=HIGH).with_prior(mean, math.sqrt(variance))
        model = sk.models.GaussianMixture(sde, weights, means, covariances)
        start = HIGH * torch.randn(ROWS, d, generator=torch.Generator().manual_seed(4242), dtype=F64)
        yield Target(name, model, start, flow(start, weights, means, covariances))


def flow(x: torch.Tensor, weights: torch.Tensor, means: torch.Tensor, covariances: torch.Tensor) -> torch.Tensor:
    """The ends of the probability flow dx / dlog(sigma) = x - D(x, sigma) from sigma = 80 to 0."""
    if len(means) == 1:
        values, axes = torch.linalg.eigh(covariances[0])
        return means + ((x - means) @ axes * torch.sqrt(values / (values + HIGH**2))) @ axes.T
    full = covariances.ndim == 3
    values, axes = torch.linalg.eigh(covariances) if full else (covariances[:, None], None)

    def denoised(x: torch.Tensor, sigma: float) -> torch.Tensor:
        off = x[:, None] - means
        if axes is not None:
            off = torch.einsum("bki,kij->bkj", off, axes)
        v = values + sigma**2
        logs = weights.log() - 0.5 * (off**2 / v + v.log()).sum(-1)
        share = torch.softmax(logs, 1)
        kept = off * (values / v)
        if axes is not None:
            kept = torch.einsum("bkj,kij->bki", kept, axes)
        return torch.einsum("bk,bki->bi", share, means + kept)

    logs = torch.linspace(math.log(HIGH), math.log(1e-6), 1501, dtype=F64).tolist()
    for u, v in itertools.pairwise(logs):
        h, sigma = v - u, [math.exp(w) for w in (u, 0.5 * (u + v), v)]
        k1 = x - denoised(x, sigma[0])
        k2 = (x + 0.5 * h * k1) - denoised(x + 0.5 * h * k1, sigma[1])
        k3 = (x + 0.5 * h * k2) - denoised(x + 0.5 * h * k2, sigma[1])
        k4 = (x + h * k3) - denoised(x + h * k3, sigma[2])
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x
