"""Data: the digits' split and levels, the roll against its exact density, and uniform dequantisation."""

import math
import sys
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from honest import bounded, correlation, dkw, rosenblatt, smooth, uniform
from problems import mixture
from scipy import integrate, stats

import sdekit as sk
from sdekit.data import (
    Dequantised,
    MissingExtra,
    dequantise,
    digits,
    roll_position,
    swiss_roll,
    swiss_roll_density,
)
from sdekit.errors import InvalidArgument, InvalidType, SDEKitError
from sdekit.losses import DenoisingScoreMatching
from sdekit.plots import lattice

datasets = pytest.importorskip("sklearn.datasets")

F64 = torch.float64
SDE = sk.VESDE(sigma_min=1e-4, sigma_max=10.0)
"""A process whose first level is as good as the data."""


# Digits


@pytest.fixture(scope="module")
def data():
    return digits()


def test_the_split_is_the_permutation_of_random_state_0(data):
    """scikit-learn's rows and labels in that order, v / 8 - 1: the first 1,437 to train on, 360 held out."""
    bunch = datasets.load_digits()
    order = np.random.RandomState(0).permutation(1797)
    wanted = (bunch.images[order] / 8 - 1)[:, None]
    assert (len(data.train), len(data.test)) == (1437, 360)
    np.testing.assert_array_equal(data.train.numpy(), wanted[:1437])
    np.testing.assert_array_equal(data.test.numpy(), wanted[1437:])
    np.testing.assert_array_equal(data.train_labels.numpy(), bunch.target[order][:1437])
    np.testing.assert_array_equal(data.test_labels.numpy(), bunch.target[order][1437:])
    assert data.train.dtype == data.test.dtype == torch.float32
    assert data.train_labels.dtype == data.test_labels.dtype == torch.int64


def test_a_pixel_is_one_of_seventeen_levels_a_bin_apart(data):
    levels = torch.cat([data.train, data.test]).unique()
    assert data.levels == 17
    assert torch.equal(levels, data.bin_width * torch.arange(data.levels) - 1)
    assert (float(levels[0]), float(levels[-1])) == (-1.0, 1.0)


def test_no_digit_is_both_learned_and_held_out(data):
    """All 1,797 pictures differ, so that no test row is a training row; and each class is on both sides."""
    rows = torch.cat([data.train, data.test]).reshape(-1, 64)
    assert len(rows.unique(dim=0)) == 1797
    for labels in (data.train_labels, data.test_labels):
        assert labels.unique().tolist() == list(range(10))


def test_digits_are_a_new_copy_each_time(data):
    """What a caller writes into one is not in the next; the record itself cannot be changed."""
    mine = digits()
    mine.train.zero_()
    assert torch.equal(digits().train, data.train)
    with pytest.raises(FrozenInstanceError):
        mine.train = data.train


# The Swiss roll


def roll_moments(noise):
    """Mean and standard deviation of (r cos r, r sin r) + noise z, r uniform on (1.5 pi, 4.5 pi), by quadrature."""

    def mean(f):
        return integrate.quad(f, 1.5 * np.pi, 4.5 * np.pi, epsabs=1e-12)[0] / (3 * np.pi)

    first = np.array([mean(lambda r: r * np.cos(r)), mean(lambda r: r * np.sin(r))])
    second = np.array([mean(lambda r: (r * np.cos(r)) ** 2), mean(lambda r: (r * np.sin(r)) ** 2)])
    return first, np.sqrt(second - first**2 + noise**2)


@pytest.mark.parametrize(("n", "seed", "noise"), [(1, 0, 0.5), (500, 3, 0.5), (500, 0, 0.0), (500, 0, 2.0)])
def test_the_roll_is_scikit_learns_standardised_by_its_law(n, seed, noise):
    """Its first and last coordinate, by the moments of the law and not of the sample."""
    points, _ = datasets.make_swiss_roll(n, noise=noise, random_state=seed)
    mean, std = roll_moments(noise)
    x = swiss_roll(n, seed, noise)
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x.numpy(), (points[:, [0, 2]] - mean) / std, rtol=0, atol=5e-7)


