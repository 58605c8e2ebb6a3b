"""The optimal variance of a reverse step: exact laws of Gaussian data, the papers' formula, and its estimate."""

import itertools
import json
import math

import pytest
import torch
from honest import variance
from problems import F64, mixture
from subjects import sdes

import sdekit as sk
from sdekit import grids
from sdekit.models import AnalyticVariance, NoiseResidual, noise_residual
from sdekit.sdes import tables
from sdekit.solvers import Ancestral


def gaussian(sde, v, mean=0.7):
    """The exact model of N(mean, diag(v)) in as many dimensions as v has."""
    v = torch.as_tensor(v, dtype=F64)
    return sk.models.GaussianMixture(sde, [1.0], torch.full((1, len(v)), mean, dtype=F64), v[None])


def exact_residual(sde, v, times):
    """E|eps - eps(x)|^2 / d of N(m, diag(v)): the mean of alpha^2 v / (alpha^2 v + sigma^2)."""
    v = torch.as_tensor(v, dtype=F64)
    levels = sde.levels(torch.as_tensor(times, dtype=F64))
    share = [float((t.alpha**2 * v / (t.alpha**2 * v + t.sigma**2)).mean()) for t in levels]
    return NoiseResidual([t.log_snr for t in levels], share)


@pytest.mark.parametrize("sde", sdes())
@pytest.mark.parametrize("steps", [1, 2, 5, 25])
@pytest.mark.parametrize("v", [0.04, 1.0, 2.5])
def test_the_law_of_isotropic_gaussian_data_is_exact_after_any_number_of_steps(sde, steps, v):
    """Mean and variance at the end of a run, from the exact law at its beginning, to 1e-10 of the exact variance."""
    times = grids.log_snr(sde, steps)
    model = AnalyticVariance(gaussian(sde, [v] * 8), exact_residual(sde, [v] * 8, times))
    end = sde.levels(times[-1:])[0]
    want = end.alpha**2 * v + end.sigma**2
    offset, start, noise = affine_1d(model, times, "learned")
    begin = sde.levels(times[:1])[0]
    mean = offset + start * begin.alpha * 0.7
    variance = start**2 * (begin.alpha**2 * v + begin.sigma**2) + (noise**2).sum()
    assert float(mean) == pytest.approx(0.7 * end.alpha, abs=1e-10)
    assert float(variance) == pytest.approx(want, rel=1e-10)
    if steps > 1 and not isinstance(sde, sk.DiscreteVESDE):
        _, start, noise = affine_1d(model, times, "posterior")  # the negative control
        assert abs(float(start**2 * (begin.alpha**2 * v + begin.sigma**2) + (noise**2).sum()) / want - 1) > 1e-4


def affine_1d(model, times, variance):
    """Offset and responses of the first coordinate, along an axis of the data: (), (), (draws,)."""
    draws = len(times) - 1
    x = torch.zeros(2 + draws, 8, dtype=F64)
    x[1] = 1.0

    class Units:
        k = 0

        def __call__(self, x, t, s, stream="path"):
            z = torch.zeros_like(x)
            z[2 + self.k] = 1.0
            self.k += 1
            return z

    *_, end = sk.trajectory(model, Ancestral(variance), x, times, Units(), denoise=False)
    return end.x[0, 0], end.x[1, 0] - end.x[0, 0], end.x[2:, 0] - end.x[0, 0]


def test_it_is_the_papers_formula_on_ddpms_table():
    """Bao et al. 2022, theorem 1 (arXiv:2201.06503): sigma_n^2 = lambda_n^2 + (sqrt(beta_bar_n / alpha_n) -
    sqrt(beta_bar_(n-1) - lambda_n^2))^2 (1 - beta_bar_n Gamma_n), with DDPM's lambda and Gamma_n = E|score|^2 / d of
    anisotropic Gaussian data, for strides, too."""
    v = torch.tensor([0.04, 0.5, 2.0, 1.1], dtype=F64)
    sde = sk.DiscreteVPSDE()
    bar = torch.cumprod(1 - tables.linear(), 0)
    index = [1, 2, 11, 150, 600, 1000]
    model = AnalyticVariance(gaussian(sde, v), exact_residual(sde, v, sorted(map(float, index[1:]), reverse=True)))
    for s, t in itertools.pairwise(index):
        a_t, a_s = float(bar[t - 1]), float(bar[s - 1])
        gamma = float((1 / (a_t * v + 1 - a_t)).mean())  # the score is -(x - m) / variance
        alpha = a_t / a_s
        lower = (1 - a_s) / (1 - a_t) * (1 - alpha)
        want = lower + (math.sqrt((1 - a_t) / alpha) - math.sqrt(1 - a_s - lower)) ** 2 * (1 - (1 - a_t) * gamma)
        p = model(torch.zeros(3, 4, dtype=F64), float(t))
        found = p.spread(sde.level(float(s), p.x))
        torch.testing.assert_close(found.exp(), torch.full((3, 4), want, dtype=F64), rtol=1e-9, atol=0)
        assert lower < want < (1 - a_t) / a_t * a_s - (1 - a_s)  # the bounds of theorem 2


