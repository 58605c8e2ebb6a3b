"""A process with alpha and sigma, and its levels: GaussianSDE and GaussianLevel."""

from __future__ import annotations

import copy
import functools
import math
import warnings
from abc import abstractmethod
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

from ..errors import (
    InvalidArgument,
    InvalidType,
    PriorWarning,
    UnsupportedCombination,
    describe,
    number,
)
from ..types import Scalar, Time, align, exp, expm1, lincomb, scale, schedule, sqrt
from .base import SDE, Level
from .prior import NormalPrior, Prior, brief

STARTING_SNR = 0.01  # up to which a run may start below t_max from a prior that knows nothing of the data
ENDING_SNR = 0.05  # up to which a process may end without a warning that its prior knows nothing of the data


class GaussianLevel(Level):
    """One point of a Gaussian process: alpha, sigma, log_snr, f and g2, each a float or (B, 1, ..., 1).

    log_snr = log(alpha^2 / sigma^2). f = d log(alpha) / dt and g2 = d(sigma^2)/dt - 2 f sigma^2 are derivatives: they
    are taken when first asked for, once for all the levels of a grid.

    ``clean`` marks the end of the process, alpha = 1 and sigma = 0, where a grid with ``denoise=True`` ends.
    """

    __slots__ = ("_rates", "alpha", "clean", "log_snr", "sigma")

    sde: GaussianSDE

    def __init__(
        self,
        sde: GaussianSDE,
        t: Scalar,
        alpha: Scalar,
        sigma: Scalar,
        log_snr: Scalar,
        rates: Callable[[], tuple[Scalar, Scalar]],
        clean: bool = False,
    ):
        super().__init__(sde, t)
        self.alpha = alpha
        self.sigma = sigma
        self.log_snr = log_snr
        self.clean = clean
        self._rates = rates

    @property
    def f(self) -> Scalar:
        """The drift's rate: f(x, t) = f x."""
        return self._rates()[0]

    @property
    def g2(self) -> Scalar:
        """g(t)^2."""
        return self._rates()[1]

    @property
    def clock(self) -> Scalar:
        """(sigma / alpha)^2."""
        return exp(-self.log_snr)

    def drift(self, x: Tensor) -> Tensor:
        """f x."""
        return scale(self.f, x)


