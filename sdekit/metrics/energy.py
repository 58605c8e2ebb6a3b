"""The energy distance of two samples, and what of it is noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import MOST, InvalidArgument, batch, whole
from ..noise import Noise

CHUNK = 1024


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """The energy distance between the laws of two samples, without bias: a float64 scalar.

    2 E|x - y| - E|x - x'| - E|y - y'|, with Euclidean norms of flattened events and x', y' other rows of the sample.

    It is 0 for equal laws and positive for any others; this estimate is a U-statistic, so that its mean is the
    distance itself and it may fall below 0. ``x``: (N, *event), ``y``: (M, *event), two rows at least of each.
    (Szekely & Rizzo 2013, doi 10.1016/j.jspi.2013.03.018.)
    """
    x, y = _rows("energy_distance", "x", x), _rows("energy_distance", "y", y)
    if x.shape[1] != y.shape[1]:
        raise InvalidArgument(
            f"energy_distance: x and y must have events of one size, got {x.shape[1]} and {y.shape[1]}"
        )
    y = y.to(x.device)
    n, m = len(x), len(y)
    cross = _total(x, y) / (n * m)
    return 2 * cross - _total(x, x) / (n * (n - 1)) - _total(y, y) / (m * (m - 1))


@dataclass(frozen=True)
class NoiseFloor:
    """The energy distance that real data themselves have at a sample size: its mean, deviation and middle 90 %."""

    mean: float
    std: float
    low: float
    high: float
    """The 5th and the 95th percentile."""


def noise_floor(
    real: Tensor, reference: Tensor, n: int, *, repeats: int = 200, seed: int | Sequence[int] = 0
) -> NoiseFloor:
    """The energy distance to ``reference`` of n real rows, drawn from ``real`` without replacement, ``repeats`` times.

    A perfect sampler's n samples are as far from the reference as other real data are: its distance is one more draw of
    this law. The reference stays the same, so that its own luck is in the floor and in a model's distance alike; the
    draws share rows, so that the floor's own ends are rough where n is not small beside ``len(real)``.

    ``real`` must be other data than ``reference``, n rows of it at least.
    """
    x, y = _rows("noise_floor", "real", real), _rows("noise_floor", "reference", reference)
    if x.shape[1] != y.shape[1]:
        raise InvalidArgument(
            f"noise_floor: real and reference must have events of one size, got {x.shape[1]} and {y.shape[1]}"
        )
    n, repeats = (
        whole("noise_floor", "n", n, at_least=2),
        whole("noise_floor", "repeats", repeats, at_least=2, at_most=MOST),
    )
    if n > len(x):
        raise InvalidArgument(f"noise_floor: n must be at most the {len(x)} rows of real, got n={n}")
    y = y.to(x.device)
    cross, own = _distances(x, y).mean(1), _distances(x, x)
    other = _total(y, y) / (len(y) * (len(y) - 1))
    noise = Noise(seed)
    values = torch.empty(repeats, dtype=torch.float64)
    for i in range(repeats):
        rows = noise.uniform(len(x), stream="rows").argsort()[:n].to(x.device)
        values[i] = 2 * cross[rows].mean() - own[rows][:, rows].sum() / (n * (n - 1)) - other
    low, high = torch.quantile(values, torch.tensor([0.05, 0.95], dtype=torch.float64)).tolist()
    return NoiseFloor(float(values.mean()), float(values.std()), low, high)


def _rows(owner: str, name: str, x: Tensor) -> Tensor:
    x = batch(owner, name, x)
    if len(x) < 2:
        raise InvalidArgument(f"{owner}: {name} must hold at least 2 rows, got {len(x)}")
    return x.detach().to(torch.float64).reshape(len(x), -1)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    # not cdist's default, by matrix products: that cancels where two rows are close
    parts = [torch.cdist(part, y, compute_mode="donot_use_mm_for_euclid_dist") for part in torch.split(x, CHUNK)]
    return torch.cat(parts)


def _total(x: Tensor, y: Tensor) -> Tensor:
    total = x.new_zeros(())
    for part in torch.split(x, CHUNK):
        total += torch.cdist(part, y, compute_mode="donot_use_mm_for_euclid_dist").sum()
    return total
