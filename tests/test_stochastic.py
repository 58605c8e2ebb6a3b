"""Exponential solvers of the reverse SDE: against their references, each other and quadrature, and their orders."""

import itertools
import math

import numpy as np
import pytest
import torch
from problems import F64, Recorded, Silent, affine, mixture
from problems import MEANS as M
from problems import VARIANCES as V
from scipy.integrate import quad
from scipy.interpolate import RectBivariateSpline

import sdekit as sk
from sdekit import grids
from sdekit.certification import exact, references, subject
from sdekit.certification.law import weak_error
from sdekit.certification.problems import law, mixture_1d
from sdekit.solvers import (
    DDIM,
    SEEDS,
    Ancestral,
    DPMSolver,
    DPMSolverSDE,
    Multistep,
    SASolver,
    State,
    UniPC,
)
from sdekit.solvers.exponential import deviation, first, ramp, square

MEMBERS = [
    *(
        DPMSolverSDE(points, eta, view, variant)
        for points in (1, 2, 3)
        for eta in (0.0, 0.5, 1.0)
        for view in ("x0", "eps")
        for variant in ("midpoint", "heun")
    ),
    *(
        SASolver(p, c, tau, few_steps=few)
        for p in (1, 2, 3, 4)
        for c in (0, 1, 2, 3, 4)
        for tau, few in ((0.0, True), (1.0, True), (1.4, False))
    ),
    SASolver(3, 4, 1.0, 0.05, 1.0),
    SASolver(2, 2, 0.7, 0.3, 20.0),
    *(SEEDS(stages, eta, noise="increment") for stages in (1, 2, 3) for eta in (0.5, 1.0)),
    *(SEEDS(stages, eta, view) for stages in (1, 2, 3) for eta in (0.0, 0.5, 1.0) for view in ("x0", "eps")),
]
PROCESSES = [sk.VPSDE().with_prior(0.4, 1.7), sk.FlowSDE(0.01, 0.99), sk.VESDE()]


def differences(solver, other, sde, steps):
    """How far offset, and responses to the start and to the draws, are from another's reference, over the scale."""
    times = grids.karras(sde, steps)  # uneven in log-SNR
    sampler = subject.subject("solver", solver, None, None, None)
    found = exact.responses(sampler, sde, times, draws=3)
    wanted = references.reference(other, sde, times.numpy(), len(found.noise))
    scale = max(wanted.size, *(float(np.abs(v).max(initial=0.0)) for v in wanted[:3]))
    return max(
        float(np.abs(ours.numpy() - theirs).max(initial=0.0)) / scale
        for ours, theirs in zip(found[:3], wanted[:3], strict=True)
    )


