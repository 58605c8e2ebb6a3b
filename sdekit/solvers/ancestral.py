"""Ancestral sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..errors import UnsupportedCombination, one_of
from ..models.base import ScoreModel
from ..sdes.base import Level
from ..types import NoiseSource, exp, expm1, lincomb, sqrt
from .base import GaussianSolver, State, predict

VARIANCES = ("posterior", "upper", "learned")


@dataclass(frozen=True)
class Ancestral(GaussianSolver):
    """Ancestral sampling: x_s from the posterior of x_s given x_t and the model's x0.

    x_s = alpha_s x0 + sigma_s r eps + std z,   r^2 = (alpha_t sigma_s)^2 / (alpha_s sigma_t)^2.

    ``variance`` says what std^2 is:
    ``"posterior"``: var(x_s | x_t, x_0) = sigma_s^2 (1 - r^2), DDPM's beta~, right for data that are one point;
    ``"upper"``: var(x_t | x_s) = sigma_t^2 (1 - r^2), DDPM's beta, right for data of the prior's own variance on VP;
    ``"learned"``: the model's own, for a model with a variance, such as LearnedRange or models.AnalyticVariance.

    The mean is ``GaussianSDE.posterior``'s: Ho et al. 2020, eq. 6-7 and algorithm 2 (arXiv:2006.11239); on VE, NCSN's
    of Song et al. 2021, appendix F, eq. 47 (arXiv:2011.13456); learned: Nichol & Dhariwal 2021, eq. 15
    (arXiv:2102.09672). Raises UnsupportedCombination for ``"learned"`` and a model that has no variance.
    """

    variance: str = "posterior"

    order = 1
    stochastic = True
    evaluations = 1

    def __post_init__(self) -> None:
        one_of("Ancestral", "variance", self.variance, VARIANCES)

    def check(self, model: ScoreModel) -> None:
        """Raises UnsupportedCombination for a process with no alpha and sigma, or a variance that is not learned."""
        super().check(model)
        if self.variance == "learned" and not model.has_variance:
            raise UnsupportedCombination(
                f"{self}: needs a model with a variance, such as Parametrised(network, sde, Epsilon(), LearnedRange())"
            )

    def step(self, model: ScoreModel, state: State[Any], s: Level, noise: NoiseSource) -> State[Any]:
        """The state at the level s; the model's x0 where s is clean."""
        p, t, s = predict(model, state, s)
        if s.clean:
            return State(p.x0, s)
        gap = t.log_snr - s.log_snr
        mean, z = p.mix(s.alpha, s.sigma * exp(0.5 * gap)), noise(state.x, t, s)
        if self.variance == "learned":
            assert p.spread is not None
            return State(torch.addcmul(mean, torch.exp(0.5 * p.spread(s)), z), s)
        sigma = s.sigma if self.variance == "posterior" else t.sigma
        return State(lincomb(1.0, mean, sigma * sqrt(-expm1(gap)), z), s)
