"""What multistep solvers do to the eight Gaussians in N steps, in NumPy: references written from the papers."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..sdes import GaussianSDE, TableSDE
from ..solvers import PLMS, DPMSolver, LinearMultistep, UniPC
from . import published
from .chain import Chain, NoReference, step
from .published import Array


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


def _where(solver: LinearMultistep, chain: Chain, i: int) -> float:
    """The coordinate at a time."""
    n = chain.sigma[i] / chain.alpha[i]
    match solver.coordinate:
        case "sigma":
            return float(n)
        case "log_snr":
            return -math.log(n)
        case "angle":
            return math.atan2(n, chain.centre[1])
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
    mean, std = chain.centre
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
        mean, std = chain.centre
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
        std = chain.centre[1]
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
    """Liu et al. 2022, eq. 11 and 12 (arXiv:2202.09778), on any alpha and sigma, and the pseudo Runge-Kutta start."""
    (a, a_), (s, s_) = chain.alpha[i : i + 2], chain.sigma[i : i + 2]
    values = [*(chain.memory or []), chain.eps(a, s, chain.rows)][-solver.points :]
    if solver.runge_kutta and len(values) < solver.points:
        x0, e1 = chain.x0(a, s, chain.rows), values[-1]
        b, r = (float(v) for v in published.alpha_sigma(chain.sde, (chain.times[i] + chain.times[i + 1]) / 2))
        chain.visit(chain.rows / a)

        def phi(b: float, r: float, *mean: tuple[float, Array]) -> Array:
            """Their eq. 11 by a mean: DDIM's step by the first eps, and terms of what is left, which count as sizes."""
            w = r - b * s / a
            there: Array = b * x0 + r * e1 + (sum(chain.visit(w * part * e) for part, e in mean) - w * e1)
            return there

        e2 = chain.eps(b, r, phi(b, r, (1, e1)))
        e3 = chain.eps(b, r, phi(b, r, (1, e2)))
        e4 = chain.eps(a_, s_, chain.visit(phi(a_, s_, (1, e3))))
        chain.memory = values
        chain.rows = phi(a_, s_, (1 / 6, e1), (1 / 3, e2), (1 / 3, e3), (1 / 6, e4))
        return
    e = values[::-1]
    mean = {
        1: lambda: e[0],
        2: lambda: (3 * e[0] - e[1]) / 2,
        3: lambda: (23 * e[0] - 16 * e[1] + 5 * e[2]) / 12,
        4: lambda: (55 * e[0] - 59 * e[1] + 37 * e[2] - 9 * e[3]) / 24,
    }[len(e)]()
    chain.memory = values
    chain.rows = a_ * (chain.visit(chain.rows / a) + (s_ / a_ - s / a) * mean)
