"""Weights: functions of the level by which |eps_model - eps|^2 is multiplied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ..errors import number
from ..sdes.gaussian import GaussianLevel
from ..types import Scalar, exp, minimum

Weight: TypeAlias = Callable[[GaussianLevel], Scalar]


def simple(level: GaussianLevel) -> float:
    """1: DDPM's L_simple, and NCSN's lambda = sigma^2 on the score.

    (Ho et al. 2020, eq. 14, arXiv:2006.11239; Song & Ermon 2019, eq. 6, arXiv:1907.05600.)
    """
    return 1.0


def likelihood(level: GaussianLevel) -> Scalar:
    """g^2 / (2 sigma^2), that is g^2 / 2 on the score: the weight of maximum likelihood.

    With ``reduction="sum"`` the loss, times t_max - t_min, bounds -E log p up to terms that no model changes.
    (Song et al. 2021b, eq. 7, arXiv:2101.09258.)
    """
    return 0.5 * level.g2 / (level.sigma * level.sigma)


@dataclass(frozen=True)
class EDM:
    """(s^2 + sigma_data^2) / sigma_data^2 with s = sigma / alpha: the plain mean square of EDM's network.

    On x0 it is (s^2 + sigma_data^2) / (s sigma_data)^2.  (Karras et al. 2022, table 1, arXiv:2206.00364.)
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        number("EDM", "sigma_data", self.sigma_data, above=0.0)

    def __call__(self, level: GaussianLevel) -> Scalar:
        """The weight at the level."""
        s = level.sigma / (level.alpha * self.sigma_data)
        return 1.0 + s * s


def flow(level: GaussianLevel) -> Scalar:
    """(g^2 / (2 sigma))^2: conditional flow matching, the plain square of the error in the flow's velocity.

    The velocity is f x + g^2 eps / (2 sigma). On alpha = 1 - t, sigma = t the weight is 1 / alpha^2 and the loss
    |v_model(x_t, t) - (eps - x0)|^2.  (Lipman et al. 2023, eq. 9, arXiv:2210.02747.)
    """
    rate = 0.5 * level.g2 / level.sigma
    return rate * rate


@dataclass(frozen=True)
class MinSNR:
    """min(SNR, gamma) / SNR with SNR = alpha^2 / sigma^2: on x0 it is the SNR, but gamma at most.

    (Hang et al. 2023, section 3.4, arXiv:2303.09556.)
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        number("MinSNR", "gamma", self.gamma, above=0.0)

    def __call__(self, level: GaussianLevel) -> Scalar:
        """The weight at the level."""
        return minimum(self.gamma * exp(-level.log_snr), 1.0)


NAMES: dict[str, Weight] = {
    "simple": simple,
    "likelihood": likelihood,
    "edm": EDM(),
    "flow": flow,
    "min_snr": MinSNR(),
}
