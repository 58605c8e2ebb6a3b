"""Annealed Langevin dynamics: NCSN's own sampler."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

from ..errors import number, whole
from ..models.base import ScoreModel
from ..sdes.base import Level
from ..types import NoiseSource, scale
from .base import GaussianSolver, State
from .langevin import Langevin


@dataclass(frozen=True)
class AnnealedLangevin(GaussianSolver):
    """NCSN's sampler: ``steps`` of Langevin dynamics at each noise level, in steps that shrink with the level.

    x <- x + h score(x, s) + sqrt(2 h) z,   h = rate sigma_s^2,   at every level s after the first; then, at the clean
    level, x0: one last denoising step x + sigma^2 score.

    Song & Ermon 2019, algorithm 1 (arXiv:1907.05600), whose alpha_i is 2 h: ``AnnealedLangevin.ncsn(epsilon, sigma)``.
    Song & Ermon 2020, algorithm 1 with its last denoising step (arXiv:2006.09011), whose alpha_i is h:
    ``AnnealedLangevin.ncsnv2(sigmas, steps)``. ``denoise=False`` leaves the last step out, as NCSN did. The start x_T
    stands for the chain at the first level. On a process that scales the data, such as VP, h = rate sigma^2 is the same
    chain on x / alpha. Between levels x is scaled by alpha_s / alpha_t, which is 1 on VE.

    Raises InvalidArgument unless 0 < rate < 2, from where the chain diverges.
    """

    rate: float = 0.1
    steps: int = 100

    order = None
    stochastic = True

    def __post_init__(self) -> None:
        number("AnnealedLangevin", "rate", self.rate, above=0.0, below=2.0)
        whole("AnnealedLangevin", "steps", self.steps, at_least=1)

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """Of the network a step: ``steps``."""
        return self.steps

    @classmethod
    def ncsn(cls, epsilon: float = 2e-5, sigma_min: float = 0.01, steps: int = 100) -> Self:
        """NCSN's: alpha_i = epsilon sigma_i^2 / sigma_min^2, and x + alpha_i / 2 score + sqrt(alpha_i) z.

        (Song & Ermon 2019, algorithm 1 and section 5: epsilon = 2e-5, T = 100, arXiv:1907.05600.)
        """
        epsilon = number("AnnealedLangevin.ncsn", "epsilon", epsilon, above=0.0)
        sigma_min = number("AnnealedLangevin.ncsn", "sigma_min", sigma_min, above=0.0)
        return cls(rate=0.5 * epsilon / sigma_min**2, steps=steps)

    @classmethod
    def ncsnv2(cls, sigma_min: float = 0.01, sigma_max: float = 50.0, levels: int = 232, steps: int = 5) -> Self:
        """NCSNv2's: the epsilon whose chain, from the variance of a level, ends at the variance of the next.

        The step is alpha_i = epsilon sigma_i^2 / sigma_min^2 in x + alpha_i score + sqrt(2 alpha_i) z. With
        r = epsilon / sigma_min^2 and gamma the ratio of two levels, the variance of the chain on a point of data is
        sigma_i^2 times (1 - r)^(2 T) (gamma^2 - 2 r / (1 - (1 - r)^2)) + 2 r / (1 - (1 - r)^2), and r is where that is
        closest to 1. (Song & Ermon 2020, proposition 3 and technique 4, arXiv:2006.09011.)
        """
        owner = "AnnealedLangevin.ncsnv2"
        low = number(owner, "sigma_min", sigma_min, above=0.0)
        high = number(owner, "sigma_max", sigma_max, above=low)
        gamma: float = (high / low) ** (1 / (whole(owner, "levels", levels, at_least=2) - 1))
        steps = whole(owner, "steps", steps, at_least=1)

        def excess(log_rate: float) -> float:
            r: float = math.exp(log_rate)
            stationary: float = 2 * r / (1 - (1 - r) ** 2)
            return abs(math.pow(1 - r, 2 * steps) * (gamma**2 - stationary) + stationary - 1)

        # one minimum in (0, 1): by thirds, after a look at it all
        grid = [math.log(1e-6) * (1 - i / 4000) for i in range(4000)]
        best = min(range(len(grid)), key=lambda i: excess(grid[i]))
        a, b = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        for _ in range(100):
            left, right = a + (b - a) / 3, b - (b - a) / 3
            a, b = (a, right) if excess(left) < excess(right) else (left, b)
        return cls(rate=math.exp(0.5 * (a + b)), steps=steps)

    def step(self, model: ScoreModel, state: State[Any], s: Level, noise: NoiseSource) -> State[Any]:
        """The state at the level s; the model's x0 where s is clean."""
        x, t, _ = state
        if not s.clean:
            x = scale(s.alpha / t.alpha, x)  # type: ignore[attr-defined]
        chain = Langevin(snr=math.sqrt(0.5 * self.rate), steps=self.steps)
        return State(chain.step(model, State(x, t), s, noise).x, s)
