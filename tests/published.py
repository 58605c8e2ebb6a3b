"""The published closed forms of every process, in NumPy: written from the papers, not from the package.

A table is SciPy's monotone cubic through the logarithm of its product, cumulated in long double.
"""

import math

import numpy as np
from scipy.interpolate import PchipInterpolator

import sdekit as sk


def nodes(sde):
    """The times of a table's levels and -log(alpha_bar), or log(sigma), there."""
    times = np.asarray(sde.times, dtype=np.longdouble)
    if isinstance(sde, sk.DiscreteVPSDE):
        spent = np.cumsum(-np.log1p(-np.asarray(sde.betas, dtype=np.longdouble)))
        found = np.concatenate([[0.0], times]), np.concatenate([[0.0], spent])
    else:
        logs = np.log(np.asarray(sde.sigmas, dtype=np.longdouble))
        found = np.concatenate([[0.0], times]), np.concatenate([[2 * logs[0] - logs[1]], logs])
    return tuple(v.astype(np.float64) for v in found)


def linear_beta(sde, t):
    """(beta, its integral) of Song et al. 2021, eq. 32, for LinearSDE's subject too."""
    low, high = (0.1, 20.0) if isinstance(sde, sk.LinearSDE) else (sde.beta_min, sde.beta_max)
    return low + t * (high - low), low * t + 0.5 * (high - low) * t * t


def alpha_sigma(sde, times):
    """(alpha, sigma) at an array of times."""
    t = np.asarray(times, dtype=np.float64)
    if isinstance(sde, sk.VPSDE | sk.LinearSDE):
        b = linear_beta(sde, t)[1]
        return np.exp(-b / 2), np.sqrt(-np.expm1(-b))
    if isinstance(sde, sk.SubVPSDE):
        b = linear_beta(sde, t)[1]
        return np.exp(-b / 2), -np.expm1(-b)
    if isinstance(sde, sk.VESDE):
        return np.ones_like(t), sde.sigma_min * (sde.sigma_max / sde.sigma_min) ** t
    if isinstance(sde, sk.CosineSDE):
        w = np.longdouble(math.pi) / 2 / (1 + np.longdouble(sde.offset))
        a, b = w * (t + np.longdouble(sde.offset)), w * np.longdouble(sde.offset)
        alpha = np.cos(a) / np.cos(b)
        return alpha.astype(float), np.sqrt(np.sin(a - b) * np.sin(a + b)).astype(float) / float(np.cos(b))
    if isinstance(sde, sk.FlowSDE):
        return 1 - t, t
    if isinstance(sde, sk.DiscreteVPSDE):
        b = PchipInterpolator(*nodes(sde))(t)
        return np.exp(-b / 2), np.sqrt(-np.expm1(-b))
    if isinstance(sde, sk.DiscreteVESDE):
        return np.ones_like(t), np.exp(PchipInterpolator(*nodes(sde))(t))
    assert isinstance(sde, sk.EDMSDE)
    return np.ones_like(t), t


def rates(sde, t):
    """(f, g^2) at one time.

    Song et al. 2021, eq. 29, 30, 32; Karras et al. 2022, table 1; Nichol & Dhariwal 2021, eq. 17, differentiated.
    """
    if isinstance(sde, sk.VPSDE | sk.SubVPSDE | sk.LinearSDE):
        beta, b = linear_beta(sde, t)
        return -beta / 2, beta * -np.expm1(-2 * b) if isinstance(sde, sk.SubVPSDE) else beta
    if isinstance(sde, sk.VESDE):
        sigma = sde.sigma_min * (sde.sigma_max / sde.sigma_min) ** t
        return 0.0, 2 * sigma**2 * math.log(sde.sigma_max / sde.sigma_min)
    if isinstance(sde, sk.CosineSDE):
        w = math.pi / 2 / (1 + sde.offset)
        # tan near its pole, as a cotangent of what is left
        tan = 1 / math.tan(w * (1 - t))
        return -w * tan, 2 * w * tan
    if isinstance(sde, sk.FlowSDE):
        return -1 / (1 - t), 2 * t / (1 - t)
    if isinstance(sde, sk.TableSDE):
        slope = float(PchipInterpolator(*nodes(sde)).derivative()(t))
        if isinstance(sde, sk.DiscreteVPSDE):
            return -slope / 2, slope
        return 0.0, 2 * slope * float(alpha_sigma(sde, t)[1]) ** 2
    assert isinstance(sde, sk.EDMSDE)
    return 0.0, 2 * t


def log_ratio(sde, t):
    """log(sigma / alpha) at an array of times."""
    alpha, sigma = alpha_sigma(sde, t)
    return np.log(sigma) - np.log(alpha)
