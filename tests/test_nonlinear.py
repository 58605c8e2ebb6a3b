"""A process with no closed-form kernel, end to end: a double well against a numerical Fokker-Planck equation.

The density of dx = (x - x^3) dt + g dw from N(0.2, 0.4^2) on is found by finite volumes (Chang & Cooper 1970), with no
code of the package. ``simulate`` must reach it, and its score must take every solver that needs no kernel back to the
normal law that it began with, to the bias that is stated.
"""

from functools import cache

import numpy as np
import pytest
import torch
from honest import dkw
from problems import F64, last
from scipy import linalg, special, stats

import sdekit as sk
from sdekit import ode
from sdekit.solvers import EulerMaruyama, Langevin, PredictorCorrector, ProbabilityFlow, ReverseDiffusion

G = 0.8
T_MIN, T_MAX = 0.05, 1.05
START = stats.norm(0.2, 0.4)
N = 20_000
BIAS = 0.006  # what 200 steps and the tables may add

EDGE, CELLS, SLICES = 3.5, 1400, 500
DX, DT = 2 * EDGE / CELLS, (T_MAX - T_MIN) / SLICES
X = -EDGE + DX * (np.arange(CELLS) + 0.5)


class DoubleWell(sk.SDE):
    """dx = (x - x^3) dt + 0.8 dw: wells at -1 and 1."""

    t_min, t_max = T_MIN, T_MAX

    def drift(self, x, t):
        return x - x**3

    def diffusion(self, t):
        return torch.as_tensor(t, dtype=F64) * 0 + G

    @property
    def prior(self):
        return sk.sdes.NormalPrior(0.0, 1.0)  # not used: runs start from the numerical law


@cache
def densities():
    """p at t_min + k DT in the cells, (SLICES + 1, CELLS): Chang and Cooper's fluxes, Crank-Nicolson in time."""
    edges = X[:-1] + DX / 2
    diffusion = G * G / 2
    w = (edges - edges**3) * DX / diffusion
    up, down = (diffusion / DX**2 / special.exprel(v) for v in (-w, w))  # of p to the left, and to the right of an edge
    generator = np.zeros((3, CELLS))  # banded: above, on and below the diagonal
    generator[0, 1:] = down
    generator[2, :-1] = up
    generator[1, :-1] -= up
    generator[1, 1:] -= down
    explicit, implicit = DT / 2 * generator, -DT / 2 * generator
    implicit[1] += 1
    slices = [START.pdf(X)]
    for _ in range(SLICES):
        p = slices[-1]
        q = p + explicit[1] * p
        q[:-1] += explicit[0, 1:] * p[1:]
        q[1:] += explicit[2, :-1] * p[:-1]
        slices.append(linalg.solve_banded((1, 1), implicit, q))
    return np.array(slices)


INNER = slice(240, CELLS - 240)  # |x| < 2.3, where p is well above rounding


@cache
def tables():
    """log p, the score and its slope in the inner cells, each (SLICES + 1, cells) in float64."""
    log_p = np.log(densities()[:, INNER])
    score = np.gradient(log_p, DX, axis=1, edge_order=2)
    return [torch.from_numpy(np.ascontiguousarray(v)) for v in (log_p, score, np.gradient(score, DX, axis=1))]


def hermite(values, slopes, x, t):
    """Cubic in x, linear in t; beyond the table, linear in x."""
    last_cell, first = values.shape[1] - 1, float(X[INNER][0])
    place = ((x.detach() - first) / DX).clamp(0, last_cell)
    i = place.long().clamp(max=last_cell - 1)
    inside = x.clamp(first, first + DX * last_cell)
    u = (inside - first) / DX - i
    v = (t - T_MIN) / DT
    k = min(max(int(v), 0), SLICES - 1) if isinstance(v, float) else v.long().clamp(0, SLICES - 1).expand_as(i)

    def at(k):
        a, b = values[k, i], values[k, i + 1]
        da, db = DX * slopes[k, i], DX * slopes[k, i + 1]
        cubic = a + u * (da + u * (3 * (b - a) - 2 * da - db + u * (2 * (a - b) + da + db)))
        return cubic + (x - inside) * torch.where(place > 1, slopes[k, i + 1], slopes[k, i])

    return (1 - (v - k)) * at(k) + (v - k) * at(k + 1)


