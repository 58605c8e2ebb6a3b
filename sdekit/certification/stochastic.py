"""What exponential solvers of the reverse SDE do to the eight Gaussians in N steps, in NumPy: written from the papers,
in the phi functions."""

from __future__ import annotations

import math

import numpy as np

from ..solvers import SEEDS, DPMSolverSDE, SASolver
from . import published
from .chain import Chain, step
from .multistep import Past
from .published import Array


def phi(k: int, z: float) -> float:
    """phi_0 = e^z, phi_{k+1} = (phi_k - 1/k!) / z: by its series where the recursion would cancel."""
    if k == 0:
        return math.exp(z)
    if abs(z) < 1.0:
        return math.fsum(z**j / math.factorial(j + k) for j in range(24))
    return math.expm1(z) / z if k == 1 else (phi(k - 1, z) - 1 / math.factorial(k - 1)) / z


def _lambda(chain: Chain, i: int) -> float:
    """log(alpha / sigma) at the i-th time."""
    return math.log(chain.alpha[i]) - math.log(chain.sigma[i])


def _adams(
    chain: Chain, view: str, tau2: float, i: int, rows: Array, z: Array, values: list[tuple[int, Array]], line: str
) -> Array:
    """The step from the i-th time to the next by the polynomial through some values, its noise z.

    ``line``: what the slope counts where there are two values: the exact phi_2, half of phi_1 ("midpoint": Lu et al.
    2022, arXiv:2211.01095, appendix), or half of H ("rescaled": Xue et al. 2023, appendix D). "halved": the exact one,
    and of three values half of what the square counts (Crowson, k-diffusion's 3M SDE).
    """
    (a, a_), (s, s_) = chain.alpha[i : i + 2], chain.sigma[i : i + 2]
    h = _lambda(chain, i + 1) - _lambda(chain, i)
    rate = (1 + tau2) * h
    if view == "x0":
        keep, size, end = s_ / s * math.exp(-tau2 * h), a_ * rate, -rate
        std = s_ * math.sqrt(-math.expm1(-2 * tau2 * h))
    else:
        keep, size, end = a_ / a, -s_ * rate, h
        std = s_ * math.sqrt(tau2 * math.expm1(2 * h))
    # the integrals of u^k, u from 0 to 1 over the step, in the exponential weight
    moments = [math.factorial(k) * phi(k + 1, end) for k in range(len(values))]
    if len(values) == 3 and line == "halved":
        moments[2] /= 2
    if len(values) == 2 and line in ("midpoint", "rescaled"):
        moments[1] = 0.5 * (moments[0] if line == "midpoint" else 1.0)
    at = np.array([(_lambda(chain, k) - _lambda(chain, i)) / h for k, _ in values])
    weights = np.array(moments) @ np.linalg.inv(at[:, None] ** np.arange(len(values)))
    result: Array = chain.visit(keep * rows) + std * z
    for weight, (_, value) in zip(weights, values, strict=True):
        result = result + chain.visit(size * weight * value)
    return result


@step.register
def _dpm_solver_sde(solver: DPMSolverSDE, chain: Chain, i: int) -> None:
    """Lu et al. 2022, section 5 (arXiv:2211.01095), with k-diffusion's eta and variants."""
    a, s = chain.alpha[i], chain.sigma[i]
    view = (chain.x0 if solver.view == "x0" else chain.eps)(a, s, chain.rows)
    chain.memory = values = [*(chain.memory or []), (i, view)][-solver.points :]
    z = chain.draw() if solver.eta else np.zeros(1)
    line = "halved" if solver.points == 3 or solver.variant == "heun" else "midpoint"
    chain.rows = _adams(chain, solver.view, solver.eta, i, chain.rows, z, values, line)


@step.register
def _sa_solver(solver: SASolver, chain: Chain, i: int) -> None:
    """Xue et al. 2023, algorithm 1 (arXiv:2309.05019): predict, evaluate, correct with the noise of the prediction."""
    a, s = chain.alpha[i], chain.sigma[i]
    line = "rescaled" if solver.few_steps else "exact"
    past: tuple[Past, Array] | None = chain.memory

    def tau2(k: int) -> float:
        n = chain.sigma[k] / chain.alpha[k]
        return solver.tau**2 if solver.tau_min <= n <= solver.tau_max else 0.0

    values = [*(past[0].values if past else ()), (i, chain.x0(a, s, chain.rows))]
    if past and solver.corrector:
        used = values[-solver.corrector :]
        chain.rows = _adams(chain, "x0", tau2(i - 1), i - 1, past[0].rows, past[1], used, line)
    z = chain.draw() if tau2(i) else np.zeros(1)
    chain.memory = Past(values[-4:], chain.rows, i), z
    chain.rows = _adams(chain, "x0", tau2(i), i, chain.rows, z, values[-solver.predictor :], line)


@step.register
def _seeds(solver: SEEDS, chain: Chain, i: int) -> None:
    """Gonzalez et al. 2023, algorithms 1 to 4 (arXiv:2305.14267), on any alpha and sigma: the noise of a stage by the
    variances of its independent parts; k-diffusion's by the increments of a path in (sigma / alpha)^2."""
    (a, a_), (s, s_) = chain.alpha[i : i + 2], chain.sigma[i : i + 2]
    h, eta, view = _lambda(chain, i + 1) - _lambda(chain, i), solver.eta, solver.view
    believed = chain.x0 if view == "x0" else chain.eps
    v = believed(a, s, chain.rows)
    draws: list[Array] = []
    y, a_m, s_m, c = chain.rows, a, s, 0.0
    for stage in range(1, solver.stages + 1):
        last = believed(a_m, s_m, y)
        before, c = c, stage / solver.stages
        a_m, s_m = a_, s_
        if c < 1.0:
            n = s / a * math.exp(-c * h)
            a_m = published.alpha_where(chain.sde, n)
            s_m = a_m * n
        if eta:
            draws.append(chain.draw())
        if view == "x0":
            end, keep, size = -(1 + eta) * c * h, s_m / s * math.exp(-eta * c * h), a_m * (1 + eta) * c * h
        else:
            end, keep, size = c * h, a_m / a, -s_m * (1 + eta) * c * h
        y = chain.visit(keep * chain.rows)
        if solver.stages == 2 and stage == 2:  # the value at the middle alone
            y = y + chain.visit(size * phi(1, end) * last)
        else:
            slope = (last - v) / before if stage > 1 else np.zeros(1)
            y = y + chain.visit(size * phi(1, end) * v) + chain.visit(size * c * phi(2, end) * slope)
        for j, z in enumerate(draws):
            near, far = ((stage - j - k) / solver.stages * h for k in (1, 0))  # from the part to the stage, in l
            rate = -2 * eta if view == "x0" else 2.0
            variance = (1.0 if view == "x0" else eta) * abs(math.exp(rate * near) - math.exp(rate * far))
            if solver.noise == "increment" and view == "x0":
                part = (math.exp(2 * far) - math.exp(2 * near)) / math.expm1(2 * c * h)
                variance = -math.expm1(-2 * eta * c * h) * part
            y = y + s_m * math.sqrt(variance) * z
    chain.rows = y
