"""Arithmetic: schedules and kernels against 50 digits, half precision, finite samples for every N, and gradients."""

import bisect
import dataclasses
import functools
import itertools

import mpmath
import numpy as np
import pytest
import torch
from problems import F64, gaussians, last
from subjects import fixed_grid_solvers, ode_methods, pairs, rows_and_sdes, sdes, solvers
from torch.autograd import gradcheck, gradgradcheck

import sdekit as sk
from sdekit.sdes import tables

F32 = torch.float32
EPS = 2.0**-52
HALVES = [torch.bfloat16, torch.float16]
mp = mpmath.MPContext()
mp.dps = 50

EXTREME = [
    sk.VPSDE(t_min=1e-9),
    sk.VPSDE(beta_min=0.0, t_min=1e-8),
    sk.VPSDE(beta_max=2700.0),  # alpha(1) = 1e-293
    sk.VPSDE(beta_min=3.0, beta_max=3.0, t_min=1e-6, t_max=2.0),
    sk.SubVPSDE(t_min=1e-9),
    sk.SubVPSDE(beta_min=0.0, beta_max=2700.0, t_min=1e-6),
    sk.VESDE(1e-6, 1e6, t_min=1e-9),
    sk.VESDE(0.999, 1.001, t_max=3.0),
    sk.EDMSDE(1e-12, 1e12),
    sk.CosineSDE(offset=0.0, t_min=1e-9, t_max=1 - 1e-9),
    sk.CosineSDE(offset=0.9, t_min=1e-9),
    sk.FlowSDE(1e-12, 1 - 1e-12),
    sk.DiscreteVPSDE([1e-12, 0.9, 1e-9, 0.5]),
    sk.DiscreteVPSDE(tables.zero_terminal_snr(tables.linear())),
    sk.DiscreteVPSDE(tables.cosine(4000)).respaced(7),
    sk.DiscreteVESDE([1e-6, 1e-3, 1.0, 1e6]),
]
"""Legal settings that lose digits where a formula cancels, overflows or divides by what is left."""


def _named(subjects):
    return [pytest.param(sde, id=f"{i}-{sde}") for i, sde in enumerate(subjects)]


normal = pytest.mark.parametrize("sde", sdes())
every = pytest.mark.parametrize("sde", [*sdes(), *_named(EXTREME)])


# The published forms in 50 digits: (log(alpha), sigma^2, f, g^2) at a time


def _linear(low, high):
    low, high = mp.mpf(low), mp.mpf(high)
    return lambda t: (low + t * (high - low), t * low + t * t * (high - low) / 2)


def vp(beta):
    """Song et al. 2021, eq. 11, 29 and 33, from (beta, its integral)."""

    def at(t):
        b, total = beta(t)
        return -total / 2, -mp.expm1(-total), -b / 2, b

    return at


def subvp(beta):
    """Song et al. 2021, eq. 12 and 29."""

    def at(t):
        b, total = beta(t)
        return -total / 2, mp.expm1(-total) ** 2, -b / 2, -b * mp.expm1(-2 * total)

    return at


def ve(log_sigma):
    """Song et al. 2021, eq. 9 and 30: alpha = 1, g^2 = d sigma^2 / dt, from (the slope of log sigma, log sigma)."""

    def at(t):
        slope, value = log_sigma(t)
        return mp.mpf(0), mp.exp(2 * value), mp.mpf(0), 2 * slope * mp.exp(2 * value)

    return at


def cosine(offset):
    """Nichol & Dhariwal 2021, eq. 17, as the VP process that it is."""
    w = mp.pi / 2 / (1 + mp.mpf(offset))

    def at(t):
        phi = w * (t + mp.mpf(offset))
        alpha = mp.cos(phi) / mp.cos(w * mp.mpf(offset))
        return mp.log(alpha), (1 - alpha) * (1 + alpha), -w * mp.tan(phi), 2 * w * mp.tan(phi)

    return at


def flow(t):
    """Lipman et al. 2023, eq. 20 with sigma_min = 0 and time reversed."""
    return mp.log1p(-t), t * t, -1 / (1 - t), 2 * t / (1 - t)


