"""``sample`` and ``trajectory``: their settings, their doors, and what they leave as it was."""

import functools

import pytest
import torch
from problems import F64, last, mixture

import sdekit as sk
from sdekit import ode
from sdekit.choice import for_budget
from sdekit.cli.watch import Watched
from sdekit.models.wrappers import Counted, Whole
from sdekit.solvers import (
    DDIM,
    Ancestral,
    DPMSolver,
    Heun,
    Langevin,
    Multistep,
    PredictorCorrector,
    ProbabilityFlow,
    State,
)


def test_sample_is_the_last_state_of_the_trajectory():
    """One loop runs both."""
    model = mixture(sk.VPSDE())
    x_T = sk.Noise(1).normal((5, 2), stream="x", dtype=F64)
    states = list(sk.trajectory(model, Ancestral(), x_T, "log_snr", sk.Noise(3), steps=7))
    assert len(states) == 8
    assert torch.equal(states[0].x, x_T)
    assert all(isinstance(state, State) for state in states)
    assert states[0].level.t == 1.0
    assert states[-1].level.clean
    x = sk.sample(model, x_T=x_T, solver=Ancestral(), steps=7, noise=sk.Noise(3))
    assert torch.equal(x, states[-1].x)
    assert torch.equal(states[0].x, x_T)


def test_the_same_seed_gives_the_same_samples_and_another_others():
    """And the seed may be several numbers."""
    model = mixture(sk.VPSDE())
    a, b, c = (sk.sample(model, (8, 2), solver=Ancestral(), steps=5, seed=s) for s in (3, 3, 4))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(*(sk.sample(model, (8, 2), steps=5, seed=(1, 2)) for _ in range(2)))


def test_defaults_follow_the_process():
    """DPM-Solver++(2M) in 50 steps of log-SNR; the dtype is the model's."""
    model = mixture(sk.VPSDE())
    r = sk.sample(model, (4, 2), full=True)
    assert r.nfe == 50
    assert r.x.dtype == F64
    assert torch.equal(r.x, sk.sample(model, (4, 2), solver=DPMSolver(2), steps=50, grid="log_snr", seed=0))
    assert sk.sample(model, (4, 2), dtype=torch.float32).dtype == torch.float32


def test_a_budget_is_never_exceeded_and_one_evaluation_a_step_spends_it():
    """``nfe`` counts the calls made, whatever the solver, the model and the end; one of them gives the model's x0."""
    model = mixture(sk.VPSDE())
    for n in (1, 2, 5, 20):
        r = sk.sample(model, (3, 2), nfe=n, full=True)
        assert r.nfe == n
        assert sk.sample(model, (3, 2), nfe=n, denoise=False, full=True).nfe == n
        assert n - 1 <= sk.sample(model, (3, 2), nfe=n, solver=Heun(), full=True).nfe <= n
    guided = sk.guidance.ClassifierFree(model.given(), model, 2.0)
    assert sk.sample(guided, (3, 2), nfe=21, full=True).nfe == 20
    with pytest.raises(sk.errors.InvalidArgument, match="nfe must be at least 2, got nfe=1"):
        sk.sample(guided, (3, 2), nfe=1)
    one = sk.sample(model, (3, 2), nfe=1)
    start = model.sde.prior.sample((3, 2), sk.Noise(0), dtype=F64)
    torch.testing.assert_close(one, model(start, 1.0).x0, rtol=1e-12, atol=1e-12)


def test_the_rule_for_a_budget_is_the_documented_one():
    """Four points of the velocity in the angle, corrected, on the angle's grid down to a fifth of std / N, with a floor
    that is higher for few steps."""
    model = mixture(sk.VPSDE().with_prior(0.3, 1.4))
    grid = functools.partial(sk.grids.angle, end=1.4 / 100, floor=0.05 + 0.0025)
    solver = Multistep(points=4, view="velocity", coordinate="angle", corrector=True)
    assert torch.equal(sk.sample(model, (4, 2), nfe=20), sk.sample(model, (4, 2), solver=solver, grid=grid, steps=20))
    whole = functools.partial(sk.grids.angle, floor=0.05 + 0.0025)
    to_t_min = sk.sample(model, (4, 2), solver=solver, grid=whole, steps=20, denoise=False)
    assert torch.equal(sk.sample(model, (4, 2), nfe=20, denoise=False), to_t_min)
    assert for_budget(model, 8, DDIM(), "karras") == (DDIM(), 8, "karras")
    of_one_value = mixture(sk.VPSDE().with_prior(0.0, 0.0))
    with pytest.raises(sk.errors.UnsupportedCombination, match="the angle needs data of a std > 0"):
        sk.sample(of_one_value, (4, 2), nfe=20)


