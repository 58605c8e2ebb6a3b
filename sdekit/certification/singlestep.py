"""What solvers that evaluate within a step do to the eight Gaussians, in NumPy: references written from the papers."""

from __future__ import annotations

import functools
import math

import numpy as np

from ..solvers import AncestralStep, DPMSolverSinglestep
from . import published
from .chain import Chain, step
from .published import Array


@functools.cache
def _rule() -> tuple[Array, Array]:
    """Gauss and Legendre's nodes and weights, enough for e^q over a step as wide as a process."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    return nodes, weights


@step.register
def _dpm_solver_singlestep(solver: DPMSolverSinglestep, chain: Chain, i: int) -> None:
    """Lu et al. 2022, algorithms 1 and 2 (arXiv:2206.00927), and algorithm 1 (arXiv:2211.01095), by quadrature.

    The solution is their eq. 3.4 and eq. 9 in q = log n, n = sigma / alpha: z = x / alpha has dz = eps e^q dq, and
    z = x / sigma has dz = -x0 e^-q dq. The view is a constant, or the line through two of its values.
    """
    (a, a_), (s, s_) = chain.alpha[i : i + 2], chain.sigma[i : i + 2]
    data = solver.view == "x0"
    q, q_ = math.log(s / a), math.log(s_ / a_)
    x0, eps = chain.x0(a, s, chain.rows), chain.eps(a, s, chain.rows)
    start = x0 if data else eps
    nodes, weights = _rule()

    def across(to: float, at: float = q, value: Array | None = None) -> Array:
        """z where log n is ``to``: the view is constant, or has a value at ``at``; its terms count for the scale."""
        n = math.exp(to)
        z: Array = x0 / n + eps if data else x0 + n * eps
        if value is None:
            return z
        where = q + (to - q) / 2 * (1 + nodes)
        measure = (to - q) / 2 * weights * (-np.exp(-where) if data else np.exp(where))
        line = np.ones_like(where) if solver.order == 2 else (where - q) / (at - q)
        weight = float(measure @ line)
        return z + (chain.visit(weight * value) - chain.visit(weight * start))

    def view(at: float, z: Array) -> Array:
        """The view where log n is ``at``."""
        n = math.exp(at)
        scale = published.alpha_where(chain.sde, n)
        there = chain.visit(z * scale * (n if data else 1.0))
        return (chain.x0 if data else chain.eps)(scale, scale * n, there)

    if solver.order == 1:
        end = across(q_)
    elif solver.order == 2:
        middle = (q + q_) / 2
        end = across(q_, middle, view(middle, across(middle)))
    else:
        third, far = q + (q_ - q) / 3, q + 2 * (q_ - q) / 3
        end = across(q_, far, view(far, across(far, third, view(third, across(third)))))
    chain.rows = end * (s_ if data else a_)


@step.register
def _ancestral_step(solver: AncestralStep, chain: Chain, i: int) -> None:
    """Crowson's get_ancestral_step, in n = sigma / alpha: down to n_down, and up by noise of deviation n_up."""
    a_, s_ = chain.alpha[i + 1], chain.sigma[i + 1]
    n, n_ = chain.sigma[i] / chain.alpha[i], s_ / a_
    up = solver.eta * n_ * math.sqrt((n - n_) * (n + n_)) / n
    down = n_ * math.sqrt((1 - solver.eta**2) + (solver.eta * n_ / n) ** 2)
    chain.alpha[i + 1] = published.alpha_where(chain.sde, down)
    chain.sigma[i + 1] = chain.alpha[i + 1] * down
    step(solver.solver, chain, i)
    y = chain.rows / chain.alpha[i + 1]
    chain.alpha[i + 1], chain.sigma[i + 1] = a_, s_
    chain.rows = a_ * (y + up * chain.draw())