class Pchip:
    """Fritsch & Carlson's monotone cubic with the slopes of Fritsch & Butland 1984, as SciPy's: (slope, value)."""

    def __init__(self, times, values):
        self.x, self.y = times, values
        self.h = [b - a for a, b in itertools.pairwise(times)]
        self.d = [(b - a) / h for (a, b), h in zip(itertools.pairwise(values), self.h, strict=True)]
        self.slope = functools.cache(self._slope)

    def _slope(self, i):
        h, d, n = self.h, self.d, len(self.x) - 1
        if i in (0, n):
            if n == 1:
                return d[0]
            (h0, h1), (d0, d1) = ((h[0], h[1]), (d[0], d[1])) if i == 0 else ((h[-1], h[-2]), (d[-1], d[-2]))
            end = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
            return mp.mpf(0) if end <= 0 else end  # rising data: no other case of the rule applies
        w, v = 2 * h[i] + h[i - 1], h[i] + 2 * h[i - 1]
        return (w + v) / (w / d[i - 1] + v / d[i])

    def __call__(self, t):
        i = min(max(bisect.bisect_left(self.x, t) - 1, 0), len(self.h) - 1)
        h, u = self.h[i], (t - self.x[i]) / self.h[i]
        a, b, rise = h * self.slope(i), h * self.slope(i + 1), self.y[i + 1] - self.y[i]
        second, third = 3 * rise - 2 * a - b, a + b - 2 * rise
        return (a + u * (2 * second + 3 * u * third)) / h, self.y[i] + u * (a + u * (second + u * third))

    def condition(self, t):
        """How much the rounding of two values is enlarged in their difference, in the intervals that make t's slope."""
        i = bisect.bisect_left(self.x, t)
        near = range(max(i - 2, 0), min(i + 1, len(self.h)))
        return max(1, *(max(abs(self.y[j]), abs(self.y[j + 1])) / (self.y[j + 1] - self.y[j]) for j in near))


@functools.cache
def table(sde):
    """(slope, value) of -log(alpha_bar), or of log(sigma), interpolated from the table's nodes."""
    times = [mp.mpf(t) for t in sde.times.tolist()]
    if isinstance(sde, sk.DiscreteVPSDE):
        total, values = mp.mpf(0), [mp.mpf(0)]
        for beta in sde.betas.tolist():
            total -= mp.log1p(-mp.mpf(beta))
            values.append(total)
        return Pchip([mp.mpf(0), *times], values)
    logs = [mp.log(mp.mpf(s)) for s in sde.sigmas.tolist()]
    return Pchip([2 * times[0] - times[1], *times], [2 * logs[0] - logs[1], *logs])


PAPERS = {
    sk.VPSDE: lambda sde: vp(_linear(sde.beta_min, sde.beta_max)),
    sk.SubVPSDE: lambda sde: subvp(_linear(sde.beta_min, sde.beta_max)),
    sk.VESDE: lambda sde: ve(lambda t: (_ratio(sde), mp.log(sde.sigma_min) + t * _ratio(sde))),
    sk.EDMSDE: lambda sde: ve(lambda t: (1 / t, mp.log(t))),
    sk.CosineSDE: lambda sde: cosine(sde.offset),
    sk.FlowSDE: lambda sde: flow,
    sk.DiscreteVPSDE: lambda sde: vp(table(sde)),
    sk.DiscreteVESDE: lambda sde: ve(table(sde)),
    sk.LinearSDE: lambda sde: vp(_linear(0.1, 20.0)),
}


def _ratio(sde):
    return mp.log(mp.mpf(sde.sigma_max) / mp.mpf(sde.sigma_min))


class Exact:
    """A process's numbers at a float64 time, each in 50 digits."""

    def __init__(self, sde):
        self.at = PAPERS[type(sde)](sde)
        self.condition = lambda t: 1
        if isinstance(sde, sk.VESDE):  # log(sigma_max / sigma_min) of a rounded ratio
            self.condition = lambda t: max(1, 1 / _ratio(sde))
        if isinstance(sde, sk.TableSDE):
            self.condition = table(sde).condition

    def __call__(self, t):
        log_alpha, variance, f, g2 = self.at(mp.mpf(t))
        return {
            "alpha": mp.exp(log_alpha),
            "sigma": mp.sqrt(variance),
            "log_snr": 2 * log_alpha - mp.log(variance),
            "f": f,
            "g2": g2,
            "diffusion": mp.sqrt(g2),
            "condition": self.condition(t),
        }


@functools.cache
def exact(sde):
    return Exact(sde)


