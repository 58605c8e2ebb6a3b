"""Solvers: their formulas from the papers, their orders, their laws, and the contract that all of them share."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from honest import bounded, rosenblatt, smooth
from problems import (
    F64,
    MEANS,
    VARIANCES,
    Impulses,
    Recorded,
    Silent,
    affine,
    gaussians,
    last,
    mixture,
)
from subjects import fixed_grid_solvers, pairs, sdes, solvers

import sdekit as sk
from sdekit import grids, ode
from sdekit.certification.law import weak_error
from sdekit.certification.problems import mixture_1d
from sdekit.certification.subject import subject
from sdekit.solvers import (
    DDIM,
    SEEDS,
    AdaptiveSDE,
    Ancestral,
    AnnealedLangevin,
    Churn,
    DPMSolver,
    EulerMaruyama,
    Heun,
    Langevin,
    LinearMultistep,
    Multistep,
    PredictorCorrector,
    ProbabilityFlow,
    Restart,
    ReverseDiffusion,
    State,
    StochasticRungeKutta,
    UniPC,
)

M, V = MEANS.numpy(), VARIANCES.numpy()
VP = sk.VPSDE()
OTHER_GRIDS = [name for name in grids.NAMES if name != "karras"]


@pytest.mark.parametrize("sde", sdes())
def test_ancestral_sampling_is_ddim_with_eta_one(sde):
    """Song et al. 2021 (DDIM), section 4.1."""
    times = grids.log_snr(sde, 20)
    for ours, theirs in zip(affine(Ancestral(), sde, times, 20), affine(DDIM(1.0), sde, times, 20), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12 * float(sde.sigma(sde.t_max)))


@pytest.mark.parametrize("sde", sdes())
def test_ancestral_step_is_the_posterior_at_the_models_x0(sde):
    """x_s ~ p(x_s | x_t, x_0 = x0(x_t)), mean and std as ``GaussianSDE.posterior`` gives them."""
    model = mixture(sde)
    t, s = grids.levels(sde, "log_snr", 3, denoise=False)[1:3]
    x = sde.prior.sample((5, 2), sk.Noise(1), dtype=F64) * 0.3
    z = sk.Noise(2).normal((5, 2), stream="z", dtype=F64)
    mean, std = sde.posterior(x, model(x, t).x0, t, s)
    got = Ancestral().step(model, State(x, t), s, Recorded([z])).x
    torch.testing.assert_close(got, mean + std * z, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "solver",
    [
        DDIM(),
        DDIM(0.5),
        DDIM(1.0),
        Ancestral(),
        DPMSolver(1),
        DPMSolver(2),
        DPMSolver(3),
        UniPC(),
        Multistep(),
        Heun(),
        Heun(churn=0.1),
        Churn(DPMSolver(), 0.1),
        Restart(),
        StochasticRungeKutta(),
    ],
    ids=repr,
)
def test_ddpm_and_ncsn_are_one_process(solver):
    """On one log-SNR grid a VP run, divided by alpha, is the VE run from the same noise: to 1e-12 of its scale."""
    vp, ve = sk.VPSDE(), sk.VESDE(sigma_min=0.002, sigma_max=160.0)
    log_snr = torch.linspace(-9.5, 9.0, 30, dtype=F64)
    runs = []
    for sde in (vp, ve):
        times = sde.time_at(log_snr)
        start = sk.Noise(3).normal((6, 2), stream="start", dtype=F64) * math.exp(9.5 / 2) * float(sde.alpha(times[0]))
        states = sk.trajectory(mixture(sde), solver, start, times, sk.Noise(4))
        runs.append([(x / float(sde.alpha(level.t)) if not level.clean else x) for x, level, _ in states])
    assert len(runs[0]) == 31
    for a, b in zip(*runs, strict=True):
        assert float((a - b).abs().max()) <= 1e-12 * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize(
    "solver", [EulerMaruyama(), ReverseDiffusion(), ProbabilityFlow(ode.Euler()), Ancestral("upper")], ids=repr
)
def test_solvers_in_time_are_not_one_process(solver):
    """The negative control: methods in t, and the upper variance, differ on VP and on VE, and the docs say so."""
    vp, ve = sk.VPSDE(), sk.VESDE(sigma_min=0.002, sigma_max=160.0)
    log_snr = torch.linspace(-9.5, 9.0, 30, dtype=F64)
    ends = []
    for sde in (vp, ve):
        times = sde.time_at(log_snr)
        start = sk.Noise(3).normal((6, 2), stream="start", dtype=F64) * math.exp(9.5 / 2) * float(sde.alpha(times[0]))
        ends.append(last(sk.trajectory(mixture(sde), solver, start, times, sk.Noise(4))).x)
    assert float((ends[0] - ends[1]).abs().max()) > 1e-3


# Langevin


@pytest.mark.parametrize("snr", [0.05, 0.16, 0.4])
def test_langevin_has_the_stationary_law_of_the_unadjusted_chain(snr):
    """On a Gaussian of variance v the chain x + h score + sqrt(2 h) z has the variance v / (1 - h / 2v), to 1e-12."""
    sde = sk.VESDE()
    t = sde.levels(torch.tensor([0.3], dtype=F64))[0]
    v = VARIANCES + t.sigma**2
    h = 2 * snr**2 * t.sigma**2
    stationary = v / (1 - h / (2 * v))
    one = torch.zeros(3, 8, dtype=F64)
    one[1] = 1.0
    z = torch.zeros_like(one)
    z[2] = 1.0
    x = Langevin(snr=snr).step(gaussians(sde), State(one, t), t, Recorded([z])).x
    shrink, kick = x[1] - x[0], x[2] - x[0]
    torch.testing.assert_close(shrink**2 * stationary + kick**2, stationary, rtol=1e-12, atol=0)
    torch.testing.assert_close(x[0], (1 - shrink) * MEANS, rtol=1e-12, atol=1e-14)


def test_langevin_rows_do_not_depend_on_their_mates_and_song_s_rule_does():
    """The default step is a function of the level; the batch rule averages norms (Song et al. 2021, algorithm 4)."""
    sde = sk.VESDE()
    model = mixture(sde)
    t = sde.levels(torch.tensor([0.5], dtype=F64))[0]
    x = sk.Noise(0).normal((4, 2), stream="x", dtype=F64)
    z = sk.Noise(1).normal((4, 2), stream="z", dtype=F64)
    crowd = x.clone()
    crowd[1:] *= 50
    for rule, independent in (("level", True), ("batch", False)):
        a, b = (Langevin(step_size=rule).step(model, State(y, t), t, Recorded([z])).x[0] for y in (x, crowd))
        assert torch.equal(a, b) is independent
    score = model(x, t).score
    h = 2 * (0.16 * z.norm(dim=1).mean() / score.norm(dim=1).mean()) ** 2
    got = Langevin(step_size="batch").step(model, State(x, t), t, Recorded([z])).x
    torch.testing.assert_close(got, x + h * score + torch.sqrt(2 * h) * z, rtol=1e-12, atol=1e-12)


def test_predictor_corrector_is_the_predictor_then_the_corrector():
    """Song et al. 2021, algorithm 1; nothing is corrected at the clean level."""
    sde = sk.VPSDE()
    model = mixture(sde)
    run = grids.levels(sde, "log_snr", 3)
    z = [sk.Noise(k).normal((5, 2), stream="z", dtype=F64) for k in range(3)]
    x = sk.Noise(9).normal((5, 2), stream="x", dtype=F64)
    solver = PredictorCorrector(EulerMaruyama(), Langevin(steps=2))
    first = EulerMaruyama().step(model, State(x, run[0]), run[1], Recorded(z[:1]))
    both = Langevin(steps=2).step(model, State(first.x, run[1]), run[1], Recorded(z[1:]))
    assert torch.equal(solver.step(model, State(x, run[0]), run[1], Recorded(z)).x, both.x)
    end = solver.step(model, State(both.x, run[2]), run[3], Silent())
    assert torch.equal(end.x, model(both.x, run[2]).x0)


def test_predictor_corrector_drops_a_multistep_predictors_memory():
    """The corrector moves x away from what the predictor remembers."""
    sde = sk.VPSDE()
    solver = PredictorCorrector(DPMSolver(2), Langevin())
    x = sk.Noise(9).normal((5, 2), stream="x", dtype=F64)
    assert all(s.memory is None for s in sk.trajectory(mixture(sde), solver, x, "log_snr", sk.Noise(0), steps=4))


@pytest.mark.parametrize("coordinate", ["t", "angle"])
def test_the_error_of_a_flow_in_parts_is_the_sum_of_the_parts(coordinate):
    """And a row's is that of its worst coordinate; a method of fixed steps has none."""
    model, solver = mixture(VP), ProbabilityFlow(coordinate=coordinate)
    x = VP.prior.sample((5, 2), sk.Noise(0), dtype=F64)
    states = list(sk.trajectory(model, solver, x, "log_snr", Silent(), steps=4))
    total = torch.zeros(5, 2, dtype=F64)
    for before, after in itertools.pairwise(states[:-1]):
        total = total + solver.step(model, State(before.x, before.level), after.level, Silent()).memory
        torch.testing.assert_close(after.memory, total, rtol=1e-12, atol=0)
        assert torch.equal(solver.error(after), total.amax(1))
    assert torch.equal(states[-1].memory, states[-2].memory)  # Tweedie's x0 adds no error
    fixed = ProbabilityFlow(ode.RK4(), coordinate)
    assert fixed.error(last(sk.trajectory(model, fixed, x, "log_snr", Silent(), steps=4))) is None


