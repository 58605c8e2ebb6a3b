"""Adams-Bashforth methods on the probability flow itself."""

from __future__ import annotations

from dataclasses import dataclass

from .multistep import LinearMultistep


@dataclass(frozen=True)
class Adams(LinearMultistep):
    """Adams and Bashforth's method in t: dx/dt of the probability flow as a polynomial in t through ``points`` values.

    x_s = x_t + int (dx/dt) dt. On FlowSDE it is the multistep method of flow matching.

    Hairer, Norsett & Wanner 1993, section III.5. Raises InvalidArgument unless 1 <= points <= 4.
    """

    points: int = 3

    view = "velocity"
    coordinate = "t"
    corrector = False
