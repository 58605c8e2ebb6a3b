"""Denoising score matching: its floor, its minimiser, its weights, and the densities of its times.

The objectives without a target are in test_score_matching.py.

Expectations are taken by quadrature: the data and the noise of a batch are Gauss-Hermite nodes, its times are
Gauss-Legendre nodes, and the loss of each row is weighed by hand. Nothing is left to chance.
"""

import math

import numpy as np
import pytest
import torch
from honest import dkw, proportion, uniform
from scipy import stats
from subjects import rows_and_sdes, sdes

import sdekit as sk
from sdekit import losses
from sdekit.errors import InvalidArgument, InvalidType, NonFiniteError, UnsupportedCombination
from sdekit.losses import DenoisingScoreMatching
from sdekit.models import FromFunction, GaussianMixture, Karras, Parametrised
from sdekit.types import schedule

F32, F64 = torch.float32, torch.float64
MEAN, VAR = 0.8, 0.3  # of the data

each_sde = pytest.mark.parametrize("sde", sdes())


class Given:
    """A source of noise that gives the eps, and the u, that it was given."""

    def __init__(self, eps=None, u=0.5):
        self.eps, self.u = eps, u

    def normal(self, shape, *, stream, dtype=None, device=None):
        assert tuple(shape) == tuple(self.eps.shape)
        return self.eps.to(dtype)

    def uniform(self, n, *, stream, device=None):
        return torch.full((n,), self.u, dtype=F64)


def nodes(n=12):
    """Pairs of standard normals (z, eps) with weights: exact for polynomials of degree 2 n - 1 in each."""
    v, w = np.polynomial.hermite_e.hermegauss(n)
    z, eps = np.meshgrid(v, v, indexing="ij")
    weights = np.outer(w, w).reshape(-1) / w.sum() ** 2
    return torch.tensor(z.reshape(-1)), torch.tensor(eps.reshape(-1)), torch.tensor(weights)


def at(t):
    """A time density of one time."""
    return lambda sde, n, noise, device: (torch.full((n,), t, dtype=F64), 1.0)


def expected(model, t, *, mean=MEAN, var=VAR, **settings):
    """E over x0 ~ N(mean, var) and eps of the loss at the time t, exactly for a score that is linear in x."""
    z, eps, w = nodes()
    loss = DenoisingScoreMatching(times=at(t), **settings)
    rows = loss.per_sample(model, (mean + math.sqrt(var) * z)[:, None], Given(eps[:, None]))
    return (w * rows).sum()


def exact(sde, mean=MEAN, var=VAR):
    return GaussianMixture(sde, [1.0], torch.tensor([[mean]], dtype=F64), var)


def some_times(sde, n=5):
    t = torch.logspace(math.log10(sde.t_min), math.log10(sde.t_max), n, dtype=F64)
    return t.clamp(sde.t_min, sde.t_max).tolist()


# The floor


@each_sde
def test_at_the_exact_score_the_loss_is_its_floor(sde):
    """E |eps - E[eps | x]|^2 = alpha^2 v / (alpha^2 v + sigma^2) a coordinate, for data N(m, v): at most 1 at any t."""
    for t in some_times(sde):
        alpha, sigma = float(sde.alpha(t)), float(sde.sigma(t))
        floor = alpha**2 * VAR / (alpha**2 * VAR + sigma**2)
        assert float(expected(exact(sde), t)) == pytest.approx(floor, rel=1e-10, abs=1e-12)


@each_sde
def test_at_the_exact_score_the_likelihood_weighted_loss_is_its_floor(sde):
    """g^2 / (2 sigma^2) times the floor: with g^2 / 2 on the score (Song et al. 2021b, eq. 7, arXiv:2101.09258)."""
    for t in some_times(sde):
        alpha, sigma, g = (float(f(t)) for f in (sde.alpha, sde.sigma, sde.diffusion))
        floor = 0.5 * g**2 * (1 / sigma**2 - 1 / (alpha**2 * VAR + sigma**2))
        found = float(expected(exact(sde), t, weight="likelihood"))
        assert found == pytest.approx(floor, rel=1e-9, abs=1e-12 * 0.5 * g**2 / sigma**2)


@each_sde
@pytest.mark.parametrize("weight", ["simple", "likelihood"])
def test_the_exact_score_is_stationary_and_its_opposite_is_not(sde, weight):
    """The gradient along 1, x and the exact eps is 0 at eps, to round-off; at -eps it is not (Vincent 2011)."""
    model = exact(sde)
    for t in some_times(sde):
        for sign in (1.0, -1.0):
            c = torch.zeros(3, dtype=F64, requires_grad=True)

            def eps(x, t, sign=sign, c=c):
                right = model(x, t.reshape(-1)).eps
                return sign * right + c[0] + c[1] * x + c[2] * right

            loss = expected(FromFunction(sde, eps=eps), t, weight=weight)
            (slope,) = torch.autograd.grad(loss, c)
            sizes = expected(FromFunction(sde, eps=lambda x, t: 0 * x), t, weight=weight).item() * (
                1 + float(sde.sigma(t))
            )
            if sign > 0:
                assert float(slope.abs().max()) <= 1e-10 * sizes
            else:
                assert float(slope[2].abs()) > 1e-2 * sizes * min(1.0, float(sde.sigma(t)) ** 2)


