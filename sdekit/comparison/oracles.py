"""Laws whose score, density and samples are exact: samplers are compared on them without the error of a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ..errors import one_of
from ..models import GaussianMixture
from ..models.base import gaussian as as_gaussian
from ..noise import Noise
from ..sdes import EDMSDE, GaussianSDE

F64 = torch.float64

Law: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Of a mixture of Gaussians: weights (K,), means (K, D), and covariances (K, D, D) or variances (K,)."""


def gaussian() -> Law:
    """One Gaussian in 16 dimensions, with variances from 0.01 to 3 along random axes."""
    noise = Noise(1)
    axes, _ = torch.linalg.qr(noise.normal((16, 16), stream="axes", dtype=F64))
    covariance = (axes * torch.logspace(-2, math.log10(3.0), 16, dtype=F64)) @ axes.mT
    mean = 0.5 * noise.normal((1, 16), stream="means", dtype=F64)
    return torch.ones(1, dtype=F64), mean, 0.5 * (covariance + covariance.mT)[None]


def ring() -> Law:
    """Eight narrow modes on a circle of radius 2."""
    turn = torch.arange(8, dtype=F64) * (math.pi / 4)
    return torch.ones(8, dtype=F64), 2 * torch.stack([turn.cos(), turn.sin()], 1), torch.full((8,), 0.02, dtype=F64)


def lattice() -> Law:
    """25 narrow modes of uneven weights and widths, on a square of 5 by 5 in the plane."""
    places = 0.7 * torch.arange(-2, 3, dtype=F64)
    u, v = Noise(2).uniform(50, stream="component").chunk(2)
    return 1 + 2 * u, torch.cartesian_prod(places, places), (0.05 + 0.05 * v) ** 2


def modes() -> Law:
    """40 modes of uneven weights and widths in 16 dimensions."""
    noise = Noise(3)
    u, v = noise.uniform(80, stream="component").chunk(2)
    return 1 + 2 * u, 0.9 * noise.normal((40, 16), stream="means", dtype=F64), (0.1 + 0.3 * v) ** 2


NAMES: dict[str, Callable[[], Law]] = {"gaussian": gaussian, "ring": ring, "lattice": lattice, "modes": modes}
"""The laws by name."""


def moments(model: GaussianMixture) -> tuple[Tensor, Tensor]:
    """The exact mean (D,) and covariance (D, D) of a mixture's data."""
    weights, means = model.weights, model.means
    mean = weights @ means
    off = means - mean
    own = torch.einsum("k,kij->ij", weights, model.covariances())
    return mean, own + (weights[:, None] * off).mT @ off


def oracle(name: str, sde: GaussianSDE | None = None) -> GaussianMixture:
    """The exact model of a law by its name, on a process that knows the law's mean and deviation.

    ``sde``: EDM's, sigma / alpha from 80 to 0.002, unless given. Raises InvalidArgument for a name there is not.

    Example: ``model = oracle("lattice")``.
    """
    law = NAMES[one_of("oracle", "name", name, tuple(NAMES))]()
    process = EDMSDE(t_min=0.002, t_max=80.0) if sde is None else as_gaussian("oracle", sde)
    mean, covariance = moments(GaussianMixture(process, *law))
    spread = float((covariance.trace() / len(mean)).sqrt())
    return GaussianMixture(process.with_prior(mean, spread), *law)
