"""Weights: functions of the level by which |eps_model - eps|^2 is multiplied."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ..sdes.base import GaussianLevel
from ..types import Scalar

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


NAMES: dict[str, Weight] = {"simple": simple, "likelihood": likelihood}
