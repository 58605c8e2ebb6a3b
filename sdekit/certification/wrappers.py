"""What churn and restarts do to the eight Gaussians in N steps, in NumPy: references written from the papers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..solvers import Churn, Restart
from . import published
from .chain import Chain, step


def _down(solver: object, chain: Chain, noise_levels: Sequence[float]) -> None:
    """The solver's steps through noise levels sigma / alpha, from a start of its own; times they have none.

    They stand behind the chain's own: what the solver remembers of them, by their numbers, holds in its further steps.
    """
    first = len(chain.alpha)
    alpha = [published.alpha_where(chain.sde, n) for n in noise_levels]
    chain.alpha += alpha
    chain.sigma += [a * n for a, n in zip(alpha, noise_levels, strict=True)]
    chain.times = np.concatenate([chain.times, np.full(len(alpha), np.nan)])
    chain.memory = None
    for j in range(first, len(chain.alpha) - 1):
        step(solver, chain, j)
        chain.visit(chain.rows)


def _most(chain: Chain) -> float:
    """The largest noise level of the process."""
    alpha, sigma = published.alpha_sigma(chain.sde, chain.sde.t_max)
    return float(sigma / alpha)


@step.register
def _churn(solver: Churn, chain: Chain, i: int) -> None:
    """Karras et al. 2022, algorithm 2 (arXiv:2206.00364): the raised state, and the solver's own step from there."""
    n, n_ = (chain.sigma[k] / chain.alpha[k] for k in (i, i + 1))
    hat = min((1 + solver.churn) * n, _most(chain))
    if not (solver.churn and solver.churn_min <= n <= solver.churn_max and hat > n):
        step(solver.solver, chain, i)
        return
    y = chain.rows / chain.alpha[i] + math.sqrt(hat**2 - n**2) * solver.churn_noise * chain.draw()
    chain.rows = published.alpha_where(chain.sde, hat) * y
    _down(solver.solver, chain, [hat, n_])


@step.register
def _restart(solver: Restart, chain: Chain, i: int) -> None:
    """Xu et al. 2023, algorithm 2 (arXiv:2306.14878), from the first level at or below each t_min."""
    step(solver.solver, chain, i)
    n, n_ = (chain.sigma[k] / chain.alpha[k] for k in (i, i + 1))
    for low, high, repeats, steps in solver.intervals:
        if n_ <= low < n:
            top = min(high, _most(chain))
            way = [*((top ** (1 / 7) + j / steps * (n_ ** (1 / 7) - top ** (1 / 7))) ** 7 for j in range(steps)), n_]
            for _ in range(repeats):
                y = chain.rows / chain.alpha[i + 1] + math.sqrt(top**2 - n_**2) * chain.draw()
                chain.rows = published.alpha_where(chain.sde, top) * y
                _down(solver.solver, chain, way)
