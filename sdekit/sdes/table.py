"""The contract of a process on a table of levels: exact on it, and usable at any time between."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor

from ..errors import InvalidArgument, UnsupportedCombination, describe, one_of, whole
from .base import EDGE, SDE
from .gaussian import GaussianLevel, GaussianSDE
from .tables import SPACINGS, check_table, spaced

MOST = 1 << 14
"""Levels that a table remembers."""


class TableSDE(GaussianSDE, ABC):
    """A process on a table of N levels, at the times 1, 2, ..., N: the paper's own count, exact in any float dtype.

    Between two of its times a quantity that rises with the noise follows the monotone cubic of Fritsch & Carlson 1980
    (doi 10.1137/0717021) in t. Its slope is continuous: the process is defined at any time in [1, N], with a continuous
    drift and diffusion, and every solver, grid and likelihood may use it. ``times`` are the times of the levels: a
    table respaced to fewer steps keeps those of the table it came from, and a network is told the same label on both.
    The label ``"index"`` of a parametrisation is t - 1, as networks trained on a table expect: 0 is the least noise.

    Losses draw their times from the table (``time_of``), as in DDPM's and NCSN's own training.
    """

    times: Tensor
    _listed: list[float]
    _knots: tuple[Tensor, ...]
    """The nodes of the interpolation: their times, values and slopes, and what else a process reads at them."""

    @abstractmethod
    def _kept(self, index: Tensor) -> dict[str, Tensor]:
        """The settings of the table that holds these levels alone."""

    def _tabulate(self, times: Sequence[float] | Tensor | None, n: int) -> Tensor:
        """The times where they are (N,) whole numbers that rise from 1 or more; 1 to N unless given; else an error."""
        owner = type(self).__name__
        given = torch.arange(1, n + 1, dtype=torch.float64) if times is None else check_table(owner, "times", times)
        if len(given) != n:
            raise InvalidArgument(f"{owner}: times must hold one a level, {n}, got {len(given)}")
        if not bool((given == given.round()).all()) or float(given[0]) < 1 or not bool((given.diff() > 0).all()):
            raise InvalidArgument(f"{owner}: times must be whole numbers that rise from 1 or more, got {brief(given)}")
        listed = given.tolist()
        for name, value in (("times", given), ("_listed", listed), ("t_min", listed[0]), ("t_max", listed[-1])):
            object.__setattr__(self, name, value)
        return given

    def _on(self, device: torch.device) -> tuple[Tensor, ...]:
        """The interpolation's nodes on a device, to which they are copied once."""
        store: dict[torch.device, tuple[Tensor, ...]] = self.__dict__.setdefault("_copies", {})
        if device not in store:
            store[device] = tuple(values.to(device) for values in self._knots)
        return store[device]

    def _bracket(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The node nearest to each of the times t, and how far below its value there the rising quantity is.

        0 at a node, negative above it.
        """
        k, low, w = self._place(t)
        a, b, c = self._cubic(k, low)
        way = w * (a + w * (b + w * c))
        return torch.where(low, k - 1, k), torch.where(low, -way, way)

    def _slope(self, t: Tensor) -> Tensor:
        """The derivative of the rising quantity at the times t."""
        k, low, w = self._place(t)
        a, b, c = self._cubic(k, low)
        times = self._on(t.device)[0]
        return (a + w * (2 * b + 3 * w * c)) / (times[k] - times[k - 1])

    def _place(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The node k above each time, whether the one below is nearer, and the share of their interval to the nearer.

        From the nearer end: the difference to the far one cancels where the table rises by orders of magnitude.
        """
        times = self._on(t.device)[0]
        k = torch.searchsorted(times, t.detach().contiguous()).clamp(1, len(times) - 1)
        above, below = times[k] - t, t - times[k - 1]
        low = below < above
        return k, low, torch.where(low, below, above) / (times[k] - times[k - 1])

    def _cubic(self, k: Tensor, low: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How far the quantity goes within a share w of the interval below node k is w (a + w (b + w c)): Hermite's.

        From the interval's lower end where ``low``, else from its upper one.
        """
        times, values, slopes = self._on(k.device)[:3]
        h, fall = times[k] - times[k - 1], values[k] - values[k - 1]
        here, there = h * slopes[torch.where(low, k - 1, k)], h * slopes[torch.where(low, k, k - 1)]
        return here, 3 * fall - 2 * here - there, here + there - 2 * fall

    def _when(self, value: Tensor) -> Tensor:
        """The time at which the rising quantity has a value; outside the range, the ends of the domain.

        Newton's method, and bisection where it would leave the bracket: the cubic is monotone.
        """
        times, values = self._on(value.device)[:2]
        value = value.clamp(values[0], values[-1])
        k = torch.searchsorted(values, value.detach().contiguous()).clamp(min=1)
        above, below = values[k] - value, value - values[k - 1]
        near_low = below < above
        wanted = torch.where(near_low, below, above)
        a, b, c = self._cubic(k, near_low)
        low, high = torch.zeros_like(wanted), torch.ones_like(wanted)
        w = wanted / (values[k] - values[k - 1])
        for _ in range(56):  # as many as halve the bracket down to the last bit, where the slope is 0
            over = w * (a + w * (b + w * c)) - wanted
            low, high = torch.where(over > 0, low, w), torch.where(over > 0, w, high)
            newton = w - over / (a + w * (2 * b + 3 * w * c))
            last, w = w, torch.where((newton >= low) & (newton <= high), newton, 0.5 * (low + high))
            # a device is not waited for
            if value.device.type == "cpu" and bool(((w - last).abs() <= 4.5e-16 * w).all()):
                break
        w = w * (times[k] - times[k - 1])
        return torch.where(near_low, times[k - 1] + w, times[k] - w).clamp(self.t_min, self.t_max)

    def one(self, t: float) -> GaussianLevel:
        """The level of python floats at a time, which is found once."""
        return self._once(t, "t", super().one)

    def one_at(self, log_snr: float) -> GaussianLevel:
        """The level of python floats where the log-SNR has a value, which is found once."""
        return self._once(log_snr, "log_snr", super().one_at)

    def _once(self, place: float, name: str, find: Callable[[float], GaussianLevel]) -> GaussianLevel:
        """A level that was found before: runs on one grid ask for the same ones, and a table does not change."""
        found: dict[tuple[str, float], GaussianLevel] = self.__dict__.setdefault("_found", {})
        level = found.get((name, place))
        if level is None:
            if len(found) >= MOST:
                found.clear()
            level = found[name, place] = find(place)
        return level

    def __getstate__(self) -> dict[str, object]:
        """What a copy is made of: neither the levels, which are of this process, nor the nodes on other devices."""
        return {name: value for name, value in vars(self).items() if name not in ("_found", "_copies")}

    def time_of(self, u: Tensor) -> Tensor:
        """The table's time at the fractions u in [0, 1] of its levels, of the shape of u: number floor(u N)."""
        times = self.times.to(u.device)
        return times[(u * len(times)).floor().long().clamp(0, len(times) - 1)]

    def previous(self, level: GaussianLevel) -> GaussianLevel:
        """The next level of the table towards the data; the clean level below the first."""
        if not isinstance(level.t, Tensor):
            k = bisect_left(self._listed, level.t)
            return self.one(self._listed[k - 1]) if k else self.clean()
        times = self.times.to(level.t.device)
        i: Tensor = torch.searchsorted(times, level.t.contiguous())
        t = times[(i - 1).clamp(min=0)]
        first = i.eq(0)
        alpha, sigma = self.alpha(t).masked_fill(first, 1.0), self.sigma(t).masked_fill(first, 0.0)
        log_snr = self.log_snr(t).masked_fill(first, torch.inf)
        return GaussianLevel(self, t.masked_fill(first, 0.0), alpha, sigma, log_snr, lambda: self.rates(t))

    def _chosen(self, owner: str, steps: int | Tensor | Sequence[int], spacing: str) -> Tensor:
        """The indices of the levels that a respaced table keeps."""
        n = len(self.times)
        if getattr(steps, "ndim", None) == 0 or not hasattr(steps, "__len__"):
            return spaced(n, whole(owner, "steps", steps, at_least=2, at_most=n), spacing)
        index = check_table(owner, "steps", steps)
        if not bool((index == index.round()).all()):
            raise InvalidArgument(f"{owner}: steps must be whole numbers, got {brief(index)}")
        return index.long()

    def _part(self, t_min: float, t_max: float) -> Self:
        kept = self.times[(self.times >= t_min - EDGE) & (self.times <= t_max + EDGE)]
        if len(kept) < 2:
            raise InvalidArgument(
                f"{type(self).__name__}.restricted: [t_min, t_max] must hold 2 levels of the table or more, "
                f"got {len(kept)} in [{t_min:g}, {t_max:g}]"
            )
        # the nodes of the interpolation stay: the process between two levels does not change
        other = super()._part(float(kept[0]), float(kept[-1]))
        object.__setattr__(other, "times", kept)
        object.__setattr__(other, "_listed", kept.tolist())
        return other

    def _with_prior_shown(self, text: str) -> str:
        complete = len(self.times) == len(self._knots[0]) - 1
        return super()._with_prior_shown(text if complete else f"{text}.restricted({self.t_min:g}, {self.t_max:g})")

    def respaced(self, steps: int | Tensor | Sequence[int], spacing: str = "linspace") -> Self:
        """The same process with fewer levels: ``steps`` of a spacing, or the levels at the given indices.

        Its betas are 1 - alpha_bar_t / alpha_bar_s of the levels it keeps, its times theirs. Spacings: ``"linspace"``,
        ``"leading"``, ``"trailing"``, ``"quadratic_leading"``. (Nichol & Dhariwal 2021, section 4, arXiv:2102.09672.)

        Raises InvalidArgument for fewer than two levels, more than there are, and indices that do not rise.
        """
        n, owner = len(self.times), f"{type(self).__name__}.respaced"
        one_of(owner, "spacing", spacing, SPACINGS)
        index = self._chosen(owner, steps, spacing)
        if len(index) < 2 or int(index[0]) < 0 or int(index[-1]) >= n or not bool((index.diff() > 0).all()):
            raise InvalidArgument(
                f"{owner}: steps must be 2 or more rising indices in [0, {n - 1}], got {brief(index)}"
            )
        times = self.times[index]
        settings = self._kept(torch.searchsorted(self._knots[0], times) - 1)
        made = dataclasses.replace(self, **settings, times=times)  # type: ignore[type-var]
        if self._data is not None:
            object.__setattr__(made, "_data", self._data)
        return made


def slopes(times: Tensor, values: Tensor) -> Tensor:
    """The slopes at the nodes with which Hermite's cubics rise where the values do: Fritsch & Carlson's, by SciPy."""
    from scipy.interpolate import PchipInterpolator

    found = PchipInterpolator(times.numpy(), values.numpy()).derivative()(times.numpy())
    return torch.from_numpy(found).to(torch.float64)


def table(owner: str, sde: SDE) -> TableSDE:
    """The process where it has a table of levels, else a named error."""
    if not isinstance(sde, TableSDE):
        raise UnsupportedCombination(
            f"{owner}: needs a process on a table, such as DiscreteVPSDE(betas), "
            f"got {type(sde).__name__ if isinstance(sde, SDE) else describe(sde)}"
        )
    return sde


def brief(values: Tensor) -> str:
    """A table in a few words."""
    if len(values) <= 4:
        return ", ".join(f"{v:g}" for v in values.tolist())
    return f"{len(values)} values, {float(values[0]):g} to {float(values[-1]):g}" if len(values) else describe(values)
