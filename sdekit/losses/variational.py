"""The variational bound of DDPM, and the hybrid objective of Improved DDPM."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InvalidArgument, UnsupportedCombination, batch, check_source, flag, number, one_of
from ..models.base import GaussianPrediction, ScoreModel, check_model
from ..models.variances import log_lower, log_upper
from ..sdes.gaussian import GaussianLevel
from ..sdes.prior import NormalPrior, Prior
from ..sdes.table import TableSDE, table
from ..types import NoiseSource, Scalar, expm1, lincomb, scale
from .base import perturbed
from .decoder import check_decoder, check_levels, decoded
from .times import NAMES as TIMES
from .times import Times

VARIANCES = ("posterior", "upper", "learned")


class Terms(NamedTuple):
    """The terms of the bound of each row, in nats: L_T (B,), L_(t-1) (N - 1, B), least noise first, and L_0 (B,).

    ``square``: (N, B), |x0 - x0hat|^2 at every level, of the predictions that the terms are of.
    """

    prior: Tensor
    steps: Tensor
    decoder: Tensor
    square: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum, (B,): an upper bound of -log p(x0), in nats."""
        return self.prior + self.steps.sum(0) + self.decoder


@dataclass(frozen=True)
class VariationalBound:
    """DDPM's variational bound of -log p(x0), for a process on a table of N levels.

    L = L_T + sum_(t > 1) L_(t-1) + L_0,    L_T = KL(q(x_T | x0) || prior),
    L_(t-1) = KL(q(x_s | x_t, x0) || p(x_s | x_t)),    L_0 = -log p(x0 | x_1),    s the table's level before t.

    p(x_s | x_t) is the Gaussian that ``Ancestral`` draws from. As a loss, each row draws one t of the table, and its
    term is counted N times: without bias for L less L_T, which no model changes. ``terms`` gives all of them.
    (Ho et al. 2020, eq. 5, 7 and 13, arXiv:2006.11239; Nichol & Dhariwal 2021, section 3.1, arXiv:2102.09672;
    Sohl-Dickstein et al. 2015, eq. 14, arXiv:1503.03585.)

    ``variance``: of p: ``"posterior"``, ``"upper"`` or ``"learned"``, as in ``Ancestral``. ``decoder_bin``: None, a
    Gaussian density of x0 at the first level; or the width of a data level in the model's units, for Ho et al.'s
    discretised decoder, which integrates that Gaussian over the datum's bin, and to infinity over the first and the
    last one, at ``decoder_ends``: data that do not lie on these levels are refused. ``detach_mean`` keeps the mean out
    of the gradient. ``reduction``: ``"sum"`` gives nats a row, ``"mean"`` nats a coordinate.

    Raises UnsupportedCombination for a process without a table, or ``"learned"`` and a model without a variance.
    """

    variance: str = "posterior"
    times: str | Times = "stratified"
    decoder_bin: float | None = None
    decoder_ends: tuple[float, float] = (-1.0, 1.0)
    detach_mean: bool = False
    reduction: str = "sum"

    def __post_init__(self) -> None:
        owner = "VariationalBound"
        one_of(owner, "variance", self.variance, VARIANCES)
        if not callable(self.times):
            one_of(owner, "times", self.times, ("uniform", "stratified"))
        check_decoder(owner, self.decoder_bin, self.decoder_ends)
        flag(owner, "detach_mean", self.detach_mean)
        one_of(owner, "reduction", self.reduction, ("mean", "sum"))

    def __call__(self, model: ScoreModel, x0: Tensor, noise: NoiseSource, **condition: Any) -> Tensor:
        """The loss of a batch x0, (B, *event), as a scalar tensor: N times a drawn term, averaged over the batch."""
        self.check("VariationalBound", model, x0, noise)
        return self.per_sample(model, x0, noise, **condition).mean()

    def per_sample(self, model: ScoreModel, x0: Tensor, noise: NoiseSource, **condition: Any) -> Tensor:
        """The loss of each row, (B, *event) -> (B,), unchecked."""
        sde = table("VariationalBound", model.sde)
        level, _, x = _drawn(sde, self.times, x0, noise)
        return len(sde.times) * self.of(_asked(model, x, level, condition), x0)

    def terms(self, model: ScoreModel, x0: Tensor, noise: NoiseSource, **condition: Any) -> Terms:
        """Every term of the bound of each row, from one draw of eps a level; N evaluations of the network."""
        self.check("VariationalBound", model, x0, noise)
        sde = table("VariationalBound", model.sde)
        prior = self._reduced(prior_divergence("VariationalBound", sde.prior, sde.one(sde.t_max), x0))
        found, square = [], []
        for i, level in enumerate(sde.levels(sde.times)):
            eps = noise.normal(x0.shape, stream=("bound", i), dtype=x0.dtype, device=x0.device)
            x = lincomb(level.alpha, x0, level.sigma, eps)
            p = _asked(model, x, level, condition)
            found.append(self.of(p, x0))
            square.append(_flat((x0 - p.x0).square()).sum(1))
        return Terms(prior, torch.stack(found[1:]), found[0], torch.stack(square))

    def check(self, owner: str, model: ScoreModel, x0: Tensor, noise: NoiseSource) -> None:
        """Raises a named error where the model, the data or the noise cannot serve; called before the network is."""
        check_model(owner, model)
        table(owner, model.sde)
        if self.variance == "learned" and not model.has_variance:
            raise UnsupportedCombination(
                f"{owner}: variance='learned' needs a model with a variance, got {type(model).__name__}"
            )
        check_source(owner, noise)
        if not len(batch(owner, "x0", x0)):
            raise InvalidArgument(f"{owner}: x0 must hold at least one row, got none: no rows have no mean")
        check_levels(owner, "x0", x0, self.decoder_bin, self.decoder_ends)

    def of(self, p: GaussianPrediction, x0: Tensor) -> Tensor:
        """The term of each row for a prediction at x_t ~ q(x_t | x0): L_(t-1), or L_0 at the first level, (B,)."""
        t = p.level
        s = table("VariationalBound", t.sde).previous(t)
        lower = log_lower(t, s)
        true = lincomb(lower, torch.ones_like(x0), 0.0, x0)
        log_var = self._log_var(p, t, s, true)
        # of the two means, a x0 + b x with the same b, only x0 differs
        pull: Scalar = -s.alpha * expm1(t.log_snr - s.log_snr)
        guess = p.x0.detach() if self.detach_mean else p.x0
        square = scale(pull, x0 - guess).square() * torch.exp(-log_var)
        kl = 0.5 * (log_var - true + torch.exp(true - log_var) + square - 1.0)
        first: Any = s.sigma == 0.0
        if not isinstance(first, Tensor) and not first:
            return self._reduced(kl)
        end = decoded(x0, guess, log_var, self.decoder_bin, self.decoder_ends)
        return self._reduced(torch.where(first, end, kl) if isinstance(first, Tensor) else end)

    def _log_var(self, p: GaussianPrediction, t: GaussianLevel, s: GaussianLevel, lower: Tensor) -> Tensor:
        """The log-variance of p(x_s | x_t), of the shape of x0."""
        if self.variance == "posterior":
            return lower
        if self.variance == "upper":
            return lincomb(log_upper(t, s), torch.ones_like(lower), 0.0, lower)
        assert p.spread is not None
        return p.spread(s)

    def _reduced(self, values: Tensor) -> Tensor:
        return _flat(values).sum(1) if self.reduction == "sum" else _flat(values).mean(1)


