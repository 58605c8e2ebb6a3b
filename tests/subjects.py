"""The subjects of the contract suites: every concrete class that the package exports, so that a new one is tested by
existing."""

import pytest

import sdekit as sk
from sdekit.certification import catalogue
from sdekit.models import parametrisations as rows

EXTRA = {**catalogue.EXTRA, sk.models.PosteriorMean: [{"residual": True}]}
"""Settings beside the defaults, by class: the catalogue's of what is certified, and more."""


def _instances(module, base):
    found = list(catalogue.instances(module, base, EXTRA))
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
    return [p for p in solvers() if not p.values[0].adaptive]


def solvers_with_an_order():
    """Those of them that have an order of convergence: Langevin and its correctors are tested by their law."""
    return [p for p in fixed_grid_solvers() if p.values[0].order is not None]


def ode_methods():
    """Every ODE method."""
    return _instances(sk.ode, sk.ode.ODEMethod)


def parametrisations():
    """Every parametrisation."""
    return _instances(sk.models, rows.Parametrisation)


def rows_and_sdes():
    """Every parametrisation on every process that it serves: a posterior mean needs a table's level before."""
    return [
        pytest.param(row.values[0], sde.values[0], id=f"{row.id}-{sde.id}")
        for row in parametrisations()
        for sde in sdes()
        if not isinstance(row.values[0], sk.models.PosteriorMean) or isinstance(sde.values[0], sk.TableSDE)
    ]


def grids():
    """Every named grid."""
    return [pytest.param(grid, id=name) for name, grid in sk.grids.NAMES.items()]
