"""Problems whose answers are known, and the noise that reads a sampler's exact mean and variance off one run."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UnsupportedCombination
from ..models import GaussianMixture, ScoreModel
from ..models.base import GaussianPrediction, gaussian_level
from ..sdes import GaussianLevel, GaussianSDE, Level
from ..types import Device, NoiseSource, Stream, Time

F64 = torch.float64

PROBLEMS: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = (
    ((0.0,), (1.0,)),
    ((1.0,), (0.25,)),
    ((-0.5,), (2.0,)),
    ((2.0,), (0.5,)),
    ((0.3, -1.5), (0.04, 1.7)),
    ((0.7, 0.1), (0.9, 0.3)),
    ((1.2, -0.4, 0.0), (0.15, 1.0, 3.0)),
    ((-2.0, 0.5, 0.9, -0.1, 1.5), (0.6, 0.08, 1.3, 0.2, 0.8)),
)
"""Eight Gaussians of 1, 1, 1, 1, 2, 2, 3 and 5 dimensions: means and variances along their principal axes."""

MEANS = torch.tensor([v for means, _ in PROBLEMS for v in means], dtype=F64)
VARIANCES = torch.tensor([v for _, variances in PROBLEMS for v in variances], dtype=F64)
"""All of them beside each other, (16,)."""

SIZES = [len(means) for means, _ in PROBLEMS]


def _axes() -> Tensor:
    """The principal axes of all problems, in the columns: an orthogonal matrix of a block a problem."""
    axes = torch.zeros(sum(SIZES), sum(SIZES), dtype=F64)
    at = 0
    for k, n in enumerate(SIZES):
        i, j = torch.meshgrid(torch.arange(n, dtype=F64), torch.arange(n, dtype=F64), indexing="ij")
        axes[at : at + n, at : at + n] = torch.linalg.qr(torch.cos(1.0 + k + 2.0 * i + 3.0 * i * j + j))[0]
        at += n
    return axes


AXES = _axes()

STARTS = 4
"""Rows of an impulse run before those of its draws: from 0, 1, -1 and 2 along every axis."""


class Gaussians(ScoreModel):
    """The exact model of the eight Gaussians at once: events of shape (16,), and a score that is affine.

    With y = AXES^T x, in each coordinate of variance v and mean m:  alpha eps - sigma x0 = alpha sigma (1 - v) / d
    (y - alpha m) - sigma m,  d = alpha^2 v + sigma^2.
    """

    sde: GaussianSDE

    def __init__(self, sde: GaussianSDE):
        super().__init__()
        self.sde = sde

    def forward(self, x: Tensor, t: Time | Level, **condition: Any) -> GaussianPrediction:
        """The exact prediction at x of shape (B, 16)."""
        level = gaussian_level("Gaussians", self.sde, t, x)
        axes = AXES.to(x)
        slope = level.alpha * level.sigma * (1.0 - VARIANCES) / (level.alpha**2 * VARIANCES + level.sigma**2)
        offset = -(level.sigma + slope * level.alpha) * MEANS
        value = torch.addcmul(offset.to(x), x @ axes, slope.to(x)) @ axes.mT
        return GaussianPrediction(x, level, value, -level.sigma, level.alpha)


def law(level: GaussianLevel) -> tuple[Tensor, Tensor]:
    """The exact mean and variance of the eight Gaussians at a level, along their axes: (16,) each."""
    return level.alpha * MEANS, level.alpha**2 * VARIANCES + level.sigma**2


def mixture_1d(sde: GaussianSDE) -> GaussianMixture:
    """Three Gaussians on a line, overlapping: a score that is not affine, and a law with a closed form."""
    return GaussianMixture(
        sde,
        torch.tensor([0.5, 0.3, 0.2], dtype=F64),
        torch.tensor([[-1.0], [0.8], [2.0]], dtype=F64),
        torch.tensor([0.2, 0.3, 0.15], dtype=F64),
    )


def mixture_2d(sde: GaussianSDE) -> GaussianMixture:
    """Four Gaussians in the plane, each with a direction of its own."""
    angle = torch.arange(4, dtype=F64) * (math.pi / 2) + 0.3
    along = torch.stack([angle.cos(), angle.sin()], -1)
    covariances = 0.35 * along[:, :, None] * along[:, None, :] + 0.06 * torch.eye(2, dtype=F64)
    return GaussianMixture(sde, torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=F64), 1.6 * along, covariances)


class Probe(NoiseSource, ABC):
    """A source of known draws: it stands where a sampler asks for normal numbers, and takes no other question."""

    @abstractmethod
    def __call__(self, x: Tensor, t: Any, s: Any, stream: Stream = "path") -> Tensor:
        """The draw of an interval, like x."""

    def normal(
        self, shape: Sequence[int], *, stream: Stream, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """The draw of a stream, of the given shape."""
        return self(torch.empty(tuple(shape), dtype=dtype, device=device), None, None, stream)

    def uniform(self, n: int, *, stream: Stream, device: Device = None) -> Tensor:
        """Raises UnsupportedCombination."""
        raise UnsupportedCombination("certify: solver must draw normal numbers alone, got one that asks for uniforms")

    def rademacher(self, like: Tensor, *, stream: Stream) -> Tensor:
        """Raises UnsupportedCombination."""
        raise UnsupportedCombination("certify: solver must draw normal numbers alone, got one that asks for signs")

    def path(self) -> NoiseSource:
        """Raises UnsupportedCombination."""
        raise UnsupportedCombination("certify: solver must draw normal numbers alone, got one that asks for a path")


class Impulses(Probe):
    """Draws that are 0, but for the k-th of n in row 4 + k, which is 1 along every axis, and of row 4 + n + k, where
    there is one, which is -1. It counts its draws, and keeps the streams they were asked for."""

    def __init__(self, unit: Tensor, draws: int) -> None:
        self.unit = unit
        self.draws = draws
        self.count = 0
        self.streams: set[Stream] = set()

    def __call__(self, x: Tensor, t: Any, s: Any, stream: Stream = "path") -> Tensor:
        """The draw, like x."""
        z = torch.zeros_like(x)
        self._fill(z)
        self.count += 1
        self.streams.add(stream)
        return z

    def _fill(self, z: Tensor) -> None:
        if self.count < self.draws:
            z[STARTS + self.count] = self.unit.to(z)
            if len(z) > STARTS + self.draws:
                z[STARTS + self.draws + self.count] = -self.unit.to(z)


SIGNS = 32
"""Rows of an impulse run that has random signs for its draws. A coefficient off by d moves each of the 32 sums by d or
more with probability 1/2 or more, whatever the others are off by: all of them together miss it once in 2^32."""


@functools.lru_cache(maxsize=8192)
def signs(k: int) -> NDArray[np.float64]:
    """1 or -1 for each of these rows in the k-th draw."""
    drawn = 2.0 * np.random.default_rng(k).integers(0, 2, SIGNS).astype(np.float64) - 1.0
    drawn.setflags(write=False)
    return drawn


class Signs(Impulses):
    """Draws that are 0, but for rows from the fifth on: in row 4 + j the j-th of the draw's signs along every axis, and
    in row 4 + 32 + j, where there is one, its opposite."""

    def __init__(self, unit: Tensor) -> None:
        super().__init__(unit, SIGNS)

    def _fill(self, z: Tensor) -> None:
        drawn = (torch.tensor(signs(self.count))[:, None] * self.unit).to(z)
        z[STARTS : STARTS + SIGNS] = drawn
        if len(z) > STARTS + SIGNS:
            z[STARTS + SIGNS :] = -drawn


class PathImpulses(Probe):
    """Draws from a Brownian path of which one increment after the other is 1: that between the k-th two of given clocks
    in row 4 + k; between these clocks it is linear. What runs on coarser grids of the same clocks sees one path."""

    def __init__(self, unit: Tensor, clocks: Sequence[float]) -> None:
        self.unit = unit
        self.clocks = torch.tensor(clocks, dtype=F64)
        self.gaps = -self.clocks.diff()

    def __call__(self, x: Tensor, t: Any, s: Any, stream: Stream = "path") -> Tensor:
        """The draw, like x: (W(t) - W(s)) / sqrt(c_t - c_s)."""
        begin, end = (float(level.clock) for level in (t, s))
        shares = (self.clocks[:-1].clamp(max=begin) - self.clocks[1:].clamp(min=end)).clamp(min=0.0) / self.gaps
        z = torch.zeros_like(x)
        z[STARTS : STARTS + len(shares)] = ((self.gaps / (begin - end)).sqrt() * shares)[:, None].mul(self.unit).to(x)
        return z


class Listed(Probe):
    """Draws from a list, one after the other."""

    def __init__(self, draws: Sequence[Tensor]) -> None:
        self.draws = list(draws)
        self.count = 0

    def __call__(self, x: Tensor, t: Any, s: Any, stream: Stream = "path") -> Tensor:
        """The next draw, like x."""
        self.count += 1
        return self.draws[self.count - 1].to(x)
