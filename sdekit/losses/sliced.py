"""Sliced score matching."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidType, describe, one_of, whole
from ..types import NoiseSource, Scalar, scale
from .base import Implicit, pull
from .times import Times
from .weights import Weight

DISTRIBUTIONS = ("rademacher", "normal")


@dataclass(frozen=True)
class SlicedScoreMatching(Implicit):
    """Implicit score matching with the trace estimated along random directions v, one backward pass for each.

    E_t w(t) sigma^2 E_x E_v [ v^T grad(score) v + |score|^2 / 2 ],    E v v^T = I.

    ``variance_reduced=False`` has (v^T score)^2 / 2 in place of |score|^2 / 2: the same expectation, that of
    ImplicitScoreMatching, and more variance.  (Song et al. 2019, eq. 7 and 8, arXiv:1905.07088.)

    ``projections``: how many v a row; they are averaged. ``distribution``: of v, ``"rademacher"`` signs or
    ``"normal"``. ``weight``, ``times``, ``reduction``: as for ImplicitScoreMatching, ``times=None`` being the paper's
    own setting.
    """

    weight: str | Weight = "simple"
    times: str | float | Times | None = "stratified"
    reduction: str = "mean"
    projections: int = 1
    variance_reduced: bool = True
    distribution: str = "rademacher"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("SlicedScoreMatching", "projections", self.projections, at_least=1)
        if not isinstance(self.variance_reduced, bool):
            raise InvalidType(
                f"SlicedScoreMatching: variance_reduced must be True or False, got {describe(self.variance_reduced)}"
            )
        one_of("SlicedScoreMatching", "distribution", self.distribution, DISTRIBUTIONS)

    def divergence(self, u: Tensor, c: Scalar, x: Tensor, noise: NoiseSource) -> Tensor:
        """c v_i (v^T du/dx)_i, and u_i^2 / 2 or v_i u_i (v^T u) / 2, averaged over the directions."""
        total = torch.zeros_like(u)
        for k in range(self.projections):
            v = self._direction(u, noise, ("projection", k))
            square = u.square()
            if not self.variance_reduced:
                slices = (v * u).reshape(len(u), math.prod(u.shape[1:]))
                square = (slices * slices.sum(1, keepdim=True)).reshape(u.shape)
            total = total + v * scale(c, pull(u, v, x)) + 0.5 * square
        return total / self.projections

    def _direction(self, like: Tensor, noise: NoiseSource, stream: tuple[str, int]) -> Tensor:
        if self.distribution == "rademacher":
            return noise.rademacher(like, stream=stream)
        return noise.normal(like.shape, stream=stream, dtype=like.dtype, device=like.device)
