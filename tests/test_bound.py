"""The variational bound in continuous time: closed forms, its two published forms, its limit, and its error."""

import math

import honest
import numpy as np
import pytest
import torch
from problems import F64, mixture
from scipy.stats import norm
from subjects import sdes

import sdekit as sk
from sdekit.errors import InvalidArgument, InvalidType, NonFiniteError, UnsupportedCombination
from sdekit.losses import VariationalBound

MEAN, VAR = 0.8, 0.3  # of the data

CONTINUOUS = {
    "VP": sk.VPSDE(),
    "VE": sk.VESDE(),
    "sub-VP": sk.SubVPSDE(),
    "cosine": sk.CosineSDE(),
    "EDM": sk.EDMSDE(),
    "flow": sk.FlowSDE(),
}
each_process = pytest.mark.parametrize("sde", CONTINUOUS.values(), ids=CONTINUOUS)


class Nodes:
    """A source without chance: the given eps at every level, and of every part of u Gauss's two nodes."""

    def __init__(self, eps):
        self.eps = eps

    def __call__(self, x, t, s, stream="path"):
        raise AssertionError("a bound has no path")

    def normal(self, shape, *, stream, dtype=None, device=None):
        return self.eps.reshape(shape).to(dtype)

    def uniform(self, n, *, stream, device=None):
        name, k = stream
        assert name == "bound time"
        return torch.full((n,), 0.5 + (k % 2 - 0.5) / math.sqrt(3), dtype=F64)


def gaussian(sde, mean=MEAN, var=VAR, d=1):
    """The exact model of N(mean, var) in d coordinates."""
    return sk.models.GaussianMixture(sde, [1.0], torch.full((1, d), mean, dtype=F64), var)


class Off(sk.models.ScoreModel):
    """A model whose eps is scaled and shifted."""

    def __init__(self, model, scale, shift):
        super().__init__()
        self.model, self.sde, self.scale, self.shift = model, model.sde, scale, shift

    def forward(self, x, t, **condition):
        p = self.model(x, t)
        return p.with_eps(self.scale * p.eps + self.shift)


def signs(x):
    """Each row of x with eps = 1 and with eps = -1: their average is exact for what is quadratic in eps."""
    x0 = x.repeat_interleave(2, 0)
    eps = torch.ones_like(x0)
    eps[1::2] = -1.0
    return x0, eps


def averaged(values):
    return values.reshape(-1, 2).mean(1).numpy()


def closed(sde, x, prior, mean=MEAN, var=VAR):
    """(prior, diffusion, decoder) of each x under the exact model of N(mean, var), from alpha and sigma in NumPy.

    Of a posterior of x0 given x_t: with r the signal-to-noise ratio times var, E|eps - eps_model|^2 is
    (r^2 + r z^2) / (1 + r)^2 for z = (x - mean) / std, and its integral by d log r is elementary.
    """
    x, z2 = x.numpy(), (x.numpy() - mean) ** 2 / var
    (a0, a1), (s0, s1) = ((float(f(sde.t_min)), float(f(sde.t_max))) for f in (sde.alpha, sde.sigma))
    centre, std = prior
    end = 0.5 * ((s1 / std) ** 2 - 1 - 2 * math.log(s1 / std) + ((a1 * x - centre) / std) ** 2)
    high, low = ((a / s) ** 2 * var for a, s in ((a0, s0), (a1, s1)))
    middle = 0.5 * (math.log((1 + high) / (1 + low)) + (1 - z2) * (1 / (1 + high) - 1 / (1 + low)))
    error = (high**2 + high * z2) / (1 + high) ** 2
    return end.sum(1), middle.sum(1), (0.5 * (math.log(2 * math.pi * s0**2) + error / a0**2)).sum(1)


# What the terms are


@pytest.mark.parametrize("sde", [p for p in sdes() if not isinstance(p.values[0], sk.LinearSDE)])
def test_each_term_is_its_closed_form_on_gaussian_data(sde):
    """Row by row, without chance: eps of -1 and 1, and Gauss's rule over the density of times; on tables, too."""
    x = torch.tensor([[0.1, -0.7], [0.9, 1.4], [2.0, 0.8]], dtype=F64)
    x0, eps = signs(x)
    r = sk.variational_bound(gaussian(sde, d=2), x0, draws=200, noise=Nodes(eps))
    wanted = closed(sde, x, (sde.prior.mean, sde.prior.std))
    for name, value in zip(("prior", "diffusion", "decoder"), wanted, strict=True):
        np.testing.assert_allclose(averaged(getattr(r, name)), value, rtol=2e-6, atol=1e-9, err_msg=name)


