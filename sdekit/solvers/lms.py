"""Linear multistep in the noise level."""

from __future__ import annotations

from dataclasses import dataclass

from .multistep import LinearMultistep


@dataclass(frozen=True)
class LMS(LinearMultistep):
    """Adams and Bashforth's method for y = x / alpha in n = sigma / alpha: eps as a polynomial in n.

    dy / dn = eps,   x_s = (alpha_s / alpha_t) x_t + alpha_s int eps dn, through ``points`` values.

    The "LMS" of Crowson's k-diffusion, on the flow of Karras et al. 2022, eq. 1 (arXiv:2206.00364). Raises
    InvalidArgument unless 1 <= points <= 4.
    """

    points: int = 4

    view = "eps"
    coordinate = "sigma"
    corrector = False
