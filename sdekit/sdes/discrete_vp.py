"""DDPM on its own table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import ScheduleError
from ..types import schedule
from .gaussian import GaussianLevel
from .prior import NormalPrior
from .table import TableSDE, brief, slopes
from .tables import accumulated, check_betas, linear


@dataclass(frozen=True, eq=False)
class DiscreteVPSDE(TableSDE):
    """DDPM on its own table of betas: exact at the times 1 to N, usable at any time between.

    alpha_i = sqrt(prod_(j <= i) (1 - beta_j)),   sigma_i = sqrt(1 - alpha_i^2).

    It is a VP process, whose exact kernel from one time of the table to the next is DDPM's step x_i = sqrt(1 - beta_i)
    x_(i-1) + sqrt(beta_i) z: no discretisation separates the table from the process. Between two times log(alpha) is a
    monotone cubic in t. (Ho et al. 2020, eq. 2 and 4, arXiv:2006.11239.)

    ``betas``: (N,), least noise first: one of ``sdekit.sdes.tables``, DDPM's linear one unless given, or any that a
    network was trained with. ``times``: of the levels, where the table is a respaced one; see ``respaced``.
    Raises ScheduleError unless N >= 2, every beta lies in (0, 1), and alpha_N is more than 1e-150.

    Example: ``DiscreteVPSDE(sdekit.sdes.tables.cosine(1000))``.
    """

    betas: Tensor | Sequence[float] = field(default_factory=linear)
    times: Tensor | Sequence[float] | None = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        betas = check_betas("DiscreteVPSDE", self.betas)
        object.__setattr__(self, "betas", betas)
        times = self._tabulate(self.times, len(betas))
        # -log(alpha_bar), from log1p: a product of 1 - beta in float32 loses sigma where it is small
        spent = accumulated(-torch.log1p(-betas))
        if float(spent[-1]) > 690.0:
            raise ScheduleError(
                f"DiscreteVPSDE: betas must leave alpha above 1e-150, got alpha = exp(-{0.5 * float(spent[-1]):g})"
            )
        zero = torch.zeros(1, dtype=torch.float64)
        nodes = torch.cat([zero, times]), torch.cat([zero, spent])
        object.__setattr__(self, "_knots", (*nodes, slopes(*nodes)))

    def _kept(self, index: Tensor) -> dict[str, Tensor]:
        spent = self._knots[1][1:][index]
        return {"betas": -torch.expm1(-spent.diff(prepend=torch.zeros(1, dtype=torch.float64)))}

    def _spent(self, t: Tensor) -> Tensor:
        """-log(alpha_bar(t))."""
        k, below = self._bracket(t)
        return self._on(t.device)[1][k] - below

    @schedule
    def alpha(self, t: Tensor) -> Tensor:
        """sqrt(alpha_bar(t)), of the shape of t."""
        return torch.exp(-0.5 * self._spent(t))

    @schedule
    def sigma(self, t: Tensor) -> Tensor:
        """sqrt(1 - alpha_bar(t)), of the shape of t."""
        return torch.sqrt(-torch.expm1(-self._spent(t)))

    def schedules(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """alpha, sigma and log_snr, of one place in the table."""
        spent = self._spent(t)
        alpha, sigma = torch.exp(-0.5 * spent), torch.sqrt(-torch.expm1(-spent))
        return alpha, sigma, 2 * (alpha.log() - sigma.log())

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(f, g^2) = (-beta / 2, beta), with beta = -d log(alpha_bar) / dt, at the times t."""
        beta = self._slope(t)
        return -0.5 * beta, beta

    @schedule
    def time_at(self, log_snr: Tensor) -> Tensor:
        """The t with -log(alpha_bar) = log(1 + exp(-log_snr)), of the argument's shape; outside the range, its ends."""
        return self._when(torch.logaddexp(-log_snr, torch.zeros_like(log_snr)))

    def _standard_prior(self, level: GaussianLevel) -> NormalPrior:
        return NormalPrior(0.0, 1.0)

    def __repr__(self) -> str:
        return self._with_prior_shown(f"DiscreteVPSDE(betas=[{brief(self.betas)}])")  # type: ignore[arg-type]
