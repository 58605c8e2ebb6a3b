"""The subjects of the contract suites: every concrete class that the package exports, so that a new one is tested by
existing."""

import inspect

import pytest

import sdekit as sk
from sdekit.models import parametrisations as rows

EXTRA = {
    "DDIM": [{"eta": 0.5}, {"eta": 1.0}],
    "DPMSolver": [{"order": 1}],
    "ProbabilityFlow": [{"method": sk.ode.RK4()}],
}
"""Settings beside the defaults, by class."""


def _instances(module, base):
    classes = [getattr(module, name) for name in module.__all__]
    concrete = [c for c in classes if inspect.isclass(c) and issubclass(c, base) and not inspect.isabstract(c)]
    found = [c(**settings) for c in concrete for settings in ({}, *EXTRA.get(c.__name__, []))]
    assert found, f"no subject of {base.__name__} in {module.__name__}"
    return [pytest.param(subject, id=repr(subject)) for subject in found]


def sdes():
    """Every Gaussian process."""
    return _instances(sk.sdes, sk.GaussianSDE)


def solvers():
    """Every solver."""
    return _instances(sk.solvers, sk.solvers.Solver)


def stochastic_solvers():
    """Every solver that draws."""
    return [p for p in solvers() if p.values[0].stochastic]


def fixed_grid_solvers():
    """Every solver that takes the steps of the grid it is given; an adaptive method chooses its own."""
    return [p for p in solvers() if p.values[0].evaluations is not None]


def solvers_with_an_order():
    """Those of them that have an order of convergence: Langevin and its correctors are tested by their law."""
    return [p for p in fixed_grid_solvers() if p.values[0].order is not None]


def ode_methods():
    """Every ODE method."""
    return _instances(sk.ode, sk.ode.ODEMethod)


def parametrisations():
    """Every parametrisation."""
    return _instances(sk.models, rows.Parametrisation)


def grids():
    """Every named grid."""
    return [pytest.param(grid, id=name) for name, grid in sk.grids.NAMES.items()]
