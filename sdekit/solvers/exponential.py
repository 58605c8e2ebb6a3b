"""The exact step of the flow, and of the reverse SDE of a strength tau, by a view that is constant or a line.

With l = log(alpha / sigma), h = l_s - l_t and x_s = keep x_t + int weight view dl + deviation z, Xue et al. 2023,
section 4 (arXiv:2309.05019):

    "x0":   keep = (sigma_s / sigma_t) e^(-tau^2 h),   weight = alpha_s (1 + tau^2) e^(-(1 + tau^2) (l_s - l)),
            deviation = sigma_s sqrt(1 - e^(-2 tau^2 h)),
    "eps":  keep = alpha_s / alpha_t,   weight = -sigma_s (1 + tau^2) e^(l_s - l),
            deviation = sigma_s tau sqrt(e^(2 h) - 1).
"""

from __future__ import annotations

from ..sdes.gaussian import GaussianLevel
from ..types import Scalar, exp, expm1, sqrt

BETWEEN: dict[int, tuple[float, ...]] = {1: (), 2: (1 / 2,), 3: (1 / 3, 2 / 3)}
"""Where the levels between lie, as fractions of the step in log(alpha / sigma), by the evaluations of a step."""


def kept(view: str, t: GaussianLevel, s: GaussianLevel, tau: Scalar = 0.0) -> Scalar:
    """keep: what x_t counts for."""
    ratio = s.alpha / t.alpha
    return ratio * exp(-0.5 * (1.0 + tau**2) * (s.log_snr - t.log_snr)) if view == "x0" else ratio


def first(view: str, t: GaussianLevel, s: GaussianLevel, tau: Scalar = 0.0) -> tuple[Scalar, Scalar]:
    """(keep, integral of the weight): the method of order 1, by one value."""
    h, rate = 0.5 * (s.log_snr - t.log_snr), 1.0 + tau**2
    total = -s.alpha * expm1(-rate * h) if view == "x0" else -rate * s.sigma * expm1(h)
    return kept(view, t, s, tau), total


def ramp(view: str, t: GaussianLevel, s: GaussianLevel, tau: Scalar = 0.0) -> Scalar:
    """The integral of the weight times l - l_t: what a slope of 1 counts beside the value at t."""
    h, rate = 0.5 * (s.log_snr - t.log_snr), 1.0 + tau**2
    if view == "x0":
        return s.alpha * (rate * h + expm1(-rate * h)) / rate
    return -rate * s.sigma * (expm1(h) - h)


def square(view: str, t: GaussianLevel, s: GaussianLevel, tau: Scalar = 0.0) -> Scalar:
    """The integral of the weight times (l - l_t)^2."""
    h, rate = 0.5 * (s.log_snr - t.log_snr), 1.0 + tau**2
    if view == "x0":
        return s.alpha * h**2 - 2.0 / rate * ramp(view, t, s, tau)
    return rate * s.sigma * h**2 + 2.0 * ramp(view, t, s, tau)


def deviation(view: str, t: GaussianLevel, s: GaussianLevel, tau: Scalar) -> Scalar:
    """The standard deviation of the step's noise."""
    gap = s.log_snr - t.log_snr
    if view == "x0":
        return s.sigma * sqrt(-expm1(-(tau**2) * gap))
    return s.sigma * tau * sqrt(expm1(gap))