@pytest.mark.parametrize(("row", "sde"), rows_and_sdes())
def test_no_parametrisation_changes_the_loss(sde, row):
    """The same belief costs the same whatever the network's output means."""
    oracle = exact(sde)

    def network(y, label):
        x = y / row.scaling(level).inp
        p, q = row.target(level)
        return p * oracle(x, level).x0 + q * oracle(x, level).eps

    for t in some_times(sde)[1:]:
        level = sde.level(t, torch.zeros(1))
        model = Parametrised(network, sde, row)
        assert float(expected(model, t)) == pytest.approx(float(expected(oracle, t)), rel=1e-8, abs=1e-10)


@each_sde
def test_the_loss_is_the_distance_of_the_beliefs_above_the_floor(sde):
    """w E |eps_model - E[eps | x]|^2 more than the floor: another Gaussian's score, in closed form."""
    other_mean, other_var = -0.2, 0.7
    model = exact(sde, other_mean, other_var)
    for t in some_times(sde):
        a, s = float(sde.alpha(t)), float(sde.sigma(t))
        v, u = a * a * VAR + s * s, a * a * other_var + s * s
        # eps of N(m, v) is sigma (x - alpha m) / v
        slope = s / u - s / v
        offset = s * a * (MEAN / v - other_mean / u)
        gap = slope**2 * v + (slope * a * MEAN + offset) ** 2
        found = float(expected(model, t)) - float(expected(exact(sde), t))
        assert found == pytest.approx(gap, rel=1e-8, abs=1e-11)


@each_sde
def test_the_likelihood_weight_is_the_rate_of_the_kl_divergence(sde):
    """Song et al. 2021b, theorem 1 and its proof (arXiv:2101.09258), with equality between two diffused Gaussians:

    KL(p || q) at t_min - KL(p || q) at t_max = int (g^2 / 2) E_p |score_p - score_q|^2 dt.
    """
    other_mean, other_var = 0.1, 0.9
    data, other = exact(sde), exact(sde, other_mean, other_var)

    def kl(t):
        a, s = float(sde.alpha(t)), float(sde.sigma(t))
        v, u = a * a * VAR + s * s, a * a * other_var + s * s
        return 0.5 * (v / u - 1 - math.log(v / u) + (a * (MEAN - other_mean)) ** 2 / u)

    if isinstance(sde, sk.TableSDE):  # between each two levels, where the rate is smooth
        v, w = np.polynomial.legendre.leggauss(2)
        ends = sde.times.numpy()
        half, middle = 0.5 * np.diff(ends)[:, None], 0.5 * (ends[1:] + ends[:-1])[:, None]
        t, weights = (half * v + middle).reshape(-1), (half * w).reshape(-1)
    else:  # Gauss-Legendre in log t: dt = t d(log t)
        v, w = np.polynomial.legendre.leggauss(120)
        low, high = math.log(sde.t_min), math.log(sde.t_max)
        t = np.exp(0.5 * (high - low) * v + 0.5 * (high + low))
        weights = 0.5 * (high - low) * w * t
    rate = [float(expected(other, u, weight="likelihood") - expected(data, u, weight="likelihood")) for u in t]
    assert float(weights @ np.array(rate)) == pytest.approx(
        kl(sde.t_min) - kl(sde.t_max), rel=1e-4 if isinstance(sde, sk.TableSDE) else 1e-6
    )


@each_sde
@pytest.mark.parametrize("weight", ["simple", "likelihood"])
def test_the_loss_is_finite_and_its_draws_are_not_wild_at_t_min(sde, weight):
    """A coordinate's loss has mean w m and standard deviation at most 3 w there: w |eps - eps_model|^2, |.| of O(1)."""
    z, eps, w = nodes()
    loss = DenoisingScoreMatching(weight=weight, times=at(sde.t_min))
    rows = loss.per_sample(exact(sde), (MEAN + math.sqrt(VAR) * z)[:, None], Given(eps[:, None]))
    level = sde.level(sde.t_min, torch.zeros(1))
    scale = 1.0 if weight == "simple" else losses.likelihood(level)
    mean = float((w * rows).sum())
    assert mean <= scale
    assert float((w * rows**2).sum()) - mean**2 <= 9 * scale**2


# Weights, reductions, rows


def test_the_named_weights_are_their_formulas():
    """1, and g^2 / (2 sigma^2)."""
    for sde in (p.values[0] for p in sdes()):
        for t in some_times(sde):
            level = sde.level(t, torch.zeros(1))
            assert losses.simple(level) == 1.0
            g, sigma = float(sde.diffusion(t)), float(sde.sigma(t))
            assert losses.likelihood(level) == pytest.approx(g**2 / (2 * sigma**2), rel=1e-13)
        rows = torch.tensor(some_times(sde), dtype=F64)
        column = losses.likelihood(sde.level(rows, torch.zeros(5, 2, 2)))
        assert column.shape == (5, 1, 1)
        torch.testing.assert_close(column.flatten(), sde.diffusion(rows) ** 2 / (2 * sde.sigma(rows) ** 2))