def perturbed(estimate):
    """A mixture's exact estimate and a smooth error of 0.02, as a network's is: eps or x0."""
    sde = sk.VPSDE(t_min=1e-3)
    means = torch.tensor([[-1.0, 0.5], [0.8, -0.3], [0.2, 1.5]], dtype=F64)
    exact = sk.models.GaussianMixture(sde, [0.5, 0.3, 0.2], means, torch.tensor([0.05, 0.1, 0.02], dtype=F64))

    def network(x, t):
        t = torch.as_tensor(t, dtype=F64)
        there = exact(x, t.reshape(-1) if t.ndim else t)
        return getattr(there, estimate) + 0.02 * torch.sin(3 * x + 2 * sde.log_snr(t))

    return sk.models.FromFunction(sde, **{estimate: network})


@pytest.mark.parametrize("n", [5, 10, 20, 50])
def test_a_network_of_noise_takes_the_rule_of_networks_of_noise(n):
    """An error of eps is sigma / alpha times as large in x0, which has a pole in the angle: the rule is off by 0.7 of
    what the one in the angle is at 5 evaluations, by half from 10 on and a tenth at 50, and by at most 1.3 times what
    UniPC(3) is on log-SNR, from the end of the network's own flow at a tolerance of 1e-8. A network of the data takes
    the rule in the angle."""
    for estimate, grids in (("eps", (0.2, 1.6)), ("x0", (0.05, 0.05))):
        model = perturbed(estimate)
        start = model.sde.prior.sample((200, 2), sk.Noise(0), dtype=F64)
        exact = sk.sample(model, x_T=start, solver=ProbabilityFlow(ode.Dopri5(1e-8, 1e-8), "angle"), steps=2)

        def error(solver, grid, model=model, start=start, exact=exact):
            x = sk.sample(model, x_T=start, solver=solver, grid=grid, nfe=n)
            return float((x - exact).square().mean().sqrt())

        floors = [floor + 20 / n**3 for floor in (0.05, grids[n >= 15])]
        angle, own = (functools.partial(sk.grids.angle, end=0.2 / n, floor=floor) for floor in floors)
        noisy = Multistep(3 if n >= 15 else 2, view="x0", coordinate="log_snr")
        rule = error(None, None)
        assert rule == error(noisy if estimate == "eps" else Multistep(), own)
        if estimate == "eps":
            assert rule < {5: 0.7, 10: 0.5, 20: 0.5, 50: 0.1}[n] * error(Multistep(), angle)
            assert rule < 1.3 * error(sk.solvers.UniPC(3), "log_snr")


@pytest.mark.parametrize("sde", [sk.VPSDE(), sk.VESDE(), sk.EDMSDE(), sk.FlowSDE()], ids=lambda v: type(v).__name__)
def test_which_networks_estimate_noise(sde):
    """Those whose quantity p x0 + q eps is noise at t_max, whatever stands around them."""
    m = sk.models

    def network(x, label, **condition):
        return x

    table = sk.sdes.DiscreteVPSDE()
    noise = [m.Parametrised(network, sde, row) for row in (m.Epsilon(), m.Score(), m.ScaledScore())]
    noise.append(m.Parametrised(network, table, m.PosteriorMean()))  # whose parts of x0 and eps cancel
    noise += [m.FromFunction(sde, **{view: network}) for view in ("eps", "score")]
    data = [m.Parametrised(network, sde, row) for row in (m.X0(), m.VPrediction(), m.Karras())]
    data += [m.FromFunction(sde, x0=network), mixture(sde)]
    for expected, models in ((True, noise), (False, data)):
        for model in models:
            around = [
                model,
                model.given(y=1),
                sk.convert(model, sde=model.sde),
                sk.guidance.ClassifierFree(model, model, 2.0),
                sk.guidance.Classifier(model, lambda x, t: x.sum(1), 1.0),
                m.AnalyticVariance(model, m.NoiseResidual((-1.0, 1.0), (0.5, 0.5))),
                Counted(model, 1),
                Whole(model),
                Watched(model, print),
            ]
            assert [other.estimates_noise for other in around] == [expected] * len(around)


