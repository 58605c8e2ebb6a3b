"""DPM-Solver and DPM-Solver++, multistep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import one_of, whole
from ..sdes.gaussian import GaussianLevel
from ..types import Scalar
from .exponential import first
from .multistep import LinearMultistep


@dataclass(frozen=True)
class DPMSolver(LinearMultistep):
    """DPM-Solver++, multistep ("2M", "3M"), and DPM-Solver: the exponential integrators in l = log(alpha / sigma).

    ``view="x0"`` (++):  x_s = (sigma_s / sigma_t) x - alpha_s (e^-h - 1) D,   h = l_s - l_t,
    ``view="eps"``:      x_s = (alpha_s / alpha_t) x - sigma_s (e^h - 1) D;
    D is the view at t (order 1, which is DDIM), or (1 + h / 2h') times it less h / 2h' times the one before, h' being
    the step before (order 2); of order 3 the integral of the parabola through three values takes its place.

    The step to the clean level ends at the model's x0. The first step is of order 1, which costs order 2 nothing; in
    order 3 it is corrected once its end has been evaluated. Lu et al. 2022, algorithm 2 (arXiv:2211.01095); in eps,
    Lu et al. 2022 (arXiv:2206.00927). The parabola's last weight is twice that of the authors' code, with which the
    order would be 2. Raises InvalidArgument unless order is 1, 2 or 3.
    """

    order: int = 2
    view: str = "x0"

    coordinate = "log_snr"
    corrector = False

    def __post_init__(self) -> None:
        whole("DPMSolver", "order", self.order, at_least=1, at_most=3)
        one_of("DPMSolver", "view", self.view, ("x0", "eps"))

    @property
    def points(self) -> int:
        """The order."""
        return self.order

    def corrects(self, values: int) -> bool:
        """In the first step of order 3 alone."""
        return values < self.order - 1

    def predicted(
        self, t: GaussianLevel, s: GaussianLevel, levels: Sequence[GaussianLevel]
    ) -> tuple[Scalar, Sequence[Scalar]]:
        """(keep, weights) of the step."""
        if len(levels) > 2:
            return self.exact(t, s, levels)
        keep, total = first(self.view, t, s)
        if len(levels) == 1:
            return keep, (total,)
        r = 0.5 * (s.log_snr - t.log_snr) / (t.log_snr - levels[0].log_snr)
        return keep, (-r * total, (1.0 + r) * total)