class Flow(sk.GaussianSDE):
    """The straight flow: alpha = 1 - t, sigma = t."""

    t_min, t_max = 0.01, 0.99

    @schedule
    def alpha(self, t):
        return 1 - t

    @schedule
    def sigma(self, t):
        return t


@each_sde
@pytest.mark.parametrize("sigma_data", [0.5, 1.3])
def test_the_edm_weight_is_the_plain_square_of_edms_network(sde, sigma_data):
    """Karras et al. 2022, table 1: lambda = (s^2 + d^2) / (s d)^2 on the data, whose error is F's times out = s d / r.

    And at the exact score with data of standard deviation d it is E |F - F*|^2, at most 1 at any t.
    """
    d, weight = sigma_data, losses.EDM(sigma_data)
    for t in some_times(sde):
        level = sde.level(t, torch.zeros(1))
        s = level.sigma / level.alpha
        on_data = (s**2 + d**2) / (s * d) ** 2
        assert weight(level) == pytest.approx(on_data * s**2, rel=1e-12)
        assert weight(level) * (Karras(sigma_data=d).scaling(level).out / s) ** 2 == pytest.approx(1.0, rel=1e-12)
        alone = float(expected(exact(sde, var=d**2), t, var=d**2, weight=weight))
        assert alone == pytest.approx(1.0, rel=1e-9)


def test_the_flow_weight_is_the_plain_square_of_the_velocity():
    """Lipman et al. 2023, eq. 9: on alpha = 1 - t, sigma = t the loss is |v_model(x_t, t) - (eps - x0)|^2."""
    sde, x0, noise = Flow(), batch(), sk.KeyedNoise(0)
    model = crooked(sde)
    rows = DenoisingScoreMatching(weight="flow").per_sample(model, x0, noise)
    t, _ = losses.stratified(sde, 6, noise)
    eps = noise.normal(x0.shape, stream="loss", dtype=F64)
    x = (1 - t[:, None, None]) * x0 + t[:, None, None] * eps
    by_hand = (model(x, t).velocity - (eps - x0)).square().flatten(1).mean(1)
    torch.testing.assert_close(rows, by_hand, rtol=1e-11, atol=0)
    backwards = (model(x, t).velocity + (eps - x0)).square().flatten(1).mean(1)
    assert not torch.allclose(rows, backwards, rtol=0.1)
    for u in some_times(sde):
        assert losses.flow(sde.level(u, x0)) == pytest.approx(1 / (1 - u) ** 2, rel=1e-12)


@each_sde
def test_the_flow_weight_is_that_of_any_process(sde):
    """|v_model - (alpha' x0 + sigma' eps)|^2, with the derivatives as differences."""
    x0, eps, model = batch(), batch(seed=1), crooked(sde)
    for t in some_times(sde)[1:-1]:
        h = 1e-6 * t
        da, ds = ((float(f(t + h)) - float(f(t - h))) / (2 * h) for f in (sde.alpha, sde.sigma))
        x = sde.perturb(x0, t, eps)
        by_hand = (model(x, t).velocity - (da * x0 + ds * eps)).square().flatten(1).mean(1)
        rows = DenoisingScoreMatching(weight="flow", times=t).per_sample(model, x0, Given(eps))
        torch.testing.assert_close(rows, by_hand, rtol=1e-6, atol=0)


@each_sde
@pytest.mark.parametrize("gamma", [5.0, 0.5])
def test_the_min_snr_weight_is_the_snr_on_the_data_but_gamma_at_most(sde, gamma):
    """Hang et al. 2023: min(SNR, gamma) |x0_model - x0|^2."""
    x0, eps, model = batch(), batch(seed=1), crooked(sde)
    for t in some_times(sde):
        snr = float(sde.alpha(t)) ** 2 / float(sde.sigma(t)) ** 2
        square = (model(sde.perturb(x0, t, eps), t).x0 - x0).square().flatten(1).mean(1)
        rows = DenoisingScoreMatching(weight=losses.MinSNR(gamma), times=t).per_sample(model, x0, Given(eps))
        torch.testing.assert_close(rows, min(snr, gamma) * square, rtol=1e-5, atol=0)
        assert losses.MinSNR(gamma)(sde.level(t, x0)) == pytest.approx(min(snr, gamma) / snr, rel=1e-12)


@each_sde
def test_a_name_is_its_weight_and_a_weight_is_one_a_row(sde):
    """The same numbers from a level of floats and from one of tensors, (B, 1, ..., 1)."""
    named = {"simple": losses.simple, "likelihood": losses.likelihood, "edm": losses.EDM(0.5), "flow": losses.flow,
             "min_snr": losses.MinSNR(5.0)}  # fmt: skip
    assert list(losses.weights.NAMES) == list(named)
    t = torch.tensor(some_times(sde), dtype=F64)
    x0, eps = batch(5), batch(5, seed=1)
    for name, weight in named.items():
        column = weight(sde.level(t, x0))
        singly = torch.tensor([float(weight(sde.level(u, x0))) for u in t.tolist()], dtype=F64)
        torch.testing.assert_close(torch.as_tensor(column, dtype=F64).flatten().expand(5), singly, rtol=1e-12, atol=0)
        both = [
            DenoisingScoreMatching(weight=w, times=float(t[2])).per_sample(crooked(sde), x0, Given(eps))
            for w in (name, weight)
        ]
        assert torch.equal(*both)


