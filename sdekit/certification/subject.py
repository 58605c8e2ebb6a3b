"""What a certificate is about: a solver, or a plain function that samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..errors import InvalidArgument, InvalidType, UnsupportedCombination, describe, number, whole
from ..models import ScoreModel
from ..sdes import GaussianSDE, Level
from ..solvers import Solver, State
from ..types import NoiseSource

Sampler: TypeAlias = Callable[[ScoreModel, Tensor, Sequence[Level], NoiseSource], Tensor]
"""A plain function that samples: ``sampler(model, x_T, levels, noise) -> x``, from the first level to the last."""


@dataclass(frozen=True)
class Subject:
    """A sampler, and what is declared of it: None where nothing is."""

    name: str
    sampler: Sampler
    order: float | None
    stochastic: bool | None
    evaluations: int | None
    solver: Solver | None = None

    @property
    def adaptive(self) -> bool:
        """Whether it chooses its own steps."""
        return self.solver is not None and self.solver.adaptive

    def cost(self, steps: int) -> int | None:
        """Of the network in so many steps; None where nothing is declared."""
        if self.solver is not None:
            return self.solver.cost(steps)
        return None if self.evaluations is None else steps * self.evaluations

    def run(
        self, model: ScoreModel, x_T: Tensor, times: Tensor, noise: NoiseSource, *, denoise: bool = False
    ) -> Tensor:
        """x at the last time, or at the clean level where ``denoise``."""
        sde = model.sde
        assert isinstance(sde, GaussianSDE)
        levels: list[Level] = [*sde.levels(times)]
        if denoise:
            levels.append(sde.clean())
        with torch.no_grad():
            x = self.sampler(model, x_T, levels, noise)
        if not isinstance(x, Tensor) or x.shape != x_T.shape:
            raise InvalidArgument(
                f"certify: {self.name} must return the shape of x_T, {tuple(x_T.shape)}, got {describe(x)}"
            )
        return x


def subject(name: str, solver: object, order: object, stochastic: object, evaluations: object) -> Subject:
    """The subject of a certificate, or a named error."""
    declared = {"order": order, "stochastic": stochastic, "evaluations": evaluations}
    if isinstance(solver, Solver):
        for what, value in declared.items():
            if value is not None:
                raise InvalidArgument(f"certify: {what} must be left out, {solver} declares its own, got {value!r}")
        return Subject(repr(solver), _stepped(solver), solver.order, solver.stochastic, solver.evaluations, solver)
    if not callable(solver) or isinstance(solver, type):
        hint = "; give an instance" if isinstance(solver, type) else ""
        raise InvalidType(
            f"certify: {name} must be a solver such as DDIM(), or a function (model, x_T, levels, noise) -> x, "
            f"got {describe(solver)}{hint}"
        )
    if not (stochastic is None or isinstance(stochastic, bool)):
        raise InvalidType(f"certify: stochastic must be True, False or None, got {describe(stochastic)}")
    return Subject(
        str(getattr(solver, "__name__", type(solver).__name__)),
        solver,
        None if order is None else number("certify", "order", order, above=0.0),
        stochastic,
        None if evaluations is None else whole("certify", "evaluations", evaluations, at_least=1),
    )


def _stepped(solver: Solver) -> Sampler:
    def sampler(model: ScoreModel, x: Tensor, levels: Sequence[Level], noise: NoiseSource) -> Tensor:
        solver.check(model)
        state: State[Any] = State(x, levels[0])
        for s in levels[1:]:
            state = solver.step(model, state, s, noise)
        return state.x

    return sampler


def process(sde: object) -> GaussianSDE:
    """The process where its marginals are known, else a named error."""
    if not isinstance(sde, GaussianSDE):
        raise UnsupportedCombination(
            f"certify: sde must be a GaussianSDE, whose marginals are known, such as VPSDE(), got {describe(sde)}"
        )
    return sde
