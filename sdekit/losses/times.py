"""Time densities: (sde, n, noise, device) -> n times, and the factor by which each row's loss is multiplied.

The factor is 1 where the density is part of the objective, and (t_max - t_min)^-1 / density(t) where times are drawn
by importance and the objective stays that of uniform times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ..sdes.base import SDE
from ..types import Device, NoiseSource

Times: TypeAlias = Callable[[SDE, int, NoiseSource, Device], tuple[Tensor, Tensor | float]]


def uniform(sde: SDE, n: int, noise: NoiseSource, device: Device = None) -> tuple[Tensor, float]:
    """Independent times, uniform on [t_min, t_max]: (n,) in float64.  (Song et al. 2021, eq. 7, arXiv:2011.13456.)"""
    return sde.time_of(noise.uniform(n, stream="times", device=device)), 1.0


def stratified(sde: SDE, n: int, noise: NoiseSource, device: Device = None) -> tuple[Tensor, float]:
    """One time in each of n equal parts of [t_min, t_max]: u_i = (u_0 + i / n) mod 1.

    Each row's time is uniform, their average over the batch far less noisy than of independent times.
    (Kingma et al. 2021, appendix I.1, arXiv:2107.00630.)
    """
    u = noise.uniform(n, stream="times", device=device)
    if n == 0:
        return u, 1.0
    u = torch.remainder(u[0] + torch.arange(n, dtype=torch.float64, device=u.device) / n, 1.0)
    return sde.time_of(u), 1.0


NAMES: dict[str, Times] = {"uniform": uniform, "stratified": stratified}