def batch(n=6, event=(2, 3), dtype=F64, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, *event, generator=g, dtype=dtype)


def crooked(sde):
    """A model that is wrong everywhere, and differently in every coordinate."""
    return FromFunction(sde, eps=lambda x, t: torch.sin(3 * x) + 0.2)


@each_sde
def test_the_rows_are_their_own_and_the_loss_is_their_mean(sde):
    """(B,), each row w |eps_model - eps|^2 of its own time, data and noise: never a (B, 1) against a (B,)."""
    x0, noise = batch(), sk.KeyedNoise(3)
    model = crooked(sde)
    for event in ((), (1,), (2, 3), (6,)):  # (6,) of 6 rows would hide a transposed broadcast
        x0 = batch(6, event)
        t, _ = losses.stratified(sde, 6, noise)
        eps = noise.normal(x0.shape, stream="loss", dtype=F64)
        for weight in ("simple", "likelihood", lambda level: level.alpha + 2.0):
            rows = DenoisingScoreMatching(weight=weight).per_sample(model, x0, noise)
            assert rows.shape == (6,)
            for i in range(6):
                alpha, sigma, g = (float(f(t[i])) for f in (sde.alpha, sde.sigma, sde.diffusion))
                w = {"simple": 1.0, "likelihood": g**2 / (2 * sigma**2)}.get(weight, alpha + 2.0)
                x = alpha * x0[i] + sigma * eps[i]
                square = ((torch.sin(3 * x) + 0.2 - eps[i]) ** 2).mean()
                assert float(rows[i]) == pytest.approx(w * float(square), rel=1e-9)
            value = DenoisingScoreMatching(weight=weight)(model, x0, noise)
            assert value.shape == ()
            assert float(value) == pytest.approx(float(rows.mean()), rel=1e-12)


@each_sde
def test_a_rows_loss_does_not_see_its_mates(sde):
    noise = sk.KeyedNoise(3)
    x0 = batch()
    rows = DenoisingScoreMatching().per_sample(crooked(sde), x0, noise)
    x0[1:] = 100 * x0[1:] + 7
    assert float(DenoisingScoreMatching().per_sample(crooked(sde), x0, noise)[0]) == float(rows[0])


def test_sum_is_mean_times_the_dimension():
    """Doubling the coordinates doubles the sum and leaves the mean."""
    sde = sk.VPSDE()
    x0, noise = batch(), sk.KeyedNoise(0)
    mean, total = (DenoisingScoreMatching(reduction=r).per_sample(crooked(sde), x0, noise) for r in ("mean", "sum"))
    torch.testing.assert_close(total, 6 * mean, rtol=1e-13, atol=0)
    twice = torch.cat([x0, x0], 1)
    eps = batch(seed=4)
    for reduction, factor in (("mean", 1), ("sum", 2)):
        loss = DenoisingScoreMatching(reduction=reduction, times=at(0.4))
        once = loss.per_sample(crooked(sde), x0, Given(eps))
        both = loss.per_sample(crooked(sde), twice, Given(torch.cat([eps, eps], 1)))
        torch.testing.assert_close(both, factor * once, rtol=1e-13, atol=0)


def test_a_density_of_times_multiplies_by_its_factor():
    """Importance sampling: a row's loss times the factor of its time, as a number or as one a row."""
    sde, x0, eps = sk.VPSDE(), batch(), batch(seed=1)
    plain = DenoisingScoreMatching(times=at(0.4)).per_sample(crooked(sde), x0, Given(eps))
    factors = torch.linspace(0.5, 3.0, 6, dtype=F64)
    for factor in (2.5, factors):
        density = lambda sde, n, noise, device, f=factor: (torch.full((n,), 0.4, dtype=F64), f)  # noqa: E731
        found = DenoisingScoreMatching(times=density).per_sample(crooked(sde), x0, Given(eps))
        torch.testing.assert_close(found, factor * plain, rtol=1e-14, atol=0)


def test_a_condition_reaches_the_model():
    sde, x0, noise = sk.VPSDE(), batch(), sk.KeyedNoise(0)
    model = FromFunction(sde, eps=lambda x, t, y: y + 0 * x)
    y = batch(seed=2)
    loss = DenoisingScoreMatching()
    assert float(loss(model, x0, noise, y=y)) == float(loss(model.given(y=y), x0, noise))
    assert float(loss(model, x0, noise, y=y)) != float(loss(model, x0, noise, y=0 * y))


