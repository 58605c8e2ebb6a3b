"""Tables of levels: the literature's builders, DDPM's and NCSN's processes on them, respacing, and what is refused."""

import copy
import io
import math
import pickle
import re

import mpmath
import numpy as np
import pytest
import torch
from honest import counts
from problems import Impulses, last

import sdekit as sk
from sdekit.errors import InvalidArgument, InvalidType, ScheduleError, UnsupportedCombination
from sdekit.sdes import tables

F64 = torch.float64

BUILDERS = {
    "linear": tables.linear,
    "quadratic": tables.quadratic,
    "sigmoid": tables.sigmoid,
    "constant": tables.constant,
    "cosine": tables.cosine,
    "zero_terminal_snr": lambda n: tables.zero_terminal_snr(tables.linear(n, 1e-4, 0.02 * min(1.0, 1000 / n))),
}


def alpha_bar(betas):
    """prod(1 - beta), in 40 digits."""
    with mpmath.workdps(40):
        product, out = mpmath.mpf(1), []
        for beta in betas.tolist():
            product *= 1 - mpmath.mpf(beta)
            out.append(product)
    return out


# The builders


def test_ddpms_table_is_the_published_one():
    """Ho et al. 2020, section 4: 1e-4 to 0.02 in 1000 steps, and an end of alpha_bar = 4.036e-5 (arXiv:2006.11239)."""
    betas = tables.linear()
    assert len(betas) == 1000
    assert (float(betas[0]), float(betas[-1])) == (1e-4, 0.02)
    torch.testing.assert_close(betas[1:] - betas[:-1], torch.full((999,), (0.02 - 1e-4) / 999, dtype=F64))
    sde = sk.DiscreteVPSDE(betas)
    assert float(sde.alpha(1000)) ** 2 == pytest.approx(4.0358e-5, rel=1e-4)
    # the KL divergence to N(0, I) that the paper states for images in [-1, 1]: about 1e-5 bits a dimension
    assert float(sde.alpha(1000)) ** 2 / (2 * math.log(2)) == pytest.approx(1e-5, abs=2.5e-5)


