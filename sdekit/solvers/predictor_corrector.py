"""Predictor-corrector sampling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidArgument
from ..models.base import ScoreModel
from ..sdes.base import Level
from ..types import NoiseSource
from .base import Solver, State, check_solver
from .langevin import Langevin
from .reverse_diffusion import ReverseDiffusion


@dataclass(frozen=True)
class PredictorCorrector(Solver):
    """Predictor-corrector sampling: the predictor steps to the level s, the corrector mixes there.

    Song et al. 2021, algorithm 1 (arXiv:2011.13456). Any solver is a predictor; a corrector is one that acts at the
    level it is given, such as ``Langevin``. There is nothing to correct at the clean level. A predictor's memory of
    earlier steps is dropped, because the corrector moves x away from it.
    """

    predictor: Solver = field(default_factory=ReverseDiffusion)
    corrector: Solver = field(default_factory=Langevin)

    order = None
    stochastic = True

    def __post_init__(self) -> None:
        check_solver("PredictorCorrector", self.predictor, "predictor")
        check_solver("PredictorCorrector", self.corrector, "corrector")
        if isinstance(self.predictor, PredictorCorrector):
            raise InvalidArgument(
                f"PredictorCorrector: predictor must not correct itself, got {self.predictor}; "
                "give its corrector more steps, as in Langevin(steps=2)"
            )

    @property
    def evaluations(self) -> int | None:  # type: ignore[override]
        """Of the network a step: the predictor's, each of which is a first one, and the corrector's."""
        first, second = self.predictor.cost(1), self.corrector.cost(1)
        return None if first is None or second is None else first + second

    @property
    def adaptive(self) -> bool:  # type: ignore[override]
        """Whether either part is."""
        return self.predictor.adaptive or self.corrector.adaptive

    def check(self, model: ScoreModel) -> None:
        """Raises UnsupportedCombination where either part cannot serve the model's process."""
        self.predictor.check(model)
        self.corrector.check(model)

    def step(self, model: ScoreModel, state: State[Any], s: Level, noise: NoiseSource) -> State[Any]:
        """The state at the level s; the predictor's where s is clean."""
        predicted = self.predictor.step(model, State(state.x, state.level), s, noise)
        if s.clean:
            return State(predicted.x, s)
        return State(self.corrector.step(model, State(predicted.x, s), s, noise).x, s)
