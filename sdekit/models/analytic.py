"""The optimal variance of a reverse step, from how much of the noise a model leaves unexplained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidArgument, InvalidType, batch, check_source, describe, number
from ..sdes.base import Level
from ..sdes.gaussian import GaussianLevel
from ..types import NoiseSource, Scalar, Time, expm1, log
from .base import GaussianPrediction, ScoreModel, check_condition, check_model, evaluating, gaussian

LEAST = 2.0**-1022
"""The least share: its logarithm is finite."""


@dataclass(frozen=True)
class NoiseResidual:
    """How much of the noise a model leaves unexplained: E|eps - eps(x_t, t)|^2 / d, at log-SNRs.

    Of the exact model it is 1 - sigma^2 E|score|^2 / d, and rises from 0, where all is noise, to 1. Between its
    log-SNRs, which rise, it is linear, and beyond them constant. It is a value: two lists of numbers, which print, and
    are kept by any means. Raises InvalidArgument unless 0 < share <= 1, one for each log-SNR.
    """

    log_snr: Sequence[float]
    share: Sequence[float]

    def __post_init__(self) -> None:
        for name, least, most in (("log_snr", None, None), ("share", 0.0, 1.0)):
            values = getattr(self, name)
            if not isinstance(values, (tuple, list)) or not values:
                raise InvalidType(f"NoiseResidual: {name} must be a tuple of numbers, got {describe(values)}")
            numbers = tuple(number("NoiseResidual", name, v, above=least, at_most=most) for v in values)
            object.__setattr__(self, name, numbers)
        if len(self.share) != len(self.log_snr):
            raise InvalidArgument(
                f"NoiseResidual: share must hold one number for each log_snr, got {len(self.share)} "
                f"for {len(self.log_snr)}"
            )
        if any(b <= a for a, b in zip(self.log_snr, self.log_snr[1:], strict=False)):
            raise InvalidArgument(f"NoiseResidual: log_snr must rise strictly, got {describe(self.log_snr)}")

    def at(self, log_snr: Scalar) -> Scalar:
        """The share at a log-SNR, a float or a tensor."""
        v = torch.as_tensor(log_snr, dtype=torch.float64)
        nodes, share = (torch.tensor(w, dtype=torch.float64, device=v.device) for w in (self.log_snr, self.share))
        if len(nodes) == 1:
            found = share[0].expand(v.shape)
        else:
            i = torch.searchsorted(nodes, v).clamp(1, len(nodes) - 1)
            found = torch.lerp(share[i - 1], share[i], ((v - nodes[i - 1]) / (nodes[i] - nodes[i - 1])).clamp(0.0, 1.0))
        return found if isinstance(log_snr, Tensor) else float(found)


def noise_residual(model: ScoreModel, x0: Tensor, levels: Sequence[Level], noise: NoiseSource) -> NoiseResidual:
    """What a model leaves unexplained of the noise in data, at the levels of a run: a mean over rows and coordinates.

    ``x0``: (M, *event), a pilot set of data. ``levels``: those at which a run asks, such as ``grids.levels(sde,
    "log_snr", 50)``; the clean one counts for nothing. Each costs one evaluation of the M rows, without gradients and
    in evaluation mode. An average above 1, which is chance or a model worse than none, counts as 1, so that the
    variance stays within its bounds. Raises named errors at the call.
    """
    check_model("noise_residual", model)
    sde = gaussian("noise_residual", model.sde)
    batch("noise_residual", "x0", x0)
    check_source("noise_residual", noise)
    check_condition("noise_residual", model, len(x0))
    if not x0.numel():
        raise InvalidArgument(f"noise_residual: x0 must hold data, got {describe(x0)}")
    found: dict[float, float] = {}
    if not isinstance(levels, (tuple, list)):
        raise InvalidType(f"noise_residual: levels must be those of a run, got {describe(levels)}")
    with torch.no_grad(), evaluating(model):
        for k, level in enumerate(levels):
            if not isinstance(level, GaussianLevel) or isinstance(level.t, Tensor):
                raise InvalidType(f"noise_residual: levels must be those of a run, got {describe(level)} among them")
            if not level.clean:
                eps = noise.normal(x0.shape, stream=("residual", k), dtype=x0.dtype, device=x0.device)
                left = eps - model(sde.perturb(x0, level, eps), level).eps
                found[float(level.log_snr)] = min(max(float(left.double().square().mean()), LEAST), 1.0)
    log_snrs = tuple(sorted(found))
    return NoiseResidual(log_snrs, tuple(found[v] for v in log_snrs))


class AnalyticVariance(ScoreModel):
    """A model with the optimal variance of each reverse step, one number a level: drawn by ``Ancestral("learned")``.

    With u = E|eps - eps(x_t, t)|^2 / d, the step from t to s has around Ancestral's mean the mean square

        var = (1 - r^2) ((1 - u) sigma_s^2 + u (alpha_s sigma_t / alpha_t)^2),  r = alpha_t sigma_s / (alpha_s sigma_t),

    which lies between the posterior's, where u = 0, and the forward step's in units of x_s, where u = 1. Among all
    variances that are one number a level it leaves the smallest divergence. For Gaussian data of one variance in every
    direction it is exact, and so is the law after any number of steps.

    Bao et al. 2022, theorem 1, with the bounds of theorem 2 (arXiv:2201.06503), where 1 - u is sigma^2 Gamma, the mean
    square of the score. Of a network, whose mean is not exact, u is the mean square of what it leaves, which is the
    correction for an imperfect mean (Bao et al. 2022b, arXiv:2206.07309).

    Example: ``AnalyticVariance(model, noise_residual(model, data, grids.levels(model.sde, "log_snr", 20), Noise(0)))``.
    """

    has_variance = True

    def __init__(self, model: ScoreModel, residual: NoiseResidual):
        super().__init__()
        check_model("AnalyticVariance", model)
        gaussian("AnalyticVariance", model.sde)
        if not isinstance(residual, NoiseResidual):
            raise InvalidType(f"AnalyticVariance: residual must be a NoiseResidual, got {describe(residual)}")
        self.model = model
        self.sde = model.sde
        self.evaluations = model.evaluations
        self.divisible = model.divisible
        self.estimates_noise = model.estimates_noise
        self.residual = residual

    def forward(self, x: Tensor, t: Time | Level, **condition: Any) -> GaussianPrediction:
        """The model's prediction, with the variance of a step to any level."""
        p = self.model(x, t, **condition)
        assert isinstance(p, GaussianPrediction)

        def spread(s: GaussianLevel) -> Tensor:
            return torch.as_tensor(self.log_var(p.level, s), dtype=torch.float64).to(x).expand_as(x)

        return GaussianPrediction(p.x, p.level, p.value, p.p, p.q, spread)

    def log_var(self, t: GaussianLevel, s: GaussianLevel) -> Scalar:
        """log var of the step from t to s; s may be the clean level."""
        u = self.residual.at(t.log_snr)
        far = s.alpha * t.sigma / t.alpha
        return log(-expm1(t.log_snr - s.log_snr)) + log((1.0 - u) * s.sigma * s.sigma + u * far * far)

    def rows(self, index: Tensor) -> ScoreModel:
        """The model of some rows of the batch."""
        return AnalyticVariance(self.model.rows(index), self.residual)

    def on_behalf(self, index: Tensor) -> ScoreModel:
        """The model, asked for the sake of some rows."""
        return AnalyticVariance(self.model.on_behalf(index), self.residual)

    @property
    def condition(self) -> dict[str, Any]:
        """The model's."""
        return self.model.condition