@pytest.mark.statistical
def test_draws_on_the_curve_are_uniform_in_its_parameter(seed):
    """Without noise a draw tells its r exactly: 20,000 of them; those of a uniform angle's square root are seen."""
    share = roll_position(swiss_roll(20_000, seed, 0.0).double(), 0.0)
    dkw(share, uniform, slack=1e-5).holds(detects=0.04)
    dkw(share.sqrt(), uniform, slack=1e-5).fails()


def test_the_density_has_mean_zero_and_variance_one():
    """The midpoint rule's error falls like 1 / components^2: to 1e-5 at 1,000."""
    model = swiss_roll_density(SDE, components=1000)
    mean = (model.weights[:, None] * model.means).sum(0)
    variance = (model.weights[:, None] * (model.means.square() + model.values)).sum(0) - mean**2
    torch.testing.assert_close(mean, torch.zeros(2, dtype=F64), rtol=0, atol=1e-5)
    torch.testing.assert_close(variance, torch.ones(2, dtype=F64), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("noise", "extent"), [(0.5, 2.7), (1.5, 3.6)])
def test_the_density_integrates_to_one(noise, extent):
    """Over a square at midpoints, where a smooth function's sum converges faster than any power: to 1e-6."""
    grid = lattice(90, extent)
    log_prob = swiss_roll_density(SDE, noise, components=200).log_prob(grid.points, SDE.t_min)
    assert float(log_prob.exp().mean()) * (2 * extent) ** 2 == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("sde", [SDE, sk.VPSDE()], ids=["VE", "VP"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_density_is_the_integral_along_the_curve(sde, share):
    """p_t(x) by adaptive quadrature over r, at points on the roll and off it: to 1e-6 in log p."""
    t, noise = sde.t_min + share * (sde.t_max - sde.t_min), 0.5
    mean, std = roll_moments(noise)
    alpha, sigma = float(sde.alpha(t)), float(sde.sigma(t))
    points = np.array([[0.0, 0.0], [1.2, -0.7], [0.4, 0.6], [-1.9, 1.0]])
    spread = np.sqrt((alpha * noise / std) ** 2 + sigma**2)

    def density(x):
        def at(r):
            centre = (np.array([r * np.cos(r), r * np.sin(r)]) - mean) / std
            return np.prod(stats.norm.pdf(x, alpha * centre, spread))

        return integrate.quad(at, 1.5 * np.pi, 4.5 * np.pi, limit=500, epsabs=0, epsrel=1e-9)[0] / (3 * np.pi)

    found = swiss_roll_density(sde).log_prob(torch.from_numpy(points), t)
    np.testing.assert_allclose(found.numpy(), [math.log(density(x)) for x in points], rtol=0, atol=1e-6)


def of_the_density(model, x):
    """Uniforms by draws, if they have the law of the density."""
    covariances = model.values.numpy()[:, :, None] * np.eye(2)
    return rosenblatt(x, model.weights, model.means, covariances)


@pytest.mark.statistical
def test_the_density_is_the_law_of_the_draws(seed):
    """2,500 draws of the roll, and of the density itself. Much more noise, the roll in a mirror, and three times as
    many points on its outer half are all seen."""
    model, outer = (swiss_roll_density(SDE, components=300) for _ in range(2))
    weights = 1.0 + 2.0 * (torch.arange(300) >= 150)
    outer.weights.copy_(weights / weights.sum())
    x = swiss_roll(2500, seed).double()
    smooth(of_the_density(model, x), of=2).holds(detects=0.23)
    smooth(of_the_density(model, model.sample(2500, sk.Noise(seed))), of=2).holds(detects=0.23)
    for wrong in (swiss_roll(2500, seed, noise=8.0), x * torch.tensor([-1.0, 1.0]), outer.sample(2500, sk.Noise(seed))):
        smooth(of_the_density(model, wrong), of=2).fails()


@pytest.mark.statistical
def test_the_mean_density_of_the_draws_is_the_integral_of_its_square(seed):
    """E p(x) over 5,000 draws, in units of the largest p, to 0.06: how thin the roll is. Twice the noise is seen."""
    model, grid = swiss_roll_density(SDE, components=400), lattice(90, 2.7)
    everywhere = model.log_prob(grid.points, SDE.t_min).exp()
    most = float(everywhere.max())

    def mean(power):  # of min(p / most, 1)^power
        return float((everywhere * (everywhere / most) ** power).mean()) * 5.4**2

    sd = math.sqrt(mean(2) - mean(1) ** 2)
    for noise, right in ((0.5, True), (1.0, False)):
        p = (model.log_prob(swiss_roll(5000, seed, noise).double(), SDE.t_min).exp() / most).clamp(max=1.0)
        verdict = bounded(p.mean(), 5000, mean(1), 0.0, 1.0, sd=sd)
        verdict.holds(detects=0.06) if right else verdict.fails()


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_points_position_is_its_place_on_the_curve(noise):
    """(r - 1.5 pi) / 3 pi for points on it; 0 within and 1 beyond."""
    share = np.linspace(0, 1, 31)
    r = 1.5 * np.pi + 3 * np.pi * share
    mean, std = roll_moments(noise)
    x = torch.from_numpy((np.stack([r * np.cos(r), r * np.sin(r)], 1) - mean) / std)
    np.testing.assert_allclose(roll_position(x, noise).numpy(), share, rtol=0, atol=1e-12)
    middle = torch.from_numpy(-mean / std)
    assert roll_position(torch.stack([middle, torch.tensor([9.0, 9.0])]), noise).tolist() == [0.0, 1.0]


def test_positions_follow_scikit_learns_own_parameter():
    """The noise moves a point along the radius by 0.5 of 9.4: correlation above 0.98."""
    _, t = datasets.make_swiss_roll(3000, noise=0.5, random_state=4)
    along = roll_position(swiss_roll(3000, 4))
    assert np.corrcoef(along.numpy(), t)[0, 1] > 0.98
    assert along.dtype == F64


def test_one_seed_is_one_roll():
    assert torch.equal(swiss_roll(50, 1), swiss_roll(50, 1))
    assert not torch.equal(swiss_roll(50, 1), swiss_roll(50, 2))


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda: swiss_roll(0), InvalidArgument, "swiss_roll: n must be at least 1, got n=0"),
        (lambda: swiss_roll(2.5), InvalidType, "swiss_roll: n must be a whole number"),
        (lambda: swiss_roll(5, noise=-1), InvalidArgument, "swiss_roll: noise must be finite and >= 0"),
        (lambda: swiss_roll(5, noise=math.nan), InvalidArgument, "swiss_roll: noise must be finite"),
        (lambda: swiss_roll(5, seed=-1), InvalidArgument, "swiss_roll: seed must be"),
        (lambda: swiss_roll(5, seed=2**32), InvalidArgument, "swiss_roll: seed must be"),
        (lambda: swiss_roll(5, seed="0"), InvalidType, "swiss_roll: seed must be"),
        (lambda: swiss_roll_density(SDE, noise=0), InvalidArgument, "swiss_roll_density: noise must be finite and > 0"),
        (lambda: swiss_roll_density(SDE, components=0), InvalidArgument, "components must be at least 1"),
        (lambda: swiss_roll_density("VP"), SDEKitError, "sde must be"),
        (lambda: dequantise([0.0], 1.0, sk.Noise(0)), InvalidType, "dequantise: x must be a tensor"),
        (lambda: dequantise(torch.ones(2, 2).int(), 1.0, sk.Noise(0)), InvalidType, "x must be of a floating-point"),
        (lambda: dequantise(torch.ones(2, 2) / 0, 1.0, sk.Noise(0)), InvalidArgument, "dequantise: x must be finite"),
        (lambda: dequantise(torch.ones(2, 2), 0.0, sk.Noise(0)), InvalidArgument, "bin_width must be finite and > 0"),
        (lambda: dequantise(torch.ones(2, 2), -1, sk.Noise(0)), InvalidArgument, "bin_width must be finite and > 0"),
    ],
)
def test_arguments_that_are_none_are_named(call, kind, said):
    with pytest.raises(kind, match=said):
        call()


