"""Where a likelihood's error comes from: the prior in place of p_T, and t_min in place of 0."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..density.flow import FlowWithDensity
from ..models.base import ScoreModel
from ..noise.named import Named
from ..sdes.gaussian import GaussianLevel, GaussianSDE
from ..solvers.probability_flow import InAngle
from ..types import NoiseSource

DRAWS = 8
"""Draws of the prior, a row, that the constant of its mismatch is estimated from."""

NODES = ((0.5 - 0.5 / math.sqrt(3), 0.5), (0.5 + 0.5 / math.sqrt(3), 0.5))
"""Gauss and Legendre's nodes and weights on [0, 1], exact to the third degree."""

PRIOR_NFE = (DRAWS + 1) * len(NODES)
"""Network evaluations of :func:`prior_mismatch`, a row."""

TRUNCATION_NFE = 3
"""Network evaluations of :func:`truncation`, a row."""

QUANTILE = 3.5
"""Student's 99.5 % quantile for the 7 degrees of freedom of 8 draws: 3.499."""


def prior_mismatch(model: ScoreModel, x_T: Tensor, density: Callable[[Tensor], Tensor], noise: NoiseSource) -> Tensor:
    """A bound of |log p_T(x_T) - log density(x_T)|, (B,), for the p_T whose score the model has.

    log p_T is known up to a constant, by the line integral of the score from a point in the middle of draws z of the
    process's prior; and the constant by E (p_T / q) = 1 under any q, estimated from the same draws with their weights
    q / prior: for q the prior itself, or the density, whichever draws agree on better. The bound is the difference that
    is found, and the 99.5 % quantile of Student's law of the constant.
    """
    sde = model.sde
    t = float(sde.t_max)
    draws = [sde.prior.sample(x_T.shape, Named(noise, k), dtype=x_T.dtype, device=x_T.device) for k in range(DRAWS)]
    middle = torch.stack(draws).mean(0)

    def rise(x: Tensor) -> Tensor:
        """log p_T(x) - log p_T(middle)."""
        way = x - middle
        total = way.new_zeros(len(x))
        for node, weight in NODES:
            score = model(middle + node * way, t).score
            total = total + weight * (score * way).reshape(len(x), -1).sum(1)
        return total

    rises = torch.stack([rise(z) for z in draws])
    own = torch.stack([sde.prior.log_prob(z) for z in draws])

    def constant(q: Tensor) -> tuple[Tensor, Tensor]:
        """log p_T(middle) and its standard error, from the log-densities q of the draws."""
        weights = torch.softmax(q - own, 0)
        ratios = rises - q
        most = ratios.amax(0)
        ratios = torch.exp(ratios - most)
        mean = (weights * ratios).sum(0)
        spread = (weights * (ratios - mean)).square().sum(0).sqrt() * math.sqrt(DRAWS / (DRAWS - 1))
        return -most - torch.log(mean), spread / mean

    (plain, error), (weighted, other) = constant(own), constant(torch.stack([density(z) for z in draws]))
    level = torch.where(other < error, weighted, plain)
    return (rise(x_T) + level - density(x_T)).abs() + QUANTILE * torch.minimum(error, other)


def truncation(field: FlowWithDensity, x: Tensor) -> Tensor | None:
    """An estimate of the size of log p_0(x) - log p_(t_min)(x), (B,); None for a process that has no angle.

    With y = x / alpha and v = (sigma / alpha)^2, the law of y obeys the heat equation,

    d log q / dv = (lap log q + |grad log q|^2) / 2.

    It is asked at x for the v of t_min and for twice that v, and continued to v = 0 as a line; what the line differs
    from a constant by is added, and a hundredth. What moves is the datum as well, from x / alpha to x, along which the
    scores of both ends are averaged, and the volume.
    """
    frame = field.frame
    if not isinstance(frame, InAngle):
        return None
    sde = frame.sde
    assert isinstance(sde, GaussianSDE)
    low = sde.one(sde.t_min)
    ratio = float(low.sigma / low.alpha)
    far = min(math.sqrt(2.0) * ratio, float(sde.one(sde.t_max).sigma / sde.one(sde.t_max).alpha))
    d = field.dimension
    near_rate, eps = _heat(field, frame, x, low)
    far_rate, _ = _heat(field, frame, x, sde.one(float(sde.time_at(torch.tensor(-2 * math.log(far))))))
    v, w = ratio**2, far**2
    bend = 0.5 * v * v * (far_rate - near_rate) / (w - v)
    way = x.reshape(len(x), d) * (1 / float(low.alpha) - 1)
    end = field.flow.model(x, low).score.reshape(len(x), d) * float(low.alpha)
    moved = d * math.log(low.alpha) + (0.5 * (eps / ratio - end) * way).sum(1)
    found: Tensor = 1.01 * (moved - v * near_rate + bend).abs() + bend.abs()
    return found


def _heat(field: FlowWithDensity, frame: InAngle, x: Tensor, level: GaussianLevel) -> tuple[Tensor, Tensor]:
    """(lap log q + |grad log q|^2) / 2 at y = x, (B,), and the model's eps there, (B, D)."""
    d = field.dimension
    u = frame.position(level)
    w = frame.enter(level.alpha * x, level)
    start = torch.cat([w.reshape(len(x), d), x.new_zeros(len(x), field.probes.count)], 1)
    slope = field(start, u)
    eps = (math.sin(u) * start[:, :d] + math.cos(u) * slope[:, :d]) / frame.std
    # div by y of eps, with dw = cos(u) dy
    spread = math.cos(u) * (d * math.sin(u) + math.cos(u) * slope[:, d:].mean(1)) / frame.std
    ratio = float(level.sigma / level.alpha)
    return 0.5 * (eps.square().sum(1) / ratio**2 - spread / ratio), eps
