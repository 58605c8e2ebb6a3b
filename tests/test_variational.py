"""The variational bound, term by term, progressive coding, and the hybrid objective: on Gaussian data closed forms."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from scipy import stats

import sdekit as sk
from sdekit.errors import InvalidArgument, InvalidType, UnsupportedCombination
from sdekit.losses import Hybrid, VariationalBound
from sdekit.sdes import tables

F64 = torch.float64
MEAN, VAR = 0.8, 0.3  # of the data

TABLES = {
    "linear": sk.DiscreteVPSDE(tables.linear(20, 1e-3, 0.4)),
    "cosine": sk.DiscreteVPSDE(tables.cosine(12, max_beta=0.95)),
    "respaced": sk.DiscreteVPSDE().respaced(15),
    "NCSN": sk.DiscreteVESDE(tables.geometric(15, 0.05, 20.0)),
}
each_table = pytest.mark.parametrize("sde", TABLES.values(), ids=TABLES)


class Drawn:
    """A source that gives the eps it was given, at every level."""

    def __init__(self, eps):
        self.eps = eps

    def __call__(self, x, t, s, stream="path"):
        raise AssertionError("a bound has no path")

    def normal(self, shape, *, stream, dtype=None, device=None):
        return self.eps.to(dtype)


def nodes(n=12):
    v, w = np.polynomial.hermite_e.hermegauss(n)
    z, eps = (torch.tensor(u.reshape(-1)) for u in np.meshgrid(v, v, indexing="ij"))
    return z, eps, torch.tensor(np.outer(w, w).reshape(-1) / w.sum() ** 2)


def exact(sde, variance=None, mean=MEAN, var=VAR):
    """The exact belief of Gaussian data, with a variance of the reverse step where one is wanted."""
    oracle = sk.models.GaussianMixture(sde, [1.0], torch.tensor([[mean]], dtype=F64), var)
    if variance is None:
        return oracle

    def network(x, label):
        return torch.cat([oracle(x, label + 1).eps, torch.zeros_like(x)], 1)

    return sk.models.Parametrised(network, sde, sk.models.Epsilon(label="index"), variance)


class Own(sk.models.Variance):
    """Var[x_s | x_t] of the Gaussian data themselves."""

    def __init__(self, factor=1.0):
        object.__setattr__(self, "factor", factor)

    def log_var(self, value, t, s):
        ratio = t.alpha / s.alpha
        vs, vt = s.alpha**2 * VAR + s.sigma**2, t.alpha**2 * VAR + t.sigma**2
        found = torch.as_tensor(self.factor * (vs - ratio**2 * vs**2 / vt), dtype=F64).log()
        return found.expand(value.shape)


def closed(sde, kind):
    """E over Gaussian data of each term, from the levels in NumPy: (L_T, [L_(t-1)], L_0)."""
    t = sde.times.numpy()
    a, s = sde.alpha(sde.times).numpy(), sde.sigma(sde.times).numpy()
    v = a**2 * VAR + s**2  # of x_t
    top, std = len(t) - 1, 1.0 if isinstance(sde, sk.DiscreteVPSDE) else s[-1]
    prior = 0.5 * ((s[top] / std) ** 2 - 1 - 2 * math.log(s[top] / std) + (a[top] / std) ** 2 * (MEAN**2 + VAR))
    spread = VAR - a**2 * VAR**2 / v  # of x0 given x_t
    steps = []
    for i in range(1, len(t)):
        r = a[i] / a[i - 1]
        beta = s[i] ** 2 - r**2 * s[i - 1] ** 2
        true = beta * s[i - 1] ** 2 / s[i] ** 2
        model = {"posterior": true, "upper": beta, "learned": v[i - 1] - r**2 * v[i - 1] ** 2 / v[i]}[kind]
        pull = a[i - 1] * beta / s[i] ** 2
        steps.append(0.5 * (math.log(model / true) + true / model - 1 + pull**2 * spread[i] / model))
    r = a[1] / a[0]
    first = {
        "posterior": (s[1] ** 2 - r**2 * s[0] ** 2) * s[0] ** 2 / s[1] ** 2,  # the second step's, for the first
        "upper": s[0] ** 2,
        "learned": VAR - a[0] ** 2 * VAR**2 / v[0],
    }[kind]
    return prior, steps, 0.5 * (math.log(2 * math.pi * first) + spread[0] / first)


@each_table
@pytest.mark.parametrize("kind", ["posterior", "upper", "learned"])
def test_each_term_is_its_closed_form_on_gaussian_data(sde, kind):
    """KL divergences of Gaussians, averaged over data and noise by quadrature, to 1e-10; L_0 by a Gaussian decoder."""
    z, eps, w = nodes()
    x0 = (MEAN + math.sqrt(VAR) * z)[:, None]
    model = exact(sde, Own() if kind == "learned" else None)
    terms = VariationalBound(kind).terms(model, x0, Drawn(eps[:, None]))
    prior, steps, decoder = closed(sde, kind)
    assert float((w * terms.prior).sum()) == pytest.approx(prior, rel=1e-10, abs=1e-12)
    np.testing.assert_allclose((terms.steps @ w).numpy(), steps, rtol=1e-9, atol=1e-12)
    assert float((w * terms.decoder).sum()) == pytest.approx(decoder, rel=1e-9)
    entropy = 0.5 * math.log(2 * math.pi * math.e * VAR)
    assert float((w * terms.total).sum()) >= entropy  # an upper bound of -E log p


@each_table
def test_with_the_datas_own_variance_the_bound_is_tight_up_to_the_prior(sde):
    """Then p(x_s | x_t) is q's own: the bound exceeds the entropy by KL(q(x_T) || prior) alone, and no less."""
    z, eps, w = nodes()
    x0 = (MEAN + math.sqrt(VAR) * z)[:, None]
    total = (w * VariationalBound("learned").terms(exact(sde, Own()), x0, Drawn(eps[:, None])).total).sum()
    a, s = (float(f(sde.t_max)) for f in (sde.alpha, sde.sigma))
    std = 1.0 if isinstance(sde, sk.DiscreteVPSDE) else s
    v = a * a * VAR + s * s
    gap = 0.5 * (v / std**2 - 1 - math.log(v / std**2) + (a * MEAN / std) ** 2)
    assert float(total) == pytest.approx(0.5 * math.log(2 * math.pi * math.e * VAR) + gap, rel=1e-9)
    for factor in (0.7, 1.4):  # the control: any other variance costs more
        other = VariationalBound("learned").terms(exact(sde, Own(factor)), x0, Drawn(eps[:, None])).total
        assert float((w * other).sum()) > float(total) + 1e-3


