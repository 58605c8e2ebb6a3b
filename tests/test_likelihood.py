"""Likelihoods against exact densities; encoding and decoding; and the errors on the label."""

import itertools
import math
import weakref
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from problems import F64, mixture
from subjects import sdes

import sdekit as sk
from sdekit import ode
from sdekit.density import Trace
from sdekit.density import trace as trace_module
from sdekit.density.flow import FlowWithDensity, Probes
from sdekit.density.solver import FlowDensity
from sdekit.likelihood.method import chosen
from sdekit.solvers.base import State
from sdekit.solvers.probability_flow import FRAMES, Flow

TIGHT = ode.Dopri5(rtol=1e-9, atol=1e-9)


def exact_prior(model):
    """log p_T itself."""
    return lambda x: model.log_prob(x, model.sde.t_max)


def in_d_dimensions():
    """Every process in every dimension; in 16 and 64 VP's alone is not slow."""
    for sde in (p.values[0] for p in sdes()):
        for d in (1, 2, 8, 16, 64):
            if d == 64 and isinstance(sde, sk.LinearSDE):
                continue  # VP's own numbers
            slow = d >= 16 and not isinstance(sde, sk.VPSDE)
            yield pytest.param(sde, d, id=f"{type(sde).__name__}-{d}", marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize(("sde", "d"), list(in_d_dimensions()))
def test_mixtures_in_d_dimensions_within_the_error_of_the_name(sde, d):
    """log p at t_min with the exact prior and trace: 1e-4 nats at fast, 1e-5 at default, 1e-8 at tight.

    On tables too, whose rates jump from level to level: in the angle the levels alone matter, not the time they take.
    """
    model = mixture(sde, (d,))
    x = model.sample(4 if d == 64 else 8, sk.Noise(0), t=sde.t_min)
    for name, bound in (("fast", 1e-4), ("default", 1e-5), ("tight", 1e-8)):
        r = sk.log_likelihood(model, x, tol=name, prior=exact_prior(model), budget=False)
        assert float((r.log_prob - model.log_prob(x, sde.t_min)).abs().max()) <= bound
        assert r.log_prob.dtype == F64
        assert bool((r.trace_se == 0).all())
        assert bool((r.nfe > 0).all())
        if name == "fast":
            assert float(r.nfe.double().mean()) <= 150


@pytest.mark.parametrize("event", [(), (2,), (1, 2, 2), (4, 3), (2, 1, 2, 1)], ids=str)
def test_any_event_shape(event):
    """The exact trace counts every coordinate of any event."""
    model = mixture(sk.VPSDE(), event)
    x = model.sample(3, sk.Noise(0), t=model.sde.t_min)
    r = sk.log_likelihood(model, x, method=TIGHT, prior=exact_prior(model))
    torch.testing.assert_close(r.log_prob, model.log_prob(x, model.sde.t_min), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "method", [ode.TorchDiffEq("dopri5", 1e-9, 1e-9), ode.SciPy("DOP853", 1e-9, 1e-9), ode.RK4(steps=800)], ids=repr
)
def test_every_method_gives_the_same_likelihood(method):
    """torchdiffeq, SciPy and a fixed-step method agree with the density."""
    model = mixture(sk.VPSDE())
    x = model.sample(4, sk.Noise(0), t=model.sde.t_min)
    r = sk.log_likelihood(model, x, method=method, prior=exact_prior(model))
    torch.testing.assert_close(r.log_prob, model.log_prob(x, model.sde.t_min), rtol=0, atol=2e-5)
    assert r.nfe.shape == (4,)


def test_the_angle_and_t_are_the_same_flow():
    """Densities and latents agree; a process without an angle is refused it by name, and has t unasked."""
    model = mixture(sk.VESDE().with_prior(0.2, 1.3))
    x = model.sample(6, sk.Noise(0), t=model.sde.t_min)
    a, b = (sk.log_likelihood(model, x, tol="tight", coordinate=c) for c in ("t", "angle"))
    torch.testing.assert_close(a.log_prob, b.log_prob, rtol=0, atol=1e-8)
    assert torch.equal(sk.log_likelihood(model, x, tol="tight").log_prob, b.log_prob)
    z, w = (sk.encode(model, x, tol="tight", coordinate=c) for c in ("t", "angle"))
    torch.testing.assert_close(z, w, rtol=1e-7, atol=0)
    torch.testing.assert_close(sk.decode(model, z, tol="tight", coordinate="t"), x, rtol=0, atol=1e-6)
    with pytest.raises(sk.errors.InvalidArgument, match="coordinate must be one of"):
        sk.log_likelihood(model, x, coordinate="log_snr")
    still = sk.models.FromFunction(DriftAlone(), score=lambda x, t: -x)
    with pytest.raises(sk.errors.UnsupportedCombination, match="angle"):
        sk.encode(still, x, coordinate="angle")
    r = sk.log_likelihood(still, x)
    torch.testing.assert_close(r.log_prob, still.sde.prior.log_prob(x), rtol=0, atol=1e-4)
    assert r.truncation is None


class DriftAlone(sk.SDE):
    """dx = -x dt / 2 + dw, which keeps N(0, 1)."""

    t_min, t_max = 0.0, 1.0

    def drift(self, x, t):
        return -0.5 * x

    def diffusion(self, t):
        return torch.ones_like(torch.as_tensor(t, dtype=F64))

    @property
    def prior(self):
        return sk.sdes.NormalPrior()


def test_tolerances_by_name_and_number():
    """Tighter is closer; ``error`` is the integrator's own account."""
    model = mixture(sk.VPSDE())
    x = model.sample(16, sk.Noise(0), t=model.sde.t_min)
    exact = model.log_prob(x, model.sde.t_min)
    wrong, nfe = {}, {}
    for tol in ("fast", "default", "tight", 1e-3):
        r = sk.log_likelihood(model, x, tol=tol, prior=exact_prior(model))
        wrong[tol], nfe[tol] = float((r.log_prob - exact).abs().max()), float(r.nfe.double().mean())
    assert wrong["tight"] < wrong["default"] < wrong["fast"] < wrong[1e-3]
    assert nfe[1e-3] < nfe["fast"] < nfe["default"] < nfe["tight"]
    assert wrong["default"] < 1e-4


def test_the_process_s_own_prior_is_the_default():
    """log_prob = log prior(x_T) + divergence: another prior changes it by the difference of the two at x_T."""
    model = mixture(sk.VPSDE())
    x = model.sample(4, sk.Noise(0), t=model.sde.t_min)
    z = sk.encode(model, x, method=TIGHT)
    a = sk.log_likelihood(model, x, method=TIGHT).log_prob
    b = sk.log_likelihood(model, x, method=TIGHT, prior=exact_prior(model)).log_prob
    torch.testing.assert_close(a - b, model.sde.prior.log_prob(z) - model.log_prob(z, 1.0), rtol=0, atol=1e-6)


def test_a_prior_with_the_data_s_moments_is_exact_for_gaussian_data():
    """with_prior(mean, std) on isotropic Gaussian data leaves no prior error."""
    mean = torch.tensor([0.5, -1.0], dtype=F64)
    for process in (sk.VPSDE(), sk.VESDE(), sk.SubVPSDE()):
        sde = process.with_prior(mean, 0.7)
        model = sk.models.GaussianMixture(sde, [1.0], mean[None], 0.49)
        x = model.sample(4, sk.Noise(0), t=sde.t_min)
        r = sk.log_likelihood(model, x, method=TIGHT)
        torch.testing.assert_close(r.log_prob, model.log_prob(x, sde.t_min), rtol=0, atol=1e-6)


class Fixed:
    """A source of the probes that it was given, (B, n, D)."""

    def __init__(self, probes):
        self.probes = probes

    def __call__(self, x, t, s, stream="path"):
        raise AssertionError("a likelihood has no path")

    def rademacher(self, like, *, stream):
        return self.probes.expand(like.shape)

    def normal(self, shape, *, stream, dtype=None, device=None):
        return self.probes.expand(shape)


def probes(distribution, d):
    """All signs (2^d, d), or Gauss-Hermite nodes exact to the fifth degree (3^d, d), and their weights."""
    v, w = ([1.0, -1.0], [0.5, 0.5]) if distribution == "rademacher" else np.polynomial.hermite_e.hermegauss(3)
    points = torch.tensor(list(itertools.product(v, repeat=d)), dtype=F64)
    return points, torch.tensor(list(itertools.product(np.asarray(w) / sum(w), repeat=d)), dtype=F64).prod(1)


def test_hutchinson_is_unbiased_with_the_standard_error_it_states():
    """On a linear field of Jacobian J, S = (J + J^T) / 2: variance 2 |offdiag S|^2 (Rademacher), 2 |S|^2 (normal).

    The estimate is of the second degree in a probe: all signs, or three nodes a dimension, are its exact law. Of two
    probes it is the mean of their estimates, and its standard error half of their difference.
    """
    sde, d = sk.VPSDE(), 5
    g = torch.Generator().manual_seed(0)
    root = torch.randn(d, d, generator=g, dtype=F64) / d**0.5
    model = sk.models.GaussianMixture(sde, [1.0], torch.zeros(1, d, dtype=F64), (root @ root.mT)[None])
    rk4 = ode.RK4(steps=40)

    def found(x, n, distribution, v):
        trace = sk.Hutchinson(n, distribution)
        return sk.log_likelihood(model, x, method=rk4, trace=trace, noise=Fixed(v), budget=False)

    exact = float(sk.log_likelihood(model, torch.ones(1, d), method=rk4).log_prob)
    # the integrated Jacobian of a Gaussian's flow is symmetric: its trace estimate has the variances of the formula
    times = torch.linspace(0, 1, 4001, dtype=F64)[1:-1]
    values, vectors = torch.linalg.eigh(root @ root.mT)
    a, s = sde.alpha(times)[:, None], sde.sigma(times)[:, None]
    f, g2 = sde.rates(times)
    slope = f[:, None] + 0.5 * g2[:, None] / (a * a * values + s * s)
    start = float(times[0]) - sde.t_min
    total = torch.trapezoid(slope, times, dim=0) + slope[0] * start + slope[-1] * (1 - float(times[-1]))
    j = (vectors * total) @ vectors.mT
    off = j - torch.diag(torch.diagonal(j))
    for distribution, want in (("rademacher", 2 * off.square().sum()), ("normal", 2 * j.square().sum())):
        v, w = probes(distribution, d)
        x = torch.ones(len(v), d, dtype=F64)
        one = found(x, 1, distribution, v[:, None])
        assert float(w @ one.log_prob) == pytest.approx(exact, rel=1e-12)
        assert float(w @ (one.log_prob - exact).square()) == pytest.approx(float(want), rel=3e-4)
        assert bool(torch.isinf(one.trace_se).all())
        pairs = torch.stack([v, v.roll(3, 0)], 1)
        two = found(x, 2, distribution, pairs)
        other = one.log_prob.roll(3, 0)
        torch.testing.assert_close(two.log_prob, (one.log_prob + other) / 2, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(two.trace_se, (one.log_prob - other).abs() / 2, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("coordinate", ["t", "angle"])
@pytest.mark.parametrize("sde", sdes())
def test_the_divergence_is_that_of_the_whole_flow(sde, coordinate):
    """Its Jacobian by the frame's variable, of which the library differentiates the network alone, in every view."""
    model = mixture(sde)
    views = {
        name: sk.models.FromFunction(sde, **{name: lambda x, t, name=name: getattr(model(x, of_rows(t)), name)})
        for name in ("eps", "score", "x0", "velocity")
    }

    def of_rows(t):
        return t.reshape(-1) if isinstance(t, torch.Tensor) else t

    frame = FRAMES[coordinate](sde)
    low, high = sde.levels(torch.tensor([sde.t_min, sde.t_max], dtype=F64))
    level = sde.levels(sde.time_at(torch.tensor([0.5 * (low.log_snr + high.log_snr)], dtype=F64)))[0]
    u = frame.position(level)
    w = frame.enter(model.sample(4, sk.Noise(0), t=level.t), level)
    probes = sk.Noise(1).normal((4, 3, 2), stream="x", dtype=F64)
    for t, (name, view) in itertools.product((u, torch.full((4,), u, dtype=F64)), (*views.items(), ("own", model))):
        flow = Flow(view, frame=frame)
        whole = torch.autograd.functional.jacobian(lambda x, flow=flow, t=t: flow(x, t), w)  # (B, 2, B, 2)
        jacobian = torch.stack([whole[i, :, i] for i in range(4)])
        products = torch.einsum("bni,bij,bnj->bn", probes, jacobian, probes)
        for trace, given, exact in (
            (sk.Exact(), None, jacobian.diagonal(dim1=1, dim2=2).sum(1, keepdim=True)),
            (sk.Hutchinson(3, "normal"), probes, products),
        ):
            found = FlowWithDensity(flow, (2,), Probes(trace, w, sk.Noise(0))).derivative(w, t, given, graph=False)
            torch.testing.assert_close(found[:, :2], flow(w, t), rtol=1e-12, atol=1e-12, msg=name)
            torch.testing.assert_close(found[:, 2:], exact, rtol=1e-9, atol=1e-9 * float(exact.abs().max()), msg=name)


def test_rademacher_is_exact_on_a_diagonal_jacobian():
    """v_i^2 = 1: a product density has no trace error, while normal probes do."""
    sde = sk.VPSDE()
    model = sk.models.GaussianMixture(
        sde, [1.0], torch.zeros(1, 10, dtype=F64), torch.linspace(0.1, 2, 10, dtype=F64)[None]
    )
    x = model.sample(5, sk.Noise(0), t=sde.t_min)
    exact = model.log_prob(x, sde.t_min)
    r = sk.log_likelihood(model, x, method=TIGHT, trace=sk.Hutchinson(2), prior=exact_prior(model))
    torch.testing.assert_close(r.log_prob, exact, rtol=0, atol=1e-6)
    r = sk.log_likelihood(model, x, tol=1e-5, trace=sk.Hutchinson(2, "normal"), prior=exact_prior(model))
    assert float((r.log_prob - exact).abs().max()) > 0.1


def test_rows_do_not_depend_on_their_mates():
    """One outlier among easy rows changes nobody's value beyond rounding, nor anybody's evaluations."""
    model = mixture(sk.VPSDE())
    x = model.sample(6, sk.Noise(0), t=model.sde.t_min)
    crowd = x.clone()
    crowd[0] *= 1e3
    a, b = (sk.log_likelihood(model, y, tol=1e-7, trace=sk.Hutchinson(2)) for y in (x, crowd))
    torch.testing.assert_close(a.log_prob[1:], b.log_prob[1:], rtol=0, atol=1e-10)
    assert torch.equal(a.nfe[1:], b.nfe[1:])


@pytest.mark.parametrize("sde", sdes())
def test_decoding_inverts_encoding(sde):
    """decode(encode(x)) = x, and the latents have the law p_T."""
    model = mixture(sde)
    x = model.sample(6, sk.Noise(0), t=sde.t_min)
    tol, bound = (1e-6, 1e-3) if isinstance(sde, sk.TableSDE) else (1e-8, 1e-5)
    z = sk.encode(model, x, tol=tol)
    assert float((sk.decode(model, z, tol=tol) - x).abs().max()) < bound
    assert float((sk.encode(model, sk.decode(model, z, tol=tol), tol=tol) - z).abs().max()) < bound * sde.prior.std


def test_encoding_is_the_closed_flow_of_a_gaussian():
    """x_T - alpha_T m = sqrt(V_T / V_0) (x - alpha_0 m)."""
    sde = sk.VESDE()
    model = sk.models.GaussianMixture(sde, [1.0], [[2.0, -1.0]], 0.3)
    x = torch.tensor([[0.5, 0.5], [3.0, -2.0]], dtype=F64)
    mean = torch.tensor([2.0, -1.0], dtype=F64)
    want = mean + (x - mean) * math.sqrt((0.3 + 2500) / (0.3 + float(sde.sigma(sde.t_min)) ** 2))
    torch.testing.assert_close(sk.encode(model, x, method=TIGHT), want, rtol=1e-6, atol=1e-6)


def test_bits_per_dim_counts_the_bits_of_uniform_data():
    """Uniform density on k levels of width w in D dimensions codes in log2 k bits a dimension, whatever w."""
    for k, w in ((256, 1 / 256), (256, 2 / 256), (17, 0.125)):
        d = 5
        r = sk.Likelihood(torch.tensor([-d * math.log(k * w)]), torch.zeros(1), torch.ones(1), d)
        assert float(r.bits_per_dim(bin_width=w)) == pytest.approx(math.log2(k), abs=1e-6)
    with pytest.raises(sk.errors.InvalidArgument, match="bin_width"):
        r.bits_per_dim(bin_width=0.0)


def test_the_level_of_an_interval_lies_between_0_and_1():
    r = sk.Likelihood(torch.zeros(1), torch.ones(1), torch.ones(1), 2, 3)
    for level in (0.0, 1.0, -0.5, 1.5):
        with pytest.raises(sk.errors.InvalidArgument, match=r"Likelihood\.interval: level must be"):
            r.interval(level)


def test_what_follows_a_model_and_its_data_is_named():
    """Settings by place would change their meaning when one is added."""
    model, x = mixture(sk.VPSDE()), torch.zeros(1, 2)
    for call in (sk.encode, sk.decode, sk.log_likelihood):
        with pytest.raises(TypeError, match="positional"):
            call(model, x, ode.RK4())
        call(model=model, **{"z" if call is sk.decode else "x": x}, method=ode.RK4())


class Symmetric(Trace):
    """A trace of one's own, which goes on from the slope before it differentiates."""

    def vectors(self, x, noise, evaluation):
        return None

    def divergence(self, v, x, probes, *, graph=False):
        d = v.shape[1]
        parts = [torch.autograd.grad(v[:, i].sum(), x, retain_graph=True, create_graph=graph)[0] for i in range(d)]
        return torch.stack([part.reshape(len(x), d)[:, i] for i, part in enumerate(parts)]).sum(0)[:, None]


def test_a_trace_of_one_s_own_is_two_methods():
    model = mixture(sk.VPSDE())
    x = model.sample(3, sk.Noise(0)).double()
    own, exact = (sk.log_likelihood(model, x, trace=t, method=ode.RK4(8)).log_prob for t in (Symmetric(), "exact"))
    torch.testing.assert_close(own, exact, rtol=1e-12, atol=1e-12)


def test_an_exact_trace_holds_one_product_at_a_time(monkeypatch):
    """What bounds its memory, whatever the dimension."""
    made, real = [], trace_module._products

    def watched(*args, **settings):
        assert not any(product() is not None for product in made)
        product = real(*args, **settings)
        made.append(weakref.ref(product))
        return product

    monkeypatch.setattr(trace_module, "_products", watched)
    sk.log_likelihood(mixture(sk.VPSDE(), (6,)), torch.zeros(3, 6), trace=sk.Exact(at_once=1), method=ode.RK4(1))
    assert len(made) == 6 * (4 + 2)


@pytest.mark.parametrize("trace", [sk.Exact(), sk.Hutchinson()])
def test_a_trace_is_a_value(trace):
    """Equal ones are equal and of one hash, and none changes."""
    assert hash(trace) == hash(type(trace)())
    with pytest.raises(FrozenInstanceError):
        trace.at_once = 3


def test_an_empty_batch_gives_empty_results():
    """(0, 2) -> (0,)."""
    r = sk.log_likelihood(mixture(sk.VPSDE()), torch.empty(0, 2))
    assert r.log_prob.shape == r.nfe.shape == r.trace_se.shape == (0,)
    assert r.solver.shape == r.prior.shape == r.truncation.shape == r.error.shape == (0,)
    assert sk.log_likelihood(mixture(sk.VPSDE()), torch.empty(0, 2), budget=False).error is None
    assert sk.encode(mixture(sk.VPSDE()), torch.empty(0, 2)).shape == (0, 2)


class Refuses(sk.models.ScoreModel):
    """A model that must not be asked."""

    def __init__(self):
        super().__init__()
        self.sde = sk.VPSDE()

    def forward(self, x, t, **condition):
        raise AssertionError("the network was called")


X = torch.zeros(3, 2, dtype=F64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: sk.log_likelihood(m, X.long()), "x must be of a floating-point dtype, got torch.int64"),
        (lambda m: sk.log_likelihood(m, X / 0), r"x must be finite, got NaN or infinity in 3 of 3 rows"),
        (lambda m: sk.log_likelihood(m, [[1.0]]), "x must be a tensor"),
        (lambda m: sk.log_likelihood(m, torch.tensor(1.0)), "x must be of shape"),
        (lambda m: sk.log_likelihood(torch.nn.Identity(), X), "model must be a ScoreModel.*wrap a network"),
        (lambda m: sk.log_likelihood(m, X, tol="exact"), "tol must be one of fast, default, tight"),
        (lambda m: sk.log_likelihood(m, X, tol=-1.0), "tol must be finite and > 0"),
        (lambda m: sk.log_likelihood(m, X, tol=1e-5, method=TIGHT), "tol must be left out"),
        (lambda m: sk.log_likelihood(m, X, method="dopri5"), "method must be one such as"),
        (lambda m: sk.log_likelihood(m, X, trace="hutch"), "trace must be one of exact, hutchinson"),
        (lambda m: sk.log_likelihood(m, X, prior=3.0), "prior must be a sdes.Prior or a log-density"),
        (lambda m: sk.log_likelihood(m, X, prior=lambda x: 0.0), r"prior must return \(B,\) = \(3,\), got float 0.0"),
        (lambda m: sk.log_likelihood(m, X, prior=lambda x: x), r"prior must return \(B,\) = \(3,\)"),
        (lambda m: sk.log_likelihood(m, X, dtype=torch.int64), "dtype must be a floating-point torch.dtype"),
        (
            lambda m: sk.log_likelihood(m, X, dtype=torch.float32, tol="tight"),
            "tol must be at least 2e-06 nats in torch",
        ),
        (lambda m: sk.log_likelihood(m, X, dtype="float64"), "dtype must be a floating-point torch.dtype"),
        (lambda m: sk.log_likelihood(m, X, noise=3), "log_likelihood: noise must be a source"),
        (
            lambda m: sk.log_likelihood(m.given(y=X[:2]), X),
            "condition y must hold one entry a row, got 2 entries for 3",
        ),
        (lambda m: sk.encode(m, X, tol="fine"), "encode: tol must be one of"),
        (lambda m: sk.decode(m, X, method=3), "decode: method must be one such as"),
        (lambda m: sk.encode(m.given(y=X[:2]), X), "encode: the condition y must hold"),
        (lambda m: sk.log_likelihood(m, X, seed=-1), "seed must be at least 0"),
        (lambda m: sk.Hutchinson(0), "Hutchinson: n must be at least 1"),
        (lambda m: sk.encode(m, X.int()), "encode: x must be of a floating-point dtype"),
        (lambda m: sk.decode(m, X * math.nan), "decode: z must be finite"),
    ],
)
def test_bad_input_is_refused_before_the_first_network_call(call, message):
    """The error names the argument, what was given and what would be right."""
    with pytest.raises((sk.errors.InvalidArgument, sk.errors.InvalidType), match=message):
        call(Refuses())


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
@pytest.mark.parametrize(
    "method", [ode.RK4(steps=60), ode.Dopri5(), ode.SciPy(), ode.TorchDiffEq()], ids=lambda m: type(m).__name__
)
def test_a_flow_that_does_not_depend_on_x_has_no_divergence(method, trace):
    """On VE with eps = c: x_T = x + c (sigma_T - sigma_0), and the density moves with it."""
    sde = sk.VESDE(sigma_max=2.0)
    x = torch.tensor([[0.1, -0.3], [1.0, 2.0]], dtype=F64)
    weight = torch.nn.Parameter(torch.tensor(0.7, dtype=F64))
    for c, eps in ((0.0, lambda x, t: torch.zeros_like(x)), (0.7, lambda x, t: weight.expand(x.shape))):
        r = sk.log_likelihood(sk.models.FromFunction(sde, eps=eps), x, method=method, trace=trace)
        moved = x + c * (2.0 - float(sde.sigma(sde.t_min)))
        torch.testing.assert_close(r.log_prob, sde.prior.log_prob(moved), rtol=0, atol=1e-3)


def test_a_network_that_hides_from_autograd_is_refused():
    """Its trace would be 0; a constant one has none."""
    sde = sk.VPSDE()
    weight = torch.nn.Parameter(torch.tensor(0.7, dtype=F64))

    def alone(x, t):
        with torch.no_grad():
            return 0.5 * x

    x = torch.zeros(3, 2)
    for eps in (alone, lambda x, t: weight * x.detach()):
        for trace in ("exact", sk.Hutchinson(2, fresh=True)):
            with pytest.raises(sk.errors.UnsupportedCombination, match="autograd can follow"):
                sk.log_likelihood(sk.models.FromFunction(sde, eps=eps), x, trace=trace)


def test_a_named_tolerance_grows_with_the_event_without_bound():
    """And a number is checked as it is given."""
    assert chosen("f", None, "fast", 3 * 128 * 128).atol == pytest.approx(3e-4 * 3 * 128 * 128 / 32)
    with pytest.raises(sk.errors.InvalidArgument, match="tol must be"):
        chosen("f", None, 1.0, 3 * 128 * 128)


def test_an_estimated_trace_gives_the_plain_bound():
    """The exponential of its noise would count as probability."""
    model = mixture(sk.VPSDE(), (9,))
    x = model.sample(3, sk.Noise(0), t=1e-4).mul(8).round().div(8)
    how = {"bin_width": 1 / 8, "origin": 0.0, "draws": 3, "method": ode.RK4(20)}
    r = sk.discrete_log_likelihood(model, x, trace=sk.Hutchinson(2), **how)
    assert torch.equal(r.log_prob, r.each.mean(0))
    r = sk.discrete_log_likelihood(model, x, **how)
    assert torch.equal(r.log_prob, torch.logsumexp(r.each, 0) - math.log(3))


def test_every_interval_of_a_run_has_fresh_probes():
    """With keyed noise too, whose draws are known by their names."""
    found = []

    class Told(sk.KeyedNoise):
        def rademacher(self, like, *, stream):
            found.append(stream)
            return super().rademacher(like, stream=stream)

    model = mixture(sk.VPSDE(), (130,))
    flow = sk.solvers.ProbabilityFlow(ode.Euler())
    sk.sample(model, (2, 130), solver=flow, steps=4, noise=Told(0), with_log_prob=True, denoise=False)
    assert len(found) == len(set(found)) >= 3


def test_every_part_of_a_row_is_the_same_bits_alone():
    """The truncation's too, whose probes do not depend on how many the run has had."""
    model = mixture(sk.VPSDE(), (3,))
    x = torch.cat([model.sample(2, sk.Noise(0), t=1e-4), torch.full((1, 3), 30.0, dtype=F64)])
    how = {"trace": sk.Hutchinson(4, fresh=True), "per_sample": True, "seed": 3}
    together, alone = sk.log_likelihood(model, x, **how), sk.log_likelihood(model, x[:1], **how)
    for name in ("log_prob", "nfe", "trace_se", "solver", "prior", "truncation"):
        assert torch.equal(getattr(together, name)[:1], getattr(alone, name)), name


def test_a_float64_network_is_asked_in_inference_mode_and_time():
    """Whose label is the time itself: a tensor made in inference mode, which autograd refuses to keep."""
    weight = torch.nn.Parameter(torch.tensor(0.3, dtype=F64))
    model = sk.ddpm(lambda x, label: label[:, None] * weight * x)
    x = sk.Noise(0).normal((3, 2), stream="x", dtype=F64)
    how = {"method": ode.Dopri5(), "coordinate": "t", "budget": False}
    with torch.inference_mode():
        inside = sk.log_likelihood(model, x, **how).log_prob
    torch.testing.assert_close(inside.clone(), sk.log_likelihood(model, x, **how).log_prob, rtol=0, atol=0)


def test_inference_mode_changes_nothing():
    model = mixture(sk.VPSDE())
    x = model.sample(3, sk.Noise(0), t=model.sde.t_min)
    outside = sk.log_likelihood(model, x, tol="fast").log_prob
    with torch.inference_mode():
        inside = sk.log_likelihood(model, x.clone(), tol="fast").log_prob
        drawn = sk.sample(model, (3, 2), seed=1, with_log_prob=True)
        with pytest.raises(sk.errors.UnsupportedCombination, match=r"gradient must be None in torch\.inference_mode"):
            sk.log_likelihood(model, x.clone(), gradient="direct")
    assert torch.equal(inside, outside)
    assert torch.equal(drawn.log_prob, sk.sample(model, (3, 2), seed=1, with_log_prob=True).log_prob)


@pytest.mark.parametrize("event", [(2,), (0,), (2, 0), ()], ids=str)
@pytest.mark.parametrize("trace", ["exact", sk.Hutchinson(3)], ids=["exact", "hutchinson"])
def test_what_is_empty_has_the_density_of_nothing(event, trace):
    """No rows have no values; an event of no coordinates has density 1."""
    model = sk.ddpm(lambda x, label: x)
    assert sk.log_likelihood(model, torch.zeros(0, *event), trace=trace).log_prob.shape == (0,)
    if 0 in event:
        assert sk.log_likelihood(model, torch.zeros(3, *event), trace=trace).log_prob.tolist() == [0.0] * 3
        assert sk.encode(model, torch.zeros(3, *event)).shape == (3, *event)
        flow = sk.solvers.ProbabilityFlow()
        assert sk.sample(model, (3, *event), solver=flow).shape == (3, *event)
        assert sk.sample(model, (3, *event), with_log_prob=True).log_prob.tolist() == [0.0] * 3


def test_half_precision_is_encoded_in_float32():
    """And returned in its own dtype."""
    model = mixture(sk.VPSDE())
    x = model.sample(3, sk.Noise(0), t=model.sde.t_min)
    z = sk.encode(model, x.bfloat16())
    assert z.dtype == torch.bfloat16
    torch.testing.assert_close(z.double(), sk.encode(model, x.bfloat16().double()), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("sde", sdes())
def test_samples_know_their_log_density(sde):
    """It is the flow's own at each sample, whose integration starts at the other end; x is what it would be."""
    model = mixture(sde)
    r = sk.sample(model, (20, 2), seed=3, with_log_prob=True, dtype=F64)
    again = sk.log_likelihood(model, r.x, tol=1e-7, budget=False)
    torch.testing.assert_close(r.log_prob, again.log_prob, rtol=0, atol=1e-4)
    flow = sk.solvers.ProbabilityFlow(ode.Dopri8(1e-9, 1e-9), "angle")
    x = sk.sample(model, (20, 2), solver=flow, steps=1, denoise=False, seed=3, dtype=F64)
    torch.testing.assert_close(r.x, x, rtol=0, atol=1e-4)
    assert r.error.shape == (20,)
    assert float(r.error.max()) < 1e-3


def test_log_densities_of_samples_by_any_flow():
    """A fixed grid of steps, a tolerance, chunks, float32, an empty batch; another solver is refused by name."""
    model = mixture(sk.VPSDE())
    rk4 = sk.solvers.ProbabilityFlow(ode.RK4(), "angle")
    start = sk.Noise(0).normal((5, 2), stream="prior", dtype=F64)
    for settings in ({"solver": rk4, "steps": 60}, {"tol": 1e-5}, {"per_sample": True}):
        r = sk.sample(model, x_T=start, with_log_prob=True, **settings)
        exact = sk.log_likelihood(model, r.x, tol=1e-7, budget=False).log_prob
        torch.testing.assert_close(r.log_prob, exact, rtol=0, atol=1e-3)
    single = sk.sample(model, x_T=start.float(), with_log_prob=True)
    assert single.x.dtype == torch.float32
    torch.testing.assert_close(single.log_prob, r.log_prob, rtol=0, atol=1e-4)
    assert sk.sample(model, (0, 2), with_log_prob=True).log_prob.shape == (0,)
    alone = sk.sample(model, (2, 2), seed=4, per_sample=True, ids=[7, 3], with_log_prob=True)
    crowd = sk.sample(model, (9, 2), seed=4, per_sample=True, with_log_prob=True)
    assert torch.equal(alone.log_prob, crowd.log_prob[[7, 3]])
    with pytest.raises(sk.errors.UnsupportedCombination, match="with_log_prob needs the probability flow"):
        sk.sample(model, (2, 2), solver=sk.solvers.DDIM(), with_log_prob=True)
    with pytest.raises(sk.errors.InvalidArgument, match="denoise must be left out"):
        sk.sample(model, (2, 2), denoise=True, with_log_prob=True)


def test_the_log_densities_of_large_samples_know_the_error_of_their_trace():
    """130 coordinates, whose trace is estimated by four probes: 32 errors over their standard errors, of Student's law
    of 3 degrees of freedom, against a run of exact traces: the largest is above 20 in one of 100 such cases. In 2
    coordinates there is no error.
    """
    g = torch.Generator().manual_seed(1)
    root = torch.randn(130, 130, generator=g, dtype=F64) / 130**0.5
    covariance = (root @ root.mT + 0.1 * torch.eye(130, dtype=F64))[None]
    model = sk.models.GaussianMixture(sk.VPSDE(), [1.0], torch.zeros(1, 130, dtype=F64), covariance)
    for settings in ({}, {"per_sample": True}):
        r = sk.sample(model, (32, 130), seed=3, with_log_prob=True, dtype=F64, **settings)
        exact = sk.log_likelihood(model, r.x, trace="exact", tol=0.05, budget=False).log_prob
        z = (r.log_prob - exact) / r.trace_se
        assert float(r.trace_se.min()) > 0
        assert float(z.abs().max()) < 20
        assert 0.4 < float(z.abs().median()) < 1.4  # 0.76 of Student's law
    flow = sk.solvers.ProbabilityFlow(ode.RK4(4), "angle")
    start = model.sde.prior.sample((3, 130), sk.Noise(0), dtype=F64)
    high, low = model.sde.levels(torch.tensor([model.sde.t_max, model.sde.t_min], dtype=F64))
    change = FlowDensity(flow).step(model, State(start, high), low, sk.Noise(2)).memory.change
    r = sk.sample(model, x_T=start, solver=flow, steps=1, noise=sk.Noise(2), with_log_prob=True)
    assert change.shape == (3, 4)
    torch.testing.assert_close(r.trace_se, change.std(1) / 2)
    torch.testing.assert_close(r.log_prob, model.sde.prior.log_prob(start) + change.mean(1))
    small = sk.sample(mixture(sk.VPSDE()), (3, 2), with_log_prob=True)
    assert torch.equal(small.trace_se, torch.zeros(3, dtype=F64))
    assert sk.sample(mixture(sk.VPSDE()), (3, 2), full=True).trace_se is None


def test_interpolation_follows_the_arc_between_latents():
    """Its ends are the data, its middle the arc's: on N(0, v) the flow is a dilation, so the arc is explicit."""
    sde = sk.VPSDE()
    model = sk.models.GaussianMixture(sde, [1.0], [[0.0, 0.0]], 0.3)
    a = torch.tensor([[1.0, 0.0], [0.5, 0.2]], dtype=F64)
    b = torch.tensor([[0.0, 2.0], [1.0, 0.4]], dtype=F64)
    film = sk.interpolate(model, a, b, 5, tol="tight")
    assert film.shape == (5, 2, 2)
    torch.testing.assert_close(film[0], a, rtol=0, atol=1e-6)
    torch.testing.assert_close(film[-1], b, rtol=0, atol=1e-6)
    middle = torch.tensor([1.0, 2.0], dtype=F64) * math.sin(math.pi / 4)
    torch.testing.assert_close(film[2, 0], middle, rtol=0, atol=1e-6)
    torch.testing.assert_close(film[1, 1], 0.75 * a[1] + 0.25 * b[1], rtol=0, atol=1e-6)
    with pytest.raises(sk.errors.InvalidArgument, match="b must be of the shape of a"):
        sk.interpolate(model, a, b[:1], 5)
    assert sk.interpolate(model, a, b, 2).shape == (2, 2, 2)
    with pytest.raises(sk.errors.InvalidArgument, match="interpolate: steps must be at least 2, got steps=1"):
        sk.interpolate(model, a, b, 1)
    # latents that are parallel, or opposite, have no arc, whatever rounding makes of their cosine
    many = sk.Noise(0).normal((200, 3), stream="data", dtype=F64)
    plain = sk.models.GaussianMixture(sde, [1.0], torch.zeros(1, 3, dtype=F64), 0.3)
    for factor in (1.0, 2.0, -1.0):
        straight = sk.interpolate(plain, many, factor * many, 3, method=ode.RK4(2))
        torch.testing.assert_close(straight[1], 0.5 * (1 + factor) * many, rtol=0, atol=0.05)


def levels_of_a_gaussian():
    """Rows of five levels, 0.5 apart from -1, in two coordinates, and a Gaussian model of the dequantised."""
    sde = sk.VPSDE(t_min=1e-5).with_prior(0.0, 0.8)
    model = sk.models.GaussianMixture(sde, [1.0], torch.zeros(1, 2, dtype=F64), 0.64)
    x = -1.0 + 0.5 * torch.tensor([[0, 1], [2, 2], [4, 3]], dtype=F64)
    cdf = torch.distributions.Normal(0.0, 0.8).cdf
    return model, x, (cdf(x + 0.25) - cdf(x - 0.25)).log().sum(1)


def test_more_draws_bring_the_bound_to_the_probability_of_the_level():
    """The mean of one draw's bound is Jensen's, below log P; that of 60 draws together is at it."""
    model, x, exact = levels_of_a_gaussian()
    how = {"bin_width": 0.5, "origin": -1.0, "method": ode.RK4(2)}  # its flow in the angle stands still
    many = sk.discrete_log_likelihood(model, x, draws=60, seed=1, **how)
    assert many.each.shape == (60, 3)
    u = (torch.arange(400, dtype=F64) + 0.5) / 400 - 0.5
    inside = torch.distributions.Normal(0.0, 0.8).log_prob(x[..., None] + 0.5 * u).mean(2).sum(1) + 2 * math.log(0.5)
    sd = many.each.std(0) / 60**0.5
    assert bool(((many.each.mean(0) - inside).abs() < 5 * sd).all())
    assert bool(((many.log_prob - exact).abs() < 5 * sd).all())
    assert bool((inside < exact - 1e-4).all())
    bits = -many.log_prob / (2 * math.log(2))
    torch.testing.assert_close(many.bits_per_dim, bits)
    assert many.mean() == pytest.approx((float(bits.mean()), float(bits.std()) / 3**0.5))
    alone = sk.discrete_log_likelihood(model, x[1:2], seed=1, per_sample=True, ids=[1], **how)
    crowd = sk.discrete_log_likelihood(model, x, seed=1, per_sample=True, **how)
    assert torch.equal(alone.each, crowd.each[:, 1:2])


def test_the_logit_s_slope_is_counted():
    """A Gaussian model of logits: a level's probability is the Gaussian's between the logits of its ends."""
    logit = sk.data.Logit(-0.5, 3.5, margin=0.01)
    sde = sk.VPSDE(t_min=1e-5).with_prior(0.0, 0.8)
    model = sk.models.GaussianMixture(sde, [1.0], torch.zeros(1, 2, dtype=F64), 0.64)
    x = torch.tensor([[0, 1], [2, 2], [3, 0]], dtype=F64)
    how = {"bin_width": 1.0, "origin": 0.0, "transform": logit, "method": ode.RK4(2)}
    r = sk.discrete_log_likelihood(model, x, draws=400, seed=3, **how)
    assert r.nfe.tolist() == [400 * 8] * 3
    cdf = torch.distributions.Normal(0.0, 0.8).cdf
    exact = (cdf(logit(x + 0.5)) - cdf(logit(x - 0.5))).log().sum(1)
    ratios = torch.exp(r.each - exact)
    assert bool(((ratios.mean(0) - 1).abs() < 5 * ratios.std(0) / 20).all())
    bare = torch.exp(r.each - logit.log_slope(x) - exact)
    assert not bool(((bare.mean(0) - 1).abs() < 5 * bare.std(0) / 20).any())
    with pytest.raises(sk.errors.InvalidType, match=r"transform must be one such as data.Logit"):
        sk.discrete_log_likelihood(model, x, bin_width=1.0, origin=0.0, transform=torch.logit)


def test_floats_on_levels_are_refused_unless_they_are_a_lattice_of_points():
    """In eight coordinates and more, where fewer than a tenth of the numbers differ, evenly."""
    model = sk.ddpm(lambda x, label: x)
    x = torch.arange(64.0).reshape(4, 16) % 4 / 2 - 1
    with pytest.raises(sk.errors.InvalidArgument, match=r"4 levels, 0.5 apart from -1, .*bin_width=0.5, origin=-1\)"):
        sk.log_likelihood(model, x, method=ode.RK4(2))
    uneven = torch.where(x == 0.5, x + 0.1, x)
    for fine in (x.reshape(32, 2), uneven, torch.zeros(4, 16), torch.arange(64.0).reshape(4, 16)):
        sk.log_likelihood(model, fine, method=ode.RK4(2), budget=False)


def test_data_that_are_not_on_levels_are_refused():
    """The first one off is named; what is dequantised already is such data."""
    model, x, _ = levels_of_a_gaussian()
    with pytest.raises(sk.errors.InvalidArgument, match=r"apart from -1, got 1 numbers that do not, such as 0.1"):
        sk.discrete_log_likelihood(model, torch.tensor([[0.1, 0.0]]), bin_width=0.5, origin=-1.0)
    with pytest.raises(sk.errors.InvalidArgument, match="budget must be left out"):
        sk.discrete_log_likelihood(model, x, bin_width=0.5, origin=-1.0, budget=True)
