"""DDIM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import number
from ..models.base import ScoreModel
from ..sdes.base import Level
from ..types import NoiseSource, expm1, lincomb, sqrt
from .base import GaussianSolver, State, predict


@dataclass(frozen=True)
class DDIM(GaussianSolver):
    """Denoising diffusion implicit models: from deterministic (eta = 0) to ancestral (eta = 1).

    x_s = alpha_s x0 + sqrt(sigma_s^2 - v) eps + sqrt(v) z,   v = eta^2 sigma_s^2 (1 - exp(log_snr_t - log_snr_s)).

    With eta = 0 it is Euler's method for x / alpha in the variable sigma / alpha. Song et al. 2021, eq. 12 and 16
    (arXiv:2010.02502). Raises InvalidArgument unless 0 <= eta <= 1.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        number("DDIM", "eta", self.eta, at_least=0.0, at_most=1.0)

    order = 1
    evaluations = 1

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """Whether eta > 0."""
        return self.eta > 0

    def step(self, model: ScoreModel, state: State[Any], s: Level, noise: NoiseSource) -> State[Any]:
        """The state at the level s; the model's x0 where s is clean."""
        p, t, s = predict(model, state, s)
        if s.clean:
            return State(p.x0, s)
        if not self.eta:
            return State(p.mix(s.alpha, s.sigma), s)
        v = -(self.eta**2) * expm1(t.log_snr - s.log_snr)
        mean = p.mix(s.alpha, s.sigma * sqrt(1.0 - v))
        return State(lincomb(1.0, mean, s.sigma * sqrt(v), noise(state.x, t, s)), s)