@each_table
def test_the_loss_is_without_bias_for_the_sum_of_its_terms(sde):
    """N times the drawn term, averaged over t: every time of the table once gives sum L_(t-1) + L_0."""
    n = len(sde.times)
    x0 = sk.Noise(0).normal((n, 2), stream="x", dtype=F64)
    eps = sk.Noise(1).normal((n, 2), stream="e", dtype=F64)
    model = sk.models.FromFunction(sde, eps=lambda x, t: torch.sin(x))
    every = lambda sde, n, noise, device: (sde.times, 1.0)  # noqa: E731
    rows = VariationalBound("upper", times=every).per_sample(model, x0, Drawn(eps))
    for i in range(n):
        terms = VariationalBound("upper").terms(model, x0[i : i + 1], Drawn(eps[i : i + 1]))
        wanted = terms.steps[i - 1, 0] if i else terms.decoder[0]
        assert float(rows[i]) == pytest.approx(n * float(wanted), rel=1e-11)


@each_table
@pytest.mark.parametrize("kind", ["posterior", "upper"])
def test_the_exact_belief_is_stationary_and_its_opposite_is_not(sde, kind):
    """The gradient of every term along 1, x and the exact eps is 0 at eps, and not at -eps."""
    z, eps, w = nodes()
    x0 = (MEAN + math.sqrt(VAR) * z)[:, None]
    for sign in (1.0, -1.0):
        c = torch.zeros(3, dtype=F64, requires_grad=True)

        def moved(x, t, sign=sign, c=c):
            right = exact(sde)(x, t).eps
            return sign * right + c[0] + c[1] * x + c[2] * right

        terms = VariationalBound(kind).terms(sk.models.FromFunction(sde, eps=moved), x0, Drawn(eps[:, None]))
        for rows in (*terms.steps, terms.decoder):
            (slope,) = torch.autograd.grad((w * rows).sum(), c, retain_graph=True)
            size = float((w * rows).sum().detach().abs()) + 1.0
            assert (float(slope.abs().max()) <= 1e-9 * size) == (sign > 0)


