"""Solvers that evaluate within a step, and the ancestral step: against the papers, other codes' formulas, and laws."""

import itertools
import math

import numpy as np
import pytest
import torch
from problems import F64, MEANS, VARIANCES, Recorded, Silent, affine, last, mixture, moments

import sdekit as sk
from sdekit import grids
from sdekit.certification import exact, law, references, subject
from sdekit.choice import for_budget
from sdekit.errors import InvalidArgument, InvalidType, UnsupportedCombination
from sdekit.solvers import (
    DDIM,
    PLMS,
    Ancestral,
    AncestralStep,
    DPMSolver,
    DPMSolverSinglestep,
    EulerMaruyama,
    Heun,
    PredictorCorrector,
    ProbabilityFlow,
    State,
)
from sdekit.solvers.base import level_where

SINGLESTEP = [DPMSolverSinglestep(order, view) for order in (1, 2, 3) for view in ("x0", "eps")]
ANCESTRAL = [
    AncestralStep(solver, eta)
    for solver in (DDIM(), Heun(), DPMSolverSinglestep(2), DPMSolverSinglestep(3), DPMSolverSinglestep(3, "eps"))
    for eta in (0.5, 1.0)
]
PROCESSES = [sk.VPSDE(), sk.VESDE(), sk.FlowSDE(), sk.SubVPSDE(), sk.DiscreteVPSDE()]
each_process = pytest.mark.parametrize("sde", PROCESSES, ids=lambda v: type(v).__name__)


def normals(k, seed=0):
    return [sk.Noise(seed + i).normal((6, 2), stream="z", dtype=F64) for i in range(k)]


@each_process
@pytest.mark.parametrize("solver", [*SINGLESTEP, *ANCESTRAL], ids=repr)
def test_every_member_is_its_reference(solver, sde):
    """Offset, response to the start and to each draw after N steps, N = 1, 2, 3, 7, to 1e-12 of the trajectory's
    scale: on steps as wide as the process, too, where n_down lies far below its range."""
    sampler = subject.subject("solver", solver, None, None, None)
    for n in (1, 2, 3, 7):
        times = grids.karras(sde, n)
        found = exact.responses(sampler, sde, times, draws=int(solver.stochastic))
        wanted = references.reference(solver, sde, times.numpy(), len(found.noise))
        assert len(wanted.noise) == len(found.noise) == n * solver.stochastic
        scale = max(wanted.size, float(np.abs(wanted.start).max()))
        for ours, theirs in zip(found[:3], wanted[:3], strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-12 * scale)


def test_the_reference_tells_one_member_from_another():
    """The negative control: every other member is further off than 1e-6."""
    sde = PROCESSES[0]
    times = grids.karras(sde, 7)
    for family in (SINGLESTEP[2:], ANCESTRAL):
        for solver in family:
            draws = 7 * solver.stochastic
            found = exact.responses(subject.subject("solver", solver, None, None, None), sde, times, draws=draws > 0)
            for other in family:
                wanted = references.reference(other, sde, times.numpy(), draws)
                off = max(float(np.abs(a.numpy() - b).max()) for a, b in zip(found[:2], wanted[:2], strict=True))
                assert (off < 1e-12) == (other == solver), (solver, other)


def by_the_papers(order, view, model, sde, x, t, s):
    """Lu et al. 2022, algorithms 1 and 2 (arXiv:2206.00927), and 2S and 3S of arXiv:2211.01095, with their phi."""
    levels = [t, s]
    h = (s.log_snr - t.log_snr) / 2
    for r in {1: (), 2: (1 / 2,), 3: (1 / 3, 2 / 3)}[order]:
        log_snr = torch.tensor(t.log_snr + 2 * r * h, dtype=F64)
        levels.insert(-1, sde.levels(sde.time_at(log_snr).reshape(1))[0])

    def v(x, level):
        p = model(x, level)
        return p.x0 if view == "x0" else p.eps

    def phi_1(z):
        return math.expm1(-z) if view == "x0" else math.expm1(z)

    def phi_2(z):
        return phi_1(z) / z + 1 if view == "x0" else -(phi_1(z) / z - 1)

    def begin(level, z, value):
        keep, out = (level.sigma / t.sigma, level.alpha) if view == "x0" else (level.alpha / t.alpha, level.sigma)
        return keep * x - out * phi_1(z) * value, out

    first = v(x, t)
    if order == 1:
        return begin(s, h, first)[0]
    if order == 2:
        middle = v(begin(levels[1], h / 2, first)[0], levels[1])
        return begin(s, h, middle)[0]
    third = v(begin(levels[1], h / 3, first)[0], levels[1])
    base, out = begin(levels[2], 2 * h / 3, first)
    second = v(base + 2 * out * phi_2(2 * h / 3) * (third - first), levels[2])
    base, out = begin(s, h, first)
    return base + 1.5 * out * phi_2(h) * (second - first)