@dataclass(frozen=True)
class Hybrid:
    """Improved DDPM's objective, which teaches a learned variance: L_simple + scale L_vlb, the mean detached in L_vlb.

    L_simple = |eps_model - eps|^2 averaged over coordinates, L_vlb the variational bound in bits a coordinate, both
    from one evaluation of the network at one t a row. (Nichol & Dhariwal 2021, eq. 16, arXiv:2102.09672.)

    ``scale``: lambda. ``decoder_bin``, ``decoder_ends``: as in ``VariationalBound``. Raises UnsupportedCombination for
    a process without a table, and for a model without a variance.

    Example: ``Hybrid()(Parametrised(network, DiscreteVPSDE(), Epsilon(label="index"), LearnedRange()), x0, Noise(0))``.
    """

    scale: float = 0.001
    times: str | Times = "stratified"
    decoder_bin: float | None = None
    decoder_ends: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        number("Hybrid", "scale", self.scale, at_least=0.0)
        self.bound  # noqa: B018 - checks the settings

    @property
    def bound(self) -> VariationalBound:
        """The variational bound that it adds."""
        return VariationalBound("learned", self.times, self.decoder_bin, self.decoder_ends, True, "mean")

    def __call__(self, model: ScoreModel, x0: Tensor, noise: NoiseSource, **condition: Any) -> Tensor:
        """The loss of a batch x0, (B, *event), as a scalar tensor."""
        self.bound.check("Hybrid", model, x0, noise)
        return self.per_sample(model, x0, noise, **condition).mean()

    def per_sample(self, model: ScoreModel, x0: Tensor, noise: NoiseSource, **condition: Any) -> Tensor:
        """The loss of each row, (B, *event) -> (B,), unchecked."""
        sde = table("Hybrid", model.sde)
        level, eps, x = _drawn(sde, self.times, x0, noise)
        p = _asked(model, x, level, condition)
        simple = (p.eps - eps).square().reshape(len(x0), math.prod(x0.shape[1:])).mean(1)
        return simple + self.scale * len(sde.times) / math.log(2) * self.bound.of(p, x0)


def prior_divergence(owner: str, prior: Prior, end: GaussianLevel, x0: Tensor) -> Tensor:
    """KL(N(alpha x0, sigma^2) || prior) of each coordinate, of the shape of x0, for the level at t_max and a normal
    prior; raises UnsupportedCombination for any other."""
    if not isinstance(prior, NormalPrior):
        raise UnsupportedCombination(f"{owner}: the prior must be normal, got {prior}")
    mean, std = (torch.as_tensor(v, dtype=x0.dtype, device=x0.device) for v in (prior.mean, prior.std))
    variance = (end.sigma / std) ** 2
    gap = (end.alpha * x0 - mean) / std
    return (0.5 * (variance - 1.0 - variance.log() + gap * gap)).expand(x0.shape)


def _flat(values: Tensor) -> Tensor:
    """(B, *event) as (B, D)."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


def _asked(model: ScoreModel, x: Tensor, level: GaussianLevel, condition: dict[str, Any]) -> GaussianPrediction:
    prediction = model(x, level, **condition)
    assert isinstance(prediction, GaussianPrediction)
    return prediction


def _drawn(sde: TableSDE, times: str | Times, x0: Tensor, noise: NoiseSource) -> tuple[GaussianLevel, Tensor, Tensor]:
    """A level of the table a row, the noise, and x there."""
    density = times if callable(times) else TIMES[times]
    level = sde.at(density(sde, len(x0), noise, x0.device)[0], x0)
    x, eps = perturbed(x0, level, noise)
    return level, eps, x
