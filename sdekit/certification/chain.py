"""A run of a solver on unit impulses, in NumPy: what the references step, and what they answer with."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from ..sdes import GaussianSDE
from . import published
from .problems import AXES, MEANS, SIGNS, VARIANCES, signs
from .published import Array

M, V = MEANS.numpy(), VARIANCES.numpy()


class NoReference(Exception):
    """Of a solver that no paper known here describes, or not as a chain of given steps."""


class Chain:
    """A run on unit impulses: row 0 is the offset, row 1 starts at 1, row k + 2 has a 1 in its k-th draw; or, for draws
    of None, row j + 2 has the j-th of its signs in every draw."""

    def __init__(self, sde: GaussianSDE, times: Array, draws: int | None):
        self.sde = sde
        self.times = times
        self.alpha, self.sigma = (v.tolist() for v in published.alpha_sigma(sde, times))
        self.signed = draws is None
        self.rows = np.zeros((2 + (SIGNS if draws is None else draws), len(M)))
        self.rows[1] = 1.0
        self.drawn = 0
        self.memory: Any = None
        self.size = 0.0  # the largest |x| on the way; of a method for y = x / alpha, the largest |y|

    @property
    def centre(self) -> tuple[Array, float]:
        """The data's mean along the axes, and the root mean square of their std, as the process knows them."""
        mean, std = self.sde.moments or (0.0, 1.0)
        along: Array = np.broadcast_to(np.asarray(mean, dtype=np.float64), (len(M),)) @ AXES.numpy()
        return along, float(np.sqrt(np.mean(np.square(np.asarray(std, dtype=np.float64)))))

    def visit(self, x: Array) -> Array:
        """x, whose size counts for the scale of the trajectory."""
        self.size = max(self.size, float(np.abs(x).max()))
        return x

    def x0(self, a: float, s: float, x: Array) -> Array:
        """E[x_0 | x_t = x] of Gaussian data."""
        mean: Array = M + a * V / (a * a * V + s * s) * (x - a * M)
        return mean

    def eps(self, a: float, s: float, x: Array) -> Array:
        """E[eps | x_t = x], by its own formula: (x - a x0) / s cancels."""
        mean: Array = s / (a * a * V + s * s) * (x - a * M)
        return mean

    def draw(self) -> Array:
        """The next draw."""
        z = np.zeros_like(self.rows)
        if self.signed:
            z[2:] = signs(self.drawn)[:, None]
        elif 2 + self.drawn < len(z):
            z[2 + self.drawn] = 1.0
        self.drawn += 1
        return z


class Reference(NamedTuple):
    """A run over some times: what it is made of, and the largest |x| on its way."""

    offset: Array
    """(16,)."""
    start: Array
    """(16,), the response to x_T."""
    noise: Array
    """(draws, 16), the responses to each draw; or (32, 16), to all of them with signs."""
    size: float


@functools.singledispatch
def step(solver: Any, chain: Chain, i: int) -> None:
    """One step of the chain, from the i-th time to the next."""
    raise NoReference(f"no reference for {solver}")
