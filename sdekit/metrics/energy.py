"""The energy distance of two samples, and what of it is noise."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..errors import InvalidArgument
from .base import NoiseFloor, rows, subsets, summary
from .kernels import EnergyDistance


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """The energy distance between the laws of two samples, without bias: a float64 scalar.

    2 E|x - y| - E|x - x'| - E|y - y'|, with Euclidean norms of flattened events and x', y' other rows of the sample.

    It is 0 for equal laws and positive for any others; this estimate is a U-statistic, so that its mean is the
    distance itself and it may fall below 0. ``x``: (N, *event), ``y``: (M, *event), two rows at least of each.
    (Szekely & Rizzo 2013, doi 10.1016/j.jspi.2013.03.018.)
    """
    _alike("energy_distance", ("x", x), ("y", y))
    return EnergyDistance(y)(x)


def noise_floor(
    real: Tensor, reference: Tensor, n: int, *, repeats: int = 200, seed: int | Sequence[int] = 0
) -> NoiseFloor:
    """The energy distance to ``reference`` of n real rows, drawn from ``real`` without replacement, ``repeats`` times.

    A perfect sampler's n samples are as far from the reference as other real data are: its distance is one more draw of
    this law. The reference stays the same, so that its own luck is in the floor and in a model's distance alike; the
    draws share rows, so that the floor's own ends are rough where n is not small beside ``len(real)``.

    ``real`` must be other data than ``reference``, n rows of it at least.
    """
    _alike("noise_floor", ("real", real), ("reference", reference))
    chosen = subsets("noise_floor", real, n, repeats, seed)
    return summary(EnergyDistance(reference).among(rows("noise_floor", "real", real), chosen))


def _alike(owner: str, *given: tuple[str, Tensor]) -> None:
    (a, x), (b, y) = ((name, rows(owner, name, value)) for name, value in given)
    if x.shape[1] != y.shape[1]:
        raise InvalidArgument(f"{owner}: {a} and {b} must have events of one size, got {x.shape[1]} and {y.shape[1]}")
