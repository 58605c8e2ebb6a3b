"""What a solver does to the eight Gaussians in N steps, in NumPy: written from the papers, one function a family.

The reference shares nothing with the package's solvers, levels or predictions: schedules come from
:mod:`sdekit.certification.published`, and the score is that of a Gaussian by its own formula.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import ode
from ..sdes import VPSDE, GaussianSDE, TableSDE
from ..solvers import (
    DDIM,
    PLMS,
    Ancestral,
    AnnealedLangevin,
    DPMSolver,
    EulerMaruyama,
    Heun,
    Langevin,
    LinearMultistep,
    PredictorCorrector,
    ProbabilityFlow,
    ReverseDiffusion,
    Solver,
    UniPC,
)
from . import published
from .problems import MEANS, VARIANCES
from .published import Array

M, V = MEANS.numpy(), VARIANCES.numpy()


class NoReference(Exception):
    """Of a solver that no paper known here describes, or not as a chain of given steps."""


TABLEAUS: dict[type, tuple[Sequence[Sequence[float]], Sequence[float], Sequence[float]]] = {
    ode.Euler: (((),), (1.0,), (0.0,)),
    ode.Heun: (((), (1.0,)), (1 / 2, 1 / 2), (0.0, 1.0)),
    ode.RK4: (((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), (0.0, 1 / 2, 1 / 2, 1.0)),
}
"""Stages, weights and nodes of Runge-Kutta methods (Hairer, Norsett & Wanner 1993, table II.1.2)."""


class Chain:
    """A run on unit impulses: row 0 is the offset, row 1 starts at 1, row k + 2 has a 1 in its k-th draw."""

    def __init__(self, sde: GaussianSDE, times: Array, draws: int):
        self.sde = sde
        self.times = times
        self.alpha, self.sigma = (v.tolist() for v in published.alpha_sigma(sde, times))
        self.rows = np.zeros((2 + draws, len(M)))
        self.rows[1] = 1.0
        self.drawn = 0
        self.memory: Any = None
        self.size = 0.0  # the largest |x| on the way; of a method for y = x / alpha, the largest |y|

    def visit(self, x: Array) -> Array:
        """x, whose size counts for the scale of the trajectory."""
        self.size = max(self.size, float(np.abs(x).max()))
        return x

    def x0(self, a: float, s: float, x: Array) -> Array:
        """E[x_0 | x_t = x] of Gaussian data."""
        mean: Array = M + a * V / (a * a * V + s * s) * (x - a * M)
        return mean

    def eps(self, a: float, s: float, x: Array) -> Array:
        """E[eps | x_t = x], by its own formula: (x - a x0) / s cancels."""
        mean: Array = s / (a * a * V + s * s) * (x - a * M)
        return mean

    def draw(self) -> Array:
        """The next draw."""
        z = np.zeros_like(self.rows)
        if 2 + self.drawn < len(z):
            z[2 + self.drawn] = 1.0
        self.drawn += 1
        return z


class Reference(NamedTuple):
    """A run over some times: what it is made of, and the largest |x| on its way."""

    offset: Array
    """(16,)."""
    start: Array
    """(16,), the response to x_T."""
    noise: Array
    """(draws, 16), the responses to each draw."""
    size: float


def reference(solver: Solver, sde: GaussianSDE, times: Array, draws: int) -> Reference | None:
    """The reference of a solver; None for one that no paper known here describes."""
    chain = Chain(sde, times, draws)
    try:
        for i in range(len(times) - 1):
            step(solver, chain, i)
            chain.visit(chain.rows)
    except NoReference:
        return None
    offset = chain.rows[0]
    return Reference(offset, chain.rows[1] - offset, chain.rows[2:] - offset, chain.size)


@functools.singledispatch
def step(solver: Any, chain: Chain, i: int) -> None:
    """One step of the chain, from the i-th time to the next."""
    raise NoReference(f"no reference for {solver}")


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


@step.register
def _dpm_solver(solver: DPMSolver, chain: Chain, i: int) -> None:
    """Lu et al. 2022, algorithm 2 (arXiv:2211.01095); of order 1 it is DDIM, of order 3 a parabola, once it can be."""
    (a, a_), (s, s_) = chain.alpha[i : i + 2], chain.sigma[i : i + 2]
    view = (chain.x0 if solver.view == "x0" else chain.eps)(a, s, chain.rows)
    h = math.log(a_ / s_) - math.log(a / s)
    if solver.order == 3:  # the first state is corrected, and a third value makes a parabola
        past: Past | None = chain.memory
        values = [*(past.values if past else ()), (i, view)]
        if past and len(values) == 2:
            chain.rows = _integrated(solver, chain, past.rows, past.i, i, values)
        chain.memory = Past(values[-3:], chain.rows, i)
        if len(values) > 2:
            chain.rows = _integrated(solver, chain, chain.rows, i, i + 1, values[-3:])
            return
        before, h_before = (values[0][1], _step(chain, i - 1)) if past else (view, 1.0)
    else:
        before, h_before = chain.memory or (view, 1.0)
        chain.memory = (view, h) if solver.order == 2 else None
    r = h_before / h
    d = (1 + 1 / (2 * r)) * view - before / (2 * r)
    if solver.view == "x0":
        chain.rows = s_ / s * chain.rows - a_ * math.expm1(-h) * d
    else:
        chain.rows = a_ * chain.visit(chain.rows / a) - s_ * math.expm1(h) * d


def _step(chain: Chain, i: int) -> float:
    """The i-th step in log(alpha / sigma)."""
    (a, a_), (s, s_) = chain.alpha[i : i + 2], chain.sigma[i : i + 2]
    return float(math.log(a_ / s_) - math.log(a / s))


class Past(NamedTuple):
    """What a multistep method remembers: (number of the time, view) of each value, and where the last step began."""

    values: list[tuple[int, Array]]
    rows: Array
    i: int


def _multistep(solver: LinearMultistep, chain: Chain, i: int) -> None:
    """The integral of the polynomial through the last values: Hairer, Norsett & Wanner 1993, section III.5, in the
    variables of Lu et al. 2022 (arXiv:2206.00927, eq. 3.4; arXiv:2211.01095, eq. 9); corrected as in Zhao et al. 2023,
    algorithm 5 (arXiv:2302.04867)."""
    a, s = chain.alpha[i], chain.sigma[i]
    past: Past | None = chain.memory
    values = [*(past.values if past else ()), (i, _view(solver, chain, i, a, s))]
    if past and solver.corrector:
        chain.rows = _integrated(solver, chain, past.rows, past.i, i, values)
    values = values[-solver.points :]
    chain.memory = Past(values, chain.rows, i)
    chain.rows = _integrated(solver, chain, chain.rows, i, i + 1, values)


def _centre(chain: Chain) -> tuple[float, float]:
    mean, std = chain.sde.moments or (0.0, 1.0)
    if isinstance(mean, float) and isinstance(std, float):
        return mean, std
    raise NoReference("moments that are not the same in every coordinate")


def _where(solver: LinearMultistep, chain: Chain, i: int) -> float:
    """The coordinate at a time."""
    n = chain.sigma[i] / chain.alpha[i]
    match solver.coordinate:
        case "sigma":
            return float(n)
        case "log_snr":
            return -math.log(n)
        case "angle":
            return math.atan2(n, _centre(chain)[1])
        case _:
            return float(chain.times[i])


def _view(solver: LinearMultistep, chain: Chain, i: int, a: float, s: float) -> Array:
    """x0, eps, or the derivative of y, of x, or of the angle's cos(u) (y - mean), by the coordinate u."""
    x0, eps = chain.x0(a, s, chain.rows), chain.eps(a, s, chain.rows)
    if solver.view != "velocity":
        return x0 if solver.view == "x0" else eps
    if solver.coordinate == "sigma":
        return eps
    if solver.coordinate == "t":
        f, g2 = published.rates(chain.sde, float(chain.times[i]))
        return f * chain.rows + g2 / (2 * s) * eps
    mean, std = _centre(chain)
    size = math.hypot(s / a, std)
    turn = std / size * (std * eps) - s / a / size * (x0 - mean)
    return turn if solver.coordinate == "angle" else -s / a * std / size**2 * turn  # du/dl = -n std / (n^2 + std^2)


