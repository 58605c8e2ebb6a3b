"""Mean and variance of any library's sampler on a Gaussian, exactly: read off one run on unit impulses.

On a Gaussian the score is affine, and so is a run in its start and its draws. Row 0 has neither, row 1 starts at HIGH
along every principal axis, and every row from the fourth on has one draw that is 1 along every axis. Row 2 has another
start, and row 3 every draw with a random sign: where they do not end as the others say, the run is left out.
Whatever asks torch for normal numbers, a Brownian tree of torchsde for increments, or our ``noise``, gets these.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import torch
from _peers import k_diffusion_sampling
from _targets import F64, HIGH, Target

from sdekit.types import NoiseSource

FIRST = 4


class Impulses(NoiseSource):
    """Draws of known numbers; a first run with none counts what a sampler asks for."""

    def __init__(self, unit: torch.Tensor, draws: int = 0, clocks: Sequence[float] = ()):
        self.unit = unit
        self.draws = draws
        self.clocks = torch.tensor(clocks, dtype=F64)
        self.signs = torch.randint(0, 2, (self.rows - FIRST,), generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
        self.count = 0
        self.asked: set[float] = set()

    @property
    def rows(self) -> int:
        """Of a run."""
        return FIRST + self.draws + max(0, len(self.clocks) - 1)

    def __call__(self, x: torch.Tensor, t: Any = None, s: Any = None, stream: Any = "path") -> torch.Tensor:
        """A draw that is independent of all others."""
        z = torch.zeros_like(x)
        if self.count < self.draws:
            z[FIRST + self.count] = self.unit.to(x)
            z[3] = self.signs[self.count] * self.unit.to(x)
        self.count += 1
        return z

    def between(self, x: torch.Tensor, begin: float, end: float) -> torch.Tensor:
        """The increment of a Brownian path over an interval, divided by the root of its length."""
        self.asked |= {begin, end}
        z = torch.zeros_like(x)
        if len(self.clocks):
            low, high = sorted((begin, end))
            inside = (self.clocks[:-1] >= low) & (self.clocks[1:] <= high)
            shares = inside * self.clocks.diff().div(high - low).sqrt()
            z[FIRST + self.draws :] = shares[:, None].mul(self.unit).to(x)
            z[3] = (shares * self.signs[self.draws :]).sum() * self.unit.to(x)
        return z

    def normal(self, shape: Sequence[int], *, stream: Any = "", dtype: Any = None, device: Any = None) -> torch.Tensor:
        """A draw that is independent of all others."""
        return self(torch.empty(tuple(shape), dtype=dtype))

    def uniform(self, n: int, *, stream: Any, device: Any = None) -> torch.Tensor:
        """Raises TypeError: a run is affine in normal numbers alone."""
        raise TypeError("Impulses: a sampler must draw normal numbers alone, got one that asks for uniform ones")

    def rademacher(self, like: torch.Tensor, *, stream: Any) -> torch.Tensor:
        """Raises TypeError, as for uniform numbers."""
        raise TypeError("Impulses: a sampler must draw normal numbers alone, got one that asks for signs")

    def path(self) -> NoiseSource:
        """Raises TypeError: the increments of a path of ours are no independent draws."""
        raise TypeError("Impulses: a sampler must ask for the draws of its steps, got one that asks for a path")


@contextlib.contextmanager
def _given(noise: Impulses) -> Iterator[None]:
    """Torch's normal numbers, and torchsde's Brownian trees, from the source."""

    class Tree:
        def __init__(self, x: torch.Tensor, *args: object, **settings: object):
            self.x = x

        def __call__(self, sigma: Any, sigma_next: Any) -> torch.Tensor:
            return noise.between(self.x, float(sigma), float(sigma_next))

    def randn(*shape: Any, size: Any = None, dtype: Any = None, **settings: object) -> torch.Tensor:
        if size is None:
            size = shape[0] if isinstance(shape[0], Sequence) else shape
        return noise.normal(size, dtype=dtype or F64)

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(torch, "randn", randn))
        stack.enter_context(mock.patch.object(torch, "randn_like", lambda x, **settings: noise(x)))
        with contextlib.suppress(ImportError):
            stack.enter_context(mock.patch.object(k_diffusion_sampling(), "BrownianTreeNoiseSampler", Tree))
        yield


class Gaussian:
    """A Gaussian target on its principal axes."""

    def __init__(self, target: Target):
        mean = target.model.means[0]
        self.values, self.axes = torch.linalg.eigh(target.model.covariances()[0])
        self.mean = mean @ self.axes
        self.unit = self.axes.sum(1)
        self.probe = torch.linspace(-1.0, 1.0, len(mean), dtype=F64).cos() * HIGH

    def start(self, rows: int) -> torch.Tensor:
        """x_T of a run."""
        x = torch.zeros(rows, len(self.mean), dtype=F64)
        x[1] = HIGH * self.unit
        x[2] = self.axes @ self.probe
        return x

    def distance(self, runs: Any, name: str, n: int) -> float | None:
        """W2 between the moments of a sampler's law and the target's own; None for a run that is not affine.

        ``runs(x_T, noise=...)``: of the library, by name, from starts x_T, with the noise where it takes any.
        """
        first = Impulses(self.unit)
        with _given(first):
            runs(self.start(FIRST), noise=first)[name](n)
        noise = Impulses(self.unit, first.count, sorted(first.asked))
        with _given(noise):
            y = runs(self.start(noise.rows), noise=noise)[name](n).double() @ self.axes
        offset, start, drawn = y[0], y[1] - y[0], y[FIRST:] - y[0]
        straight = torch.stack([offset + start / HIGH * self.probe, offset + noise.signs.to(F64) @ drawn])
        if not bool(torch.isfinite(y).all()) or not torch.allclose(y[2:4], straight, rtol=1e-4, atol=1e-4):
            return None
        std = (start.square() + drawn.square().sum(0)).sqrt()
        return float(((offset - self.mean).square() + (std - self.values.sqrt()).square()).sum().sqrt())


def exact(target: Target, runs: Any, names: Sequence[str], n: int) -> dict[str, float]:
    """W2 of the exact moments, by sampler; those whose run is not affine are left out, and named."""
    law, found = Gaussian(target), {}
    for name in names:
        value = law.distance(runs, name, n)
        if value is None:
            print(f"{name} at {n}: left out of W2, its run is not affine", file=sys.stderr)
        else:
            found[name] = value
    return found
