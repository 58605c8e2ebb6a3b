"""The variance-preserving process: DDPM in continuous time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ScheduleError, number
from ..types import schedule
from .base import check_domain, settle
from .gaussian import GaussianLevel, GaussianSDE
from .prior import NormalPrior


@dataclass(frozen=True, eq=False, repr=False)
class VPSDE(GaussianSDE):
    """The variance-preserving process, DDPM's limit of many steps.

    dx = -beta(t) x / 2 dt + sqrt(beta(t)) dw with beta(t) = beta_min + t (beta_max - beta_min):
    alpha = exp(-B(t) / 2),   sigma = sqrt(1 - alpha^2),   B(t) = int_0^t beta.

    Song et al. 2021, eq. 11 and 33 (arXiv:2011.13456). Raises ScheduleError unless 0 <= beta_min <= beta_max,
    beta_max > 0 and 0 < t_min < t_max.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-4
    t_max: float = 1.0

    def __post_init__(self) -> None:
        settle(self)
        check_domain("VPSDE", self.t_min, self.t_max)
        check_betas("VPSDE", self.beta_min, self.beta_max, self.t_max)

    def _integral(self, t: Tensor) -> Tensor:
        return t * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * t)

    @schedule
    def alpha(self, t: Tensor) -> Tensor:
        """exp(-B(t) / 2), of the shape of t."""
        return torch.exp(-0.5 * self._integral(t))

    @schedule
    def sigma(self, t: Tensor) -> Tensor:
        """sqrt(1 - exp(-B(t))), of the shape of t."""
        # expm1, not 1 - alpha^2: that cancels where t is small
        return torch.sqrt(-torch.expm1(-self._integral(t)))

    @schedule
    def time_at(self, log_snr: Tensor) -> Tensor:
        """The t with B(t) = log(1 + exp(-log_snr)), of the shape of the argument; outside the range, its ends."""
        integral = torch.logaddexp(-log_snr, torch.zeros_like(log_snr))
        return solve_linear_beta(integral, self.beta_min, self.beta_max).clamp(self.t_min, self.t_max)

    def _standard_prior(self, level: GaussianLevel) -> NormalPrior:
        return NormalPrior(0.0, 1.0)


def check_betas(owner: str, beta_min: float, beta_max: float, t_max: float) -> None:
    """Raises ScheduleError unless 0 <= beta_min <= beta_max, beta_max > 0, and alpha(t_max) is more than 1e-300."""
    number(owner, "beta_min", beta_min, at_least=0.0, kind=ScheduleError)
    number(owner, "beta_max", beta_max, above=0.0, kind=ScheduleError)
    if beta_min > beta_max:
        raise ScheduleError(f"{owner}: beta_max must reach beta_min, got beta_min={beta_min:g}, beta_max={beta_max:g}")
    integral = t_max * (beta_min + 0.5 * (beta_max - beta_min) * t_max)
    if integral > 600 * math.log(10):
        raise ScheduleError(
            f"{owner}: t_max must leave alpha(t_max) above 1e-300, got t_max={t_max:g}, beta_max={beta_max:g}: "
            f"alpha is exp(-{0.5 * integral:g}); time runs to 1, not to a number of steps"
        )


def solve_linear_beta(integral: Tensor, beta_min: float, beta_max: float) -> Tensor:
    """The t >= 0 with beta_min t + (beta_max - beta_min) t^2 / 2 = integral."""
    # the root in the form that does not cancel where the integral is small; its ends are finite
    integral = integral.clamp(1e-300, 1e6)
    return 2 * integral / (beta_min + torch.sqrt(beta_min**2 + 2 * (beta_max - beta_min) * integral))
