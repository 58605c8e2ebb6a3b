"""What there is to certify: every process and every solver that the package exports, found by itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from torch import Tensor

from .. import ode, sdes, solvers
from ..sdes import GaussianSDE, tables
from ..solvers import Solver

Settings = Mapping[type, Sequence[Mapping[str, Any]]]


def vp_rate(t: Tensor) -> Tensor:
    """VP's f(t), for LinearSDE."""
    return -0.5 * (0.1 + 19.9 * t)


def vp_diffusion(t: Tensor) -> Tensor:
    """VP's g(t), for LinearSDE."""
    root: Tensor = (0.1 + 19.9 * t) ** 0.5
    return root


EXTRA: Settings = {
    solvers.Ancestral: [{"variance": "upper"}],
    solvers.AncestralStep: [{"solver": solvers.Heun(), "eta": 0.5}],
    solvers.DDIM: [{"eta": 0.5}, {"eta": 1.0}],
    solvers.DPMSolver: [{"order": 1}, {"order": 3}],
    solvers.DPMSolverSinglestep: [{"order": 3}, {"view": "eps"}],
    solvers.DPMSolverSDE: [{"points": 3, "view": "eps"}],
    solvers.Heun: [{"churn": 0.1, "churn_noise": 1.003}],
    solvers.ProbabilityFlow: [{"method": ode.RK4()}, {"method": ode.RK4(), "coordinate": "angle"}],
    solvers.Restart: [{"solver": solvers.DPMSolver(), "intervals": ((1.0, 5.0, 1, 3), (0.06, 0.3, 2, 4))}],
    solvers.SEEDS: [{"stages": 3}],
    sdes.DiscreteVPSDE: [{"betas": tables.cosine(40, max_beta=0.9)}],
}
"""Settings beside the defaults, by class."""

OWN: Settings = {
    solvers.AnnealedLangevin: [{"rate": 0.2, "steps": 2}],
    solvers.Churn: [{"solver": solvers.DPMSolver(), "churn": 0.1, "churn_min": 0.05, "churn_max": 50.0}],
    sdes.DiscreteVESDE: [{"sigmas": tables.geometric(30, 0.01, 50.0)}],
    sdes.LinearSDE: [{"f": vp_rate, "g": vp_diffusion}],
}
"""Settings in place of the defaults: where there are none, or where they take longer than they tell."""


def instances(module: ModuleType, base: type, extra: Settings = EXTRA, own: Settings = OWN) -> Iterator[Any]:
    """Each concrete class of a kind that a package exports, with its defaults and with further settings."""
    for name in module.__all__:
        value = getattr(module, name)
        if isinstance(value, type) and issubclass(value, base) and not inspect.isabstract(value):
            for settings in (*own.get(value, [{}]), *extra.get(value, [])):
                yield value(**settings)


def processes() -> list[GaussianSDE]:
    """Every process with alpha and sigma."""
    return list(instances(sdes, GaussianSDE))


def all_solvers() -> list[Solver]:
    """Every solver."""
    return list(instances(solvers, Solver))
