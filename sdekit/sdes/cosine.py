"""The cosine process."""

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
class CosineSDE(GaussianSDE):
    """The variance-preserving process whose alpha^2 falls as a squared cosine.

    alpha = cos(phi(t)) / cos(phi(0)),   sigma = sqrt(1 - alpha^2),   phi(t) = pi / 2 (t + offset) / (1 + offset).

    Nichol & Dhariwal 2021, eq. 17 (arXiv:2102.09672); without offset alpha = cos(pi t / 2) and sigma = sin(pi t / 2),
    as in Salimans & Ho 2022 (arXiv:2202.00512). alpha vanishes at t = 1, so that t_max stops short of it. Raises
    ScheduleError unless 0 <= offset < 1 and 0 < t_min < t_max < 1.
    """

    offset: float = 0.008
    t_min: float = 1e-4
    t_max: float = 0.995

    def __post_init__(self) -> None:
        settle(self)
        number("CosineSDE", "offset", self.offset, at_least=0.0, below=1.0, kind=ScheduleError)
        check_domain("CosineSDE", self.t_min, self.t_max)
        number("CosineSDE", "t_max", self.t_max, below=1.0, kind=ScheduleError)

    def _cos(self, t: Tensor) -> Tensor:
        # cos(phi), from the end where it vanishes: 1 - t is exact there
        return torch.sin(0.5 * math.pi * (1.0 - t) / (1.0 + self.offset))

    @schedule
    def alpha(self, t: Tensor) -> Tensor:
        """cos(phi(t)) / cos(phi(0)), of the shape of t."""
        return self._cos(t) / self._cos(torch.zeros_like(t))

    @schedule
    def sigma(self, t: Tensor) -> Tensor:
        """sqrt(sin(phi(t) - phi(0)) sin(phi(t) + phi(0))) / cos(phi(0)), of the shape of t."""
        # not sqrt(1 - alpha^2), which cancels where t is small
        unit = 0.5 * math.pi / (1.0 + self.offset)
        product = torch.sin(unit * t) * torch.sin(unit * (t + 2 * self.offset))
        return torch.sqrt(product) / self._cos(torch.zeros_like(t))

    @schedule
    def time_at(self, log_snr: Tensor) -> Tensor:
        """The t with alpha^2 = sigmoid(log_snr), of the shape of the argument; outside the range, its ends."""
        unit = 0.5 * math.pi / (1.0 + self.offset)
        start = unit * self.offset
        c, s = math.cos(start), math.sin(start)
        noise = c * c * torch.sigmoid(-log_snr)  # sin(phi)^2 - s^2, which is sin(phi - start) sin(phi + start)
        cos, sin = c * torch.sqrt(torch.sigmoid(log_snr)), torch.sqrt(s * s + noise)
        # from the nearer end, t = 0 or t = 1: phi - start cancels where t is small beside the offset
        since = torch.atan2(noise / (sin * c + cos * s), cos * c + sin * s)
        t = torch.where(log_snr > 0, since / unit, 1.0 - torch.atan2(cos, sin) / unit)
        return t.clamp(self.t_min, self.t_max)

    def _standard_prior(self, level: GaussianLevel) -> NormalPrior:
        return NormalPrior(0.0, 1.0)