def test_of_all_variances_that_are_one_number_it_is_the_mean_square_around_the_mean():
    """E|x_s - mean|^2 / d of a pair of Gaussians in two directions: what the divergence asks for."""
    v = torch.tensor([0.1, 3.0], dtype=F64)
    sde = sk.VPSDE()
    t, s = sde.levels(torch.tensor([0.6, 0.35], dtype=F64))
    model = AnalyticVariance(gaussian(sde, v), exact_residual(sde, v, [0.6]))
    ratio = t.alpha / s.alpha
    v_s, v_t = s.alpha**2 * v + s.sigma**2, t.alpha**2 * v + t.sigma**2
    within = v_s - (ratio * v_s) ** 2 / v_t  # var(x_s | x_t) in each direction
    found = model(torch.zeros(1, 2, dtype=F64), t).spread(s).exp()
    torch.testing.assert_close(found, within.mean().expand(1, 2), rtol=1e-12, atol=0)


class Same:
    """Normals that are the same at every call of one shape."""

    def normal(self, shape, *, stream, dtype=None, device=None):
        return sk.KeyedNoise(5).normal(shape, stream="same", dtype=dtype, device=device)


def test_it_is_where_the_variational_bound_is_least():
    """Of all variances that are one number a level: measured on the draws of a bound on DDPM's table, the bound is less
    than with shares that are 2 % off either way, and than with DDPM's own two variances."""
    sde = sk.DiscreteVPSDE(tables.linear(12, 0.01, 0.6))
    model = mixture(sde)
    x0 = model.sample(64, sk.Noise(0))
    best = noise_residual(model, x0, sde.levels(sde.times), Same())

    def bound(model, variance):
        terms = sk.losses.VariationalBound(variance=variance).terms(model, x0, Same())
        return float(terms.steps.sum(0).mean() + terms.decoder.mean())

    off = [NoiseResidual(best.log_snr, [min(by * u, 1.0) for u in best.share]) for by in (0.98, 1.02)]
    least, *others = (bound(AnalyticVariance(model, v), "learned") for v in (best, *off))
    assert least < min(others) - 1e-5
    assert least < min(bound(model, v) for v in ("posterior", "upper")) - 1e-2


@pytest.mark.statistical
def test_the_residual_of_gaussian_data_is_chi_squared(seed):
    """On N(m, v) what is left is N(0, u): M d times its mean square over u is chi-squared, at each of three levels."""
    sde, v, n = sk.VPSDE(), 0.5, 8000 * 8
    model = gaussian(sde, [v] * 8)
    levels = grids.levels(sde, "log_snr", 4)
    found = noise_residual(model, model.sample(8000, sk.Noise(seed)), levels, sk.KeyedNoise(seed + 1))
    exact = exact_residual(sde, [v] * 8, [level.t for level in levels[:3]])
    assert found.log_snr == tuple(level.log_snr for level in levels[:4])
    for level in levels[:3]:
        share = found.at(level.log_snr)
        variance([math.sqrt(share)] * n, exact.at(level.log_snr), of=3).holds(detects=0.05)
        variance([math.sqrt(1.06 * share)] * n, exact.at(level.log_snr), of=3).fails()


def test_the_residual_is_the_mean_square_of_what_is_left():
    """By hand at two levels, of draws of its own stream; the clean level is left out. Without gradients, in evaluation
    mode, which is then what it was."""
    sde, noise = sk.VPSDE(), sk.KeyedNoise(3)
    modes = []

    class Watched(sk.models.GaussianMixture):
        def forward(self, x, t, **condition):
            modes.append((self.training, torch.is_grad_enabled()))
            return super().forward(x, t, **condition)

    model = Watched(sde, [0.4, 0.6], torch.tensor([[1.0, 0.0], [-1.0, 0.5]], dtype=F64), 0.2)
    x0 = model.sample(50, sk.Noise(0))
    levels = grids.levels(sde, [0.8, 0.3])
    model.train()
    found = noise_residual(model, x0, levels, noise)
    assert model.training
    assert modes == [(False, False)] * 2
    assert found.log_snr == (levels[0].log_snr, levels[1].log_snr)
    for k, t in enumerate((0.8, 0.3)):
        eps = noise.normal((50, 2), stream=("residual", k), dtype=F64)
        alpha, sigma = float(sde.alpha(t)), float(sde.sigma(t))
        left = eps - model(alpha * x0 + sigma * eps, t).eps
        assert found.share[k] == pytest.approx(float((left**2).mean()), rel=1e-12)