# The law


def of_the_mixture(model, x):
    """Uniforms by samples, if they have the mixture's law."""
    return rosenblatt(x, model.weights, model.means, model.covariances())


LAW = ("cos x", "sin x", "cos 2x", "sin 2x")


@functools.cache
def chain(solver, steps):
    """Of a mixture on the line: the expectations of LAW after a solver's own chain of that many steps, without a draw.

    Found backwards by quadrature over each step's draws, as in the certificates, so that no discretisation is between
    them and the samples: ``weak_error`` is their difference to the exact law's.
    """
    asked = subject("solver", solver, None, None, None)
    model, levels = mixture_1d(VP), grids.levels(VP, "log_snr", steps, denoise=False)
    draws = Impulses()  # a churned step at t_max has none, later ones have
    solver.step(model, State(torch.zeros(2, 1, dtype=F64), levels[1]), levels[2], draws)
    w, m = model.weights, float(levels[-1].alpha) * model.means[:, 0]
    s = (float(levels[-1].alpha) ** 2 * model.values[:, 0] + float(levels[-1].sigma) ** 2).sqrt()
    exact = [
        float((w * f(k * m) * torch.exp(-0.5 * (k * s) ** 2)).sum()) for k in (1, 2) for f in (torch.cos, torch.sin)
    ]
    return np.array(exact) + weak_error(asked, VP, steps, draws.k).numpy()[2:]


