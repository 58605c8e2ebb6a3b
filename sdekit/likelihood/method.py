"""The ODE method of a tolerance."""

from __future__ import annotations

from ..errors import InvalidArgument, InvalidType, describe, number, one_of
from ..ode.adaptive import Dopri5
from ..ode.base import ODEMethod
from ..ode.dopri8 import Dopri8

TOLERANCES = {"fast": 3e-4, "default": 1e-5, "tight": 1e-8}
"""Tolerances by name."""

SMALL = 32
"""Coordinates up to which a named tolerance of a log-density is its number; it is in proportion to them above."""


def chosen(
    owner: str, method: ODEMethod | None, tol: str | float | None, dimension: int = 0, *, noisy: bool = False
) -> ODEMethod:
    """The method, or that of the tolerance: ``dimension`` is that of an event whose log-density is asked for.

    ``noisy``: where the field has noise of its own at each evaluation, Dopri5's smaller weights average it better.
    """
    if method is not None:
        if not isinstance(method, ODEMethod):
            raise InvalidType(f"{owner}: method must be one such as ode.Dopri5(), got {describe(method)}")
        if tol is not None:
            raise InvalidArgument(
                f"{owner}: tol must be left out where a method is given, got {describe(tol)} with {method!r}"
            )
        return method
    if tol is None or isinstance(tol, str):
        tol = TOLERANCES[one_of(owner, "tol", tol or "default", TOLERANCES)] * max(1.0, dimension / SMALL)
    else:
        tol = number(owner, "tol", tol, above=0.0, below=1.0)
    # of an outlier's log-density, which is larger than any tolerance is small
    return (Dopri5 if noisy else Dopri8)(rtol=1e-3 * tol, atol=tol)
