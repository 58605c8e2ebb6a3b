"""DEIS."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import one_of
from .multistep import LinearMultistep


@dataclass(frozen=True)
class DEIS(LinearMultistep):
    """DEIS: eps as a polynomial in t ("tAB") or in sigma / alpha ("rhoAB"), its integral over sigma / alpha exact.

    x_s = (alpha_s / alpha_t) x_t + alpha_s int eps d(sigma / alpha), with ``points`` values; the paper's tAB-r has
    r + 1.

    Zhang & Chen 2023, eq. 14-15 and section 4 (arXiv:2204.13902). Raises InvalidArgument unless 1 <= points <= 4.
    """

    points: int = 3
    coordinate: str = "t"

    view = "eps"
    corrector = False

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("DEIS", "coordinate", self.coordinate, ("t", "sigma"))
