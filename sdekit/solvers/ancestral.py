"""Ancestral sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..models.base import ScoreModel
from ..sdes.base import Level
from ..types import NoiseSource, exp, expm1, lincomb, sqrt
from .base import GaussianSolver, State, predict


@dataclass(frozen=True)
class Ancestral(GaussianSolver):
    """Ancestral sampling: x_s from the posterior of x_s given x_t and the model's x0.

    x_s = alpha_s x0 + sigma_s r eps + sigma_s sqrt(1 - r^2) z,   r^2 = (alpha_t sigma_s)^2 / (alpha_s sigma_t)^2.

    Its mean and variance are ``GaussianSDE.posterior``'s: Ho et al. 2020, eq. 6-7 and algorithm 2 with the posterior
    variance (arXiv:2006.11239); on VE, NCSN's of Song et al. 2021, appendix F, eq. 47 (arXiv:2011.13456).
    """

    order = 1
    stochastic = True
    evaluations = 1

    def step(self, model: ScoreModel, state: State[Any], s: Level, noise: NoiseSource) -> State[Any]:
        """The state at the level s; the model's x0 where s is clean."""
        p, t, s = predict(model, state, s)
        if s.clean:
            return State(p.x0, s)
        gap = t.log_snr - s.log_snr
        mean = p.mix(s.alpha, s.sigma * exp(0.5 * gap))
        return State(lincomb(1.0, mean, s.sigma * sqrt(-expm1(gap)), noise(state.x, t, s)), s)