def test_uniform_times_are_of_the_same_integral():
    """-g^2 / sigma^2 is d log_snr / dt: on VE it is constant, and on cosine it grows to both ends."""
    x = torch.tensor([[0.1], [2.0]], dtype=F64)
    x0, eps = signs(x)
    for sde, rtol in ((sk.VESDE(), 1e-6), (sk.CosineSDE(t_min=0.02), 1e-4)):
        r = sk.variational_bound(gaussian(sde), x0, draws=200, times="stratified", noise=Nodes(eps))
        wanted = closed(sde, x, (sde.prior.mean, sde.prior.std))[1]
        np.testing.assert_allclose(averaged(r.diffusion), wanted, rtol=rtol)


@each_process
def test_gaussian_data_whose_moments_the_process_knows_leave_nothing_to_chance(sde):
    """Every draw is the closed form: two draws suffice, and the standard error is 0."""
    std = math.sqrt(VAR)
    sde = sde.with_prior(MEAN, std)
    x = gaussian(sde, d=3).sample(5, sk.Noise(0))
    r = sk.variational_bound(gaussian(sde, d=3), x, draws=2, seed=3)
    a, s = float(sde.alpha(sde.t_max)), float(sde.sigma(sde.t_max))
    wanted = closed(sde, x, (a * MEAN, math.sqrt(a * a * VAR + s * s)))
    for value, exact in zip((r.prior, r.diffusion, r.decoder), wanted, strict=True):
        np.testing.assert_allclose(value.numpy(), exact, rtol=1e-9, atol=1e-9)
    assert float(r.se.max()) < 1e-8
    off = sk.variational_bound(gaussian(sde, MEAN + 0.1, d=3), x, draws=2, seed=3)  # the control: another model
    assert float(off.se.min()) > 1e-4


@each_process
def test_song_s_form_and_kingma_s_are_the_same_number(sde):
    """Theorem 3 of arXiv:2101.09258, from score, f and g over t; and eq. 15 of arXiv:2107.00630, from x0 over log-SNR.

    Each by Gauss and Legendre's rule of its own, of a model that is not exact; the process's prior closes the sum.
    """

    model = Off(gaussian(sde, d=2), 0.8, 0.1)
    x = torch.tensor([[0.1, -0.7], [0.9, 1.4]], dtype=F64)
    x0, eps = signs(x)
    r = sk.variational_bound(model, x0, draws=160, noise=Nodes(eps))

    most, least = (float(sde.log_snr(t)) for t in (sde.t_min, sde.t_max))
    v, w = np.polynomial.legendre.leggauss(80)
    song, kingma = torch.zeros(len(x0), dtype=F64), torch.zeros(len(x0), dtype=F64)
    for log_snr, weight in zip(0.5 * (least + most + (most - least) * v), 0.5 * (most - least) * w, strict=True):
        t = sde.time_at(torch.tensor(log_snr, dtype=F64))
        alpha, sigma, g2 = float(sde.alpha(t)), float(sde.sigma(t)), float(sde.diffusion(t)) ** 2
        f = float(sde.rates(t)[0])
        p = model(alpha * x0 + sigma * eps, float(t))
        dt = weight * sigma**2 / g2
        truth = -eps / sigma
        song += 0.5 * dt * (g2 * (p.score - truth).square() - g2 * truth.square() - 2 * f).sum(1)
        kingma += 0.5 * weight * math.exp(log_snr) * (x0 - p.x0).square().sum(1)
    x_T = float(sde.alpha(sde.t_max)) * x0 + float(sde.sigma(sde.t_max)) * eps
    song -= sde.prior.log_prob(x_T)
    np.testing.assert_allclose(averaged(r.diffusion), averaged(kingma), rtol=1e-6)
    entropy = 2 * 0.5 * math.log(2 * math.pi * math.e * float(sde.sigma(sde.t_min)) ** 2)
    np.testing.assert_allclose(averaged(r.prior + r.diffusion) + entropy, averaged(song), rtol=1e-6, atol=1e-5)


def hermite(n=60):
    v, w = np.polynomial.hermite_e.hermegauss(n)
    return torch.tensor(v, dtype=F64), torch.tensor(w / w.sum(), dtype=F64)


def two_modes(sde):
    return sk.models.GaussianMixture(sde, [0.4, 0.6], torch.tensor([[-0.6], [0.7]], dtype=F64), [0.1, 0.2])


