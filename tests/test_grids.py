"""Grids: each against its formula, their ends, and the levels of a run."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import beta as beta_distribution
from subjects import grids as every_grid
from subjects import sdes

import sdekit as sk
from sdekit import grids
from sdekit.certification.published import log_ratio
from sdekit.errors import InvalidArgument, InvalidType, ScheduleError, UnsupportedCombination

F64 = torch.float64

each_sde = pytest.mark.parametrize("sde", sdes())
each_grid = pytest.mark.parametrize("grid", every_grid())
each_count = pytest.mark.parametrize("steps", [0, 1, 2, 7, 1000])


@each_sde
@each_grid
@each_count
def test_a_grid_falls_from_exactly_t_max_to_exactly_t_min(sde, grid, steps):
    """(steps + 1,) in float64; no steps are t_max alone; the steps' sum is the span, to the bit."""
    t = grid(sde, steps)
    assert t.shape == (steps + 1,)
    assert t.dtype == F64
    assert t[0].item() == sde.t_max
    assert bool((t.diff() < 0).all())
    if steps:
        assert t[-1].item() == sde.t_min
        assert math.fsum((t[:-1] - t[1:]).tolist()) == pytest.approx(sde.t_max - sde.t_min, rel=1e-15)


@each_sde
@each_count
def test_uniform_is_even_in_t(sde, steps):
    """Song et al. 2021, appendix D (arXiv:2011.13456)."""
    wanted = np.linspace(sde.t_max, sde.t_min, steps + 1)
    np.testing.assert_allclose(grids.uniform(sde, steps).numpy(), wanted, rtol=0, atol=4e-16 * sde.t_max)


@each_sde
@each_count
def test_log_snr_is_even_in_log_snr(sde, steps):
    """Lu et al. 2022, appendix D.4 (arXiv:2206.00927): to 1e-11 in log(sigma / alpha)."""
    t = grids.log_snr(sde, steps).numpy()
    ends = log_ratio(sde, np.array([sde.t_max, sde.t_min]))
    np.testing.assert_allclose(log_ratio(sde, t), np.linspace(*ends, steps + 1), rtol=0, atol=1e-11)


@each_sde
@each_count
def test_quadratic_is_even_in_the_root_of_t(sde, steps):
    """Song et al. 2021 (DDIM), appendix D.2 (arXiv:2010.02502), in continuous time."""
    wanted = np.linspace(sde.t_max**0.5, sde.t_min**0.5, steps + 1)
    np.testing.assert_allclose(grids.quadratic(sde, steps).sqrt().numpy(), wanted, rtol=0, atol=4e-15 * wanted[0])


@pytest.mark.parametrize("n", [10, 999, 1000, 4000])
def test_grids_of_a_table_visit_its_own_levels_noisiest_first(n):
    """As the papers space them, to the bit; and the even grid of as many steps as levels visits each of them."""
    sde = sk.DiscreteVPSDE(sk.sdes.tables.linear(n, 1e-5, 0.01))
    for name, grid in grids.TABLE_NAMES.items():
        for steps in (1, 2, 7, n):
            index = sk.sdes.tables.SPACINGS[name](n, steps).flip(0)
            for run in (grids.levels(sde, name, steps), grids.levels(sde, grid, steps)):
                assert [level.t for level in run[:-1]] == [float(i) + 1 for i in index]
    assert [level.t for level in grids.levels(sde, "uniform", n)[:-1]] == list(range(n, 0, -1))
    fewer = sde.respaced(5, "trailing")
    assert [level.t for level in grids.levels(fewer, "linspace", 5)[:-1]] == fewer.times.flip(0).tolist()


