"""Grids: each against its formula, their ends, and the levels of a run."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
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


@each_grid
@pytest.mark.parametrize(("steps", "kind"), [(-1, InvalidArgument), (2.0, InvalidType), ("3", InvalidType)])
def test_steps_that_are_no_count_are_named(grid, steps, kind):
    with pytest.raises(kind, match="steps must be"):
        grid(sk.VPSDE(), steps)


@pytest.mark.parametrize("rho", [0.0, -7.0, math.nan, math.inf])
def test_a_rho_that_is_not_positive_is_named(rho):
    with pytest.raises(InvalidArgument, match="karras: rho must be finite and > 0"):
        grids.karras(sk.VPSDE(), 3, rho=rho)


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
            "grid must be one of uniform, log_snr, karras, quadratic, angle, linspace, leading, trailing, quad",
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
            "grid must be a name (uniform, log_snr, karras, quadratic, angle), a function",
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
    for name in ("log_snr", "karras"):
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
