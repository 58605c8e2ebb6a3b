"""The variational bound in continuous time, term by term, with the standard error of its draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ..chunks import by_row, keyed_source
from ..errors import InvalidArgument, batch, describe, finite_rows, floating, number, one_of, whole
from ..losses.decoder import check_decoder, check_levels, decoded
from ..losses.variational import prior_divergence
from ..models.base import GaussianPrediction, ScoreModel, check_condition, check_model, evaluating, gaussian
from ..noise import check_noise
from ..sdes.gaussian import GaussianLevel, GaussianSDE
from ..sdes.prior import NormalPrior, Prior
from ..types import NoiseSource, exp, lincomb, scale, sqrt
from .prior import Density, check_prior, density_of

Place: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""u -> times and |d log_snr / du|, all (B,): a density of times, by what it makes of u uniform on (0, 1)."""


@dataclass(frozen=True)
class LikelihoodBound:
    """Upper bounds of -log p of each row, term by term, in nats."""

    prior: Tensor
    """(B,): KL(q(x_T | x) || prior)."""
    diffusion: Tensor
    """(B,): 1/2 int E|eps - eps_model|^2 d log_snr, from t_max to t_min: its estimate."""
    decoder: Tensor
    """(B,): -E log p(x | x_t) at t_min: its estimate."""
    se: Tensor
    """(B,): the standard error of the total; its square is without bias."""
    nfe: Tensor
    """(B,) network evaluations."""
    dimension: int
    """Coordinates of an event."""
    decoder_bin: float | None = None
    """The width of a level of data, of whose probability the bound then is; None where it is of a density."""

    @property
    def total(self) -> Tensor:
        """(B,): prior + diffusion + decoder, an upper bound of -log p in expectation."""
        return self.prior + self.diffusion + self.decoder

    @property
    def log_prob(self) -> Tensor:
        """(B,): -total, a lower bound of log p in expectation."""
        return -self.total

    def bits_per_dim(self, bin_width: float | None = None) -> Tensor:
        """The bound of a coordinate's code length, (B,): total / (D log 2), less log2(bin_width) of a density.

        ``bin_width``: the width of a level in the model's own units, for data that were dequantised by uniform noise of
        that width, as of :meth:`Likelihood.bits_per_dim`; it is left out after a discretised decoder.
        """
        if not self.dimension:
            raise InvalidArgument("bits_per_dim: an event must have at least one coordinate, got none")
        bits = self.total / (self.dimension * math.log(2))
        if self.decoder_bin is None:
            return bits - math.log2(number("bits_per_dim", "bin_width", bin_width, above=0.0))
        if bin_width is not None:
            raise InvalidArgument(
                f"bits_per_dim: bin_width must be left out, as the decoder has its own, got {describe(bin_width)}"
            )
        return bits

    def mean(self, bin_width: float | None = None) -> tuple[float, float]:
        """The mean of bits_per_dim over the data set, and its standard error; infinite of a single row.

        The error is that of the rows' spread, in which that of the draws is contained.
        """
        bits = self.bits_per_dim(bin_width)
        if not len(bits):
            raise InvalidArgument("mean: the data set must hold at least one row, got none")
        error = float(bits.std()) / math.sqrt(len(bits)) if len(bits) > 1 else math.inf
        return float(bits.mean()), error


