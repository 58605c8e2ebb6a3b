"""Heun's method in the noise level, and EDM's churn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import add

from ..models.base import GaussianPrediction, ScoreModel
from ..sdes.base import Level
from ..sdes.gaussian import GaussianLevel
from ..types import NoiseSource, lincomb
from .base import GaussianSolver, State
from .churn import check_churn, churned


@dataclass(frozen=True)
class Heun(GaussianSolver):
    """EDM's sampler: Heun's method for y = x / alpha in the noise level n = sigma / alpha, with churn where wanted.

    dy / dn = eps: an Euler step to s, then the mean of the slopes at both ends. The step to the clean level is Euler's,
    and ends at the model's x0.

    ``churn`` = gamma first raises the noise from n to (1 + gamma) n, with fresh noise of deviation ``churn_noise``,
    where churn_min <= n <= churn_max, as :class:`Churn` does around any solver: EDM's own settings for ImageNet at 256
    steps are ``Heun(churn=40 / 256, churn_min=0.05, churn_max=50, churn_noise=1.003)``.

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
        check_churn("Heun", self)

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
        x, t = churned(self, state.x, state.level, s, noise)
        assert isinstance(t, GaussianLevel)
        assert isinstance(s, GaussianLevel)
        p: GaussianPrediction = model(x, t)
        if s.clean:
            return State(p.x0, s)
        there: GaussianPrediction = model(p.mix(s.alpha, s.sigma), s)
        slope = add(p.eps, there.eps)
        ratio = s.alpha / t.alpha
        return State(lincomb(ratio, x, 0.5 * (s.sigma - ratio * t.sigma), slope), s)
