"""The sub-variance-preserving process."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..types import schedule
from .base import check_domain, settle
from .gaussian import GaussianLevel, GaussianSDE
from .prior import NormalPrior
from .vp import check_betas, solve_linear_beta


@dataclass(frozen=True, eq=False, repr=False)
class SubVPSDE(GaussianSDE):
    """The sub-variance-preserving process: VP's drift, and a variance below VP's at every time.

    dx = -beta(t) x / 2 dt + sqrt(beta(t) (1 - exp(-2 B(t)))) dw with beta(t) = beta_min + t (beta_max - beta_min):
    alpha = exp(-B(t) / 2),   sigma = 1 - exp(-B(t)),   B(t) = int_0^t beta.

    Song et al. 2021, eq. 12 and 29 (arXiv:2011.13456). sigma is 1 - exp(-B) itself and not its root. Raises
    ScheduleError unless 0 <= beta_min <= beta_max, beta_max > 0 and 0 < t_min < t_max.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-3
    t_max: float = 1.0

    def __post_init__(self) -> None:
        settle(self)
        check_domain("SubVPSDE", self.t_min, self.t_max)
        check_betas("SubVPSDE", self.beta_min, self.beta_max, self.t_max)

    def _integral(self, t: Tensor) -> Tensor:
        return t * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * t)

    @schedule
    def alpha(self, t: Tensor) -> Tensor:
        """exp(-B(t) / 2), of the shape of t."""
        return torch.exp(-0.5 * self._integral(t))

    @schedule
    def sigma(self, t: Tensor) -> Tensor:
        """1 - exp(-B(t)), of the shape of t."""
        return -torch.expm1(-self._integral(t))

    @schedule
    def time_at(self, log_snr: Tensor) -> Tensor:
        """The t with 2 sinh(B(t) / 2) = exp(-log_snr / 2), of the argument's shape; outside the range, its ends."""
        integral = 2 * torch.asinh(0.5 * torch.exp(-0.5 * log_snr))
        return solve_linear_beta(integral, self.beta_min, self.beta_max).clamp(self.t_min, self.t_max)

    def _standard_prior(self, level: GaussianLevel) -> NormalPrior:
        return NormalPrior(0.0, 1.0)
