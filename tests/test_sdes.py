"""Processes: the published closed forms, the identities that tie them together, priors, and what is refused."""

import copy
import dataclasses
import itertools
import math
import pickle
import re
from contextlib import nullcontext

import hypothesis.strategies as st
import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from subjects import sdes
from torch.distributions import Normal

import sdekit as sk
from sdekit.certification.published import rates
from sdekit.errors import InvalidArgument, InvalidType, ScheduleError, UnsupportedCombination
from sdekit.sdes import NormalPrior
from sdekit.types import schedule

F32, F64 = torch.float32, torch.float64
mp = mpmath.MPContext()
mp.dps = 40

few = settings(max_examples=25, deadline=None, database=None, derandomize=True)


# The closed forms, in 40 digits: (alpha, variance, f, g^2) as functions of t


def song_vp(sde):
    """Song et al. 2021, eq. 32 and 33 (arXiv:2011.13456)."""
    low, high = mp.mpf(sde.beta_min), mp.mpf(sde.beta_max)
    return (
        lambda t: mp.exp(-(t**2) * (high - low) / 4 - t * low / 2),
        lambda t: -mp.expm1(-(t**2) * (high - low) / 2 - t * low),
        lambda t: -(low + t * (high - low)) / 2,
        lambda t: low + t * (high - low),
    )


def song_subvp(sde):
    """Song et al. 2021, eq. 28 and 29: the variance is the square of VP's."""
    alpha, variance, f, beta = song_vp(sde)
    return alpha, lambda t: variance(t) ** 2, f, lambda t: beta(t) * (1 - alpha(t) ** 4)


def song_ve(sde):
    """Song et al. 2021, eq. 30 and 31."""
    low, ratio = mp.mpf(sde.sigma_min), mp.mpf(sde.sigma_max) / mp.mpf(sde.sigma_min)
    variance = lambda t: low**2 * ratio ** (2 * t)  # noqa: E731
    return lambda t: mp.mpf(1), variance, lambda t: mp.mpf(0), lambda t: variance(t) * 2 * mp.log(ratio)


def nichol_cosine(sde):
    """Nichol & Dhariwal 2021, eq. 17 (arXiv:2102.09672), in continuous time."""
    w = mp.pi / 2 / (1 + mp.mpf(sde.offset))
    phi = lambda t: w * (t + mp.mpf(sde.offset))  # noqa: E731
    alpha = lambda t: mp.cos(phi(t)) / mp.cos(phi(0))  # noqa: E731
    return alpha, lambda t: 1 - alpha(t) ** 2, lambda t: -w * mp.tan(phi(t)), lambda t: 2 * w * mp.tan(phi(t))


def lipman_flow(sde):
    """Lipman et al. 2023, eq. 20-22 with sigma_min = 0, time reversed (arXiv:2210.02747)."""
    return lambda t: 1 - t, lambda t: t**2, lambda t: -1 / (1 - t), lambda t: 2 * t / (1 - t)


def karras_edm(sde):
    """Karras et al. 2022, table 1 and eq. 1 with sigma(t) = t: dx = sqrt(2 t) dw (arXiv:2206.00364)."""
    return lambda t: mp.mpf(1), lambda t: t**2, lambda t: mp.mpf(0), lambda t: 2 * t


PAPERS = {
    sk.VPSDE: song_vp,
    sk.SubVPSDE: song_subvp,
    sk.VESDE: song_ve,
    sk.EDMSDE: karras_edm,
    sk.CosineSDE: nichol_cosine,
    sk.FlowSDE: lipman_flow,
}

every = pytest.mark.parametrize("sde", sdes())
published = pytest.mark.parametrize("sde", [p for p in sdes() if type(p.values[0]) in PAPERS])


def smooth():
    """The processes whose f and g are found by differentiation of a smooth alpha and sigma: a table's are steps."""
    return [p for p in sdes() if not isinstance(p.values[0], sk.TableSDE | sk.LinearSDE)]


each_dtype = pytest.mark.parametrize("dtype", [F32, F64], ids=["f32", "f64"])


def paper(sde):
    return PAPERS[type(sde)](sde)


