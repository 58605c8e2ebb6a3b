"""A model on another process: the same score function, after the exact change of time and scale."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidArgument, UnsupportedCombination, describe
from ..sdes.base import SDE, Level
from ..sdes.gaussian import GaussianLevel, GaussianSDE
from ..sdes.table import TableSDE
from ..types import Scalar, Time, lincomb, log, scale, sqrt
from .base import GaussianPrediction, Prediction, ScoreModel, Spread, check_model, gaussian, gaussian_level

ROUNDING = 1e-12
"""By how much a log-SNR may differ from that of a table's level and still be that level's."""

SLACK = 1e-9
"""By how much a log-SNR may lie outside a range and still be its end."""

KEPT = 4096
"""Levels of one number a batch whose counterparts are remembered."""


def convert(model: ScoreModel, sde: SDE) -> Converted:
    """The model on another Gaussian process: the same score function, with time and scale changed exactly.

    x at the level (alpha, sigma) of ``sde`` stands where the model's own process has the same log-SNR, (a, b) say, once
    it is scaled by k = a / alpha = b / sigma:

        x0(x) = x0'(k x),   eps(x) = eps'(k x),   score(x) = k score'(k x),   log p(x) = log p'(k x) + D log k,

    where the primes mark the model itself. (Kingma et al. 2021, section 4.2 and appendix, arXiv:2107.00630; Karras et
    al. 2022, appendix B, arXiv:2206.00364.) So what was trained as DDPM is sampled as NCSN, and the other way round.

    Both processes need not reach equally far. The result stands on the part of ``sde`` whose log-SNR the model's
    process has: its ``sde`` is ``sde.restricted(...)`` with its own ``t_min`` and ``t_max``, a table without the levels
    outside, and ``sde`` itself where nothing has to be left out. Times outside are an error, not an extrapolation. The
    moments of the data that the model's process knows go along, unless ``sde`` has its own.

    Nothing is copied: parameters, conditions and the learned variance are the model's. On a table the model is told the
    table's own time where that is meant, and a fraction between. Levels of one number a batch stay python floats; what
    belongs to them is computed once.

    Raises InvalidType for what is no model, UnsupportedCombination for a process without alpha and sigma, and
    InvalidArgument, naming both ranges, where they have no log-SNR in common.

    Example: ``sample(convert(ddpm(network), sde=VESDE()), (64, 2), solver=AnnealedLangevin(), steps=100)``.
    """
    check_model("convert", model)
    process = gaussian("convert", sde)
    if not isinstance(model.sde, GaussianSDE):
        raise UnsupportedCombination(
            f"convert: the model's process must be a GaussianSDE (one with alpha and sigma), got {describe(model.sde)}"
        )
    return Converted(model, _common(model.sde, process))


class Converted(ScoreModel):
    """A model on another process, as :func:`sdekit.convert` makes it; ``model`` is the one inside."""

    sde: GaussianSDE

    def __init__(self, model: ScoreModel, sde: GaussianSDE, change: Change | None = None):
        super().__init__()
        check_model("Converted", model)
        self.model = model
        self.sde = gaussian("Converted", sde)
        self.evaluations = model.evaluations
        self.divisible = model.divisible
        self.has_variance = model.has_variance
        self.estimates_noise = model.estimates_noise
        self.change = Change(self.sde, gaussian("Converted", model.sde)) if change is None else change

    def forward(self, x: Tensor, t: Time | Level, **condition: Any) -> GaussianPrediction:
        """The prediction at x of shape (B, *event)."""
        level = gaussian_level("Converted", self.sde, t, x)
        there, k = self.change(level)
        prediction = self.model(scale(k, x), there, **condition)
        spread = None if prediction.spread is None else functools.partial(self._spread, prediction.spread)
        return GaussianPrediction(x, level, *_belief(prediction, there), spread)

    def _spread(self, spread: Spread, s: GaussianLevel) -> Tensor:
        """The learned log-variance of the step to s: x_s here is 1 / k of x_s there, with k the step's end's."""
        there, k = self.change(s)
        value = spread(there)
        return lincomb(1.0, value, -2.0 * log(k), torch.ones_like(value))

    def rows(self, index: Tensor) -> ScoreModel:
        """The model of some rows of the batch, (n,) indices."""
        return Converted(self.model.rows(index), self.sde, self.change)

    @property
    def condition(self) -> dict[str, Any]:
        """The model's."""
        return self.model.condition

    @property
    def dtype(self) -> torch.dtype:
        """The model's."""
        return self.model.dtype

    @property
    def device(self) -> torch.device | None:
        """The model's."""
        return self.model.device

    def extra_repr(self) -> str:
        """The process."""
        return f"sde={self.sde}"


