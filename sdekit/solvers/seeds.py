"""SEEDS, and DPM++ SDE."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import number, one_of, whole
from ..models.base import GaussianPrediction, ScoreModel
from ..sdes.base import Level
from ..sdes.gaussian import GaussianLevel
from ..types import NoiseSource, Scalar, combine, sqrt
from .base import GaussianSolver, State, level_where, predict
from .exponential import BETWEEN, deviation, first, ramp


@dataclass(frozen=True)
class SEEDS(GaussianSolver):
    """SEEDS-1, -2, -3: singlestep exponential solvers of the reverse SDE, which see the noise within the step.

    With ``view="x0"``, h = l_s - l_t the step in l = log(alpha / sigma) and H = (1 + eta) h, to a level m from x_t by
    the view v at t, and by a line through v_t and a later v_k,

        x_m = (sigma_m / sigma_t) e^(-eta h) x_t + alpha_m (1 - e^-H) v_t + N_m,
        beside v_t, the line's integral:  alpha_m (H + e^-H - 1) / (1 + eta) (v_k - v_t) / (l_k - l_t).

    Of 2 stages the step goes so to its middle in l, and takes v there in the place of v_t. Of 3 it goes to a third of
    the step, from t by the line through that to two thirds, and by the line through this to the end. ``view="eps"`` has
    (alpha_m / alpha_t) x_t - (1 + eta) sigma_m (e^h - 1) v_t and -(1 + eta) sigma_m (e^h - 1 - h) in these places, and
    needs steps of h < 1. The papers have eta = 1; eta = 0 is singlestep DPM-Solver.

    N_m, of variance sigma_m^2 (1 - e^(-2 eta h)) with x0 and eta sigma_m^2 (e^(2 h) - 1) with eps, is the noise of the
    path from t to m, with a draw for each part of the step: every stage, and any finer grid, see one path. A part's
    noise is carried on as x is (``noise="sde"``), or N_m is the increment of the path in (sigma / alpha)^2, scaled
    (``"increment"``); with eps the two are one. SEEDS(2, noise="increment") is k-diffusion's "DPM++ SDE" for r = 1/2
    and eta = 1. One stage is DPMSolverSDE(1).

    The weak order is 2 from two stages on, for the noise is additive and the values have its covariance with the sum;
    three stages make the error smaller. The strong order is 1.

    Gonzalez et al. 2023, algorithms 1 to 4 (arXiv:2305.14267), with the levels between of the authors' code. In its
    third stage with x0 that code has another weight than the line's integral. Increments: Crowson, k-diffusion, after
    Lu et al. 2022 (arXiv:2211.01095). Raises InvalidArgument unless 1 <= stages <= 3 and eta >= 0.
    """

    stages: int = 2
    eta: float = 1.0
    view: str = "x0"
    noise: str = "sde"

    def __post_init__(self) -> None:
        whole("SEEDS", "stages", self.stages, at_least=1, at_most=3)
        number("SEEDS", "eta", self.eta, at_least=0.0)
        one_of("SEEDS", "view", self.view, ("x0", "eps"))
        one_of("SEEDS", "noise", self.noise, ("sde", "increment"))

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """Whether eta > 0."""
        return self.eta > 0

    @property
    def order(self) -> int:  # type: ignore[override]
        """min(stages, 2), weak; without noise stages."""
        return min(self.stages, 2) if self.stochastic else self.stages

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """The number of stages."""
        return self.stages

    @property
    def tau(self) -> float:
        """sqrt(eta)."""
        return math.sqrt(self.eta)

    def step(self, model: ScoreModel, state: State[Any], s: Level, noise: NoiseSource) -> State[Any]:
        """The state at the level s; the model's x0 where s is clean."""
        p, t, s = predict(model, state, s)
        if s.clean:
            return State(p.x0, s)
        x, now, path, draws = state.x, p, [t], list[Tensor]()
        for part in BETWEEN[self.stages]:
            m = level_where(t.sde, t.log_snr + part * (s.log_snr - t.log_snr), x)
            self._draw(path, draws, x, m, noise)
            now = model(self._across(x, p, now, path, draws), m)
        self._draw(path, draws, x, s, noise)
        return State(self._across(x, p, now, path, draws), s)

    def _draw(
        self, path: list[GaussianLevel], draws: list[Tensor], x: Tensor, m: GaussianLevel, noise: NoiseSource
    ) -> None:
        """Takes the path on to the level m."""
        if self.stochastic:
            draws.append(noise(x, path[-1], m))
        path.append(m)

    def _shares(self, path: Sequence[GaussianLevel]) -> list[Scalar]:
        """What the draws of the path's parts count in the noise from its first level to its last."""
        view, tau, s = self.view, self.tau, path[-1]
        parts = list(itertools.pairwise(path))
        if self.noise == "sde":
            return [deviation(view, a, b, tau) * first(view, b, s, tau)[0] for a, b in parts]
        std, gap = deviation(view, path[0], s, tau), path[0].clock - s.clock
        return [std * sqrt((a.clock - b.clock) / gap) for a, b in parts]

    def _across(
        self,
        x: Tensor,
        p: GaussianPrediction,
        now: GaussianPrediction,
        path: Sequence[GaussianLevel],
        draws: Sequence[Tensor],
    ) -> Tensor:
        """x at the path's end from x_t, by the prediction at t and the last one: the same in the first stage."""
        t, s, tau = path[0], path[-1], self.tau
        keep, total = first(self.view, t, s, tau)
        values, weights = [self._of(now)], [total]
        if self.stages == 3 and now is not p:
            slope = ramp(self.view, t, s, tau) / (0.5 * (now.level.log_snr - t.log_snr))
            values, weights = [self._of(p), *values], [total - slope, slope]
        terms: list[Scalar] = [keep, *weights, *(self._shares(path) if draws else ())]
        return combine(terms, (x, *values, *draws))

    def _of(self, p: GaussianPrediction) -> Tensor:
        return p.x0 if self.view == "x0" else p.eps
