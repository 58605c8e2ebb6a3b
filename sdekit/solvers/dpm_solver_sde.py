"""SDE-DPM-Solver and SDE-DPM-Solver++, multistep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import number, one_of, whole
from ..sdes.gaussian import GaussianLevel
from ..types import Scalar
from .exponential import first, ramp, square
from .multistep import LinearMultistep


@dataclass(frozen=True)
class DPMSolverSDE(LinearMultistep):
    """SDE-DPM-Solver++, multistep ("2M SDE", "3M SDE"), and SDE-DPM-Solver: DPM-Solver on the reverse SDE.

    ``view="x0"`` (++), h being the step in log(alpha / sigma):

        x_s = (sigma_s / sigma_t) e^(-eta h) x - alpha_s (e^(-(1 + eta) h) - 1) D + sigma_s sqrt(1 - e^(-2 eta h)) z,

    ``view="eps"``:  x_s = (alpha_s / alpha_t) x - (1 + eta) sigma_s (e^h - 1) D + sigma_s sqrt(eta (e^(2 h) - 1)) z;

    D is the view at t (1 point), which with x0 and eta = 1 is ancestral sampling and DDIM(1); of 2 points (1 + h / 2h')
    times it less h / 2h' times the one before, h' being the step before, or with ``variant="heun"`` the exact integral
    of the line. Of 3 points it is the parabola's, but for its square, which counts half of its integral: SASolver(3, 0)
    has all of it. ``eta`` is k-diffusion's, tau^2 of :class:`LinearMultistep`: 1 in the papers, 0 without noise.

    Lu et al. 2022, section 5 (arXiv:2211.01095), their SDE solvers of order 1 and 2; variants, eta and 3 points:
    Crowson, k-diffusion. The weak order is min(points, 2): three points make the error smaller, not the order 3. One of
    eps has almost an order 2 on Gaussian data, and 1 on any other. Raises InvalidArgument unless 1 <= points <= 3 and
    eta >= 0.
    """

    points: int = 2
    eta: float = 1.0
    view: str = "x0"
    variant: str = "midpoint"

    coordinate = "log_snr"
    corrector = False

    def __post_init__(self) -> None:
        whole("DPMSolverSDE", "points", self.points, at_least=1, at_most=3)
        number("DPMSolverSDE", "eta", self.eta, at_least=0.0)
        one_of("DPMSolverSDE", "view", self.view, ("x0", "eps"))
        one_of("DPMSolverSDE", "variant", self.variant, ("midpoint", "heun"))

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """Whether eta > 0."""
        return self.eta > 0

    def strength(self, t: GaussianLevel) -> Scalar:
        """sqrt(eta)."""
        return math.sqrt(self.eta)

    def predicted(
        self, t: GaussianLevel, s: GaussianLevel, levels: Sequence[GaussianLevel]
    ) -> tuple[Scalar, Sequence[Scalar]]:
        """(keep, weights) of the step."""
        tau = self.strength(t)
        keep, total = first(self.view, t, s, tau)
        if len(levels) == 1:
            return keep, (total,)
        h, last = 0.5 * (s.log_snr - t.log_snr), 0.5 * (t.log_snr - levels[-2].log_snr)
        if self.points == 2 and self.variant == "midpoint":
            slope = 0.5 * total * h / last
            return keep, (-slope, total + slope)
        slope = ramp(self.view, t, s, tau) / last
        if len(levels) == 2:
            return keep, (-slope, total + slope)
        before = 0.5 * (levels[1].log_snr - levels[0].log_snr)
        bend = (slope * last**2 + 0.5 * square(self.view, t, s, tau)) / (last + before)
        return keep, (bend / before, -slope - bend / last - bend / before, total + slope + bend / last)