# Dequantisation

SOURCES = pytest.mark.parametrize("source", [sk.Noise, sk.KeyedNoise])


def shares(x, bin_width, noise):
    """Where in its bin each value went: u of x + bin_width (u - 1/2)."""
    return ((dequantise(x, bin_width, noise) - x) / bin_width + 0.5).reshape(-1).double().numpy()


@pytest.mark.statistical
@SOURCES
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("bin_width", [0.125, 3.0])
def test_a_level_is_spread_uniformly_over_its_bin(source, dtype, bin_width, seed):
    """40,000 draws; a triangle on the bin is seen."""
    x = bin_width * (torch.arange(40_000) % 17).to(dtype).reshape(-1, 4)
    u = shares(x, bin_width, source(seed))
    assert u.min() > -1e-5
    assert u.max() < 1 + 1e-5
    dkw(u, uniform, slack=1e-5).holds(detects=0.03)
    dkw((u + np.roll(u, 1)) / 2, uniform, slack=1e-5).fails()


@pytest.mark.statistical
@SOURCES
def test_neighbours_and_rows_are_spread_independently(source, seed):
    """20,000 pairs, as normals; a correlation of 0.08 is seen."""
    z = stats.norm.ppf(shares(torch.zeros(20_001, 3, dtype=F64), 1.0, source(seed))).reshape(-1, 3)
    for a, b in ((z[:, 0], z[:, 1]), (z[:, 0], z[:, 2]), (z[:-1, 0], z[1:, 0]), (z[:-1, 2], z[1:, 0])):
        correlation(a, b, of=4).holds(detects=0.065)
    correlation(z[:, 0], 0.08 * z[:, 0] + z[:, 1], of=4).fails()


