"""The ODE methods of torchdiffeq and of SciPy, as cross-checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import IntegrationError, InvalidArgument, InvalidType, NonFiniteError, describe, number, one_of
from ..types import Time
from .base import Field, ODEMethod, Stats, check_slope, check_start

TORCHDIFFEQ = {
    "dopri5": 5, "dopri8": 8, "bosh3": 3, "fehlberg2": 2, "adaptive_heun": 2,
    "euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4, "explicit_adams": 4, "implicit_adams": 4,
}  # fmt: skip
"""Orders of torchdiffeq's methods, by name."""

OVERSHOOTING = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")
"""Those that step past the end and interpolate, unless told to stop there."""

SCIPY = {"RK23": 3, "RK45": 5, "DOP853": 8, "Radau": 5, "BDF": 1, "LSODA": 1}
"""Orders of scipy.integrate.solve_ivp's methods, by name; BDF and LSODA choose theirs, from 1 up."""


@dataclass(frozen=True)
class TorchDiffEq(ODEMethod):
    """A method of torchdiffeq, by its name there: ``TorchDiffEq("dopri5", rtol=1e-7, atol=1e-7)``.

    One step and one error norm serve the whole batch: a row's result depends on its batch mates. ``options`` goes to
    torchdiffeq as it is (``{"step_size": 0.01}`` for its fixed-step methods).
    (Chen 2018, github.com/rtqichen/torchdiffeq.)
    """

    name: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        one_of("TorchDiffEq", "name", self.name, TORCHDIFFEQ)
        if not isinstance(self.options, Mapping):
            raise InvalidType(f"TorchDiffEq: options must be settings by name, got {describe(self.options)}")
        number("TorchDiffEq", "rtol", self.rtol, at_least=0.0)
        number("TorchDiffEq", "atol", self.atol, above=0.0)

    @property
    def order(self) -> int:  # type: ignore[override]
        """The method's order."""
        return TORCHDIFFEQ[self.name]

    @property
    def evaluations(self) -> None:  # type: ignore[override]
        """None: the library chooses."""
        return None

    def advance(self, field: Field, x: Tensor, t: float, s: float) -> tuple[Tensor, Stats]:
        """x at s, from x of shape (B, *event) at t."""
        from torchdiffeq import odeint

        check_start(type(self).__name__, field, x, t, s)
        counted = _Counted(type(self).__name__, field)
        if not x.numel() or t == s:
            return x.clone(), Stats(0)
        times = torch.tensor([t, s], dtype=torch.float64, device=x.device)
        # a field need not be defined, nor smooth, beyond the interval
        options = ({"step_t": times[1:]} if self.name in OVERSHOOTING else {}) | dict(self.options)
        try:
            path = odeint(
                lambda time, y: counted(y, float(time)), x, times, rtol=self.rtol, atol=self.atol, method=self.name,
                options=options or None,
            )  # fmt: skip
        except AssertionError as error:
            if error is counted.failure:
                raise
            raise IntegrationError(f"TorchDiffEq: {self.name} gave up between {t:g} and {s:g}: {error}") from error
        return _finite("TorchDiffEq", path[1]), Stats(counted.count)

    def coarser(self) -> TorchDiffEq:
        """The method at ten times the tolerance."""
        return replace(self, rtol=10 * self.rtol, atol=10 * self.atol)


@dataclass(frozen=True)
class SciPy(ODEMethod):
    """A method of scipy.integrate.solve_ivp, by its name there: ``SciPy("DOP853", rtol=1e-9, atol=1e-9)``.

    The whole batch is one system on the host in float64: one step and one error norm, so a row's result depends on its
    batch mates.  (Virtanen et al. 2020, doi 10.1038/s41592-019-0686-2.)
    """

    name: str = "RK45"
    rtol: float = 1e-5
    atol: float = 1e-5

    def __post_init__(self) -> None:
        one_of("SciPy", "name", self.name, SCIPY)
        number("SciPy", "rtol", self.rtol, at_least=0.0)
        number("SciPy", "atol", self.atol, above=0.0)
        if self.rtol < 1e-13:
            raise InvalidArgument(f"SciPy: rtol must be at least 1e-13, near SciPy's floor, got {self.rtol:g}")

    @property
    def order(self) -> int:  # type: ignore[override]
        """The method's order."""
        return SCIPY[self.name]

    @property
    def evaluations(self) -> None:  # type: ignore[override]
        """None: the library chooses."""
        return None

    def advance(self, field: Field, x: Tensor, t: float, s: float) -> tuple[Tensor, Stats]:
        """x at s, from x of shape (B, *event) at t."""
        from scipy.integrate import solve_ivp

        check_start(type(self).__name__, field, x, t, s)
        counted = _Counted(type(self).__name__, field)

        def right_hand_side(time: float, y: Any) -> Any:
            state = torch.as_tensor(y).reshape(x.shape).to(x)
            return counted(state, float(time)).detach().reshape(-1).double().cpu().numpy()

        if not x.numel():
            return x.clone(), Stats(0)
        start = x.detach().reshape(-1).double().cpu().numpy()
        solution = solve_ivp(right_hand_side, (t, s), start, method=self.name, rtol=self.rtol, atol=self.atol)
        if not solution.success:
            raise IntegrationError(f"SciPy: {self.name} gave up between {t:g} and {s:g}: {solution.message}")
        end = torch.as_tensor(solution.y[:, -1].copy()).reshape(x.shape).to(x)
        return _finite("SciPy", end), Stats(counted.count)

    def coarser(self) -> SciPy:
        """The method at ten times the tolerance."""
        return replace(self, rtol=10 * self.rtol, atol=10 * self.atol)


class _Counted:
    def __init__(self, owner: str, field: Field):
        self.owner = owner
        self.field = field
        self.count = 0
        self.failure: AssertionError | None = None
        """The field's own, where it has failed: a method that gives up asserts, too."""

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        self.count += 1
        try:
            slope = self.field(x, t)
        except AssertionError as error:
            self.failure = error
            raise
        return check_slope(self.owner, slope, x)


def _finite(owner: str, x: Tensor) -> Tensor:
    if not bool(torch.isfinite(x).all()):
        raise NonFiniteError(f"{owner}: the integration must end in finite values, got NaN or infinity")
    return x
