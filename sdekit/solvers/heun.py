"""Heun's method in the noise level, and EDM's churn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, add

from ..errors import InvalidArgument, number
from ..models.base import GaussianPrediction, ScoreModel
from ..sdes.base import Level
from ..sdes.gaussian import GaussianLevel
from ..types import NoiseSource, Scalar, exp, lincomb, log, sqrt
from .base import GaussianSolver, State

MOST = math.sqrt(2.0) - 1.0
"""The largest churn: more noise than was there is never added."""


@dataclass(frozen=True)
class Heun(GaussianSolver):
    """EDM's sampler: Heun's method for y = x / alpha in the noise level n = sigma / alpha, with churn where wanted.

    dy / dn = eps: an Euler step to s, then the mean of the slopes at both ends. The step to the clean level is Euler's,
    and ends at the model's x0.

    ``churn`` = gamma first raises the noise from n to (1 + gamma) n, with fresh noise of deviation ``churn_noise``,
    where churn_min <= n <= churn_max. In EDM's terms gamma = min(S_churn / N, sqrt(2) - 1) for N steps, churn_min =
    S_tmin, churn_max = S_tmax and churn_noise = S_noise: ``Heun(churn=40 / 256, churn_min=0.05, churn_max=50,
    churn_noise=1.003)``. The noise never leaves the process's own range, and none is added in the last step.

    Karras et al. 2022, algorithms 1 and 2 (arXiv:2206.00364), on any Gaussian process. With churn there is no order:
    the way back does not shrink with the grid. Raises InvalidArgument unless 0 <= churn <= sqrt(2) - 1,
    0 <= churn_min <= churn_max and churn_noise > 0.
    """

    churn: float = 0.0
    churn_min: float = 0.0
    churn_max: float = math.inf
    churn_noise: float = 1.0

    evaluations = 2

    def __post_init__(self) -> None:
        number("Heun", "churn", self.churn, at_least=0.0, at_most=MOST + 1e-12)
        number("Heun", "churn_min", self.churn_min, at_least=0.0)
        number("Heun", "churn_noise", self.churn_noise, above=0.0)
        if not (isinstance(self.churn_max, float) and self.churn_max == math.inf):
            number("Heun", "churn_max", self.churn_max)
        if self.churn_max < self.churn_min:
            raise InvalidArgument(
                f"Heun: churn_max must reach churn_min, got churn_min={self.churn_min:g}, churn_max={self.churn_max}"
            )

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """Whether there is churn."""
        return self.churn > 0

    @property
    def order(self) -> int | None:  # type: ignore[override]
        """2, and none with churn."""
        return None if self.churn else 2

    def step(self, model: ScoreModel, state: State[Any], s: Level, noise: NoiseSource) -> State[Any]:
        """The state at the level s; the model's x0 where s is clean."""
        x, t, _ = state
        assert isinstance(t, GaussianLevel)
        assert isinstance(s, GaussianLevel)
        if self.churn and not s.clean:
            x, t = self._raised(model, x, t, s, noise)
        p: GaussianPrediction = model(x, t)
        if s.clean:
            return State(p.x0, s)
        there: GaussianPrediction = model(p.mix(s.alpha, s.sigma), s)
        slope = add(p.eps, there.eps)
        ratio = s.alpha / t.alpha
        return State(lincomb(ratio, x, 0.5 * (s.sigma - ratio * t.sigma), slope), s)

    def _raised(
        self, model: ScoreModel, x: Tensor, t: GaussianLevel, s: GaussianLevel, noise: NoiseSource
    ) -> tuple[Tensor, GaussianLevel]:
        """The state at a noise level gamma above t's, and that level; where it is out of bounds, the state as it is."""
        sde = t.sde
        top = sde.one(sde.t_max)
        n, most = exp(-0.5 * t.log_snr), math.exp(-0.5 * float(top.log_snr))
        target = _bounded(n, self.churn_min, self.churn_max, self.churn, most)
        if not isinstance(target, Tensor) and target == n:
            return x, t
        wanted = torch.as_tensor(-2 * log(target), dtype=torch.float64)
        there = sde.time_at(wanted)
        level = sde.level(float(there), x) if not there.ndim else sde.level(there.reshape(-1), x)
        added = self.churn_noise * level.alpha * sqrt(level.clock - t.clock)
        z = noise(x, t, s, stream="churn")
        return lincomb(level.alpha / t.alpha, x, added, z), level


def _bounded(n: Scalar, low: float, high: float, churn: float, most: float) -> Scalar:
    """(1 + churn) n where low <= n <= high, at most ``most``, else n."""
    if not isinstance(n, Tensor):
        return max(n, min((1.0 + churn) * n, most)) if low <= n <= high else n
    raised = torch.maximum(n, (n * (1.0 + churn)).clamp(max=most))
    return torch.where((n >= low) & (n <= high), raised, n)