def variational_bound(
    model: ScoreModel,
    x: Tensor,
    *,
    draws: int = 32,
    times: str = "importance",
    decoder_bin: float | None = None,
    decoder_ends: tuple[float, float] = (-1.0, 1.0),
    prior: Prior | Density | None = None,
    seed: int | Sequence[int] = 0,
    noise: NoiseSource | None = None,
    per_sample: bool = False,
    ids: Tensor | Sequence[int] | None = None,
    dtype: torch.dtype = torch.float64,
) -> LikelihoodBound:
    """Upper bounds of -log p(x) of each row of data x, by the reverse SDE's variational bound in continuous time.

    -log p(x) <= KL(q(x_T | x) || prior) + 1/2 int E|eps - eps_model(x_t, t)|^2 d log_snr - E log p(x | x_(t_min)),

    the integral from the log-SNR at t_max up to that at t_min. (Kingma et al. 2021, eq. 11 to 15, arXiv:2107.00630,
    whose 1/2 int e^log_snr |x - x0_model|^2 d log_snr it is, as eps - eps_model = (alpha / sigma) (x0_model - x).) In
    terms of the score it is Song et al. 2021b's, theorem 3 (arXiv:2101.09258): eps = -sigma grad log p_0t and
    d log_snr = -g^2 / sigma^2 dt make it 1/2 int g^2 E|score - grad log p_0t|^2 dt, and what theorem 3 has besides,
    -E log prior(x_T) - 1/2 int (g^2 E|grad log p_0t|^2 + 2 div f) dt, is the first term and the entropy of
    q(x_(t_min) | x). Where the model is exact and the prior p_T, it is -log p(x) itself, row by row, as t_min -> 0.

    ``x``: (B, *event), finite floats, the data themselves. ``draws``: an even number of times a row, with a noise each;
    two more at t_min are the decoder's. ``times``: their density, ``"importance"``, in proportion to g^2 / sigma^2, so
    that the log-SNR is uniform, or ``"stratified"``, t uniform. The losses' words, but the times of a row are its own.

    Two independent draws are taken in each of draws / 2 equal parts of the density: their differences give ``se``,
    whose square is without bias whatever the integrand. What is drawn is the difference to the model of data
    N(mean, std^2), of ``sde.with_prior`` or else 0 and 1, whose bound is known: of such data nothing is left to chance.
    A single row's estimate may lie below -log p(x) by its error.

    ``decoder_bin``: None, and p(x | x_t) is the density of N(x0_model, sigma^2) at t_min; or the width of a data level
    in the model's units, for the mass on the datum's bin, as of ``losses.VariationalBound("upper", ...)``, with its
    ``decoder_ends``: data that do not lie on these levels are refused. ``prior``: a :class:`sdes.Prior`, or any
    log-density of p_T, in place of the process's; of one that is not a :class:`sdes.NormalPrior` the first term has two
    draws as well. On a table, the process is the one between its levels, too, where the network is asked as
    :func:`log_likelihood` asks it; the table's own bound is ``losses.VariationalBound``.

    ``seed``, ``noise``, ``per_sample``, ``ids``, ``dtype``: as of :func:`log_likelihood`; what a row draws is its own.

    Raises named errors at the door, UnsupportedCombination for a process without alpha and sigma among them; and
    NonFiniteError, whose ``rows`` are those at fault.

    Example: ``r = variational_bound(model, x, draws=64); r.log_prob; r.se; r.mean(bin_width=2 / 256)``.
    """
    owner = "variational_bound"
    check_model(owner, model)
    sde = gaussian(owner, model.sde)
    x = batch(owner, "x", x)
    if whole(owner, "draws", draws, at_least=2) % 2:
        raise InvalidArgument(f"{owner}: draws must be even, got draws={draws}")
    place = PLACES[one_of(owner, "times", times, PLACES)](sde)
    ends = check_decoder(owner, decoder_bin, decoder_ends)
    check_levels(owner, "x", x, decoder_bin, ends)
    prior = check_prior(owner, sde, prior)
    dtype = floating(owner, "dtype", dtype)
    noise = keyed_source(owner, noise, seed, ids, per_sample)
    check_noise(owner, noise, len(x))
    check_condition(owner, model, len(x))
    x = x.detach().to(dtype)
    density_of(owner, prior)(x)  # a wrong one is refused before the network is asked

    def terms(model: ScoreModel, x: Tensor, noise: NoiseSource) -> tuple[Tensor, ...]:
        first, at_end = _prior(owner, prior, sde.one(sde.t_max), x, noise)
        known = _Known(sde, x)
        between, along = _mean_of_pairs(_diffusion(model, sde, place, draws, known, x, noise))
        last, at_start = _mean_of_pairs(_decoder(model, sde, decoder_bin, ends, known, x, noise))
        return first, known.integral() + between, last, (at_end + along + at_start).sqrt()

    if not x.numel():
        found: tuple[Tensor | None, ...] = (x.new_zeros(len(x)),) * 4
    else:
        with torch.no_grad(), evaluating(model):
            found = by_row(owner, terms, model, x, noise, per_sample)
    first, between, last, se = (value for value in found if value is not None)
    nfe = torch.full((len(x),), (draws + 2) * model.evaluations if x.numel() else 0, device=x.device)
    result = LikelihoodBound(first, between, last, se, nfe, math.prod(x.shape[1:]), decoder_bin)
    finite_rows(owner, "the bound", result.total)
    return result