def test_the_discretised_decoder_is_the_mass_of_a_bin():
    """Ho et al. 2020, eq. 13: Phi differences over x0 +- half a level, to infinity at the ends; the masses sum to 1."""
    sde = TABLES["linear"]
    levels = torch.linspace(-1, 1, 17, dtype=F64)[:, None]
    bound = VariationalBound("upper", decoder_bin=2 / 16)
    guess = 0.31
    model = sk.models.FromFunction(sde, x0=lambda x, t: torch.full_like(x, guess))
    terms = bound.terms(model, levels, Drawn(torch.zeros(17, 1, dtype=F64)))
    std = float(sde.sigma(1.0))
    edges = np.concatenate([[-np.inf], np.linspace(-1, 1, 17)[:-1] + 1 / 16, [np.inf]])
    np.testing.assert_allclose(np.exp(-terms.decoder.numpy()).sum(), 1.0, rtol=1e-9)
    mass = np.diff(stats.norm.cdf(edges, guess, std))
    likely = mass > 1e-12
    np.testing.assert_allclose(terms.decoder.numpy()[likely], -np.log(mass[likely]), rtol=1e-6)
    assert bool(torch.isfinite(terms.decoder).all())


@pytest.mark.parametrize("guess", [-2.0, 0.3, 1.4])
def test_the_first_and_the_last_bin_reach_to_infinity(guess):
    """Where the noise is as wide as the data the ends have most of the mass: SciPy's, and a sum of 1."""
    sde, levels = sk.DiscreteVPSDE([0.6, 0.9]), torch.linspace(-1, 1, 9, dtype=F64)[:, None]
    model = sk.models.FromFunction(sde, x0=lambda x, t: torch.full_like(x, guess))
    bound = VariationalBound("upper", decoder_bin=2 / 8)
    mass = np.exp(-bound.terms(model, levels, Drawn(torch.zeros(9, 1, dtype=F64))).decoder.numpy())
    edges = np.concatenate([[-np.inf], np.linspace(-1, 1, 9)[:-1] + 1 / 8, [np.inf]])
    np.testing.assert_allclose(mass, np.diff(stats.norm.cdf(edges, guess, float(sde.sigma(1.0)))), rtol=1e-9)
    assert mass.sum() == pytest.approx(1.0, rel=1e-12)


def test_the_decoder_of_mirrored_data_is_the_decoder():
    """Far out in either tail, to nine digits: no difference of numbers near 1 is taken."""
    sde = TABLES["linear"]
    levels = torch.linspace(-1, 1, 129, dtype=F64)[:, None]
    bound = VariationalBound("upper", decoder_bin=2 / 128)

    def terms(sign):
        model = sk.models.FromFunction(sde, x0=lambda x, t: torch.full_like(x, sign * 0.3))
        return bound.terms(model, sign * levels, Drawn(torch.zeros(129, 1, dtype=F64))).decoder

    torch.testing.assert_close(terms(1.0), terms(-1.0), rtol=1e-9, atol=0)
    std = float(sde.sigma(1.0))
    a, b = (np.abs(levels[:, 0].numpy() - 0.3) + d for d in (-1 / 128, 1 / 128))
    exact = -(
        stats.norm.logsf(a, scale=std)
        + np.log1p(-np.exp(stats.norm.logsf(b, scale=std) - stats.norm.logsf(a, scale=std)))
    )
    tails = (exact < 600) & (a > 0) & (np.abs(levels[:, 0].numpy()) < 1)
    assert tails.sum() > 10
    np.testing.assert_allclose(terms(1.0).numpy()[tails], exact[tails], rtol=1e-9)


def test_data_are_on_the_decoder_s_levels_up_to_a_thousandth_of_a_bin():
    """And within its ends up to a millionth."""
    model = sk.models.FromFunction(TABLES["linear"], x0=lambda x, t: torch.zeros_like(x))
    bound = VariationalBound("upper", decoder_bin=0.25)
    for off, right in ((0.9e-3, True), (-0.9e-3, True), (1.1e-3, False), (-1.1e-3, False), (0.5, False)):
        x0 = torch.full((2, 1), 0.25 + 0.25 * off, dtype=F64)
        with nullcontext() if right else pytest.raises(InvalidArgument, match=r"0\.25 apart from -1 to 1"):
            bound(model, x0, sk.Noise(0))
    for end in (-1.0, 1.0):
        bound(model, torch.full((2, 1), end * (1 + 0.9e-6), dtype=F64), sk.Noise(0))
        with pytest.raises(InvalidArgument, match="apart from"):
            bound(model, torch.full((2, 1), end * (1 + 1.1e-6), dtype=F64), sk.Noise(0))