@pytest.mark.parametrize("n", [10, 50, 1000, 4000])
def test_the_cosine_table_is_nichol_and_dhariwals(n):
    """Nichol & Dhariwal 2021, eq. 17: f(t) = cos^2((t / T + s) / (1 + s) pi / 2), s = 0.008, beta at most 0.999."""
    f = [math.cos((i / n + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(n + 1)]
    wanted = [min(1 - f[i + 1] / f[i], 0.999) for i in range(n)]
    np.testing.assert_allclose(tables.cosine(n).numpy(), wanted, rtol=1e-9, atol=1e-13)
    assert float(tables.cosine(n, max_beta=0.5).max()) == 0.5


def test_the_cosine_table_and_the_cosine_process_are_one():
    """At i / n both have the same alpha, but for the last levels, where beta is clipped."""
    sde, continuous = sk.DiscreteVPSDE(tables.cosine(1000)), sk.CosineSDE()
    t = torch.arange(1.0, 995.0, dtype=F64)
    torch.testing.assert_close(sde.alpha(t), continuous.alpha(t / 1000), rtol=1e-10, atol=0)
    torch.testing.assert_close(sde.sigma(t), continuous.sigma(t / 1000), rtol=1e-10, atol=0)


def test_the_quadratic_table_is_latent_diffusions():
    """Rombach et al. 2022: sqrt(beta) from sqrt(0.00085) to sqrt(0.012); its alpha_bar ends at 0.00466, not at 0."""
    betas = tables.quadratic(1000, 0.00085, 0.012)
    np.testing.assert_allclose(betas.numpy(), np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, rtol=1e-13)
    assert float(sk.DiscreteVPSDE(betas).alpha(1000)) ** 2 == pytest.approx(0.00466, abs=1e-5)


def test_the_sigmoid_and_the_constant_tables():
    """beta_min + (beta_max - beta_min) / (1 + exp(-u)), u from -6 to 6; and one beta."""
    u = np.linspace(-6, 6, 100)
    wanted = 1e-4 + (0.02 - 1e-4) / (1 + np.exp(-u))
    np.testing.assert_allclose(tables.sigmoid(100).numpy(), wanted, rtol=1e-13)
    assert tables.constant(7, 0.3).tolist() == [0.3] * 7


def test_ncsns_noise_levels_are_the_published_ones():
    """Song & Ermon 2019, section 5: ten levels from 1 to 0.01, geometric; their code prints 0.5995, 0.3594, ..."""
    known = [0.01, 0.0167, 0.0278, 0.0464, 0.0774, 0.1292, 0.2154, 0.3594, 0.5995, 1.0]
    assert tables.geometric().tolist() == pytest.approx(known, abs=5e-5)
    many = tables.geometric(232, 0.01, 50.0)  # Song & Ermon 2020, table 5 (appendix B): CIFAR-10
    assert float(many[1] / many[0]) == pytest.approx(math.exp(math.log(5000) / 231), rel=1e-13)


def test_zero_terminal_snr_leaves_no_signal_and_the_first_level_as_it_was():
    """Lin et al. 2024, algorithm 1 (arXiv:2305.08891): a -> a_1 (a - a_N) / (a_1 - a_N), a = sqrt(alpha_bar)."""
    betas = tables.quadratic(1000, 0.00085, 0.012)
    a = np.sqrt(np.cumprod(1 - betas.numpy()))
    wanted = a[0] * (a - a[-1]) / (a[0] - a[-1])
    sde = sk.DiscreteVPSDE(tables.zero_terminal_snr(betas))
    found = sde.alpha(sde.times).numpy()
    np.testing.assert_allclose(found[:-1], wanted[:-1], rtol=1e-10)
    assert found[0] == pytest.approx(a[0], rel=1e-14)
    assert found[-1] == pytest.approx(2.0**-25, rel=1e-6)
    # float32 x_T is the noise itself, to its last bit
    x0, eps = torch.ones(1000, 1), sk.Noise(0).normal((1000, 1), stream="eps")
    x = sde.perturb(x0, 1000, eps)
    assert float((x - eps).abs().max()) <= 1.2e-7


def test_a_velocity_network_starts_at_zero_terminal_snr_and_samples_the_data():
    """v-prediction says what x0 is where alpha vanishes (Lin et al. 2024, section 3.2): finite, and of the law."""
    sde = sk.DiscreteVPSDE(tables.zero_terminal_snr(tables.linear()))
    data = sk.models.GaussianMixture(sde, [1.0], torch.tensor([[1.5]], dtype=F64), 0.25)

    def network(x, label):
        p = data(x.double(), label.double() + 1)
        alpha, sigma = sde.alpha(label[:1].double() + 1), sde.sigma(label[:1].double() + 1)
        return (alpha * p.eps - sigma * p.x0).to(x.dtype)

    model = sk.models.Parametrised(network, sde, sk.models.VPrediction(label="index"))
    steps = 250
    for solver in (sk.solvers.DDIM(), sk.solvers.Ancestral()):
        # the sampler is affine: from 0, from 1, and from 0 with an impulse at each draw
        x_T = torch.zeros(2 + steps, 1, dtype=F64)
        x_T[1] = 1.0
        x = last(sk.trajectory(model, solver, x_T, "trailing", Impulses(), steps=steps)).x[:, 0]
        assert float(x[0]) == pytest.approx(1.5, abs=0.01)
        assert float(((x[1:] - x[0]) ** 2).sum()) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("n", [2, 3, 10, 999, 1000, 4000])
def test_every_table_of_every_length_is_a_schedule(name, n):
    """Every beta in (0, 1), or a named error: DDPM's scaled betas in 10 steps reach 2, and their root is no number."""
    if n == 2 and name == "zero_terminal_snr":
        return
    betas = BUILDERS[name](n)
    assert betas.shape == (n,)
    assert betas.dtype == F64
    sde = sk.DiscreteVPSDE(betas)
    snr = sde.log_snr(sde.times)
    assert bool(torch.isfinite(snr).all())
    assert bool((snr.diff() < 0).all())


# The processes on their tables


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("n", [3, 10, 999, 1000, 4000])
def test_alpha_bar_to_the_last_bits(name, n):
    """alpha and sigma of every level within 1e-15 and 3e-15 of 40 digits: not cumprod's in float32."""
    betas = BUILDERS[name](n)
    sde = sk.DiscreteVPSDE(betas)
    alpha, sigma = sde.alpha(sde.times), sde.sigma(sde.times)
    for i, bar in enumerate(alpha_bar(betas)):
        if i % max(1, n // 50) and i not in (0, 1, n - 1):
            continue
        a, s = math.sqrt(bar), float(mpmath.sqrt(1 - bar))
        # alpha = exp(-B / 2) inherits eps B / 2 from its exponent
        assert float(alpha[i]) == pytest.approx(a, rel=1e-15 + 2.3e-16 * max(0.0, -math.log(a)))
        assert float(sigma[i]) == pytest.approx(s, rel=3e-15)
    assert float(sigma[0]) == pytest.approx(math.sqrt(float(betas[0])), rel=1e-15)


def test_the_kernel_between_two_levels_is_ddpms_step():
    """x_i = sqrt(1 - beta_i) x_(i-1) + sqrt(beta_i) z, and N(0, 1) data stay N(0, 1) through the whole chain."""
    for betas in (tables.linear(), tables.cosine(), tables.sigmoid(50)):
        sde = sk.DiscreteVPSDE(betas)
        scale, std = sde.transition(sde.times[:-1], sde.times[1:])
        torch.testing.assert_close(scale**2, 1 - betas[1:], rtol=1e-12, atol=0)
        torch.testing.assert_close(std**2, betas[1:], rtol=1e-11, atol=0)
        variance = float(sde.alpha(sde.t_min)) ** 2 + float(sde.sigma(sde.t_min)) ** 2
        for a, b in zip(scale.tolist(), std.tolist(), strict=True):
            variance = a * a * variance + b * b
            assert variance == pytest.approx(1.0, abs=1e-12)


def test_ncsns_levels_are_the_given_numbers_to_the_bit():
    """And so in either order of the table."""
    sigmas = [0.013, 0.4, 1.7, 33.3]
    for given in (sigmas, sigmas[::-1], np.array(sigmas), torch.tensor(sigmas, dtype=F64)):
        sde = sk.DiscreteVESDE(given)
        assert [float(sde.sigma(t)) for t in (1, 2, 3, 4)] == sigmas
        assert 0.4 < float(sde.sigma(2.5)) < 1.7


@pytest.mark.parametrize("sde", [sk.DiscreteVPSDE(), sk.DiscreteVPSDE(tables.cosine(20)), sk.DiscreteVESDE([1, 3, 40])])
def test_between_two_levels_drift_and_diffusion_are_continuous(sde):
    """On either side of every level but the last; and the log-SNR falls everywhere."""
    t = sde.times[:-1] if sde.t_min > 1 else sde.times[1:-1]
    x = torch.ones(len(t), dtype=F64)
    for side in (-1e-9, 1e-9):
        torch.testing.assert_close(sde.drift(x, t + side), sde.drift(x, t), rtol=1e-5, atol=1e-9)
        torch.testing.assert_close(sde.diffusion(t + side), sde.diffusion(t), rtol=1e-5, atol=0)
    fine = torch.linspace(sde.t_min, sde.t_max, 20_001, dtype=F64)
    assert bool((sde.log_snr(fine).diff() < 0).all())


def test_a_geometric_table_is_ves_process():
    """NCSN's levels are samples of VESDE: between them, too."""
    sde, ve = sk.DiscreteVESDE(tables.geometric(232, 0.01, 50.0)), sk.VESDE(0.01, 50.0)
    t = torch.linspace(1.0, 232.0, 999, dtype=F64)
    torch.testing.assert_close(sde.sigma(t), ve.sigma((t - 1) / 231), rtol=1e-11, atol=0)
    torch.testing.assert_close(
        sde.diffusion(t) * 231**0.5, ve.diffusion(((t - 1) / 231).clamp(1e-5)), rtol=1e-4, atol=0
    )


# Labels


class Listener(torch.nn.Module):
    """A network that writes down the labels it is told."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def forward(self, x, label):
        self.heard.append(label.clone())
        return torch.zeros_like(x)


@pytest.mark.parametrize("n", [10, 999, 1000, 4000])
@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_training_and_sampling_tell_the_same_label_to_the_bit(n, dtype):
    """Index i is told as the number i, for any length of the table and in either dtype, and every index is visited."""
    network = Listener()
    sde = sk.DiscreteVPSDE(tables.linear(n, 1e-5, 0.01)).with_prior(0.0, 1.0)
    model = sk.models.Parametrised(network, sde, sk.models.Epsilon(label="index"))
    x0 = torch.zeros(3 * n, 1, dtype=dtype)
    sk.losses.DenoisingScoreMatching(times="stratified")(model, x0, sk.Noise(0))
    trained = torch.cat(network.heard).unique()
    for grid in ("uniform", "linspace", sde.times.flip(0)):
        network.heard.clear()
        steps = None if isinstance(grid, torch.Tensor) else n
        sk.sample(model, (1, 1), solver=sk.solvers.Ancestral(), grid=grid, steps=steps, dtype=dtype)
        sampled = torch.cat(network.heard)
        assert torch.equal(sampled, torch.arange(n - 1, -1, -1, dtype=sampled.dtype))
        assert torch.equal(sampled.flip(0), trained)
    assert trained.dtype == dtype


@pytest.mark.statistical
def test_training_draws_the_tables_own_times_evenly(seed):
    """Each of the N times with probability 1 / N, of 40,000 draws; one that is drawn 12 times in 100 is seen.

    Stratified times are each there 4,000 times."""
    sde = sk.DiscreteVESDE()
    for times in ("uniform", "stratified"):
        t, factor = sk.losses.times.NAMES[times](sde, 40_000, sk.Noise(seed))
        assert factor == 1.0
        values, found = t.unique(return_counts=True)
        assert torch.equal(values, sde.times)
        if times == "stratified":
            assert float((found - 4000).abs().max()) <= 1
        else:
            counts(found, torch.ones(10)).holds(detects=0.015)
            counts(found, torch.tensor([0.12, 0.08] + [0.1] * 8)).fails()


def test_a_bf16_network_is_told_every_label_apart():
    """Labels reach the network in float32 at least: in bf16, 937 would be 936 and 999 be 1000."""
    network = Listener().to(torch.bfloat16)
    network.register_parameter("w", torch.nn.Parameter(torch.zeros(1, dtype=torch.bfloat16)))
    model = sk.models.Parametrised(network, sk.DiscreteVPSDE(), sk.models.Epsilon(label="index"))
    model(torch.zeros(1000, 1), model.sde.times)
    assert torch.equal(network.heard[0], torch.arange(1000.0))


# Spacings and respacing


def test_the_spacings_are_the_published_ones():
    """Of 1000 levels in 10, as the papers' own code gives them, least noise first."""
    assert tables.leading(1000, 10).tolist() == list(range(0, 1000, 100))
    assert tables.linspace(1000, 10).tolist() == [0, 111, 222, 333, 444, 555, 666, 777, 888, 999]
    assert tables.trailing(1000, 10).tolist() == [99, 199, 299, 399, 499, 599, 699, 799, 899, 999]
    # Song et al. 2021 (DDIM), their code's "quad": np.linspace(0, sqrt(0.8 * 1000), 10) ** 2
    assert tables.quadratic_spacing(1000, 10).tolist() == [0, 9, 39, 88, 158, 246, 355, 483, 632, 800]


@pytest.mark.parametrize("spacing", tables.SPACINGS)
@pytest.mark.parametrize("n", [2, 10, 999, 1000, 4000])
def test_a_spacing_visits_as_many_levels_as_it_is_asked_for_each_once(spacing, n):
    """For every number of steps up to the whole table, which is then visited whole."""
    for steps in (*range(1, min(n, 60) + 1), n // 2, n - 1, n):
        index = tables.SPACINGS[spacing](n, max(steps, 1))
        assert len(index) == max(steps, 1)
        assert int(index[0]) >= 0
        assert int(index[-1]) < n
        assert bool((index.diff() > 0).all())
    assert tables.SPACINGS[spacing](n, n).tolist() == list(range(n))


@pytest.mark.parametrize("spacing", tables.SPACINGS)
def test_a_respaced_table_has_the_levels_it_keeps_and_their_labels(spacing):
    """beta = 1 - alpha_bar_t / alpha_bar_s, not beta_t (17.9 times less at a stride of 20): Nichol & Dhariwal 2021."""
    whole = sk.DiscreteVPSDE()
    sde = whole.respaced(50, spacing)
    index = tables.SPACINGS[spacing](1000, 50)
    assert sde.times.tolist() == (index + 1).tolist()
    assert (sde.t_min, sde.t_max) == (float(index[0]) + 1, float(index[-1]) + 1)
    torch.testing.assert_close(sde.alpha(sde.times), whole.alpha(sde.times), rtol=1e-13, atol=0)
    torch.testing.assert_close(sde.sigma(sde.times), whole.sigma(sde.times), rtol=1e-12, atol=0)
    bar = np.cumprod(1 - tables.linear().numpy())[index.numpy()]
    wanted = 1 - bar / np.concatenate([[1.0], bar[:-1]])
    np.testing.assert_allclose(sde.betas.numpy(), wanted, rtol=1e-9)
    label = sk.models.Epsilon(label="index").label_of(sde.levels(sde.times[7:8])[0])
    assert label == float(index[7])


def test_a_respaced_table_keeps_ncsns_levels_and_the_prior():
    sde = sk.DiscreteVESDE(tables.geometric(50)).with_prior(1.0, 2.0)
    fewer = sde.respaced([0, 10, 49])
    assert fewer.sigmas.tolist() == tables.geometric(50)[[0, 10, 49]].tolist()
    assert float(fewer.sigma(11)) == float(sde.sigma(11))
    x = torch.tensor([[3.0]], dtype=F64)
    assert float(fewer.prior.log_prob(x)) == float(sde.prior.log_prob(x))


def test_the_level_before_is_the_tables_and_then_the_clean_one():
    """For one time and for a time a row, on the whole table and on a respaced one, and from between two levels."""
    for sde in (sk.DiscreteVPSDE(tables.linear(10)), sk.DiscreteVESDE(), sk.DiscreteVPSDE().respaced(10, "leading")):
        times = sde.times.tolist()
        x = torch.zeros(len(times), 2)
        for t, s in zip(times[1:], times[:-1], strict=True):
            assert sde.previous(sde.level(t, x)).t == s
            assert sde.previous(sde.level(t - 0.25, x)).t == s
        assert sde.previous(sde.level(times[0], x)).clean
        rows = sde.previous(sde.level(sde.times, x))
        assert rows.t.flatten().tolist() == [0.0, *times[:-1]]
        assert float(rows.alpha[0]) == 1.0
        assert float(rows.sigma[0]) == 0.0
        assert float(rows.log_snr[0]) == math.inf
        torch.testing.assert_close(rows.sigma[1:].flatten(), sde.sigma(sde.times[:-1]))


def test_a_table_is_equal_to_its_like_and_shows_what_it_is():
    assert sk.DiscreteVPSDE() == sk.DiscreteVPSDE(tables.linear())
    assert sk.DiscreteVPSDE() != sk.DiscreteVPSDE(tables.cosine())
    assert sk.DiscreteVPSDE() != sk.DiscreteVPSDE().respaced(100)
    assert repr(sk.DiscreteVPSDE()) == "DiscreteVPSDE(betas=[1000 values, 0.0001 to 0.02])"
    assert repr(sk.DiscreteVESDE([1.0, 0.1])) == "DiscreteVESDE(sigmas=[0.1, 1])"
    used = sk.DiscreteVPSDE()
    used.alpha(3.0)  # what it has computed is no setting
    assert used == sk.DiscreteVPSDE()


# What is refused


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda: sk.DiscreteVPSDE([0.1, 1.0]), ScheduleError, "betas must lie in (0, 1), got 1 at index 1"),
        (lambda: sk.DiscreteVPSDE([0.1, 0.0]), ScheduleError, "got 0 at index 1"),
        (lambda: sk.DiscreteVPSDE([0.1, math.nan]), ScheduleError, "got nan at index 1"),
        (lambda: sk.DiscreteVPSDE([20.0, 0.1]), ScheduleError, "got 20 at index 0"),
        (lambda: sk.DiscreteVPSDE([0.1]), InvalidArgument, "betas must be of shape (N,) with N >= 2"),
        (lambda: sk.DiscreteVPSDE("linear"), InvalidType, "betas must be numbers of shape (N,), got str 'linear'"),
        (lambda: sk.DiscreteVPSDE(torch.ones(2, 2)), InvalidArgument, "betas must be of shape (N,)"),
        (lambda: sk.DiscreteVPSDE(torch.full((1000,), 0.9)), ScheduleError, "betas must leave alpha above 1e-150"),
        (lambda: sk.DiscreteVPSDE([0.1, 0.2], times=[1, 2, 3]), InvalidArgument, "times must hold one a level, 2"),
        (lambda: sk.DiscreteVPSDE([0.1, 0.2], times=[2, 1]), InvalidArgument, "times must be whole numbers that rise"),
        (lambda: sk.DiscreteVPSDE([0.1, 0.2], times=[0, 1]), InvalidArgument, "rise from 1 or more, got 0, 1"),
        (lambda: sk.DiscreteVESDE([0.1, 1.0, 0.5]), ScheduleError, "strictly monotone, got 0.1, 1, 0.5"),
        (lambda: sk.DiscreteVESDE([0.0, 1.0]), ScheduleError, "sigmas must be positive"),
        (lambda: sk.DiscreteVESDE([1.0, math.inf]), ScheduleError, "sigmas must be positive, finite"),
        (lambda: sk.DiscreteVPSDE().respaced(1001), InvalidArgument, "steps must be at most 1000, got steps=1001"),
        (lambda: sk.DiscreteVPSDE().respaced(1), InvalidArgument, "steps must be at least 2, got steps=1"),
        (lambda: sk.DiscreteVPSDE().respaced([5, 4]), InvalidArgument, "rising indices in [0, 999], got 5, 4"),
        (lambda: sk.DiscreteVPSDE().respaced([5, 1000]), InvalidArgument, "rising indices in [0, 999]"),
        (
            lambda: sk.DiscreteVPSDE().respaced(50, "middle"),
            InvalidArgument,
            "spacing must be one of linspace, leading",
        ),
        (lambda: tables.linear(1000, 0.1, 20.0), ScheduleError, "linear: beta_max must be"),
        (lambda: tables.linear(1), InvalidArgument, "linear: n must be at least 2, got n=1"),
        (lambda: tables.linear(10, 0.2, 0.1), ScheduleError, "beta_max must be"),
        (lambda: tables.cosine(10, max_beta=1.0), ScheduleError, "cosine: max_beta must be finite and > 0 and < 1"),
        (lambda: tables.geometric(10, 1.0, 0.01), ScheduleError, "geometric: sigma_max must be"),
        (lambda: tables.zero_terminal_snr([0.1, 2.0]), ScheduleError, "zero_terminal_snr: betas must lie in (0, 1)"),
    ],
)
def test_a_table_that_is_none_is_named(make, kind, said):
    with pytest.raises(kind) as caught:
        make()
    assert said in str(caught.value)


def test_what_needs_a_table_says_so_of_a_process_without_one():
    model = sk.models.Parametrised(Listener(), sk.VPSDE(), sk.models.Epsilon(label="index"))
    with pytest.raises(UnsupportedCombination, match=r"'index': needs a process on a table, .*got VPSDE"):
        model(torch.zeros(2, 1), 0.5)
    for grid in ("leading", "linspace", "trailing", "quadratic_leading"):
        with pytest.raises(UnsupportedCombination, match=f"'{grid}': needs a process on a table, .*got VPSDE"):
            sk.grids.levels(sk.VPSDE(), grid, 10)


def test_a_table_may_be_respaced_to_two_levels_and_not_to_one():
    table = sk.DiscreteVPSDE()
    assert len(table.respaced(2).times) == 2
    assert len(table.respaced(1000).times) == 1000
    for steps, wanted in ((-1, "at least 2"), (0, "at least 2"), (1, "at least 2"), (1001, "at most 1000")):
        with pytest.raises(sk.errors.InvalidArgument, match=f"{wanted}.*got steps={steps}"):
            table.respaced(steps)


@pytest.mark.parametrize("table", [sk.DiscreteVPSDE(), sk.DiscreteVESDE()], ids=["VP", "VE"])
def test_a_part_keeps_the_levels_within_it_up_to_rounding(table):
    """Of [3, 7] the levels 3 to 7, a millionth less and more than a part's ends among them, and no others."""
    for low, high in ((3.0, 7.0), (2.5, 7.5), (3 + 9e-7, 7 - 9e-7)):
        part = table.restricted(low, high)
        assert part.times.tolist() == [3.0, 4.0, 5.0, 6.0, 7.0]
        assert (part.t_min, part.t_max) == (3.0, 7.0)
    assert table.restricted(3 + 2e-6, 7 - 2e-6).times.tolist() == [4.0, 5.0, 6.0]
    with pytest.raises(sk.errors.InvalidArgument, match=r"hold 2 levels of the table or more, got 1 in \[2.5, 3.5\]"):
        table.restricted(2.5, 3.5)


@pytest.mark.parametrize("table", [sk.DiscreteVPSDE(), sk.DiscreteVESDE()], ids=["VP", "VE"])
def test_a_fraction_is_the_table_s_time_of_that_number(table):
    """floor(u N), from 0 to the last one at u = 1."""
    n = len(table.times)
    u = torch.tensor([0.0, 0.5 / n, 1 / n, 1.5 / n, 1 - 0.5 / n, 1 - 2.0**-53, 1.0], dtype=torch.float64)
    assert table.time_of(u).tolist() == [1.0, 1.0, 2.0, 2.0, n, n, n]


def test_running_sums_are_right_to_the_last_bit():
    """Python's exact sums, where a term is far above the sum before it and far below it."""
    for values in ([1.0, 1e16, 1.0, -1e16, 3.0], [1e-20, 1.0, 1e-20, 1e20, -1.0], tables.linear().tolist()):
        exact = [math.fsum(values[: i + 1]) for i in range(len(values))]
        assert tables.accumulated(torch.tensor(values, dtype=torch.float64)).tolist() == exact


@pytest.mark.parametrize("table", [sk.DiscreteVPSDE(), sk.DiscreteVESDE()], ids=["VP", "VE"])
def test_a_schedule_goes_on_beyond_the_last_level(table):
    """As an integrator may ask that oversteps by rounding: continuous there."""
    end = torch.tensor(table.t_max, dtype=torch.float64)
    for name in ("alpha", "sigma"):
        there = getattr(table, name)(end)
        torch.testing.assert_close(getattr(table, name)(end * (1 + 1e-9)), there, rtol=1e-5, atol=0)


@pytest.mark.parametrize("times", [[0.6, 2, 3], [1.4, 2, 3], [0, 1, 2], [1, 1, 2], [1, 3, 2], [1, 2]])
def test_the_times_of_levels_are_whole_numbers_that_rise_from_one(times):
    for make in (sk.DiscreteVPSDE, sk.DiscreteVESDE):
        with pytest.raises(sk.errors.InvalidArgument, match="times must"):
            make([0.1, 0.2, 0.3], times)
        assert make([0.1, 0.2, 0.3], [1, 5, 7]).times.tolist() == [1.0, 5.0, 7.0]


def test_a_table_may_be_respaced_to_any_rising_levels():
    """Two of them, the first and the last; none twice, and none outside."""
    table = sk.DiscreteVPSDE(tables.linear(10))
    assert table.respaced([0, 9]).times.tolist() == [1.0, 10.0]
    assert table.respaced([3, 4]).times.tolist() == [4.0, 5.0]
    for wrong in ([3], [3, 3], [4, 3], [-1, 3], [3, 10], [0.4, 3], [0.6, 3]):
        with pytest.raises(sk.errors.InvalidArgument, match="steps must be"):
            table.respaced(wrong)


def test_a_table_may_spend_the_data_down_to_the_limit_and_no_further():
    """-log(alpha_bar) up to 690, and the message says what alpha there would be."""

    def table(spent):
        return sk.DiscreteVPSDE(torch.full((1000,), -math.expm1(-spent / 1000), dtype=torch.float64))

    assert float(table(689.9).log_snr(1000.0)) < -689
    with pytest.raises(ScheduleError, match=re.escape("got alpha = exp(-345.1)")):
        table(690.2)


def test_a_terminal_snr_must_lie_below_the_level_before():
    """The last alpha_bar but one of three betas is that of the algorithm, and a terminal at it or above is refused."""
    betas = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    a = torch.cumprod(1 - betas, 0).sqrt()
    before = float((a[0] * (a[1] - a[2]) / (a[0] - a[2])) ** 2)
    tables.zero_terminal_snr(betas, terminal=before * (1 - 1e-9))
    with pytest.raises(ScheduleError, match=f"below the alpha_bar before it, {before:g}, got"):
        tables.zero_terminal_snr(betas, terminal=before * (1 + 1e-9))
    with pytest.raises(ScheduleError, match="terminal must lie below"):
        tables.zero_terminal_snr(betas, terminal=0.5 * (before + float(a[0] ** 2)))
    a = torch.exp(0.5 * -tables.accumulated(-torch.log1p(-betas)))  # the same, to the bit
    with pytest.raises(ScheduleError, match="terminal must lie below"):
        tables.zero_terminal_snr(betas, terminal=float((a[0] * (a[1] - a[2]) / (a[0] - a[2])) ** 2))


def test_a_table_remembers_its_levels_and_a_copy_does_not():
    """The same level for a time and for a log-SNR; a copy's own are of the copy; a used table can be pickled."""
    sde = sk.sdes.DiscreteVPSDE()
    assert sde.one(5.5) is sde.one(5.5)
    assert sde.one_at(0.3) is sde.one_at(0.3)
    plain = sde.levels(torch.tensor([5.5], dtype=F64))[0]
    assert (sde.one(5.5).alpha, sde.one(5.5).sigma, sde.one(5.5).log_snr) == (plain.alpha, plain.sigma, plain.log_snr)
    assert sde.one_at(0.3).log_snr == pytest.approx(0.3, abs=1e-13)
    assert (sde.one(5.5).f, sde.one(5.5).g2) == (plain.f, plain.g2)
    for other in (sde.with_prior(1.0, 2.0), copy.copy(sde), copy.deepcopy(sde), pickle.loads(pickle.dumps(sde))):
        assert other.one(5.5).sde is other
        assert other.one(5.5).alpha == plain.alpha
    part = sde.restricted(3.0, 700.0)
    assert part.one_at(sde.one(900.0).log_snr).t == 700.0
    torch.save(sde, io.BytesIO())
