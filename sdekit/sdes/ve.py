"""The variance-exploding process: NCSN (SMLD) in continuous time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ScheduleError, number
from ..types import schedule
from .base import check_domain, settle
from .gaussian import GaussianSDE


@dataclass(frozen=True, eq=False, repr=False)
class VESDE(GaussianSDE):
    """The variance-exploding process, NCSN's limit of many noise levels.

    dx = sigma(t) sqrt(2 log(sigma_max / sigma_min)) dw:
    alpha = 1,   sigma = sigma_min (sigma_max / sigma_min)^t.

    Song et al. 2021, eq. 9 and 30 (arXiv:2011.13456). The noise does not vanish as t -> 0: sigma(0) = sigma_min.
    Raises ScheduleError unless 0 < sigma_min < sigma_max, 0 < t_min < t_max, and sigma(t_max) <= 1e150.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    t_min: float = 1e-5
    t_max: float = 1.0

    def __post_init__(self) -> None:
        settle(self)
        number("VESDE", "sigma_min", self.sigma_min, above=0.0, kind=ScheduleError)
        number("VESDE", "sigma_max", self.sigma_max, above=0.0, kind=ScheduleError)
        if self.sigma_min >= self.sigma_max:
            raise ScheduleError(
                f"VESDE: sigma_max must exceed sigma_min, "
                f"got sigma_min={self.sigma_min:g}, sigma_max={self.sigma_max:g}"
            )
        check_domain("VESDE", self.t_min, self.t_max)
        most = math.log(self.sigma_min) + self.t_max * (math.log(self.sigma_max) - math.log(self.sigma_min))
        if most > 150 * math.log(10):
            raise ScheduleError(
                f"VESDE: t_max must leave sigma(t_max) below 1e150, got t_max={self.t_max:g}: "
                f"sigma is exp({most:g}); time runs to 1, not to a number of steps"
            )

    @schedule
    def alpha(self, t: Tensor) -> Tensor:
        """1, of the shape of t."""
        return torch.ones_like(t)

    @schedule
    def sigma(self, t: Tensor) -> Tensor:
        """sigma_min (sigma_max / sigma_min)^t, of the shape of t."""
        # not exp(t log(ratio)): that multiplies the rounding error of the logarithm by its own size
        return self.sigma_min * torch.pow(self.sigma_max / self.sigma_min, t)

    @schedule
    def time_at(self, log_snr: Tensor) -> Tensor:
        """The t with sigma(t) = exp(-log_snr / 2), of the shape of the argument; outside the range, its ends."""
        t = (-0.5 * log_snr - math.log(self.sigma_min)) / math.log(self.sigma_max / self.sigma_min)
        return t.clamp(self.t_min, self.t_max)