def test_a_rule_counts_calls_and_its_floor_steps():
    """A guided model's two evaluations are one call; what is given stays, and the floor is that of the steps."""
    model = perturbed("eps")
    few, many = (Multistep(points, view="x0", coordinate="log_snr") for points in (2, 3))
    guided = sk.guidance.ClassifierFree(model, model, 2.0)
    for asked, solver, steps, floor in (
        (for_budget(model, 14), few, 14, 0.2),
        (for_budget(model, 15), many, 15, 1.6),
        (for_budget(guided, 28), few, 14, 0.2),
        (for_budget(guided, 30), many, 15, 1.6),
        (for_budget(model, 29, Heun()), Heun(), 15, 1.6),
        (for_budget(model, 27, Heun()), Heun(), 14, 0.2),
        (for_budget(model, 20, DDIM()), DDIM(), 20, 1.6),
    ):
        assert asked[:2] == (solver, steps)
        assert asked[2].keywords == {"end": 1 / (5 * steps), "floor": floor + 20 / steps**3}
    assert for_budget(model, 20, denoise=False)[2].keywords["end"] is None
    assert for_budget(model, 20, grid="karras") == (many, 20, "karras")


@pytest.mark.parametrize("n", [8, 10, 20, 50])
@pytest.mark.parametrize("sde", [sk.VPSDE(), sk.EDMSDE(), sk.FlowSDE(), sk.CosineSDE()], ids=lambda v: type(v).__name__)
def test_the_rule_is_at_least_twice_as_accurate_as_second_order_on_log_snr(sde, n):
    """End of the probability flow from one start, against 1,000 evaluations: root mean square over 64 rows. The
    negative control, a budget half as large, is worse."""
    means = torch.tensor([[1.5, 0.0], [-1.0, 0.8], [0.0, -1.2]], dtype=F64)
    model = sk.models.GaussianMixture(sde.with_prior(0.0, 1.0), [0.5, 0.3, 0.2], means, 0.04)
    start = model.sde.prior.sample((64, 2), sk.Noise(3), dtype=F64)
    exact = sk.sample(model, x_T=start, nfe=1000)

    def error(**how):
        return float((sk.sample(model, x_T=start, **how) - exact).square().mean().sqrt())

    assert error(nfe=n) < 0.5 * error(solver=DPMSolver(), steps=n)
    assert error(nfe=n) < error(nfe=n // 2)


@pytest.mark.parametrize("sde", [sk.VPSDE(), sk.SubVPSDE(), sk.VESDE(), sk.EDMSDE(), sk.FlowSDE(), sk.CosineSDE()])
def test_the_error_of_a_budget_has_no_floor(sde):
    """On a Gaussian, whose flow to the data is m + sqrt(v / (alpha^2 v + sigma^2)) (x - alpha m): below 1e-6 with 100
    evaluations, below 1e-8 with 400."""
    mean, variances = torch.tensor([0.4, -0.1], dtype=F64), torch.tensor([0.1, 1.5], dtype=F64)
    model = sk.models.GaussianMixture(sde.with_prior(0.0, 1.0), [1.0], mean[None], torch.diag(variances)[None])
    x = model.sde.prior.sample((64, 2), sk.Noise(3), dtype=F64)
    alpha, sigma = (float(f(sde.t_max)) for f in (sde.alpha, sde.sigma))
    exact = mean + torch.sqrt(variances / (alpha**2 * variances + sigma**2)) * (x - alpha * mean)
    errors = [float((sk.sample(model, x_T=x, nfe=n) - exact).square().mean().sqrt()) for n in (100, 400)]
    assert errors[0] < 1e-6
    assert errors[1] < min(0.1 * errors[0], 1e-8)


def flows(d):
    """Six processes: a model, starts, and the ends of the flow, by 1,000 evaluations."""
    draws = sk.Noise(5).normal((4, d), stream="means", dtype=F64)
    found = []
    for sde in (sk.VPSDE(), sk.SubVPSDE(), sk.VESDE(), sk.EDMSDE(), sk.FlowSDE(), sk.CosineSDE()):
        model = sk.models.GaussianMixture(sde.with_prior(0.0, 1.0), torch.ones(4), draws, torch.full((4,), 0.2**2))
        start = model.sde.prior.sample((64, d), sk.Noise(3), dtype=F64)
        found.append((model, start, sk.sample(model, x_T=start, nfe=1000, denoise=False)))
    return found


@pytest.mark.parametrize("d", [1, 2, 16])
def test_a_tolerance_is_kept_and_not_wasted(d):
    """Over six processes, root mean square errors at the end of the flow, against 1,000 evaluations: at most 3 tol, and
    not below tol / 30 on average. Each row says what it has cost, and its own estimate of its error."""
    found = flows(d)
    for tol in (1e-2, 1e-3, 1e-5):
        check_tolerance(tol, found)


def check_tolerance(tol, flows):
    ratios = []
    for model, start, exact in flows:
        r = sk.sample(model, x_T=start, tol=tol, denoise=False, full=True)
        ratios.append(float((r.x - exact).square().mean().sqrt()) / tol)
        assert r.nfe.shape == r.error.shape == (64,)
        alone = sk.sample(model, x_T=start[7:8], tol=tol, denoise=False, full=True)
        assert int(torch.as_tensor(alone.nfe)) == int(r.nfe[7])
        torch.testing.assert_close(alone.x, r.x[7:8], rtol=0, atol=1e-9)
    assert max(ratios) <= 3
    assert sum(ratios) / len(ratios) >= 1 / 30


def test_a_hard_row_neither_slows_nor_spoils_the_others():
    """An outlier among 99 easy rows: their ends and costs are what they are without it."""
    model = mixture(sk.EDMSDE().with_prior(0.0, 1.0))
    start = model.sde.prior.sample((100, 2), sk.Noise(3), dtype=F64)
    alone = sk.sample(model, x_T=start[1:], tol=1e-4, full=True)
    start[0] = 1e6
    r = sk.sample(model, x_T=start, tol=1e-4, full=True)
    assert torch.equal(r.nfe[1:], alone.nfe)
    torch.testing.assert_close(r.x[1:], alone.x, rtol=0, atol=1e-9)


def test_a_grid_of_times_is_used_as_it_is():
    """N times are N steps with the clean level behind them, N - 1 without; EDM's 18 steps are 35 evaluations."""
    model = mixture(sk.EDMSDE())
    times = sk.grids.karras(sk.EDMSDE(), 17)
    assert sk.sample(model, (2, 2), solver=Heun(), grid=times, full=True).nfe == 35
    assert sk.sample(model, (2, 2), solver=Heun(), grid="karras", steps=18, full=True).nfe == 35
    assert sk.sample(model, (2, 2), solver=DDIM(), grid=times, denoise=False, full=True).nfe == 17
    assert sk.sample(model, (2, 2), solver=DDIM(), grid=times.tolist(), full=True).nfe == 18
    # a start in the middle of the process
    x = model.sample(3, sk.Noise(0), t=1.0)
    assert sk.sample(model, x_T=x, solver=DDIM(), grid=[1.0, 0.1]).shape == (3, 2)


def test_conditions_follow_their_rows_through_chunks_and_adaptive_subsets():
    """A model told its row's mean by a condition samples that mean, whatever the chunk and the order."""
    sde = sk.VPSDE()

    def score(x, t, mean):
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        return -(x - alpha * mean[:, None].to(x)) / (0.01 * alpha**2 + sigma**2)

    means = torch.linspace(-5, 5, 130, dtype=F64)
    model = sk.models.FromFunction(sde, score=score).given(mean=means)
    for solver, steps in ((DDIM(), 30), (ProbabilityFlow(), 2)):
        for per_sample in (False, True):
            x = sk.sample(model, (130, 1), solver=solver, steps=steps, per_sample=per_sample, dtype=F64)
            assert float((x[:, 0] - means).abs().max()) < 1.0
    assert torch.equal(model.condition["mean"], means)


def test_an_empty_batch_returns_an_empty_batch_without_a_network_call():
    """(0, 1, 8, 8) -> (0, 1, 8, 8)."""
    model = sk.models.FromFunction(sk.VPSDE(), eps=lambda x, t: 1 / 0)
    for settings in ({}, {"per_sample": True}):
        assert sk.sample(model, (0, 1, 8, 8), **settings).shape == (0, 1, 8, 8)
    assert sk.sample(model, x_T=torch.empty(0, 3)).shape == (0, 3)


def test_gradients_flow_through_a_trajectory():
    """d x_0 / d x_T of a deterministic sampler against finite differences (gradcheck)."""
    model = mixture(sk.VPSDE())
    x_T = sk.Noise(0).normal((2, 2), stream="x", dtype=F64).requires_grad_()

    def end(x):
        return last(sk.trajectory(model, DPMSolver(2), x, "log_snr", sk.Noise(0), steps=6)).x

    assert torch.autograd.gradcheck(end, (x_T,))


def test_progress_shows_a_bar_and_changes_nothing(capsys):
    """The bar goes to standard error."""
    model = mixture(sk.VPSDE())
    a = sk.sample(model, (2, 2), steps=5, progress=True)
    assert "DPMSolver(order=2, view='x0')" in capsys.readouterr().err
    assert torch.equal(a, sk.sample(model, (2, 2), steps=5))


def test_the_device_is_the_model_s():
    """A device that is not the model's is refused; naming the model's own is fine."""
    model = mixture(sk.VPSDE())
    assert sk.sample(model, (2, 2), steps=2, device="cpu").device.type == "cpu"
    with pytest.raises(sk.errors.InvalidArgument, match=r"device must be the model's, cpu, got meta; move it first"):
        sk.sample(model, (2, 2), device="meta")


class Refuses(sk.models.ScoreModel):
    """A model that must not be asked."""

    def __init__(self):
        super().__init__()
        self.sde = sk.VPSDE()

    def forward(self, x, t, **condition):
        raise AssertionError("the network was called")


X = torch.zeros(3, 2)
BAD = [
    (lambda m: sk.sample(torch.nn.Identity(), (3, 2)), "model must be a ScoreModel.*wrap a network"),
    (sk.sample, r"shape \(B, \*event\) or x_T must be given"),
    (lambda m: sk.sample(m, (-1, 2)), r"shape\[0\] must be at least 0, got shape\[0\]=-1"),
    (lambda m: sk.sample(m, (3, 2.5)), r"shape\[1\] must be a whole number"),
    (lambda m: sk.sample(m, "32"), "shape must be"),
    (lambda m: sk.sample(m, ()), "shape must be"),
    (lambda m: sk.sample(m, (3, 2), x_T=X[:2]), "shape must be left out where x_T is given"),
    (lambda m: sk.sample(m, x_T=X.int()), "x_T must be of a floating-point dtype, got torch.int32"),
    (lambda m: sk.sample(m, x_T=X / 0), "x_T must be finite, got NaN or infinity in 3 of 3 rows"),
    (lambda m: sk.sample(m, x_T=torch.tensor(1.0)), "x_T must be of shape"),
    (lambda m: sk.sample(m, x_T=[[0.0]]), "x_T must be a tensor"),
    (lambda m: sk.sample(m, (3, 2), solver="ddim"), "solver must be one such as DDIM"),
    (lambda m: sk.sample(m, (3, 2), solver=DDIM), "give an instance"),
    (lambda m: sk.sample(m, (3, 2), steps=0), "steps must be at least 1, got steps=0"),
    (lambda m: sk.sample(m, (3, 2), steps=-3), "steps must be at least 1, got steps=-3"),
    (lambda m: sk.sample(m, (3, 2), steps=2.5), "steps must be a whole number"),
    (lambda m: sk.sample(m, (3, 2), steps=True), "steps must be a whole number"),
    (
        lambda m: sk.sample(m, (3, 2), grid="cosine"),
        "grid must be one of uniform, log_snr, karras, quadratic, .*got 'cosine'",
    ),
    (lambda m: sk.sample(m, (3, 2), grid=[1.0, 0.5, 0.7]), "must decrease strictly.*at index 1"),
    (lambda m: sk.sample(m, (3, 2), grid=[1.0, 0.5, 0.5]), "must decrease strictly"),
    (lambda m: sk.sample(m, (3, 2), grid=[1.5, 0.5]), r"must lie within VPSDE's \[0.0001, 1\], got 1.5 to 0.5"),
    (lambda m: sk.sample(m, (3, 2), grid=[1.0, 0.0]), "must lie within"),
    (lambda m: sk.sample(m, (3, 2), grid=[1.0, float("nan")]), "times must be finite"),
    (lambda m: sk.sample(m, (3, 2), grid=torch.ones(2, 2)), r"times must be real, of shape \(N,\)"),
    (lambda m: sk.sample(m, (3, 2), grid=[1.0, 0.5], steps=5), "steps must be 2 for 2 times"),
    (lambda m: sk.sample(m, (3, 2), grid=[1.0], denoise=False), "needs at least 2 times"),
    (
        lambda m: sk.sample(m, (3, 2), grid=[0.5, 0.1]),
        "a run that starts at t=0\\.5, where .*needs x_T or the data's moments",
    ),
    (lambda m: sk.sample(m, (3, 2), seed=-1), "seed must be at least 0"),
    (lambda m: sk.sample(m, (3, 2), seed="abc"), "seed must be a whole number"),
    (lambda m: sk.sample(m, (3, 2), seed=2**63), "seed must be below 2"),
    (lambda m: sk.sample(m, (3, 2), dtype=torch.int64), "dtype must be a floating-point torch.dtype"),
    (lambda m: sk.sample(m, (3, 2), device="warp"), "device must be one such as"),
    (lambda m: sk.sample(m, (3, 2), ids=[1, 2, 3]), "ids need per_sample=True"),
    (lambda m: sk.sample(m, (3, 2), ids=[1, 1, 3], per_sample=True), "ids must be distinct"),
    (lambda m: sk.sample(m, (3, 2), ids=[1, 2], per_sample=True), "ids must name every row, got 2 ids for 3 rows"),
    (lambda m: sk.sample(m, (3, 2), noise=sk.Noise(0), per_sample=True), "noise must be keyed with per_sample=True"),
    (lambda m: sk.sample(m, (3, 2), noise=sk.KeyedNoise(0), ids=[1, 2, 3], per_sample=True), "ids must be left out"),
    (lambda m: sk.sample(m, (3, 2), noise=sk.BrownianPath(0, [1])), "ids must name every row, got 1 ids for 3 rows"),
    (lambda m: sk.sample(m, (3, 2), ids=3, per_sample=True), "ids must be whole numbers"),
    (lambda m: sk.sample(m, (3, 2), noise=3), "sample: noise must be a source such as"),
    (lambda m: sk.sample(m, (3, 2), noise=sk.Noise), "sample: noise must be a source such as"),
    (lambda m: sk.sample(m, (3, 2), noise=sk.KeyedNoise(0, [1])), "ids must name every row, got 1 ids for 3 rows"),
    (lambda m: sk.sample(m, (3, 2), x_T=[[1.0, 2.0]]), "x_T must be a tensor"),
    (lambda m: sk.sample(m, 3, x_T=X), "shape must be"),
    (lambda m: sk.sample(m, (4, 2), x_T=X), "shape must be left out where x_T is given"),
    (
        lambda m: sk.sample(m.given(y=torch.arange(5)), (3, 2)),
        "condition y must hold one entry a row, got 5 entries for 3",
    ),
    (lambda m: sk.sample(m.given(y=torch.arange(2)), (3, 2), per_sample=True), "got 2 entries for 3 rows"),
    (lambda m: Langevin(snr=1.0), "Langevin: snr must be finite and > 0 and < 1"),
    (lambda m: PredictorCorrector(PredictorCorrector()), "predictor must not correct itself"),
    (lambda m: sk.trajectory(m, DDIM(), X, "log_snr", 0, steps=3), "trajectory: noise must be a source"),
    (lambda m: sk.trajectory(m, DDIM(), X, "log_snr", sk.BrownianPath(0, [1]), steps=3), "got 1 ids for 3 rows"),
    (lambda m: sk.trajectory(m.given(y=X[:2]), DDIM(), X, "log_snr", sk.Noise(0), steps=3), "got 2 entries for 3 rows"),
    (lambda m: sk.trajectory(m, DDIM(), X, "log_snr", sk.Noise(0)), "steps must be given"),
    (lambda m: sk.trajectory(m, DDIM(), X / 0, "log_snr", sk.Noise(0), steps=3), "x_T must be finite"),
    (lambda m: sk.trajectory(m, "ddim", X, "log_snr", sk.Noise(0), steps=3), "solver must be one such as"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_input_is_refused_before_the_first_network_call(call, message):
    """The error names the argument, what was given and what would be right."""
    with pytest.raises((sk.errors.InvalidArgument, sk.errors.InvalidType), match=message):
        call(Refuses())


def test_samples_that_are_not_finite_are_refused_by_row():
    """No NaN leaves silently."""
    model = sk.models.FromFunction(sk.VPSDE(), eps=lambda x, t: torch.where(x[:, :1] > 0, torch.nan, x))
    start = torch.tensor([[-1.0], [1.0], [-2.0]])
    with pytest.raises(sk.errors.NonFiniteError, match=r"1 of 3 rows \(rows 1\)"):
        sk.sample(model, x_T=start, solver=DDIM(), steps=2)


@pytest.mark.parametrize("bad", [lambda x, t: x[:1], lambda x, t: x[:, 0], lambda x, t: 3.0])
def test_a_network_never_broadcasts(bad):
    """An output of another shape than x is refused, where others would broadcast it."""
    with pytest.raises((sk.errors.InvalidArgument, sk.errors.InvalidType), match="the network must return"):
        sk.sample(sk.ddpm(bad), (4, 2), steps=2)


class Asks(DDIM):
    """A solver that looks at its model."""

    seen: list = []  # noqa: RUF012

    def step(self, model, state, s, noise):
        self.seen.append((set(model.condition), model.dtype, model.device))
        return super().step(model, state, s, noise)


def test_a_solver_sees_the_models_condition_dtype_and_device():
    model = mixture(sk.VPSDE())
    wrapped = sk.models.FromFunction(sk.VPSDE(), eps=lambda x, t, y: model(x, t).eps).given(y=torch.arange(3))
    Asks.seen.clear()
    sk.sample(wrapped, (3, 2), solver=Asks(), steps=2, dtype=F64)
    sk.sample(model, (3, 2), solver=Asks(), steps=1)
    assert Asks.seen == [({"y"}, wrapped.dtype, None)] * 2 + [(set(), F64, torch.device("cpu"))]


@pytest.mark.parametrize("per_sample", [False, True])
def test_an_adaptive_run_knows_its_error(per_sample):
    """The sum of local estimates: of the size of the true error, and smaller where the tolerance is."""
    model = mixture(sk.VPSDE())
    errors = []
    for tol in (1e-3, 1e-6):
        solver = ProbabilityFlow(ode.Dopri5(rtol=tol, atol=tol))
        r = sk.sample(model, (20, 2), solver=solver, full=True, per_sample=per_sample)
        assert r.error.shape == (20,)
        exact = sk.sample(model, (20, 2), solver=ProbabilityFlow(ode.Dopri5(1e-10, 1e-10)), per_sample=per_sample)
        assert float((r.x - exact).abs().max()) < 100 * float(r.error.max()) < 1e4 * tol
        errors.append(float(r.error.max()))
    assert errors[1] < 1e-2 * errors[0]
    assert sk.sample(model, (20, 2), solver=DDIM(), full=True, per_sample=per_sample).error is None


def test_a_grid_in_float32_starts_and_ends_where_the_process_does():
    sde = sk.VPSDE(t_max=0.9, t_min=1e-3)
    grid = torch.linspace(0.9, 1e-3, 5)
    run = sk.grids.levels(sde, grid)
    assert (run[0].t, run[-2].t) == (0.9, 1e-3)
    assert sk.sample(mixture(sde), (2, 2), grid=grid).shape == (2, 2)


def test_a_trajectory_is_the_model_in_evaluation_mode():
    """Dropout neither acts nor draws, and the model is in its own mode wherever the caller looks at it."""
    network = torch.nn.Sequential(torch.nn.Dropout(0.5))
    model = sk.ddpm(lambda x, label: network(x))
    model.inner = network
    assert network.training
    films = []
    for _ in range(2):
        states = []
        for state in sk.trajectory(model, DDIM(), torch.ones(4, 2), "log_snr", sk.Noise(0), steps=4):
            assert network.training
            states.append(state.x)
        films.append(torch.stack(states))
    assert torch.equal(*films)