def times(sde, dtype=F64, n=24):
    """Both ends, log-spaced from t_min and towards t_max, and evenly; on a table its nodes and their neighbours."""
    low, high = sde.t_min, sde.t_max
    share, near = torch.linspace(0, 1, n, dtype=F64), torch.logspace(-15, 0, n, dtype=F64)
    t = [low + (high - low) * share, low * (high / low) ** share, low * (1 + near), high - (high - low) * near]
    t += [sde.time_at(torch.linspace(-1e-3, 1e-3, 5, dtype=F64))]
    if isinstance(sde, sk.TableSDE):
        nodes = sde.times[torch.unique(torch.linspace(0, len(sde.times) - 1, 9).long())]
        t += [nodes, nodes * (1 + 2.0**-22), nodes * (1 - 2.0**-22), nodes + 0.5]
    t = torch.cat(t).clamp(low, high).to(dtype)
    # a float32 end is the last one within the domain
    return torch.unique(t[(t.double() >= low) & (t.double() <= high)])


def worst(found, wanted, unit):
    """The largest error of a column, in units of a bound, and where."""
    ratios = [float(abs(mp.mpf(a) - b) / u) for a, b, u in zip(found.tolist(), wanted, unit, strict=True)]
    return max(zip(ratios, range(len(ratios)), strict=True))


def spacing32(value):
    return mp.mpf(float(np.spacing(np.float32(abs(value)))))


# Schedules


@every
def test_alpha_and_sigma_in_float32_are_within_8_ulp(sde):
    """Of the float32 time that was given, over the whole domain; diffusion too, and f in its own scale."""
    t = times(sde, F32)
    known = [exact(sde)(v) for v in t.tolist()]
    for name, found in (("alpha", sde.alpha(t)), ("sigma", sde.sigma(t)), ("diffusion", sde.diffusion(t))):
        assert found.dtype == F32
        wanted = [k[name] for k in known]
        error, i = worst(found, wanted, [8 * spacing32(v) for v in wanted])
        assert error <= 1, f"{name} at t={float(t[i])}: {8 * error:.3g} ulp"
    wanted = [k["log_snr"] for k in known]
    error, i = worst(sde.log_snr(t), wanted, [8 * mp.mpf(2) ** -23 * max(1, abs(v)) for v in wanted])
    assert error <= 1, f"log_snr at t={float(t[i])}"
    wanted = [k["f"] for k in known]
    drift = sde.drift(torch.ones(len(t)), t)
    error, i = worst(drift, wanted, [8 * mp.mpf(2) ** -23 * max(abs(v), 1 / mp.mpf(sde.t_max)) for v in wanted])
    assert error <= 1, f"f at t={float(t[i])}"


@every
def test_schedules_in_float64_are_within_a_few_ulp_of_their_condition(sde):
    """alpha, sigma: 8 eps (1 + |log alpha|), the rounding of an exponent; log_snr: 8 eps max(1, |log_snr|).

    g^2 and f: 16 eps times their condition, f in the scale 1 / t_max where it crosses zero. LinearSDE: 1e-10, as it
    says.
    """
    numeric = isinstance(sde, sk.LinearSDE)
    t = times(sde)
    known = [exact(sde)(v) for v in t.tolist()]
    level = sde.level(t, torch.zeros(len(t)))
    bounds = {
        "alpha": lambda k: 8 * EPS * (1 - mp.log(k["alpha"])) * k["alpha"],
        "sigma": lambda k: 8 * EPS * (1 - mp.log(k["alpha"])) * k["sigma"],
        "log_snr": lambda k: 8 * EPS * max(1, abs(k["log_snr"])),
        "f": lambda k: 16 * EPS * k["condition"] * max(abs(k["f"]), 1 / mp.mpf(sde.t_max)),
        "g2": lambda k: 16 * EPS * k["condition"] * k["g2"],
    }
    if numeric:
        bounds |= {name: lambda k, name=name: 1e-10 * k[name] for name in ("alpha", "sigma")}
        bounds["log_snr"] = lambda k: 2e-10
    for name, bound in bounds.items():
        error, i = worst(getattr(level, name), [k[name] for k in known], [bound(k) for k in known])
        assert error <= 1, f"{name} at t={float(t[i])}: {error:.3g} of the bound"
    assert torch.equal(sde.diffusion(t) ** 2 - level.g2 <= 2 * EPS * level.g2, torch.ones(len(t), dtype=torch.bool))


