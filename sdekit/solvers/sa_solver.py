"""SA-Solver."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidArgument, flag, number, whole
from ..sdes.gaussian import GaussianLevel
from ..types import Scalar, exp
from .exponential import first
from .multistep import LinearMultistep


@dataclass(frozen=True)
class SASolver(LinearMultistep):
    """SA-Solver: stochastic Adams methods for the reverse SDE of any strength tau, predicted and corrected at no cost.

    x_s = (sigma_s / sigma_t) e^(-tau^2 h) x_t + alpha_s int (1 + tau^2) e^(-(1 + tau^2) (l_s - l)) x0 dl
          + sigma_s sqrt(1 - e^(-2 tau^2 h)) z,   h = l_s - l_t,

    with x0 a polynomial in l = log(alpha / sigma): in the predictor through its last ``predictor`` values, in the
    corrector, which takes the step once more with the step's own z, through the last ``corrector`` values, the new one
    among them; 0 is no corrector. ``tau`` is the strength where tau_min <= sigma / alpha <= tau_max as a step begins,
    and 0 elsewhere: the marginals are the process's whatever it is. tau = 0 is the probability flow, tau = 1 the
    reverse SDE. With ``few_steps`` the slope of two values counts (1 + tau^2) h / 2: UniPC's "bh1" where tau = 0.

    Xue et al. 2023, eq. 15 and 18, and for few steps appendix D (arXiv:2309.05019). The defaults are the authors' for
    unconditional models; with strong guidance they advise 2 and 2. Their tau is 1 in the middle of a run alone, at 0.2
    <= t <= 0.8 of a latent diffusion: on Stable Diffusion's schedule SASolver(tau_min=0.57, tau_max=5.1). The weak
    order is 2 with noise, whatever the number of values from two on. Where an edge of the window falls within a step,
    the strong order is 1/2. Raises InvalidArgument unless 1 <= predictor <= 4, 0 <= corrector <= 4, tau >= 0 and 0 <=
    tau_min <= tau_max.
    """

    predictor: int = 3
    corrector: int = 4
    tau: float = 1.0
    tau_min: float = 0.0
    tau_max: float = math.inf
    few_steps: bool = True

    view = "x0"
    coordinate = "log_snr"

    def __post_init__(self) -> None:
        whole("SASolver", "predictor", self.predictor, at_least=1, at_most=4)
        whole("SASolver", "corrector", self.corrector, at_least=0, at_most=4)
        number("SASolver", "tau", self.tau, at_least=0.0)
        number("SASolver", "tau_min", self.tau_min, at_least=0.0)
        if not (isinstance(self.tau_max, float) and self.tau_max == math.inf):
            number("SASolver", "tau_max", self.tau_max, at_least=0.0)
        if self.tau_max < self.tau_min:
            raise InvalidArgument(
                f"SASolver: tau_max must reach tau_min, got tau_min={self.tau_min:g}, tau_max={self.tau_max}"
            )
        flag("SASolver", "few_steps", self.few_steps)

    @property
    def points(self) -> int:
        """How many values are remembered."""
        return max(self.predictor, self.corrector - 1)

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """Whether tau > 0."""
        return self.tau > 0

    @property
    def order(self) -> int:  # type: ignore[override]
        """min(predictor, 2), or min(predictor + 1, corrector, 3) with the corrector; 2 at most with noise."""
        reached = min(self.predictor + 1, self.corrector, 3) if self.corrector else min(self.predictor, 2)
        return min(reached, 2) if self.stochastic else reached

    def strength(self, t: GaussianLevel) -> Scalar:
        """tau within the window, else 0."""
        n = exp(-0.5 * t.log_snr)
        if isinstance(n, Tensor):
            return torch.where((n >= self.tau_min) & (n <= self.tau_max), self.tau, 0.0).to(n.dtype)
        return self.tau if self.tau_min <= n <= self.tau_max else 0.0

    def predicted(
        self, t: GaussianLevel, s: GaussianLevel, levels: Sequence[GaussianLevel]
    ) -> tuple[Scalar, Sequence[Scalar]]:
        """(keep, weights) of SA-Predictor."""
        used = levels[-self.predictor :]
        if len(used) != 2 or not self.few_steps:
            return self.exact(t, s, used)
        keep, total, half = self._line(t, s)
        slope = half * (s.log_snr - t.log_snr) / (t.log_snr - used[0].log_snr)
        return keep, (-slope, total + slope)

    def corrected(
        self, t: GaussianLevel, s: GaussianLevel, levels: Sequence[GaussianLevel]
    ) -> tuple[Scalar, Sequence[Scalar]]:
        """(keep, weights) of SA-Corrector."""
        used = levels[-self.corrector :]
        if len(used) != 2 or not self.few_steps:
            return self.exact(t, s, used)
        keep, total, half = self._line(t, s)
        return keep, (total - half, half)

    def _line(self, t: GaussianLevel, s: GaussianLevel) -> tuple[Scalar, Scalar, Scalar]:
        """keep, and what the value at t and the change over the step count: alpha_s (1 + tau^2) h / 2."""
        tau = self.strength(t)
        return *first("x0", t, s, tau), 0.25 * s.alpha * (1.0 + tau**2) * (s.log_snr - t.log_snr)