@each_process
@pytest.mark.parametrize("solver", SINGLESTEP, ids=repr)
def test_a_step_is_the_papers_with_their_phi_functions(solver, sde):
    """On a mixture, whose score is not affine."""
    model = mixture(sde)
    t, s = grids.levels(sde, "log_snr", 6, denoise=False)[2:4]
    x = t.alpha * normals(1)[0] + t.sigma * normals(1, seed=9)[0]
    got = solver.step(model, State(x, t), s, Silent()).x
    wanted = by_the_papers(solver.order, solver.view, model, sde, x, t, s)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10 * float(wanted.abs().max()))


@pytest.mark.parametrize("solver", SINGLESTEP, ids=repr)
@pytest.mark.parametrize("sde", [sk.VPSDE(), sk.FlowSDE()], ids=lambda v: type(v).__name__)
def test_the_order_is_the_declared_one(solver, sde):
    """On a mixture's flow, between 40 and 160 steps on the log-SNR grid: within 0.15 of it."""
    sampler = subject.subject("solver", solver, None, None, None)
    errors = [float(law.flow_error(sampler, sde, n).norm()) for n in (40, 80, 160)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert orders[-1] > solver.order - 0.15
    assert orders[-1] < solver.order + 0.5  # and no higher: the next order would fail


@each_process
def test_the_first_order_is_ddim(sde):
    model = mixture(sde)
    x_T = sde.prior.sample((6, 2), sk.Noise(0), dtype=F64)
    for view in ("x0", "eps"):
        films = [
            sk.trajectory(model, solver, x_T, "log_snr", Silent(), steps=5)
            for solver in (DPMSolverSinglestep(1, view), DDIM())
        ]
        assert all(torch.equal(a.x, b.x) for a, b in zip(*films, strict=True))


def test_the_second_order_in_eps_is_k_diffusions_dpm_2():
    """An Euler step in sigma to the geometric mean of both levels, then the midpoint rule from the slope there."""
    sde = sk.EDMSDE()
    model = mixture(sde)
    sigmas = grids.karras(sde, 8).tolist()
    x_T = 80 * normals(1)[0]
    x = x_T
    for a, b in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        d = (x - model(x, a).x0) / a
        if b:
            middle = math.sqrt(a * b)
            x_2 = x + (middle - a) * d
            d = (x_2 - model(x_2, middle).x0) / middle
        x = x + (b - a) * d
    got = sk.sample(model, x_T=x_T, solver=DPMSolverSinglestep(2, "eps"), grid=torch.tensor(sigmas, dtype=F64))
    torch.testing.assert_close(got, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("kind", ["euler", "dpm_2", "dpmpp_2s"])
def test_ancestral_steps_are_k_diffusions(kind, eta):
    """Its get_ancestral_step around Euler, DPM2 and DPM++ 2S, written for sigma on VE with the same draws."""
    sde = sk.EDMSDE()
    model = mixture(sde)
    sigmas = grids.karras(sde, 9).tolist()
    x_T, z = 80 * normals(1)[0], normals(9, seed=5)
    x = x_T
    for i, (a, b) in enumerate(zip(sigmas, [*sigmas[1:], 0.0], strict=True)):
        up = min(b, eta * math.sqrt(b**2 * (a**2 - b**2) / a**2))
        down = math.sqrt(b**2 - up**2)
        x0 = model(x, a).x0
        if not down:
            x = x0
            continue
        middle = math.sqrt(a * down)
        if kind == "euler":
            x = x + (down - a) * (x - x0) / a
        elif kind == "dpm_2":
            x_2 = x + (middle - a) * (x - x0) / a
            x = x + (down - a) * (x_2 - model(x_2, middle).x0) / middle
        else:
            x_2 = middle / a * x + (1 - middle / a) * x0
            x = down / a * x + (1 - down / a) * model(x_2, middle).x0
        x = x + up * z[i]
    inner = {
        "euler": DDIM(),
        "dpm_2": DPMSolverSinglestep(2, "eps"),
        "dpmpp_2s": DPMSolverSinglestep(2),
    }[kind]
    grid = torch.tensor(sigmas, dtype=F64)
    got = last(sk.trajectory(model, AncestralStep(inner, eta), x_T, grid, Recorded(z))).x
    torch.testing.assert_close(got, x, rtol=1e-8, atol=1e-8)


@each_process
@pytest.mark.parametrize("eta", [0.2, 0.7, 1.0])
def test_the_ancestral_step_of_ddim_is_ddim_with_noise(sde, eta):
    """Every coefficient to rounding, with the last steps, whose n_down lies below the process's range; with eta = 1 it
    is ancestral sampling by the posterior."""
    times = grids.log_snr(sde, 12)
    others = [DDIM(eta), *([Ancestral()] if eta == 1.0 else [])]
    for other in others:
        for ours, theirs in zip(
            affine(AncestralStep(DDIM(), eta), sde, times, 12), affine(other, sde, times, 12), strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11 * float(sde.sigma(sde.t_max)))


@pytest.mark.parametrize(
    ("solver", "order"), [(DDIM(), 1), (Heun(), 2), (DPMSolverSinglestep(2), 2), (DPMSolverSinglestep(3), 3)], ids=repr
)
def test_the_law_keeps_the_solvers_order(solver, order):
    """The noise takes p_down to p_s exactly: the weak order is the solver's. Of mean and variance on eight Gaussians,
    exactly; and of the law on a mixture by quadrature, whose own error hides the third order's from 80 steps on."""
    wrapped, sde = AncestralStep(solver, 0.8), sk.VPSDE()
    assert wrapped.order == solver.order == order
    end = sde.levels(torch.tensor([sde.t_min], dtype=F64))[0]
    exact_moments = torch.stack([end.alpha * MEANS, end.alpha**2 * VARIANCES + end.sigma**2])
    errors = [
        float((torch.stack(moments(wrapped, sde, grids.log_snr(sde, n), n)) - exact_moments).norm()) for n in (100, 200)
    ]
    assert abs(math.log2(errors[0] / errors[1]) - order) < 0.15
    sampler = subject.subject("solver", wrapped, None, None, None)
    errors = [float(law.weak_error(sampler, sde, n, 1).norm()) for n in (40, 80)]
    assert abs(math.log2(errors[0] / errors[1]) - order) < 0.25


def test_a_level_beyond_the_range_keeps_its_ends_time_and_alpha():
    """And has the sigma of the log-SNR that was asked for; within the range it is the level there."""
    sde, x = sk.VPSDE(), torch.zeros(3, 2)
    end = sde.level(sde.t_min, x)
    below = level_where(sde, end.log_snr + 6.0, x)
    assert (below.t, below.alpha, below.log_snr) == (end.t, end.alpha, end.log_snr + 6.0)
    assert below.sigma == pytest.approx(end.sigma * math.exp(-3.0), rel=1e-12)
    assert (below.f, below.g2) == (end.f, end.g2)
    inside = sde.level(0.4, x)
    found = level_where(sde, inside.log_snr, x)
    for name in ("t", "alpha", "sigma", "log_snr"):
        assert getattr(found, name) == pytest.approx(getattr(inside, name), rel=1e-12)
    rows = level_where(sde, torch.tensor([[1.0], [-2.0], [30.0]], dtype=F64), x)
    assert rows.t.shape == rows.sigma.shape == (3, 1)
    for i, value in enumerate((1.0, -2.0, 30.0)):
        assert float(rows.sigma[i]) == pytest.approx(level_where(sde, value, x).sigma, rel=1e-12)


def test_a_model_is_asked_at_the_end_of_its_range_below_it():
    """Heun's second slope of the last step stands at n_down, below t_min: its time is t_min, and never less."""
    sde = sk.VPSDE()
    asked = []

    class Listening(type(mixture(sde))):
        def forward(self, x, t, **condition):
            asked.append((float(t.t), float(t.sigma / t.alpha)))
            return super().forward(x, t, **condition)

    model = mixture(sde)
    model.__class__ = Listening
    sk.sample(model, (2, 2), solver=AncestralStep(Heun()), steps=4, dtype=F64)
    end = grids.levels(sde, [sde.t_min])[0]
    below = [t for t, n in asked if n < 0.999 * end.sigma / end.alpha]
    assert below == [sde.t_min] * len(below)
    assert len(below) > 0
    assert min(t for t, _ in asked) == sde.t_min


# PNDM's start


@each_process
@pytest.mark.parametrize("points", [2, 4])
def test_pndm_starts_by_pseudo_runge_kutta(sde, points):
    """Liu et al. 2022 (arXiv:2202.09778): their transfer phi around Runge and Kutta's four slopes, then PLMS."""
    model = mixture(sde)
    levels = grids.levels(sde, "uniform", 8, denoise=False)[1:7]
    x = levels[0].alpha * normals(1)[0] + levels[0].sigma * normals(1, seed=9)[0]
    state = State(x, levels[0])

    def phi(x, e, t, s):
        return s.alpha / t.alpha * x + (s.sigma - s.alpha * t.sigma / t.alpha) * e

    weights = {2: (3 / 2, -1 / 2), 4: (55 / 24, -59 / 24, 37 / 24, -9 / 24)}[points]
    old = []
    for t, s in itertools.pairwise(levels):
        e1 = model(x, t).eps
        old.insert(0, e1)
        if len(old) < points:
            half = sde.levels(torch.tensor([(t.t + s.t) / 2], dtype=F64))[0]
            e2 = model(phi(x, e1, t, half), half).eps
            e3 = model(phi(x, e2, t, half), half).eps
            e4 = model(phi(x, e3, t, s), s).eps
            mean = (e1 + 2 * e2 + 2 * e3 + e4) / 6
        else:
            mean = sum(w * e for w, e in zip(weights, old, strict=False))
        x = phi(x, mean, t, s)
        state = PLMS(points, runge_kutta=True).step(model, state, s, Silent())
        torch.testing.assert_close(state.x, x, rtol=1e-9, atol=1e-9 * float(x.abs().max()))


def test_the_start_costs_four_evaluations_a_step():
    """Three steps of four; a run within it pays for those it takes, and a budget never costs more than it says."""
    model = mixture(sk.VPSDE())
    solver = PLMS(runge_kutta=True)
    assert [solver.cost(n) for n in range(6)] == [0, 4, 8, 12, 13, 14]
    assert [PLMS().cost(n) for n in range(3)] == [0, 1, 2]
    assert [PLMS(1, runge_kutta=True).cost(n) for n in range(3)] == [0, 1, 2]
    for denoise in (True, False):
        for nfe in range(4, 30):
            steps = for_budget(model, nfe, solver, denoise=denoise)[1]
            cost = sk.sample(model, (2, 2), solver=solver, nfe=nfe, denoise=denoise, full=True).nfe
            assert cost == solver.cost(steps - denoise) + denoise <= nfe < solver.cost(steps + 1 - denoise) + denoise
    with pytest.raises(InvalidArgument, match="nfe must be at least 4 for PLMS"):
        for_budget(model, 3, solver, denoise=False)
    # a corrector takes the memory away: every step of the predictor is a first one
    assert PredictorCorrector(solver).evaluations == 5
    assert sk.sample(model, (2, 2), solver=PredictorCorrector(solver), steps=6, full=True).nfe == 26


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda: DPMSolverSinglestep(0), InvalidArgument, "DPMSolverSinglestep: order must be at least 1, got order=0"),
        (lambda: DPMSolverSinglestep(4), InvalidArgument, "DPMSolverSinglestep: order must be at most 3, got order=4"),
        (lambda: DPMSolverSinglestep(2, "velocity"), InvalidArgument, "view must be one of x0, eps, got 'velocity'"),
        (lambda: AncestralStep(eta=0.0), InvalidArgument, "AncestralStep: eta must be finite and > 0 and <= 1"),
        (lambda: AncestralStep(eta=1.1), InvalidArgument, "AncestralStep: eta must be finite and > 0 and <= 1"),
        (lambda: AncestralStep(DDIM), InvalidType, "AncestralStep: solver must be one such as DDIM(), got"),
        (lambda: AncestralStep(DDIM(0.5)), InvalidArgument, "solver must draw nothing and remember nothing"),
        (lambda: AncestralStep(Heun(churn=0.1)), InvalidArgument, "solver must draw nothing and remember nothing"),
        (lambda: AncestralStep(AncestralStep()), InvalidArgument, "solver must draw nothing and remember nothing"),
        (lambda: AncestralStep(DPMSolver()), InvalidArgument, "solver must draw nothing and remember nothing"),
        (lambda: AncestralStep(EulerMaruyama()), InvalidArgument, "solver must draw nothing and remember nothing"),
        (lambda: AncestralStep(ProbabilityFlow()), InvalidArgument, "such as DPMSolverSinglestep(), Heun() or DDIM()"),
        (lambda: PLMS(runge_kutta=1), InvalidType, "PLMS: runge_kutta must be"),
    ],
)
def test_settings_that_are_none_are_named(make, kind, said):
    with pytest.raises(kind) as caught:
        make()
    assert said in str(caught.value)


def test_a_process_without_alpha_and_sigma_is_refused():
    class Drift(sk.SDE):
        t_min, t_max = 0.1, 1.0
        prior = sk.sdes.NormalPrior()

        def drift(self, x, t):
            return -x

        def diffusion(self, t):
            return torch.ones_like(torch.as_tensor(t))

    model = sk.models.FromFunction(Drift(), score=lambda x, t: -x)
    for solver in (DPMSolverSinglestep(), AncestralStep()):
        with pytest.raises(UnsupportedCombination, match=r"DPMSolverSinglestep.*needs a process with alpha and sigma"):
            sk.sample(model, (4, 1), solver=solver, steps=3)
