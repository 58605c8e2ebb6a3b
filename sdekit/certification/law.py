"""A sampler's law on a mixture on the line, where the score is not affine: propagated, not sampled.

A deterministic sampler is followed on quantiles. The probability flow keeps a point's quantile, x_s = F_s^-1(F_t(x_t)),
so that the root mean square of its error is the Wasserstein distance between the two laws where the map is monotone.

A stochastic one is a Markov chain, where it has no memory: u_k(x) = E[f(x_N) | x_k = x] is found backwards,
u_k(x) = E u_{k+1}(step(x, z)), by Gauss-Hermite quadrature over the draws of a step and a quintic spline over x. With
f = x, x^2 and cosines and sines, E f(x_N) - E f(x) for x from the exact law is the error of the law.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..grids import log_snr
from ..models import GaussianMixture
from ..sdes import GaussianLevel, GaussianSDE
from .problems import F64, Listed, mixture_1d
from .subject import Subject

QUANTILES = torch.linspace(0.002, 0.998, 250, dtype=F64)
POINTS = 121
"""Of the spline, over 9 deviations to either side."""
NODES = {1: 16, 2: 6}
"""Of the quadrature in each draw, by the number of draws a step."""


def _marginal(model: GaussianMixture, level: GaussianLevel) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, means and standard deviations of p_t on the line: (K,) each."""
    alpha, sigma = float(level.alpha), float(level.sigma)
    return model.weights, alpha * model.means[:, 0], (alpha**2 * model.values[:, 0] + sigma**2).sqrt()


def quantiles(model: GaussianMixture, level: GaussianLevel, u: Tensor) -> Tensor:
    """F_t^-1(u) of the mixture, by bisection: the shape of u."""
    weights, means, stds = (v[None] for v in _marginal(model, level))
    low = (means - 12 * stds).min().expand(u.shape)
    high = (means + 12 * stds).max().expand(u.shape)
    for _ in range(80):
        middle = 0.5 * (low + high)
        above = (weights * torch.special.ndtr((middle[:, None] - means) / stds)).sum(-1) > u
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return 0.5 * (low + high)


def flow_error(subject: Subject, sde: GaussianSDE, steps: int) -> Tensor:
    """The errors of 250 quantiles of a run on a log-SNR grid, over the root of 250: (250,)."""
    model, times = mixture_1d(sde), log_snr(sde, steps)
    levels = sde.levels(times)
    start = quantiles(model, levels[0], QUANTILES)[:, None]
    end = subject.run(model, start, times, Listed([]))
    error: Tensor = (end[:, 0] - quantiles(model, levels[-1], QUANTILES)) / len(QUANTILES) ** 0.5
    return error


FUNCTIONS = 6


def _observed(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The functions whose expectations tell the law: (..., 6)."""
    return np.stack([x, x * x, np.cos(x), np.sin(x), np.cos(2 * x), np.sin(2 * x)], -1)


def _expected(model: GaussianMixture, level: GaussianLevel) -> NDArray[np.float64]:
    """Their exact expectations: (6,)."""
    w, m, s = (v.numpy() for v in _marginal(model, level))
    waves = [f(k * m) * np.exp(-0.5 * (k * s) ** 2) for k in (1, 2) for f in (np.cos, np.sin)]
    result: NDArray[np.float64] = np.array([(w * v).sum() for v in (m, m * m + s * s, *waves)])
    return result


def weak_error(subject: Subject, sde: GaussianSDE, steps: int, draws: int) -> Tensor:
    """The errors of six expectations at t_min, of a memoryless sampler of 1 or 2 draws a step: (6,)."""
    from scipy.interpolate import make_interp_spline

    model, times = mixture_1d(sde), log_snr(sde, steps)
    levels = sde.levels(times)
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES[draws])
    z = np.stack(np.meshgrid(*[nodes] * draws, indexing="ij"), -1).reshape(-1, draws)
    w = np.prod(np.meshgrid(*[weights / weights.sum()] * draws, indexing="ij"), axis=0).reshape(-1)
    y = np.linspace(-9.0, 9.0, POINTS)

    def frame(level: GaussianLevel) -> tuple[float, float]:
        p, m, s = _marginal(model, level)
        mean = float((p * m).sum())
        return mean, math.sqrt(float((p * (m * m + s * s)).sum()) - mean**2)

    centre, spread = frame(levels[-1])
    after = _observed(centre + spread * y)
    for k in reversed(range(steps)):
        spline = make_interp_spline(y, after, k=5)
        here, scale = frame(levels[k])
        x = torch.from_numpy(here + scale * y).repeat_interleave(len(z))[:, None]
        source = Listed([torch.from_numpy(np.tile(z[:, j], len(y)))[:, None] for j in range(draws)])
        end = subject.run(model, x, times[k : k + 2], source)[:, 0].numpy()
        inside = np.clip((end - centre) / spread, -9.0, 9.0)
        after = (spline(inside).reshape(len(y), len(z), FUNCTIONS) * w[:, None]).sum(1)
        centre, spread = here, scale
    p, m, s = (v.numpy() for v in _marginal(model, levels[0]))
    node, weight = np.polynomial.hermite_e.hermegauss(60)
    spline = make_interp_spline(y, after, k=5)
    start = (m[:, None] + s[:, None] * node - centre) / spread
    found = (p[:, None, None] * (weight / weight.sum())[:, None] * spline(start)).sum((0, 1))
    return torch.from_numpy(found - _expected(model, levels[-1]))


PROJECTIONS = 8


def plane_error(x: Tensor, model: GaussianMixture, level: GaussianLevel) -> float:
    """The largest distance between the distribution functions of samples in the plane and of the exact law, over eight
    projections onto lines."""
    worst = 0.0
    alpha, sigma = float(level.alpha), float(level.sigma)
    covariances = model.covariances()
    n = len(x)
    ranks = torch.arange(1, n + 1, dtype=F64) / n
    for k in range(PROJECTIONS):
        angle = math.pi * k / PROJECTIONS
        along = torch.tensor([math.cos(angle), math.sin(angle)], dtype=F64)
        variances = torch.einsum("d,kde,e->k", along, covariances, along)
        means, stds = alpha * (model.means @ along), (alpha**2 * variances + sigma**2).sqrt()
        v = (x.double() @ along).sort().values
        cdf = (model.weights[None] * torch.special.ndtr((v[:, None] - means[None]) / stds[None])).sum(-1)
        worst = max(worst, float((cdf - ranks).abs().max()), float((cdf - ranks + 1 / n).abs().max()))
    return worst