def inside(sde, n=9, dtype=F64):
    """n times within the domain, close to its start and all along it."""
    low, high = sde.t_min * 1.001, sde.t_max * 0.999
    near = torch.logspace(math.log10(low), math.log10(high), n - n // 2, dtype=F64)
    return torch.cat([near, torch.linspace(low, high, n // 2 + 2, dtype=F64)[1:-1]]).to(dtype)


def forms(t):
    """The same time as a float, as (), and as (2,); t is a tensor ()."""
    return [t.item(), t, t.expand(2)]


def value(function, t):
    return float(function(mp.mpf(t)))


def column(function, times):
    return torch.tensor([value(function, t) for t in times.tolist()], dtype=F64)


class Cosine(sk.GaussianSDE):
    """A user's process: alpha and sigma for tensors, and nothing else. (Nichol & Dhariwal 2021, arXiv:2102.09672.)"""

    t_min, t_max = 1e-3, 0.95

    def alpha(self, t):
        return torch.cos(0.5 * math.pi * t)

    def sigma(self, t):
        return torch.sin(0.5 * math.pi * t)


class Table(sk.GaussianSDE):
    """DDPM's own table: level i = 1..N at t = i / N, log(alpha_bar) linear between. (Ho et al. 2020, section 4.)"""

    def __init__(self, betas):
        self.log_alpha_bar = torch.log1p(-betas).cumsum(0)
        self.t_min, self.t_max = 1 / len(betas), 1.0

    @schedule
    def alpha(self, t):
        return torch.exp(0.5 * self._log(t))

    @schedule
    def sigma(self, t):
        return torch.sqrt(-torch.expm1(self._log(t)))

    def _log(self, t):
        n = len(self.log_alpha_bar)
        i = (t.detach() * n - 1).floor().clamp(0, n - 2).long()
        low, high = self.log_alpha_bar[i], self.log_alpha_bar[i + 1]
        return low + (t * n - 1 - i) * (high - low)


class DoubleWell(sk.SDE):
    """A user's process with no closed-form kernel: dx = (x - x^3) dt + g dw, written for a time aligned with x."""

    t_min, t_max = 0.1, 3.0

    def drift(self, x, t):
        return x - x**3 + 0.0 * t

    def diffusion(self, t):
        return 0.5 + 0.0 * t if isinstance(t, torch.Tensor) else torch.tensor(0.5)

    @property
    def prior(self):
        return NormalPrior(0.0, 1.0)


# Drift and diffusion


@published
@each_dtype
def test_drift_and_diffusion_are_the_published_ones(sde, dtype):
    """Song et al. 2021, eq. 29-33; Karras et al. 2022, table 1: for a float, a () and a (B,) time."""
    _, _, f, g2 = paper(sde)
    x = torch.tensor([[1.5, -0.25, 3.0], [-2.0, 1.0, 0.5]], dtype=dtype)
    tolerance = {F64: 1e-13, F32: 4e-7}[dtype]
    for t in inside(sde, dtype=dtype):
        drift, g = value(f, t.item()) * x, math.sqrt(value(g2, t.item()))
        for time in forms(t):
            torch.testing.assert_close(sde.drift(x, time), drift, rtol=tolerance, atol=0)
            found = sde.diffusion(time)
            wanted = torch.full_like(time, g) if isinstance(time, torch.Tensor) else torch.tensor(g, dtype=F64)
            torch.testing.assert_close(found, wanted, rtol=tolerance, atol=0)  # shape and dtype are t's


def check_identities(sde, t):
    """d mean / dt = f mean and d var / dt = 2 f var + g^2, the derivatives of the paper's alpha and variance."""
    alpha, variance = paper(sde)[:2]
    f = sde.drift(torch.ones(1, dtype=F64), t).item()
    g2 = sde.diffusion(t).item() ** 2
    u = mp.mpf(t)
    d_mean, mean = mp.diff(alpha, u), f * alpha(u)
    assert abs(d_mean - mean) <= 1e-12 * abs(mean)
    d_var, shrunk = mp.diff(variance, u), 2 * f * variance(u)
    assert abs(d_var - (shrunk + g2)) <= 1e-12 * (abs(shrunk) + g2)


unit = st.floats(0.0, 1.0)


def time_within(sde, u):
    """Evenly in log t, so that the start of the domain is visited too."""
    return min(max(sde.t_min * (sde.t_max / sde.t_min) ** u, sde.t_min), sde.t_max)


@few
@given(st.sampled_from([sk.VPSDE, sk.SubVPSDE]), st.floats(0.0, 5.0), st.floats(0.01, 30.0), unit)
def test_vp_and_subvp_satisfy_the_moment_equations(kind, low, gap, u):
    """Särkkä & Solin 2019, eq. 5.50 and 5.51; Song et al. 2021, appendix B."""
    sde = kind(beta_min=low, beta_max=low + gap)
    check_identities(sde, time_within(sde, u))


@few
@given(st.floats(1e-4, 1.0), st.floats(1.5, 1e5), unit)
def test_ve_satisfies_the_moment_equations(low, ratio, u):
    """Song et al. 2021, appendix B."""
    sde = sk.VESDE(sigma_min=low, sigma_max=low * ratio)
    check_identities(sde, time_within(sde, u))


@few
@given(st.floats(1e-4, 0.1), st.floats(1.0, 200.0), unit)
def test_edm_satisfies_the_moment_equations(low, high, u):
    """Karras et al. 2022, appendix B.2."""
    sde = sk.EDMSDE(t_min=low, t_max=high)
    check_identities(sde, time_within(sde, u))


@pytest.mark.parametrize("sde", [*smooth(), pytest.param(Cosine(), id="Cosine")])
def test_f_and_g2_are_the_derivatives_of_alpha_and_sigma(sde):
    """Kingma et al. 2021, appendix: f = d log(alpha) / dt, g^2 = d(sigma^2)/dt - 2 f sigma^2, by finite differences."""
    t = inside(sde)
    pole = 1.0 if isinstance(sde, sk.CosineSDE | sk.FlowSDE) else math.inf
    h = 5e-4 * torch.minimum(t, pole - t)

    def slope(function):
        a, b, c, d = (function(t + k * h) for k in (-2, -1, 1, 2))
        return (a - 8 * b + 8 * c - d) / (12 * h)

    f, variance = slope(lambda t: sde.alpha(t).log()), sde.sigma(t) ** 2
    g2 = slope(lambda t: sde.sigma(t) ** 2) - 2 * f * variance
    torch.testing.assert_close(sde.drift(torch.ones_like(t), t), f, rtol=1e-8, atol=1e-8)
    assert bool(((sde.diffusion(t) ** 2 - g2).abs() <= 1e-8 * (variance / t + g2)).all())


@every
def test_drift_and_diffusion_are_the_closed_forms_in_double_precision(sde):
    """NumPy's, on every process."""
    times = inside(sde)
    if isinstance(sde, sk.TableSDE):
        times = torch.cat([times, sde.times[:8], torch.tensor([sde.t_max])])
    for t in times.tolist():
        f, g2 = rates(sde, t)
        assert float(sde.drift(torch.ones(1, dtype=F64), t)) == pytest.approx(f, rel=1e-10, abs=1e-13)
        assert float(sde.diffusion(t)) ** 2 == pytest.approx(g2, rel=1e-9)


@every
def test_the_first_euler_maruyama_step_of_a_fine_chain_gives_the_moments(sde):
    """The chain x += f x dt + g sqrt(dt) z has the process's mean and variance to first order in dt (ratio 2)."""

    # away from the poles of f and g at the end of some domains; on a table, whole numbers of steps between two levels
    span = 0.9 * (sde.t_max - sde.t_min)
    span = math.floor(span) if isinstance(sde, sk.TableSDE) else span
    n = span * math.ceil(4000 / span) if isinstance(sde, sk.TableSDE) else 4000

    def chain(n):
        t = torch.linspace(sde.t_min, sde.t_min + span, n + 1, dtype=F64)
        dt = span / n
        f = sde.drift(torch.ones(n, dtype=F64), t[:-1])
        g2 = sde.diffusion(t[:-1]) ** 2
        mean, var = float(sde.alpha(sde.t_min)), float(sde.sigma(sde.t_min)) ** 2
        for a, b in zip((1 + f * dt).tolist(), (g2 * dt).tolist(), strict=True):
            mean, var = a * mean, a * a * var + b
        return np.array([mean, var])

    end = sde.t_min + span
    exact = np.array([float(sde.alpha(end)), float(sde.sigma(end)) ** 2])
    coarse, fine = chain(n), chain(2 * n)
    assert np.all(np.abs(2 * fine - coarse - exact) <= 1e-4 * exact)
    off = np.abs(coarse - exact) > 1e-9 * exact
    assert np.all(np.abs((coarse - exact)[off] / (fine - exact)[off] - 2) <= 0.02)


# Alpha, sigma, log-SNR


@published
@each_dtype
def test_alpha_sigma_and_log_snr_to_the_last_bits(sde, dtype):
    """sigma within 4 ulp, alpha within 8, log-SNR within 8 eps max(1, |log_snr|), for t from 1e-8 to 1."""
    alpha, variance = paper(sde)[:2]
    t = torch.logspace(-8, math.log10(min(sde.t_max, 1.0)), 97, dtype=F64).to(dtype)
    kind, eps = {F32: (np.float32, 2.0**-23), F64: (np.float64, 2.0**-52)}[dtype]
    for time, a, s, snr in zip(
        t.tolist(), sde.alpha(t).tolist(), sde.sigma(t).tolist(), sde.log_snr(t).tolist(), strict=True
    ):
        exact_a, exact_s = alpha(mp.mpf(time)), mp.sqrt(variance(mp.mpf(time)))
        assert abs(s - exact_s) <= 4 * float(np.spacing(kind(exact_s))), f"sigma at t={time}"
        assert abs(a - exact_a) <= 8 * float(np.spacing(kind(exact_a))), f"alpha at t={time}"
        exact_snr = 2 * mp.log(exact_a / exact_s)
        assert abs(snr - exact_snr) <= 8 * eps * max(1, abs(exact_snr)), f"log_snr at t={time}"


@every
def test_schedules_take_any_time_in_its_own_dtype_and_shape(sde):
    """A float gives float64; a tensor keeps its shape and dtype, and loses only the last rounding."""
    exact = inside(sde, 4)
    for method in (sde.alpha, sde.sigma, sde.log_snr, sde.diffusion):
        assert method(exact[1].item()).dtype == F64
        assert method(exact[1].item()).shape == ()
        for dtype in (F32, torch.bfloat16):
            t = exact.to(dtype)
            assert torch.equal(method(t), method(t.double()).to(dtype))
            assert torch.equal(method(t[1]), method(t)[1])


@every
def test_the_process_starts_at_the_data(sde):
    """alpha(0) = 1; sigma(0) = 0, save for VE: sigma(0) = sigma_min (Song et al. 2021, eq. 30)."""
    if isinstance(sde, sk.LinearSDE):
        return  # it knows itself on its domain alone
    assert float(sde.alpha(0.0)) == 1.0
    start = getattr(sde, "sigma_min", float(sde.sigmas[0]) if isinstance(sde, sk.DiscreteVESDE) else 0.0)
    assert float(sde.sigma(0.0)) == pytest.approx(start, rel=1e-15, abs=0.0)


@every
def test_log_snr_falls_strictly(sde):
    t = torch.linspace(sde.t_min, sde.t_max, 2001, dtype=F64)
    assert bool((sde.log_snr(t).diff() < 0).all())
    assert 0 < sde.t_min < sde.t_max
    assert float(sde.sigma(sde.t_min)) > 0


@every
def test_time_at_inverts_log_snr(sde):
    """The closed form and the bisection of the base class agree with t, to what log_snr's last bits allow."""
    t = inside(sde, 41)
    snr = sde.log_snr(t)
    slope = (sde.log_snr(t * (1 + 1e-4)) - sde.log_snr(t * (1 - 1e-4))).abs() / (2e-4 * t)
    bound = 24 * 2.0**-52 * (snr.abs().clamp(min=1.0) / slope + t)
    for inverse in (sde.time_at, lambda v: sk.GaussianSDE.time_at(sde, v)):
        assert bool(((inverse(snr) - t).abs() <= bound).all())
    assert sde.time_at(snr.float()).dtype == F32
    assert sde.time_at(float(snr[3])).shape == ()


@every
@pytest.mark.parametrize("beyond", [3.0, 40.0])
def test_outside_the_range_of_log_snr_time_at_gives_the_ends(sde, beyond):
    ends = torch.tensor([sde.t_min, sde.t_max], dtype=F64)
    outside = sde.log_snr(ends) + torch.tensor([beyond, -beyond], dtype=F64)
    assert sde.time_at(outside).tolist() == ends.tolist()


def test_processes_convert_into_each_other_by_log_snr():
    """Where log-SNR ranges meet, the other process has the same sigma / alpha: Karras et al. 2022, section 2."""
    subjects = [p.values[0] for p in sdes()]
    for a in subjects:
        for b in subjects:
            low = max(float(a.log_snr(a.t_max)), float(b.log_snr(b.t_max)))
            high = min(float(a.log_snr(a.t_min)), float(b.log_snr(b.t_min)))
            snr = torch.linspace(low, high, 7, dtype=F64)[1:-1]
            t = b.time_at(a.log_snr(a.time_at(snr)))
            torch.testing.assert_close((b.sigma(t) / b.alpha(t)).log(), -0.5 * snr, rtol=0, atol=1e-12)


# Kernels


@every
def test_kernels_compose(sde):
    """s -> r -> t is s -> t: the scales multiply, the variances add."""
    s, r, t = (torch.as_tensor(sde.t_min + u * (sde.t_max - sde.t_min), dtype=F64) for u in (0.05, 0.4, 0.9))
    (a, v), (b, w), (c, u) = sde.transition(s, r), sde.transition(r, t), sde.transition(s, t)
    torch.testing.assert_close(a * b, c, rtol=1e-12, atol=0)
    torch.testing.assert_close((b * v) ** 2 + w**2, u**2, rtol=1e-12, atol=0)


@every
def test_the_kernel_takes_one_level_to_another(sde):
    """alpha_t = a alpha_s and sigma_t^2 = a^2 sigma_s^2 + b^2, for float, () and (B,) times and for levels."""
    s, t = inside(sde, 8)[:-1], inside(sde, 8)[1:]
    s, t = torch.minimum(s, t), torch.maximum(s, t)
    a, b = sde.transition(s, t)
    torch.testing.assert_close(a * sde.alpha(s), sde.alpha(t), rtol=1e-14, atol=0)
    torch.testing.assert_close((a * sde.sigma(s)) ** 2 + b**2, sde.sigma(t) ** 2, rtol=1e-13, atol=0)
    x = torch.zeros(1, dtype=F64)
    for i in range(len(s)):
        for pair in ((s[i].item(), t[i].item()), (s[i], t[i]), (sde.level(s[i], x), sde.level(t[i], x))):
            found = [float(v) for v in sde.transition(*pair)]
            assert found == pytest.approx([a[i].item(), b[i].item()], rel=1e-12)


@published
def test_the_kernels_variance_is_the_noise_that_entered(sde):
    """var(x_t | x_s) = int_s^t (alpha_t / alpha_u)^2 g(u)^2 du: Särkkä & Solin 2019, eq. 6.20, by quadrature."""
    alpha, _, _, g2 = paper(sde)
    s, t = (mp.mpf(sde.t_min + u * (sde.t_max - sde.t_min)) for u in (0.2, 0.7))
    integral = mp.quad(lambda u: (alpha(t) / alpha(u)) ** 2 * g2(u), [s, t])
    a, b = sde.transition(float(s), float(t))
    assert float(a) == pytest.approx(float(alpha(t) / alpha(s)), rel=1e-14)
    assert float(b) ** 2 == pytest.approx(float(integral), rel=1e-13)


@every
def test_the_kernel_from_t_min_is_ves_difference_of_variances_and_not_its_level(sde):
    """From t_min the noise that is already there does not enter twice."""
    _, b = sde.transition(sde.t_min, sde.t_max)
    a = float(sde.alpha(sde.t_max)) / float(sde.alpha(sde.t_min))
    known = float(sde.sigma(sde.t_max)) ** 2 - (a * float(sde.sigma(sde.t_min))) ** 2
    assert float(b) ** 2 == pytest.approx(known, rel=1e-13)


@published
@each_dtype
def test_the_posterior_is_bayes_rule(sde, dtype):
    """p(x_s | x_t, x_0) in proportion to p(x_t | x_s) p(x_s | x_0), with 40 digits."""
    alpha, variance = paper(sde)[:2]
    x = torch.tensor([[0.7, -2.0], [1.1, 0.4]], dtype=dtype)
    x0 = torch.tensor([[-1.0, 0.3], [2.0, 0.1]], dtype=dtype)
    times = inside(sde, 8, dtype=dtype).sort().values
    for s, t in itertools.pairwise(times):
        u, v = mp.mpf(s.item()), mp.mpf(t.item())
        a = alpha(v) / alpha(u)
        b2 = variance(v) - a**2 * variance(u)
        precision = 1 / variance(u) + a**2 / b2
        from_x0, from_x = alpha(u) / variance(u) / precision, a / b2 / precision
        wanted, std = float(from_x0) * x0 + float(from_x) * x, float(1 / mp.sqrt(precision))
        for later, earlier in zip(forms(t), forms(s), strict=True):
            mean, found = sde.posterior(x, x0, later, earlier)
            size = (float(abs(from_x0)) * x0.abs() + float(abs(from_x)) * x.abs()).max()
            assert mean.dtype == dtype
            assert float((mean - wanted).abs().max()) <= {F64: 1e-13, F32: 1e-6}[dtype] * float(size)
            for one in found.flatten().tolist() if isinstance(found, torch.Tensor) else [found]:
                assert one == pytest.approx(std, rel=1e-11)


def test_the_posterior_on_ddpms_table_is_ddpms():
    """Ho et al. 2020, eq. 7, on its own table: betas from 1e-4 to 0.02 in 1000 steps (arXiv:2006.11239)."""
    n = 1000
    betas = np.linspace(1e-4, 0.02, n)
    bar = np.cumprod(1 - betas)
    sde = Table(torch.tensor(betas))
    x, x0 = torch.tensor([0.7], dtype=F64), torch.tensor([-1.3], dtype=F64)
    for i in (1, 2, 10, 499, 999):  # the paper's x_{t-1} is level i of n here, its x_t level i + 1
        beta = betas[i]
        from_x0 = math.sqrt(bar[i - 1]) * beta / (1 - bar[i])
        from_x = math.sqrt(1 - beta) * (1 - bar[i - 1]) / (1 - bar[i])
        variance = (1 - bar[i - 1]) / (1 - bar[i]) * beta
        mean, std = sde.posterior(x, x0, (i + 1) / n, i / n)
        assert float(mean) == pytest.approx(from_x0 * -1.3 + from_x * 0.7, rel=1e-9)
        assert std**2 == pytest.approx(variance, rel=1e-9)
        assert std**2 < beta  # the larger variance of the two that the paper names is another one


def test_the_step_on_ddpms_table_is_ddpms():
    """Song et al. 2021, appendix E: x_i = sqrt(1 - beta_i) x_{i-1} + sqrt(beta_i) z."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
    sde = Table(betas)
    x = torch.tensor([2.0], dtype=F64)
    for i in (1, 10, 999):
        increment, std = sde.step(x, sde.level((i + 1) / 1000, x), sde.level(i / 1000, x))
        assert float(increment) == pytest.approx((math.sqrt(1 - float(betas[i])) - 1) * 2.0, rel=1e-9)
        assert std**2 == pytest.approx(float(betas[i]), rel=1e-9)


@pytest.mark.parametrize("sde", [sk.VESDE(), sk.EDMSDE()], ids=repr)
def test_the_posterior_on_ve_is_ncsns_ancestral_kernel(sde):
    """Song et al. 2021, appendix F, eq. 47: x + (sigma_i^2 - sigma_{i-1}^2) score, and the variance beside it."""
    t, s = 0.6 * sde.t_max, 0.5 * sde.t_max
    big, small = float(sde.sigma(t)), float(sde.sigma(s))
    x, score = torch.tensor([3.0, -1.0], dtype=F64), torch.tensor([0.02, -0.3], dtype=F64)
    mean, std = sde.posterior(x, x + big**2 * score, t, s)
    torch.testing.assert_close(mean, x + (big**2 - small**2) * score, rtol=1e-12, atol=0)
    assert std**2 == pytest.approx(small**2 * (big**2 - small**2) / big**2, rel=1e-12)


@every
def test_the_posterior_at_the_clean_level_is_x0(sde):
    x, x0 = torch.tensor([[5.0]], dtype=F64), torch.tensor([[-1.0]], dtype=F64)
    for t in (0.5 * sde.t_max, torch.tensor([0.5 * sde.t_max])):
        mean, std = sde.posterior(x, x0, t, sde.clean())
        assert mean.item() == -1.0
        assert float(std) == 0.0


@every
@pytest.mark.parametrize("form", [float, torch.tensor, lambda t: torch.tensor([t])], ids=["float", "()", "(B,)"])
def test_a_kernel_runs_forward_and_a_posterior_backward(sde, form):
    """A reversed interval has no kernel: it is named, and never a standard deviation of 0."""
    s, t = form(0.3 * sde.t_max), form(0.6 * sde.t_max)
    x = torch.zeros(1, 2)
    with pytest.raises(InvalidArgument, match=r"\bs\b.*\bt\b"):
        sde.transition(t, s)
    with pytest.raises(InvalidArgument, match=r"\bs\b.*\bt\b"):
        sde.posterior(x, x, s, t)


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, F32, F64], ids=str)
def test_no_time_promotes_a_state(sde, dtype):
    """Coefficients take the dtype of the data, whatever the time's."""
    x = torch.linspace(-1, 1, 6).reshape(2, 3).to(dtype)
    for t, s in zip(forms(torch.tensor(0.6 * sde.t_max)), forms(torch.tensor(0.5 * sde.t_max)), strict=True):
        assert sde.drift(x, t).dtype == dtype
        assert sde.perturb(x, t, x).dtype == dtype
        assert sde.posterior(x, x, t, s)[0].dtype == dtype
        assert sde.step(x, sde.level(t, x), sde.level(s, x))[0].dtype == dtype


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_data_get_their_noise_at_every_level(sde, dtype):
    """perturb(0, t, 1) is sigma to the dtype's rounding, at 1000 levels: none gets less noise than it should."""
    t = torch.linspace(sde.t_min, sde.t_max, 1000, dtype=F64)
    found = sde.perturb(torch.zeros(1000, 1, dtype=dtype), t, torch.ones(1000, 1, dtype=dtype))[:, 0].double()
    assert bool((found > 0).all())
    torch.testing.assert_close(found, sde.sigma(t), rtol=0.01, atol=0)


@every
def test_perturb_is_alpha_x0_plus_sigma_eps(sde):
    x0, eps = torch.tensor([[1.0, -2.0], [0.5, 4.0]], dtype=F64), torch.tensor([[0.3, 0.1], [-1.0, 2.0]], dtype=F64)
    t = torch.tensor([0.2, 0.7], dtype=F64) * sde.t_max
    wanted = sde.alpha(t)[:, None] * x0 + sde.sigma(t)[:, None] * eps
    torch.testing.assert_close(sde.perturb(x0, t, eps), wanted, rtol=1e-15, atol=1e-15)
    for i in range(2):
        torch.testing.assert_close(sde.perturb(x0, t[i].item(), eps)[i], wanted[i], rtol=1e-15, atol=1e-15)


# Levels


@every
def test_a_level_is_floats_for_one_time_and_columns_for_a_time_a_row(sde):
    x = torch.zeros(3, 2, 4)
    t = torch.tensor([0.2, 0.5, 0.9], dtype=F64) * sde.t_max
    rows = sde.level(t, x)
    for name in ("t", "alpha", "sigma", "log_snr", "f", "g2", "clock"):
        column = getattr(rows, name)
        assert column.shape == (3, 1, 1)
        assert column.dtype == F64
        for i in range(3):
            for form in (t[i].item(), t[i]):
                one = getattr(sde.level(form, x), name)
                assert isinstance(one, float)
                assert one == pytest.approx(column[i].item(), rel=1e-13, abs=1e-300)
    assert sde.level(rows, x) is rows


@every
def test_a_levels_numbers_are_the_schedules(sde):
    """f, g^2 and (sigma / alpha)^2 are the drift's, the diffusion's and the log-SNR's."""
    for t in inside(sde).tolist():
        level = sde.level(t, torch.zeros(1))
        assert level.alpha == float(sde.alpha(t))
        assert level.sigma == float(sde.sigma(t))
        assert level.f == float(sde.drift(torch.ones(1, dtype=F64), t))
        assert level.g2 == pytest.approx(float(sde.diffusion(t)) ** 2, rel=1e-14)
        assert level.log_snr == pytest.approx(2 * math.log(level.alpha / level.sigma), abs=1e-13)
        assert level.clock == pytest.approx((level.sigma / level.alpha) ** 2, rel=1e-13)
        assert not level.clean


@every
def test_levels_of_a_grid_are_its_times_one_by_one(sde):
    times = inside(sde)
    for level, t in zip(sde.levels(times), times.tolist(), strict=True):
        one = sde.level(t, torch.zeros(1))
        for name in ("t", "alpha", "sigma", "log_snr", "f", "g2"):
            assert getattr(level, name) == pytest.approx(getattr(one, name), rel=1e-14, abs=1e-300)


@every
def test_the_clean_level_is_the_data(sde):
    clean = sde.clean()
    assert (clean.alpha, clean.sigma, clean.log_snr, clean.clock, clean.clean) == (1.0, 0.0, math.inf, 0.0, True)
    x = torch.tensor([[1.0, 2.0]])
    assert torch.equal(sde.perturb(x, clean, torch.full_like(x, math.nan)), x)
    with pytest.raises(UnsupportedCombination, match="clean level"):
        clean.drift(x)


# Priors


@pytest.mark.parametrize("event", [(), (2,), (1, 8, 8)], ids=str)
@each_dtype
def test_a_priors_log_prob_is_the_normal_density(event, dtype):
    """Against torch.distributions, for scalar moments and for moments of the event's shape."""
    x = torch.linspace(-2, 2, 3 * math.prod(event), dtype=dtype).reshape(3, *event)
    spread = torch.linspace(0.5, 2.0, math.prod(event), dtype=dtype).reshape(event)
    for mean, std in ((0.0, 50.0), (0.3, 1.2), (spread - 1, spread), (spread, 0.7)):
        wanted = Normal(torch.as_tensor(mean, dtype=dtype), torch.as_tensor(std, dtype=dtype)).log_prob(x)
        found = NormalPrior(mean, std).log_prob(x)
        assert found.shape == (3,)
        torch.testing.assert_close(found, wanted.reshape(3, -1).sum(1), rtol=2e-6 if dtype == F32 else 1e-13, atol=1e-5)


@every
def test_the_standard_prior_is_the_published_one(sde):
    """N(0, I) for VP, sub-VP and DDPM's, N(0, sigma_T^2 I) for VE, EDM and any other: Song et al. 2021, appendix C."""
    std = (
        1.0
        if isinstance(sde, sk.VPSDE | sk.SubVPSDE | sk.CosineSDE | sk.DiscreteVPSDE)
        else float(sde.sigma(sde.t_max))
    )
    x = torch.tensor([[0.3, -40.0]], dtype=F64)
    wanted = Normal(0.0, torch.tensor(std, dtype=F64)).log_prob(x).sum(1)
    torch.testing.assert_close(sde.prior.log_prob(x), wanted, rtol=1e-13, atol=0)


@pytest.mark.parametrize("sde", [*sdes(), pytest.param(Cosine(), id="Cosine")])
def test_with_prior_is_p_T_of_gaussian_data(sde):
    """N(alpha_T m, alpha_T^2 s^2 + sigma_T^2), and so the oracle's own density at t_max."""
    m, s = torch.tensor([3.0, -1.0], dtype=F64), torch.tensor([0.5, 2.0], dtype=F64)
    known = sde.with_prior(m, s)
    alpha, sigma = (f(torch.tensor(sde.t_max, dtype=F64)) for f in (sde.alpha, sde.sigma))
    x = torch.tensor([[0.4, 1.0], [-3.0, 7.0]], dtype=F64)
    wanted = Normal(alpha * m, (alpha**2 * s**2 + sigma**2).sqrt()).log_prob(x).sum(1)
    torch.testing.assert_close(known.prior.log_prob(x), wanted, rtol=1e-13, atol=0)
    oracle = sk.models.GaussianMixture(sde, [1.0], m[None], (s**2)[None])
    torch.testing.assert_close(known.prior.log_prob(x), oracle.log_prob(x, sde.t_max), rtol=1e-12, atol=0)
    number = sde.with_prior(3.0, 0.5).prior.log_prob(x)
    torch.testing.assert_close(
        number, Normal(alpha * 3.0, (alpha**2 * 0.25 + sigma**2).sqrt()).log_prob(x).sum(1), rtol=1e-13, atol=0
    )
    assert (known.t_min, known.t_max) == (sde.t_min, sde.t_max)
    assert torch.equal(known.sigma(inside(sde)), sde.sigma(inside(sde)))


@pytest.mark.parametrize("sde", [sk.VESDE(sigma_max=2.0), sk.EDMSDE(t_max=3.0)], ids=repr)
def test_translating_the_data_translates_ves_prior(sde):
    """alpha = 1: draws and log-density move with the data, to the bit and to rounding."""
    mean, shift = torch.tensor([0.5, -0.25], dtype=F64), torch.tensor([4.0, -2.0], dtype=F64)
    here, there = sde.with_prior(mean, 1.5).prior, sde.with_prior(mean + shift, 1.5).prior
    a, b = (prior.sample((5, 2), sk.KeyedNoise(3), dtype=F64) for prior in (here, there))
    torch.testing.assert_close(b, a + shift, rtol=0, atol=1e-14)
    torch.testing.assert_close(there.log_prob(b), here.log_prob(a), rtol=1e-13, atol=0)


@pytest.mark.parametrize("moments", [(0.0, 1.0), (0.0, 3.0), (2.0, 0.5), "tensors"], ids=str)
def test_a_prior_draws_what_it_says(moments):
    """mean + std z with z the source's own normals."""
    if moments == "tensors":
        moments = torch.tensor([1.0, -2.0, 0.0], dtype=F64), torch.tensor([0.1, 1.0, 5.0], dtype=F64)
    z = sk.KeyedNoise(7).normal((4, 3), stream="prior", dtype=F64)
    drawn = NormalPrior(*moments).sample((4, 3), sk.KeyedNoise(7), dtype=F64)
    torch.testing.assert_close(drawn, moments[0] + moments[1] * z, rtol=1e-15, atol=1e-15)
    assert NormalPrior(*moments).sample((4, 3), sk.Noise(7), dtype=F32).dtype == F32


@every
def test_a_process_with_another_prior_is_another_process(sde):
    """It samples otherwise, so it is not equal and does not look the same in a log; copies keep the prior."""
    known = sde.with_prior(3.0, 0.5)
    assert known != sde
    assert repr(known) != repr(sde)
    x = torch.tensor([[1.0]], dtype=F64)
    for copied in (copy.deepcopy(known), pickle.loads(pickle.dumps(known))):
        assert torch.equal(copied.prior.log_prob(x), known.prior.log_prob(x))


@every
def test_an_empty_batch_has_empty_log_densities(sde):
    assert sde.prior.log_prob(torch.zeros(0, 2)).shape == (0,)


@pytest.mark.parametrize("mean", [torch.zeros(3), torch.zeros(4, 2), torch.zeros(2, 1)], ids=lambda m: str(m.shape))
def test_moments_that_do_not_fit_the_event_are_named(mean):
    """Such as the data themselves in place of their mean: rows are never mixed, a batch is never widened."""
    prior = sk.VESDE().with_prior(mean, 1.0).prior
    with pytest.raises(InvalidArgument, match="mean"):
        prior.sample((1, 2), sk.Noise(0))
    with pytest.raises(InvalidArgument, match="mean"):
        prior.log_prob(torch.zeros(4, 2))


@pytest.mark.parametrize(
    ("arguments", "kind", "name"),
    [
        ((math.nan, 1.0), InvalidArgument, "mean"),
        ((0.0, -1.0), InvalidArgument, "std"),
        ((0.0, math.inf), InvalidArgument, "std"),
        ((torch.tensor([0.0, math.nan]), 1.0), InvalidArgument, "mean"),
        ((0.0, torch.tensor([1.0, -1.0])), InvalidArgument, "std"),
        (("0", 1.0), InvalidType, "mean"),
        ((0.0, None), InvalidType, "std"),
    ],
)
def test_moments_that_are_no_moments_are_named(arguments, kind, name):
    with pytest.raises(kind, match=f"with_prior: {name} must be"):
        sk.VPSDE().with_prior(*arguments)


# A user's processes


def test_a_users_alpha_and_sigma_are_enough():
    """Nichol & Dhariwal's cosine: f = -pi/2 tan, g^2 = pi tan, log-SNR = -2 log tan, all derived."""
    sde = Cosine()
    t = inside(sde)
    tan = torch.tan(0.5 * math.pi * t)
    torch.testing.assert_close(sde.drift(torch.ones_like(t), t), -0.5 * math.pi * tan, rtol=1e-13, atol=0)
    torch.testing.assert_close(sde.diffusion(t) ** 2, math.pi * tan, rtol=1e-13, atol=0)
    torch.testing.assert_close(sde.log_snr(t), -2 * tan.log(), rtol=0, atol=1e-13)
    torch.testing.assert_close(sde.time_at(-2 * tan.log()), t, rtol=1e-13, atol=0)
    a, b = sde.transition(0.2, 0.7)
    c, s = math.cos, math.sin
    ratio = c(0.35 * math.pi) / c(0.1 * math.pi)
    assert float(a) == pytest.approx(ratio, rel=1e-14)
    assert float(b) ** 2 == pytest.approx(s(0.35 * math.pi) ** 2 - (ratio * s(0.1 * math.pi)) ** 2, rel=1e-13)


def test_a_users_process_serves_everything():
    """Grids, levels, prior, oracle, loss and sampler ask alpha and sigma for tensors alone."""
    sde = Cosine()
    model = sk.models.GaussianMixture(sde, [1.0], torch.zeros(1, 2), 0.25)
    noise = sk.Noise(0)
    value = sk.losses.DenoisingScoreMatching("likelihood")(model, model.sample(8, noise), noise)
    assert 0 < float(value) < math.inf
    x = sk.sample(model, (2000, 2), steps=30, seed=0)
    # 4000 draws of variance 1/4: the standard error of the variance is 0.0056; DPMSolver's own error is below 0.005
    assert float(x.var()) == pytest.approx(0.25, abs=0.04)


def test_a_process_without_a_kernel_keeps_the_base_contract():
    """Its level has t, drift and g^2; its forward step is Euler-Maruyama's; it has no clean level."""
    sde = DoubleWell()
    x = torch.tensor([[0.5, -1.0], [2.0, 0.0]], dtype=F64)
    for t, s in ((2.0, 1.5), (torch.tensor([2.0, 1.0]), torch.tensor([1.5, 0.25]))):
        later, earlier = sde.level(t, x), sde.level(s, x)
        increment, std = sde.step(x, later, earlier)
        dt = torch.as_tensor(t, dtype=F64).reshape(-1, 1) - torch.as_tensor(s, dtype=F64).reshape(-1, 1)
        torch.testing.assert_close(increment, (x - x**3) * dt, rtol=1e-14, atol=0)
        torch.testing.assert_close(torch.as_tensor(std, dtype=F64).reshape(-1, 1), 0.5 * dt.sqrt(), rtol=1e-14, atol=0)
        assert bool((torch.as_tensor(later.g2) == 0.25).all())
        assert later.clock is later.t
        assert not later.clean
    assert sde.clean() is None
    assert [level.t for level in sde.levels(torch.tensor([3.0, 1.0, 0.1]))] == pytest.approx([3.0, 1.0, 0.1])
    with pytest.raises(InvalidArgument, match=r"DoubleWell: t must lie within \[0\.1, 3\], got (t=)?0\.05"):
        sde.level(0.05, x)


def test_a_process_without_a_kernel_says_what_it_lacks():
    sde = DoubleWell()
    model = sk.models.FromFunction(sde, score=lambda x, t: -x)
    x = torch.tensor([[0.5]], dtype=F64)
    p = model(x, 1.0)
    torch.testing.assert_close(p.velocity, x - x**3 + 0.125 * x)  # f - g^2 score / 2
    torch.testing.assert_close(p.with_score(2 * x).velocity, x - x**3 - 0.25 * x)
    for view in ("x0", "eps"):
        with pytest.raises(UnsupportedCombination, match=rf"{view}: DoubleWell has no alpha and sigma"):
            getattr(p, view)
    for refused in (
        lambda: sk.grids.log_snr(sde, 3),
        lambda: sk.grids.karras(sde, 3),
        lambda: sk.grids.levels(sde, "uniform", 3),
        lambda: sk.losses.DenoisingScoreMatching()(model, x, sk.Noise(0)),
        lambda: sk.models.FromFunction(sde, eps=lambda x, t: x),
        lambda: sk.models.GaussianMixture(sde, [1.0], torch.zeros(1, 1), 1.0),
        lambda: sk.ddpm(torch.nn.Identity(), sde),
    ):
        with pytest.raises(UnsupportedCombination, match="DoubleWell"):
            refused()


# What is refused


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: sk.VPSDE(beta_min=-0.1), "VPSDE: beta_min must be finite and >= 0, got beta_min=-0.1"),
        (lambda: sk.VPSDE(beta_min=2.0, beta_max=1.0), "beta_max must reach beta_min, got beta_min=2, beta_max=1"),
        (lambda: sk.VPSDE(beta_min=0.0, beta_max=0.0), "VPSDE: beta_max must be finite and > 0"),
        (lambda: sk.VPSDE(beta_max=math.nan), "VPSDE: beta_max must be finite"),
        (lambda: sk.VPSDE(t_min=0.0), "t_min must be finite and > 0, got t_min=0"),
        (lambda: sk.VPSDE(t_min=1.0), "t_max must exceed t_min, got t_min=1, t_max=1"),
        (lambda: sk.SubVPSDE(beta_max=math.inf), "SubVPSDE: beta_max must be finite"),
        (lambda: sk.SubVPSDE(t_max=-1.0), "SubVPSDE: t_max must be finite and > 0"),
        (lambda: sk.VESDE(sigma_min=1.0, sigma_max=0.5), "sigma_max must exceed sigma_min, got sigma_min=1, sigma_max"),
        (lambda: sk.VESDE(sigma_min=0.0), "VESDE: sigma_min must be finite and > 0"),
        (lambda: sk.VESDE(sigma_max=math.inf), "VESDE: sigma_max must be finite"),
        (lambda: sk.EDMSDE(t_min=-0.002), "EDMSDE: t_min must be finite and > 0"),
        (lambda: sk.EDMSDE(t_min=90.0), "EDMSDE: t_max must exceed t_min, got t_min=90, t_max=80"),
    ],
)
def test_a_schedule_that_is_none_is_named(make, said):
    with pytest.raises(ScheduleError, match="(?s)" + said.replace(".", r"\.")):
        make()


@pytest.mark.parametrize("make", [lambda: sk.VPSDE(t_max=1000.0), lambda: sk.SubVPSDE(beta_max=4000.0)])
def test_a_schedule_whose_alpha_vanishes_in_float64_is_named(make):
    """Such as t counted in a thousand steps: its log-SNR would be -inf and its drift NaN."""
    with pytest.raises(ScheduleError, match=r"t_max|beta_max"):
        make()


@pytest.mark.parametrize("make", [lambda: sk.VPSDE("0.1"), lambda: sk.VESDE(sigma_max=None), lambda: sk.EDMSDE(True)])
def test_a_parameter_that_is_no_number_is_named(make):
    with pytest.raises(InvalidType, match=r"must be a number, got (str|NoneType|bool)"):
        make()


@every
@pytest.mark.parametrize("outside", [-0.5, 0.0, 1.1, 50.0, math.nan, math.inf])
def test_a_time_outside_the_domain_is_named(sde, outside):
    t = outside * sde.t_max
    x = torch.zeros(3, 2)
    name = type(sde).__name__
    for form in (t, torch.tensor(t)):
        with pytest.raises(InvalidArgument, match=rf"{name}: t must .*, got"):
            sde.drift(x, form)
    rows = torch.tensor([sde.t_max, t, sde.t_max])
    with pytest.raises(InvalidArgument, match=rf"{name}: t must lie within .* at row 1"):
        sde.perturb(x, rows, x)


@every
@pytest.mark.parametrize("shape", [(2,), (4,), (1,), (3, 1), (0,)], ids=str)
def test_a_time_that_does_not_fit_the_batch_is_named(sde, shape):
    x = torch.zeros(3, 2)
    t = torch.full(shape, 0.5 * sde.t_max)
    with pytest.raises(InvalidArgument, match=r"t must be a number, of shape \(\) or of shape \(B,\) = \(3,\), got"):
        sde.drift(x, t)


@pytest.mark.parametrize(
    "t", ["0.5", None, [0.5], True, torch.tensor([True, True]), torch.tensor([0.5j, 0.5j])], ids=str
)
def test_a_time_that_is_no_number_is_named(t):
    with pytest.raises(InvalidType, match=r"VPSDE: t must be (a number|real), got"):
        sk.VPSDE().drift(torch.zeros(2, 1), t)


@every
def test_float32_ends_of_the_domain_are_the_ends(sde):
    """A float32 time that rounding took past an end counts as that end, alone and in a batch."""
    x = torch.ones(2, 1, dtype=F64)
    for end in (sde.t_min, sde.t_max):
        rounded = torch.tensor(end, dtype=F32)
        for t in (rounded, rounded.item(), rounded * (1 + 1e-7), rounded.expand(2)):
            found = torch.as_tensor(sde.level(t, x).t, dtype=F64)
            assert float((found - end).abs().max()) <= 2e-7 * end
            assert bool(((found >= sde.t_min) & (found <= sde.t_max)).all())


def test_integer_times_are_times():
    """EDM's noise level 3 is 3.0, as an int, and as integer tensors."""
    x = torch.zeros(2, 1)
    for t in (3, torch.tensor(3), torch.tensor([3, 3])):
        assert float(torch.as_tensor(sk.EDMSDE().level(t, x).sigma).max()) == 3.0


@every
def test_nothing_broadcasts_against_the_data(sde):
    """A (4, 1) beside a (4,) would make a (4, 4)."""
    x, t, s = torch.zeros(4, 1), 0.5 * sde.t_max, 0.2 * sde.t_max
    with pytest.raises(InvalidArgument, match=r"perturb: eps must be of the shape of x, \(4, 1\), got \(4,\)"):
        sde.perturb(x, t, torch.ones(4))
    with pytest.raises(InvalidArgument, match=r"posterior: x0 must be of the shape of x, \(4, 1\), got \(4,\)"):
        sde.posterior(x, torch.ones(4), t, s)


@pytest.mark.parametrize("sde", [*(p.values[0] for p in sdes()), sk.VPSDE(beta_min=0.0)], ids=repr)
def test_a_log_snr_at_infinity_is_an_end(sde):
    far = torch.tensor([math.inf, 1e308, 5000.0, -5000.0, -1e308, -math.inf], dtype=F64)
    assert sde.time_at(far).tolist() == [sde.t_min] * 3 + [sde.t_max] * 3


def test_a_log_snr_beyond_a_users_process_is_its_end_to_the_bit():
    """By bisection, whatever the last bits of its ends are."""
    for i in range(20):
        sde = Cosine()
        sde.t_min, sde.t_max = 0.01 + 0.001 * i, 0.9 + 0.003 * i
        far = torch.tensor([math.inf, 300.0, -300.0, -math.inf], dtype=F64)
        assert sde.time_at(far).tolist() == [sde.t_min] * 2 + [sde.t_max] * 2


def test_a_message_names_the_first_row_that_is_outside():
    with pytest.raises(InvalidArgument, match=r"VPSDE: t must lie within \[0.0001, 1\], got 3 at row 1$"):
        sk.VPSDE().level(torch.tensor([0.5, 3.0, 4.0]), torch.zeros(3, 1))
    with pytest.raises(InvalidArgument, match=r"VPSDE: t must lie within \[0.0001, 1\], got 3$"):
        sk.VPSDE().level(3.0, torch.zeros(3, 1))


def test_a_start_or_an_end_at_which_the_data_show_is_told_at_the_stated_snr():
    """Below t_max a run is refused above alpha^2 / sigma^2 = 0.01; at t_max the process warns above 0.05."""
    for sde in (sk.VPSDE(), sk.VESDE(), Cosine()):
        least = float(sde.time_at(math.log(0.01)))
        assert isinstance(sde.prior_at(least * (1 + 1e-9)), sk.sdes.NormalPrior)
        with pytest.raises(InvalidArgument, match=r"where alpha\^2 / sigma\^2 is 0.01 and not at most 0.01, needs x_T"):
            sde.prior_at(least * (1 - 1e-9))
        with pytest.raises(InvalidArgument, match="must lie within"):
            sde.prior_at(1.5 * sde.t_max)
    for snr, warns in ((0.05 * (1 + 1e-9), True), (0.05 * (1 - 1e-9), False)):
        sde = Cosine()
        sde.t_max = float(sde.time_at(math.log(snr)))
        with pytest.warns(sk.errors.PriorWarning, match="= 0.05, where") if warns else nullcontext():
            sde.prior_at(sde.t_max)
    with pytest.warns(sk.errors.PriorWarning, match=r"alpha\^2 / sigma\^2 = 1e\+304, where"):
        sk.EDMSDE(t_min=1e-200, t_max=1e-170).prior_at(1e-170)


@every
def test_a_kernel_of_no_way_is_the_identity(sde):
    """And a posterior at its own level is x."""
    t, x = 0.5 * (sde.t_min + sde.t_max), torch.ones(2, 3, dtype=F64)
    scale, std = sde.transition(t, t)
    assert (float(scale), float(std)) == (1.0, 0.0)
    mean, std = sde.posterior(x, 5 * x, t, t)
    assert torch.equal(mean, x)
    assert float(std) == 0.0


@pytest.mark.parametrize("ends", [(0.5, 0.5), (0.6, 0.5), (0.0, 0.5), (-0.1, 0.5), (0.5, math.inf), (math.nan, 0.5)])
def test_a_domain_runs_from_above_zero_to_a_later_time(ends):
    for make in (sk.VPSDE, sk.SubVPSDE, sk.VESDE, sk.EDMSDE, sk.CosineSDE, sk.FlowSDE):
        with pytest.raises(ScheduleError, match=r"t_min|t_max"):
            make(t_min=ends[0], t_max=ends[1])
    with pytest.raises(ScheduleError, match=r"t_min|t_max"):
        sk.LinearSDE(0.0, 1.0, t_min=ends[0], t_max=ends[1])


def test_a_drift_may_leave_alpha_above_1e_300_and_no_less():
    """log(alpha) = f t_max down to -690."""
    assert float(sk.LinearSDE(-689.9, 1.0).alpha(1.0)) > 1e-300
    with pytest.raises(ScheduleError, match=re.escape("above 1e-300, got log(alpha) = -690.1")):
        sk.LinearSDE(-690.1, 1.0)


@pytest.mark.parametrize("kind", [np.float32, np.float64, torch.tensor, int])
def test_settings_are_python_floats_whatever_was_given(kind):
    """So that a process looks, compares and is stored the same."""
    sde = sk.VESDE(sigma_min=kind(1), sigma_max=kind(50))
    assert sde == sk.VESDE(sigma_min=1.0, sigma_max=50.0)
    assert type(sde.sigma_max) is float
    assert type(sk.models.Karras(sigma_data=kind(1)).sigma_data) is float


@every
def test_moments_in_float32_are_not_the_priors_precision(sde):
    """The prior is formed in float64 from what was given."""
    mean, std = torch.tensor([0.1, 0.7]), torch.tensor([1.1, 0.3])
    x = torch.tensor([[0.4, 1.0]], dtype=F64)
    coarse, fine = sde.with_prior(mean, std).prior, sde.with_prior(mean.double(), std.double()).prior
    assert torch.equal(coarse.log_prob(x), fine.log_prob(x))


@every
def test_a_time_is_an_end_up_to_a_millionth_outside_and_not_a_bit_further(sde):
    """The same in a level, in a level of rows, and in a grid."""
    x, slack = torch.zeros(1, 1), 1e-6 * sde.t_max
    for edge, beyond, end in ((sde.t_max + slack, math.inf, sde.t_max), (sde.t_min - slack, -math.inf, sde.t_min)):
        assert sde.level(edge, x).t == end
        assert sde.level(torch.tensor([edge], dtype=F64), x).t.item() == end
        inner = 0.5 * (sde.t_min + sde.t_max)
        times = torch.tensor(sorted([edge, inner], reverse=True), dtype=F64)
        assert end in sk.grids.check_times(sde, times).tolist()
        past = math.nextafter(edge, beyond)
        for ask in (
            lambda past=past: sde.level(past, x),
            lambda past=past: sde.level(torch.tensor([past], dtype=F64), x),
            lambda past=past, inner=inner: sk.grids.check_times(sde, sorted([past, inner], reverse=True)),
        ):
            with pytest.raises(InvalidArgument, match="must lie within"):
                ask()


@every
def test_a_process_of_another_setting_is_another_process(sde):
    """Whichever of the numbers it is, and whether it is more or less; and its prior too."""
    for field in dataclasses.fields(sde):
        value = getattr(sde, field.name)
        if isinstance(value, float):
            other = dataclasses.replace(sde, **{field.name: value * (1 - 1e-9) if value else 1e-9})
            assert sde != other
            assert other != sde
            assert other == dataclasses.replace(sde, **{field.name: getattr(other, field.name)})
    for low, high in ((1.0, 2.0), (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0]))):
        a, b = sde.with_prior(low, 1.0), sde.with_prior(high, 1.0)
        assert a != b
        assert b != a
        assert a == sde.with_prior(low, 1.0)
        assert hash(a) == hash(sde.with_prior(low, 1.0))
        assert sde not in (a, b)
    assert sde.with_prior(0.0, 1.0) != sde.with_prior(0.0, torch.ones(2))
    assert sde != repr(sde)


