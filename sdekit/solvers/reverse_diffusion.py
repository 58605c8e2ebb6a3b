"""Reverse diffusion sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..models.base import ScoreModel
from ..sdes.base import Level
from ..types import NoiseSource, lincomb
from .base import Solver, State


@dataclass(frozen=True)
class ReverseDiffusion(Solver):
    """The reverse SDE discretised as the forward one is.

    With the increment f and the noise's std G of the forward step s -> t,
    x_s = x - f(x) + G^2 score + G z.

    Song et al. 2021, appendix E, eq. 46 (arXiv:2011.13456). A Gaussian process gives its exact kernel, f = (alpha_t /
    alpha_s - 1) x and G^2 = var(x_t | x_s), which is DDPM's and NCSN's discretisation; any other Euler-Maruyama's.
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
        increment, g = model.sde.step(x, t, s)
        return State(lincomb(1.0, lincomb(1.0, x - increment, g * g, p.score), g, noise(x, t, s)), s)