@pytest.mark.parametrize("steps", [1, 17, 1000])
def test_karras_is_edms_on_edms_own_process(steps):
    """Karras et al. 2022, eq. 5 with table 5's sigma_min = 0.002, sigma_max = 80, rho = 7, and N = steps + 1."""
    i = np.arange(steps + 1)
    low, high = 0.002 ** (1 / 7), 80.0 ** (1 / 7)
    wanted = (high + i / steps * (low - high)) ** 7
    np.testing.assert_allclose(grids.karras(sk.EDMSDE(), steps).numpy(), wanted, rtol=1e-12)


def test_edms_eighteen_log_ratio():
    """The levels of its 35 evaluations, to the digits that its users print (Karras et al. 2022, eq. 5 with N = 18)."""
    known = [80.0, 57.586, 40.786, 28.375, 19.352, 12.910, 8.4010, 5.3150, 3.2570, 1.9234, 1.0883, 0.5853, 0.2964]
    t = grids.karras(sk.EDMSDE(), 17).tolist()
    assert t[:13] == pytest.approx(known, rel=2e-4)
    assert t[13:] == pytest.approx([0.1395, 0.0599, 0.0229, 0.0075, 0.002], abs=1e-4)


@each_sde
@pytest.mark.parametrize("rho", [1.0, 3.0, 7.0])
def test_karras_is_even_in_a_power_of_the_noise_level(sde, rho):
    """(sigma / alpha)^(1 / rho) falls evenly on any process; another rho by functools.partial."""
    t = functools.partial(grids.karras, rho=rho)(sde, 20).numpy()
    powers = np.exp(log_ratio(sde, t) / rho)
    np.testing.assert_allclose(powers, np.linspace(powers[0], powers[-1], 21), rtol=0, atol=1e-11 * powers[0])
    if rho == 7.0:
        np.testing.assert_array_equal(t, grids.karras(sde, 20).numpy())


@each_sde
@pytest.mark.parametrize("std", [0.3, 1.0, 5.0])
def test_the_angles_grid_is_even_in_the_integral_of_its_density(sde, std):
    """SciPy's quadrature of the density over each step, in log(sigma / alpha), gives one value; with floor 0 and width
    1 it is the angle; it ends at sigma / alpha = end, or at the end of the domain."""
    process = sde.with_prior(0.0, std)
    m = log_ratio(process, grids.angle(process, 40).numpy())

    def density(v):
        return 0.05 + 1 / math.cosh((v - math.log(0.5 * std)) / 1.2)

    parts = [quad(density, b, a, epsabs=1e-12)[0] for a, b in itertools.pairwise(m)]
    np.testing.assert_allclose(parts, parts[20], rtol=1e-6)
    plain = grids.angle(process, 40, floor=0.0, width=1.0)
    turns = np.diff(np.arctan(np.exp(log_ratio(process, plain.numpy())) / (0.5 * std)))
    np.testing.assert_allclose(turns, turns[20], rtol=1e-6)
    assert float(plain[0]) == process.t_max
    ended = grids.angle(process, 10, end=0.1)
    assert float(ended[0]) == process.t_max
    assert log_ratio(process, ended[-1:].numpy())[0] == pytest.approx(math.log(0.1), abs=1e-9)
    assert float(grids.angle(process, 10, end=1e-9)[-1]) == process.t_min


@each_sde
@pytest.mark.parametrize("rho", [0.5, 1.0, 3.0])
def test_another_rho_is_k_diffusions_polyexponential(sde, rho):
    """What is left of log(sigma / alpha) is the rho-th power of what is left of the steps; rho = 1 is the even grid."""
    t = grids.log_snr(sde, 20, rho=rho)
    q = log_ratio(sde, t.numpy())
    left = np.linspace(1, 0, 21) ** rho
    np.testing.assert_allclose(q, left * (q[0] - q[-1]) + q[-1], rtol=0, atol=1e-11)
    assert torch.equal(t, grids.log_snr(sde, 20)) == (rho == 1.0)


