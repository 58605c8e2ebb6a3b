"""Euler-Maruyama on the reverse SDE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..models.base import ScoreModel
from ..sdes.base import Level
from ..types import NoiseSource, lincomb, sqrt
from .base import Solver, State


@dataclass(frozen=True)
class EulerMaruyama(Solver):
    """Euler-Maruyama on the reverse SDE, dx = (f(x, t) - g^2 score) dt + g dw backwards in time.

    x_s = x - (f(x, t) - g^2 score) (t - s) + g sqrt(t - s) z.

    Song et al. 2021, eq. 6 (arXiv:2011.13456); Anderson 1982. For any process with drift and diffusion.
    """

    order = 1
    stochastic = True
    evaluations = 1

    def step(self, model: ScoreModel, state: State[Any], s: Level, noise: NoiseSource) -> State[Any]:
        """The state at the level s; Tweedie's x0 where s is clean."""
        x, t, _ = state
        p = model(x, t)
        if s.clean:
            return State(p.x0, s)
        dt = t.t - s.t
        mean = lincomb(1.0, lincomb(1.0, x, -dt, t.drift(x)), t.g2 * dt, p.score)
        return State(lincomb(1.0, mean, sqrt(t.g2 * dt), noise(x, t, s)), s)
