"""Heun's method in the noise level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import add

from ..models.base import GaussianPrediction, ScoreModel
from ..sdes.base import Level
from ..types import NoiseSource, lincomb
from .base import GaussianSolver, State, predict


@dataclass(frozen=True)
class Heun(GaussianSolver):
    """EDM's deterministic sampler: Heun's method for y = x / alpha in the noise level sigma / alpha.

    dy / d(sigma / alpha) = eps: an Euler step to s, then the mean of the slopes at both ends. The step to the clean
    level is Euler's, and ends at the model's x0.

    Karras et al. 2022, algorithm 1 (arXiv:2206.00364), on any Gaussian process.
    """

    order = 2
    stochastic = False
    evaluations = 2

    def step(self, model: ScoreModel, state: State[Any], s: Level, noise: NoiseSource) -> State[Any]:
        """The state at the level s; the model's x0 where s is clean."""
        p, t, s = predict(model, state, s)
        if s.clean:
            return State(p.x0, s)
        there: GaussianPrediction = model(p.mix(s.alpha, s.sigma), s)
        slope = add(p.eps, there.eps)
        ratio = s.alpha / t.alpha
        return State(lincomb(ratio, state.x, 0.5 * (s.sigma - ratio * t.sigma), slope), s)
