"""Denoising score matching."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import (
    InvalidArgument,
    InvalidType,
    NonFiniteError,
    UnsupportedCombination,
    batch,
    describe,
    one_of,
)
from ..models.base import ScoreModel, check_model
from ..sdes.base import GaussianSDE
from ..types import NoiseSource, lincomb
from . import times as time_densities
from . import weights
from .times import Times
from .weights import Weight


@dataclass(frozen=True)
class DenoisingScoreMatching:
    """Denoising score matching over all levels: the model is asked for the noise in x_t = alpha x0 + sigma eps.

    E_t E_x0 E_eps  w(t) |eps_model(x_t, t) - eps|^2,    which is w sigma^2 on the score and w alpha^2 / sigma^2 on x0.

    Its minimiser is the exact score whatever the weight w > 0; the parametrisation of the model plays no part in it.
    (Vincent 2011, doi 10.1162/NECO_a_00142; Song et al. 2021, eq. 7, arXiv:2011.13456; Ho et al. 2020, eq. 14.)

    ``weight``: ``"simple"`` (w = 1), ``"likelihood"`` (w = g^2 / (2 sigma^2)) or a function of the level.
    ``times``: ``"stratified"``, ``"uniform"`` or a time density. ``reduction``: the square is averaged (``"mean"``) or
    summed (``"sum"``) over the event; the batch is averaged.

    Example: ``loss = DenoisingScoreMatching()(model, x0, Noise(seed=0)); loss.backward()``.
    """

    weight: str | Weight = "simple"
    times: str | Times = "stratified"
    reduction: str = "mean"

    def __post_init__(self) -> None:
        owner = "DenoisingScoreMatching"
        if not callable(self.weight):
            one_of(owner, "weight", self.weight, weights.NAMES)
        if not callable(self.times):
            one_of(owner, "times", self.times, time_densities.NAMES)
        one_of(owner, "reduction", self.reduction, ("mean", "sum"))

    def __call__(self, model: ScoreModel, x0: Tensor, noise: NoiseSource, **condition: Any) -> Tensor:
        """The loss of a batch x0, (B, *event), as a scalar tensor.

        Raises InvalidType or InvalidArgument for data that are not finite floats, and NonFiniteError for a loss that
        is not finite.
        """
        check_model("DenoisingScoreMatching", model)
        if not hasattr(noise, "normal") or isinstance(noise, type):
            raise InvalidType(f"DenoisingScoreMatching: noise must be a source such as Noise(0), got {describe(noise)}")
        if not len(batch("DenoisingScoreMatching", "x0", x0)):
            raise InvalidArgument(
                "DenoisingScoreMatching: x0 must hold at least one row, got none: no rows have no mean"
            )
        value = self.per_sample(model, x0, noise, **condition).mean()
        if not bool(torch.isfinite(value)):
            raise NonFiniteError(f"DenoisingScoreMatching: the loss must be finite, got {float(value)}")
        return value

    def per_sample(self, model: ScoreModel, x0: Tensor, noise: NoiseSource, **condition: Any) -> Tensor:
        """The loss of each row, (B, *event) -> (B,), unchecked."""
        sde = model.sde
        if not isinstance(sde, GaussianSDE):
            raise UnsupportedCombination(
                f"DenoisingScoreMatching: the model's process must have alpha and sigma, got {type(sde).__name__}"
            )
        density = self.times if callable(self.times) else time_densities.NAMES[self.times]
        weight = self.weight if callable(self.weight) else weights.NAMES[self.weight]
        t, factor = density(sde, len(x0), noise, x0.device)
        level = sde.at(t, x0)
        eps = noise.normal(x0.shape, stream="loss", dtype=x0.dtype, device=x0.device)
        x = lincomb(level.alpha, x0, level.sigma, eps)
        error = (model(x, level, **condition).eps - eps).square().reshape(len(x0), math.prod(x0.shape[1:]))
        per_row: Tensor = error.mean(1) if self.reduction == "mean" else error.sum(1)
        w = weight(level)
        for value in (w, factor):
            if isinstance(value, Tensor):
                per_row = per_row * value.reshape(-1).to(per_row.dtype)
            elif value != 1.0:
                per_row = per_row * value
        return per_row
