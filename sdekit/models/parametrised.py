"""A network, a process, and what the network's output means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidType, describe
from ..sdes.base import SDE, GaussianSDE, Level
from ..types import Time, scale
from .base import GaussianPrediction, ScoreModel, check_output, gaussian, gaussian_level
from .parametrisations import Parametrisation, check


class Parametrised(ScoreModel):
    """A score model from a network: F(inp x, label, **condition) estimates p x0 + q eps.

    DDPM is ``Parametrised(network, VPSDE(), Epsilon())`` and NCSN ``Parametrised(network, VESDE(), ScaledScore())``:
    two rows of one table (Karras et al. 2022, table 1, arXiv:2206.00364).

    ``network`` is a torch module (or any callable) that takes x of shape (B, *event) and labels of shape (B,) and
    returns the shape of x. It is called in its own dtype, with labels in float32 at least; the prediction has the
    dtype of x.

    Raises InvalidType for a network that cannot be called, UnsupportedCombination for a process without alpha and
    sigma, and InvalidArgument where the network's output has another shape than x.
    """

    sde: GaussianSDE

    def __init__(self, network: nn.Module | Callable[..., Tensor], sde: SDE, parametrisation: Parametrisation):
        super().__init__()
        if not callable(network):
            raise InvalidType(
                f"Parametrised: network must be a module or a callable (x, label), got {describe(network)}"
            )
        self.sde = gaussian("Parametrised", sde)
        self.parametrisation = check(parametrisation)
        self.network = network

    def forward(self, x: Tensor, t: Time | Level, **condition: Any) -> GaussianPrediction:
        """The prediction at x of shape (B, *event)."""
        level = gaussian_level("Parametrised", self.sde, t, x)
        row = self.parametrisation
        dtype = self._network_dtype(x)
        inputs = scale(row.input_scale(level), x).to(dtype)
        label = row.label_of(level)
        wide = torch.promote_types(dtype, torch.float32)
        if isinstance(label, Tensor):
            labels = label.reshape(-1).to(wide)
        else:
            labels = torch.full(x.shape[:1], label, dtype=wide, device=x.device)
        output = check_output("Parametrised", self.network(inputs, labels, **condition), x)
        return GaussianPrediction(x, level, output.to(x.dtype), *row.target(level))

    def _network_dtype(self, x: Tensor) -> torch.dtype:
        if isinstance(self.network, nn.Module):
            for parameter in self.network.parameters():
                if parameter.is_floating_point():
                    return parameter.dtype
        return x.dtype

    def extra_repr(self) -> str:
        """The process and the parametrisation."""
        return f"sde={self.sde}, parametrisation={self.parametrisation}"
