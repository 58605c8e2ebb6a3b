"""The samplers of the papers, written here as the papers' own loops, beside the solvers on the same draws."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from problems import F64, Recorded, Silent, last, mixture

import sdekit as sk
from sdekit.errors import InvalidArgument, UnsupportedCombination
from sdekit.sdes import tables
from sdekit.solvers import DDIM, Ancestral, AnnealedLangevin, Heun, Langevin, State
from sdekit.types import exp


def normals(n, shape=(6, 2)):
    return [sk.Noise(k).normal(shape, stream="z", dtype=F64) for k in range(n)]


def ddpm_model(sde):
    """The oracle, and eps as the papers' loops ask for it: of x and an index."""
    model = mixture(sde)
    return model, lambda x, i: model(x, float(i + 1)).eps


# DDPM and DDIM on DDPM's own table, with fewer steps

SPACED = {name: tables.SPACINGS[name](1000, 20).tolist() for name in ("leading", "linspace", "trailing")}


@pytest.mark.parametrize("spacing", SPACED)
@pytest.mark.parametrize("variance", ["posterior", "upper"])
@pytest.mark.parametrize("respaced", [False, True], ids=["grid", "respaced table"])
def test_strided_ddpm_is_improved_ddpms(spacing, variance, respaced):
    """Ho et al. 2020, algorithm 2, on Nichol & Dhariwal 2021's respaced betas 1 - alpha_bar_t / alpha_bar_s: either by
    a grid on the whole table or on the respaced one, to 1e-11."""
    sde = sk.DiscreteVPSDE()
    model, eps = ddpm_model(sde)
    index, bar = SPACED[spacing], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    x = x_T = sk.Noise(99).normal((6, 2), stream="x", dtype=F64)
    z = normals(19)
    for k in range(19, -1, -1):
        now, before = bar[index[k]], bar[index[k - 1]] if k else 1.0
        beta = 1 - now / before
        e = eps(x, index[k])
        x = (x - beta / math.sqrt(1 - now) * e) / math.sqrt(1 - beta)
        if k:
            var = beta if variance == "upper" else beta * (1 - before) / (1 - now)
            x = x + math.sqrt(var) * z[19 - k]
    if respaced:
        sde = sde.respaced(20, spacing)
        model = sk.models.FromFunction(sde, eps=lambda x, t: eps(x, t - 1))
    grid = "linspace" if respaced else spacing
    got = last(sk.trajectory(model, Ancestral(variance), x_T, grid, Recorded(z), steps=20)).x
    torch.testing.assert_close(got, x, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("spacing", SPACED)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_strided_ddim_is_its_papers(spacing, eta):
    """Song et al. 2021 (DDIM), eq. 12 and 16 (arXiv:2010.02502), on a sub-sequence of DDPM's table, to 1e-11."""
    sde = sk.DiscreteVPSDE()
    model, eps = ddpm_model(sde)
    index, bar = SPACED[spacing], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    x = x_T = sk.Noise(99).normal((6, 2), stream="x", dtype=F64)
    z = normals(19)
    for k in range(19, -1, -1):
        now, before = bar[index[k]], bar[index[k - 1]] if k else 1.0
        sigma = eta * math.sqrt((1 - before) / (1 - now)) * math.sqrt(1 - now / before)
        e = eps(x, index[k])
        x0 = (x - math.sqrt(1 - now) * e) / math.sqrt(now)
        x = math.sqrt(before) * x0 + math.sqrt(max(1 - before - sigma**2, 0.0)) * e
        if k and eta:
            x = x + sigma * z[19 - k]
    got = last(sk.trajectory(model, DDIM(eta), x_T, spacing, Recorded(z), steps=20)).x
    torch.testing.assert_close(got, x, rtol=1e-11, atol=1e-11)


def test_the_whole_table_is_ddpms_thousand_steps():
    """Algorithm 2 of Ho et al. 2020 at 1000 steps, in N(0, 1) data, where every x_t is N(0, 1): variance to 1e-6.

    With the upper variance the chain keeps the variance exactly, which is what that variance is right for.
    """
    sde = sk.DiscreteVPSDE()
    model = sk.models.FromFunction(sde, eps=lambda x, t: float(sde.sigma(t)) * x)
    variance = 1.0
    run = sk.grids.levels(sde, "linspace", 1000)
    for t, s in itertools.pairwise(run[:-1]):
        one, zero = torch.ones(1, 1, dtype=F64), torch.zeros(1, 1, dtype=F64)
        shrink = float(Ancestral("upper").step(model, State(one, t), s, Recorded([zero])).x)
        kick = float(Ancestral("upper").step(model, State(zero, t), s, Recorded([one])).x)
        variance = shrink**2 * variance + kick**2
    assert variance == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("variance", ["posterior", "upper", "learned"])
def test_every_variance_is_finite_and_positive_at_every_step(variance):
    """On DDPM's table and the cosine one, whole and strided: a root of a logarithm would be NaN."""
    for betas in (tables.linear(), tables.cosine()):
        sde = sk.DiscreteVPSDE(betas)

        def network(x, label):
            return torch.cat([0 * x, 0 * x + 0.4], 1)

        model = sk.models.Parametrised(network, sde, sk.models.Epsilon(label="index"), sk.models.LearnedRange())
        for steps in (1000, 50):
            run = sk.grids.levels(sde, "linspace", steps)
            for t, s in itertools.pairwise(run[:-1]):
                x, z = torch.zeros(1, 1, dtype=F64), torch.ones(1, 1, dtype=F64)
                kick = float(Ancestral(variance).step(model, State(x, t), s, Recorded([z])).x)
                lower, upper = (v * math.sqrt(-math.expm1(t.log_snr - s.log_snr)) for v in (s.sigma, t.sigma))
                assert lower * (1 - 1e-12) <= kick <= upper * (1 + 1e-12)
                if variance == "learned":
                    assert math.log(kick) == pytest.approx(0.7 * math.log(upper) + 0.3 * math.log(lower), abs=1e-9)


def test_the_best_learned_variance_makes_ddpm_exact_for_gaussian_data():
    """N(m, v) data and the variance of x_s | x_t that is theirs: mean and variance after 10 strided steps, to 1e-10.

    The posterior's variance is too small there and the upper one too large: the negative controls.
    """
    sde, m, v = sk.DiscreteVPSDE(), 0.7, 0.3

    class Best(sk.models.Variance):
        def log_var(self, value, t, s):
            ratio = t.alpha / s.alpha
            vs, vt = s.alpha**2 * v + s.sigma**2, t.alpha**2 * v + t.sigma**2
            return torch.full_like(value, math.log(vs - ratio**2 * vs**2 / vt))

    def network(x, label):
        alpha, sigma = (float(f(float(label[0]) + 1)) for f in (sde.alpha, sde.sigma))
        eps = sigma / (alpha**2 * v + sigma**2) * (x - alpha * m)
        return torch.cat([eps, 0 * x], 1)

    model = sk.models.Parametrised(network, sde, sk.models.Epsilon(label="index"), Best())
    found = {}
    for kind in ("learned", "posterior", "upper"):
        x = torch.zeros(11, 1, dtype=F64)
        x[1] = 1.0
        run = sk.grids.levels(sde, "linspace", 9, denoise=False)
        state = State(x, run[0])
        for k, s in enumerate(run[1:]):
            z = torch.zeros(11, 1, dtype=F64)
            z[2 + k] = 1.0
            state = Ancestral(kind).step(model, state, s, Recorded([z]))
        offset, response = state.x[0], state.x[1:] - state.x[0]
        a, s = (float(f(1000)) for f in (sde.alpha, sde.sigma))
        variance = response[0] ** 2 * (a * a * v + s * s) + (response[1:] ** 2).sum()
        found[kind] = float(offset + response[0] * a * m), float(variance)
    a, s = (float(f(1)) for f in (sde.alpha, sde.sigma))
    assert found["learned"] == pytest.approx((a * m, a * a * v + s * s), abs=1e-10)
    assert found["posterior"][1] < (a * a * v + s * s) * 0.97
    assert found["upper"][1] > (a * a * v + s * s) * 1.02


def test_a_variance_that_nobody_learned_is_refused_at_the_door():
    with pytest.raises(UnsupportedCombination, match="needs a model with a variance, such as Parametrised"):
        sk.sample(mixture(sk.DiscreteVPSDE()), (2, 2), solver=Ancestral("learned"), steps=3)
    with pytest.raises(InvalidArgument, match="Ancestral: variance must be one of posterior, upper, learned, got 'lo"):
        Ancestral("lower")


def test_a_learned_variance_samples_through_chunks_and_conditions():
    """Bound conditions, keyed rows and a table: the whole way to the samples."""
    sde = sk.DiscreteVPSDE().respaced(10)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = sk.networks.MLP((2,), width=8, depth=1, classes=3, outputs=2)
    model = sk.models.Parametrised(network, sde, sk.models.Epsilon(label="index"), sk.models.LearnedRange())
    y = torch.tensor([0, 1, 2, 1])
    settings = {"solver": Ancestral("learned"), "grid": "linspace", "steps": 10, "seed": 3, "per_sample": True}
    x = sk.sample(model.given(y=y), (4, 2), **settings)
    one = sk.sample(model.given(y=y[2:3]), (1, 2), ids=[2], **settings)
    assert torch.equal(x[2:3], one)


# Where a run starts


def test_a_grid_that_leaves_the_last_levels_out_starts_from_the_law_there():
    """Leading spacing starts at 981 of 1000: from N(0, 1) while alpha^2 / sigma^2 is small, from the data's moments
    where they are known, and not at all where N(0, 1) would be wrong."""
    sde = sk.DiscreteVPSDE()
    x = sk.sample(mixture(sde), (3, 2), solver=DDIM(), grid="leading", steps=50, seed=0)
    assert bool(torch.isfinite(x).all())
    with pytest.raises(
        InvalidArgument, match=r"a run that starts at t=501, where alpha\^2 / sigma\^2 is 0.08.*needs x_T"
    ):
        sk.sample(mixture(sde), (3, 2), solver=DDIM(), grid="leading", steps=2)
    known = sde.with_prior(0.5, 2.0)
    level = known.levels(torch.tensor([501.0], dtype=F64))[0]
    x = torch.tensor([[0.3]], dtype=F64)
    std = torch.tensor((4 * level.alpha**2 + level.sigma**2) ** 0.5, dtype=F64)
    wanted = torch.distributions.Normal(0.5 * level.alpha, std).log_prob(x)
    torch.testing.assert_close(known.prior_at(501.0).log_prob(x), wanted[:, 0], rtol=1e-12, atol=0)
    sk.sample(mixture(known), (3, 2), solver=DDIM(), grid="leading", steps=2)
    sk.sample(mixture(known), (3, 2), solver=DDIM(), grid="leading", steps=2, per_sample=True)


@pytest.mark.parametrize(
    "sde",
    [
        sk.DiscreteVPSDE(tables.linear(100, 1e-5, 1e-2)),
        sk.DiscreteVESDE(),
        sk.VPSDE(beta_max=3.0),
        sk.VESDE(sigma_max=2.0),
    ],
    ids=repr,
)
def test_a_process_that_ends_while_the_data_show_says_so(sde):
    """Such as the 100 steps of a teaching notebook, whose alpha_bar ends at 0.605; and not where moments are known."""
    settings = {"solver": DDIM(), "steps": 3, "seed": 0}
    with pytest.warns(sk.errors.PriorWarning, match=f"{type(sde).__name__}: the process ends at alpha"):
        sk.sample(mixture(sde), (3, 2), **settings)
    sk.sample(mixture(sde.with_prior(0.0, 1.5)), (3, 2), **settings)
    sk.sample(mixture(sde), x_T=torch.zeros(3, 2, dtype=F64), **settings)


# NCSN and NCSNv2


@pytest.mark.parametrize("denoise", [False, True], ids=["NCSN", "NCSNv2"])
def test_annealed_langevin_is_song_and_ermons(denoise):
    """Song & Ermon 2019, algorithm 1: alpha_i = eps sigma_i^2 / sigma_L^2, x + alpha_i / 2 score + sqrt(alpha_i) z, T
    times a level; Song & Ermon 2020 end with x + sigma_L^2 score."""
    sde = sk.DiscreteVESDE()
    model = mixture(sde)
    sigmas, epsilon, T = tables.geometric().flip(0).tolist(), 2e-5, 7
    x_T = sk.Noise(5).normal((6, 2), stream="x", dtype=F64) * 2
    z = normals(9 * T)
    x, k = x_T, 0
    for i in range(1, 10):  # x_T stands for the chain at sigma_1
        step = epsilon * sigmas[i] ** 2 / sigmas[-1] ** 2
        for _ in range(T):
            x = x + step / 2 * model(x, float(10 - i)).score + math.sqrt(step) * z[k]
            k += 1
    if denoise:
        x = x + sigmas[-1] ** 2 * model(x, 1.0).score
    solver = AnnealedLangevin.ncsn(epsilon, sigmas[-1], T)
    grid = sde.times.flip(0)
    got = last(sk.trajectory(model, solver, x_T, grid, Recorded(z), denoise=denoise)).x
    torch.testing.assert_close(got, x, rtol=1e-11, atol=1e-11)


def test_annealed_langevin_on_vp_is_the_same_chain_on_x_over_alpha():
    """The rescaled process has the rescaled run, as on VE, from the same draws: to 1e-11."""
    runs = []
    log_snr = torch.linspace(-6.0, 8.0, 12, dtype=F64)
    for sde in (sk.VPSDE(), sk.VESDE(sigma_min=0.002, sigma_max=160.0)):
        times = sde.time_at(log_snr)
        start = sk.Noise(3).normal((6, 2), stream="x", dtype=F64) * math.exp(3.0) * float(sde.alpha(times[0]))
        states = sk.trajectory(mixture(sde), AnnealedLangevin(0.2, 5), start, times, Recorded(normals(11 * 5)))
        runs.append([x / level.alpha for x, level, _ in states])
    for a, b in zip(*runs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_ncsns_step_sizes_are_the_published_ones():
    """NCSN: eps = 2e-5, T = 100 of sigma_L = 0.01 (section 5). NCSNv2, table 5 of its appendix B: CIFAR-10, 50 to 0.01
    in 232 levels, T = 5: 6.2e-6; CelebA, 90 in 500 levels: 3.3e-6 (arXiv:2006.09011)."""
    assert AnnealedLangevin.ncsn().rate == pytest.approx(0.1)
    assert AnnealedLangevin.ncsn().steps == 100
    for sigma_max, levels, published in ((50.0, 232, 6.2e-6), (90.0, 500, 3.3e-6)):
        epsilon = AnnealedLangevin.ncsnv2(0.01, sigma_max, levels, 5).rate * 0.01**2
        assert epsilon == pytest.approx(published, rel=0.03)
    assert AnnealedLangevin.ncsnv2() == AnnealedLangevin.ncsnv2(0.01, 50.0, 232, 5)


@pytest.mark.parametrize(("sigma_max", "levels", "steps"), [(50.0, 232, 5), (1.0, 10, 3), (0.013, 2, 2)])
def test_ncsnv2s_rate_leaves_the_next_levels_variance_as_nearly_as_any(sigma_max, levels, steps):
    """The chain's variance on a point of data, by its recursion v <- (1 - r)^2 v + 2 r from the ratio of two levels
    squared: no other rate of a fine scan brings it closer to 1 (Song & Ermon 2020, technique 4)."""
    ratio = (sigma_max / 0.01) ** (1 / (levels - 1))

    def off(r):
        v = ratio**2
        for _ in range(steps):
            v = (1 - r) ** 2 * v + 2 * r
        return abs(v - 1)

    found = AnnealedLangevin.ncsnv2(0.01, sigma_max, levels, steps).rate
    assert off(found) <= min(off(found * factor) for factor in (1 - 1e-6, 1 - 1e-9, 1 + 1e-9, 1 + 1e-6))
    assert off(found) <= 1e-9 + min(off(math.exp(math.log(1e-6) * (1 - i / 997))) for i in range(997))


def test_annealed_langevin_at_one_level_is_langevin():
    sde = sk.VESDE()
    t = sde.levels(torch.tensor([0.4, 0.3], dtype=F64))
    x, z = normals(1)[0], normals(3)
    a = AnnealedLangevin(0.08, 3).step(mixture(sde), State(x, t[0]), t[1], Recorded(z)).x
    b = Langevin(0.2, 3).step(mixture(sde), State(x, t[0]), t[1], Recorded(z)).x
    torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)


# EDM


@pytest.mark.parametrize(("churn", "noise", "bounds"), [(0.0, 1.0, (0, math.inf)), (40.0, 1.003, (0.05, 50.0))])
def test_heun_with_churn_is_edms_stochastic_sampler(churn, noise, bounds):
    """Karras et al. 2022, algorithm 2 (arXiv:2206.00364), with its 18 levels and the parameters of its appendix."""
    sde, n = sk.EDMSDE(), 18
    model = mixture(sde)
    i = np.arange(n)
    t = [*((80 ** (1 / 7) + i / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7), 0.0]
    x = x_T = sk.Noise(5).normal((6, 2), stream="x", dtype=F64) * 80
    z = normals(n)
    k = 0
    for a, b in itertools.pairwise(t):
        gamma = min(churn / n, math.sqrt(2) - 1) if bounds[0] <= a <= bounds[1] and b else 0.0
        raised = a * (1 + gamma)
        if gamma:
            x = x + math.sqrt(raised**2 - a**2) * noise * z[k]
            k += 1
        d = (x - model(x, raised).x0) / raised
        nxt = x + (b - raised) * d
        if b:
            d = 0.5 * d + 0.5 * (nxt - model(nxt, b).x0) / b
            nxt = x + (b - raised) * d
        x = nxt
    solver = Heun(min(churn / n, math.sqrt(2) - 1), *bounds, churn_noise=noise)
    got = last(sk.trajectory(model, solver, x_T, "karras", Recorded(z), steps=n)).x
    torch.testing.assert_close(got, x, rtol=1e-9, atol=1e-9)
    assert solver.stochastic is (churn > 0)


@pytest.mark.parametrize("rows", [False, True], ids=["one time", "a time a row"])
def test_churn_acts_at_its_bounds_and_not_beyond(rows):
    """churn_min <= n <= churn_max, where n is sigma / alpha of the step's start, to the bit."""
    sde = sk.EDMSDE()
    x = torch.ones(2, 2, dtype=F64)
    t, s = (torch.tensor([v, v], dtype=F64) if rows else v for v in (3.0, 2.0))
    start, end = State(x, sde.level(t, x)), sde.level(s, x)
    n = torch.as_tensor(exp(-0.5 * start.level.log_snr), dtype=F64).flatten()[0].item()
    model, z = mixture(sde), [torch.ones(2, 2, dtype=F64)]

    def moved(low, high):
        churned = Heun(0.2, low, high).step(model, start, end, Recorded(z)).x
        return not torch.equal(churned, Heun().step(model, start, end, Silent()).x)

    assert moved(n, n)
    assert moved(0.0, math.inf)
    assert not moved(math.nextafter(n, math.inf), math.inf)
    assert not moved(0.0, math.nextafter(n, 0.0))


def test_edms_table_of_samplers():
    """Karras et al. 2022, table 1: 18 levels and 35 evaluations on CIFAR-10, 256 and 511 on ImageNet."""
    model = mixture(sk.EDMSDE())
    assert sk.sample(model, (1, 2), solver=Heun(), grid="karras", steps=18, full=True).nfe == 35
    churned = Heun(churn=40 / 256, churn_min=0.05, churn_max=50.0, churn_noise=1.003)
    assert sk.sample(model, (1, 2), solver=churned, grid="karras", steps=256, full=True).nfe == 511


def test_churn_leaves_the_law_as_it_is():
    """On a Gaussian with the exact score: fresh noise and the way back leave mean and variance, to the solver's error.

    Churn's noise has a stream of its own: with keyed draws it never repeats the path's.
    """
    sde = sk.EDMSDE().with_prior(0.0, 1.0)
    model = sk.models.GaussianMixture(sde, [1.0], torch.zeros(1, 1, dtype=F64), 1.0)
    x = sk.sample(model, (20_000, 1), solver=Heun(churn=0.2), grid="karras", steps=60, seed=1)
    # 20,000 draws of N(0, 1): standard errors 0.007 and 0.01
    assert float(x.mean()) == pytest.approx(0.0, abs=0.035)
    assert float(x.var()) == pytest.approx(1.0, abs=0.05)
    streams = []

    class Listening:
        def __call__(self, x, t, s, stream="path"):
            streams.append(stream)
            return torch.zeros_like(x)

    last(sk.trajectory(model, Heun(churn=0.2), x[:2], "karras", Listening(), steps=5))
    assert streams == ["churn"] * 3  # not at t_max, and not in the last step


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Heun(churn=0.5), "Heun: churn must be finite and >= 0 and <= 0.41"),
        (lambda: Heun(churn=-0.1), "Heun: churn must be"),
        (lambda: Heun(churn_min=2.0, churn_max=1.0), "Heun: churn_max must reach churn_min"),
        (lambda: Heun(churn_noise=0.0), "Heun: churn_noise must be finite and > 0"),
        (lambda: AnnealedLangevin(rate=2.0), "AnnealedLangevin: rate must be finite and > 0 and < 2"),
        (lambda: AnnealedLangevin(steps=0), "AnnealedLangevin: steps must be at least 1"),
        (lambda: AnnealedLangevin.ncsn(epsilon=-1.0), "AnnealedLangevin.ncsn: epsilon must be"),
        (lambda: AnnealedLangevin.ncsn(epsilon=1e-2), "AnnealedLangevin: rate must be finite and > 0 and < 2"),
        (lambda: AnnealedLangevin.ncsnv2(sigma_max=0.001), "AnnealedLangevin.ncsnv2: sigma_max must be"),
    ],
)
def test_settings_that_are_none_are_named(make, said):
    with pytest.raises(InvalidArgument) as caught:
        make()
    assert said in str(caught.value)


def test_another_rho_is_a_partial():
    """EDM's table 1 has rho = 7; any other by functools.partial, churn or not."""
    model = mixture(sk.EDMSDE())
    grid = functools.partial(sk.grids.karras, rho=3.0)
    assert bool(torch.isfinite(sk.sample(model, (2, 2), solver=Heun(churn=0.1), grid=grid, steps=6)).all())
