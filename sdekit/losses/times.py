"""Time densities: (sde, n, noise, device) -> n times, and the factor by which each row's loss is multiplied.

The factor is 1 where the density is part of the objective, and (t_max - t_min)^-1 / density(t) where times are drawn
by importance and the objective stays that of uniform times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..errors import MOST, InvalidType, UnsupportedCombination, check_source, describe, number, whole
from ..models.base import gaussian
from ..sdes.base import SDE
from ..types import Device, NoiseSource

Times: TypeAlias = Callable[[SDE, int, NoiseSource, Device], tuple[Tensor, Tensor | float]]


def uniform(sde: SDE, n: int, noise: NoiseSource, device: Device = None) -> tuple[Tensor, float]:
    """Independent times, uniform on [t_min, t_max]: (n,) in float64.  (Song et al. 2021, eq. 7, arXiv:2011.13456.)"""
    return _asked("uniform", sde, n, noise).time_of(noise.uniform(n, stream="times", device=device)), 1.0


def stratified(sde: SDE, n: int, noise: NoiseSource, device: Device = None) -> tuple[Tensor, float]:
    """One time in each of n equal parts of [t_min, t_max]: u_i = (u_0 + i / n) mod 1.

    Each row's time is uniform, their average over the batch far less noisy than of independent times.
    (Kingma et al. 2021, appendix I.1, arXiv:2107.00630.)
    """
    return _asked("stratified", sde, n, noise).time_of(_parts(n, noise, device)), 1.0


def importance(sde: SDE, n: int, noise: NoiseSource, device: Device = None) -> tuple[Tensor, Tensor]:
    """Importance sampling for the likelihood weight: the density of t is proportional to g^2 / sigma^2.

    As d log_snr / dt = -g^2 / sigma^2, the log-SNR is uniform: no more than ``time_at`` is needed. The factor is
    (log_snr(t_min) - log_snr(t_max)) sigma^2 / ((t_max - t_min) g^2), (n,) in float64, and the objective that of
    uniform times. Log-SNRs are stratified as in ``stratified``.

    Song et al. 2021b, section 4 (arXiv:2101.09258); Huang et al. 2021 (arXiv:2106.02808). A process without alpha and
    sigma raises UnsupportedCombination.
    """
    sde = gaussian("importance", _asked("importance", sde, n, noise))
    ends = sde.log_snr(torch.tensor([sde.t_min, sde.t_max], dtype=torch.float64))
    most, least = ends.tolist()
    t = sde.time_at(most + (least - most) * _parts(n, noise, device))
    rate = sde.diffusion(t).square() / sde.sigma(t).square()
    return t, (most - least) / ((sde.t_max - sde.t_min) * rate)


@dataclass(frozen=True)
class LogNormal:
    """EDM's times: ln(sigma / alpha) is normal, and beyond the process's range its ends. The factor is 1.

    (Karras et al. 2022, table 1, arXiv:2206.00364.) A process without alpha and sigma raises UnsupportedCombination.
    """

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        number("LogNormal", "mean", self.mean)
        number("LogNormal", "std", self.std, above=0.0)

    def __call__(self, sde: SDE, n: int, noise: NoiseSource, device: Device = None) -> tuple[Tensor, float]:
        """The times, (n,) in float64, and 1."""
        sde = gaussian("LogNormal", _asked("LogNormal", sde, n, noise))
        z = noise.normal((n,), stream="times", dtype=torch.float64, device=device)
        return sde.time_at(-2 * (self.mean + self.std * z)), 1.0


@dataclass(frozen=True)
class LogitNormal:
    """Stable Diffusion 3's times: log(u / (1 - u)) is normal for the fraction u of [t_min, t_max]. The factor is 1.

    A mean above 0 favours noise, one below it data.  (Esser et al. 2024, eq. 19, arXiv:2403.03206.)
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        number("LogitNormal", "mean", self.mean)
        number("LogitNormal", "std", self.std, above=0.0)

    def __call__(self, sde: SDE, n: int, noise: NoiseSource, device: Device = None) -> tuple[Tensor, float]:
        """The times, (n,) in float64, and 1."""
        _asked("LogitNormal", sde, n, noise)
        z = noise.normal((n,), stream="times", dtype=torch.float64, device=device)
        return sde.time_of(torch.sigmoid(self.mean + self.std * z)), 1.0


def noise_levels(sde: SDE, n: int, noise: NoiseSource, device: Device = None) -> tuple[Tensor, float]:
    """WaveGrad's continuous noise levels, for a process on a table of times: the factor is 1.

    A segment between two neighbouring times of the table is drawn uniformly, then c = alpha / sqrt(alpha^2 + sigma^2)
    uniformly within it; on DDPM's table c is alpha = sqrt(alpha_bar). The model is asked between the table's times.
    (Chen et al. 2021, algorithm 1, arXiv:2009.00713.)

    A process without alpha and sigma, or without ``times`` of two levels or more, raises UnsupportedCombination.
    """
    _asked("noise_levels", sde, n, noise)
    table: Any = getattr(sde, "times", ())
    if len(table) < 2:
        raise UnsupportedCombination(
            f"noise_levels: the process must have a table of at least two times, got {type(sde).__name__} as sde"
        )
    sde = gaussian("noise_levels", sde)
    u = noise.uniform(n, stream="times", device=device)
    table = table.to(device=u.device, dtype=torch.float64)
    segment = (u * (len(table) - 1)).floor()
    within = u * (len(table) - 1) - segment
    low = segment.long()
    share = torch.sigmoid(sde.log_snr(table)).sqrt()
    c = torch.lerp(share[low], share[low + 1], within)
    t = sde.time_at(torch.logit(c.square()))
    return torch.minimum(torch.maximum(t, table[low]), table[low + 1]), 1.0


def _asked(owner: str, sde: SDE, n: int, noise: NoiseSource) -> SDE:
    """The process, where a density can be asked for n times on it; else a named error."""
    if not isinstance(sde, SDE):
        raise InvalidType(f"{owner}: sde must be a process such as VPSDE(), got {describe(sde)}")
    whole(owner, "n", n, at_least=0, at_most=MOST)
    check_source(owner, noise, "uniform")
    return sde


def _parts(n: int, noise: NoiseSource, device: Device) -> Tensor:
    """Numbers in [0, 1), (n,) in float64, one in each of n equal parts: (u_0 + i / n) mod 1."""
    u = noise.uniform(n, stream="times", device=device)
    if n == 0:
        return u
    return torch.remainder(u[0] + torch.arange(n, dtype=torch.float64, device=u.device) / n, 1.0)


NAMES: dict[str, Times] = {
    "uniform": uniform,
    "stratified": stratified,
    "importance": importance,
    "log_normal": LogNormal(),
    "logit_normal": LogitNormal(),
}