def waves(x):
    """The values of LAW, (4, n)."""
    return np.stack([f(k * x) for k in (1, 2) for f in (np.cos, np.sin)])


def propagated(solver):
    """Whether a solver's law can be carried step by step: it remembers nothing, and each step draws once or twice."""
    if isinstance(solver, AdaptiveSDE | Restart) or solver == SEEDS(3):
        return False
    return not isinstance(getattr(solver, "solver", solver), LinearMultistep)


@pytest.mark.statistical
@pytest.mark.parametrize("solver", [p for p in solvers() if p.values[0].stochastic and propagated(p.values[0])])
def test_samples_have_the_law_of_the_solvers_own_chain(solver, seed):
    """16384 samples of ten steps from the exact law at t_max (20 and 40 where x leaves the quadrature's frame in ten):
    the expectations of cos x, sin x, cos 2x and sin 2x to 0.08, and samples that are a fifth too wide are seen.

    Between a chain and the data there is its discretisation, which the certificates tell without a draw.
    """
    model, n = mixture_1d(VP), 16_384
    far = {EulerMaruyama: 20, ReverseDiffusion: 20, AnnealedLangevin: 40, StochasticRungeKutta: 40}
    steps = far.get(type(solver), 10)
    x_T = model.sample(n, sk.Noise((seed, 1)), VP.t_max)
    noise = sk.Noise((seed, 2))
    x = sk.sample(model, x_T=x_T, solver=solver, steps=steps, grid="log_snr", noise=noise, denoise=False)[:, 0].numpy()
    expected = chain(solver, steps)
    right, wrong = (
        [bounded(toward(f, e), n, e, -1, 1, of=4) for f, e in zip(waves(v).mean(1), expected, strict=True)]
        for v in (x, 1.2 * x)
    )
    for verdict in right:
        verdict.holds(detects=0.08)
    max(wrong, key=lambda v: v.statistic).fails()