def test_a_share_is_linear_between_log_snrs_and_constant_beyond_and_within_its_bounds():
    """For numbers and for a level a row; a model worse than none counts as none."""
    found = NoiseResidual((-2.0, 0.0, 4.0), (0.1, 0.5, 0.9))
    for v, want in ((-9.0, 0.1), (-2.0, 0.1), (-1.0, 0.3), (0.0, 0.5), (1.0, 0.6), (4.0, 0.9), (7.0, 0.9)):
        assert found.at(v) == pytest.approx(want, abs=1e-15)
        assert isinstance(found.at(v), float)
    rows = found.at(torch.tensor([[-1.0], [1.0]], dtype=F64))
    torch.testing.assert_close(rows, torch.tensor([[0.3], [0.6]], dtype=F64))
    assert NoiseResidual([1.0], [0.25]).at(-3.0) == 0.25
    sde = sk.VPSDE()
    wrong = sk.models.FromFunction(sde, eps=lambda x, t: -3.0 * x)
    right = sk.models.FromFunction(sde, eps=lambda x, t: x / (1 - 1e-15))
    zero = torch.zeros(20, 3, dtype=F64)
    assert noise_residual(wrong, zero, grids.levels(sde, [0.5]), sk.Noise(0)).share == (1.0,)
    assert 0 < noise_residual(right, zero, sde.levels(torch.tensor([1.0], dtype=F64)), sk.Noise(0)).share[0] < 1e-3
    kept = NoiseResidual(*json.loads(json.dumps([found.log_snr, found.share])))
    assert kept == found
    assert hash(kept) == hash(found)
    assert repr(kept) == "NoiseResidual(log_snr=(-2.0, 0.0, 4.0), share=(0.1, 0.5, 0.9))"


def test_it_is_a_model_like_any_other():
    """Conditions, rows, chunks, guidance's parts and a step for each row; a table's clean end, too."""
    sde = sk.DiscreteVPSDE().respaced(10)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = sk.networks.MLP((2,), width=8, depth=1, classes=3)
    plain = sk.models.Parametrised(network, sde, sk.models.Epsilon(label="index"))
    y = torch.tensor([0, 1, 2, 1])
    residual = noise_residual(
        plain.given(y=y), sk.Noise(1).normal((4, 2), stream="x"), sde.levels(sde.times), sk.Noise(0)
    )
    model = AnalyticVariance(plain, residual)
    settings = {"solver": Ancestral("learned"), "grid": "linspace", "steps": 10, "seed": 3, "per_sample": True}
    x = sk.sample(model.given(y=y), (4, 2), **settings)
    assert torch.equal(x[2:3], sk.sample(model.given(y=y[2:3]), (1, 2), ids=[2], **settings))
    assert model.has_variance
    bound = AnalyticVariance(plain.given(y=y), residual)
    assert bound.condition["y"] is y
    assert torch.equal(bound.rows(torch.tensor([2, 0])).condition["y"], y[[2, 0]])
    p = model(torch.zeros(4, 2), 1.0, y=y)
    assert p.log_var.shape == (4, 2)
    assert p.log_var.dtype == torch.float32
    t = torch.tensor([2.0, 5.0, 7.0, 9.0])
    together = model(torch.zeros(4, 2), t, y=y).log_var
    for i in range(4):
        alone = model(torch.zeros(1, 2), float(t[i]), y=y[i : i + 1]).log_var
        torch.testing.assert_close(together[i : i + 1], alone)


def test_what_is_none_is_named():
    """At the door, before the network is asked."""
    sde = sk.VPSDE()
    model, x0 = mixture(sde), torch.zeros(3, 2, dtype=F64)
    run = grids.levels(sde, "log_snr", 3)
    for make, said in (
        (lambda: NoiseResidual((), ()), "NoiseResidual: log_snr must be a tuple of numbers"),
        (lambda: NoiseResidual((0.0, 1.0), (0.5,)), "NoiseResidual: share must hold one number for each log_snr"),
        (lambda: NoiseResidual((1.0, 1.0), (0.5, 0.5)), "NoiseResidual: log_snr must rise strictly"),
        (lambda: NoiseResidual((1.0,), (0.0,)), "NoiseResidual: share must be finite and > 0 and <= 1"),
        (lambda: NoiseResidual((1.0,), (1.5,)), "NoiseResidual: share must be finite and > 0 and <= 1"),
        (lambda: noise_residual(model, x0, 0.5, sk.Noise(0)), "noise_residual: levels must be those of a run"),
        (lambda: noise_residual(model, x0, [0.5], sk.Noise(0)), "noise_residual: levels must be those of a run"),
        (lambda: noise_residual(model, x0[:0], run, sk.Noise(0)), "noise_residual: x0 must hold data"),
        (lambda: noise_residual(model, x0, run, 0), "noise_residual: noise must be a source"),
        (lambda: AnalyticVariance(model, 0.5), "AnalyticVariance: residual must be a NoiseResidual"),
        (lambda: AnalyticVariance(torch.nn.Identity(), None), "AnalyticVariance: model must be a ScoreModel"),
    ):
        with pytest.raises((sk.errors.InvalidArgument, sk.errors.InvalidType)) as caught:
            make()
        assert said in str(caught.value)
