"""scikit-learn's Swiss roll in two dimensions, and its exact density."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import MOST, InvalidArgument, batch, number, whole
from ..models.base import gaussian
from ..models.mixture import GaussianMixture
from ..sdes.base import SDE
from .base import sklearn_datasets

START, END = 1.5 * math.pi, 4.5 * math.pi
"""The roll is (r cos r, r sin r) with r uniform between these, and isotropic normal noise about it."""

MEAN = (2.0, 2.0 / (3.0 * math.pi))


def swiss_roll(n: int, seed: int = 0, noise: float = 0.5) -> Tensor:
    """n draws of scikit-learn's Swiss roll, its first and last coordinate, standardised: (n, 2) float32.

    The scale is the law's own mean and standard deviation, in closed form, so that sets of any size are draws of one
    density: :func:`swiss_roll_density`. ``noise`` is scikit-learn's, in its units.

    Raises MissingExtra where scikit-learn is not installed.
    """
    n = whole("swiss_roll", "n", n, at_least=1, at_most=MOST)
    seed = whole("swiss_roll", "seed", seed, at_least=0)
    if seed >= 2**32:
        raise InvalidArgument(f"swiss_roll: seed must be below 2^32, scikit-learn's bound, got seed={seed}")
    noise = number("swiss_roll", "noise", noise, at_least=0.0)
    points, _ = sklearn_datasets("swiss_roll").make_swiss_roll(n, noise=noise, random_state=seed)
    mean, std = _moments(noise)
    return ((torch.from_numpy(points[:, [0, 2]]) - mean) / std).to(torch.float32)


def swiss_roll_density(sde: SDE, noise: float = 0.5, components: int = 1000) -> GaussianMixture:
    """The exact model of :func:`swiss_roll` under a process: its score at any time and its log-density.

    p(x) = (1 / 3 pi) int N(x; r (cos r, sin r), noise^2 I) dr over the roll, standardised, by the midpoint rule.
    """
    noise = number("swiss_roll_density", "noise", noise, above=0.0)
    components = whole("swiss_roll_density", "components", components, at_least=1, at_most=MOST)
    sde = gaussian("swiss_roll_density", sde)
    r = START + (END - START) * (torch.arange(components, dtype=torch.float64) + 0.5) / components
    mean, std = _moments(noise)
    centres = (torch.stack([r * r.cos(), r * r.sin()], 1) - mean) / std
    variances = (noise / std).square().expand(components, 2)
    return GaussianMixture(sde, torch.ones(components, dtype=torch.float64), centres, variances)


def roll_position(x: Tensor, noise: float = 0.5) -> Tensor:
    """How far along the roll each standardised point lies, 0 at its inner and 1 at its outer end: (B, 2) -> (B,)."""
    x = batch("roll_position", "x", x)
    if x.shape[1:] != (2,):
        raise InvalidArgument(f"roll_position: x must be of shape (B, 2), got {tuple(x.shape)}")
    mean, std = _moments(number("roll_position", "noise", noise, at_least=0.0))
    radius = (x.to(torch.float64) * std + mean).norm(dim=1)
    along: Tensor = (radius - START) / (END - START)
    return along.clamp(0.0, 1.0)


def _moments(noise: float) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each coordinate: E r^2 / 2 = 39 pi^2 / 8, E r^2 cos(2 r) / 2 = -1/4."""
    mean = torch.tensor(MEAN, dtype=torch.float64)
    half = 39 * math.pi**2 / 8
    second = torch.tensor([half - 0.25, half + 0.25], dtype=torch.float64)
    return mean, torch.sqrt(second - mean * mean + noise * noise)
