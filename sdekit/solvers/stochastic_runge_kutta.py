"""A stochastic Runge-Kutta method of weak order 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..models.base import ScoreModel
from ..sdes.base import Level
from ..types import NoiseSource, combine, exp, expm1, log, sqrt
from .base import GaussianSolver, State, level_where, predict


@dataclass(frozen=True)
class StochasticRungeKutta(GaussianSolver):
    """A Runge-Kutta method along the path of the reverse SDE, in the noise level, where the noise is additive.

    With y = x / alpha and n = sigma / alpha the reverse SDE is, for falling n, dy = 2 eps dn + dW(n^2). One evaluation
    stands at t and one at n_m = n_t - 3h/4, h = n_t - n_s, each on the path:

        y_m = y - (3/2) h eps_t + J_1,    y_s = y - h ((2/3) eps_t + (4/3) eps_m) + J_1 + J_2,

    with J_1 = W(n_t^2) - W(n_m^2) and J_2 = W(n_m^2) - W(n_s^2), the path's increments over the two parts of the step.
    Where the noise is additive, a method of order 2 whose stages stand on the path is of weak order 2; and of strong
    order 1, which is what increments alone allow.

    Nodes and weights are those of SRA1 (Rößler 2010, doi 10.1137/09076636X), which has the integral of the path in the
    stage, and strong order 1.5. It is explicit: where a step changes n by a factor of 2 and more it is far off.
    """

    order = 2
    stochastic = True
    evaluations = 2

    def step(self, model: ScoreModel, state: State[Any], s: Level, noise: NoiseSource) -> State[Any]:
        """The state at the level s; the model's x0 where s is clean."""
        p, t, s = predict(model, state, s)
        if s.clean:
            return State(p.x0, s)
        n, q = exp(-0.5 * t.log_snr), -expm1(0.5 * (t.log_snr - s.log_snr))  # h = q n
        m = level_where(t.sde, -2.0 * log(n * (1.0 - 0.75 * q)), state.x)
        first, second = noise(state.x, t, m), noise(state.x, m, s)
        j1 = n * sqrt(-expm1(t.log_snr - m.log_snr))
        j2 = exp(-0.5 * m.log_snr) * sqrt(-expm1(m.log_snr - s.log_snr))
        x = combine((1.0, m.alpha * j1), (p.mix(m.alpha, m.alpha * n * (1.0 - 1.5 * q)), first))
        middle, _, _ = predict(model, State(x, m), s)
        end = p.mix(s.alpha, s.alpha * n * (1.0 - (2 / 3) * q))
        a = s.alpha
        return State(combine((1.0, -(4 / 3) * a * n * q, a * j1, a * j2), (end, middle.eps, first, second)), s)