class Change:
    """The change of time and scale from a process to another: a level of the one -> that of the other, and k.

    The time there is where the log-SNR is the same, but for the rounding of an inverse, which may be large where the
    log-SNR is steep. So alpha, sigma and log_snr there are not taken at that time: they are k times those here, and the
    same. k = sqrt((a^2 + b^2) / (alpha^2 + sigma^2)) is steep in time at neither end. A table's level is the table's
    own, to the bit, for what is told the number of a level or estimates the step to the one before.
    """

    def __init__(self, here: GaussianSDE, there: GaussianSDE):
        self.here = here
        self.there = there
        self.table = there if isinstance(there, TableSDE) else None
        self.known: dict[tuple[float, float, float], tuple[GaussianLevel, Scalar]] = {}
        self.least, self.most = _range(there)

    def __call__(self, level: GaussianLevel) -> tuple[GaussianLevel, Scalar]:
        """The level there, and k; the clean level is clean on both.

        Raises InvalidArgument for a level of any other process where the model's has no such log-SNR.
        """
        if level.clean:
            return self.there.clean(), 1.0
        if isinstance(level.t, Tensor):
            return self._of_rows(level)
        key = (float(level.alpha), float(level.sigma), float(level.log_snr))
        if key not in self.known:
            self._check(level, key[2], key[2])
            if len(self.known) >= KEPT:
                self.known.clear()
            found = self.there.one(float(self._time(torch.tensor(key[2], dtype=torch.float64))))
            self.known[key] = self._placed(level, found)
        return self.known[key]

    def _of_rows(self, level: GaussianLevel) -> tuple[GaussianLevel, Scalar]:
        log_snr: Any = level.log_snr
        clean = log_snr == torch.inf  # before a table's first level
        if level.sde is not self.here:
            noisy = log_snr[~clean]
            if noisy.numel():
                self._check(level, float(noisy.min()), float(noisy.max()))
        t = self._time(log_snr)
        a, b, there = self.there.alpha(t), self.there.sigma(t), self.there.log_snr(t)
        if bool(clean.any()):
            a, b, there = a.masked_fill(clean, 1.0), b.masked_fill(clean, 0.0), there.masked_fill(clean, torch.inf)
            t = t.masked_fill(clean, 0.0)
        rates = functools.cache(lambda: self.there.rates(t))
        return self._placed(level, GaussianLevel(self.there, t, a, b, there, rates))

    def _placed(self, level: GaussianLevel, found: GaussianLevel) -> tuple[GaussianLevel, Scalar]:
        k = _size(found) / _size(level)
        if self.table is not None:
            return found, k
        rates = functools.cache(lambda: (found.f, found.g2))
        return GaussianLevel(self.there, found.t, k * level.alpha, k * level.sigma, level.log_snr, rates), k

    def _time(self, log_snr: Tensor) -> Tensor:
        """The time there of a log-SNR; the time of a table's level where that is meant."""
        t = self.there.time_at(log_snr)
        if self.table is None:
            return t
        times = self.table.times.to(t.device)
        above = torch.searchsorted(times, t.contiguous()).clamp(1, len(times) - 1)
        nearest = torch.where(t - times[above - 1] < times[above] - t, times[above - 1], times[above])
        return torch.where((self.there.log_snr(nearest) - log_snr).abs() <= ROUNDING, nearest, t)

    def _check(self, level: GaussianLevel, least: float, most: float) -> None:
        if not (least >= self.least - SLACK and most <= self.most + SLACK):
            raise InvalidArgument(
                f"Converted: t must be a level whose log-SNR the model's {type(self.there).__name__} has, within "
                f"[{self.least:g}, {self.most:g}], got {least if least < self.least else most:g}; a time within "
                f"[{self.here.t_min:g}, {self.here.t_max:g}] of {type(self.here).__name__} is one"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "known": {}}


def _size(level: GaussianLevel) -> Scalar:
    return sqrt(level.alpha * level.alpha + level.sigma * level.sigma)


def _belief(prediction: Prediction, level: GaussianLevel) -> tuple[Tensor, Scalar, Scalar]:
    """(value, p, q) of a prediction: its eps or its x0 as it is, any other as v = alpha eps - sigma x0 of unit scale.

    v is well conditioned at both ends, and so at a level that is the model's but for rounding. A posterior mean is not:
    it holds x0 only in its difference from x.
    """
    if isinstance(prediction, GaussianPrediction):
        p, q = prediction.p, prediction.q
        if (isinstance(p, float) and p == 0.0) or (isinstance(q, float) and q == 0.0):
            return prediction.value, p, q
    p, q = -level.sigma / _size(level), level.alpha / _size(level)
    return prediction.mix(p, q), p, q


def _range(sde: GaussianSDE) -> tuple[float, float]:
    """The log-SNR at t_max and at t_min."""
    last, first = sde.log_snr(torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64)).tolist()
    return last, first


def _common(source: GaussianSDE, sde: GaussianSDE) -> GaussianSDE:
    """The part of a process whose log-SNR the source has, with a prior that knows what the source's does."""
    if sde.moments is None and source.moments is not None:
        sde = sde.with_prior(*source.moments)
    (low, high), (least, most) = _range(sde), _range(source)
    if high <= most + SLACK and low >= least - SLACK:
        return sde
    t_min, t_max = sde.time_at(torch.tensor([most, least], dtype=torch.float64)).tolist()
    try:
        if max(low, least) >= min(high, most):
            raise InvalidArgument("they have no log-SNR in common")
        return sde.restricted(t_min, t_max)
    except InvalidArgument as error:
        raise InvalidArgument(
            f"convert: sde must share a range of log-SNR with the model's process, got {type(sde).__name__} on "
            f"[{low:g}, {high:g}] for {type(source).__name__} on [{least:g}, {most:g}]: {error}"
        ) from error
