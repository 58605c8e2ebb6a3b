"""DPM-Solver++, multistep."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import InvalidArgument, whole
from ..models.base import ScoreModel
from ..sdes.base import Level
from ..types import NoiseSource, Scalar, exp, expm1, lincomb
from .base import GaussianSolver, State, predict


@dataclass(frozen=True)
class DPMSolver(GaussianSolver):
    """DPM-Solver++, multistep: the exponential integrator of x0 in l = log(alpha / sigma); order 2 is "2M".

    x_s = (sigma_s / sigma_t) x - alpha_s (e^-h - 1) D,   h = l_s - l_t,
    D = x0_t (order 1, which is DDIM), or (1 + h / 2 h') x0_t - (h / 2 h') x0_before with h' the step before (order 2).

    The first step is of order 1, and so is the one to the clean level, which ends at the model's x0: neither costs the
    method its order. Lu et al. 2022, algorithm 2 (arXiv:2211.01095). Raises InvalidArgument unless order is 1 or 2.
    """

    order: int = 2

    def __post_init__(self) -> None:
        if whole("DPMSolver", "order", self.order, at_least=1) > 2:
            raise InvalidArgument(f"DPMSolver: order must be 1 or 2, got order={self.order}")

    stochastic = False
    evaluations = 1

    def step(
        self, model: ScoreModel, state: State[tuple[Tensor, Scalar]], s: Level, noise: NoiseSource
    ) -> State[tuple[Tensor, Scalar]]:
        """The state at the level s; the model's x0 where s is clean."""
        p, t, s = predict(model, state, s)
        x0 = p.x0
        if s.clean:
            return State(x0, s)
        h = 0.5 * (s.log_snr - t.log_snr)
        d = x0
        if self.order == 2 and state.memory is not None:
            before, h_before = state.memory
            r = 0.5 * h / h_before
            d = lincomb(1.0 + r, x0, -r, before)
        # sigma_s / sigma_t = alpha_s / alpha_t e^-h
        return State(lincomb(s.alpha / t.alpha * exp(-h), state.x, -s.alpha * expm1(-h), d), s, (x0, h))