def test_processes_are_equal_where_their_settings_are():
    assert sk.VPSDE() == sk.VPSDE(beta_max=20)
    assert hash(sk.VPSDE()) == hash(sk.VPSDE(beta_max=20))
    assert sk.VPSDE() != sk.VPSDE(beta_max=19.0)
    assert sk.VPSDE() != sk.SubVPSDE(t_min=1e-4)
    mean = torch.tensor([1.0, 2.0])
    assert sk.VPSDE().with_prior(mean, 1.0) == sk.VPSDE().with_prior(mean.clone(), 1.0)
    assert sk.VPSDE().with_prior(mean, 1.0) != sk.VPSDE().with_prior(mean + 1, 1.0)
    assert repr(sk.EDMSDE().with_prior(0.5, 1.0)) == "EDMSDE(t_min=0.002, t_max=80.0).with_prior(mean=0.5, std=1)"


# A process given by its drift rate and diffusion

LINEAR = {
    "VP": (lambda t: -0.5 * (0.1 + 19.9 * t), lambda t: (0.1 + 19.9 * t) ** 0.5, {}, sk.VPSDE()),
    "sub-VP": (
        lambda t: -0.5 * (0.1 + 19.9 * t),
        lambda t: ((0.1 + 19.9 * t) * -torch.expm1(-2 * t * (0.1 + 9.95 * t))) ** 0.5,
        {"t_min": 1e-3},
        sk.SubVPSDE(),
    ),
    "VE": (
        0.0,
        lambda t: 0.01 * 5000.0**t * (2 * math.log(5000.0)) ** 0.5,
        {"sigma_0": 0.01, "t_min": 1e-5},
        sk.VESDE(),
    ),
    "EDM": (0, lambda t: (2 * t) ** 0.5, {"t_min": 0.002, "t_max": 80.0}, sk.EDMSDE()),
    "cosine": (
        lambda t: -0.5 * math.pi * torch.tan(0.5 * math.pi * t),
        lambda t: (math.pi * torch.tan(0.5 * math.pi * t)) ** 0.5,
        {"t_max": 0.995},
        sk.CosineSDE(offset=0.0),
    ),
    "flow": (
        lambda t: -1 / (1 - t),
        lambda t: (2 * t / (1 - t)) ** 0.5,
        {"t_min": 1e-3, "t_max": 0.999},
        sk.FlowSDE(),
    ),
}


