"""The log-density that stands for p_T: the process's prior, or one that is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from ..errors import InvalidArgument, InvalidType, describe
from ..sdes.base import SDE
from ..sdes.prior import Prior

Density: TypeAlias = Callable[[Tensor], Tensor]


def check_prior(owner: str, sde: SDE, prior: Prior | Density | None) -> Prior | Density:
    """The prior, the process's own unless given; a named error for what is neither a prior nor can be called."""
    prior = sde.prior if prior is None else prior
    if not isinstance(prior, Prior) and not callable(prior):
        raise InvalidType(
            f"{owner}: prior must be a sdes.Prior or a log-density, (B, *event) -> (B,), got {describe(prior)}"
        )
    return prior


def density_of(owner: str, prior: Prior | Density) -> Density:
    """The log-density, which names itself where it answers with another shape than (B,)."""
    density = prior.log_prob if isinstance(prior, Prior) else prior

    def checked(x: Tensor) -> Tensor:
        value = density(x)
        if not isinstance(value, Tensor) or value.shape != x.shape[:1]:
            raise InvalidArgument(f"{owner}: prior must return (B,) = ({len(x)},), got {describe(value)}")
        return value

    return checked
