"""NCSN on its own table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import ScheduleError
from ..types import schedule
from .table import TableSDE, brief, slopes
from .tables import check_table, geometric


@dataclass(frozen=True, eq=False)
class DiscreteVESDE(TableSDE):
    """NCSN on its own table of noise levels: exact at the times 1 to N, usable at any time between.

    alpha_i = 1,   sigma_i as given; log(sigma) is a monotone cubic in t between two times, and linear where the
    levels are geometric, as in VESDE.

    (Song & Ermon 2019, section 4, arXiv:1907.05600; Song et al. 2021, eq. 8, arXiv:2011.13456.)

    ``sigmas``: (N,), strictly rising or strictly falling (NCSN counts from the most noise); kept rising, so that time
    runs to the noise here as everywhere. A network trained on NCSN's count is told ``lambda level: N - level.t``.
    ``times``: of the levels, where the table is a respaced one. Raises ScheduleError unless N >= 2 and the sigmas are
    positive, finite and monotone.

    Example: ``DiscreteVESDE(sdekit.sdes.tables.geometric(232, 0.01, 50.0))``.
    """

    sigmas: Tensor | Sequence[float] = field(default_factory=geometric)
    times: Tensor | Sequence[float] | None = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        sigmas = check_table("DiscreteVESDE", "sigmas", self.sigmas)
        sigmas = sigmas.flip(0) if float(sigmas[0]) > float(sigmas[-1]) else sigmas
        if not bool(torch.isfinite(sigmas).all()) or float(sigmas[0]) <= 0 or not bool((sigmas.diff() > 0).all()):
            raise ScheduleError(
                f"DiscreteVESDE: sigmas must be positive, finite and strictly monotone, got {brief(sigmas)}"
            )
        object.__setattr__(self, "sigmas", sigmas)
        times = self._tabulate(self.times, len(sigmas))
        # a node below the first level, so that every level ends an interval and keeps its number to the bit
        logs = sigmas.log()
        nodes = (*(torch.cat([2 * v[:1] - v[1:2], v]) for v in (times, logs)), torch.cat([sigmas[:1], sigmas]))
        object.__setattr__(self, "_knots", (*nodes[:2], slopes(*nodes[:2]), nodes[2]))

    def _kept(self, index: Tensor) -> dict[str, Tensor]:
        return {"sigmas": self._knots[3][1:][index]}

    @schedule
    def alpha(self, t: Tensor) -> Tensor:
        """1, of the shape of t."""
        return torch.ones_like(t)

    @schedule
    def sigma(self, t: Tensor) -> Tensor:
        """The table's own sigma at its times, geometric between them; of the shape of t."""
        k, below = self._bracket(t.clamp(min=self.t_min))
        # the table's number times exp(-0) at its times, not the exponential of its logarithm
        return self._on(t.device)[3][k] * torch.exp(-below)

    def schedules(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """alpha, sigma and log_snr, of one place in the table."""
        alpha, sigma = self.alpha(t), self.sigma(t)
        return alpha, sigma, 2 * (alpha.log() - sigma.log())

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(f, g^2) = (0, d sigma^2 / dt) at the times t."""
        return torch.zeros_like(t), 2 * self.sigma(t).square() * self._slope(t.clamp(min=self.t_min))

    @schedule
    def time_at(self, log_snr: Tensor) -> Tensor:
        """The t with sigma(t) = exp(-log_snr / 2), of the shape of the argument; outside the range, its ends."""
        return self._when(-0.5 * log_snr)

    def __repr__(self) -> str:
        return self._with_prior_shown(f"DiscreteVESDE(sigmas=[{brief(self.sigmas)}])")  # type: ignore[arg-type]