@each_sde
@pytest.mark.parametrize(("low", "high"), [(0.1, 20.0), (0.0, 8.0), (3.0, 3.0)])
def test_vp_visits_the_noise_levels_of_even_times_of_vp(sde, low, high):
    """Karras et al. 2022, table 1: sigma^2 = exp(beta_d u^2 / 2 + beta_min u) - 1 at even u, found by bisection."""
    t = grids.vp(sde, 12, low, high).numpy()

    def noise(u):
        return 0.5 * np.log(np.expm1(0.5 * (high - low) * u**2 + low * u))

    wanted = log_ratio(sde, np.array([sde.t_max, sde.t_min]))
    below, above = np.full(2, 1e-12), np.full(2, 8.0)
    for _ in range(100):
        u = (below + above) / 2
        below, above = np.where(noise(u) < wanted, u, below), np.where(noise(u) < wanted, above, u)
    np.testing.assert_allclose(log_ratio(sde, t), noise(np.linspace(*u, 13)), rtol=0, atol=1e-9)


def test_vp_on_vp_is_the_uniform_grid():
    for sde in (sk.VPSDE(), sk.VPSDE(beta_min=0.5, beta_max=12.0), sk.VPSDE(beta_max=2700.0)):
        t = grids.vp(sde, 30, sde.beta_min, sde.beta_max)
        torch.testing.assert_close(t, grids.uniform(sde, 30), rtol=1e-12, atol=1e-12)


