"""A sampler's exact mean and variance after N steps, read off one run on unit impulses: no Monte Carlo."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..sdes import GaussianLevel, GaussianSDE
from ..types import NoiseSource, Stream
from .problems import AXES, F64, SIGNS, STARTS, Gaussians, Impulses, Signs, law
from .subject import Subject

UNIT = AXES.sum(1)
"""1 along every principal axis."""


class Responses(NamedTuple):
    """What an affine run is made of, along the axes of the problems: x = offset + start x_T + sum_k noise_k z_k."""

    offset: Tensor
    """(16,)."""
    start: Tensor
    """(16,)."""
    noise: Tensor
    """(draws, 16), or, of a run with signs, the 32 sums of all draws' responses with their signs: (32, 16)."""
    affine: float
    """How far the response to 2 is from twice the response to 1, relative: round-off for an affine run."""
    streams: frozenset[Stream]
    """The streams of its draws."""
    signed: bool = False

    def moments(self, begin: GaussianLevel) -> tuple[Tensor, Tensor]:
        """Mean and variance at the end, of a run from the exact law at its first level: (16,) each.

        With signs the variance is Hutchinson's estimate of it.
        """
        mean, variance = law(begin)
        drawn = (self.noise**2).mean(0) if self.signed else (self.noise**2).sum(0)
        return self.offset + self.start * mean, self.start**2 * variance + drawn


def responses(
    subject: Subject, sde: GaussianSDE, times: Tensor, *, draws: int = 1, dtype: torch.dtype = F64
) -> Responses:
    """The responses of a run over the times: one run, of two rows a draw, where a step has no more than ``draws``."""

    def attempt(count: int) -> tuple[Tensor, Impulses]:
        noise = Impulses(UNIT, count)
        # in float32 the rounding errors of an offset would be in all responses alike: half a difference has none of it
        x_T = _starts(count if dtype == F64 else 2 * count, dtype)
        return subject.run(Gaussians(sde), x_T, times, noise), noise

    x, noise = attempt(draws * (len(times) - 1))
    if noise.count > noise.draws:
        x, noise = attempt(noise.count)
    return _read(x, noise.draws, noise.count, frozenset(noise.streams))


def sums(subject: Subject, sde: GaussianSDE, times: Tensor, *, dtype: torch.dtype = F64) -> Responses:
    """The responses of a run over the times, those to its draws summed with random signs; none where it has none."""
    noise = Signs(UNIT)
    x = subject.run(Gaussians(sde), _starts(SIGNS if dtype == F64 else 2 * SIGNS, dtype), times, noise)
    found = _read(x, SIGNS, SIGNS if noise.count else 0, frozenset(noise.streams))
    return found._replace(signed=bool(noise.count))


def path(subject: Subject, sde: GaussianSDE, times: Tensor, noise: NoiseSource, increments: int) -> Responses:
    """The responses to the increments of a Brownian path that ``noise`` knows."""
    x = subject.run(Gaussians(sde), _starts(increments, F64), times, noise)
    return _read(x, increments, increments, frozenset())


def _starts(rows: int, dtype: torch.dtype) -> Tensor:
    """Starts at 0, 1, -1 and 2 along every axis, and further ones at 0."""
    x_T = torch.zeros(STARTS + rows, len(UNIT), dtype=F64)
    x_T[1], x_T[2], x_T[3] = UNIT, -UNIT, 2 * UNIT
    return x_T.to(dtype)


def _read(x: Tensor, rows: int, draws: int, streams: frozenset[Stream]) -> Responses:
    y = x.double() @ AXES
    offset, start = y[0], 0.5 * (y[1] - y[2])
    up, down = y[STARTS : STARTS + rows], y[STARTS + rows :]
    noise = 0.5 * (up - down) if len(down) else up - offset
    scale = float(torch.maximum(start.abs(), offset.abs()).max()) + 1e-300
    affine = float((y[3] - offset - 2 * start).abs().max()) / scale
    return Responses(offset, start, noise[:draws], affine, streams)