@pytest.mark.statistical
def test_the_level_is_the_nearest_one(data, seed):
    """No point lies beyond its bin's edges, on which single precision may round it; the 23,040 shares of the bins are
    uniform, and others are seen."""
    x = dequantise(data.test, data.bin_width, sk.Noise(seed))
    u = ((x - data.test).double() / data.bin_width + 0.5).flatten()
    assert 0 <= float(u.min()) <= float(u.max()) <= 1
    dkw(u, uniform, slack=1e-5).holds(detects=0.035)
    dkw(0.9 * u, uniform, slack=1e-5).fails()
    assert x.dtype == torch.float32
    assert x.shape == data.test.shape


@pytest.mark.statistical
def test_uniform_levels_become_a_uniform_density(seed):
    """17 equally likely levels fill [-1 - w/2, 1 + w/2]: 34,000 draws; the levels themselves are seen."""
    x = torch.from_numpy(np.random.default_rng(seed).integers(17, size=(17_000, 2))).double() / 8 - 1
    law = stats.uniform(-1 - 1 / 16, 2 + 1 / 8).cdf
    dkw(dequantise(x, 1 / 8, sk.Noise(seed)), law).holds(detects=0.03)
    dkw(x, law).fails()


def test_a_row_is_dequantised_alike_in_any_batch_by_keyed_noise():
    x = torch.zeros(10, 1, 8, 8)
    everyone = dequantise(x, 0.125, sk.KeyedNoise(4))
    assert torch.equal(dequantise(x[:3], 0.125, sk.KeyedNoise(4, ids=[7, 0, 3])), everyone[[7, 0, 3]])


@pytest.mark.parametrize("method", ["__call__", "per_sample"])
def test_the_loss_of_dequantised_data_is_the_inner_loss_of_dequantised_rows(method):
    """The same source serves both, first the bins and then the loss."""
    model = mixture(sk.VPSDE())
    x0 = torch.tensor([[0.0, 1.0], [2.0, -1.0], [1.0, 1.0]], dtype=F64)
    inner, noise = DenoisingScoreMatching(), sk.Noise(5)
    wanted = getattr(inner, method)(model, dequantise(x0, 0.5, noise), noise)
    loss = Dequantised(0.5, inner)
    assert torch.equal(getattr(loss, method)(model, x0, sk.Noise(5)), wanted)
    assert not torch.equal(getattr(inner, method)(model, x0, sk.Noise(5)), wanted)
    assert wanted.shape == ((3,) if method == "per_sample" else ())