@pytest.mark.parametrize("sde", PROCESSES, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("solver", MEMBERS, ids=repr)
def test_every_member_is_its_reference(solver, sde):
    """Offset and responses to the start and to every draw after N steps, to 1e-12 of the trajectory's scale."""
    for steps in (1, 2, 3, 7, 25):
        assert differences(solver, solver, sde, steps) < 1e-12


@pytest.mark.parametrize(
    ("solver", "other"),
    [
        (DPMSolverSDE(2), DPMSolverSDE(2, variant="heun")),
        (DPMSolverSDE(3), DPMSolverSDE(2)),
        (DPMSolverSDE(2, 1.0), DPMSolverSDE(2, 0.9)),
        (SASolver(), SASolver(few_steps=False)),
        (SASolver(3, 4), SASolver(3, 3)),
        (SASolver(3, 4), SASolver(2, 4)),
        (SASolver(tau_min=1.0), SASolver()),
        (SEEDS(2, 0.9), SEEDS(2)),
        (SEEDS(2, noise="increment"), SEEDS(2)),
        (SEEDS(3, view="eps"), SEEDS(3)),
        (SEEDS(2, view="eps"), SEEDS(2)),
    ],
    ids=repr,
)
def test_the_reference_tells_one_member_from_another(solver, other):
    """The negative control: another member is further off than 1e-6."""
    assert differences(solver, other, PROCESSES[0], 7) > 1e-6


@pytest.mark.parametrize("times", [(0.5, 0.499), (0.7, 0.2)])
@pytest.mark.parametrize("tau", [0.0, 0.6, 1.0, 1.5])
@pytest.mark.parametrize("view", ["x0", "eps"])
def test_one_step_is_the_integral_of_its_weight(view, tau, times):
    """keep, the weight's integral and first moment, and the noise's variance, by SciPy.

    With x0 the reverse SDE of strength tau shrinks x by e^(-tau^2 h) sigma_s / sigma_t, with eps by alpha_s / alpha_t;
    its noise gains 2 tau^2 dl in units of sigma^2, and shrinks alike."""
    t, s = sk.CosineSDE().levels(torch.tensor(times, dtype=F64))
    begin, end = (math.log(v.alpha) - math.log(v.sigma) for v in (t, s))

    def shrink(v):  # of what enters at v, in units of sigma there, until s
        return s.sigma * math.exp(-(tau**2) * (end - v) if view == "x0" else end - v)

    def weight(v):  # of the view: alpha / sigma (1 + tau^2) of x0, -(1 + tau^2) of eps
        return (1 + tau**2) * shrink(v) * (math.exp(v) if view == "x0" else -1.0)

    def integral(f):
        return quad(f, begin, end, epsabs=0, epsrel=1e-12)[0]

    keep, total = first(view, t, s, tau)
    assert keep == pytest.approx(shrink(begin) / t.sigma, rel=1e-11)
    assert total == pytest.approx(integral(weight), rel=1e-9)
    assert ramp(view, t, s, tau) == pytest.approx(integral(lambda v: weight(v) * (v - begin)), rel=1e-7)
    assert square(view, t, s, tau) == pytest.approx(integral(lambda v: weight(v) * (v - begin) ** 2), rel=1e-4)
    assert deviation(view, t, s, tau) ** 2 == pytest.approx(integral(lambda v: 2 * tau**2 * shrink(v) ** 2), rel=1e-9)


@pytest.mark.parametrize("solver", [DPMSolverSDE(1), SASolver(1, 0), SEEDS(1)], ids=repr)
@pytest.mark.parametrize("sde", [sk.VPSDE(), sk.EDMSDE(), sk.SubVPSDE()], ids=lambda v: type(v).__name__)
def test_the_first_order_is_ancestral_sampling(solver, sde):
    """The posterior keeps e^-h of eps, its variance is sigma_s^2 (1 - e^(-2 h)): so does DDIM(1)."""
    times = grids.karras(sde, 20)
    for same in (Ancestral(), DDIM(1.0)):
        for ours, theirs in zip(affine(solver, sde, times, 20), affine(same, sde, times, 20), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12 * float(sde.sigma(sde.t_max)))


@pytest.mark.parametrize(
    ("solver", "same"),
    [
        *((DPMSolverSDE(points, 0.0, view), DPMSolver(points, view)) for points in (1, 2) for view in ("x0", "eps")),
        *((SASolver(p, p + 1, 0.0, few_steps=False), Multistep(p, "x0", "log_snr")) for p in (1, 2, 3)),
        (SASolver(2, 3, 0.0), UniPC(2, "bh1")),
        (SASolver(3, 4, 0.0), UniPC(3, "bh1")),
        (SASolver(4, 0, 0.0, few_steps=False), Multistep(4, "x0", "log_snr", corrector=False)),
        (SASolver(2, 0, 1.0, few_steps=False), DPMSolverSDE(2, variant="heun")),
        (SASolver(3, 4, 1.0, 1e6, 1e9), SASolver(3, 4, 0.0)),
        *((SEEDS(stages, 0.7, "eps", "increment"), SEEDS(stages, 0.7, "eps")) for stages in (1, 2, 3)),
    ],
    ids=repr,
)
def test_members_that_are_one_method(solver, same):
    """Without noise the solvers are those of the flow; without a corrector two values are DPM-Solver's line."""
    sde = sk.VPSDE()
    times = grids.karras(sde, 12)
    draws = 12 * same.evaluations if same.stochastic else 0
    for ours, theirs in zip(affine(solver, sde, times, draws), affine(same, sde, times, draws), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    "solver",
    [DPMSolverSDE(3, 0.3), SASolver(tau=1.3), SASolver(2, 2, 0.5, 0.1, 2.0), SEEDS(3), SEEDS(2, noise="increment")],
    ids=repr,
)
def test_any_strength_keeps_the_marginals_of_one_point(solver):
    """Data that are one point have a constant x0: mean and variance are exact after any steps, whatever tau is."""
    sde = sk.FlowSDE(0.01, 0.99)
    point = torch.tensor(0.7, dtype=F64)

    def score(x, t):
        return -(x - sde.alpha(t) * point) / sde.sigma(t) ** 2

    model = sk.models.FromFunction(sde, score=score)
    times = torch.tensor([0.99, 0.6, 0.55, 0.1, 0.01], dtype=F64)
    impulses = affine_draws(solver, model, times)
    offset, start, noise = impulses
    mean = offset + start * sde.alpha(0.99) * point
    variance = start**2 * sde.sigma(0.99) ** 2 + (noise**2).sum(0)
    torch.testing.assert_close(mean, torch.full((8,), 0.99 * 0.7, dtype=F64), rtol=1e-10, atol=0)
    torch.testing.assert_close(variance, torch.full((8,), 1e-4, dtype=F64), rtol=1e-9, atol=0)


def affine_draws(solver, model, times):
    """Offset, and responses to the start and to as many draws as there are."""
    for draws in range(3 * len(times)):
        try:
            return affine(solver, model.sde, times, draws, model=model)
        except AssertionError:
            continue
    raise AssertionError("more draws than stages")


# orders


def errors(solver, steps):
    """The errors of mean and variance at t_min on log-SNR grids, from the exact law at t_max: no Monte Carlo."""
    sde = sk.VPSDE()
    sampler = subject.subject("solver", solver, None, None, None)
    found = []
    for n in steps:
        times = grids.log_snr(sde, n)
        begin, end = sde.levels(times[[0, -1]])
        got = exact.responses(sampler, sde, times, draws=solver.evaluations if solver.stochastic else 0).moments(begin)
        found.append(float((torch.stack(got) - torch.stack(law(end))).norm()))
    return found


@pytest.mark.parametrize(
    "solver",
    [
        *(DPMSolverSDE(points, view=view) for points in (2, 3) for view in ("x0", "eps")),
        DPMSolverSDE(1),
        DPMSolverSDE(2, 0.5, variant="heun"),
        *(SASolver(p, c) for p, c in ((1, 0), (1, 1), (1, 2), (2, 0), (2, 2), (3, 1), (3, 4), (4, 4))),
        SASolver(3, 4, 1.0, 0.1, 3.0),
        *(SEEDS(stages) for stages in (1, 2, 3)),
    ],
    ids=repr,
)
def test_the_declared_weak_order_is_the_measured_one_and_no_more(solver):
    """Neither 3 points nor 3 stages have a third order, as their names could have one think."""
    coarse, fine = errors(solver, (300, 600))
    assert math.log2(coarse / fine) == pytest.approx(solver.order, abs=0.15)


@pytest.mark.parametrize(
    ("solver", "order"),
    [
        (SASolver(3, 4, 0.0), 3),
        (SASolver(1, 2, 0.0), 2),
        (SASolver(2, 0, 0.0), 2),
        (SEEDS(3, 0.0), 3),
        (SEEDS(2, 0.0), 2),
    ],
    ids=repr,
)
def test_without_noise_the_order_is_the_flows(solver, order):
    """Measured on the moments: at least what is declared."""
    assert solver.order == order
    assert not solver.stochastic
    sde = sk.VPSDE()
    found = []
    for n in (60, 120):
        times = grids.log_snr(sde, n)
        offset, start, _ = affine(solver, sde, times, 0)
        (a, s), (a_, s_) = [(float(sde.alpha(t)), float(sde.sigma(t))) for t in times[[0, -1]]]
        flow = ((a_ * a_ * V + s_ * s_) / (a * a * V + s * s)).sqrt()
        found.append(float(torch.cat([start - flow, offset - (a_ - flow * a) * M]).norm()))
    assert math.log2(found[0] / found[1]) > order - 0.15


def test_noise_of_the_last_step_stands_in_for_that_of_this_one():
    """Why two points are of weak order 2: with the value at t alone the variance is off by a first order."""
    one, two = (errors(DPMSolverSDE(points), (50, 400)) for points in (1, 2))
    assert two[1] < one[1] / 100
    assert two[1] < two[0] / 50


def error_of_the_law(solver, sde, steps, values=41, points=101):
    """The errors of E x^2 and E cos 2x at t_min, of a method of two values of x0, on a mixture on the line.

    Its state is (x, the value before): u_k(x, d) = E u_{k+1}(keep x + a d + b x0(x) + std z, x0(x)), found backwards by
    Gauss and Hermite's rule and bicubic splines. No draw is made."""
    model, levels = mixture_1d(sde), sde.levels(grids.log_snr(sde, steps))
    z, w = np.polynomial.hermite_e.hermegauss(14)
    w = w / w.sum()

    def parts(level):
        weights, means = model.weights.numpy(), level.alpha * model.means[:, 0].numpy()
        return weights, means, np.sqrt(level.alpha**2 * model.values[:, 0].numpy() + level.sigma**2)

    def x0(x, level):
        return model(torch.from_numpy(x)[:, None], level).x0[:, 0].numpy()

    def across(level):
        p, m, s = parts(level)
        return p @ m + math.sqrt(p @ (m * m + s * s) - (p @ m) ** 2) * np.linspace(-8, 8, points)

    after, limits = None, (0.0, 0.0)
    for k in reversed(range(steps)):
        t, s = levels[k : k + 2]
        x, std = across(t), deviation("x0", t, s, solver.strength(t))
        v = x0(x, t)
        before = x0(across(levels[k - 1]), levels[k - 1]) if k else v
        d = np.linspace(before.min(), before.max(), values)
        keep, weights = solver.predicted(t, s, levels[max(k - 1, 0) : k + 1])
        mean = keep * x[:, None] + weights[-1] * v[:, None] + (weights[0] * d if k else 0.0 * d)
        ends = mean[..., None] + std * z
        if after is None:
            found = [(f @ w) for f in (ends**2, np.cos(2 * ends))]
        else:
            inside, old = np.clip(ends, *limits), np.broadcast_to(v[:, None, None], ends.shape)
            found = [u.ev(inside, old) @ w for u in after]
        after, limits = [RectBivariateSpline(x, d, f) for f in found], (x[0], x[-1])
    p, m, s = parts(levels[0])
    begin = m[:, None] + s[:, None] * z
    got = [p @ (u.ev(begin, 0.0 * begin) @ w) for u in after]
    p, m, s = parts(levels[-1])
    return math.hypot(got[0] - p @ (m * m + s * s), got[1] - p @ (np.cos(2 * m) * np.exp(-2 * s * s)))


def test_two_points_are_of_weak_order_two_where_the_score_is_not_affine():
    """Measured on the law of a mixture, propagated with the memory; the error itself is seen to be that of the law."""
    coarse, fine = (error_of_the_law(DPMSolverSDE(), sk.VPSDE(), n) for n in (40, 80))
    assert math.log2(coarse / fine) == pytest.approx(2.0, abs=0.1)
    assert 0.005 < fine < 0.02


def test_one_value_of_eps_is_of_weak_order_two_on_gaussians_alone():
    """There the first order of its error is the difference of a function's values at both ends, 0 at full noise and at
    none. On a mixture the order is 1, as is declared."""
    solver = DPMSolverSDE(1, view="eps")
    coarse, fine = errors(solver, (200, 400))
    assert math.log2(coarse / fine) == pytest.approx(2.0, abs=0.1)
    sampler = subject.subject("solver", solver, None, None, None)
    coarse, fine = (float(weak_error(sampler, sk.VPSDE(), n, 1).norm()) for n in (40, 80))
    assert math.log2(coarse / fine) == pytest.approx(1.0, abs=0.1)


# the contract beyond the suites


@pytest.mark.parametrize(
    "solver",
    [
        DPMSolverSDE(3),
        DPMSolverSDE(2, view="eps"),
        SASolver(),
        SASolver(2, 2, 1.0, 0.2, 2.0),
        SEEDS(3),
        SEEDS(2, view="eps"),
    ],
    ids=repr,
)
def test_rows_at_times_of_their_own_take_the_steps_that_they_take_alone(solver):
    """Four steps of three rows, some of them outside the window, against each row by itself with its own draws."""
    sde = sk.CosineSDE()
    model = mixture(sde)
    start = torch.tensor([0.9, 0.6, 0.3], dtype=F64)
    x = torch.tensor([[0.5, -1.0], [1.5, 0.2], [-0.3, 0.9]], dtype=F64)
    factors = (1.0, 0.8, 0.55, 0.4, 0.33)

    def drawn(rows):
        """Draws by the place of their interval: the same for a row alone and among others."""

        def noise(y, t, s, stream="path"):
            where = (torch.as_tensor(t.t, dtype=F64).reshape(-1, 1) / start[rows][:, None]).expand_as(y)
            return torch.sin(40 * where + torch.arange(2) + 3 * rows[:, None])

        return noise

    def run(rows):
        state = State(x[rows], sde.level(start[rows] if len(rows) > 1 else float(start[rows]), x[rows]))
        for f in factors[1:]:
            there = start[rows] * f
            state = solver.step(model, state, sde.level(there if len(rows) > 1 else float(there), x[rows]), drawn(rows))
        return state.x

    together = run(torch.arange(3))
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], run(torch.tensor([i])), rtol=1e-10, atol=1e-10)