@pytest.mark.parametrize("dtype", [F32, F64, torch.bfloat16], ids=str)
def test_the_loss_is_in_the_dtype_of_the_data(dtype):
    value = DenoisingScoreMatching("likelihood")(crooked(sk.VPSDE()), batch(dtype=dtype), sk.Noise(0))
    assert value.dtype == dtype


def test_a_step_of_training_lowers_the_loss_and_the_network_learns_the_score():
    """Gradient descent on one weight: eps = c x on N(0, 1) data and VP noise, whose best c is sigma at every t."""
    sde = sk.VPSDE()
    c = torch.tensor(0.0, dtype=F64, requires_grad=True)
    t, model = 0.3, FromFunction(sde, eps=lambda x, t: c * x)
    for _ in range(200):
        (slope,) = torch.autograd.grad(expected(model, t, mean=0.0, var=1.0), c)
        with torch.no_grad():
            c -= 0.2 * slope
    assert c.item() == pytest.approx(float(sde.sigma(t)), rel=1e-9)


# Densities of times


@pytest.mark.statistical
@pytest.mark.parametrize("density", [losses.uniform, losses.stratified])
def test_each_rows_time_is_uniform_on_the_domain(density, seed):
    """The first and the last row of five, over 4000 sources; a power of 1.25 is seen."""
    sde = sk.EDMSDE()
    t = torch.stack([density(sde, 5, sk.Noise((seed, k)))[0] for k in range(4000)])
    u = ((t - sde.t_min) / (sde.t_max - sde.t_min)).numpy()
    assert t.dtype == F64
    for row in (0, 4):
        dkw(u[:, row], uniform, of=2).holds(detects=0.075)
    dkw(u[:, 0] ** 1.25, uniform, of=2).fails()
    assert density(sde, 5, sk.Noise(0))[1] == 1.0


@each_sde
@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_stratified_times_are_one_in_each_part(sde, n):
    """Kingma et al. 2021, appendix I.1: u_i = (u_0 + i / n) mod 1."""
    for source in (sk.Noise, sk.KeyedNoise):
        for seed in range(20):
            t, _ = losses.stratified(sde, n, source(seed))
            if isinstance(sde, sk.TableSDE):  # the table's times at the same fractions
                even, _ = losses.stratified(sk.FlowSDE(), n, source(seed))
                u = (even - 0.001) / 0.998
                index = (u * len(sde.times)).floor().long().clamp(max=len(sde.times) - 1)
                assert torch.equal(t, sde.times[index])
                continue
            u = (t - sde.t_min) / (sde.t_max - sde.t_min)
            assert sorted((u * n).floor().long().clamp(max=n - 1).tolist()) == list(range(n))
            assert bool(((t >= sde.t_min) & (t <= sde.t_max)).all())
            torch.testing.assert_close(
                u.sort().values.diff(), torch.full((n - 1,), 1 / n, dtype=F64), rtol=0, atol=1e-12
            )


def test_stratified_times_make_the_loss_less_noisy():
    """The variance over batches of a mean of cos(pi u), 1 / (2 n) for independent times, all but vanishes: over the one
    number u_0 that a batch draws, at 64 midpoints."""
    sde = sk.VPSDE(t_min=1e-9)
    means = [torch.cos(math.pi * losses.stratified(sde, 16, Given(u=(k + 0.5) / 64))[0]).mean() for k in range(64)]
    assert 0 < float(torch.stack(means).var()) < 1 / 32 / 20


def test_no_rows_have_no_times():
    for density in (losses.uniform, losses.stratified, losses.importance, losses.LogNormal(), losses.LogitNormal()):
        assert density(sk.VPSDE(), 0, sk.Noise(0))[0].shape == (0,)


@pytest.mark.statistical
def test_log_normal_times_have_a_normal_logarithm_of_the_noise(seed):
    """ln(sigma / alpha) on 4000 rows; beyond the range, its ends. A deviation 1.1 and a mean 0.25 off are seen."""
    for sde in (sk.EDMSDE(t_min=1e-4, t_max=1e3), sk.VPSDE(t_min=1e-8, beta_max=40.0)):
        for mean, std in ((-1.2, 1.2), (0.3, 0.5)):
            t, factor = losses.LogNormal(mean, std)(sde, 4000, sk.Noise((seed, 1)))
            assert (t.dtype, factor) == (F64, 1.0)
            z = ((sde.sigma(t) / sde.alpha(t)).log() - mean) / std
            dkw(z, stats.norm.cdf, of=4).holds(detects=0.075)
            dkw(1.1 * z + 0.25, stats.norm.cdf, of=4).fails()
    sde = sk.VESDE(sigma_min=0.2, sigma_max=0.4)
    t, _ = losses.LogNormal()(sde, 4000, sk.Noise(0))
    assert (float(t.min()), float(t.max())) == (sde.t_min, sde.t_max)


def test_the_defaults_are_the_papers():
    """Karras et al. 2022, table 1; Esser et al. 2024, section 5.1, rf/lognorm(0, 1); Ho et al. 2020, section 3.3."""
    assert losses.LogNormal() == losses.LogNormal(mean=-1.2, std=1.2)
    assert losses.LogitNormal() == losses.LogitNormal(mean=0.0, std=1.0)
    assert losses.VariationalBound().decoder_ends == (-1.0, 1.0)


