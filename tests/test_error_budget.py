"""The error on the label: each part of the budget against the error it bounds, and the trace's interval."""

import math

import pytest
import torch
from honest import bounded
from problems import F64, gaussians, mixture

import sdekit as sk
from sdekit import ode
from sdekit.density.flow import FlowWithDensity, Probes
from sdekit.likelihood import budget
from sdekit.noise.named import Named
from sdekit.solvers.probability_flow import Flow, InAngle, InTime

PROCESSES = [sk.VPSDE(), sk.SubVPSDE(), sk.VESDE(), sk.EDMSDE(), sk.FlowSDE(), sk.DiscreteVPSDE()]


def at_the_end(model):
    """log p_T itself."""
    return lambda x: model.log_prob(x, model.sde.t_max)


def clean(model):
    """The law of clean data, as torch has it."""
    k, d = model.means.shape
    parts = torch.distributions.MultivariateNormal(model.means, model.covariances().reshape(k, d, d))
    return torch.distributions.MixtureSameFamily(torch.distributions.Categorical(model.weights), parts)


@pytest.mark.parametrize("frame", [InTime, InAngle])
@pytest.mark.parametrize("fresh", [False, True])
def test_an_error_is_weighed_by_the_gradient_of_the_density(frame, fresh):
    """|grad log p_u(w) . dw + dl| and the root of the squares, the gradient that of the exact density in the frame."""
    model = mixture(sk.VPSDE().with_prior(0.3, 1.7))
    g = torch.Generator().manual_seed(0)
    x = torch.randn(5, 2, generator=g, dtype=F64)
    level = model.sde.one(0.4)
    where = frame(model.sde)
    trace = sk.Hutchinson(3, fresh=fresh)
    field = FlowWithDensity(Flow(model, frame=where), (2,), Probes(trace, x, sk.Noise(0)))
    w = where.enter(x, level).requires_grad_()
    (gradient,) = torch.autograd.grad(model.log_prob(where.leave(w, level), 0.4).sum(), w)
    start = torch.cat([w.detach(), torch.zeros(5, 3, dtype=F64)], 1)
    u = torch.full((5,), where.position(level), dtype=F64)
    error = torch.randn(5, 5, generator=g, dtype=F64)
    path, density = error[:, :2], error[:, 2:].mean(1)
    if fresh:
        path, density = 2 * path, 0 * density
    apart = torch.cat([(gradient.abs() + 1 / where.std) * path, density[:, None]], 1).norm(dim=1)
    want = ((gradient * path).sum(1) + density).abs() + apart
    torch.testing.assert_close(field.weigh(error, start, field(start, u), u), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sde", PROCESSES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("d", [1, 2, 8])
def test_the_solver_s_part_bounds_the_solver_s_error(sde, d):
    """With the exact prior and trace, in 99 rows of 100 at least, and not by more than 300 times in the median."""
    model = mixture(sde, (d,))
    x = model.sample(100, sk.Noise(0), t=sde.t_min)
    for tol in ("fast", "default"):
        r = sk.log_likelihood(model, x, tol=tol, prior=at_the_end(model))
        wrong = (r.log_prob - model.log_prob(x, sde.t_min)).abs()
        assert float((wrong <= r.solver).double().mean()) >= 0.99
        assert float((r.solver / wrong).median()) < 300


@pytest.mark.parametrize("method", [ode.RK4(40), ode.SciPy("RK45", 1e-4, 1e-4), ode.TorchDiffEq("dopri5", 1e-4, 1e-4)])
def test_a_second_tolerance_bounds_the_error_of_methods_without_an_estimate(method):
    """The run of half the steps or of ten times the tolerance is counted among the evaluations."""
    model = mixture(sk.VPSDE())
    x = model.sample(50, sk.Noise(0), t=model.sde.t_min)
    r = sk.log_likelihood(model, x, method=method, prior=at_the_end(model))
    wrong = (r.log_prob - model.log_prob(x, model.sde.t_min)).abs()
    # one norm serves the batch: of a row, the libraries' is an estimate
    assert float((wrong <= r.solver).double().mean()) >= (0.99 if method.evaluations else 0.9)
    alone = sk.log_likelihood(model, x, method=method, budget=False)
    half = sk.log_likelihood(model, x, method=method.coarser(), budget=False)
    assert torch.equal(r.nfe, alone.nfe + half.nfe + budget.PRIOR_NFE + budget.TRUNCATION_NFE)
    assert alone.error is alone.solver is alone.prior is alone.truncation is None


def test_the_second_run_s_part_is_three_times_what_both_terms_differ_by():
    """The prior's term at x_T and the divergence's are taken apart, for they cancel; of the two runs by themselves."""
    model = mixture(sk.VPSDE())
    x = model.sample(6, sk.Noise(0), t=model.sde.t_min)
    seen = []
    for steps in (16, 8):
        whole = sk.log_likelihood(model, x, method=ode.RK4(steps), budget=False).log_prob
        at_x_T = model.sde.prior.log_prob(sk.encode(model, x, method=ode.RK4(steps)))
        seen.append((at_x_T, whole - at_x_T))
    (here, way), (far, other) = seen
    r = sk.log_likelihood(model, x, method=ode.RK4(16))
    torch.testing.assert_close(r.solver, 3 * ((here - far).abs() + (way - other).abs()), rtol=1e-8, atol=1e-10)


def test_the_evaluations_of_the_budget_are_counted():
    """As the network's calls: 18 for the prior's part and 3 for the truncation's, of every row."""
    calls = []
    sde = sk.VPSDE()
    model = sk.models.FromFunction(sde, eps=lambda x, t: calls.append(len(x)) or 0.5 * x)
    for method in (ode.RK4(1), ode.RK4(4)):
        calls.clear()
        r = sk.log_likelihood(model, torch.ones(3, 2, dtype=F64), method=method)
        assert calls == [3] * int(r.nfe[0])
        assert len(calls) == 18 + 3 + {1: 4, 4: 16 + 8}[method.steps]


def test_the_prior_s_part_on_gaussian_data_is_its_formula():
    """Of a log p_T that is quadratic the line integrals are exact: what is left is the mean of p_T / q over eight draws
    of the process's prior q, and Student's 99.5 % quantile of its standard error, as torch has them."""
    sde = sk.VPSDE(beta_max=6.0)
    model = sk.models.GaussianMixture(sde, [1.0], torch.tensor([[0.5, -1.0]], dtype=F64), 0.3)
    x, noise = model.sample(5, sk.Noise(1), t=sde.t_max), sk.KeyedNoise(4)
    q = sde.prior
    draws = [q.sample((5, 2), Named(noise, k), dtype=F64, device=x.device) for k in range(8)]
    ratio = torch.stack([(model.log_prob(z, sde.t_max) - q.log_prob(z)).exp() for z in draws])
    mean, error = ratio.mean(0), ratio.std(0) / math.sqrt(8)
    want = (model.log_prob(x, sde.t_max) - mean.log() - q.log_prob(x)).abs() + 3.5 * error / mean
    found = budget.prior_mismatch(model, x, q.log_prob, noise)
    torch.testing.assert_close(found, want, rtol=1e-9, atol=1e-12)


def test_one_step_has_no_error_estimate():
    """There is no coarser method: what is not known is not bounded."""
    model = mixture(sk.VPSDE())
    r = sk.log_likelihood(model, torch.zeros(2, 2), method=ode.RK4())
    assert r.solver.tolist() == r.error.tolist() == [math.inf] * 2


def priors(model, d):
    """The process's own, one fitted to the data, one that is off by a tenth, and the exact one."""
    sde = model.sde
    data = model.sample(5000, sk.Noise(5), t=sde.t_min)
    off = torch.distributions.Normal(torch.tensor(0.1, dtype=F64), 1.1 * torch.as_tensor(sde.prior.std, dtype=F64))
    return {
        "own": sde.prior.log_prob,
        "fitted": sk.sdes.FittedPrior(sde, data).log_prob,
        "off": lambda x: off.log_prob(x).sum(1),
        "exact": at_the_end(model),
    }


@pytest.mark.parametrize("sde", PROCESSES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("d", [1, 2, 16])
def test_the_prior_s_part_bounds_what_the_prior_is_off_by(sde, d):
    """In 99 rows of 100 at least; the median bound is at most 5 times the difference, and nothing for p_T itself."""
    model = mixture(sde, (d,), components=4, seed=3)
    x = model.sample(500, sk.Noise(1), t=sde.t_max)
    true, found = {}, {}
    with torch.no_grad():
        for name, density in priors(model, d).items():
            true[name] = (model.log_prob(x, sde.t_max) - density(x)).abs()
            found[name] = budget.prior_mismatch(model, x, density, sk.KeyedNoise(0))
    for name in ("own", "fitted", "off"):
        assert float((true[name] <= found[name]).double().mean()) >= 0.99
        assert float((found[name] / true[name]).median()) < 5
    assert float(found["exact"].max()) < 1e-3 * float(true["own"].max())
    assert float(true["fitted"].square().mean()) < 0.2**2 * float(true["own"].square().mean())


def test_a_fitted_prior_is_the_moments_of_p_T():
    """Its density and its draws are those of N(alpha m, alpha^2 C + sigma^2), with numpy's m and C."""
    sde = sk.VPSDE(beta_max=8.0)
    model = mixture(sde, (3,))
    data = model.sample(400, sk.Noise(0), t=sde.t_min)
    prior = sk.sdes.FittedPrior(sde, data)
    a, s = float(sde.alpha(1.0)), float(sde.sigma(1.0))
    c = a * a * torch.cov(data.mT) + s * s * torch.eye(3, dtype=F64)
    want = torch.distributions.MultivariateNormal(a * data.mean(0), c)
    x = data[:7]
    torch.testing.assert_close(prior.log_prob(x), want.log_prob(x), rtol=1e-12, atol=1e-12)
    z = sk.Noise(3).normal((7, 3), stream="prior", dtype=F64)
    drawn = prior.sample((7, 3), sk.Noise(3), dtype=F64)
    torch.testing.assert_close(drawn, want.loc + z @ torch.linalg.cholesky(c).mT, rtol=1e-12, atol=1e-12)
    assert float(sk.log_likelihood(model, x, prior=prior).error.max()) < float(sk.log_likelihood(model, x).error.max())


@pytest.mark.parametrize("sde", PROCESSES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("d", [1, 2, 16])
def test_the_truncation_s_part_is_what_stopping_at_t_min_changes(sde, d):
    """It bounds |log p_0 - log p_(t_min)| in 99 rows of 100 at least, and within a tenth in the median."""
    model = mixture(sde, (d,))
    x = model.sample(200, sk.Noise(0), t=sde.t_min)
    r = sk.log_likelihood(model, x, method=ode.RK4(2))
    true = (clean(model).log_prob(x) - model.log_prob(x, sde.t_min)).abs()
    assert float((true <= r.truncation).double().mean()) >= 0.99
    assert float((r.truncation / true).median()) < 1.1


def test_the_truncation_of_a_gaussian_is_its_closed_form():
    """Eight variances of 0.04 to 2 at a mean: log N(x; m, v) - log N(x; alpha m, alpha^2 v + sigma^2)."""
    from problems import MEANS, VARIANCES

    for sde in PROCESSES:
        model = gaussians(sde)
        x = MEANS + VARIANCES.sqrt() * sk.Noise(0).normal((50, 8), stream="data", dtype=F64)
        a, s = float(sde.alpha(sde.t_min)), float(sde.sigma(sde.t_min))
        here = torch.distributions.Normal(a * MEANS, (a * a * VARIANCES + s * s).sqrt()).log_prob(x).sum(1)
        true = (torch.distributions.Normal(MEANS, VARIANCES.sqrt()).log_prob(x).sum(1) - here).abs()
        found = sk.log_likelihood(model, x, method=ode.RK4(2)).truncation
        assert float((true <= found).double().mean()) >= 0.98
        assert float((found / true).median()) < 1.1


@pytest.mark.parametrize("sde", PROCESSES, ids=lambda s: type(s).__name__)
def test_the_error_bounds_all_at_once(sde):
    """The process's own prior and the default tolerance: in 99 rows of 100 at least."""
    model = mixture(sde, (4,))
    x = model.sample(200, sk.Noise(0), t=sde.t_min)
    r = sk.log_likelihood(model, x)
    wrong = (r.log_prob - model.log_prob(x, sde.t_min)).abs()
    assert float((wrong <= r.error).double().mean()) >= 0.99
    torch.testing.assert_close(r.error, r.solver + r.prior)
    low, high = r.interval()
    torch.testing.assert_close(high - low, 2 * r.error)


@pytest.mark.statistical
@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("n", [2, 4])
def test_the_trace_s_interval_covers_the_truth(n, fresh, seed):
    """95 % intervals of 1,000 rows in 16 coordinates cover it in 93 to 99.9 % of them: to 4 % of 95. One standard error
    covers less."""
    sde = sk.VPSDE()
    model = mixture(sde, (16,), components=4, seed=3)
    x = model.sample(1000, sk.Noise((seed, 1)), t=sde.t_min)
    trace = sk.Hutchinson(n, fresh=fresh)
    r = sk.log_likelihood(model, x, tol=1e-3, trace=trace, prior=at_the_end(model), budget=False, seed=(seed, 2))
    low, high = r.interval()
    true = model.log_prob(x, sde.t_min)
    covered = float(((low <= true) & (true <= high)).double().mean())
    bounded(covered, 1000, 0.95, 0.0, 1.0, sd=0.25).holds(detects=0.15)
    one = float(((r.log_prob - true).abs() <= r.trace_se).double().mean())
    bounded(one, 1000, 0.95, 0.0, 1.0, sd=0.25).fails()


def test_fresh_probes_at_every_evaluation_err_less():
    """At the same number of probes their standard error is less than half of fixed ones', and unbiased.

    At one tolerance of each step's path, for both: what is averaged over is the evaluations.
    """
    sde = sk.VPSDE()
    model = mixture(sde, (16,), components=4, seed=3)
    x = model.sample(200, sk.Noise(0), t=sde.t_min)
    true = model.log_prob(x, sde.t_min)
    rms = {}
    for fresh in (False, True):
        trace = sk.Hutchinson(2, fresh=fresh)
        r = sk.log_likelihood(model, x, method=ode.Dopri5(1e-9, 1e-4), trace=trace, prior=at_the_end(model))
        wrong = r.log_prob - true
        rms[fresh] = float(wrong.square().mean().sqrt())
        assert abs(float(wrong.mean())) < 5 * rms[fresh] / math.sqrt(len(x))
        assert 0.7 < float(r.trace_se.square().mean().sqrt()) / rms[fresh] < 1.4
    assert rms[True] < 0.5 * rms[False]


@pytest.mark.parametrize("trace", [sk.Exact, sk.Hutchinson])
def test_directions_at_once_are_those_one_by_one(trace):
    """And a network that torch cannot batch is told how to do without."""
    model = mixture(sk.VPSDE(), (7,))
    x = model.sample(3, sk.Noise(0), t=model.sde.t_min)
    rk4 = ode.RK4(3)
    a, b = (sk.log_likelihood(model, x, method=rk4, trace=trace(at_once=n)).log_prob for n in (1, 3))
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)

    class Unbatched(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            if float(gradient.sum()) == math.inf:
                raise AssertionError
            return gradient

    odd = sk.models.FromFunction(sk.VPSDE(), eps=lambda x, t: Unbatched.apply(x))
    with pytest.raises(sk.errors.UnsupportedCombination, match="at_once=1"):
        sk.log_likelihood(odd, x, method=rk4, trace=trace(at_once=3))
    sk.log_likelihood(odd, x, method=rk4, trace=trace(at_once=1))


@pytest.mark.parametrize(
    ("trace", "rows", "d", "passes"),
    [
        (sk.Exact(), 32, 3, 3),
        (sk.Exact(), 32, 4, 1),
        (sk.Exact(), 16, 20, 2),
        (sk.Exact(), 128, 16, 4),
        (sk.Exact(), 129, 16, 16),
        (sk.Exact(at_once=2), 32, 16, 8),
        (sk.Hutchinson(3), 32, 16, 3),
        (sk.Hutchinson(16), 16, 20, 1),
        (sk.Hutchinson(16), 128, 16, 4),
        (sk.Hutchinson(16), 129, 16, 16),
    ],
)
def test_a_pass_has_as_many_directions_as_the_processor_has_room_for(trace, rows, d, passes, monkeypatch):
    """On a CPU: 8,192 numbers, 16 directions, and one where there is no room for four; the values are the same."""
    made = []
    grad = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: made.append(1) or grad(*a, **k))
    x = torch.linspace(-1.0, 1.0, rows * d, dtype=F64).reshape(rows, d).requires_grad_()
    trace = trace.of_batch(x)
    probes = trace.vectors(x, sk.Noise(0), 0)
    found = trace.divergence(torch.sin(x), x, probes)
    assert len(made) == passes
    torch.testing.assert_close(found, torch.cos(x).sum(1, keepdim=True).expand_as(found), rtol=1e-12, atol=1e-12)


def test_the_trace_is_exact_up_to_128_coordinates_unless_asked():
    """Above, the probes are fresh; and named tolerances grow with the coordinates from 32 on."""
    model = sk.ddpm(lambda x, label: x)
    small = sk.log_likelihood(model, torch.zeros(2, 128), method=ode.RK4(2), budget=False)
    large = sk.log_likelihood(model, torch.zeros(2, 129), method=ode.RK4(2), budget=False)
    assert small.probes == 0
    assert large.probes == 4
    from sdekit.likelihood.method import chosen

    assert chosen("o", None, "tight", 32).atol == 1e-8
    assert chosen("o", None, "tight", 320).atol == pytest.approx(1e-7)
    assert chosen("o", None, 1e-8, 320).atol == 1e-8


def test_one_outlier_among_9999_changes_nobody():
    """Neither a value, beyond rounding, nor an evaluation."""
    model = mixture(sk.VPSDE())
    x = model.sample(9999, sk.Noise(0), t=model.sde.t_min)
    crowd = torch.cat([x, 1e3 * x[:1]])
    few = torch.arange(0, 9999, 101)
    together = sk.log_likelihood(model, crowd, tol="fast", budget=False)
    alone = sk.log_likelihood(model, x[few], tol="fast", budget=False)
    torch.testing.assert_close(together.log_prob[few], alone.log_prob, rtol=0, atol=1e-10)
    assert torch.equal(together.nfe[few], alone.nfe)
