"""A network, a process, and what the network's output means."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidArgument, InvalidType, describe
from ..sdes.base import SDE, Level
from ..sdes.gaussian import GaussianSDE
from ..types import Time, cast, scale
from . import variances
from .base import GaussianPrediction, ScoreModel, check_output, gaussian, gaussian_level, of_noise
from .parametrisations import Parametrisation, check
from .variances import Variance


class Parametrised(ScoreModel):
    """A score model from a network: F(inp x, label, **condition) estimates p x0 + q eps.

    DDPM is ``Parametrised(network, VPSDE(), Epsilon())`` and NCSN ``Parametrised(network, VESDE(), ScaledScore())``:
    two rows of one table (Karras et al. 2022, table 1, arXiv:2206.00364).

    ``network`` is a torch module (or any callable) that takes x of shape (B, *event) and labels of shape (B,) and
    returns the shape of x. It is called in its own dtype, with labels in float32 at least; the prediction has the
    dtype of x. With a ``variance``, such as LearnedRange(), it returns twice the channels, (B, 2 C, ...): what it
    estimates, and then what it knows of the variance of the reverse step (Nichol & Dhariwal 2021, section 3.1).

    Raises InvalidType for a network that cannot be called, UnsupportedCombination for a process without alpha and
    sigma, and InvalidArgument where the network's output has another shape than x.
    """

    sde: GaussianSDE

    def __init__(
        self,
        network: nn.Module | Callable[..., Tensor],
        sde: SDE,
        parametrisation: Parametrisation,
        variance: Variance | None = None,
    ):
        super().__init__()
        if not callable(network):
            raise InvalidType(
                f"Parametrised: network must be a module or a callable (x, label), got {describe(network)}"
            )
        self.sde = gaussian("Parametrised", sde)
        self.parametrisation = check(parametrisation)
        self.variance = None if variance is None else variances.check(variance)
        self.has_variance = variance is not None
        self.estimates_noise = of_noise(self.sde, self.parametrisation.target)
        self.network = network

    def forward(self, x: Tensor, t: Time | Level, **condition: Any) -> GaussianPrediction:
        """The prediction at x of shape (B, *event)."""
        level = gaussian_level("Parametrised", self.sde, t, x)
        row = self.parametrisation
        dtype = self._network_dtype(x)
        inputs = cast(scale(row.input_scale(level), x), dtype)
        label = row.label_of(level)
        wide = torch.promote_types(dtype, torch.float32)
        if isinstance(label, Tensor):
            labels = label.reshape(-1).to(wide)
        else:
            labels = x.new_full(x.shape[:1], label, dtype=wide)
        output = self.network(inputs, labels, **condition)
        if self.variance is None:
            output = check_output("Parametrised", output, x)
            return GaussianPrediction(x, level, cast(output, x.dtype), *row.target(level))
        value, second = _halves(output, x)
        spread = functools.partial(self.variance.log_var, second.to(x.dtype), level)
        return GaussianPrediction(x, level, value.to(x.dtype), *row.target(level), spread)

    def _network_dtype(self, x: Tensor) -> torch.dtype:
        if isinstance(self.network, nn.Module):
            for parameter in self.network.parameters():
                if parameter.is_floating_point():
                    return parameter.dtype
        return x.dtype

    def extra_repr(self) -> str:
        """The process and the parametrisation."""
        variance = "" if self.variance is None else f", variance={self.variance}"
        return f"sde={self.sde}, parametrisation={self.parametrisation}{variance}"


def _halves(output: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """The two halves of a network's channels, each of the shape of x, or a named error."""
    if x.ndim < 2:
        raise InvalidArgument(f"Parametrised: x must be of shape (B, C, ...) with a variance, got {tuple(x.shape)}")
    wanted = (x.shape[0], 2 * x.shape[1], *x.shape[2:])
    if not isinstance(output, Tensor) or output.shape != wanted:
        given = tuple(output.shape) if isinstance(output, Tensor) else describe(output)
        raise InvalidArgument(
            f"Parametrised: the network must return twice the channels of x with a variance, {wanted}, got {given}"
        )
    value, second = output.chunk(2, 1)
    return value, second