@pytest.mark.statistical
def test_logit_normal_times_have_a_normal_logit(seed):
    """Esser et al. 2024, eq. 19, on the fraction of the domain: 4000 rows; a mean 0.5 off is seen."""
    for sde in (sk.EDMSDE(), Flow()):
        for mean, std in ((0.0, 1.0), (-0.5, 0.7), (2.0, 1.0)):
            t, factor = losses.LogitNormal(mean, std)(sde, 4000, sk.Noise((seed, 2)))
            assert (t.dtype, factor) == (F64, 1.0)
            logit = torch.logit((t - sde.t_min) / (sde.t_max - sde.t_min))
            dkw((logit - mean) / std, stats.norm.cdf, of=6).holds(detects=0.08)
            dkw((logit + 0.5 - mean) / std, stats.norm.cdf, of=6).fails()


@each_sde
def test_importance_draws_log_snrs_evenly(sde):
    """One in each of n equal parts of the log-SNR's range."""
    most, least = (float(sde.log_snr(t)) for t in (sde.t_min, sde.t_max))
    for n in (1, 7, 64):
        for seed in range(5):
            t, factor = losses.importance(sde, n, sk.KeyedNoise(seed))
            u = (most - sde.log_snr(t)) / (most - least)
            assert (t.dtype, t.shape, factor.shape) == (F64, (n,), (n,))
            assert sorted((u * n).floor().long().clamp(0, n - 1).tolist()) == list(range(n))
            assert bool(((t >= sde.t_min) & (t <= sde.t_max)).all())


@each_sde
def test_importance_leaves_the_objective_that_of_uniform_times(sde):
    """The factors' means of 1, t and t^2 are those of uniform times: 20,000 even parts are the midpoint rule."""
    t, factor = losses.importance(sde, 20_000, Given(u=0.5 / 20_000))
    a, b = sde.t_min, sde.t_max
    for power in (0, 1, 2):
        mean = (b ** (power + 1) - a ** (power + 1)) / ((power + 1) * (b - a))
        rel = 1e-5 if isinstance(sde, sk.TableSDE) else 1e-6  # the midpoint rule meets the jumps of a table's rates
        assert float((factor * t**power).mean()) == pytest.approx(mean, rel=rel)
        if power and isinstance(
            sde, sk.VPSDE | sk.SubVPSDE | sk.EDMSDE
        ):  # the control: the times themselves are others
            assert float((t**power).mean()) < 0.97 * mean


@each_sde
def test_importance_makes_the_likelihood_weight_one_number(sde):
    """w factor = (log_snr(t_min) - log_snr(t_max)) / (2 (t_max - t_min)) at every time drawn."""
    t, factor = losses.importance(sde, 50, sk.Noise(0))
    w = losses.likelihood(sde.level(t, torch.zeros(50, 1))).flatten()
    span = float(sde.log_snr(sde.t_min) - sde.log_snr(sde.t_max))
    torch.testing.assert_close(
        w * factor, torch.full((50,), 0.5 * span / (sde.t_max - sde.t_min), dtype=F64), rtol=1e-9, atol=0
    )


def variances(sde):
    """The mean, and the variance a row under uniform and under importance times, of the likelihood-weighted loss of a
    model that is slightly wrong: Gauss-Hermite in data and noise, 400 even log-SNRs in time."""
    t, factor = losses.importance(sde, 400, Given(u=0.5 / 400))
    z, eps, w = (v.repeat(400) for v in nodes())
    times, factor = t.repeat_interleave(144), factor.repeat_interleave(144)
    loss = DenoisingScoreMatching(weight="likelihood", times=lambda sde, n, noise, device: (times, 1.0))
    rows = loss.per_sample(exact(sde, 0.9, 0.35), (MEAN + math.sqrt(VAR) * z)[:, None], Given(eps[:, None]))
    w = w / 400
    mean = float((w * factor * rows).sum())
    square = float((w * factor * rows**2).sum()), float((w * (factor * rows) ** 2).sum())
    return mean, square[0] - mean**2, square[1] - mean**2


@each_sde
def test_importance_times_make_the_likelihood_loss_less_noisy(sde):
    """Bounded by the one number that weighs every row, and at least 50, 12 and 500 times less on VP, sub-VP and EDM."""
    mean, uniform, importance = variances(sde)
    span = float(sde.log_snr(sde.t_min) - sde.log_snr(sde.t_max))
    assert importance <= 3.1 * (0.5 * span / (sde.t_max - sde.t_min)) ** 2  # E |eps|^4 = 3
    wanted = {sk.VPSDE: 50.0, sk.SubVPSDE: 12.0, sk.EDMSDE: 500.0}.get(type(sde), 0.999)
    assert uniform > wanted * importance
    assert mean > 0