def model(factor=1.0):
    """The process with its numerical score, or with one that is off by a factor."""
    _, score, slope = tables()
    return sk.models.FromFunction(DoubleWell(), score=lambda x, t: factor * hermite(score, slope, x, t))


@cache
def cdf_at_the_end():
    p = densities()[-1]
    return X + DX / 2, np.cumsum(p) / p.sum()


def end_cdf(x):
    """The distribution function at t_max."""
    edges, mass = cdf_at_the_end()
    return np.interp(x, edges, mass)


def at_the_end(seed):
    """2e4 independent draws of the numerical law at t_max."""
    edges, mass = cdf_at_the_end()
    u = sk.Noise((seed, 1)).uniform(N, stream="u").numpy()
    return torch.from_numpy(np.interp(u, mass, edges))[:, None]


def test_the_reference_is_a_solution():
    """Mass is kept to 1e-12, the mean's rate is E[x - x^3] to 1e-5, and the law at t_max has two modes and is not yet
    the stationary one."""
    p = densities()
    assert float(np.abs(p.sum(1) * DX - 1).max()) < 1e-12
    mean, rate = p @ X * DX, p @ (X - X**3) * DX
    integral = DT * (rate[:-1] + rate[1:]) / 2
    assert float(np.abs(np.diff(mean) - integral).max()) < 1e-5 * DT
    peaks = (p[-1, 1:-1] > p[-1, :-2]) & (p[-1, 1:-1] > p[-1, 2:])
    assert int(peaks[INNER].sum()) == 2
    still = np.exp((X**2 / 2 - X**4 / 4) * 2 / G**2)
    assert float(np.abs(p[-1] - still / still.sum() / DX).max()) > 0.05


class Weak(DoubleWell):
    """Wells half as deep."""

    def drift(self, x, t):
        return 0.5 * (x - x**3)


@pytest.mark.statistical
def test_the_forward_simulation_has_the_numerical_law(seed):
    """2e4 paths of 200 steps; wells half as deep are seen."""
    x0 = torch.from_numpy(START.ppf(sk.Noise((seed, 2)).uniform(N, stream="u").numpy()))[:, None]
    right, wrong = (last(sk.simulate(sde, x0, sk.Noise((seed, 3)), steps=200)).x for sde in (DoubleWell(), Weak()))
    dkw(right, end_cdf, slack=BIAS).holds(detects=0.04)
    dkw(wrong, end_cdf, slack=BIAS).fails()


MIXING = Langevin(step_size=lambda prediction, z, snr: 2e-3)
BACK = [
    (EulerMaruyama(), 200),
    (ReverseDiffusion(), 200),
    (PredictorCorrector(ReverseDiffusion(), MIXING), 100),
    (ProbabilityFlow(ode.RK4()), 50),
    (ProbabilityFlow(ode.Dopri5(1e-5, 1e-5)), 1),
]


@pytest.mark.statistical
@pytest.mark.parametrize(("solver", "steps"), BACK, ids=["EM", "reverse", "PC", "RK4", "Dopri5"])
def test_every_solver_that_needs_no_kernel_returns_to_the_first_law(solver, steps, seed):
    """From 2e4 draws of the law at t_max to N(0.2, 0.4^2) by the numerical score; one 1.3 times too large is seen."""
    settings = {"solver": solver, "steps": steps, "x_T": at_the_end(seed), "seed": (seed, 4)}
    dkw(sk.sample(model(), **settings), START.cdf, slack=BIAS).holds(detects=0.04)
    dkw(sk.sample(model(1.3), **settings), START.cdf, slack=BIAS).fails()


def test_the_flows_likelihood_is_the_first_density():
    """log N(x; 0.2, 0.4^2) within 1e-3 nats at 25 points, from the numerical density at t_max; not by a score that is
    0.9 of it."""
    log_p, score, _ = tables()

    def prior(x):
        return hermite(log_p, score, x, T_MAX)[:, 0]

    x = torch.linspace(-0.9, 1.3, 25, dtype=F64)[:, None]
    truth = torch.from_numpy(START.logpdf(x.numpy()))[:, 0]
    for factor, close in ((1.0, True), (0.9, False)):
        r = sk.log_likelihood(model(factor), x, prior=prior, tol=1e-5)
        assert (float((r.log_prob - truth).abs().max()) < 1e-3) == close, r.log_prob - truth
