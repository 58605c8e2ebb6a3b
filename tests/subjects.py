"""The subjects of the contract suites: every concrete class that the package exports, so that a new one is tested by
existing."""

import inspect

import pytest

import sdekit as sk
from sdekit.models import parametrisations as rows


def vp_rate(t):
    """VP's f(t)."""
    return -0.5 * (0.1 + 19.9 * t)


def vp_diffusion(t):
    """VP's g(t)."""
    return (0.1 + 19.9 * t) ** 0.5


EXTRA = {
    sk.solvers.Ancestral: [{"variance": "upper"}],
    sk.solvers.DDIM: [{"eta": 0.5}, {"eta": 1.0}],
    sk.sdes.DiscreteVPSDE: [{"betas": sk.sdes.tables.cosine(40, max_beta=0.9)}],
    sk.solvers.DPMSolver: [{"order": 1}],
    sk.solvers.Heun: [{"churn": 0.1, "churn_noise": 1.003}],
    sk.models.PosteriorMean: [{"residual": True}],
    sk.solvers.ProbabilityFlow: [{"method": sk.ode.RK4()}],
}
"""Settings beside the defaults, by class."""

OWN = {
    sk.solvers.AnnealedLangevin: [{"rate": 0.2, "steps": 5}],
    sk.sdes.DiscreteVESDE: [
        {"sigmas": sk.sdes.tables.geometric(30, 0.01, 50.0)}
    ],  # NCSN's own end at sigma = 1 is no prior
    sk.sdes.LinearSDE: [{"f": vp_rate, "g": vp_diffusion}],
}
"""Settings in place of the defaults: where there are none, or where they would take a test too long."""


def _instances(module, base):
    classes = [getattr(module, name) for name in module.__all__]
    concrete = [c for c in classes if inspect.isclass(c) and issubclass(c, base) and not inspect.isabstract(c)]
    found = [c(**settings) for c in concrete for settings in (*OWN.get(c, [{}]), *EXTRA.get(c, []))]
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
