"""What stochastic Runge-Kutta methods do to the eight Gaussians in N steps, in NumPy."""

from __future__ import annotations

import itertools
import math

from ..solvers import StochasticRungeKutta
from . import published
from .chain import Chain, step
from .published import Array

NODES, STAGES, WEIGHTS = (0.0, 3 / 4), ((), (3 / 4,)), (1 / 3, 2 / 3)
"""SRA1's (Rößler 2010, doi 10.1137/09076636X)."""


@step.register
def _runge_kutta(solver: StochasticRungeKutta, chain: Chain, i: int) -> None:
    """dy = -2 n score dn + dW(n^2) for falling n (Song et al. 2021, eq. 6, on VE, whose g^2 is the slope of n^2), by a
    Runge-Kutta method whose stages stand on the path: y + h sum_j a_ij f_j + W(node i)."""
    n, n_ = (chain.sigma[k] / chain.alpha[k] for k in (i, i + 1))
    h, y = n_ - n, chain.rows / chain.alpha[i]
    at = [n + c * h for c in NODES] + [n_]
    path = [0 * y]
    for high, low in itertools.pairwise(at):
        path.append(path[-1] + math.sqrt((high - low) * (high + low)) * chain.draw())
    slopes: list[Array] = []
    for v, row, w in zip(at, STAGES, path, strict=False):
        a = published.alpha_where(chain.sde, v)
        stage = y + h * sum(c * k for c, k in zip(row, slopes, strict=True)) + w
        score = -chain.eps(a, a * v, chain.visit(a * stage)) / v  # of y
        slopes.append(-2 * v * score)
    chain.rows = chain.alpha[i + 1] * (y + h * sum(b * k for b, k in zip(WEIGHTS, slopes, strict=True)) + path[-1])