@pytest.mark.parametrize("sde", [sk.VPSDE(t_min=1e-5), sk.VESDE(sigma_min=2e-3), sk.FlowSDE(t_min=2e-3)], ids=repr)
def test_of_the_exact_model_and_prior_the_bound_is_the_density_itself(sde):
    """Row by row, -log p of a mixture, with eps by Gauss and Hermite's rule and the prior p_T; a worse prior costs."""
    model = two_modes(sde)
    x = torch.tensor([-1.2, -0.5, 0.1, 0.9, 2.0], dtype=F64)
    eps, w = hermite()
    x0 = x.repeat_interleave(len(eps))[:, None]
    how = {"draws": 200, "noise": Nodes(eps.repeat(len(x))[:, None])}

    def rows(r):
        return (r.total.reshape(len(x), -1) @ w).numpy()

    exact = -np.log(0.4 * norm.pdf(x, -0.6, 0.1**0.5) + 0.6 * norm.pdf(x, 0.7, 0.2**0.5))  # of the data themselves
    found = rows(sk.variational_bound(model, x0, prior=lambda y: model.log_prob(y, sde.t_max), **how))
    np.testing.assert_allclose(found, exact, atol=1e-4)
    far = sk.sdes.NormalPrior(2.0 * float(sde.sigma(sde.t_max)), float(sde.sigma(sde.t_max)))
    np.testing.assert_allclose(rows(sk.variational_bound(model, x0, prior=far, **how)), exact + 2.0, atol=0.2)


def test_the_bound_is_above_minus_log_p_by_what_a_model_is_wrong():
    """Of data from the mixture, by quadrature: eps off by c costs c^2 / 2 a unit of log-SNR, and in the decoder."""
    sde, c = sk.VPSDE(), 0.3
    exact = two_modes(sde)
    wrong = Off(exact, 1.0, c)
    grid = torch.linspace(-2.5, 3.0, 56, dtype=F64)
    share = exact.log_prob(grid[:, None], sde.t_min).exp()
    share = share / share.sum()
    eps, w = hermite(24)
    x0 = grid.repeat_interleave(len(eps))[:, None]
    how = {"draws": 60, "noise": Nodes(eps.repeat(len(grid))[:, None])}
    a, b = ((sk.variational_bound(m, x0, **how).total.reshape(len(grid), -1) @ w @ share) for m in (exact, wrong))
    entropy = -(share * exact.log_prob(grid[:, None], sde.t_min)).sum()
    most, least = (float(sde.log_snr(t)) for t in (sde.t_min, sde.t_max))
    assert float(a) >= float(entropy) - 1e-4
    assert float(b - a) == pytest.approx(0.5 * c * c * (most - least + float(sde.alpha(sde.t_min)) ** -2), rel=1e-3)
    likelihood = sk.log_likelihood(exact, grid[:, None], tol="fast", budget=False).log_prob
    assert float(a) >= float(-(share * likelihood).sum()) - 1e-3
    assert float(b) > float(-(share * likelihood).sum()) + 0.5


def test_a_table_s_own_bound_comes_to_it_as_the_table_becomes_fine():
    """Half the step, half the difference: DDPM's sum over N levels of VP is above the integral by O(1 / N)."""
    sde = sk.VPSDE(t_min=1e-3)
    x0, eps = signs(torch.tensor([[0.2], [1.5]], dtype=F64))
    r = sk.variational_bound(gaussian(sde), x0, draws=200, noise=Nodes(eps))
    off = []
    for n in (60, 120):
        ends = sde.log_snr(torch.tensor([sde.t_min, sde.t_max], dtype=F64))
        log_snr = torch.linspace(*ends.tolist(), n, dtype=F64)
        kept = torch.sigmoid(log_snr)
        table = sk.DiscreteVPSDE(1 - kept / torch.cat([torch.ones(1, dtype=F64), kept[:-1]]))
        terms = VariationalBound("posterior").terms(gaussian(table), x0, Nodes(eps))
        np.testing.assert_allclose(averaged(terms.prior), averaged(r.prior), rtol=1e-6)
        off.append(averaged(terms.steps.sum(0)) - averaged(r.diffusion))
        first = VariationalBound("upper").terms(gaussian(table), x0, Nodes(eps)).decoder
        np.testing.assert_allclose(averaged(first), averaged(r.decoder), rtol=1e-6)
    assert bool(((off[1] > 0) & (off[1] < 0.4)).all())
    np.testing.assert_allclose(off[0] / off[1], 2.0, atol=0.15)