def test_outside_its_window_sa_solver_draws_nothing():
    """A step that begins outside is the flow's; one that begins inside, the bounds among it, draws once."""
    sde = sk.EDMSDE()
    model = mixture(sde)
    levels = sde.levels(torch.tensor([4.0, 2.0, 1.0, 0.5, 0.25, 0.1], dtype=F64))
    solver = SASolver(2, 2, 1.0, tau_min=0.5, tau_max=2.0)
    state = State(torch.ones(3, 2, dtype=F64), levels[0])
    asked = []

    def noise(x, t, s, stream="path"):
        asked.append((t.t, s.t, stream))
        return torch.zeros_like(x)

    for s in levels[1:]:
        state = solver.step(model, state, s, noise)
    assert asked == [(2.0, 1.0, "path"), (1.0, 0.5, "path"), (0.5, 0.25, "path")]
    assert torch.equal(solver.step(model, state, sde.clean(), Silent()).x, model(state.x, state.level).x0)


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_seeds_draws_the_parts_of_one_path(stages):
    """One draw for each part of the step, the parts beside each other and even in log-SNR."""
    sde = sk.VPSDE()
    t, s = sde.levels(torch.tensor([0.6, 0.4], dtype=F64))
    asked = []

    def noise(x, t, s, stream="path"):
        asked.append((t.log_snr, s.log_snr, stream))
        return torch.zeros_like(x)

    SEEDS(stages).step(mixture(sde), State(torch.ones(3, 2, dtype=F64), t), s, noise)
    ends = [t.log_snr, *(v for _, v, _ in asked)]
    assert [stream for *_, stream in asked] == ["path"] * stages
    assert [begin for begin, *_ in asked] == ends[:-1]
    assert ends[-1] == s.log_snr
    np.testing.assert_allclose(np.diff(ends), (s.log_snr - t.log_snr) / stages, rtol=1e-12)