def toward(found, expected, by=1e-3):
    """The mean as found, nearer to the expected one by what the quadrature may be wrong."""
    return expected + math.copysign(max(abs(found - expected) - by, 0.0), found - expected)


@pytest.mark.slow  # without a draw, certificates propagate these laws in every run
@pytest.mark.statistical
@pytest.mark.parametrize("solver", solvers())
@pytest.mark.parametrize("sde", sdes())
def test_samples_have_the_law_of_the_mixture(sde, solver, seed):
    """4096 samples of 250 steps on the log-SNR grid (125 of four evaluations and more), whose discretisation may move a
    coefficient by 0.03, or by 0.08 where Langevin steps make no exact chain; samples that are 10 % too wide are seen.

    Langevin's own annealing lags behind the levels where alpha falls by orders: the shares of the modes freeze before
    they have settled, and it is 0.2 even with more steps. ``AnnealedLangevin``, which rescales, is not so.
    """
    model = mixture(sde.with_prior(0.0, 1.5))
    steps = None if solver.adaptive else 250 if (solver.evaluations or 4) < 4 else 125
    slack = 0.08 if isinstance(solver, Langevin | AnnealedLangevin) else 0.03
    if isinstance(solver, Langevin):
        solver = Langevin(snr=0.5, steps=4)
        steps, slack = {sk.SubVPSDE: (400, 0.2), sk.FlowSDE: (1000, 0.2)}.get(type(sde), (steps, slack))
    x = sk.sample(model, (4096, 2), solver=solver, steps=steps, seed=seed)
    smooth(of_the_mixture(model, x), slack=slack).holds(detects=0.175 + slack)
    smooth(of_the_mixture(model, 1.1 * x), slack=slack).fails()


# The contract


@pytest.mark.parametrize("solver", solvers())
@pytest.mark.parametrize("sde", sdes())
def test_the_last_step_is_tweedie_s_and_draws_no_noise(sde, solver):
    """One step to the clean level ends at the model's x0 whatever the solver, and asks for no noise."""
    model = mixture(sde)
    x_T = sde.prior.sample((7, 2), sk.Noise(0), dtype=F64)
    end = last(sk.trajectory(model, solver, x_T, "log_snr", Silent(), steps=1))
    torch.testing.assert_close(end.x, model(x_T, sde.t_max).x0, rtol=1e-12, atol=1e-12)
    assert end.level.clean


@pytest.mark.parametrize(
    ("event", "dtype"),
    [((), F64), ((2,), F64), ((16, 3), F64), ((1, 8, 8), torch.float32), ((2, 3, 4, 5), F64)],
    ids=str,
)
@pytest.mark.parametrize("solver", solvers())
def test_any_event_shape_and_dtype(solver, dtype, event):
    """Shape and dtype are kept, the values are finite, and rows stay independent of the layout."""
    sde = sk.VPSDE()
    model = mixture(sde, event)
    for steps in (1, 2, 3):
        x = sk.sample(model, (3, *event), solver=solver, steps=steps, dtype=dtype, seed=1)
        assert x.shape == (3, *event)
        assert x.dtype == dtype
    flat = mixture(sde, (math.prod(event),))
    y = sk.sample(flat, (3, math.prod(event)), solver=solver, steps=3, dtype=dtype, seed=1)
    # with one summation order left free, the flattened event gives the same numbers
    torch.testing.assert_close(x.reshape(3, -1), y, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("sde", "solver"), pairs())
