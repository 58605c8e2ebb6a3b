"""A process given by its drift rate and diffusion alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidArgument, InvalidType, NonFiniteError, ScheduleError, describe, number
from ..types import schedule
from .base import check_domain
from .gaussian import GaussianSDE

Rate: TypeAlias = float | Callable[[Tensor], Tensor | float]
"""A number, or a function of times in float64 of any shape."""


class _Remembered:
    """A solution that keeps its values at single places: a level asks thrice, and runs on one grid ask again."""

    MOST = 20_000

    def __init__(self, solution: Any):
        self.solution = solution
        self.known: dict[float, Any] = {}

    @property
    def ts(self) -> Any:
        """The ends of its steps."""
        return self.solution.ts

    def __call__(self, u: Any) -> Any:
        if u.size != 1:
            return self.solution(u)
        place = float(u[0])
        if place not in self.known:
            if len(self.known) == self.MOST:
                self.known.clear()
            self.known[place] = self.solution(u)
        return self.known[place].copy()


@dataclass(frozen=True, eq=False)
class LinearSDE(GaussianSDE):
    """Any process dx = f(t) x dt + g(t) dw, whose alpha and sigma are found numerically.

    alpha = exp(int_0^t f),   sigma^2 = alpha^2 (sigma_0^2 + int_0^t g^2 / alpha^2).

    Särkkä & Solin 2019, section 6.1; Karras et al. 2022, eq. 102 (arXiv:2206.00364). The integrals to t_min are
    adaptive quadrature; from there d log(alpha) / dt and d log(sigma^2 / alpha^2) / dt are integrated by SciPy's DOP853
    in log t, whose dense output gives both at any time to a relative 1e-10. The drift and the diffusion themselves are
    f and g as given.

    ``f``, ``g``: numbers, or functions of a float64 tensor of times, of any shape; smooth on (0, t_max].
    ``sigma_0``: the noise that is there at t = 0. Raises ScheduleError unless 0 < t_min < t_max, and where alpha or
    sigma leave float64; NonFiniteError for an f or a g that is not finite there.

    Example: an Ornstein-Uhlenbeck process, ``LinearSDE(f=-1.0, g=2.0**0.5, t_max=5.0)``.
    """

    f: Rate
    g: Rate
    sigma_0: float = 0.0
    t_min: float = 1e-4
    t_max: float = 1.0

    def __post_init__(self) -> None:
        for name in ("sigma_0", "t_min", "t_max"):
            object.__setattr__(self, name, number("LinearSDE", name, getattr(self, name), kind=ScheduleError))
        check_domain("LinearSDE", self.t_min, self.t_max)
        number("LinearSDE", "sigma_0", self.sigma_0, at_least=0.0, kind=ScheduleError)
        for name in ("f", "g"):
            rate = getattr(self, name)
            if not callable(rate):
                object.__setattr__(self, name, number("LinearSDE", name, rate, kind=ScheduleError))
        solution = self._solve()
        object.__setattr__(self, "_solution", solution)
        object.__setattr__(self, "_nodes", (solution.ts, solution(solution.ts)[1]))

    def _rate(self, name: str, t: Tensor) -> Tensor:
        rate = getattr(self, name)
        given = rate(t) if callable(rate) else rate
        try:
            value = torch.as_tensor(given, dtype=torch.float64, device=t.device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidType(
                f"LinearSDE: {name} must be a number, or return numbers of the shape of t, got {describe(given)}"
            ) from error
        if value.shape not in (t.shape, ()):
            raise InvalidArgument(
                f"LinearSDE: {name} must return the shape of t, {tuple(t.shape)}, got {describe(value)}"
            )
        return value.expand(t.shape)

    def _at(self, name: str, t: float) -> float:
        value = float(self._rate(name, torch.tensor(t, dtype=torch.float64)))
        if not np.isfinite(value):
            raise NonFiniteError(f"LinearSDE: {name} must be finite on (0, t_max], got {value} at t={t:g}")
        return value

    def _solve(self) -> Any:
        """log(alpha) and log(sigma / alpha) as functions of log t."""
        from scipy.integrate import quad, solve_ivp

        def integral(function: Callable[[float], float], t: float) -> float:
            return float(quad(function, 0.0, t, epsabs=0.0, epsrel=1e-13, limit=200, full_output=1)[0])

        def growth(t: float) -> float:
            return integral(lambda u: self._at("f", u), t)

        variance = self.sigma_0**2 + integral(lambda t: self._at("g", t) ** 2 * np.exp(-2 * growth(t)), self.t_min)
        if not variance > 0.0:
            raise ScheduleError(f"LinearSDE: g must add noise before t_min, got g={self.g!r}, sigma_0={self.sigma_0:g}")

        def slope(u: float, y: Any) -> Any:
            t = float(np.exp(u))
            return [t * self._at("f", t), 0.5 * t * self._at("g", t) ** 2 * np.exp(-2 * (y[0] + y[1]))]

        ends = np.log([self.t_min, self.t_max])
        found = solve_ivp(
            slope, ends, [growth(self.t_min), 0.5 * np.log(variance)], method="DOP853", dense_output=True,
            rtol=2e-13, atol=1e-13, max_step=(ends[1] - ends[0]) / 256,
        )  # fmt: skip
        if not found.success or not np.isfinite(found.y).all() or found.y[0].min() < -690.0:
            raise ScheduleError(
                f"LinearSDE: alpha(t_max) must lie above 1e-300, got log(alpha) = {found.y[0].min():g}; {found.message}"
            )
        return _Remembered(found.sol)

    def _logs(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """log(alpha) and log(sigma / alpha) at times of any shape."""
        if t.requires_grad:
            raise InvalidType("LinearSDE: t must not require gradients: alpha and sigma are found by SciPy")
        u = np.log(np.clip(t.detach().cpu().numpy(), self.t_min, self.t_max))
        logs = torch.from_numpy(np.asarray(self._solution(u.reshape(-1)))).to(t.device)  # type: ignore[attr-defined]
        return logs[0].reshape(t.shape), logs[1].reshape(t.shape)

    @schedule
    def alpha(self, t: Tensor) -> Tensor:
        """exp(int_0^t f), of the shape of t."""
        return self._logs(t)[0].exp()

    @schedule
    def sigma(self, t: Tensor) -> Tensor:
        """alpha sqrt(sigma_0^2 + int_0^t g^2 / alpha^2), of the shape of t."""
        log_alpha, log_ratio = self._logs(t)
        return (log_alpha + log_ratio).exp()

    @schedule
    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2), of the shape of t."""
        return -2 * self._logs(t)[1]

    @schedule
    def time_at(self, log_snr: Tensor) -> Tensor:
        """The time at which the log-SNR has a given value, of the shape of the argument; outside the range, its ends.

        Newton's method in log t, within the solution's step that holds it.
        """
        wanted = (-0.5 * log_snr.detach().cpu().numpy()).reshape(-1)
        nodes, values = self._nodes  # type: ignore[attr-defined]
        k = np.searchsorted(values, wanted).clip(1, len(nodes) - 1)
        u = np.interp(wanted, values, nodes)
        for _ in range(4):  # a straight line over 1/256 of the domain is right to 1e-3: its error squared, four times
            log_alpha, log_ratio = self._solution(u)  # type: ignore[attr-defined]
            t = torch.from_numpy(np.exp(u))
            slope = (0.5 * t * self._rate("g", t) ** 2).numpy() * np.exp(-2 * (log_alpha + log_ratio))
            u = (u - (log_ratio - wanted) / slope).clip(nodes[k - 1], nodes[k])
        found = np.exp(u).clip(self.t_min, self.t_max)
        found = np.where(wanted <= values[0], self.t_min, np.where(wanted >= values[-1], self.t_max, found))
        return torch.from_numpy(found).to(log_snr.device).reshape(log_snr.shape)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(f, g^2) at the times t, as given."""
        return self._rate("f", t), self._rate("g", t) ** 2

    def __repr__(self) -> str:
        f, g = (getattr(v, "__name__", repr(v)) if callable(v) else repr(v) for v in (self.f, self.g))
        rest = ", ".join(f"{name}={getattr(self, name)!r}" for name in ("sigma_0", "t_min", "t_max"))
        return self._with_prior_shown(f"LinearSDE(f={f}, g={g}, {rest})")