def test_the_decoder_s_gradient_is_that_of_the_mass():
    """(pdf(a) - pdf(b)) / mass in the mean, at the ends and in the tails too: finite differences, and no NaN."""
    sde, levels = TABLES["linear"], torch.linspace(-1, 1, 33, dtype=F64)[:, None]

    def decoder(guess):
        model = sk.models.FromFunction(sde, x0=lambda x, t: guess.expand(x.shape))
        return VariationalBound("upper", decoder_bin=2 / 32).terms(model, levels, Drawn(torch.zeros(33, 1, dtype=F64)))

    guess = torch.full((33, 1), 0.29, dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(decoder(guess).decoder.sum(), guess)
    h = 1e-6
    with torch.no_grad():
        wanted = (decoder(guess + h).decoder - decoder(guess - h).decoder) / (2 * h)
    torch.testing.assert_close(slope[:, 0], wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


def test_the_bound_in_the_middle_of_a_wide_bin_is_the_density_of_a_narrow_one():
    """-log mass -> -log density - log bin as the bin narrows."""
    sde = TABLES["linear"]
    x0 = torch.tensor([[0.25], [-0.5]], dtype=F64)
    model = sk.models.FromFunction(sde, x0=lambda x, t: torch.full_like(x, 0.1))
    noise = Drawn(torch.zeros(2, 1, dtype=F64))
    fine = VariationalBound("upper", decoder_bin=2**-14).terms(model, x0, noise).decoder
    density = VariationalBound("upper").terms(model, x0, noise).decoder
    torch.testing.assert_close(fine, density + 14 * math.log(2), rtol=1e-3, atol=1e-3)


# Progressive coding


@each_table
@pytest.mark.parametrize("kind", ["posterior", "upper", "learned"])
def test_rates_and_distortions_are_their_closed_forms_on_gaussian_data(sde, kind):
    """Rates add up the divergences from L_T down; distortions are the deviations of x0 given x_t: by quadrature."""
    z, eps, w = nodes()
    x0 = (MEAN + math.sqrt(VAR) * z)[:, None]
    model = exact(sde, Own() if kind == "learned" else None)
    r = sk.progressive_coding(model, x0, variance=kind, noise=Drawn(eps[:, None]))
    prior, steps, decoder = closed(sde, kind)
    rates = np.cumsum([prior, *reversed(steps)])
    np.testing.assert_allclose((r.rate @ w).numpy(), rates, rtol=1e-9, atol=1e-12)
    assert float((w * r.total).sum()) == pytest.approx(rates[-1] + decoder, rel=1e-9)
    snr = sde.log_snr(sde.times).exp().flip(0).numpy()
    np.testing.assert_allclose((r.distortion.square() @ w).numpy(), VAR / (1 + snr * VAR), rtol=1e-9)
    assert r.times.tolist() == sde.times.flip(0).tolist()
    assert r.nfe.tolist() == [len(sde.times)] * len(x0)


@each_table
def test_with_the_datas_own_variance_the_curve_is_shannon_s(sde):
    """The rate-distortion function of a Gaussian, log(std / distortion), and KL(p_T || prior): no code does better.

    Any other variance of the reverse step is above it.
    """
    z, eps, w = nodes()
    x0 = (MEAN + math.sqrt(VAR) * z)[:, None]
    a, s = (float(f(sde.t_max)) for f in (sde.alpha, sde.sigma))
    std, v = 1.0 if isinstance(sde, sk.DiscreteVPSDE) else s, a * a * VAR + s * s
    gap = 0.5 * (v / std**2 - 1 - math.log(v / std**2) + (a * MEAN / std) ** 2)

    def curve(factor):
        r = sk.progressive_coding(exact(sde, Own(factor)), x0, variance="learned", noise=Drawn(eps[:, None]))
        return (r.rate @ w).numpy(), (r.distortion.square() @ w).sqrt().numpy()

    rate, distortion = curve(1.0)
    np.testing.assert_allclose(rate, gap + np.log(math.sqrt(VAR) / distortion), rtol=1e-8, atol=1e-10)
    for factor in (0.7, 1.4):
        more, same = curve(factor)
        np.testing.assert_allclose(same, distortion)
        assert bool((more[1:] > rate[1:] + 1e-4).all())


class Asked(sk.models.ScoreModel):
    """A model that counts its calls."""

    def __init__(self, model):
        super().__init__()
        self.model, self.sde, self.times = model, model.sde, []

    def forward(self, x, t, **condition):
        self.times.append(float(t.t))
        return self.model(x, t)


def test_one_evaluation_a_level_gives_both_and_a_row_is_its_own():
    """N calls in the table's order; the bits of a row alone are those in the batch; means are over the data set."""
    sde = TABLES["linear"]
    x0 = sk.KeyedNoise(0).normal((5, 2), stream="x", dtype=F64)
    oracle = sk.models.GaussianMixture(sde, [0.5, 0.5], torch.tensor([[0.4, 0.0], [-0.4, 1.0]], dtype=F64), 0.1)
    model = Asked(oracle)
    r = sk.progressive_coding(model, x0, seed=3)
    assert model.times == sde.times.tolist()
    terms = VariationalBound().terms(oracle, x0, sk.KeyedNoise(3))
    torch.testing.assert_close(r.rate[0], terms.prior)
    torch.testing.assert_close(r.rate[-1], terms.prior + terms.steps.sum(0))
    torch.testing.assert_close(r.rate[5], terms.prior + terms.steps[-5:].sum(0))
    torch.testing.assert_close(r.total, terms.total)
    torch.testing.assert_close(r.distortion, (terms.square.flip(0) / 2).sqrt())
    torch.testing.assert_close(r.bits_per_dim, r.rate / (2 * math.log(2)))
    rate, distortion = r.mean()
    torch.testing.assert_close(rate, r.bits_per_dim.mean(1))
    torch.testing.assert_close(distortion, r.distortion.square().mean(1).sqrt())
    crowd = sk.progressive_coding(oracle, x0, seed=3, per_sample=True)
    alone = sk.progressive_coding(oracle, x0[3:4], seed=3, per_sample=True, ids=[3])
    for name in ("rate", "distortion", "total"):
        assert torch.equal(getattr(alone, name), getattr(crowd, name)[..., 3:4])
        torch.testing.assert_close(getattr(crowd, name), getattr(r, name))
    twice = Asked(oracle)
    twice.evaluations = 2
    assert sk.progressive_coding(twice, x0).nfe.tolist() == [2 * len(twice.times)] * 5
    nothing = sk.models.FromFunction(sde, x0=lambda x, t: 0.0 * x)
    size = (x0.square().sum(1) / 2).sqrt()
    torch.testing.assert_close(sk.progressive_coding(nothing, x0).distortion, size.expand(20, 5))
    levels = torch.linspace(-1, 1, 5, dtype=F64)[:, None]
    sent = sk.progressive_coding(exact(sde), levels, decoder_bin=0.5, seed=1)
    mass = VariationalBound(decoder_bin=0.5).terms(exact(sde), levels, sk.KeyedNoise(1)).decoder
    torch.testing.assert_close(sent.total - sent.rate[-1], mass)
    for beyond in (levels - 0.5, levels + 0.5):
        with pytest.raises(InvalidArgument, match=r"levels 0\.5 apart from -1 to 1"):
            sk.progressive_coding(exact(sde), beyond, decoder_bin=0.5)


def test_the_hybrid_objective_is_improved_ddpms():
    """L_simple + 0.001 N / ln 2 times the term in nats a coordinate; its gradient in the mean is L_simple's alone."""
    sde = TABLES["linear"]
    x0 = sk.Noise(0).normal((20, 3), stream="x", dtype=F64)
    eps = sk.Noise(1).normal((20, 3), stream="e", dtype=F64)
    a = torch.tensor(0.3, dtype=F64, requires_grad=True)
    b = torch.tensor(0.2, dtype=F64, requires_grad=True)
    network = lambda x, label: torch.cat([a * x, b * x], 1)  # noqa: E731
    model = sk.models.Parametrised(network, sde, sk.models.Epsilon(label="index"), sk.models.LearnedRange())
    every = lambda sde, n, noise, device: (sde.times, 1.0)  # noqa: E731
    value = Hybrid(times=every)(model, x0, Drawn(eps))
    simple = sk.losses.DenoisingScoreMatching(times=every)(model, x0, Drawn(eps))
    bound = VariationalBound("learned", times=every, reduction="mean")(model, x0, Drawn(eps))
    total = simple.item() + 0.001 * bound.item() / math.log(2)
    assert value.item() == pytest.approx(total, rel=1e-12)
    (of_mean, of_variance) = torch.autograd.grad(value, (a, b))
    (alone,) = torch.autograd.grad(simple, a)
    assert float(of_mean) == pytest.approx(float(alone), rel=1e-12)
    (learns,) = torch.autograd.grad(bound, b)
    assert float(of_variance) == pytest.approx(0.001 * float(learns) / math.log(2), rel=1e-12)


def test_a_learned_range_finds_the_datas_variance_where_it_lies_in_it():
    """Gradient descent on one number a level, the exact mean held: var(x_s | x_t) of Gaussian data lies between."""
    sde = TABLES["linear"]
    z, eps, w = nodes()
    x0 = (MEAN + math.sqrt(VAR) * z)[:, None]
    oracle = exact(sde)
    v = torch.zeros(len(sde.times), dtype=F64, requires_grad=True)

    def network(x, label):
        return torch.cat([oracle(x, label + 1).eps, v[label.long()][:, None].expand(x.shape)], 1)

    model = sk.models.Parametrised(network, sde, sk.models.Epsilon(label="index"), sk.models.LearnedRange())
    optimiser = torch.optim.LBFGS([v], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-12)

    def closure():
        optimiser.zero_grad()
        loss = (VariationalBound("learned").terms(model, x0, Drawn(eps[:, None])).steps @ w).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    x = torch.zeros(len(sde.times), 1, dtype=F64)
    found = model(x, sde.times).log_var[1:, 0].detach()
    level = sde.level(sde.times, x)
    wanted = Own().log_var(x, level, sde.previous(level))[1:, 0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda: VariationalBound("lower"), InvalidArgument, "variance must be one of posterior, upper, learned"),
        (lambda: VariationalBound(decoder_bin=0.0), InvalidArgument, "decoder_bin must be finite and > 0"),
        (lambda: VariationalBound(decoder_ends=(1.0, -1.0)), InvalidArgument, "decoder_ends[1] must be"),
        (lambda: VariationalBound(times="log_normal"), InvalidArgument, "times must be one of uniform, stratified"),
        (lambda: Hybrid(scale=-1.0), InvalidArgument, "Hybrid: scale must be finite and >= 0"),
        (
            lambda: VariationalBound()(exact(sk.VPSDE()), torch.zeros(2, 1), sk.Noise(0)),
            UnsupportedCombination,
            "VariationalBound: needs a process on a table, such as DiscreteVPSDE(betas), got VPSDE",
        ),
        (
            lambda: Hybrid()(exact(TABLES["linear"]), torch.zeros(2, 1), sk.Noise(0)),
            UnsupportedCombination,
            "Hybrid: variance='learned' needs a model with a variance",
        ),
        (
            lambda: VariationalBound(decoder_bin=0.5)(exact(TABLES["linear"]), torch.full((2, 1), 0.3), sk.Noise(0)),
            InvalidArgument,
            "x0 must hold levels 0.5 apart from -1 to 1",
        ),
        (
            lambda: sk.progressive_coding(exact(sk.VPSDE()), torch.zeros(2, 1)),
            UnsupportedCombination,
            "progressive_coding: needs a process on a table, such as DiscreteVPSDE(betas), got VPSDE",
        ),
        (
            lambda: sk.progressive_coding(exact(TABLES["linear"]), torch.zeros(2, 0)),
            InvalidArgument,
            "progressive_coding: x0 must have at least one coordinate",
        ),
        (
            lambda: VariationalBound()(exact(TABLES["linear"]), torch.zeros(2, 1, dtype=torch.int64), sk.Noise(0)),
            InvalidType,
            "VariationalBound: x0 must be of a floating-point dtype",
        ),
        (
            lambda: VariationalBound()(lambda x, t: x, torch.zeros(2, 1), sk.Noise(0)),
            InvalidType,
            "must be a ScoreModel",
        ),
        (
            lambda: VariationalBound()(exact(TABLES["NCSN"]), torch.zeros(2, 1), 3),
            InvalidType,
            "noise must be a source",
        ),
    ],
)
def test_what_has_no_bound_is_named(call, kind, said):
    with pytest.raises(kind) as caught:
        call()
    assert said in str(caught.value)
