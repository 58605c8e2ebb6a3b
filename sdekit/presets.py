"""The field's named models: a network, a process and a parametrisation."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from .models.parametrisations import Epsilon, Karras, ScaledScore
from .models.parametrised import Parametrised
from .sdes import EDMSDE, SDE, VESDE, VPSDE

Network = nn.Module | Callable[..., Tensor]


def ddpm(network: Network, sde: SDE | None = None) -> Parametrised:
    """DDPM in continuous time: the network estimates eps on VPSDE(), told t.  (Ho et al. 2020, arXiv:2006.11239.)"""
    return Parametrised(network, VPSDE() if sde is None else sde, Epsilon())


def ncsn(network: Network, sde: SDE | None = None) -> Parametrised:
    """NCSN in continuous time: the network estimates sigma times the score on VESDE(), told ln(sigma / 2).

    (Song & Ermon 2019, arXiv:1907.05600; Song et al. 2021, arXiv:2011.13456.)
    """
    return Parametrised(network, VESDE() if sde is None else sde, ScaledScore())


def edm(network: Network, sigma_data: float = 0.5, sde: SDE | None = None) -> Parametrised:
    """EDM: a preconditioned network on EDMSDE(), for data of standard deviation sigma_data.

    EDM's own training is ``DenoisingScoreMatching(weight="edm", times="log_normal")`` for sigma_data = 0.5, and
    ``weight=losses.EDM(sigma_data)`` for another: uniform times on [0.002, 80] rarely meet the levels that matter.

    (Karras et al. 2022, table 1, arXiv:2206.00364.)
    """
    return Parametrised(network, EDMSDE() if sde is None else sde, Karras(sigma_data=sigma_data))
