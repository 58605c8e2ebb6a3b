"""What the objectives have in common: settings, times and weights; and what those without a target differentiate."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import (
    InvalidArgument,
    InvalidType,
    NonFiniteError,
    UnsupportedCombination,
    batch,
    check_source,
    describe,
    number,
    one_of,
)
from ..models.base import ScoreModel, check_model
from ..sdes.base import SDE, Level
from ..sdes.gaussian import GaussianLevel, GaussianSDE
from ..types import NoiseSource, Scalar, lincomb
from . import times as time_densities
from . import weights
from .times import Times
from .weights import Weight


class Objective(ABC):
    """An objective over levels, E_t w(t) E (terms of the event's coordinates): a subclass writes ``terms``.

    A subclass is a frozen dataclass with the fields ``weight``, ``times`` and ``reduction``.
    """

    weight: str | Weight
    times: str | float | Times | None
    reduction: str

    noiseless: ClassVar[bool] = False
    """Whether ``times=None``, the data as they are, makes an objective."""

    def __post_init__(self) -> None:
        owner = type(self).__name__
        if not callable(self.weight):
            one_of(owner, "weight", self.weight, weights.NAMES)
        if isinstance(self.times, str):
            one_of(owner, "times", self.times, time_densities.NAMES)
        elif self.times is None and self.noiseless:
            if self.weight != "simple":
                raise InvalidArgument(
                    f"{owner}: weight must be 'simple' where times is None, as one level has nothing to weigh, "
                    f"got {self.weight!r}"
                )
        elif not callable(self.times):
            try:
                number(owner, "times", self.times)
            except InvalidType as error:
                kinds = (
                    "a name, a time density, a number or None"
                    if self.noiseless
                    else "a name, a time density or a number"
                )
                raise InvalidType(f"{owner}: times must be {kinds}, got {describe(self.times)}") from error
        one_of(owner, "reduction", self.reduction, ("mean", "sum"))

    def __call__(self, model: ScoreModel, x0: Tensor, noise: NoiseSource, **condition: Any) -> Tensor:
        """The loss of a batch x0, (B, *event), as a scalar tensor.

        Raises InvalidType or InvalidArgument for data that are not finite floats, and NonFiniteError for a loss that
        is not finite.
        """
        owner = type(self).__name__
        check_model(owner, model)
        check_source(owner, noise)
        if not len(batch(owner, "x0", x0)):
            raise InvalidArgument(f"{owner}: x0 must hold at least one row, got none: no rows have no mean")
        value = self.per_sample(model, x0, noise, **condition).mean()
        if not bool(torch.isfinite(value)):
            raise NonFiniteError(f"{owner}: the loss must be finite, got {value.item()}")
        return value

    def per_sample(self, model: ScoreModel, x0: Tensor, noise: NoiseSource, **condition: Any) -> Tensor:
        """The loss of each row, (B, *event) -> (B,), unchecked."""
        level, factors = self._draw(model.sde, x0, noise)
        terms = self.terms(model, x0, level, noise, condition).reshape(len(x0), math.prod(x0.shape[1:]))
        per_row: Tensor = terms.mean(1) if self.reduction == "mean" else terms.sum(1)
        for value in factors:
            if isinstance(value, Tensor):
                per_row = per_row * value.reshape(-1).to(per_row.dtype)
            elif value != 1.0:
                per_row = per_row * value
        return per_row

    @abstractmethod
    def terms(
        self, model: ScoreModel, x0: Tensor, level: Level, noise: NoiseSource, condition: dict[str, Any]
    ) -> Tensor:
        """What the coordinates add to the loss before it is weighed, (B, *event)."""

    def _draw(self, sde: SDE, x0: Tensor, noise: NoiseSource) -> tuple[Level, tuple[Scalar, ...]]:
        """The level of each row, and what its loss is multiplied by."""
        owner = type(self).__name__
        if self.times is None:
            return sde.at(sde.t_min, x0), ()
        if not isinstance(sde, GaussianSDE):
            raise UnsupportedCombination(
                f"{owner}: the model's process must have alpha and sigma, got {type(sde).__name__}"
            )
        weight = self.weight if callable(self.weight) else weights.NAMES[self.weight]
        if not isinstance(self.times, str) and not callable(self.times):
            t = float(self.times)
            if not sde.t_min <= t <= sde.t_max:
                raise InvalidArgument(
                    f"{owner}: times must lie within the process's [{sde.t_min:g}, {sde.t_max:g}], got {t:g}"
                )
            level = sde.at(t, x0)
            return level, (weight(level),)
        density = self.times if callable(self.times) else time_densities.NAMES[self.times]
        drawn, factor = density(sde, len(x0), noise, x0.device)
        level = sde.at(drawn, x0)
        return level, (weight(level), factor)


def perturbed(x0: Tensor, level: GaussianLevel, noise: NoiseSource) -> tuple[Tensor, Tensor]:
    """x = alpha x0 + sigma eps, and the eps that was drawn for it."""
    eps = noise.normal(x0.shape, stream="loss", dtype=x0.dtype, device=x0.device)
    return lincomb(level.alpha, x0, level.sigma, eps), eps


class Implicit(Objective):
    """An objective without a target: sigma^2 (tr(grad score) + |score|^2 / 2) or its estimate, from one derivative.

    In eps = -sigma score it is |eps|^2 / 2 - sigma tr(grad eps), which stays of order 1 where sigma is small. With
    ``times=None`` the data have no noise and sigma^2 is left out: the model is asked at t_min for its score.
    """

    noiseless = True

    @abstractmethod
    def divergence(self, u: Tensor, c: Scalar, x: Tensor, noise: NoiseSource) -> Tensor:
        """The terms of c tr(du/dx) + |u|^2 / 2, differentiable again: u, x and the result are (B, *event)."""

    def per_sample(self, model: ScoreModel, x0: Tensor, noise: NoiseSource, **condition: Any) -> Tensor:
        """The loss of each row, (B, *event) -> (B,), unchecked; with a graph only where gradients are recorded."""
        recorded = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            rows = super().per_sample(model, x0, noise, **condition)
        return rows if recorded else rows.detach()

    def terms(
        self, model: ScoreModel, x0: Tensor, level: Level, noise: NoiseSource, condition: dict[str, Any]
    ) -> Tensor:
        """c du/dx's share of the trace and u^2 / 2, (B, *event)."""
        # clones: the caller's data must not begin to record gradients, nor be of inference mode
        if self.times is None:
            x = x0.clone().requires_grad_()
            return self.divergence(_attached(model(x, level, **condition).score, x), 1.0, x, noise)
        assert isinstance(level, GaussianLevel)
        x = perturbed(x0, level, noise)[0].clone().requires_grad_()
        return self.divergence(_attached(model(x, level, **condition).eps, x), -level.sigma, x, noise)


def pull(u: Tensor, v: Tensor, x: Tensor) -> Tensor:
    """v^T du/dx, of the shape of x and differentiable again; the rows of u depend on their own rows of x alone."""
    (row,) = torch.autograd.grad(u, x, v, create_graph=True, materialize_grads=True)
    return row


def _attached(u: Tensor, x: Tensor) -> Tensor:
    """The belief u as a function of x, which a constant is, too."""
    return u if u.requires_grad else u + 0.0 * x
