"""EDM's process: time is the noise level."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..types import schedule
from .base import check_domain, settle
from .gaussian import GaussianSDE


@dataclass(frozen=True, eq=False, repr=False)
class EDMSDE(GaussianSDE):
    """The process of EDM, whose time is its noise level.

    dx = sqrt(2 t) dw:   alpha = 1,   sigma = t.

    Karras et al. 2022, table 1 and section 4 (arXiv:2206.00364). Raises ScheduleError unless 0 < t_min < t_max.
    """

    t_min: float = 0.002
    t_max: float = 80.0

    def __post_init__(self) -> None:
        settle(self)
        check_domain("EDMSDE", self.t_min, self.t_max)

    @schedule
    def alpha(self, t: Tensor) -> Tensor:
        """1, of the shape of t."""
        return torch.ones_like(t)

    @schedule
    def sigma(self, t: Tensor) -> Tensor:
        """t itself."""
        return t.clone()

    @schedule
    def time_at(self, log_snr: Tensor) -> Tensor:
        """exp(-log_snr / 2), of the shape of the argument; outside the range, its ends."""
        return torch.exp(-0.5 * log_snr).clamp(self.t_min, self.t_max)
