"""The probability flow as a solver that knows the log-density of its samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import UnsupportedCombination
from ..models.base import ScoreModel
from ..noise.named import Named
from ..ode.dopri8 import Dopri8
from ..sdes.base import Level
from ..sdes.gaussian import GaussianSDE
from ..solvers.base import Solver, State, check_one_time
from ..solvers.probability_flow import Flow, ProbabilityFlow, frame_of
from ..types import NoiseSource
from .flow import FlowWithDensity, Probes, carried
from .trace import trace_of


class Memory(NamedTuple):
    """What a run has so far: x in float64, what the log-density has changed by, and the errors in nats."""

    x: Tensor
    change: Tensor
    """(B, n), one estimate a probe."""
    error: Tensor | None


@dataclass(frozen=True)
class FlowDensity(Solver):
    """The flow of a :class:`ProbabilityFlow`, in float64, with the change of each row's log-density.

    log p_s(x_s) = log p_t(x_t) - int_t^s div v dt.    (Chen et al. 2018, arXiv:1806.07366.)

    The trace is the default of ``log_likelihood``. Adaptive methods take ``atol`` as nats.
    """

    flow: ProbabilityFlow

    stochastic = False

    @property
    def order(self) -> float:  # type: ignore[override]
        """The flow's."""
        return self.flow.order

    @property
    def evaluations(self) -> int | None:  # type: ignore[override]
        """The flow's."""
        return self.flow.evaluations

    @property
    def adaptive(self) -> bool:  # type: ignore[override]
        """Whether the flow is."""
        return self.flow.adaptive

    def check(self, model: ScoreModel) -> None:
        """Raises UnsupportedCombination where the flow cannot serve the model."""
        self.flow.check(model)

    def step(self, model: ScoreModel, state: State[Any], s: Level, noise: NoiseSource) -> State[Any]:
        """The state at the level s; there is no clean one."""
        t = state.level
        check_one_time(self, t, s)
        event, n = state.x.shape[1:], math.prod(state.x.shape[1:])
        x, change, error = state.memory or Memory(state.x.double(), state.x.new_zeros((), dtype=torch.float64), None)
        trace = trace_of("sample", None, n)
        probes = Probes(trace, x, Named(noise, float(t.t)) if trace.fresh else noise)
        field = FlowWithDensity(Flow(model, frame=frame_of("sample", model.sde, self.flow.coordinate)), event, probes)
        x, by, stats = carried(field, self.flow.method, x, t, s)
        if stats.error is not None:
            error = stats.error if error is None else error + stats.error
        return State(x.to(state.x.dtype), s, Memory(x, change + by, error))

    def error(self, state: State[Any]) -> Tensor | None:
        """What the errors of a row's steps add up to, in nats, (B,); None for a method without an estimate."""
        memory: Memory | None = state.memory
        return None if memory is None else memory.error

    def log_change(self, state: State[Any]) -> tuple[Tensor, Tensor] | None:
        """What the log-density of a row has changed by since the run began, (B,), and the error of its trace, (B,)."""
        memory: Memory | None = state.memory
        if memory is None:
            return None
        trace = trace_of("sample", None, math.prod(memory.x.shape[1:]))
        return memory.change.mean(1), trace.standard_error(memory.change)


def for_density(model: ScoreModel, solver: Solver | None) -> FlowDensity:
    """The solver of a run whose samples have log-densities: the flow that is given, or Dopri8's at 1e-5 nats a step.

    Raises UnsupportedCombination for a solver that is not the probability flow.
    """
    if solver is None:
        smooth = isinstance(model.sde, GaussianSDE) and model.sde.centre[1] > 0
        solver = ProbabilityFlow(Dopri8(1e-5, 1e-5), "angle" if smooth else "t")
    if not isinstance(solver, ProbabilityFlow):
        raise UnsupportedCombination(
            "sample: with_log_prob needs the probability flow, solver=ProbabilityFlow(...), tol, or neither, "
            f"got {solver}"
        )
    return FlowDensity(solver)