@every
def test_the_time_of_a_log_snr_is_its_inverse_to_the_last_bits(sde):
    """log_snr(time_at(l)) is l within 8 eps max(1, |l|), and what two units in the last place of the time change."""
    ends = sde.log_snr(torch.tensor([sde.t_max, sde.t_min], dtype=F64)).tolist()
    snr = torch.cat([torch.linspace(*ends, 2001, dtype=F64), ends[1] - torch.logspace(-9, 0, 50, dtype=F64)])
    snr = snr.clamp(*ends)
    t = sde.time_at(snr)
    ulp = torch.from_numpy(np.spacing(t.numpy()))
    near = [(t + k * ulp).clamp(sde.t_min, sde.t_max) for k in (-2, 2)]
    reach = torch.stack([(sde.log_snr(v) - sde.log_snr(t)).abs() for v in near]).amax(0)
    excess = (sde.log_snr(t) - snr).abs() - reach
    share = excess / (8 * EPS * snr.abs().clamp(min=1.0))
    if isinstance(sde, sk.LinearSDE):
        share = share / 8  # log alpha and log sigma of its interpolant
    assert float(share.max()) <= 1, f"at log_snr={float(snr[share.argmax()])}"


@every
def test_kernels_between_close_times_lose_no_more_than_the_gap_in_log_snr(sde):
    """Scale to 16 eps (1 + |log alpha|), std^2 to 16 eps (1 + max(1, |log_snr|) / gap), for t - s from 1e-1 to 1e-12 t.

    So is the posterior: its mean's two coefficients and its std.
    """
    x, x0 = torch.tensor([[1.0, 0.0]], dtype=F64), torch.tensor([[0.0, 1.0]], dtype=F64)
    numeric = isinstance(sde, sk.LinearSDE)
    for u in (1e-3, 0.3, 0.999):
        t = sde.t_min * (sde.t_max / sde.t_min) ** u
        for share in (0.5, 1e-1, 1e-3, 1e-6, 1e-9, 1e-12):
            s = max(sde.t_min, t * (1 - share))
            at_s, at_t = exact(sde)(s), exact(sde)(t)
            scale, gap = at_t["alpha"] / at_s["alpha"], at_s["log_snr"] - at_t["log_snr"]
            kept = (scale * at_s["sigma"] / at_t["sigma"]) ** 2  # exp(-gap)
            std = at_t["sigma"] * mp.sqrt(1 - kept)
            size = max(1, abs(at_t["log_snr"]), abs(at_s["log_snr"]))
            bound = 16 * EPS * (1 + size / gap) if not numeric else 1e-10 * (1 + size / gap)
            digits = 16 * EPS * (1 - mp.log(at_t["alpha"])) if not numeric else 2e-10
            a, b = (float(v) for v in sde.transition(s, t))
            where = f"s={s}, t={t}"
            assert abs(a - scale) <= digits * scale, where
            if bound < 1:
                assert abs(b**2 - std**2) <= (bound + 2 * digits) * std**2, where
            else:
                assert 0 <= b**2 <= (1 + bound) * std**2, where
            mean, spread = sde.posterior(x, x0, t, s)
            of_x, of_x0 = kept / scale, at_s["alpha"] * (1 - kept)
            # exp(-gap) underflows where the coefficient, exp(-gap) / scale, is below 1e-150
            assert abs(float(mean[0, 0]) - of_x) <= (digits + 16 * EPS * size) * of_x + 1e-150, where
            assert abs(float(mean[0, 1]) - of_x0) <= (bound + digits) * of_x0, where
            wanted = at_s["sigma"] ** 2 * (1 - kept)
            assert abs(float(spread) ** 2 - wanted) <= (bound + 2 * digits) * wanted, where


# Half precision


def dense(sde):
    """A table's own times; else 100 log-spaced and 100 even ones, and both ends."""
    if isinstance(sde, sk.TableSDE):
        return sde.times
    share = torch.linspace(0, 1, 100, dtype=F64)
    spread = [sde.t_min + (sde.t_max - sde.t_min) * share, sde.t_min * (sde.t_max / sde.t_min) ** share]
    return torch.unique(torch.cat(spread).clamp(sde.t_min, sde.t_max))