def test_float32_follows_float64(sde, solver):
    """The same run in single precision stays within 1e-3 of the trajectory's scale: the clock is in double."""
    model = mixture(sde)
    start = sde.prior.sample((16, 2), sk.Noise(0), dtype=F64)
    draws = [sk.Noise(k).normal((16, 2), stream="z", dtype=F64) for k in range(250)]
    ends = []
    for dtype in (F64, torch.float32):
        steps = 2 if solver.adaptive else 50
        states = sk.trajectory(model, solver, start.to(dtype), "log_snr", Recorded(draws), steps=steps)
        ends.append(last(states).x.double())
    # single rows may fall to another mode where they cross a ridge; the typical row may not. Where the slope of
    # a table's rates jumps, the steps that an adaptive method refuses are others
    jumps = isinstance(sde, sk.TableSDE) and solver.adaptive
    assert float((ends[0] - ends[1]).abs().median()) <= (5e-3 if jumps else 1e-4)


@pytest.mark.parametrize("solver", solvers())
@pytest.mark.parametrize("sde", sdes())
def test_a_time_per_row_gives_each_row_its_own_step(sde, solver):
    """A step between levels (B, 1) equals the steps of the rows one by one, to rounding; some refuse it by name."""
    model = mixture(sde)
    t = torch.tensor([0.9, 0.5, 0.2], dtype=F64) * sde.t_max
    s = t * 0.9
    x = sde.prior.sample((3, 2), sk.Noise(0), dtype=F64)
    z = [sk.Noise(k).normal((3, 2), stream="z", dtype=F64) for k in range(5)]
    start, level = State(x, sde.level(t, x)), sde.level(s, x)
    if isinstance(solver, AdaptiveSDE | ProbabilityFlow | Restart):
        with pytest.raises(sk.errors.UnsupportedCombination, match="needs one time for the whole batch"):
            solver.step(model, start, level, Silent())
        return
    together = solver.step(model, start, level, Recorded(z)).x
    for i in range(3):
        t_i, s_i = (sde.level(float(v[i]), x) for v in (t, s))
        alone = solver.step(model, State(x[i : i + 1], t_i), s_i, Recorded([v[i : i + 1] for v in z])).x
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-11, atol=1e-11 * float(x.abs().max()))


@pytest.mark.parametrize("solver", solvers())
def test_declared_evaluations_are_the_calls_made(solver):
    """``cost`` of the steps, ``evaluations`` of each but the first ones, and one of the last, to the clean level."""
    model = mixture(sk.VPSDE())
    if solver.adaptive:
        r = sk.sample(model, (3, 2), solver=solver, full=True)
        assert r.nfe.shape == (3,)
        assert bool((r.nfe > 10).all())
        return
    if solver.evaluations is None:
        assert type(sk.sample(model, (3, 2), solver=solver, steps=5, full=True).nfe) is int
        return
    for steps in (1, 2, 5):
        assert sk.sample(model, (3, 2), solver=solver, steps=steps, full=True).nfe == solver.cost(steps - 1) + 1
        assert sk.sample(model, (3, 2), solver=solver, steps=steps, full=True, denoise=False).nfe == solver.cost(steps)
    assert solver.cost(101) - solver.cost(100) == solver.evaluations


@pytest.mark.parametrize("grid", ["karras", *(pytest.param(g, marks=pytest.mark.slow) for g in OTHER_GRIDS)])
@pytest.mark.parametrize("solver", fixed_grid_solvers())
def test_a_thousand_steps_are_finite_and_close(solver, grid):
    """1000 steps on every built-in grid: finite, and within the data's range."""
    x = sk.sample(mixture(sk.VPSDE()), (2, 2), solver=solver, steps=1000, grid=grid, seed=3)
    assert float(x.abs().max()) < 10


