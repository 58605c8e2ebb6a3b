"""PLMS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..sdes.gaussian import GaussianLevel
from ..types import Scalar
from .exponential import first
from .multistep import LinearMultistep

WEIGHTS = ((1.0,), (-1 / 2, 3 / 2), (5 / 12, -16 / 12, 23 / 12), (-9 / 24, 37 / 24, -59 / 24, 55 / 24))
"""Adams and Bashforth's on an even grid, the newest value last."""


@dataclass(frozen=True)
class PLMS(LinearMultistep):
    """Pseudo linear multistep: DDIM's step with Adams and Bashforth's mean of the last eps, whatever the grid.

    x_s = (alpha_s / alpha_t) x_t - sigma_s (e^h - 1) D,   D = (55 eps_0 - 59 eps_1 + 37 eps_2 - 9 eps_3) / 24,

    eps_0 being the newest, with fewer values at the start. The weights are those of an even grid: the order is 2 on
    grids whose neighbouring steps become equal, and 1 on any other.

    Liu et al. 2022, eq. 12 (arXiv:2202.09778), started as Rombach et al.'s PLMS, without Runge-Kutta steps. Raises
    InvalidArgument unless 1 <= points <= 4.
    """

    points: int = 4

    view = "eps"
    coordinate = "log_snr"
    corrector = False

    def predicted(
        self, t: GaussianLevel, s: GaussianLevel, levels: Sequence[GaussianLevel]
    ) -> tuple[Scalar, Sequence[Scalar]]:
        """(keep, weights) of the step."""
        keep, total = first("eps", t, s)
        return keep, [total * w for w in WEIGHTS[len(levels) - 1]]