class GaussianSDE(SDE):
    """A process with x_t | x_0 ~ N(alpha(t) x_0, sigma(t)^2 I): a subclass writes alpha and sigma, all else follows.

    f = d log(alpha) / dt,   g^2 = d(sigma^2) / dt - 2 f sigma^2,   log_snr = log(alpha^2 / sigma^2).
    (Kingma et al. 2021, section 2 and appendix, arXiv:2107.00630.)

    The log-SNR must fall strictly with t. A subclass sets ``t_min > 0`` and ``t_max``, so that sigma > 0 on the range.
    """

    _data: tuple[float | Tensor, float | Tensor] | None = None

    @abstractmethod
    def alpha(self, t: Time) -> Tensor:
        """The scale of the data at time t, of the shape of t: a float, () or (B,)."""

    @abstractmethod
    def sigma(self, t: Time) -> Tensor:
        """The standard deviation of the noise at time t, of the shape of t: a float, () or (B,)."""

    @schedule
    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha(t)^2 / sigma(t)^2), of the shape of t."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def schedules(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """alpha, sigma and log_snr at float64 times; a subclass may find at once what they share."""
        return self.alpha(t), self.sigma(t), self.log_snr(t)

    @schedule
    def time_at(self, log_snr: Tensor) -> Tensor:
        """The time at which the log-SNR has a given value, of the shape of the argument; outside the range, its ends.

        Found by bisection to the last bit; a subclass may write the closed form.
        """
        low = torch.full_like(log_snr, self.t_min)
        high = torch.full_like(log_snr, self.t_max)
        for _ in range(80):  # the bracket halves down to neighbouring floats whatever the slope
            mid = 0.5 * (low + high)
            noisy = self.log_snr(mid) < log_snr
            high = torch.where(noisy, mid, high)
            low = torch.where(noisy, low, mid)
        found = 0.5 * (low + high)
        first, last = self.log_snr(torch.tensor([self.t_min, self.t_max], dtype=torch.float64)).to(log_snr.device)
        found = torch.where(log_snr >= first, self.t_min, found)
        return torch.where(log_snr <= last, self.t_max, found)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(f, g^2) at the times t, by differentiation of alpha and sigma in float64."""
        # not torch.func.jvp: its first call imports much, and warns
        alpha, pull_alpha = torch.func.vjp(self.alpha, t)  # type: ignore[misc]
        sigma, pull_sigma = torch.func.vjp(self.sigma, t)  # type: ignore[misc]
        (d_alpha,) = pull_alpha(torch.ones_like(t))
        (d_sigma,) = pull_sigma(torch.ones_like(t))
        f = d_alpha / alpha
        return f, 2 * sigma * (d_sigma - f * sigma)

    def drift(self, x: Tensor, t: Time | Level) -> Tensor:
        """f(x, t) = f(t) x, with f = d log(alpha) / dt."""
        return self.level(t, x).drift(x)

    @schedule
    def diffusion(self, t: Tensor) -> Tensor:
        """g(t), with g^2 = d(sigma^2)/dt - 2 f sigma^2, of the shape of t."""
        return self.rates(t)[1].clamp(min=0).sqrt()

    def level(self, t: Time | Level, x: Tensor) -> GaussianLevel:
        """The level at time t (float, () or (B,)) aligned with x; a level is returned as it is."""
        level = super().level(t, x)
        if not isinstance(level, GaussianLevel):
            raise InvalidArgument(f"{type(self).__name__}: t must be a time or a GaussianLevel, got {level}")
        return level

    def at(self, t: Time, x: Tensor) -> GaussianLevel:
        """The level at a time that is known to be valid: ``level`` without the checks."""
        if isinstance(t, Tensor) and t.ndim:
            return self._level(align(t, x))
        return self.one(float(t))

    def at_log_snr(self, log_snr: Scalar, x: Tensor) -> GaussianLevel:
        """The level where the log-SNR has a value known to be valid: a float, or one number a row."""
        if isinstance(log_snr, Tensor) and log_snr.ndim:
            return self._level(align(self.time_at(log_snr), x), align(log_snr, x))
        return self.one_at(float(log_snr))

    def one_at(self, log_snr: float) -> GaussianLevel:
        """The level of python floats where the log-SNR has a value."""
        return self.one(float(self.time_at(torch.tensor(log_snr, dtype=torch.float64))))

    def one(self, t: float) -> GaussianLevel:
        """The level of python floats at a time that is known to be valid."""
        (level,) = self.levels(torch.tensor([t], dtype=torch.float64))
        return level

    def _level(self, t: Tensor, log_snr: Tensor | None = None) -> GaussianLevel:
        alpha, sigma, own = self.schedules(t)
        log_snr = own if log_snr is None else log_snr
        return GaussianLevel(self, t, alpha, sigma, log_snr, functools.cache(lambda: self.rates(t)))

    def levels(self, times: Tensor) -> list[GaussianLevel]:  # type: ignore[override]
        """The levels of a whole grid, (N,) -> N levels of python floats, computed at once in float64 on the host."""
        t = times.detach().to(device="cpu", dtype=torch.float64)
        columns = (t.tolist(), *(v.tolist() for v in self.schedules(t)))
        rates = functools.cache(lambda: torch.stack(self.rates(t)).tolist())

        def rate(i: int) -> tuple[Scalar, Scalar]:
            f, g2 = rates()
            return f[i], g2[i]

        return [
            GaussianLevel(self, time, alpha, sigma, log_snr, functools.partial(rate, i))
            for i, (time, alpha, sigma, log_snr) in enumerate(zip(*columns, strict=True))
        ]

    def clean(self) -> GaussianLevel:
        """The level alpha = 1, sigma = 0: the data themselves."""
        return GaussianLevel(self, 0.0, 1.0, 0.0, math.inf, _no_rates, clean=True)

    def _level_at(self, name: str, t: Time | Level, x: Tensor) -> GaussianLevel:
        """``level``, its errors under another name than t."""
        return self.level(t if isinstance(t, Level) else self.check_time(t, x, name), x)

    def transition(self, s: Time | GaussianLevel, t: Time | GaussianLevel) -> tuple[Scalar, Scalar]:
        """(scale, std) of the kernel x_t | x_s ~ N(scale x_s, std^2 I), for s < t.

        scale = alpha_t / alpha_s,   std^2 = sigma_t^2 - scale^2 sigma_s^2 = -sigma_t^2 expm1(log_snr_t - log_snr_s).
        Raises InvalidArgument for times outside the domain, and where s is above t.
        """
        s, t = self._bare("s", s), self._bare("t", t)
        self._ordered(s, t)
        return kernel(s, t)

    def posterior(self, x: Tensor, x0: Tensor, t: Time | Level, s: Time | Level) -> tuple[Tensor, Scalar]:
        """(mean, std) of x_s | x_t = x, x_0, for s < t.

        mean = alpha_s x0 + (alpha_t sigma_s^2) / (alpha_s sigma_t^2) (x - alpha_t x0),
        std^2 = sigma_s^2 (1 - exp(log_snr_t - log_snr_s)).
        (Ho et al. 2020, eq. 7, arXiv:2006.11239; for VE: Song et al. 2021, appendix F.)
        Raises InvalidArgument for times outside the domain, and where s is above t.
        """
        t, s = self.level(t, x), self._level_at("s", s, x)
        self._ordered(s, t)
        check_alike("posterior", "x0", x0, x)
        # exp(log_snr_t - log_snr_s) = (alpha_t sigma_s)^2 / (alpha_s sigma_t)^2
        gap = t.log_snr - s.log_snr
        mean = lincomb((s.alpha / t.alpha) * exp(gap), x, -s.alpha * expm1(gap), x0)
        return mean, s.sigma * sqrt(-expm1(gap))

    def perturb(self, x0: Tensor, t: Time | Level, eps: Tensor) -> Tensor:
        """x_t = alpha(t) x0 + sigma(t) eps."""
        check_alike("perturb", "x0", x0, x0)
        level = self.level(t, x0)
        check_alike("perturb", "eps", eps, x0)
        return lincomb(level.alpha, x0, level.sigma, eps)

    def step(self, x: Tensor, t: Level, s: Level) -> tuple[Tensor, Scalar]:
        """The exact kernel s -> t as an increment and a std: (alpha_t / alpha_s - 1) x and sqrt(var of x_t | x_s).

        On DDPM's and NCSN's own tables these are Song et al. 2021, appendix E: (sqrt(1 - beta) - 1) x with sqrt(beta),
        and 0 with sqrt(sigma_t^2 - sigma_s^2).
        """
        assert isinstance(t, GaussianLevel)
        assert isinstance(s, GaussianLevel)
        ratio, std = kernel(s, t)
        return scale(ratio - 1.0, x), std

    def forward_step(self, x: Tensor, s: Level, t: Level) -> tuple[Tensor, Scalar]:
        """The exact kernel s -> t: (alpha_t / alpha_s) x and the std of x_t | x_s; s may be the clean level."""
        assert isinstance(t, GaussianLevel)
        assert isinstance(s, GaussianLevel)
        ratio, std = kernel(s, t)
        return scale(ratio, x), std

    @property
    def prior(self) -> Prior:
        """N(alpha_T mean, alpha_T^2 std^2 + sigma_T^2) where ``with_prior`` gave them, else the standard prior."""
        return self._prior_of(self._end)

    def prior_at(self, t: float) -> Prior:
        """The prior of a run that starts at the time t: p_t of the data that ``with_prior`` knows.

        Without their moments it is the standard prior, N(0, 1) where the process keeps the variance and N(0, sigma_t^2)
        else, for as long as it holds: raises InvalidArgument below t_max where alpha^2 / sigma^2 > 0.01, and warns
        (``PriorWarning``) at t_max where it is more than 0.05: the process itself ends too early.
        """
        t = number(type(self).__name__, "t", t)
        if t == self.t_max:
            snr = math.exp(min(float(self._end.log_snr), 700.0))
            if self._data is None and snr > ENDING_SNR:
                warnings.warn(
                    f"{type(self).__name__}: the process ends at alpha^2 / sigma^2 = {snr:.2g}, where the data still "
                    f"show, and its prior knows nothing of them: samples will be off. Give it their moments, "
                    f"with_prior(mean, std), or an end of at most {ENDING_SNR:g}",
                    PriorWarning,
                    stacklevel=3,
                )
            return self.prior
        level = self.one(float(self._within("t", torch.tensor(t, dtype=torch.float64))))
        if self._data is None and float(level.log_snr) > math.log(STARTING_SNR):
            raise InvalidArgument(
                f"{type(self).__name__}: a run that starts at t={t:g}, where alpha^2 / sigma^2 is "
                f"{math.exp(float(level.log_snr)):.2g} and not at most {STARTING_SNR:g}, needs x_T "
                "or the data's moments, with_prior(mean, std): the standard prior is not the law there"
            )
        return self._prior_of(level)

    def _prior_of(self, level: GaussianLevel) -> Prior:
        if self._data is None:
            return self._standard_prior(level)
        (mean, std), alpha, sigma = self._data, float(level.alpha), float(level.sigma)
        return NormalPrior(alpha * mean, (alpha * alpha * std * std + sigma * sigma) ** 0.5)

    def _standard_prior(self, level: GaussianLevel) -> Prior:
        return NormalPrior(0.0, float(level.sigma))

    @property
    def _end(self) -> GaussianLevel:
        return self.one(self.t_max)

    def with_prior(self, mean: float | Tensor, std: float | Tensor) -> Self:
        """The same process with a prior that knows the data's mean and standard deviation.

        prior = N(alpha_T mean, alpha_T^2 std^2 + sigma_T^2), which is exact for Gaussian data of independent
        coordinates, and closer to p_T than the standard prior for any other. ``mean`` and ``std`` are those of the
        data, not of p_T: numbers, or tensors of the event's shape.
        """
        other = copy.copy(self)
        object.__setattr__(other, "_data", (_moment("mean", mean), _moment("std", std, positive=True)))
        return other

    @property
    def moments(self) -> tuple[float | Tensor, float | Tensor] | None:
        """The data's (mean, std) where ``with_prior`` gave them, else None."""
        return self._data

    @property
    def centre(self) -> tuple[float | Tensor, float]:
        """The data's mean, and the root mean square of their std over coordinates; 0 and 1 where they are not known."""
        if self._data is None:
            return 0.0, 1.0
        mean, std = self._data
        return mean, float(std.square().mean().sqrt()) if isinstance(std, Tensor) else std

    def restricted(self, t_min: float, t_max: float) -> Self:
        """The same process on a part of its domain: alpha and sigma stay what they are at every time of it.

        Its prior is that of a run that starts at the new t_max. A table keeps its levels within the part.
        Raises InvalidArgument unless t_min < t_max lie within the domain, and UnsupportedCombination for a process
        whose alpha and sigma depend on its own t_min or t_max.
        """
        owner = f"{type(self).__name__}.restricted"
        low = number(owner, "t_min", t_min, at_least=self.t_min, at_most=self.t_max)
        high = number(owner, "t_max", t_max, at_least=self.t_min, at_most=self.t_max)
        if low >= high:
            raise InvalidArgument(f"{owner}: t_max must exceed t_min, got t_min={low:g}, t_max={high:g}")
        return self._part(low, high)

    def _part(self, t_min: float, t_max: float) -> Self:
        other = copy.copy(self)
        times = torch.tensor([t_min, t_max], dtype=torch.float64)
        try:
            object.__setattr__(other, "t_min", t_min)
            object.__setattr__(other, "t_max", t_max)
        except AttributeError:  # a property: its value is compared below
            pass
        same = (other.t_min, other.t_max) == (t_min, t_max) and all(
            torch.equal(getattr(other, name)(times), getattr(self, name)(times)) for name in ("alpha", "sigma")
        )
        if not same:
            raise UnsupportedCombination(
                f"{type(self).__name__}.restricted: t_min and t_max must be plain attributes on which alpha and sigma "
                "do not depend; make the process with the part's own t_min and t_max"
            )
        return other

    def _bare(self, name: str, t: Time | GaussianLevel) -> GaussianLevel:
        """A level of tensors of the shape of t itself, for schedule arithmetic that meets no data."""
        if isinstance(t, GaussianLevel):
            return t
        if isinstance(t, Tensor) and (t.dtype == torch.bool or t.is_complex()):
            raise InvalidType(f"{type(self).__name__}: {name} must be real, got {describe(t)}")
        t = t if isinstance(t, Tensor) else torch.tensor(number(type(self).__name__, name, t), dtype=torch.float64)
        return self._level(self._within(name, t.to(torch.float64)))

    def _ordered(self, s: GaussianLevel, t: GaussianLevel) -> None:
        wrong = s.t > t.t
        if bool(wrong.any() if isinstance(wrong, Tensor) else wrong):
            raise InvalidArgument(f"{type(self).__name__}: s must be below t, got s={s.t}, t={t.t}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = _settings(self), _settings(other)
        return mine.keys() == theirs.keys() and all(_same(value, theirs[name]) for name, value in mine.items())

    def __hash__(self) -> int:
        # the numbers alone: tensors and functions are compared where these agree
        return hash((type(self), *((k, v) for k, v in _settings(self).items() if isinstance(v, (int, float, str)))))

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_"))
        return self._with_prior_shown(f"{type(self).__name__}({settings})")

    def _with_prior_shown(self, text: str) -> str:
        if self._data is None:
            return text
        mean, std = map(brief, self._data)
        return f"{text}.with_prior(mean={mean}, std={std})"


def _no_rates() -> tuple[Scalar, Scalar]:
    raise UnsupportedCombination(
        "the clean level (alpha = 1, sigma = 0) has no drift or diffusion: a solver reaches it by Tweedie's x0"
    )


def kernel(s: GaussianLevel, t: GaussianLevel) -> tuple[Scalar, Scalar]:
    """(scale, std) of x_t | x_s."""
    return t.alpha / s.alpha, t.sigma * sqrt(-expm1(t.log_snr - s.log_snr))


def _moment(name: str, value: float | Tensor, positive: bool = False) -> float | Tensor:
    if not isinstance(value, Tensor):
        return number("with_prior", name, value, at_least=0.0 if positive else None)
    if value.is_complex() or value.dtype == torch.bool:
        raise InvalidType(f"with_prior: {name} must be real, got {describe(value)}")
    if not bool(torch.isfinite(value).all()) or (positive and not bool((value >= 0).all())):
        wanted = "finite and >= 0" if positive else "finite"
        raise InvalidArgument(f"with_prior: {name} must be {wanted} in every coordinate, got {value.tolist()}")
    return value.detach().to(torch.float64)


def check_alike(owner: str, name: str, value: Tensor, x: Tensor) -> None:
    """Raises InvalidArgument unless the tensor has the shape of x: it never broadcasts."""
    if not isinstance(value, Tensor):
        raise InvalidType(f"{owner}: {name} must be a tensor of the shape of x, got {describe(value)}")
    if value.shape != x.shape:
        raise InvalidArgument(f"{owner}: {name} must be of the shape of x, {tuple(x.shape)}, got {tuple(value.shape)}")


def _settings(sde: object) -> dict[str, object]:
    """What a process was made from: not what it has computed from that."""
    return {name: value for name, value in vars(sde).items() if not name.startswith("_") or name == "_data"}


def _same(a: object, b: object) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)
    return bool(a == b)
