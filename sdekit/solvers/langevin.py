"""The Langevin corrector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from ..errors import UnsupportedCombination, number, one_of, whole
from ..models.base import GaussianPrediction, Prediction, ScoreModel
from ..sdes.base import Level
from ..sdes.gaussian import GaussianSDE
from ..types import NoiseSource, Scalar, lincomb, sqrt
from .base import Solver, State

StepSize: TypeAlias = Callable[[Prediction, Tensor, float], Scalar]


def level_step(p: Prediction, z: Tensor, snr: float) -> Scalar:
    """2 snr^2 sigma(t)^2: a function of the level alone."""
    assert isinstance(p, GaussianPrediction)
    return 2.0 * snr * snr * p.level.sigma * p.level.sigma


def batch_step(p: Prediction, z: Tensor, snr: float) -> Scalar:
    """2 (snr |z| / |score|)^2 with norms averaged over the batch: a row depends on its batch mates.

    (Song et al. 2021, algorithms 4 and 5, arXiv:2011.13456.)
    """
    z_norm, score_norm = (v.reshape(len(v), -1).norm(dim=1).mean() for v in (z, p.score))
    step: Tensor = 2.0 * (snr * z_norm / score_norm) ** 2
    return step.double()


STEPS: dict[str, StepSize] = {"level": level_step, "batch": batch_step}


@dataclass(frozen=True)
class Langevin(Solver):
    """Unadjusted Langevin dynamics at the level s: a corrector, and a sampler of its own that anneals with the grid.

    x <- x + h score(x, s) + sqrt(2 h) z,   ``steps`` times,   h = 2 snr^2 sigma_s^2.

    On a Gaussian of variance v its stationary variance is v / (1 - h / 2v), 2.6 % too large at snr = 0.16. The step
    is a function of the level, so that no row depends on its batch mates; ``step_size="batch"`` is the rule of Song
    et al. 2021, algorithms 4 and 5 (arXiv:2011.13456), whose norms are averaged over the batch; a function
    (prediction, z, snr) is any other. As a sampler of its own it needs several ``steps`` a level to
    keep up. The step to the clean level is Tweedie's x0.
    """

    snr: float = 0.16
    steps: int = 1
    step_size: str | StepSize = "level"

    order = None
    stochastic = True

    def __post_init__(self) -> None:
        # from snr = 1 on the chain diverges, h > 2 v, where the data add nothing to v = sigma^2
        number("Langevin", "snr", self.snr, above=0.0, below=1.0 if self.step_size == "level" else None)
        whole("Langevin", "steps", self.steps, at_least=1)
        if not callable(self.step_size):
            one_of("Langevin", "step_size", self.step_size, STEPS)

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """Of the network a step: ``steps``."""
        return self.steps

    def check(self, model: ScoreModel) -> None:
        """Raises UnsupportedCombination for the rule ``"level"`` on a process with no alpha and sigma."""
        if self.step_size == "level" and not isinstance(model.sde, GaussianSDE):
            raise UnsupportedCombination(
                f"{self}: step_size='level' needs a process with alpha and sigma, got {type(model.sde).__name__}; "
                "give 'batch' or a function (prediction, z, snr)"
            )

    def step(self, model: ScoreModel, state: State[Any], s: Level, noise: NoiseSource) -> State[Any]:
        """The state at the level s; Tweedie's x0 where s is clean."""
        x = state.x
        if s.clean:
            return State(model(x, state.level).x0, s)
        rule = self.step_size if callable(self.step_size) else STEPS[self.step_size]
        for k in range(self.steps):
            p = model(x, s)
            z = noise(x, state.level, s, stream=("corrector", k))
            h = rule(p, z, self.snr)
            x = lincomb(1.0, lincomb(1.0, x, h, p.score), sqrt(2.0 * h), z)
        return State(x, s)