def test_a_row_is_dequantised_afresh_whenever_it_is_seen():
    """Two draws of one source differ in every coordinate."""
    noise, x = sk.Noise(6), torch.zeros(100, 2)
    assert bool((dequantise(x, 0.125, noise) != dequantise(x, 0.125, noise)).all())


@pytest.mark.parametrize("method", ["__call__", "per_sample"])
def test_conditions_reach_the_model_of_a_dequantised_loss(method):
    seen = []

    def eps(x, t, y):
        seen.append(y)
        return x

    model, y = sk.models.FromFunction(sk.VPSDE(), eps=eps), torch.arange(3)
    getattr(Dequantised(0.5), method)(model, torch.zeros(3, 2), sk.Noise(0), y=y)
    assert torch.equal(seen[0], y)


# Without scikit-learn


@pytest.mark.parametrize(("owner", "call"), [("digits", digits), ("swiss_roll", lambda: swiss_roll(3))])
def test_missing_scikit_learn_is_named_with_the_extra_that_brings_it(monkeypatch, owner, call):
    """An error of the package and an ImportError at once; the cause is kept."""
    for name in [name for name in sys.modules if name == "sklearn" or name.startswith("sklearn.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra) as caught:
        call()
    assert str(caught.value) == f"{owner}: needs scikit-learn, which is not installed: pip install 'sdekit[demo]'"
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value, SDEKitError)
    assert isinstance(caught.value.__cause__, ImportError)


def test_what_needs_no_scikit_learn_works_without(monkeypatch):
    for name in [name for name in sys.modules if name == "sklearn" or name.startswith("sklearn.")]:
        monkeypatch.setitem(sys.modules, name, None)
    assert swiss_roll_density(SDE).sample(3, sk.Noise(0)).shape == (3, 2)
    assert dequantise(torch.zeros(2, 2), 1.0, sk.Noise(0)).shape == (2, 2)
    assert roll_position(torch.zeros(2, 2)).shape == (2,)


# Logits of bounded data


def test_the_logit_goes_to_all_of_space_and_back():
    """Its slope is that of autograd's Jacobian, the inverse ends where it began, and the middle goes to 0."""
    logit = sk.data.Logit(-0.5, 16.5, margin=0.02)
    x = torch.tensor([[-0.5, 16.5], [8.0, 3.25]], dtype=F64)
    y = logit(x)
    torch.testing.assert_close(y[0], torch.tensor([math.log(0.02 / 0.98), math.log(0.98 / 0.02)], dtype=F64))
    assert float(y[1, 0]) == pytest.approx(0, abs=1e-15)
    torch.testing.assert_close(logit.inverse(y), x, rtol=0, atol=1e-12)
    slopes = [torch.autograd.functional.jacobian(lambda r: logit(r[None])[0], row).logdet() for row in x]
    torch.testing.assert_close(logit.log_slope(x), torch.stack(slopes))
    with pytest.raises(InvalidArgument, match=r"Logit: x must lie between -0.5 and 16.5, got 17"):
        logit(x + 0.5)


def test_a_loss_of_dequantised_data_sees_their_logits():
    """The bins first, then the transform, whose ends hold them whole."""
    model = mixture(sk.VPSDE())
    x0 = torch.tensor([[0.0, 1.0], [2.0, 3.0]], dtype=F64)
    logit, inner, noise = sk.data.Logit(-0.5, 3.5), DenoisingScoreMatching(), sk.Noise(5)
    wanted = inner(model, logit(dequantise(x0, 1.0, noise)), noise)
    assert torch.equal(Dequantised(1.0, inner, logit)(model, x0, sk.Noise(5)), wanted)
    with pytest.raises(sk.errors.InvalidType, match="transform must be a Logit or None"):
        Dequantised(1.0, inner, torch.logit)