def test_solvers_print_as_their_settings():
    """The object is the configuration, and its repr the log line."""
    assert repr(DDIM()) == "DDIM(eta=0.0)"
    assert repr(DPMSolver()) == "DPMSolver(order=2, view='x0')"
    assert repr(ProbabilityFlow(ode.RK4())) == "ProbabilityFlow(method=RK4(steps=1), coordinate='t')"


class Walled(sk.SDE):
    """dx = -tanh(3 x) dt + 0.7 dw: no closed-form kernel."""

    t_min, t_max = 0.01, 1.0

    def drift(self, x, t):
        return -torch.tanh(3 * x)

    def diffusion(self, t):
        return torch.as_tensor(t, dtype=F64) * 0 + 0.7

    @property
    def prior(self):
        return sk.sdes.NormalPrior(0.0, 1.0)


def test_a_process_without_a_kernel_is_served_by_the_solvers_that_need_none():
    """EulerMaruyama, ReverseDiffusion, Langevin (given a rule) and ProbabilityFlow; the others refuse by name."""
    model = sk.models.FromFunction(Walled(), score=lambda x, t: -x)
    rule = Langevin(step_size=lambda p, z, snr: 1e-3)
    for solver in (
        EulerMaruyama(),
        ReverseDiffusion(),
        rule,
        ProbabilityFlow(ode.RK4()),
        PredictorCorrector(corrector=rule),
    ):
        x = sk.sample(model, (4, 1), solver=solver, steps=20)
        assert x.shape == (4, 1)
    for solver in (DDIM(), Heun(), Ancestral(), DPMSolver(), Langevin(), PredictorCorrector()):
        with pytest.raises(sk.errors.UnsupportedCombination, match="alpha and sigma"):
            sk.sample(model, (4, 1), solver=solver, steps=20)
    # Euler-Maruyama's own formula, once by hand
    t, s = Walled().levels(torch.tensor([0.5, 0.4], dtype=F64))
    x, z = torch.tensor([[0.3]], dtype=F64), torch.tensor([[1.1]], dtype=F64)
    got = EulerMaruyama().step(model, State(x, t), s, Recorded([z])).x
    want = x - (-torch.tanh(3 * x) + 0.49 * x) * 0.1 + 0.7 * math.sqrt(0.1) * z
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DDIM(eta=1.5), "DDIM: eta must be finite and >= 0 and <= 1, got eta=1.5"),
        (lambda: DDIM(eta="much"), "DDIM: eta must be a number"),
        (lambda: DPMSolver(order=4), "DPMSolver: order must be at most 3, got order=4"),
        (lambda: DPMSolver(view="score"), "DPMSolver: view must be one of x0, eps, got 'score'"),
        (lambda: Multistep(points=5), "Multistep: points must be at most 4, got points=5"),
        (lambda: Multistep(view="score"), "Multistep: view must be one of x0, eps, velocity"),
        (lambda: Multistep(coordinate="rho"), "Multistep: coordinate must be one of log_snr, sigma, angle, t"),
        (lambda: UniPC(variant="bh3"), "UniPC: variant must be one of bh1, bh2, got 'bh3'"),
        (lambda: DPMSolver(order=0), "DPMSolver: order must be at least 1"),
        (lambda: Langevin(snr=0.0), "Langevin: snr must be finite and > 0"),
        (lambda: Langevin(steps=0), "Langevin: steps must be at least 1"),
        (lambda: Langevin(step_size="song"), "Langevin: step_size must be one of level, batch, got 'song'"),
        (lambda: ProbabilityFlow(ode.RK4), "ProbabilityFlow: method must be one such as"),
        (lambda: PredictorCorrector(predictor=DDIM), "give an instance"),
    ],
)
def test_bad_settings_are_refused_by_name(make, message):
    """The error names the argument, what was given and what would be right."""
    with pytest.raises((sk.errors.InvalidArgument, sk.errors.InvalidType), match=message.replace("(", r"\(")):
        make()
