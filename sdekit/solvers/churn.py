"""EDM's churn, around any deterministic solver."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import InvalidArgument, number
from ..models.base import ScoreModel
from ..sdes.base import Level
from ..sdes.gaussian import GaussianLevel, kernel
from ..types import NoiseSource, Scalar, exp, lincomb, log
from .base import Solver, State, Wrapper, check_deterministic, level_where
from .ddim import DDIM

MOST = math.sqrt(2.0) - 1.0
"""The largest churn: more noise than was there is never added."""


@dataclass(frozen=True)
class Churn(Wrapper):
    """EDM's churn on any deterministic solver: ``Churn(DDIM(), 0.1)``; ``Churn(Heun(), g)`` is ``Heun(churn=g)``.

    Before a step from t to s the noise level n = sigma / alpha is raised by a factor 1 + churn, where churn_min <= n <=
    churn_max, and the solver comes down to s from there:

        x_t' = (alpha_t' / alpha_t) x_t + churn_noise alpha_t' sqrt(n'^2 - n^2) z,   n' = (1 + churn) n.

    In EDM's terms churn = min(S_churn / N, sqrt(2) - 1) for N steps, churn_min = S_tmin, churn_max = S_tmax and
    churn_noise = S_noise. The noise never leaves the process's own range, and none is added in the step to the clean
    level. A multistep solver begins anew where x has been moved: within the window it takes the steps of one value.

    Karras et al. 2022, algorithm 2, lines 4 to 6 (arXiv:2206.00364), on any Gaussian process. With churn there is no
    order: the way back does not shrink with the grid. Raises InvalidArgument for a solver that draws noise of its own,
    and unless 0 <= churn <= sqrt(2) - 1, 0 <= churn_min <= churn_max and churn_noise > 0.
    """

    solver: Solver = field(default_factory=DDIM)
    churn: float = 0.1
    churn_min: float = 0.0
    churn_max: float = math.inf
    churn_noise: float = 1.0

    def __post_init__(self) -> None:
        check_deterministic("Churn", self.solver)
        check_churn("Churn", self)

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """Whether there is churn."""
        return self.churn > 0

    @property
    def order(self) -> float | None:  # type: ignore[override]
        """The solver's, and none with churn."""
        return None if self.churn else self.solver.order

    @property
    def evaluations(self) -> int | None:  # type: ignore[override]
        """Of the network a step: the solver's."""
        return self.solver.evaluations

    def step(self, model: ScoreModel, state: State[Any], s: Level, noise: NoiseSource) -> State[Any]:
        """The solver's state at the level s."""
        x, t = churned(self, state.x, state.level, s, noise)
        kept = state if t is state.level else State(x, t)
        return self.solver.step(model, kept, s, noise)


class Churning(Protocol):
    """The settings of churn."""

    @property
    def churn(self) -> float:
        """gamma."""

    @property
    def churn_min(self) -> float:
        """S_tmin."""

    @property
    def churn_max(self) -> float:
        """S_tmax."""

    @property
    def churn_noise(self) -> float:
        """S_noise."""


def check_churn(owner: str, settings: Churning) -> None:
    """Raises InvalidArgument unless 0 <= churn <= sqrt(2) - 1, 0 <= churn_min <= churn_max and churn_noise > 0."""
    number(owner, "churn", settings.churn, at_least=0.0, at_most=MOST + 1e-12)
    number(owner, "churn_min", settings.churn_min, at_least=0.0)
    number(owner, "churn_noise", settings.churn_noise, above=0.0)
    if not (isinstance(settings.churn_max, float) and settings.churn_max == math.inf):
        number(owner, "churn_max", settings.churn_max)
    if settings.churn_max < settings.churn_min:
        raise InvalidArgument(
            f"{owner}: churn_max must reach churn_min, got churn_min={settings.churn_min:g}, "
            f"churn_max={settings.churn_max}"
        )


def churned(settings: Churning, x: Tensor, t: Level, s: Level, noise: NoiseSource) -> tuple[Tensor, Level]:
    """The state with its noise raised before a step to s, and its level; where nothing is added, x and t themselves."""
    assert isinstance(t, GaussianLevel)
    if not settings.churn or s.clean:
        return x, t
    n, most = exp(-0.5 * t.log_snr), math.exp(-0.5 * float(t.sde.at(t.sde.t_max, x).log_snr))
    target = _bounded(n, settings.churn_min, settings.churn_max, settings.churn, most)
    if not isinstance(target, Tensor) and target == n:
        return x, t
    there = level_where(t.sde, -2.0 * log(target), x)
    return raised(x, t, there, noise(x, t, s, stream="churn"), settings.churn_noise), there


def raised(x: Tensor, t: GaussianLevel, there: GaussianLevel, z: Tensor, by: float = 1.0) -> Tensor:
    """x at a noisier level, by the process's own kernel with the noise ``by`` z."""
    ratio, std = kernel(t, there)
    return lincomb(ratio, x, by * std, z)


def _bounded(n: Scalar, low: float, high: float, churn: float, most: float) -> Scalar:
    """(1 + churn) n where low <= n <= high, at most ``most``, else n."""
    if not isinstance(n, Tensor):
        return max(n, min((1.0 + churn) * n, most)) if low <= n <= high else n
    raised = torch.maximum(n, (n * (1.0 + churn)).clamp(max=most))
    return torch.where((n >= low) & (n <= high), raised, n)
