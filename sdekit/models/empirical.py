"""The exact model of a finite data set."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..errors import MOST, InvalidArgument, batch, check_source, whole
from ..sdes.base import SDE, Level
from ..sdes.gaussian import GaussianLevel, GaussianSDE
from ..types import NoiseSource, Time, lincomb
from .base import GaussianPrediction, ScoreModel, gaussian, gaussian_level
from .mixture import wide

CELLS = 2**22
"""Pairs of a row and a datum whose weights are held in memory at a time."""


class Empirical(ScoreModel):
    """The exact model of a finite data set: its marginals are sums of Gaussians around the data.

    p_t(x) = 1/n sum_i N(x; alpha y_i, sigma^2 I),   x0 = sum_i r_i y_i,   r_i ~ N(x; alpha y_i, sigma^2 I).

    The denoiser that training on these n data tends to, and that a network must not become: it only ever gives the
    data back. (Karras et al. 2022, appendix B.3, arXiv:2206.00364.)

    ``data``: (n, *event), kept as a buffer. Computes in float32 at least, and answers in the dtype of x. Raises
    InvalidType or InvalidArgument for data that are not finite floats of that shape.
    """

    sde: GaussianSDE
    data: Tensor

    def __init__(self, sde: SDE, data: Tensor):
        super().__init__()
        self.sde = gaussian("Empirical", sde)
        data = batch("Empirical", "data", data)
        if len(data) == 0:
            raise InvalidArgument(f"Empirical: data must hold at least one row, got shape {tuple(data.shape)}")
        self.event = tuple(data.shape[1:])
        self.register_buffer("data", data.detach().reshape(len(data), -1))

    def _logits(self, x: Tensor, level: GaussianLevel) -> tuple[Tensor, Tensor]:
        """The data in the dtype of x, and -|x - alpha y|^2 / 2 sigma^2, (B, n), for x of shape (B, D)."""
        alpha, sigma = (v.reshape(-1, 1).to(x) if isinstance(v, Tensor) else v for v in (level.alpha, level.sigma))
        y = self.data.to(x)
        # not |x|^2 - 2 x y + |y|^2, which cancels where x is close to a datum and sigma small
        distance = torch.cdist(x / alpha, y, compute_mode="donot_use_mm_for_euclid_dist")
        return y, -0.5 * (distance * (alpha / sigma)) ** 2

    def _pieces(self, x: Tensor, level: GaussianLevel) -> list[tuple[Tensor, GaussianLevel]]:
        """The rows in pieces whose weights fit into memory, flat, each with its level."""
        flat = wide(x).reshape(len(x), self.data.shape[1])
        size = max(1, CELLS // len(self.data))
        if not isinstance(level.t, Tensor):
            return [(part, level) for part in torch.split(flat, size)]
        times = level.t.reshape(-1)
        return [
            (part, self.sde.at(t, part))
            for part, t in zip(torch.split(flat, size), torch.split(times, size), strict=True)
        ]

    def _check(self, x: Tensor, t: Time | Level) -> GaussianLevel:
        level = gaussian_level("Empirical", self.sde, t, x)
        if tuple(x.shape[1:]) != self.event:
            raise InvalidArgument(f"Empirical: x must be of shape (B, *{self.event}), got {tuple(x.shape)}")
        return level

    def forward(self, x: Tensor, t: Time | Level, **condition: Any) -> GaussianPrediction:
        """The exact prediction at x of shape (B, *event)."""
        if condition:
            raise InvalidArgument(f"Empirical: condition must be empty, got {', '.join(condition)}")
        level = self._check(x, t)
        means = []
        for part, at in self._pieces(x, level):
            y, logits = self._logits(part, at)
            means.append(torch.softmax(logits, 1) @ y)
        x0 = torch.cat(means).reshape(x.shape)
        wide_x = wide(x)
        sigma, alpha = level.sigma, level.alpha
        eps = lincomb(1.0 / sigma, wide_x, -alpha / sigma, x0)
        # v = alpha eps - sigma x0: from it x0 is well conditioned where sigma is large, and eps where it is small
        value = lincomb(alpha, eps, -sigma, x0)
        return GaussianPrediction(x, level, value.to(x.dtype), -sigma, alpha)

    def log_prob(self, x: Tensor, t: Time | Level) -> Tensor:
        """log p_t of each row of x, in nats: (B, *event) -> (B,)."""
        level = self._check(x, t)
        d = self.data.shape[1]
        rows = []
        for part, at in self._pieces(x, level):
            log_sigma = at.sigma.reshape(-1).log().to(part) if isinstance(at.sigma, Tensor) else math.log(at.sigma)
            total = torch.logsumexp(self._logits(part, at)[1], 1)
            rows.append(total - d * log_sigma - 0.5 * d * math.log(2 * math.pi) - math.log(len(self.data)))
        return torch.cat(rows).to(x.dtype)

    def sample(self, n: int, noise: NoiseSource, t: Time | Level | None = None) -> Tensor:
        """n draws of p_t, or of the data themselves (with replacement) without t: (n, *event) in the data's dtype."""
        n = whole("Empirical.sample", "n", n, at_least=0, at_most=MOST)
        check_source("Empirical.sample", noise)
        u = noise.uniform(n, stream="component", device=self.data.device)
        x0 = self.data[(u * len(self.data)).long()].reshape(n, *self.event)
        if t is None:
            return x0
        level = gaussian_level("Empirical", self.sde, t, x0)
        eps = noise.normal(x0.shape, stream="perturb", dtype=x0.dtype, device=x0.device)
        return lincomb(level.alpha, x0, level.sigma, eps)

    def extra_repr(self) -> str:
        """The process, the number of data and the shape of an event."""
        return f"sde={self.sde}, data={len(self.data)}, event={self.event}"
