"""The ancestral step: below the level and back up to it with fresh noise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidArgument, number
from ..models.base import ScoreModel
from ..sdes.base import Level
from ..sdes.gaussian import GaussianLevel
from ..types import NoiseSource, exp, expm1, lincomb, log, sqrt
from .base import GaussianSolver, Solver, State, check_solver, level_where
from .dpm_singlestep import DPMSolverSinglestep
from .multistep import LinearMultistep


@dataclass(frozen=True)
class AncestralStep(GaussianSolver):
    """Ancestral sampling by any deterministic solver: it steps below s, to n_down, and fresh noise takes x back to s.

    With n = sigma / alpha and y = x / alpha,

        n_up^2 = eta^2 n_s^2 (1 - n_s^2 / n_t^2),   n_down^2 = n_s^2 - n_up^2,   y_s = y_down + n_up z.

    Of ``DDIM()`` it is ``DDIM(eta)``, and ``Ancestral()`` with eta = 1, which k-diffusion has as Euler ancestral; of
    ``DPMSolverSinglestep(2, "eps")`` its DPM2 ancestral, of ``DPMSolverSinglestep(2)`` its DPM++ 2S ancestral. The flow
    takes p_t to p_down, and the noise takes that to p_s: at every level the law is as exact as the solver's own step,
    and its order is the weak order.

    Crowson, k-diffusion (``get_ancestral_step``); DDIM's own split of sigma_s^2: Song et al. 2021, eq. 12 and 16
    (arXiv:2010.02502). Below t_min the model is asked at the time t_min. Raises InvalidArgument unless 0 < eta <= 1,
    and for a solver that draws or remembers.
    """

    solver: Solver = field(default_factory=DPMSolverSinglestep)
    eta: float = 1.0

    stochastic = True

    def __post_init__(self) -> None:
        number("AncestralStep", "eta", self.eta, above=0.0, at_most=1.0)
        check_solver("AncestralStep", self.solver)
        one_step = isinstance(self.solver, GaussianSolver) and not isinstance(self.solver, LinearMultistep)
        if not one_step or self.solver.stochastic:
            raise InvalidArgument(
                "AncestralStep: solver must draw nothing and remember nothing, such as DPMSolverSinglestep(), Heun() "
                f"or DDIM(), got {self.solver}"
            )

    @property
    def order(self) -> float | None:  # type: ignore[override]
        """The solver's, in the weak sense."""
        return self.solver.order

    @property
    def evaluations(self) -> int | None:  # type: ignore[override]
        """Of the network a step: the solver's."""
        return self.solver.evaluations

    def check(self, model: ScoreModel) -> None:
        """Raises UnsupportedCombination where the solver cannot serve the model's process."""
        self.solver.check(model)

    def step(self, model: ScoreModel, state: State[Any], s: Level, noise: NoiseSource) -> State[Any]:
        """The state at the level s; the solver's where s is clean."""
        x, t, _ = state
        if s.clean:
            return self.solver.step(model, State(x, t), s, noise)
        assert isinstance(t, GaussianLevel)
        assert isinstance(s, GaussianLevel)
        gap, part = t.log_snr - s.log_snr, self.eta**2
        down = level_where(s.sde, s.log_snr - log(1.0 - part + part * exp(gap)), x)  # 1 - v would cancel
        below = self.solver.step(model, State(x, t), down, noise).x
        return State(lincomb(s.alpha / down.alpha, below, s.sigma * sqrt(-part * expm1(gap)), noise(x, t, s)), s)
