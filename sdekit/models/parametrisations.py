"""Parametrisations: what a network's output means, as a row of a table.

A network F(inp x, label) estimates ``p x0 + q eps``. The pair (p, q) is the whole convention; Karras' (skip, out),
x0 = skip x + out F, follows from it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import InvalidType, describe, number, one_of
from ..sdes.gaussian import GaussianLevel
from ..sdes.table import table
from ..types import Scalar, exp, expm1, sqrt

Schedule = Callable[[GaussianLevel], Scalar]

LABELS: dict[str, Schedule] = {
    "t": lambda level: level.t,
    "log_snr": lambda level: level.log_snr,
    "ln(sigma/2)": lambda level: -0.5 * level.log_snr - math.log(2),
    "ln(sigma)/4": lambda level: -0.125 * level.log_snr,
    "alpha": lambda level: level.alpha,
}
"""What the network is told of the level, by name; sigma here is the noise level sigma / alpha.

``"alpha"`` is WaveGrad's continuous noise level sqrt(alpha_bar) (Chen et al. 2021, arXiv:2009.00713), and ``"index"``
a table's t - 1: 0 for its least noise, as networks trained on a table expect.
"""

INPUTS: dict[str, Schedule] = {
    "x": lambda level: 1.0,
    "unit": lambda level: 1.0 / sqrt(level.alpha * level.alpha + level.sigma * level.sigma),
}
"""What x is multiplied by before the network sees it, by name: nothing, or what gives unit variance to unit data."""


def _index(level: GaussianLevel) -> Scalar:
    table("label: 'index'", level.sde)
    return level.t - 1.0


LABELS["index"] = _index


class Scaling(NamedTuple):
    """A row of Karras et al. 2022, table 1 (arXiv:2206.00364): x0 = skip x + out F(inp x, label)."""

    skip: Scalar
    out: Scalar
    inp: Scalar
    label: Scalar


@dataclass(frozen=True)
class Parametrisation(ABC):
    """What a network's output means: F(inp x, label) estimates p x0 + q eps.

    ``label`` names what the network is told of the level (``"t"``, ``"log_snr"``, ``"ln(sigma/2)"``,
    ``"ln(sigma)/4"``, ``"alpha"``, ``"index"``) and ``inp`` what x is multiplied by (``"x"``: nothing, ``"unit"``:
    1 / sqrt(alpha^2 + sigma^2)); either may be a function of the level.
    """

    label: str | Schedule = "t"
    inp: str | Schedule = "x"

    def __post_init__(self) -> None:
        owner = type(self).__name__
        for name, value, choices in (("label", self.label, LABELS), ("inp", self.inp, INPUTS)):
            if not callable(value):
                one_of(owner, name, value, choices)

    @abstractmethod
    def target(self, level: GaussianLevel) -> tuple[Scalar, Scalar]:
        """(p, q) of the quantity p x0 + q eps that the network estimates."""

    def scaling(self, level: GaussianLevel) -> Scaling:
        """The row (skip, out, inp, label) at a level: skip = q / D and out = -sigma / D with D = alpha q - sigma p."""
        p, q = self.target(level)
        d = level.alpha * q - level.sigma * p
        return Scaling(q / d, -level.sigma / d, self.input_scale(level), self.label_of(level))

    def input_scale(self, level: GaussianLevel) -> Scalar:
        """What x is multiplied by before the network sees it."""
        return self.inp(level) if callable(self.inp) else INPUTS[self.inp](level)

    def label_of(self, level: GaussianLevel) -> Scalar:
        """What the network is told of the level."""
        return self.label(level) if callable(self.label) else LABELS[self.label](level)


@dataclass(frozen=True)
class Epsilon(Parametrisation):
    """The network estimates the noise eps.  (Ho et al. 2020, eq. 11, arXiv:2006.11239.)"""

    def target(self, level: GaussianLevel) -> tuple[Scalar, Scalar]:
        """(0, 1)."""
        return 0.0, 1.0


@dataclass(frozen=True)
class X0(Parametrisation):
    """The network estimates the data x0.  (Salimans & Ho 2022, section 4, arXiv:2202.00512.)"""

    def target(self, level: GaussianLevel) -> tuple[Scalar, Scalar]:
        """(1, 0)."""
        return 1.0, 0.0


@dataclass(frozen=True)
class Score(Parametrisation):
    """The network estimates the score -eps / sigma.  (Song & Ermon 2019, eq. 5, arXiv:1907.05600.)"""

    def target(self, level: GaussianLevel) -> tuple[Scalar, Scalar]:
        """(0, -1 / sigma)."""
        return 0.0, -1.0 / level.sigma


@dataclass(frozen=True)
class ScaledScore(Parametrisation):
    """The network estimates sigma times the score, -eps, and is told ln(sigma / 2).

    NCSN's noise-conditional score.  (Song & Ermon 2020, technique 3, arXiv:2006.09011; Karras et al. 2022, table 1,
    column VE, arXiv:2206.00364.)
    """

    label: str | Schedule = "ln(sigma/2)"

    def target(self, level: GaussianLevel) -> tuple[Scalar, Scalar]:
        """(0, -1)."""
        return 0.0, -1.0


@dataclass(frozen=True)
class VPrediction(Parametrisation):
    """The network estimates v = alpha eps - sigma x0.  (Salimans & Ho 2022, section 4, arXiv:2202.00512.)"""

    def target(self, level: GaussianLevel) -> tuple[Scalar, Scalar]:
        """(-sigma, alpha)."""
        return -level.sigma, level.alpha


@dataclass(frozen=True)
class FlowVelocity(Parametrisation):
    """The network estimates eps - x0, the velocity of the straight line from data to noise.

    (Lipman et al. 2023, eq. 23, arXiv:2210.02747, with time from the data to the noise; Liu et al. 2023, eq. 1,
    arXiv:2209.03003.) On FlowSDE it is the probability flow's dx/dt itself.
    """

    def target(self, level: GaussianLevel) -> tuple[Scalar, Scalar]:
        """(-1, 1)."""
        return -1.0, 1.0


@dataclass(frozen=True)
class PosteriorMean(Parametrisation):
    """The network estimates the mean mu of the reverse step to the level before, on a process with a table.

    mu = E[x_s | x_t, x_0 = x0(x_t)] with s the table's level before t, and x0 itself at the first level.
    ``residual``: Sohl-Dickstein's own form, (mu - (alpha_t / alpha_s) x) / std(x_t | x_s).

    Ho et al. 2020, eq. 7 and 8 (arXiv:2006.11239); Sohl-Dickstein et al. 2015, eq. 27, and its residual form in their
    code (arXiv:1503.03585). On a respaced table mu is that of the respaced step. Raises UnsupportedCombination for a
    process without a table.
    """

    residual: bool = False
    label: str | Schedule = "index"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.residual, bool):
            raise InvalidType(f"PosteriorMean: residual must be True or False, got {describe(self.residual)}")

    def target(self, level: GaussianLevel) -> tuple[Scalar, Scalar]:
        """(a + b alpha, b sigma) of mu = a x0 + b x; with ``residual`` b less alpha_t / alpha_s, and both over std."""
        t, s = level, table("PosteriorMean", level.sde).previous(level)
        gap = t.log_snr - s.log_snr
        ratio = s.alpha / t.alpha
        a, b = -s.alpha * expm1(gap), ratio * exp(gap)
        if not self.residual:
            return a + b * t.alpha, b * t.sigma
        std = t.sigma * sqrt(-expm1(gap))
        b = b - 1.0 / ratio
        return (a + b * t.alpha) / std, b * t.sigma / std


@dataclass(frozen=True)
class Karras(Parametrisation):
    """EDM's preconditioning: inputs and targets of unit variance at every level, for data of deviation sigma_data.

    With s = sigma / alpha and r^2 = s^2 + sigma_data^2, on y = x / alpha:
    skip = sigma_data^2 / r^2,   out = s sigma_data / r,   inp = 1 / r,   label = ln(s) / 4.

    Karras et al. 2022, table 1 (arXiv:2206.00364). Raises InvalidArgument unless sigma_data > 0.
    """

    sigma_data: float = 0.5
    label: str | Schedule = "ln(sigma)/4"
    inp: str | Schedule = "unit"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sigma_data", number("Karras", "sigma_data", self.sigma_data, above=0.0))

    def target(self, level: GaussianLevel) -> tuple[Scalar, Scalar]:
        """(s / (r sigma_data), -sigma_data / r): F = (x0 - skip y) / out with y = x0 + s eps."""
        s = level.sigma / level.alpha
        r = sqrt(s * s + self.sigma_data**2)
        return s / (r * self.sigma_data), -self.sigma_data / r

    def input_scale(self, level: GaussianLevel) -> Scalar:
        """1 / sqrt(alpha^2 sigma_data^2 + sigma^2) where ``inp`` is ``"unit"``."""
        if self.inp != "unit":
            return super().input_scale(level)
        return 1.0 / sqrt((level.alpha * self.sigma_data) ** 2 + level.sigma**2)


def check(value: object) -> Parametrisation:
    """The value where it is a parametrisation, else a named error."""
    if not isinstance(value, Parametrisation):
        raise InvalidType(f"Parametrised: parametrisation must be one such as Epsilon(), got {describe(value)}")
    return value