def _mean_of_pairs(values: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of (2 n, B), where rows 2 i and 2 i + 1 are of one part, and the variance of that mean: (B,) each.

    E (a - b)^2 / 4 is the variance of the mean of two independent draws of one law, and parts are independent.
    """
    pairs = values.reshape(-1, 2, values.shape[1])
    return values.mean(0), (pairs[:, 0] - pairs[:, 1]).square().sum(0) / (4 * len(pairs) ** 2)


def _prior(
    owner: str, prior: Prior | Density, end: GaussianLevel, x: Tensor, noise: NoiseSource
) -> tuple[Tensor, Tensor]:
    """KL(q(x_T | x) || prior) and the variance of its estimate, (B,) each: 0 for a normal prior."""
    if isinstance(prior, NormalPrior):
        exact = _sum(prior_divergence(owner, prior, end, x))
        return exact, torch.zeros_like(exact)
    density, values = density_of(owner, prior), []
    for k in range(2):
        eps = noise.normal(x.shape, stream=("bound prior", k), dtype=x.dtype, device=x.device)
        own = _sum(-0.5 * (eps.square() + math.log(2 * math.pi)) - math.log(end.sigma))
        values.append(own - density(lincomb(end.alpha, x, end.sigma, eps)).to(x.dtype))
    return _mean_of_pairs(torch.stack(values))


class _Known:
    """The bound of the model of data N(mean, std^2), which is known: what is drawn is the difference to it.

    With r = alpha^2 std^2 / sigma^2 its error eps - eps_model is (r eps - alpha (x - mean) / sigma) / (1 + r).
    """

    def __init__(self, sde: GaussianSDE, x: Tensor):
        mean, std = (torch.as_tensor(v, dtype=x.dtype, device=x.device) for v in sde.moments or (0.0, 1.0))
        self.sde, self.gap, self.variance = sde, x - mean, std * std

    def square(self, eps: Tensor, level: GaussianLevel) -> Tensor:
        """|eps - eps_model|^2 of each row, (B,)."""
        snr = exp(level.log_snr)
        ratio = scale(snr, self.variance.expand(eps.shape))
        return _sum(((ratio * eps - scale(sqrt(snr), self.gap)) / (1 + ratio)).square())

    def expected(self, level: GaussianLevel) -> Tensor:
        """E |eps - eps_model|^2 of each row, (B,), at a level of floats."""
        snr = exp(level.log_snr)
        ratio = snr * self.variance
        return _sum((ratio * ratio + snr * self.gap.square()) / (1 + ratio).square())

    def integral(self) -> Tensor:
        """1/2 int E |eps - eps_model|^2 d log_snr of each row, (B,)."""
        low, high = (math.exp(v) for v in _ends(self.sde))
        a, b = 1 + low * self.variance, 1 + high * self.variance
        return _sum(0.5 * (torch.log(b / a) + 1 / b - 1 / a + self.gap.square() * (high - low) / (a * b)))


def _diffusion(
    model: ScoreModel, sde: GaussianSDE, place: Place, draws: int, known: _Known, x: Tensor, noise: NoiseSource
) -> Tensor:
    """|eps - eps_model|^2 / 2 over the density of the log-SNR, less the known model's, (draws, B).

    Two draws in each of draws / 2 parts of u.
    """
    values = []
    for k in range(draws):
        u = (noise.uniform(len(x), stream=("bound time", k), device=x.device) + k // 2) / (draws // 2)
        t, rate = place(u)
        level = sde.at(t, x)
        eps = noise.normal(x.shape, stream=("bound", k), dtype=x.dtype, device=x.device)
        p = _asked(model, lincomb(level.alpha, x, level.sigma, eps), level)
        values.append(0.5 * rate.to(x.dtype) * (_sum((eps - p.eps).square()) - known.square(eps, level)))
    return torch.stack(values)


def _decoder(
    model: ScoreModel,
    sde: GaussianSDE,
    width: float | None,
    ends: tuple[float, float],
    known: _Known,
    x: Tensor,
    noise: NoiseSource,
) -> Tensor:
    """-log p(x | x_t) at t_min of two draws of x_t, (2, B); of a density, less the known model's, whose mean is added.

    The known model's x0_model - x is (sigma / alpha) (eps - eps_model).
    """
    level, values = sde.one(sde.t_min), []
    log_var = x.new_full(x.shape, 2 * math.log(level.sigma))
    for k in range(2):
        eps = noise.normal(x.shape, stream=("bound decoder", k), dtype=x.dtype, device=x.device)
        p = _asked(model, lincomb(level.alpha, x, level.sigma, eps), level)
        cost = _sum(decoded(x, p.x0, log_var, width, ends))
        if width is None:
            cost = cost + 0.5 / level.alpha**2 * (known.expected(level) - known.square(eps, level))
        values.append(cost)
    return torch.stack(values)


def _asked(model: ScoreModel, x: Tensor, level: GaussianLevel) -> GaussianPrediction:
    prediction = model(x, level)
    assert isinstance(prediction, GaussianPrediction)
    return prediction


def _sum(values: Tensor) -> Tensor:
    """Over the event, (B,)."""
    return values.reshape(len(values), math.prod(values.shape[1:])).sum(1)


def _ends(sde: GaussianSDE) -> tuple[float, float]:
    """The log-SNR at t_max and at t_min."""
    return float(sde.one(sde.t_max).log_snr), float(sde.one(sde.t_min).log_snr)


def _importance(sde: GaussianSDE) -> Place:
    low, high = _ends(sde)
    return lambda u: (sde.time_at(low + (high - low) * u), torch.full_like(u, high - low))


def _stratified(sde: GaussianSDE) -> Place:
    width = sde.t_max - sde.t_min

    def place(u: Tensor) -> tuple[Tensor, Tensor]:
        t = sde.t_min + width * u  # not time_of, which gives the levels of a table alone
        return t, width * sde.diffusion(t).square() / sde.sigma(t).square()

    return place


PLACES: dict[str, Callable[[GaussianSDE], Place]] = {
    "importance": _importance,
    "stratified": _stratified,
}
"""Densities of times by name."""