@normal
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_noise_alone_has_its_deviation_in_half_precision(sde, dtype):
    """perturb(0, t, 1) is sigma within 1 %, for a time a row and for one number: no time gets none."""
    t = dense(sde)
    zero, one = torch.zeros(len(t), 1, dtype=dtype), torch.ones(len(t), 1, dtype=dtype)
    found = sde.perturb(zero, t, one)[:, 0].double()
    torch.testing.assert_close(found, sde.sigma(t), rtol=0.01, atol=0)
    some = torch.unique(torch.linspace(0, len(t) - 1, 50).long())
    single = torch.cat([sde.perturb(zero[:1], v, one[:1]) for v in t[some].tolist()])[:, 0].double()
    assert torch.equal(single, found[some])


@normal
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_data_in_half_precision_get_their_noise_with_one_rounding(sde, dtype):
    """x_t of data in [-1, 1] is alpha x0 + sigma eps rounded once, for a time a row and for one number.

    So the noise in it has the deviation sigma within 1 %, by regression and in the mean square, wherever x_t can hold
    it: sigma at least 2.5 of its units in the last place. DDPM's table is there at each of its 1000 times.
    """
    t = dense(sde)
    g = torch.Generator().manual_seed(0)
    x0 = (2 * torch.rand(6000, generator=g, dtype=F64) - 1).to(dtype).expand(len(t), -1)
    eps = torch.randn(6000, generator=g, dtype=F64).to(dtype).expand(len(t), -1)
    signal, noise = sde.alpha(t)[:, None] * x0.double(), sde.sigma(t)[:, None] * eps.double()
    found = sde.perturb(x0, t, eps)
    assert found.dtype == dtype
    # half a unit of the sum, and float32's rounding of the terms, which may cancel
    unit = torch.finfo(dtype).eps * (signal + noise).abs() + torch.finfo(dtype).smallest_normal
    bound = 0.501 * unit + 2.0**-22 * (signal.abs() + noise.abs())
    assert bool(((found.double() - signal - noise).abs() <= bound).all())
    for i in torch.linspace(0, len(t) - 1, 20).long().tolist():
        one = sde.perturb(x0[i], float(t[i]), eps[i])
        assert bool(((one.double() - signal[i] - noise[i]).abs() <= bound[i]).all())
    entered = found.double() - signal
    slope = (entered * noise).mean(1) / (noise * noise).mean(1)
    size = ((entered * entered).mean(1) / (noise * noise).mean(1)).sqrt()
    holds = sde.sigma(t) >= 1.25 * torch.finfo(dtype).eps
    assert bool(holds.all()) or not isinstance(sde, sk.DiscreteVPSDE)
    for ratio in (slope, size):
        assert float((ratio[holds] - 1).abs().max()) <= 0.01


@pytest.mark.parametrize(("row", "sde"), rows_and_sdes())
def test_a_network_in_half_precision_is_told_distinct_labels_in_float32(row, sde):
    """999 and 1000 are one number in bfloat16: every time of a table, and 400 of any other process, stay apart."""
    seen = []

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))

        def forward(self, x, label):
            seen.append(label)
            return self.weight * x

    t = sde.times if isinstance(sde, sk.TableSDE) else torch.linspace(sde.t_min, sde.t_max, 400, dtype=F64)
    model = sk.models.Parametrised(Network(), sde, row)
    x = torch.zeros(len(t), 1, dtype=torch.bfloat16)
    model(x, t)
    model(x[:1], float(t[-1]))
    assert [label.dtype for label in seen] == [F32, F32]
    assert len(torch.unique(seen[0])) == len(t)
    assert torch.equal(seen[0][-1:], seen[1])


# Finite samples for every N

COUNTS = [*range(1, 51), 100, 1000, 10_000]
GRIDS = {**sk.grids.NAMES, **sk.grids.TABLE_NAMES}


def grids_of(sde):
    return GRIDS if isinstance(sde, sk.TableSDE) else sk.grids.NAMES


@functools.cache
def run_levels(sde, grid, n, denoise):
    """The levels of a run; None where the table has fewer than the grid asks for, which the error says."""
    if grid in sk.grids.TABLE_NAMES and n > (most := len(sde.times) - (not denoise)):
        with pytest.raises(sk.errors.InvalidArgument, match=f"grid: steps must be at most {most}, got steps={n}"):
            sk.grids.levels(sde, grid, n, denoise=denoise)
        return None
    return sk.grids.levels(sde, grid, n, denoise=denoise)