class Table(sk.GaussianSDE):
    """A process on a table of log-SNRs, linear between its times 1, 2, ..., N."""

    def __init__(self, log_snrs, exploding=False):
        self.table, self.exploding = torch.tensor(log_snrs, dtype=F64), exploding
        self.times = torch.arange(1, len(log_snrs) + 1, dtype=F64)
        self.t_min, self.t_max = 1.0, float(len(log_snrs))

    @schedule
    def log_snr(self, t):
        low = (t.floor().long() - 1).clamp(0, len(self.table) - 2)
        return torch.lerp(self.table[low], self.table[low + 1], t - 1 - low)

    def alpha(self, t):
        log_snr = self.log_snr(t)
        return torch.ones_like(log_snr) if self.exploding else torch.sigmoid(log_snr).sqrt()

    def sigma(self, t):
        log_snr = self.log_snr(t)
        return torch.exp(-0.5 * log_snr) if self.exploding else torch.sigmoid(-log_snr).sqrt()


@pytest.mark.statistical
@pytest.mark.parametrize("exploding", [False, True], ids=["DDPM's table", "NCSN's table"])
def test_noise_levels_are_uniform_within_a_segment_of_the_table(exploding, seed):
    """WaveGrad, algorithm 1: each segment as often as any, sqrt(alpha_bar) uniform within it: 6000 rows. That the times
    themselves are not uniform is seen."""
    sde = Table([6.0, 2.0, -1.0, -5.0], exploding)
    t, factor = losses.noise_levels(sde, 6000, sk.Noise(seed))
    assert (t.dtype, t.shape, factor) == (F64, (6000,), 1.0)
    bar = torch.sigmoid(sde.table).sqrt()
    level = (sde.alpha(t) ** 2 / (sde.alpha(t) ** 2 + sde.sigma(t) ** 2)).sqrt()
    for k in range(3):
        inside = (t >= k + 1) & (t < k + 2)
        proportion(int(inside.sum()), 6000, 1 / 3, of=6).holds(detects=0.055)
        dkw((level[inside] - bar[k]) / (bar[k + 1] - bar[k]), uniform, of=6).holds(detects=0.12)
        dkw(t[inside] - k - 1, uniform, of=6).fails()
    if not exploding:
        torch.testing.assert_close(level, sde.alpha(t))
    again = losses.noise_levels(sde, 6000, sk.KeyedNoise(0))[0]
    assert bool(((again >= 1) & (again <= 4)).all())
    loss = DenoisingScoreMatching(times=losses.noise_levels)(crooked(sde), batch(), sk.Noise(0))
    assert bool(loss.isfinite())


@pytest.mark.parametrize("sde", [sk.VPSDE(), Table([1.0])], ids=["no table", "one time"])
def test_a_process_without_a_table_has_no_segments(sde):
    with pytest.raises(UnsupportedCombination, match="noise_levels: the process must have a table of at least two"):
        losses.noise_levels(sde, 4, sk.Noise(0))


@pytest.mark.parametrize("density", [losses.importance, losses.LogNormal()], ids=["importance", "LogNormal"])
def test_a_process_without_a_kernel_has_no_log_snr_to_draw(density):
    with pytest.raises(UnsupportedCombination, match=r"(importance|LogNormal): sde must be a GaussianSDE"):
        density(Drift(), 4, sk.Noise(0))


@each_sde
def test_a_number_is_one_level_for_every_row(sde):
    """Vincent 2011: sigma^2 |score(x) + (x - alpha x0) / sigma^2|^2 at one sigma; no time is drawn."""
    x0, eps = batch(), batch(seed=1)
    seen = []
    model = FromFunction(sde, eps=lambda x, t: seen.append(t) or torch.sin(3 * x) + 0.2)
    for t in some_times(sde):
        alpha, sigma = float(sde.alpha(t)), float(sde.sigma(t))
        x = alpha * x0 + sigma * eps
        score = -(torch.sin(3 * x) + 0.2) / sigma
        by_hand = sigma**2 * (score + (x - alpha * x0) / sigma**2).square().flatten(1).mean(1)
        rows = DenoisingScoreMatching(times=t).per_sample(model, x0, Given(eps))
        torch.testing.assert_close(rows, by_hand, rtol=1e-7, atol=1e-12)
        rows = DenoisingScoreMatching(times=t, weight="likelihood").per_sample(model, x0, Given(eps))
        many = DenoisingScoreMatching(times=at(t), weight="likelihood").per_sample(model, x0, Given(eps))
        torch.testing.assert_close(rows, many, rtol=1e-12, atol=0)
        assert seen[0] == t
        seen.clear()


@pytest.mark.parametrize("t", [0.0, 1.5, -1, 1e-9])
def test_a_level_outside_the_process_is_named(t):
    with pytest.raises(InvalidArgument, match=r"times must lie within the process's \[0.0001, 1\], got"):
        DenoisingScoreMatching(times=t)(crooked(sk.VPSDE()), batch(), sk.Noise(0))


