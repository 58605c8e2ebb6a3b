"""Implicit score matching, with the exact trace."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..types import NoiseSource, Scalar, scale
from .base import Implicit, pull
from .times import Times
from .weights import Weight


@dataclass(frozen=True)
class ImplicitScoreMatching(Implicit):
    """Hyvarinen's score matching, the one without a target: the score's divergence stands in for the data's score.

    E_t w(t) sigma^2 E_x [ tr(grad score) + |score|^2 / 2 ],    x = alpha x0 + sigma eps.

    Twice its expectation is denoising score matching's less w D, with D coordinates: both have the same minimiser,
    the exact score, and gradients in the ratio of 1 to 2. It costs one backward pass a coordinate.
    (Hyvarinen 2005, theorem 1, JMLR 6:695; the identity: Vincent 2011, doi 10.1162/NECO_a_00142.)

    ``weight``, ``times``, ``reduction``: as for DenoisingScoreMatching. ``times=None``: Hyvarinen's own setting, the
    data without noise on a model that is asked at t_min, without w sigma^2; for any process. Rows must not depend on
    each other, as they do under batch normalisation.
    """

    weight: str | Weight = "simple"
    times: str | float | Times | None = "stratified"
    reduction: str = "mean"

    def divergence(self, u: Tensor, c: Scalar, x: Tensor, noise: NoiseSource) -> Tensor:
        """c du_i/dx_i + u_i^2 / 2."""
        flat = u.reshape(len(u), math.prod(u.shape[1:]))
        columns = []
        for i in range(flat.shape[1]):
            column = flat[:, i]
            columns.append(pull(column, torch.ones_like(column), x).reshape(flat.shape)[:, i])
        diagonal = torch.stack(columns, 1).reshape(x.shape)
        return scale(c, diagonal) + 0.5 * u.square()