def _integrated(
    solver: LinearMultistep, chain: Chain, rows: Array, i: int, j: int, values: list[tuple[int, Array]]
) -> Array:
    """The state at the j-th time, from that at the i-th."""
    a, a_, s, s_ = (float(v[k]) for v in (chain.alpha, chain.sigma) for k in (i, j))
    u, u_ = _where(solver, chain, i), _where(solver, chain, j)
    # the polynomial in (u - u_) / (u_ - u), which runs from -1 to 0: its coefficients by the values
    at = np.array([(_where(solver, chain, k) - u_) / (u_ - u) for k, _ in values])
    powers = np.arange(len(values))
    inverse = np.linalg.inv(at[:, None] ** powers)

    def change(scale: float, moments: Array) -> Array:
        """The integral; the terms of it count for the scale of the trajectory."""
        terms = [chain.visit(scale * c * v) for c, (_, v) in zip(moments @ inverse, values, strict=True)]
        total: Array = np.sum(terms, axis=0)
        return total

    if solver.view == "velocity" or (solver.view, solver.coordinate) == ("eps", "sigma"):
        plain = (u_ - u) * (-1.0) ** powers / (powers + 1)
        if solver.coordinate == "t":
            return chain.visit(rows) + change(1.0, plain)
        if solver.coordinate == "sigma":
            return a_ * chain.visit(rows / a) + change(a_, plain)
        mean, std = _centre(chain)
        shrink, shrink_ = std / math.hypot(s / a, std), std / math.hypot(s_ / a_, std)  # cos(u)
        return a_ * mean + chain.visit(a_ * shrink / shrink_ * (rows / a - mean)) + change(a_ / shrink_, plain)
    q, q_ = math.log(s / a), math.log(s_ / a_)
    z, w = np.polynomial.legendre.leggauss(20)
    edges = np.linspace(q, q_, math.ceil(abs(q_ - q)) + 1)  # panels of log(sigma / alpha)
    halves = np.diff(edges)[:, None] / 2
    n = np.exp(edges[:-1, None] + halves * (1 + z)).reshape(-1)
    dn = n * (halves * w).reshape(-1)
    if solver.coordinate == "t":
        where = _times(chain.sde, np.log(n), (u, u_))
    else:
        std = _centre(chain)[1]
        where = {"sigma": n, "log_snr": -np.log(n), "angle": np.arctan2(n, std)}[solver.coordinate]
    moments: Array = (dn if solver.view == "eps" else dn / n**2) @ ((where[:, None] - u_) / (u_ - u)) ** powers
    if solver.view == "eps":
        return a_ * chain.visit(rows / a) + change(a_, moments)
    return chain.visit(s_ / s * rows) - change(s_, moments)