@pytest.mark.parametrize("solver", [DPMSolverSDE(), SASolver(), SEEDS(), SEEDS(3)], ids=repr)
def test_a_brownian_path_gives_coarse_and_fine_runs_one_path(solver):
    """Runs of N and 2 N steps on one path come together as 1 / N, and on independent draws they do not."""
    sde = sk.VPSDE()
    model = mixture(sde)
    x = sde.prior.sample((64, 2), sk.KeyedNoise(1), dtype=F64)

    def end(n, noise):
        states = list(sk.trajectory(model, solver, x, "log_snr", noise, steps=n, denoise=False))
        return states[-1].x

    def apart(pair, make):
        return float((end(pair[0], make(0)) - end(pair[1], make(1))).square().mean(1).sqrt().median())

    near, nearer = (apart(pair, lambda k: sk.BrownianPath(5)) for pair in ((20, 40), (80, 160)))
    assert nearer < near / 2
    assert nearer < 0.2 * apart((80, 160), sk.KeyedNoise)


def test_settings_are_refused_by_name():
    """What was given and what would be right; bounds themselves are accepted."""
    for make, message in (
        (lambda: DPMSolverSDE(4), "DPMSolverSDE: points must be at most 3, got points=4"),
        (lambda: DPMSolverSDE(0), "DPMSolverSDE: points must be at least 1"),
        (lambda: DPMSolverSDE(eta=-0.1), "DPMSolverSDE: eta must be finite and >= 0, got eta=-0.1"),
        (lambda: DPMSolverSDE(view="velocity"), "DPMSolverSDE: view must be one of x0, eps"),
        (lambda: DPMSolverSDE(variant="bh1"), "DPMSolverSDE: variant must be one of midpoint, heun"),
        (lambda: SASolver(5), "SASolver: predictor must be at most 4"),
        (lambda: SASolver(0), "SASolver: predictor must be at least 1"),
        (lambda: SASolver(corrector=5), "SASolver: corrector must be at most 4"),
        (lambda: SASolver(corrector=-1), "SASolver: corrector must be at least 0"),
        (lambda: SASolver(tau=-1.0), "SASolver: tau must be finite and >= 0"),
        (
            lambda: SASolver(tau_min=2.0, tau_max=1.0),
            "SASolver: tau_max must reach tau_min, got tau_min=2, tau_max=1.0",
        ),
        (lambda: SASolver(tau_max=math.nan), "SASolver: tau_max must be finite and >= 0"),
        (lambda: SEEDS(4), "SEEDS: stages must be at most 3, got stages=4"),
        (lambda: SEEDS(eta=math.inf), "SEEDS: eta must be finite and >= 0"),
        (lambda: SEEDS(view="score"), "SEEDS: view must be one of x0, eps"),
        (lambda: SEEDS(noise="path"), "SEEDS: noise must be one of sde, increment, got 'path'"),
    ):
        with pytest.raises(sk.errors.InvalidArgument, match=message):
            make()
    assert [DPMSolverSDE(k).order for k in (1, 2, 3)] == [1, 2, 2]
    assert [SEEDS(k).order for k in (1, 2, 3)] == [1, 2, 2]
    assert [SEEDS(k).evaluations for k in (1, 2, 3)] == [1, 2, 3]
    assert SASolver(4, 4, 0.0, 0.5, 0.5).order == 3
    assert not SASolver(tau=0.0).stochastic