def test_the_discretised_decoder_is_the_loss_s_on_the_same_draws():
    """Bin by bin, on a table: -log of the mass that VariationalBound("upper") gives at the first level."""
    sde = sk.DiscreteVPSDE(sk.sdes.tables.linear(20, 1e-2, 0.4))
    levels = torch.linspace(-1, 1, 17, dtype=F64)[:, None]
    eps = sk.Noise(0).normal((17, 1), stream="e", dtype=F64)
    model = gaussian(sde)
    r = sk.variational_bound(model, levels, decoder_bin=2 / 16, noise=Nodes(eps), draws=2)
    loss = VariationalBound("upper", decoder_bin=2 / 16).terms(model, levels, Nodes(eps))
    torch.testing.assert_close(r.decoder, loss.decoder, rtol=1e-12, atol=0)
    torch.testing.assert_close(r.bits_per_dim(), r.total / math.log(2))
    wide = VariationalBound("upper", decoder_bin=0.5, decoder_ends=(-2.0, 2.0)).terms(
        model, 2 * levels[::4], Nodes(eps[::4])
    )
    other = sk.variational_bound(
        model, 2 * levels[::4], decoder_bin=0.5, decoder_ends=(-2.0, 2.0), noise=Nodes(eps[::4]), draws=2
    )
    torch.testing.assert_close(other.decoder, wide.decoder, rtol=1e-12, atol=0)


# What the error is


class Signs(sk.KeyedNoise):
    """Keyed draws whose normals are signs: of moments 0 and 1, and bounded."""

    def normal(self, shape, *, stream, dtype=None, device=None):
        return self.rademacher(torch.empty(shape, dtype=dtype, device=device), stream=stream)


class Grid(Nodes):
    """The given eps and u."""

    def __init__(self, eps, u):
        super().__init__(eps)
        self.u = u

    def uniform(self, n, *, stream, device=None):
        return self.u


