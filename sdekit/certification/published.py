"""The published closed forms of every process, in NumPy: the reference that a certificate measures against.

They are written from the papers, not from the package. A table is SciPy's monotone cubic through the logarithm of its
product, cumulated in long double. A process that nobody has published answers for itself.
"""

from __future__ import annotations

import functools
import math
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from ..sdes import (
    EDMSDE,
    VESDE,
    VPSDE,
    CosineSDE,
    DiscreteVESDE,
    DiscreteVPSDE,
    FlowSDE,
    GaussianSDE,
    LinearSDE,
    SubVPSDE,
)

Array: TypeAlias = NDArray[np.float64]


@functools.lru_cache(maxsize=32)
def _cubic(sde: DiscreteVPSDE | DiscreteVESDE) -> Any:
    """The monotone cubic through -log(alpha_bar), or log(sigma), at the times of a table."""
    from scipy.interpolate import PchipInterpolator

    times = np.asarray(sde.times, dtype=np.float64)
    if isinstance(sde, DiscreteVPSDE):
        spent = np.cumsum(-np.log1p(-np.asarray(sde.betas, dtype=np.longdouble)))
        values = np.concatenate([[0.0], spent])
    else:
        logs = np.log(np.asarray(sde.sigmas, dtype=np.longdouble))
        values = np.concatenate([[2 * logs[0] - logs[1]], logs])
    return PchipInterpolator(np.concatenate([[0.0], times]), values.astype(np.float64))


def _linear_beta(sde: VPSDE | SubVPSDE, t: Any) -> tuple[Any, Any]:
    """(beta, its integral) of Song et al. 2021, eq. 32 (arXiv:2011.13456)."""
    low, high = sde.beta_min, sde.beta_max
    return low + t * (high - low), low * t + 0.5 * (high - low) * t * t


def alpha_sigma(sde: GaussianSDE, times: Any) -> tuple[Array, Array]:
    """(alpha, sigma) at an array of times.

    Song et al. 2021, eq. 29-30 and appendix C (arXiv:2011.13456); Nichol & Dhariwal 2021, eq. 17 (arXiv:2102.09672);
    Karras et al. 2022, table 1 (arXiv:2206.00364); Lipman et al. 2023, eq. 20 (arXiv:2210.02747).
    """
    t = np.asarray(times, dtype=np.float64)
    match sde:
        case VPSDE():
            b = _linear_beta(sde, t)[1]
            return np.exp(-b / 2), np.sqrt(-np.expm1(-b))
        case SubVPSDE():
            b = _linear_beta(sde, t)[1]
            return np.exp(-b / 2), -np.expm1(-b)
        case VESDE():
            return np.ones_like(t), sde.sigma_min * (sde.sigma_max / sde.sigma_min) ** t
        case CosineSDE():
            w = np.longdouble(math.pi) / 2 / (1 + np.longdouble(sde.offset))
            a, b = w * (t + np.longdouble(sde.offset)), w * np.longdouble(sde.offset)
            alpha = np.cos(a) / np.cos(b)
            return alpha.astype(float), np.sqrt(np.sin(a - b) * np.sin(a + b)).astype(float) / float(np.cos(b))
        case FlowSDE():
            return 1 - t, t
        case EDMSDE():
            return np.ones_like(t), t
        case DiscreteVPSDE():
            b = _cubic(sde)(t)
            return np.exp(-b / 2), np.sqrt(-np.expm1(-b))
        case DiscreteVESDE():
            return np.ones_like(t), np.exp(_cubic(sde)(t))
        case _:
            own = torch.as_tensor(t)
            return sde.alpha(own).numpy(), sde.sigma(own).numpy()


def rates(sde: GaussianSDE, t: float) -> tuple[float, float]:
    """(f, g^2) at one time.

    Song et al. 2021, eq. 29, 30, 32; Karras et al. 2022, table 1; Nichol & Dhariwal 2021, eq. 17, differentiated.
    """
    match sde:
        case VPSDE() | SubVPSDE():
            beta, b = _linear_beta(sde, t)
            return -beta / 2, beta * -np.expm1(-2 * b) if isinstance(sde, SubVPSDE) else beta
        case VESDE():
            sigma = sde.sigma_min * (sde.sigma_max / sde.sigma_min) ** t
            return 0.0, 2 * sigma**2 * math.log(sde.sigma_max / sde.sigma_min)
        case CosineSDE():
            w = math.pi / 2 / (1 + sde.offset)
            # tan near its pole, as a cotangent of what is left
            tan = 1 / math.tan(w * (1 - t))
            return -w * tan, 2 * w * tan
        case FlowSDE():
            return -1 / (1 - t), 2 * t / (1 - t)
        case EDMSDE():
            return 0.0, 2 * t
        case DiscreteVPSDE() | DiscreteVESDE():
            slope = float(_cubic(sde).derivative()(t))
            if isinstance(sde, DiscreteVPSDE):
                return -slope / 2, slope
            return 0.0, 2 * slope * float(alpha_sigma(sde, t)[1]) ** 2
        case LinearSDE():
            own = torch.tensor(t, dtype=torch.float64)
            f, g = (float(rate(own) if callable(rate) else rate) for rate in (sde.f, sde.g))
            return f, g * g
        case _:
            found = sde.rates(torch.tensor([t], dtype=torch.float64))
            return float(found[0]), float(found[1])


def kernel_variance(sde: GaussianSDE, t: float, s: float) -> float:
    """var(x_t | x_s) = sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2; on VP, DDPM's beta, which is 1 - alpha_bar_t /
    alpha_bar_s, without cancellation."""
    if isinstance(sde, VPSDE):
        return float(-np.expm1(_linear_beta(sde, s)[1] - _linear_beta(sde, t)[1]))
    (a_t, a_s), (s_t, s_s) = (v.tolist() for v in alpha_sigma(sde, [t, s]))
    return float(s_t**2 - (a_t / a_s) ** 2 * s_s**2)


def log_ratio(sde: GaussianSDE, t: Any) -> Array:
    """log(sigma / alpha) at an array of times."""
    alpha, sigma = alpha_sigma(sde, t)
    return np.log(sigma) - np.log(alpha)


def alpha_where(sde: GaussianSDE, n: float) -> float:
    """alpha where sigma / alpha is n."""
    match sde:
        case VPSDE() | CosineSDE() | DiscreteVPSDE():  # alpha^2 + sigma^2 = 1
            return 1 / math.sqrt(1 + n * n)
        case SubVPSDE():  # sigma = 1 - alpha^2
            return 2 / (n + math.sqrt(n * n + 4))
        case FlowSDE():  # sigma = 1 - alpha
            return 1 / (1 + n)
        case VESDE() | EDMSDE() | DiscreteVESDE():
            return 1.0
        case _:
            return float(sde.alpha(sde.time_at(torch.tensor(-2 * math.log(n), dtype=torch.float64))))
