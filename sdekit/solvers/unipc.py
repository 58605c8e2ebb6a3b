"""UniPC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import one_of, whole
from ..sdes.gaussian import GaussianLevel
from ..types import Scalar
from .exponential import first
from .multistep import LinearMultistep


@dataclass(frozen=True)
class UniPC(LinearMultistep):
    """UniPC: x0 as a polynomial in log(alpha / sigma), predicted and then corrected at no cost.

    Through p values, and p + 1 in the corrector, the weights are the exact integrals, whatever ``variant`` is. It
    decides where there are two values alone: the second one's slope then counts B / 2, with B = h ("bh1") or 1 - e^-h
    ("bh2"), h the step in log(alpha / sigma).

    Zhao et al. 2023, algorithms 5 and 6 (arXiv:2302.04867). Raises InvalidArgument unless 1 <= order <= 3.
    """

    order: int = 3
    variant: str = "bh2"

    view = "x0"
    coordinate = "log_snr"
    corrector = True

    def __post_init__(self) -> None:
        whole("UniPC", "order", self.order, at_least=1, at_most=3)
        one_of("UniPC", "variant", self.variant, ("bh1", "bh2"))

    @property
    def points(self) -> int:
        """The order."""
        return self.order

    def predicted(
        self, t: GaussianLevel, s: GaussianLevel, levels: Sequence[GaussianLevel]
    ) -> tuple[Scalar, Sequence[Scalar]]:
        """(keep, weights) of UniP."""
        if len(levels) > 2:
            return self.exact(t, s, levels)
        keep, total = first("x0", t, s)
        if len(levels) == 1:
            return keep, (total,)
        slope = self._half(total, t, s) * (s.log_snr - t.log_snr) / (t.log_snr - levels[0].log_snr)
        return keep, (-slope, total + slope)

    def corrected(
        self, t: GaussianLevel, s: GaussianLevel, levels: Sequence[GaussianLevel]
    ) -> tuple[Scalar, Sequence[Scalar]]:
        """(keep, weights) of UniC."""
        if len(levels) > 2:
            return self.exact(t, s, levels)
        keep, total = first("x0", t, s)
        slope = self._half(total, t, s)
        return keep, (total - slope, slope)

    def _half(self, total: Scalar, t: GaussianLevel, s: GaussianLevel) -> Scalar:
        """alpha_s B / 2."""
        return 0.5 * total if self.variant == "bh2" else 0.25 * s.alpha * (s.log_snr - t.log_snr)
