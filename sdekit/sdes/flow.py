"""The straight process of flow matching and rectified flow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ScheduleError, number
from ..types import schedule
from .base import check_domain, settle
from .gaussian import GaussianSDE


@dataclass(frozen=True, eq=False, repr=False)
class FlowSDE(GaussianSDE):
    """The process of flow matching and rectified flow: a straight line from the data to the noise.

    alpha = 1 - t,   sigma = t,   so that f = -1 / (1 - t) and g^2 = 2 t / (1 - t).

    Lipman et al. 2023, eq. 20 with sigma_min = 0 and time reversed (arXiv:2210.02747); Liu et al. 2023, eq. 1
    (arXiv:2209.03003). Data stand at t = 0 here, as everywhere in sdekit. f and g^2 have a pole at t = 1, so that
    t_max stops short of it. Raises ScheduleError unless 0 < t_min < t_max < 1.
    """

    t_min: float = 1e-3
    t_max: float = 0.999

    def __post_init__(self) -> None:
        settle(self)
        check_domain("FlowSDE", self.t_min, self.t_max)
        number("FlowSDE", "t_max", self.t_max, below=1.0, kind=ScheduleError)

    @schedule
    def alpha(self, t: Tensor) -> Tensor:
        """1 - t, of the shape of t."""
        return 1.0 - t

    @schedule
    def sigma(self, t: Tensor) -> Tensor:
        """t itself."""
        return t.clone()

    @schedule
    def log_snr(self, t: Tensor) -> Tensor:
        """2 log((1 - t) / t), of the shape of t."""
        return 2 * (torch.log1p(-t) - torch.log(t))

    @schedule
    def time_at(self, log_snr: Tensor) -> Tensor:
        """1 / (1 + exp(log_snr / 2)), of the shape of the argument; outside the range, its ends."""
        return torch.sigmoid(-0.5 * log_snr).clamp(self.t_min, self.t_max)
