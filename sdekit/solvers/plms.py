"""PLMS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..errors import flag
from ..models.base import ScoreModel
from ..sdes.base import Level
from ..sdes.gaussian import GaussianLevel
from ..types import NoiseSource, Scalar, combine
from .base import State, predict
from .exponential import first
from .multistep import LinearMultistep, Memory, Node

WEIGHTS = ((1.0,), (-1 / 2, 3 / 2), (5 / 12, -16 / 12, 23 / 12), (-9 / 24, 37 / 24, -59 / 24, 55 / 24))
"""Adams and Bashforth's on an even grid, the newest value last."""


@dataclass(frozen=True)
class PLMS(LinearMultistep):
    """Pseudo linear multistep: DDIM's step with Adams and Bashforth's mean of the last eps, whatever the grid.

    x_s = (alpha_s / alpha_t) x_t - sigma_s (e^h - 1) D,   D = (55 eps_0 - 59 eps_1 + 37 eps_2 - 9 eps_3) / 24,

    eps_0 being the newest, with fewer values at the start. The weights are those of an even grid: the order is 2 on
    grids whose neighbouring steps become equal, and 1 on any other.

    With ``runge_kutta`` it is PNDM: the steps that have fewer values are pseudo Runge-Kutta's, of four evaluations
    each. D is then (e_1 + 2 e_2 + 2 e_3 + e_4) / 6: e_1 at t; e_2 and e_3 halfway in t, where DDIM's step by e_1 and
    by e_2 leads; e_4 at s, where it leads by e_3.

    Liu et al. 2022, section 3.3 (arXiv:2202.09778), their F-PNDM; without Runge-Kutta as Rombach et al.'s PLMS, which
    diffusers has as ``skip_prk_steps``. Raises InvalidArgument unless 1 <= points <= 4.
    """

    points: int = 4
    runge_kutta: bool = False

    view = "eps"
    coordinate = "log_snr"
    corrector = False

    def __post_init__(self) -> None:
        super().__post_init__()
        flag("PLMS", "runge_kutta", self.runge_kutta)

    def cost(self, steps: int) -> int:
        """Of the network in the first ``steps`` steps of a run."""
        return steps + (3 * min(steps, self.points - 1) if self.runge_kutta else 0)

    def step(self, model: ScoreModel, state: State[Memory], s: Level, noise: NoiseSource) -> State[Memory]:
        """The state at the level s."""
        past = () if state.memory is None else state.memory.nodes
        if s.clean or not self.runge_kutta or len(past) >= self.points - 1:
            return super().step(model, state, s, noise)
        p, t, s = predict(model, state, s)
        half = t.sde.at(0.5 * (t.t + s.t), state.x)

        def across(to: GaussianLevel, weights: Sequence[float], e: Sequence[Tensor]) -> Tensor:
            """DDIM's step from t by a mean of eps: the weights of those after the first, which takes the rest."""
            total = first("eps", t, to)[1]
            by = [total * w for w in (*weights, -sum(weights))]
            return combine((1.0, *by), (p.mix(to.alpha, to.sigma), *e, now))

        now = p.eps
        second = model(p.mix(half.alpha, half.sigma), half).eps
        third = model(across(half, (1.0,), (second,)), half).eps
        fourth = model(across(s, (1.0,), (third,)), s).eps
        x = across(s, (1 / 3, 1 / 3, 1 / 6), (second, third, fourth))
        return State(x, s, Memory((*past, Node(t, now)), ()))

    def predicted(
        self, t: GaussianLevel, s: GaussianLevel, levels: Sequence[GaussianLevel]
    ) -> tuple[Scalar, Sequence[Scalar]]:
        """(keep, weights) of the step."""
        keep, total = first("eps", t, s)
        return keep, [total * w for w in WEIGHTS[len(levels) - 1]]