# What is refused


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"weight": "snr"}, InvalidArgument, "weight must be one of simple, likelihood, edm, flow, min_snr, got 'snr'"),
        ({"weight": 2.0}, InvalidType, "weight must be one of simple, likelihood, edm, flow, min_snr, got float 2.0"),
        (
            {"times": "normal"}, InvalidArgument,
            "times must be one of uniform, stratified, importance, log_normal, logit_normal, got 'normal'",
        ),
        ({"times": None}, InvalidType, "times must be a name, a time density or a number, got NoneType None"),
        ({"times": [0.1]}, InvalidType, r"times must be a name, a time density or a number, got list \[0.1\]"),
        ({"times": math.nan}, InvalidArgument, "times must be finite, got times=nan"),
        ({"reduction": "none"}, InvalidArgument, "reduction must be one of mean, sum, got 'none'"),
        ({"reduction": None}, InvalidType, "reduction must be one of mean, sum, got NoneType"),
    ],
)  # fmt: skip
def test_a_setting_that_is_none_is_named(settings, kind, said):
    with pytest.raises(kind, match=f"DenoisingScoreMatching: {said}"):
        DenoisingScoreMatching(**settings)


@pytest.mark.parametrize(
    ("build", "kind", "said"),
    [
        (lambda: losses.EDM(0.0), InvalidArgument, "EDM: sigma_data must be finite and > 0, got sigma_data=0"),
        (lambda: losses.EDM("0.5"), InvalidType, "EDM: sigma_data must be a number, got str '0.5'"),
        (lambda: losses.MinSNR(-1), InvalidArgument, "MinSNR: gamma must be finite and > 0, got gamma=-1"),
        (lambda: losses.LogNormal(std=0), InvalidArgument, "LogNormal: std must be finite and > 0, got std=0"),
        (lambda: losses.LogNormal(math.inf), InvalidArgument, "LogNormal: mean must be finite, got mean=inf"),
        (lambda: losses.LogitNormal(std=-1), InvalidArgument, "LogitNormal: std must be finite and > 0, got std=-1"),
        (lambda: losses.LogitNormal(None), InvalidType, "LogitNormal: mean must be a number, got NoneType None"),
    ],
)
def test_a_setting_of_a_weight_or_density_that_is_none_is_named(build, kind, said):
    with pytest.raises(kind, match=said):
        build()


@pytest.mark.parametrize(
    ("x0", "kind", "said"),
    [
        (torch.zeros(3, 2, dtype=torch.uint8), InvalidType, "x0 must be of a floating-point dtype, got torch.uint8"),
        (np.zeros((3, 2)), InvalidType, r"x0 must be a tensor of shape \(B, \*event\), got ndarray"),
        (torch.tensor(1.0), InvalidArgument, r"x0 must be of shape \(B, \*event\)"),
        (torch.tensor([[1.0], [math.nan]]), InvalidArgument, r"x0 must be finite, got NaN or infinity in 1 of 2 rows"),
        (torch.zeros(0, 2), InvalidArgument, "x0 must hold at least one row|x0 must .*empty"),
    ],
)
def test_data_that_are_none_are_named(x0, kind, said):
    calls = []
    model = FromFunction(sk.VPSDE(), eps=lambda x, t: calls.append(1) or x)
    with pytest.raises(kind, match=f"DenoisingScoreMatching: ({said})"):
        DenoisingScoreMatching()(model, x0, sk.Noise(0))
    assert not calls


@pytest.mark.parametrize("model", [torch.nn.Identity(), lambda x, t: x, None], ids=["network", "function", "None"])
def test_a_model_that_is_none_is_named(model):
    """Such as the bare network."""
    with pytest.raises(InvalidType, match="DenoisingScoreMatching: model must be a ScoreModel"):
        DenoisingScoreMatching()(model, batch(), sk.Noise(0))


@pytest.mark.parametrize("noise", [3, None, sk.Noise], ids=repr)
def test_noise_that_is_none_is_named(noise):
    with pytest.raises(InvalidType, match="DenoisingScoreMatching: noise must be a source such as"):
        DenoisingScoreMatching()(crooked(sk.VPSDE()), batch(), noise)


def test_a_loss_that_is_not_finite_is_named():
    model = FromFunction(sk.VPSDE(), eps=lambda x, t: x / 0)
    with pytest.raises(NonFiniteError, match=r"DenoisingScoreMatching: the loss must be finite, got (nan|inf)"):
        DenoisingScoreMatching()(model, batch(), sk.Noise(0))


class Drift(sk.SDE):
    """A process of which only drift and diffusion are known."""

    t_min, t_max = 0.1, 1.0
    prior = sk.sdes.NormalPrior()

    def drift(self, x, t):
        return -x

    def diffusion(self, t):
        return torch.ones_like(torch.as_tensor(t))


def test_a_process_without_a_kernel_has_no_denoising_loss():
    model = FromFunction(Drift(), score=lambda x, t: -x)
    with pytest.raises(UnsupportedCombination, match="the model's process must have alpha and sigma, got Drift"):
        DenoisingScoreMatching()(model, batch(), sk.Noise(0))


def test_a_loss_is_its_settings():
    assert repr(DenoisingScoreMatching()) == (
        "DenoisingScoreMatching(weight='simple', times='stratified', reduction='mean')"
    )
    assert DenoisingScoreMatching("likelihood") == DenoisingScoreMatching(weight="likelihood")
