"""Variances: what a network's second half says of the spread of the reverse step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidType, describe
from ..sdes.gaussian import GaussianLevel
from ..sdes.table import table
from ..types import Scalar, expm1, lincomb, log


class Variance(ABC):
    """How a network's second half of channels gives the log-variance of the reverse step from a level t to a level s.

    It is asked for the step that a solver takes: with fewer steps than the table has, the bounds are those of the
    longer step.
    """

    @abstractmethod
    def log_var(self, value: Tensor, t: GaussianLevel, s: GaussianLevel) -> Tensor:
        """log Var[x_s | x_t], of the shape of the network's values."""


def log_upper(t: GaussianLevel, s: GaussianLevel) -> Scalar:
    """log var(x_t | x_s): on DDPM's table log(beta).  (Ho et al. 2020, section 3.2, arXiv:2006.11239.)"""
    return 2 * log(t.sigma) + log(-expm1(t.log_snr - s.log_snr))


def log_lower(t: GaussianLevel, s: GaussianLevel) -> Scalar:
    """log var(x_s | x_t, x_0), the posterior's; at the clean end, where that is -infinity, the table's first one.

    So in Nichol & Dhariwal's code, which repeats the variance of the second step for the first. Raises
    UnsupportedCombination for a step to the clean level on a process without a table.
    """
    clean: Any = s.sigma == 0.0
    if not (bool(clean.any()) if isinstance(clean, Tensor) else clean):
        return 2 * log(s.sigma) + log(-expm1(t.log_snr - s.log_snr))
    process = table("a learned variance at the clean end", t.sde)
    second, first = process.levels(process.times[:2].flip(0))
    least = log_lower(second, first)
    if not isinstance(clean, Tensor):
        return least
    gap: Any = t.log_snr - s.log_snr
    found: Tensor = 2 * torch.log(torch.as_tensor(s.sigma)) + torch.log(-torch.expm1(gap))
    return torch.where(clean, torch.full_like(found, float(least)), found)


@dataclass(frozen=True)
class LearnedRange(Variance):
    """Improved DDPM's learned variance: between the posterior's and the step's own, in the logarithm.

    log_var = (1 + v) / 2 log(beta) + (1 - v) / 2 log(beta~),    beta = var(x_t | x_s),  beta~ = var(x_s | x_t, x_0).

    v = -1 gives beta~ and v = 1 gives beta; v is not bounded. (Nichol & Dhariwal 2021, eq. 15, arXiv:2102.09672.)
    """

    def log_var(self, value: Tensor, t: GaussianLevel, s: GaussianLevel) -> Tensor:
        """The interpolation, of the shape of the network's values."""
        upper, lower = log_upper(t, s), log_lower(t, s)
        half = 0.5 * (upper - lower)
        return lincomb(half, value, 0.5 * (upper + lower), torch.ones_like(value))


@dataclass(frozen=True)
class LearnedLogit(Variance):
    """Sohl-Dickstein's learned variance: the step's own, moved in its logit.

    var = 1 / (1 + exp(-(v / sqrt(N) + logit(beta)))),    beta = var(x_t | x_s),  N levels.

    (Sohl-Dickstein et al. 2015, section 2.4 and their code, arXiv:1503.03585.) beta must lie in (0, 1), as on a
    process that keeps the variance.
    """

    def log_var(self, value: Tensor, t: GaussianLevel, s: GaussianLevel) -> Tensor:
        """log of the sigmoid, of the shape of the network's values."""
        n = len(table("LearnedLogit", t.sde).times)
        log_beta = log_upper(t, s)
        logit = log_beta - log(-expm1(log_beta))
        return torch.nn.functional.logsigmoid(lincomb(n**-0.5, value, logit, torch.ones_like(value)))


def check(value: object) -> Variance:
    """The value where it is a variance, else a named error."""
    if not isinstance(value, Variance):
        raise InvalidType(f"Parametrised: variance must be one such as LearnedRange(), got {describe(value)}")
    return value