def test_a_run_by_recorded_draws_is_the_paper_s_line_by_line():
    """Three steps of SDE-DPM-Solver++(2M) on VP, by hand (Lu et al. 2022, arXiv:2211.01095)."""
    sde = sk.VPSDE()
    model = mixture(sde)
    levels = sde.levels(torch.tensor([0.9, 0.6, 0.4, 0.1], dtype=F64))
    z = [sk.Noise(k).normal((5, 2), stream="z", dtype=F64) for k in range(3)]
    x = sk.Noise(9).normal((5, 2), stream="x", dtype=F64)
    state, noise, old, h_old = State(x, levels[0]), Recorded(z), None, None
    for k, (t, s) in enumerate(itertools.pairwise(levels)):
        state = DPMSolverSDE().step(model, state, s, noise)
        h = math.log(s.alpha / s.sigma) - math.log(t.alpha / t.sigma)
        d = model(x, t).x0
        full = s.alpha * (1 - math.exp(-2 * h))
        mean = s.sigma / t.sigma * math.exp(-h) * x + full * d
        if old is not None:
            mean = mean + 0.5 * full * (d - old) * h / h_old
        x, old, h_old = mean + s.sigma * math.sqrt(1 - math.exp(-2 * h)) * z[k], d, h
        torch.testing.assert_close(state.x, x, rtol=1e-11, atol=1e-12)
