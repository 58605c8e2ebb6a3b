"""DPM-Solver and DPM-Solver++, singlestep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import one_of, whole
from ..models.base import GaussianPrediction, ScoreModel
from ..sdes.base import Level
from ..sdes.gaussian import GaussianLevel
from ..types import NoiseSource, combine
from .base import GaussianSolver, State, level_where, predict
from .exponential import BETWEEN, first, ramp


@dataclass(frozen=True)
class DPMSolverSinglestep(GaussianSolver):
    """DPM-Solver-1, -2, -3 and DPM-Solver++(2S), (3S): ``order`` evaluations within a step, and no memory.

    With ``view="x0"`` (++) and l = log(alpha / sigma), a step of size h = l_s - l_t takes the view v at t as

        x_s = (sigma_s / sigma_t) x - alpha_s (e^-h - 1) v_t                                   (order 1, which is DDIM);

    of order 2 it goes so to the middle m of the step in l, and takes v_m in the place of v_t. Of order 3 it goes so to
    a third of the step, from there by the integral of the line through both values to two thirds, and by that of the
    line through the first and the last to the end: beside v_t, the integral of a line through v_m is

        alpha_s (h + e^-h - 1) (v_m - v_t) / (l_m - l_t).

    ``view="eps"`` has (alpha_s / alpha_t) x - sigma_s (e^h - 1) v_t and -sigma_s (e^h - 1 - h) in these places; its
    order 2 is the midpoint rule for y = x / alpha in sigma / alpha from the geometric mean of both levels, which
    k-diffusion has as DPM2 and diffusers as KDPM2.

    The step to the clean level ends at the model's x0. Lu et al. 2022, algorithms 1 and 2 (arXiv:2206.00927); with x0,
    Lu et al. 2022, algorithm 1 (arXiv:2211.01095). The levels between are the authors', r1 = 1/2, and r1 = 1/3 and
    r2 = 2/3; another r2 has order 2. Of their code's two ``solver_type`` it is "dpmsolver", which is the papers'.
    Raises InvalidArgument unless order is 1, 2 or 3.
    """

    order: int = 2
    view: str = "x0"

    stochastic = False

    def __post_init__(self) -> None:
        whole("DPMSolverSinglestep", "order", self.order, at_least=1, at_most=3)
        one_of("DPMSolverSinglestep", "view", self.view, ("x0", "eps"))

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """The order."""
        return self.order

    def step(self, model: ScoreModel, state: State[Any], s: Level, noise: NoiseSource) -> State[Any]:
        """The state at the level s; the model's x0 where s is clean."""
        p, t, s = predict(model, state, s)
        if s.clean:
            return State(p.x0, s)
        now = p
        for r in BETWEEN[self.order]:
            m = level_where(t.sde, t.log_snr + r * (s.log_snr - t.log_snr), state.x)
            now = model(self._across(p, now, m), m)
        return State(self._across(p, now, s), s)

    def _across(self, p: GaussianPrediction, now: GaussianPrediction, s: GaussianLevel) -> Tensor:
        """x_s by DDIM's step from t, and what the view has changed by since."""
        begin = p.mix(s.alpha, s.sigma)
        if now is p:
            return begin
        t, m = p.level, now.level
        weight = first(self.view, t, s)[1]
        if self.order == 3:  # a line in place of a constant
            weight = ramp(self.view, t, s) / (0.5 * (m.log_snr - t.log_snr))
        return combine((1.0, weight, -weight), (begin, self._of(now), self._of(p)))

    def _of(self, p: GaussianPrediction) -> Tensor:
        return p.x0 if self.view == "x0" else p.eps