@pytest.mark.parametrize("name", LINEAR)
def test_a_process_given_by_f_and_g_has_its_alpha_and_sigma_to_ten_digits(name):
    """Numerical integrals against closed forms, on the whole domain, and the log-SNR in the absolute sense."""
    f, g, domain, closed = LINEAR[name]
    sde = sk.LinearSDE(f, g, **domain)
    assert (sde.t_min, sde.t_max) == (closed.t_min, closed.t_max)
    t = torch.cat(
        [
            torch.logspace(math.log10(sde.t_min), math.log10(sde.t_max), 2001, dtype=F64).clamp(sde.t_min, sde.t_max),
            torch.linspace(sde.t_min, sde.t_max, 2001, dtype=F64),
        ]
    )
    torch.testing.assert_close(sde.alpha(t), closed.alpha(t), rtol=1e-10, atol=0)
    torch.testing.assert_close(sde.sigma(t), closed.sigma(t), rtol=1e-10, atol=0)
    torch.testing.assert_close(sde.log_snr(t), closed.log_snr(t), rtol=0, atol=2e-10)
    x = torch.ones(1, dtype=F64)
    for u in (0.1, 0.5, 0.9):
        time = sde.t_min + u * (sde.t_max - sde.t_min)
        torch.testing.assert_close(sde.drift(x, time), closed.drift(x, time), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(sde.diffusion(time), closed.diffusion(time), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", LINEAR)
def test_the_ends_of_a_process_given_by_f_and_g_are_found_to_the_bit(name):
    f, g, settings, _ = LINEAR[name]
    sde = sk.LinearSDE(f, g, **settings)
    for end in (sde.t_min, sde.t_max):
        assert float(sde.time_at(sde.log_snr(end))) == end


def test_an_ornstein_uhlenbeck_process_is_given_by_two_numbers():
    """alpha = exp(-t), sigma^2 = 1 - exp(-2 t): Särkkä & Solin 2019, example 6.2; it samples and has a likelihood."""
    sde = sk.LinearSDE(f=-1.0, g=math.sqrt(2.0), t_min=1e-3, t_max=5.0)
    t = torch.linspace(1e-3, 5.0, 101, dtype=F64)
    torch.testing.assert_close(sde.alpha(t), torch.exp(-t), rtol=1e-11, atol=0)
    torch.testing.assert_close(sde.sigma(t) ** 2, -torch.expm1(-2 * t), rtol=1e-11, atol=0)
    model = sk.models.GaussianMixture(sde, [1.0], torch.tensor([[0.5, -1.0]], dtype=F64), 0.3)
    exact = model.sde.with_prior(torch.tensor([0.5, -1.0]), 0.3**0.5)
    model = sk.models.GaussianMixture(exact, [1.0], torch.tensor([[0.5, -1.0]], dtype=F64), 0.3)
    x = model.sample(5, sk.Noise(0))
    found = sk.log_likelihood(model, x, tol="tight").log_prob
    torch.testing.assert_close(found, model.log_prob(x, sde.t_min), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda: sk.LinearSDE("f", 1.0), InvalidType, "LinearSDE: f must be a number, got str"),
        (lambda: sk.LinearSDE(0.0, math.nan), ScheduleError, "LinearSDE: g must be finite"),
        (lambda: sk.LinearSDE(0.0, 0.0), ScheduleError, "LinearSDE: g must add noise before t_min"),
        (lambda: sk.LinearSDE(0.0, 1.0, sigma_0=-1.0), ScheduleError, "LinearSDE: sigma_0 must be finite and >= 0"),
        (lambda: sk.LinearSDE(0.0, 1.0, t_min=0.0), ScheduleError, "t_min must be finite and > 0"),
        (lambda: sk.LinearSDE(-1e4, 1.0), ScheduleError, "LinearSDE: alpha(t_max) must lie above 1e-300"),
        (lambda: sk.LinearSDE(lambda t: t[None], 1.0), InvalidArgument, "LinearSDE: f must return the shape of t"),
        (lambda: sk.LinearSDE(lambda t: t * math.inf, 1.0), sk.errors.NonFiniteError, "LinearSDE: f must be finite on"),
    ],
)
def test_rates_that_are_none_are_named(make, kind, said):
    with pytest.raises(kind) as caught:
        make()
    assert said in str(caught.value)


@pytest.mark.parametrize("process", [sk.VPSDE, sk.SubVPSDE])
def test_a_linear_beta_may_leave_alpha_above_1e_300_and_no_less(process):
    """beta_max / 2 up to 1381.5, and the message says what alpha would be."""
    assert float(process(beta_min=0.0, beta_max=2763.0).alpha(1.0)) > 1e-300
    with pytest.raises(sk.errors.ScheduleError, match=re.escape("alpha is exp(-691); time runs to 1")):
        process(beta_min=0.0, beta_max=2764.0)


def test_ve_may_reach_1e150_and_no_more():
    """With a ratio of 10 a unit of time: t_max = 152, from 0.01; the message says what sigma would be."""
    assert float(sk.VESDE(0.01, 0.1, t_max=151.9).sigma(151.9)) < 1e150
    with pytest.raises(ScheduleError, match=re.escape("t_max=152.1: sigma is exp(345.618); time runs to 1")):
        sk.VESDE(0.01, 0.1, t_max=152.1)