def _times(sde: GaussianSDE, log_n: Array, ends: tuple[float, float]) -> Array:
    """The times at which log(sigma / alpha) has given values, by bisection between two times."""
    if isinstance(sde, TableSDE):
        raise NoReference("the rates of a table have kinks within a step")
    high, low = (np.full_like(log_n, end) for end in ends)
    for _ in range(60):
        middle = (low + high) / 2
        above = published.log_ratio(sde, middle) > log_n
        high, low = np.where(above, middle, high), np.where(above, low, middle)
    return (low + high) / 2


step.register(LinearMultistep, _multistep)


@step.register
def _unipc(solver: UniPC, chain: Chain, i: int) -> None:
    """Zhao et al. 2023, algorithms 5 and 6: R a B = phi, or a = 1/2 of one difference."""
    a, s = chain.alpha[i], chain.sigma[i]
    past: Past | None = chain.memory
    values = [*(past.values if past else ()), (i, chain.x0(a, s, chain.rows))]
    if past:
        chain.rows = _unified(solver, chain, past.rows, past.i, i, values[-1], values[:-1])
    values = values[-solver.points :]
    chain.memory = Past(values, chain.rows, i)
    chain.rows = _unified(solver, chain, chain.rows, i, i + 1, None, values)


def _unified(
    solver: UniPC,
    chain: Chain,
    rows: Array,
    i: int,
    j: int,
    end: tuple[int, Array] | None,
    values: list[tuple[int, Array]],
) -> Array:
    """UniP, or UniC where the value at the end is known."""
    others = [*values[:-1], *([end] if end else [])]
    at = {k: math.log(chain.alpha[k] / chain.sigma[k]) for k in (i, j, *(k for k, _ in others))}
    h = at[j] - at[i]
    now = values[-1][1]
    result: Array = chain.sigma[j] / chain.sigma[i] * rows - chain.alpha[j] * math.expm1(-h) * now
    if not others:
        return result
    r = np.array([(at[k] - at[i]) / h for k, _ in others])
    slopes = np.stack([(v - now).reshape(-1) for _, v in others]) / r[:, None]
    b = -h if solver.variant == "bh1" else math.expm1(-h)
    if len(others) == 1:
        weights = np.array([0.5])
    else:
        moments, phi = [], math.expm1(-h) / -h - 1
        for k in range(1, len(others) + 1):  # phi_{k+1}(h) h k! / B
            moments.append(phi * math.factorial(k) / b)
            phi = phi / -h - 1 / math.factorial(k + 1)
        weights = np.linalg.solve(r[None, :] ** np.arange(len(others))[:, None], np.array(moments))
    result -= chain.alpha[j] * b * (weights @ slopes).reshape(rows.shape)
    return result


@step.register
def _plms(solver: PLMS, chain: Chain, i: int) -> None:
    """Liu et al. 2022, eq. 11 and 12 (arXiv:2202.09778), on any alpha and sigma."""
    (a, a_), (s, s_) = chain.alpha[i : i + 2], chain.sigma[i : i + 2]
    values = [*(chain.memory or []), chain.eps(a, s, chain.rows)][-solver.points :]
    e = values[::-1]
    mean = {
        1: lambda: e[0],
        2: lambda: (3 * e[0] - e[1]) / 2,
        3: lambda: (23 * e[0] - 16 * e[1] + 5 * e[2]) / 12,
        4: lambda: (55 * e[0] - 59 * e[1] + 37 * e[2] - 9 * e[3]) / 24,
    }[len(e)]()
    chain.memory = values
    chain.rows = a_ * (chain.visit(chain.rows / a) + (s_ / a_ - s / a) * mean)


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
    mean, std = _centre(chain) if turned else (0.0, 1.0)

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