@every
@pytest.mark.parametrize(
    "counts", [pytest.param((1, 2, 8, 50, 1000), id="few"), pytest.param(COUNTS, id="every", marks=pytest.mark.slow)]
)
def test_grids_fall_strictly_for_every_n(sde, counts):
    """n from 1 to 50, 100, 1000 and 10000, with the clean level and without, in time and in log-SNR."""
    if isinstance(sde, sk.LinearSDE):
        counts = [n for n in counts if n <= 50]  # its times are found by bisection of SciPy's interpolant
    for grid in grids_of(sde):
        for n in counts:
            for denoise in (True, False):
                run = run_levels(sde, grid, n, denoise)
                if run is None:
                    continue
                t = [level.t for level in run]
                snr = [level.log_snr for level in run]
                assert len(run) == n + 1
                assert all(a > b for a, b in itertools.pairwise(t)), f"{grid}, n={n}"
                assert all(a < b for a, b in itertools.pairwise(snr)), f"{grid}, n={n}"
                assert run[-1].clean == denoise


X_T = torch.linspace(-2, 2, 16, dtype=F64).reshape(2, 8)


def check_finite(solver, sde, counts, dtypes=((True, F64), (False, F32))):
    """Every grid's run of n steps on the exact model ends in finite numbers of its dtype."""
    model = gaussians(sde)
    for grid in grids_of(sde):
        for n in counts:
            for denoise, dtype in dtypes:
                run = run_levels(sde, grid, n, denoise)
                if run is None:
                    continue
                state, noise = sk.solvers.State((run[0].sigma * X_T).to(dtype), run[0]), sk.Noise(0)
                for level in run[1:]:
                    state = solver.step(model, state, level, noise)
                x = state.x
                assert x.dtype == dtype
                assert bool(torch.isfinite(x).all()), f"{grid}, n={n}, denoise={denoise}, {dtype}"


@pytest.mark.parametrize(("sde", "solver"), pairs())
def test_samples_are_finite_for_few_steps_and_many(sde, solver):
    """Every grid, with the clean level in float64 and without in float32; an adaptive method at a coarse tolerance."""
    if not solver.adaptive:
        check_finite(solver, sde, (1, 2, 7))
    else:
        drawn = isinstance(solver, sk.solvers.AdaptiveSDE)
        coarse = {"tol": 0.2} if drawn else {"method": dataclasses.replace(solver.method, rtol=1e-2, atol=1e-2)}
        check_finite(dataclasses.replace(solver, **coarse), sde, (1, 2), [(True, F64)])


@pytest.mark.slow
@normal
@pytest.mark.parametrize("solver", solvers())
def test_samples_are_finite_for_every_n(sde, solver):
    """N from 1 to 50 and 100, on every grid, with the clean level and without, in both dtypes."""
    both = [(denoise, dtype) for denoise in (True, False) for dtype in (F32, F64)]
    if not solver.adaptive:
        check_finite(solver, sde, range(1, 51), both[:1])
        check_finite(solver, sde, (1, 2, 5, 17, 50), both[1:])
        check_finite(solver, sde, (100,), both[1:3])
    else:  # a new start in every interval: the count matters little
        check_finite(solver, sde, (1, 2, 3, 10, 50), both[:2])


@pytest.mark.slow
@normal
@pytest.mark.parametrize("solver", fixed_grid_solvers())
@pytest.mark.parametrize("n", [1000, 10_000])
def test_samples_are_finite_for_very_many_steps(sde, solver, n):
    """On the default grid, in float32 to the clean level."""
    x_T = (float(sde.sigma(sde.t_max)) * X_T).float()
    states = sk.trajectory(gaussians(sde), solver, x_T, "log_snr", sk.Noise(0), steps=n)
    assert bool(torch.isfinite(last(states).x).all())


# Gradients


def early(sde):
    """Three times within the domain, none a node of a table."""
    u = torch.tensor([0.03, 0.31, 0.77], dtype=F64)
    return (sde.t_min * (sde.t_max / sde.t_min) ** u).requires_grad_()