@pytest.mark.statistical
def test_the_square_of_the_standard_error_is_the_variance(seed):
    """(estimate - exact)^2 - se^2 has the mean 0 exactly, for pairs in parts are all of the chance there is.

    With signs for eps it is bounded, by what a draw can be in each of three parts: Hoeffding's inequality holds.
    Control: a standard error too small by a fourth.
    """
    sde, n, parts = sk.VPSDE(), 100_000, 3
    model, x = gaussian(sde), torch.full((n, 1), MEAN + 0.5 * math.sqrt(VAR), dtype=F64)
    exact = sum(float(v[0]) for v in closed(sde, x[:1], (sde.prior.mean, sde.prior.std)))

    u = torch.linspace(0, 1, 1501, dtype=F64).repeat(2)
    eps = torch.ones(len(u), 1, dtype=F64)
    eps[len(u) // 2 :] = -1.0
    each = sk.variational_bound(model, x[: len(u)], draws=2, noise=Grid(eps, u))
    ranges = [each.diffusion[(parts * u >= p) & (parts * u <= p + 1)] for p in range(parts)]
    low = sum(float(v.min()) for v in ranges) / parts + float(each.prior[0] + each.decoder.min()) - exact
    high = sum(float(v.max()) for v in ranges) / parts + float(each.prior[0] + each.decoder.max()) - exact
    most = sum(float(v.max() - v.min()) ** 2 for v in ranges) / (4 * parts**2)
    most += float(each.decoder.max() - each.decoder.min()) ** 2 / 4

    r = sk.variational_bound(model, x, draws=2 * parts, noise=Signs(seed))
    error, square = (r.total - exact).numpy(), r.se.square().numpy()
    assert low <= error.min()
    assert error.max() <= high
    assert square.max() <= most
    top = max(low**2, high**2)
    share = square.mean()
    honest.bounded((error**2 - square).mean() / share, n, 0.0, -most / share, top / share).holds(detects=0.4)
    wrong = (0.75**2) * square
    honest.bounded((error**2 - wrong).mean() / share, n, 0.0, -most / share, top / share).fails()


@pytest.mark.parametrize("sde", [sk.VPSDE(t_min=1e-5), sk.EDMSDE()], ids=repr)
def test_times_uniform_in_the_log_snr_have_a_smaller_error_than_uniform_times(sde):
    """Of a model that errs at every level, as a network does: in t, g^2 / sigma^2 spans decades. Four times the draws
    leave half the error, and the decoder's."""
    model = Off(mixture(sde), 0.9, 0.2)
    x = mixture(sde).sample(200, sk.Noise(0))

    def size(**how):
        return float(sk.variational_bound(model, x, seed=1, **how).se.square().mean().sqrt())

    log_snr, in_t = size(), size(times="stratified")
    assert log_snr < in_t / 5
    assert size(draws=128) < 0.55 * log_snr


@pytest.mark.parametrize("event", [(), (2,), (1, 2, 2)], ids=str)
def test_the_mean_over_rows_is_minus_log_p_of_any_event_shape(event):
    """Within five of its standard errors, which are those of the draws: a mixture with p_T as its prior."""
    model = mixture(sk.VPSDE(), event)
    x = model.sample(300, sk.Noise(0))
    r = sk.variational_bound(model, x, prior=lambda y: model.log_prob(y, 1.0), noise=sk.Noise(2))
    off = r.total + model.log_prob(x, model.sde.t_min)
    assert abs(float(off.mean())) < 5 * float(r.se.square().mean().sqrt()) / 300**0.5
    assert float(r.se.square().mean()) == pytest.approx(float(off.square().mean()), rel=0.3)


def test_a_prior_that_is_drawn_from_is_part_of_the_error():
    """A normal prior as a density gives the same number in expectation, and an error; as a prior none."""
    sde = sk.VPSDE(beta_max=2.0)  # which ends early, so that the prior matters
    model, x = gaussian(sde.with_prior(MEAN, math.sqrt(VAR))), torch.full((4000, 1), 1.0, dtype=F64)
    normal = sk.sdes.NormalPrior(0.2, 1.1)
    exact = sk.variational_bound(model, x[:1], prior=normal, draws=2)
    drawn = sk.variational_bound(model, x, prior=normal.log_prob, draws=2)
    assert float(exact.se) < 1e-8
    error = float(drawn.se.square().mean().sqrt())
    assert error > 0.05
    assert abs(float(drawn.total.mean() - exact.total)) < 5 * error / 4000**0.5
    assert float(drawn.total.std()) == pytest.approx(error, rel=0.1)


def test_the_draws_of_a_discretised_decoder_are_part_of_the_error():
    """Of Gaussian data that the process knows, they are all of it: rows of one datum spread by their standard error."""
    sde = sk.VPSDE(t_min=0.2).with_prior(MEAN, math.sqrt(VAR))
    r = sk.variational_bound(gaussian(sde), torch.full((4000, 1), 0.5, dtype=F64), draws=2, decoder_bin=0.5)
    assert float(r.diffusion.std() + r.prior.std()) < 1e-8
    assert float(r.decoder.std()) > 0.05
    assert float(r.se.square().mean().sqrt()) == pytest.approx(float(r.total.std()), rel=0.1)


# What a row depends on


def network(sde=None):
    """A small network in float32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = sk.networks.MLP((3,), width=24, depth=1)
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return sk.models.Parametrised(net, sde or sk.VPSDE(), sk.models.Epsilon())


def same(a, b, rows):
    return all(torch.equal(getattr(a, k), getattr(b, k)[rows]) for k in ("prior", "diffusion", "decoder", "se", "nfe"))


def test_a_row_is_the_same_bits_in_any_split():
    """Its times are its own, too: alone, among others, in another order, and with its ids in the noise."""
    model = network()
    x = sk.KeyedNoise(1).normal((70, 3), stream="x", dtype=torch.float32)
    how = {"draws": 4, "seed": 5, "per_sample": True}
    everyone = sk.variational_bound(model, x, **how)
    rows = torch.tensor([66, 3, 20])
    some = sk.variational_bound(model, x[rows], ids=rows, **how)
    assert same(some, everyone, rows)
    alone = sk.variational_bound(model, x[3:4], noise=sk.KeyedNoise(5, [3]), draws=4, per_sample=True)
    assert same(alone, everyone, torch.tensor([3]))
    loose = sk.variational_bound(model, x, draws=4, seed=5)
    torch.testing.assert_close(loose.total, everyone.total, rtol=1e-4, atol=1e-4)
    other = sk.variational_bound(model, x, draws=4, seed=6, per_sample=True)
    assert bool((other.diffusion != everyone.diffusion).all())
    same_row = sk.variational_bound(model, x[:1].expand(70, 3), draws=4, seed=5, per_sample=True)
    assert len(same_row.diffusion.unique()) == 70  # no two rows have the same draws


def test_network_evaluations_are_counted_and_its_mode_is_kept():
    """draws and the decoder's two; dropout is off while the bound is taken."""
    model, asked = network(), []
    model.register_forward_pre_hook(lambda m, args: asked.append((len(args[0]), m.training)))
    model.train()
    r = sk.variational_bound(model, torch.zeros(5, 3), draws=6)
    assert r.nfe.tolist() == [8] * 5
    assert asked == [(5, False)] * 8
    assert model.training
    assert r.total.dtype == F64
    assert sk.variational_bound(model, torch.zeros(5, 3), draws=2, dtype=torch.float32).total.dtype == torch.float32


# What is made of it


def test_bits_and_means():
    """total / (D log 2) less log2 of the width; the mean's error is that of the rows."""
    r = sk.variational_bound(mixture(sk.VPSDE()), torch.zeros(5, 2, dtype=F64), draws=2)
    assert r.dimension == 2
    torch.testing.assert_close(r.total, r.prior + r.diffusion + r.decoder)
    assert torch.equal(r.log_prob, -r.total)
    bits = r.total / (2 * math.log(2)) + 8
    torch.testing.assert_close(r.bits_per_dim(2**-8), bits)
    assert r.mean(2**-8) == pytest.approx((float(bits.mean()), float(bits.std()) / 5**0.5))
    one = sk.variational_bound(mixture(sk.VPSDE()), torch.zeros(1, 2, dtype=F64), draws=2)
    assert one.mean(1.0)[1] == math.inf
    with pytest.raises(InvalidType, match="bin_width must be a number, got NoneType"):
        r.bits_per_dim()
    discrete = sk.variational_bound(mixture(sk.VPSDE()), torch.zeros(3, 2, dtype=F64), draws=2, decoder_bin=0.5)
    with pytest.raises(InvalidArgument, match="bin_width must be left out, as the decoder has its own"):
        discrete.bits_per_dim(0.5)
    torch.testing.assert_close(discrete.bits_per_dim(), discrete.total / (2 * math.log(2)))


def test_no_rows_and_no_coordinates():
    """Nothing to bound: no rows, or zeros; and no bits of it."""
    model = mixture(sk.VPSDE())
    none = sk.variational_bound(model, torch.zeros(0, 2))
    assert none.total.shape == none.se.shape == none.nfe.shape == (0,)
    with pytest.raises(InvalidArgument, match="mean: the data set must hold at least one row"):
        none.mean(1.0)
    flat = sk.variational_bound(network(), torch.zeros(3, 0))
    assert flat.total.tolist() == [0.0] * 3
    assert flat.nfe.tolist() == [0] * 3
    with pytest.raises(InvalidArgument, match="at least one coordinate"):
        flat.bits_per_dim(1.0)


def test_what_it_refuses():
    """Odd draws, unknown times, data off the levels, processes without alpha and sigma; and it names rows at fault."""
    model, x = mixture(sk.VPSDE()), torch.zeros(3, 2)
    with pytest.raises(InvalidArgument, match="variational_bound: draws must be even, got draws=3"):
        sk.variational_bound(model, x, draws=3)
    with pytest.raises(InvalidArgument, match="variational_bound: draws must be at least 2, got draws=1"):
        sk.variational_bound(model, x, draws=1)
    with pytest.raises(InvalidArgument, match="times must be one of importance, stratified"):
        sk.variational_bound(model, x, times="uniform")
    with pytest.raises(InvalidArgument, match=r"x must hold levels 0\.5 apart from -1 to 1"):
        sk.variational_bound(model, x + 0.1, decoder_bin=0.5)
    with pytest.raises(InvalidArgument, match=r"variational_bound: prior must return \(B,\)"):
        sk.variational_bound(model, x, prior=lambda y: y)

    class Bare(sk.SDE):
        t_min, t_max, prior = 0.1, 1.0, sk.sdes.NormalPrior()

        def drift(self, x, t):
            return -x

        def diffusion(self, t):
            return torch.ones_like(torch.as_tensor(t))

    with pytest.raises(UnsupportedCombination, match="variational_bound: sde must be a GaussianSDE"):
        sk.variational_bound(sk.models.FromFunction(Bare(), score=lambda x, t: -x), x)
    broken = sk.models.FromFunction(sk.VPSDE(), eps=lambda x, t: x * torch.tensor([1.0, math.nan, 1.0])[:, None])
    with pytest.raises(NonFiniteError, match=r"rows 1") as caught:
        sk.variational_bound(broken, x)
    assert caught.value.rows == (1,)
