"""What a solver does to the eight Gaussians in N steps, in NumPy: written from the papers, one function a family.

The reference shares nothing with the package's solvers, levels or predictions: schedules come from
:mod:`sdekit.certification.published`, and the score is that of a Gaussian by its own formula.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import ode
from ..sdes import VPSDE, GaussianSDE
from ..solvers import (
    DDIM,
    Ancestral,
    AnnealedLangevin,
    EulerMaruyama,
    Heun,
    Langevin,
    PredictorCorrector,
    ProbabilityFlow,
    ReverseDiffusion,
    Solver,
)
from . import (
    multistep,  # noqa: F401 - registers its references
    published,
    runge_kutta,  # noqa: F401 - registers its references
    singlestep,  # noqa: F401 - registers its references
    stochastic,  # noqa: F401 - registers its references
    wrappers,  # noqa: F401 - registers its references
)
from .chain import Chain, NoReference, Reference, step
from .problems import MEANS, VARIANCES
from .published import Array

M, V = MEANS.numpy(), VARIANCES.numpy()


TABLEAUS: dict[type, tuple[Sequence[Sequence[float]], Sequence[float], Sequence[float]]] = {
    ode.Euler: (((),), (1.0,), (0.0,)),
    ode.Heun: (((), (1.0,)), (1 / 2, 1 / 2), (0.0, 1.0)),
    ode.RK4: (((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), (0.0, 1 / 2, 1 / 2, 1.0)),
}
"""Stages, weights and nodes of Runge-Kutta methods (Hairer, Norsett & Wanner 1993, table II.1.2)."""


def reference(solver: Solver, sde: GaussianSDE, times: Array, draws: int | None) -> Reference | None:
    """The reference of a solver, on impulses or, for draws of None, signs; None where no paper known here has one."""
    chain = Chain(sde, times, draws)
    try:
        for i in range(len(times) - 1):
            step(solver, chain, i)
            chain.visit(chain.rows)
    except NoReference:
        return None
    offset = chain.rows[0]
    return Reference(offset, chain.rows[1] - offset, chain.rows[2:] - offset, chain.size)


@step.register
def _euler_maruyama(solver: EulerMaruyama, chain: Chain, i: int) -> None:
    """Song et al. 2021, eq. 6 (arXiv:2011.13456), by Euler and Maruyama."""
    t, a, s = chain.times[i], chain.alpha[i], chain.sigma[i]
    f, g2 = published.rates(chain.sde, float(t))
    dt = float(t - chain.times[i + 1])
    x = chain.rows
    chain.rows = x - (f * x + g2 * chain.eps(a, s, x) / s) * dt + math.sqrt(g2 * dt) * chain.draw()


@step.register
def _reverse_diffusion(solver: ReverseDiffusion, chain: Chain, i: int) -> None:
    """Song et al. 2021, appendix E: x_i = x_{i+1} - f_{i+1} + G_{i+1}^2 score + G_{i+1} z, of the forward chain."""
    (a, a_), s = chain.alpha[i : i + 2], chain.sigma[i]
    g2 = published.kernel_variance(chain.sde, float(chain.times[i]), float(chain.times[i + 1]))
    x = chain.rows
    chain.rows = (2 - a / a_) * x - g2 * chain.eps(a, s, x) / s + math.sqrt(g2) * chain.draw()


def _posterior(chain: Chain, i: int, x0: Array, eps: Array) -> tuple[Array, float, float]:
    """Mean and variance of x_s | x_t, x_0, and the variance of x_t | x_s."""
    (a, a_), (s, s_) = chain.alpha[i : i + 2], chain.sigma[i : i + 2]
    x = chain.rows
    beta = published.kernel_variance(chain.sde, float(chain.times[i]), float(chain.times[i + 1]))
    if isinstance(chain.sde, VPSDE):  # Ho et al. 2020, eq. 7 (arXiv:2006.11239): 1 - alpha_bar = sigma^2
        mean = a_ * beta / s**2 * x0 + math.sqrt(1 - beta) * s_**2 / s**2 * x
        return mean, s_**2 / s**2 * beta, beta
    if a == 1.0:  # Song et al. 2021, eq. 47
        return x - (s**2 - s_**2) / s * eps, s_**2 * (s**2 - s_**2) / s**2, beta
    ratio = a / a_  # Bayes' rule on two Gaussians
    variance = 1 / (1 / s_**2 + ratio**2 / beta)
    return variance * (a_ * x0 / s_**2 + ratio * x / beta), variance, beta


@step.register
def _ancestral(solver: Ancestral, chain: Chain, i: int) -> None:
    """Ho et al. 2020, algorithm 2 and section 3.2: the variance is beta~ or beta."""
    a, s = chain.alpha[i], chain.sigma[i]
    mean, variance, beta = _posterior(chain, i, chain.x0(a, s, chain.rows), chain.eps(a, s, chain.rows))
    if solver.variance == "learned":
        raise NoReference("a learned variance is the model's")
    chain.rows = mean + math.sqrt(beta if solver.variance == "upper" else variance) * chain.draw()


@step.register
def _ddim(solver: DDIM, chain: Chain, i: int) -> None:
    """Song et al. 2021 (DDIM), eq. 12 and 16 (arXiv:2010.02502), for any alpha and sigma."""
    (a, a_), (s, s_) = chain.alpha[i : i + 2], chain.sigma[i : i + 2]
    x0, eps = chain.x0(a, s, chain.rows), chain.eps(a, s, chain.rows)
    if not solver.eta:  # eq. 13: Euler's method in sigma / alpha
        chain.rows = a_ * (chain.rows / a + (s_ / a_ - s / a) * eps)
        return
    variance = solver.eta**2 * _posterior(chain, i, x0, eps)[1]
    chain.rows = a_ * x0 + math.sqrt(s_**2 - variance) * eps + math.sqrt(variance) * chain.draw()


@step.register
def _heun(solver: Heun, chain: Chain, i: int) -> None:
    """Karras et al. 2022, algorithms 1 and 2 (arXiv:2206.00364), in y = x / alpha and n = sigma / alpha."""
    (a, a_), (s, s_) = chain.alpha[i : i + 2], chain.sigma[i : i + 2]
    y, n, n_ = chain.rows / a, s / a, s_ / a_
    most = chain.sigma[0] / chain.alpha[0]
    if solver.churn and solver.churn_min <= n <= solver.churn_max and n < most:
        raised = min(n * (1 + solver.churn), most)
        y = y + math.sqrt(raised**2 - n**2) * solver.churn_noise * chain.draw()
        n = raised
        a = published.alpha_where(chain.sde, n)
    slope = chain.eps(a, a * n, a * y)
    end = y + (n_ - n) * slope
    chain.rows = a_ * (y + (n_ - n) * (slope + chain.eps(a_, s_, chain.visit(a_ * end))) / 2)


def _langevin(chain: Chain, i: int, h: float, steps: int) -> None:
    """x + h score + sqrt(2 h) z at the level of the i-th time."""
    a, s = chain.alpha[i], chain.sigma[i]
    for _ in range(steps):
        chain.rows = chain.rows - h * chain.eps(a, s, chain.rows) / s + math.sqrt(2 * h) * chain.draw()


@step.register
def _corrector(solver: Langevin, chain: Chain, i: int) -> None:
    """Song et al. 2021, algorithms 4 and 5, with the step 2 (snr sigma)^2."""
    if solver.step_size != "level":
        raise NoReference("a step that depends on the batch, or on a user's function")
    _langevin(chain, i + 1, 2 * (solver.snr * chain.sigma[i + 1]) ** 2, solver.steps)


@step.register
def _annealed_langevin(solver: AnnealedLangevin, chain: Chain, i: int) -> None:
    """Song & Ermon 2019, algorithm 1 (arXiv:1907.05600), on x / alpha."""
    chain.rows = chain.alpha[i + 1] / chain.alpha[i] * chain.rows
    _langevin(chain, i + 1, solver.rate * chain.sigma[i + 1] ** 2, solver.steps)


@step.register
def _predictor_corrector(solver: PredictorCorrector, chain: Chain, i: int) -> None:
    """Song et al. 2021, algorithm 1."""
    step(solver.predictor, chain, i)
    chain.memory = None
    step(solver.corrector, chain, i)


@step.register
def _flow(solver: ProbabilityFlow, chain: Chain, i: int) -> None:
    """dx/dt = f x - g^2 score / 2 (Song et al. 2021, eq. 13), by a Runge-Kutta method."""
    if type(solver.method) not in TABLEAUS:
        raise NoReference("a method that chooses its own steps")
    stages, weights, nodes = TABLEAUS[type(solver.method)]
    count = int(getattr(solver.method, "steps", 1))
    turned = solver.coordinate == "angle"
    mean, std = chain.centre

    def slope(t: float, x: Array) -> Array:
        """dx/dt; in the angle dw/du of w = cos(u) (x / alpha - mean), n = std tan(u)."""
        if not turned:
            a, s = (float(v) for v in published.alpha_sigma(chain.sde, t))
            f, g2 = published.rates(chain.sde, t)
            return f * x + g2 / (2 * s) * chain.eps(a, s, chain.visit(x))
        n = std * math.tan(t)
        a = published.alpha_where(chain.sde, n)
        x = chain.visit(a * (x / math.cos(t) + mean))
        turn: Array = std * math.cos(t) * chain.eps(a, a * n, x) - math.sin(t) * (chain.x0(a, a * n, x) - mean)
        return turn

    ends = [math.atan2(chain.sigma[k] / chain.alpha[k], std) for k in (i, i + 1)] if turned else chain.times[i : i + 2]
    start, stop = (float(v) for v in ends)
    h = (stop - start) / count
    if turned:
        chain.rows = math.cos(start) * (chain.rows / chain.alpha[i] - mean)
    for j in range(count):
        slopes: list[Array] = []
        for row, node in zip(stages, nodes, strict=True):
            t = start + (j + node) * h
            x = chain.rows + h * sum((c * k for c, k in zip(row, slopes, strict=True)), np.zeros(1))
            slopes.append(slope(t, x))
        chain.rows = chain.rows + h * sum(w * k for w, k in zip(weights, slopes, strict=True))
    if turned:
        chain.rows = chain.alpha[i + 1] * (chain.rows / math.cos(stop) + mean)
