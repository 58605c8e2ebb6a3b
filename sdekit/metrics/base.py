"""The contract of a distance: samples against a law that stays the same."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import MOST, InvalidArgument, batch, number, whole
from ..noise import Noise


class Interval(NamedTuple):
    """A measured value, and the interval of a bootstrap around it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class NoiseFloor:
    """The distance that real data themselves have at a sample size: its mean, deviation and middle 90 %."""

    mean: float
    std: float
    low: float
    high: float
    """The 5th and the 95th percentile."""


class Distance(ABC):
    """How far the law of samples is from a reference: a float64 scalar of x, (N, *event) with N >= 2.

    A distance says what its value is where each row counts some number of times; the bootstrap follows.
    """

    name: str

    @abstractmethod
    def values(self, x: Tensor, counts: Tensor) -> Tensor:
        """The distances (R,) of x, (N, D) in float64, whose rows count as each line of ``counts`` says, (R, N)."""

    @property
    @abstractmethod
    def size(self) -> int:
        """D, the numbers in an event."""

    def __call__(self, x: Tensor) -> Tensor:
        """The distance of the samples x, (N, *event)."""
        x = self._given(x)
        return self.values(x, x.new_ones(1, len(x)))[0]

    def interval(
        self, x: Tensor, *, repeats: int = 200, level: float = 0.95, seed: int | Sequence[int] = 0
    ) -> Interval:
        """The distance, and its interval of the ``level`` from ``repeats`` draws of the rows of x with replacement.

        With the quantiles q of the draws' distances it is 2 distance - q_high to 2 distance - q_low, without the bias
        that a draw has beside its sample; it may reach below 0. The reference stays the same. A draw of one row alone
        is drawn again. (The basic bootstrap: Davison & Hinkley 1997, eq. 5.6.)
        """
        x = self._given(x)
        owner = type(self).__name__
        return bootstrap(
            owner, lambda counts: self.values(x, counts.to(x)), len(x), repeats=repeats, level=level, seed=seed
        )

    def floor(self, real: Tensor, n: int, *, repeats: int = 200, seed: int | Sequence[int] = 0) -> NoiseFloor:
        """The distance of n rows of ``real``, drawn without replacement, ``repeats`` times: what a perfect sampler has.

        ``real`` must be other data than the reference, n rows of it at least. The draws share rows, so that the floor's
        own ends are rough where n is not small beside ``len(real)``.
        """
        real = self._given(real, "real")
        return summary(self.among(real, subsets(type(self).__name__, real, n, repeats, seed)))

    def among(self, real: Tensor, chosen: Sequence[Tensor]) -> Tensor:
        """The distances (R,) of subsets of ``real``, (N, D) in float64, by the numbers of their rows."""
        return torch.cat([self.values(real[numbers], real.new_ones(1, len(numbers))) for numbers in chosen])

    def _given(self, x: Tensor, name: str = "x") -> Tensor:
        x = rows(type(self).__name__, name, x)
        if x.shape[1] != self.size:
            raise InvalidArgument(
                f"{type(self).__name__}: {name} must have events of {self.size} numbers, as the reference has, "
                f"got {x.shape[1]}"
            )
        return x


def bootstrap(
    owner: str,
    of: Callable[[Tensor], Tensor],
    n: int,
    *,
    repeats: int = 200,
    level: float = 0.95,
    seed: int | Sequence[int] = 0,
) -> Interval:
    """A function of counts (R, n), (R,), at one each, and its interval where n rows are drawn with replacement."""
    repeats = whole(owner, "repeats", repeats, at_least=2, at_most=MOST)
    level = number(owner, "level", level, above=0.0, below=1.0)
    noise = Noise(seed)
    counts = torch.ones(1 + repeats, n, dtype=torch.float64)
    for line in counts[1:]:
        while True:
            drawn = (noise.uniform(n, stream="rows") * n).long().clamp(max=n - 1)
            if bool((drawn != drawn[0]).any()):  # copies of one row are no sample: they have no pair
                break
        line.copy_(drawn.bincount(minlength=n))
    found = of(counts).cpu()
    ends = torch.tensor([0.5 - level / 2, 0.5 + level / 2], dtype=torch.float64)
    value = float(found[0])
    low, high = torch.quantile(found[1:], ends).tolist()
    return Interval(value, 2 * value - high, 2 * value - low)


def subsets(owner: str, real: Tensor, n: int, repeats: int, seed: int | Sequence[int]) -> list[Tensor]:
    """The numbers of n different rows, ``repeats`` times."""
    n = whole(owner, "n", n, at_least=2)
    repeats = whole(owner, "repeats", repeats, at_least=2, at_most=MOST)
    if n > len(real):
        raise InvalidArgument(f"{owner}: n must be at most the {len(real)} rows of real, got n={n}")
    noise = Noise(seed)
    return [noise.uniform(len(real), stream="rows").argsort()[:n].to(real.device) for _ in range(repeats)]


def summary(values: Tensor) -> NoiseFloor:
    """Mean, deviation and middle 90 % of repeated values."""
    low, high = torch.quantile(values.cpu(), torch.tensor([0.05, 0.95], dtype=torch.float64)).tolist()
    return NoiseFloor(float(values.mean()), float(values.std()), low, high)


def rows(owner: str, name: str, x: Tensor) -> Tensor:
    """Two rows of samples or more, flattened, in float64: (N, D)."""
    x = batch(owner, name, x)
    if len(x) < 2:
        raise InvalidArgument(f"{owner}: {name} must hold at least 2 rows, got {len(x)}")
    return x.detach().to(torch.float64).reshape(len(x), -1)
