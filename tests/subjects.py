"""The subjects of the contract suites: every concrete class that the package exports, so that a new one is tested by
existing."""

import itertools

import pytest

import sdekit as sk
from sdekit import solvers as s
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


def costly(solver):
    """Whether a certificate of the solver takes many times as long as another's."""
    many = (s.SEEDS, s.StochasticRungeKutta, s.AncestralStep, s.AdaptiveSDE)
    return isinstance(solver, many) or (solver.evaluations or 0) > 2


def pairs(of=solvers):
    """Every solver and every process; slow are those whose answer hardly depends on it. VP once more, as drift and
    diffusion, and a second table of DDPM's, have levels that a solver cannot tell from VP's and the first table's: all
    but five solvers are slow there. Those of many evaluations or draws a step take several times as long: they are
    asked on VP, VE, flow matching's process and DDPM's table, and slow on the others."""
    few = (s.DDIM(), s.Ancestral(), s.EulerMaruyama(), s.Heun(), s.Multistep())
    kinds = (sk.VPSDE, sk.VESDE, sk.FlowSDE, sk.sdes.DiscreteVPSDE)
    found = []
    for sde, solver in itertools.product(sdes(), of()):
        again = isinstance(sde.values[0], sk.LinearSDE) or len(getattr(sde.values[0], "betas", ())) == 40
        spared = solver.values[0] not in few if again else costly(solver.values[0])
        slow = [pytest.mark.slow] if spared and (again or not isinstance(sde.values[0], kinds)) else []
        found.append(pytest.param(sde.values[0], solver.values[0], id=f"{sde.id}-{solver.id}", marks=slow))
    return found


def spared():
    """The pairs that are slow above."""
    return [pytest.param(*p.values, id=p.id) for p in pairs() if p.marks]


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
