"""Denoising score matching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..models.base import ScoreModel
from ..sdes.base import Level
from ..sdes.gaussian import GaussianLevel
from ..types import NoiseSource
from .base import Objective, perturbed
from .times import Times
from .weights import Weight


@dataclass(frozen=True)
class DenoisingScoreMatching(Objective):
    """Denoising score matching over all levels: the model is asked for the noise in x_t = alpha x0 + sigma eps.

    E_t E_x0 E_eps  w(t) |eps_model(x_t, t) - eps|^2,    which is w sigma^2 on the score and w alpha^2 / sigma^2 on x0.

    Its minimiser is the exact score whatever the weight w > 0; the parametrisation of the model plays no part in it.
    (Vincent 2011, doi 10.1162/NECO_a_00142; Song et al. 2021, eq. 7, arXiv:2011.13456; Ho et al. 2020, eq. 14.)

    ``weight``: a name of ``weights.NAMES``, ``"simple"`` (w = 1) or ``"likelihood"`` (w = g^2 / (2 sigma^2)) among
    them, or a function of the level. ``times``: a name of ``times.NAMES``, ``"stratified"`` or ``"importance"`` among
    them, a time density, or a number: that time for every row, Vincent's objective at one level. ``reduction``: the
    square is averaged (``"mean"``) or summed (``"sum"``) over the event; the batch is averaged.

    Example: ``loss = DenoisingScoreMatching()(model, x0, Noise(seed=0)); loss.backward()``.
    """

    weight: str | Weight = "simple"
    times: str | float | Times = "stratified"
    reduction: str = "mean"

    def terms(
        self, model: ScoreModel, x0: Tensor, level: Level, noise: NoiseSource, condition: dict[str, Any]
    ) -> Tensor:
        """(eps_model - eps)^2, (B, *event)."""
        assert isinstance(level, GaussianLevel)
        x, eps = perturbed(x0, level, noise)
        square: Tensor = (model(x, level, **condition).eps - eps).square()
        return square