@each_sde
@pytest.mark.parametrize(("a", "b"), [(0.6, 0.6), (0.5, 0.5), (1.0, 1.0), (2.0, 0.7)])
def test_beta_is_even_in_the_distribution_function(sde, a, b):
    """SciPy's cdf of the Beta distribution falls from 1 to 0 by equal steps; Beta(1/2, 1/2) is the arcsine's, sin^2."""
    t = grids.beta(sde, 20, a, b).numpy()
    u = (t - sde.t_min) / (sde.t_max - sde.t_min)
    np.testing.assert_allclose(beta_distribution.cdf(u, a, b), np.linspace(1, 0, 21), rtol=0, atol=1e-6)
    if a == b == 0.5:
        np.testing.assert_allclose(u, np.sin(np.linspace(np.pi / 2, 0, 21)) ** 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shift", [1.0, 1.5, 3.0, 7.0])
def test_flow_shift_on_flow_matching_is_esser_et_als(shift):
    """Eq. 23 (arXiv:2403.03206), of even times whose ends are those of the domain; shift = 1 is the uniform grid."""
    sde = sk.FlowSDE()
    ends = [t / (shift - (shift - 1) * t) for t in (sde.t_max, sde.t_min)]
    t = np.linspace(*ends, 31)
    np.testing.assert_allclose(grids.flow_shift(sde, 30, shift).numpy(), shift * t / (1 + (shift - 1) * t), rtol=1e-12)
    plain = torch.allclose(grids.flow_shift(sde, 30, shift), grids.uniform(sde, 30), rtol=1e-12, atol=0)
    assert plain == (shift == 1.0)


@each_sde
@pytest.mark.parametrize("shift", [0.4, 3.0])
def test_flow_shift_multiplies_the_noise_level_on_any_process(sde, shift):
    """(n / shift) / (1 + n / shift) is even: the time of flow matching with the noise level n / shift."""
    n = np.exp(log_ratio(sde, grids.flow_shift(sde, 12, shift).numpy())) / shift
    t = n / (1 + n)
    np.testing.assert_allclose(t, np.linspace(t[0], t[-1], 13), rtol=0, atol=1e-10)


LATENT = sk.DiscreteVPSDE(sk.sdes.tables.quadratic(1000, 0.00085, 0.012))


@pytest.mark.parametrize(
    ("of", "sde", "times"),
    [
        ("sd15", LATENT, [999, 850, 736, 645, 545, 455, 343, 233, 124, 24, 0]),
        ("sdxl", LATENT, [999, 845, 730, 587, 443, 310, 193, 116, 53, 13, 0]),
        ("svd", sk.EDMSDE(0.002, 700.0), [700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002]),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_align_your_steps_is_the_published_table(of, sde, times):
    """The noise levels give the time steps that were published with them, on the models' own table of betas."""
    t = grids.align_your_steps(sde, 10, of)
    found = t - 1 if sde is LATENT else t
    assert found.tolist() == pytest.approx(times, rel=1e-12 if of == "svd" else 0, abs=0.7)
    # half as many steps take every other level, and twice as many the geometric means between
    torch.testing.assert_close(grids.align_your_steps(sde, 5, of), t[::2], rtol=1e-9, atol=1e-9)
    q = log_ratio(sde, grids.align_your_steps(sde, 20, of).numpy())
    np.testing.assert_allclose(q[1::2], (q[:-1:2] + q[2::2]) / 2, rtol=0, atol=1e-9)
    assert len(grids.levels(sde, functools.partial(grids.align_your_steps, of=of), 11)) == 12
    assert bool((grids.align_your_steps(sde, 2000, of).diff() < 0).all())


def test_a_process_that_does_not_hold_the_published_levels_is_named():
    """The range of SD's levels ends at 14.6, and SVD's at 700; a hundredth of rounding is let pass."""
    assert len(grids.align_your_steps(sk.EDMSDE(), 4)) == 5
    with pytest.raises(UnsupportedCombination, match=r"'svd' needs sigma / alpha from 0.002 to 700, got EDMSDE with"):
        grids.align_your_steps(sk.EDMSDE(), 4, "svd")
    with pytest.raises(UnsupportedCombination, match=r"from 0.029 to 14.615, got EDMSDE with 0.0295 to 80"):
        grids.align_your_steps(sk.EDMSDE(0.0295, 80.0), 4)
    with pytest.raises(UnsupportedCombination, match=r"got EDMSDE with 0.002 to 14.4"):
        grids.align_your_steps(sk.EDMSDE(0.002, 14.4), 4)


@each_grid
@pytest.mark.parametrize(("steps", "kind"), [(-1, InvalidArgument), (2.0, InvalidType), ("3", InvalidType)])
def test_steps_that_are_no_count_are_named(grid, steps, kind):
    with pytest.raises(kind, match="steps must be"):
        grid(sk.VPSDE(), steps)


@pytest.mark.parametrize("value", [0.0, -7.0, math.nan, math.inf])
@pytest.mark.parametrize(
    ("grid", "name"),
    [
        (grids.karras, "rho"),
        (grids.log_snr, "rho"),
        (grids.beta, "a"),
        (grids.beta, "b"),
        (grids.flow_shift, "shift"),
        (grids.vp, "beta_max"),
    ],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_a_setting_that_is_not_positive_is_named(grid, name, value):
    with pytest.raises(InvalidArgument, match=f"{grid.__name__}: {name} must be finite and > 0"):
        grid(sk.VPSDE(), 3, **{name: value})


def test_betas_in_the_wrong_order_are_named():
    with pytest.raises(InvalidArgument, match="vp: beta_max must be finite and > 0 and >= 5, got beta_max=3"):
        grids.vp(sk.VPSDE(), 3, beta_min=5.0, beta_max=3.0)


# Levels: N steps to the clean level, or N to t_min


@each_sde
@each_grid
@pytest.mark.parametrize("steps", [1, 2, 3, 50])
@pytest.mark.parametrize("denoise", [True, False])
def test_a_run_has_as_many_intervals_as_steps(sde, grid, steps, denoise):
    """With the clean level: ``steps`` times and then alpha = 1, sigma = 0; without: ``steps`` + 1 times."""
    run = grids.levels(sde, grid, steps, denoise=denoise)
    assert len(run) == steps + 1
    assert [level.clean for level in run] == [False] * steps + [denoise]
    times = [level.t for level in (run[:-1] if denoise else run)]
    assert times == grid(sde, steps - denoise).tolist()
    assert times[0] == sde.t_max
    if len(times) > 1:
        assert times[-1] == sde.t_min
    assert all(isinstance(getattr(level, name), float) for level in run for name in ("t", "alpha", "sigma", "log_snr"))
    assert (run[-1].alpha, run[-1].sigma) == ((1.0, 0.0) if denoise else (run[-1].alpha, float(sde.sigma(sde.t_min))))


def test_a_name_is_its_function():
    sde = sk.VPSDE()
    for name, function in grids.NAMES.items():
        named, given = ([level.t for level in grids.levels(sde, grid, 9)] for grid in (name, function))
        assert named == given


@pytest.mark.parametrize("denoise", [True, False])
@pytest.mark.parametrize(
    "form", [list, tuple, np.array, torch.tensor, lambda t: torch.tensor(t, dtype=F64)], ids=lambda f: f.__name__
)
def test_n_times_are_n_steps_to_the_clean_level_and_one_fewer_without(form, denoise):
    sde = sk.VPSDE()
    run = grids.levels(sde, form([1.0, 0.5, 0.25]), denoise=denoise)
    assert len(run) == 3 + denoise
    assert [level.t for level in run[:3]] == [1.0, 0.5, 0.25]
    assert len(grids.levels(sde, form([1.0, 0.5, 0.25]), 3 if denoise else 2, denoise=denoise)) == 3 + denoise


def test_float32_ends_are_the_ends():
    """Times rounded past an end by float32 are that end."""
    for sde in (p.values[0] for p in sdes()):
        times = torch.tensor([sde.t_max, 0.5 * sde.t_max, sde.t_min], dtype=torch.float32) * (1 + 1e-7)
        run = grids.levels(sde, times, denoise=False)
        assert run[0].t == pytest.approx(sde.t_max, rel=1e-15)
        assert sde.t_min <= run[-1].t <= sde.t_min * (1 + 1e-6)


def test_a_grid_may_visit_part_of_the_domain():
    """A partial run, such as one from a noised picture."""
    assert [level.t for level in grids.levels(sk.VPSDE(), [0.3, 0.2], denoise=False)] == [0.3, 0.2]
    assert grids.levels(sk.VPSDE(), [0.3])[0].t == 0.3


def levels(grid, steps=None, denoise=True):
    return grids.levels(sk.VPSDE(), grid, steps, denoise=denoise)


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (
            lambda: levels("linear", 5),
            InvalidArgument,
            "grid must be one of uniform, log_snr, karras, quadratic, angle, vp, beta, flow_shift, linspace, lead",
        ),
        (lambda: levels("uniform"), InvalidType, "steps must be given with a named grid"),
        (lambda: levels(grids.karras), InvalidType, "steps must be given with a named grid or a grid function"),
        (lambda: levels("uniform", 0), InvalidArgument, "steps must be at least 1, got steps=0"),
        (lambda: levels("uniform", -3), InvalidArgument, "steps must be at least 1, got steps=-3"),
        (lambda: levels("uniform", 2.5), InvalidType, "steps must be a whole number, got float 2.5"),
        (lambda: levels([1.0, 0.5], 3), ScheduleError, "steps must be 2 for 2 times with denoise=True"),
        (lambda: levels([1.0, 0.5], 2, False), ScheduleError, "steps must be 1 for 2 times with denoise=False"),
        (lambda: levels([1.0], denoise=False), ScheduleError, "denoise=False a grid needs at least 2 times, got 1"),
        (lambda: levels([0.5, 1.0]), ScheduleError, "times must decrease strictly, noisiest first, got 0.5"),
        (lambda: levels([1.0, 0.5, 0.5]), ScheduleError, "got 0.5, 0.5 at index 1"),
        (lambda: levels([1.0, 0.4, 0.6, 0.7]), ScheduleError, "got 0.4, 0.6 at index 1"),
        (lambda: levels([1.0, math.nan]), ScheduleError, "times must be finite"),
        (lambda: levels([math.inf, 0.5]), ScheduleError, "times must be finite"),
        (lambda: levels([1.5, 0.5]), ScheduleError, "times must lie within VPSDE's [0.0001, 1], got 1.5 to 0.5"),
        (lambda: levels([1.0, 0.0]), ScheduleError, "times must lie within VPSDE's [0.0001, 1], got 1 to 0"),
        (lambda: levels([]), InvalidType, "times must be real, of shape (N,) with N >= 1"),
        (lambda: levels(torch.ones(2, 2)), InvalidType, "got a float32 tensor of shape (2, 2)"),
        (lambda: levels(torch.tensor(0.5)), InvalidType, "times must be real, of shape (N,)"),
        (lambda: levels(torch.tensor([1j])), InvalidType, "got a complex64 tensor"),
        (lambda: levels(torch.tensor([True])), InvalidType, "got a bool tensor"),
        (lambda: levels(0.5), InvalidType, "times must be real, of shape (N,)"),
        (
            lambda: levels(None),
            InvalidType,
            "grid must be a name (uniform, log_snr, karras, quadratic, angle, vp, beta, flow_shift), a function",
        ),
        (lambda: levels(["a", "b"]), InvalidType, "grid must be a name"),
        (lambda: levels(lambda sde, steps: torch.tensor([1.0, 0.5]), 5), ScheduleError, "steps must be 2 for 2 times"),
        (lambda: levels(lambda sde, steps: None, 5), InvalidType, "or times, got NoneType None"),
    ],
)
def test_a_grid_that_is_none_is_named(call, kind, said):
    with pytest.raises(kind) as caught:
        call()
    assert said in str(caught.value)


def test_a_process_without_alpha_and_sigma_has_the_uniform_grid_alone():
    class Drift(sk.SDE):
        t_min, t_max = 0.1, 3.0
        prior = sk.sdes.NormalPrior()

        def drift(self, x, t):
            return -x

        def diffusion(self, t):
            return torch.ones_like(torch.as_tensor(t))

    sde = Drift()
    assert [level.t for level in grids.levels(sde, "uniform", 2, denoise=False)] == pytest.approx([3.0, 1.55, 0.1])
    with pytest.raises(UnsupportedCombination, match="Drift: denoise=True needs a process with alpha and sigma"):
        grids.levels(sde, "uniform", 2)
    assert [level.t for level in grids.levels(sde, "beta", 2, denoise=False)] == pytest.approx([3.0, 1.55, 0.1])
    for name in ("log_snr", "karras", "vp", "flow_shift"):
        with pytest.raises(UnsupportedCombination, match=f"'{name}' needs a GaussianSDE.*got Drift; try 'uniform'"):
            grids.levels(sde, name, 2, denoise=False)


@pytest.mark.parametrize("sde", [sk.VPSDE(), sk.EDMSDE(), sk.CosineSDE()], ids=repr)
def test_the_angle_grid_ends_where_it_is_told_and_at_t_min_to_the_bit_beyond_it(sde):
    """sigma / alpha = end; an end at t_min's or below is t_min, one at t_max's or above is t_max."""
    least, most = (float(sde.sigma(t) / sde.alpha(t)) for t in (sde.t_min, sde.t_max))
    middle = math.sqrt(least * most)
    t = float(sk.grids.angle(sde, 7, end=middle)[-1])
    assert float(sde.sigma(t) / sde.alpha(t)) == pytest.approx(middle, rel=1e-9)
    for end in (None, least, 0.5 * least, 1e-9 * least):
        times = sk.grids.angle(sde, 7, end=end)
        assert float(times[-1]) == sde.t_min
        assert torch.equal(times, sk.grids.angle(sde, 7))
    assert float(sk.grids.angle(sde, 7, end=2 * most)[-1]) == pytest.approx(sde.t_max, rel=1e-12)