@normal
@pytest.mark.parametrize("name", ["alpha", "sigma", "log_snr", "diffusion"])
def test_schedules_are_differentiable_twice_in_time(sde, name):
    """gradcheck and gradgradcheck; LinearSDE's alpha and sigma, which SciPy finds, refuse a time with gradients."""
    t, method = early(sde), getattr(sde, name)
    if isinstance(sde, sk.LinearSDE) and name != "diffusion":
        with pytest.raises(sk.errors.InvalidType, match="t must not require gradients"):
            method(t)
        return
    assert gradcheck(lambda v: method(v) + 0 * v, (t,))  # a constant, too, has a gradient: 0
    with torch.random.fork_rng(devices=[]):  # its gradients of gradients are drawn
        torch.manual_seed(0)
        assert gradgradcheck(lambda v: method(v) + 0 * v, (t,))


@normal
def test_drift_and_perturb_are_differentiable_in_data_and_time(sde):
    """For a time a row, and for one time () for all of them: its gradient is the sum of theirs."""
    x, eps = (
        torch.tensor([[1.0, -2.0], [0.5, 3.0], [2.0, 0.1]], dtype=F64).requires_grad_(),
        torch.ones(3, 2, dtype=F64),
    )
    rows, single = early(sde), early(sde)[1].detach().requires_grad_()
    maps = [sde.drift, lambda x, t: sde.perturb(x, t, eps), lambda x, t: sde.posterior(x, eps, t, sde.t_min)[0]]
    if isinstance(sde, sk.LinearSDE):
        for t in (rows, single):
            with pytest.raises(sk.errors.InvalidType, match="t must not require gradients"):
                sde.drift(x, t)
        rows, single = rows.detach(), single.detach()
    for function in maps:
        assert gradcheck(function, (x, rows))
        assert gradcheck(function, (x, single))


def bent(sde, theta):
    """A smooth model that is no distribution's, with two parameters."""

    def eps(x, t):
        return torch.tanh(theta[0] * x / (1 + sde.t_max)) + theta[1] * x.flip(1) / (1 + sde.sigma(sde.t_max))

    return sk.models.FromFunction(sde, eps=eps)


@pytest.mark.parametrize(("sde", "solver"), pairs(fixed_grid_solvers))
def test_a_sample_is_differentiable_in_its_start_and_in_the_model(sde, solver):
    """d x / d x_T and d x / d theta through three steps, with keyed noise where the solver draws."""
    x_T = (float(sde.sigma(sde.t_max)) * X_T[:, ::4]).requires_grad_()
    theta = torch.tensor([0.7, 0.3], dtype=F64, requires_grad=True)

    def end(x, theta):
        states = sk.trajectory(bent(sde, theta), solver, x, "log_snr", sk.KeyedNoise(0), steps=3)
        return last(states).x / sde.sigma(sde.t_max)

    assert gradcheck(end, (x_T, theta), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ode_methods())
def test_the_flow_is_differentiable_through_the_ode_methods(method):
    """log_likelihood runs without gradients by contract, so that what is checked is ``advance`` on the flow itself.

    torchdiffeq's with fixed steps: its adaptive ones differentiate the sizes of their steps, too. SciPy's integrate on
    the host in NumPy, and their result has no gradient.
    """
    sde = sk.VPSDE()
    if isinstance(method, sk.ode.Dopri5 | sk.ode.Dopri8):
        method = type(method)(rtol=1e-7, atol=1e-7)
    if isinstance(method, sk.ode.TorchDiffEq):
        method = sk.ode.TorchDiffEq("rk4", options={"step_size": 0.05})
    x = X_T[:, ::4].clone().requires_grad_()
    theta = torch.tensor([0.7, 0.3], dtype=F64, requires_grad=True)

    def end(x, theta):
        model = bent(sde, theta)
        return method.advance(lambda x, t: model(x, t).velocity, x, 0.5, 0.4)[0]

    if isinstance(method, sk.ode.SciPy):
        assert not end(x, theta).requires_grad
        return
    assert gradcheck(end, (x, theta), rtol=1e-4, atol=1e-6)


def test_a_likelihood_has_no_gradient_by_contract():
    """It integrates without a graph, whatever its input asks for."""
    x = X_T[:, ::4].clone().requires_grad_()
    model = bent(sk.VPSDE(), torch.tensor([0.7, 0.3], dtype=F64, requires_grad=True))
    found = sk.log_likelihood(model, x, method=sk.ode.RK4(4))
    assert not found.log_prob.requires_grad
