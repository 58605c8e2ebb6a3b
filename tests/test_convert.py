"""Conversion: one score function on every Gaussian process, against exact models, and whatever the schedule."""

import copy
import functools
import itertools
import math
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import MEANS, VARIANCES, gaussians, last, mixture, moments
from subjects import rows_and_sdes, sdes
from torch import nn

import sdekit as sk
from sdekit.errors import InvalidArgument, InvalidType, PriorWarning, ScheduleError, UnsupportedCombination
from sdekit.models import Empirical, Epsilon, FromFunction, LearnedRange, Parametrised, PosteriorMean
from sdekit.models.convert import Change, Converted
from sdekit.types import schedule

F32, F64 = torch.float32, torch.float64
PROCESSES = [p.values[0] for p in sdes()]
VIEWS = ("x0", "eps", "score", "velocity")
BOUND = 1e-12

each_sde = pytest.mark.parametrize("sde", sdes())


class Wave(nn.Module):
    """A network of its input and of its label, linear in neither, that keeps the labels it was told."""

    def __init__(self, dtype=F64, channels=1):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.02, dtype=dtype))
        self.dropout = nn.Dropout(0.5)
        self.channels = channels
        self.labels = []

    def forward(self, x, label, shift=0.0):
        self.labels.append(label)
        label = label.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
        out = torch.sin(self.weight * x + 0.1 * label) + (shift.to(x)[:, None] if torch.is_tensor(shift) else shift)
        return out.repeat_interleave(self.channels, 1)


def randn(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def even(sde, n=6):
    """Times from t_max to t_min, evenly in log-SNR; of a table, its levels."""
    if isinstance(sde, sk.TableSDE):
        return sde.times[torch.linspace(0, len(sde.times) - 1, n, dtype=F64).long()].flip(0)
    return sk.grids.log_snr(sde, n - 1)


def noisy(sde, t):
    """A row of three coordinates at each of the times."""
    return sde.perturb(0.5 * randn(len(t), 3), t, randn(len(t), 3, seed=1))


def error(one, other):
    """How far two predictions at one x are apart: the largest of their views, each in its unit, |x| / sigma for eps."""
    with torch.no_grad():
        level, size = one.level, one.x.abs().amax(1, keepdim=True)
        flow = 1.0 / (abs(level.f) + level.g2 / level.sigma**2)
        units = (level.alpha, level.sigma, level.sigma**2, flow)
        gaps = [(getattr(one, view) - getattr(other, view)).abs() for view in VIEWS]
        return max(float((gap * unit / size).max()) for gap, unit in zip(gaps, units, strict=True))


class Once:
    """A change of level that is made once a level and shared by the models of a test."""

    def __init__(self, change):
        self.change = change
        self.known = {}

    def __call__(self, level):
        if id(level) not in self.known:
            self.known[id(level)] = (level, self.change(level))
        return self.known[id(level)][1]


@functools.cache
def pair(i, j):
    """Process i and back by way of process j: two conversions, levels at which to ask, of rows and of all, and x."""
    there = sk.convert(gaussians(PROCESSES[i]), PROCESSES[j])
    back = sk.convert(there, PROCESSES[i])
    t = even(back.sde)
    x = noisy(back.sde, t)
    asked = [(sde.level(t, x), sde.levels(t[2:3])[0]) for sde in (PROCESSES[i], back.sde)]
    return (there.sde, Once(there.change)), (back.sde, Once(back.change)), list(zip(*asked, strict=True)), x


def pairs(sde):
    i = next(i for i, process in enumerate(PROCESSES) if process is sde or process == sde)
    return [pair(i, j) for j in range(len(PROCESSES))]


# The round trip, and the truth


@pytest.mark.parametrize(("row", "sde"), rows_and_sdes())
def test_a_model_taken_to_any_process_and_back_is_the_same_model(row, sde):
    """Every view to 1e-12 |x| / sigma, at times a row and at one time, from end to end of the part in common."""
    model = Parametrised(Wave(), sde, row)
    for (there, one), (here, other), levels, x in pairs(sde):
        back = Converted(Converted(model, there, one), here, other)
        for own, level in levels:
            assert error(model(x, own), back(x, level)) < BOUND, there


def affine_in_time(sde):
    """The score of data N(0, 1/4), from a function that is told the time alone."""
    return FromFunction(
        sde, score=lambda x, t: -x / (0.25 * torch.as_tensor(sde.alpha(t)) ** 2 + torch.as_tensor(sde.sigma(t)) ** 2)
    )


EXACT = {
    "mixture": lambda sde: mixture(sde, event=(3,)),
    "data": lambda sde: Empirical(sde, randn(20, 3, seed=5)),
    "function of the time": affine_in_time,
}

each_exact = pytest.mark.parametrize("make", EXACT.values(), ids=EXACT)


@each_exact
@each_sde
def test_the_converted_score_is_the_exact_score_of_the_target(sde, make):
    """A mixture with full covariances, a finite data set and a function of time: made on the source, on the target."""
    source = make(sde)
    for (there, change), _, _, _ in pairs(sde):
        converted, truth = Converted(source, there, change), make(there)
        t = even(there)
        x = noisy(there, t)
        for level in (there.level(t, x), there.levels(t[3:4])[0]):
            assert error(truth(x, level), converted(x, level)) < 1e-11, there


def at(sde, t):
    """The level of a process at the times, with the end of the domain for those outside."""
    return sde._level(torch.as_tensor(t).clamp(sde.t_min, sde.t_max))


SLIPS = {
    "no scale": lambda here, there, k: (there, torch.ones_like(k)),
    "the scale's inverse": lambda here, there, k: (there, 1.0 / k),
    "the scale of x0 squared": lambda here, there, k: (there, k * k),
    "the target's time": lambda here, there, k: (at(there.sde, here.t), k),
    "half the log-SNR": lambda here, there, k: (at(there.sde, there.sde.time_at(0.5 * here.log_snr)), k),
    "a ten-thousandth of log-SNR": lambda here, there, k: (at(there.sde, there.sde.time_at(here.log_snr - 1e-4)), k),
}


@pytest.mark.parametrize("slip", SLIPS.values(), ids=SLIPS)
def test_a_wrong_scale_or_a_wrong_time_is_seen(slip):
    """The negative controls of the two tests above: each slip fails both, by a thousand times their bounds or more."""
    source, (there, change), (here, other), levels, x = sk.VPSDE(), *pairs(sk.VPSDE())[PROCESSES.index(sk.VESDE())]

    def slipped(level):
        return slip(level, *change(level))

    model = Parametrised(Wave(), source, Epsilon())
    back = Converted(Converted(model, there, slipped), here, other)
    assert error(model(x, levels[0][0]), back(x, levels[0][1])) > 1e3 * BOUND
    exact = mixture(source, event=(3,))
    y = noisy(there, even(there))
    level = there.level(even(there), y)
    assert error(mixture(there, event=(3,))(y, level), Converted(exact, there, slipped)(y, level)) > 1e3 * 1e-11


# Any schedule


@st.composite
def processes(draw):
    """A process with a schedule of its own."""
    number = functools.partial(st.floats, allow_nan=False)
    kind = draw(st.sampled_from([sk.VPSDE, sk.SubVPSDE, sk.VESDE, sk.CosineSDE, sk.FlowSDE, sk.EDMSDE, "DDPM", "NCSN"]))
    if kind in (sk.VPSDE, sk.SubVPSDE):
        low = draw(number(0.0, 2.0))
        return kind(low, low + draw(number(0.5, 30.0)), t_min=draw(number(1e-4, 1e-2)))
    if kind is sk.VESDE:
        low = draw(number(1e-3, 0.3))
        return kind(low, low * draw(number(10.0, 1e5)))
    if kind is sk.CosineSDE:
        return kind(draw(number(0.0, 0.3)), draw(number(1e-4, 0.1)), draw(number(0.7, 0.999)))
    if kind is sk.FlowSDE:
        return kind(draw(number(1e-4, 0.2)), draw(number(0.6, 0.9999)))
    if kind is sk.EDMSDE:
        return kind(draw(number(1e-3, 0.3)), draw(number(2.0, 1000.0)))
    n = draw(st.integers(2, 12))
    if kind == "DDPM":
        return sk.DiscreteVPSDE(draw(st.lists(number(1e-3, 0.9), min_size=n, max_size=n)))
    steps = draw(st.lists(number(1.05, 3.0), min_size=n - 1, max_size=n - 1))
    return sk.DiscreteVESDE([0.02 * math.prod(steps[:i]) for i in range(n)])


def reach(sde):
    """The log-SNR at t_max and at t_min."""
    return float(sde.log_snr(sde.t_max)), float(sde.log_snr(sde.t_min))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(processes(), processes())
def test_whatever_the_schedules(source, target):
    """The part in common is in the source's range and as large as can be; round trip, truth, and else an error."""
    (low, high), (least, most) = reach(target), reach(source)
    levels = target.log_snr(target.times) if isinstance(target, sk.TableSDE) else None
    if levels is None:
        possible = max(low, least) < min(high, most) - 1e-6
    else:
        possible = int(((levels >= least) & (levels <= most)).sum()) >= 2
    model = Parametrised(Wave(), source, sk.models.VPrediction())
    if not possible:
        with pytest.raises(InvalidArgument, match="convert: sde must share a range of log-SNR"):
            sk.convert(model, target)
        return
    converted = sk.convert(model, target)
    found = reach(converted.sde)
    if levels is None:
        wanted = max(low, least), min(high, most)
    else:
        inside = levels[(levels >= least) & (levels <= most)]
        wanted = float(inside[-1]), float(inside[0])
    assert found == pytest.approx(wanted, abs=1e-8)
    t = even(converted.sde, 4)
    x = noisy(converted.sde, t)
    truth = mixture(converted.sde, event=(3,))
    assert error(truth(x, t), sk.convert(mixture(source, event=(3,)), target)(x, t)) < 1e-11
    try:
        back = sk.convert(converted, source)
    except InvalidArgument:
        assert isinstance(source, sk.TableSDE)  # fewer than two of its levels lie there
        return
    t = even(back.sde, 4)
    x = noisy(back.sde, t)
    assert error(model(x, t), back(x, t)) < BOUND


# Runs


@pytest.mark.parametrize(
    ("steps", "smooth", "table"), [(32, 2e-4, 5e-3), pytest.param(600, 1e-8, 1e-5, marks=pytest.mark.slow)]
)
def test_one_models_probability_flow_ends_in_the_same_points_under_every_process(steps, smooth, table):
    """From one noise to the same data in x / alpha, by RK4 in t; a table's slopes of f and g^2 jump at its levels."""
    ends = [reach(sde) for sde in PROCESSES]
    low, high = max(low for low, _ in ends) + 1e-9, min(high for _, high in ends) - 1e-9
    model = mixture(sk.EDMSDE(t_min=1e-4, t_max=1e4))
    method, z = sk.solvers.ProbabilityFlow(sk.ode.RK4()), randn(6, 2)
    found = []
    for sde in PROCESSES:
        converted = sk.convert(model, sde)
        assert converted.sde == sde
        t = sde.time_at(torch.linspace(low, high, steps + 1, dtype=F64))
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        run = sk.trajectory(converted, method, sigma[0] * z, t, sk.Noise(0), denoise=False)
        found.append(last(run).x / alpha[-1])
    for sde, x in zip(PROCESSES, found, strict=True):
        assert float((x - found[0]).abs().max()) < (table if isinstance(sde, sk.TableSDE) else smooth), sde
    assert float((found[0][0] - found[0][1]).abs().max()) > 0.1


def test_a_ddpm_model_is_sampled_by_ncsns_annealed_langevin():
    """Exact moments of the chain against its recursion in NumPy, on DDPM's model taken to NCSN's table of sigmas."""
    sigmas = sk.sdes.tables.geometric(12, 0.02, 30.0)
    model = sk.convert(gaussians(sk.VPSDE()), sde=sk.DiscreteVESDE(sigmas))
    assert model.sde == sk.DiscreteVESDE(sigmas)
    steps, rate = 4, 0.2
    grid = model.sde.times.flip(0)
    draws = steps * (len(grid) - 1)
    found = moments(sk.solvers.AnnealedLangevin(rate, steps), model.sde, grid, draws, model=model)
    m, v = MEANS.numpy(), VARIANCES.numpy()
    mean, variance = m, v + float(sigmas[-1]) ** 2
    for s in np.repeat(sigmas.flip(0)[1:].numpy(), steps):
        h = rate * s * s
        pull = 1 - h / (v + s * s)
        mean, variance = m + pull * (mean - m), pull**2 * variance + 2 * h
    np.testing.assert_allclose(found[0].numpy(), mean, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found[1].numpy(), variance, rtol=1e-9)


@pytest.mark.parametrize(("solver", "draws"), [(sk.solvers.Ancestral(), 1), (sk.solvers.DDIM(), 0)], ids=repr)
def test_an_ncsn_model_is_sampled_by_ddpms_solvers(solver, draws):
    """Ho et al.'s algorithm 2 and DDIM on NCSN's model taken to VP, and to DDPM's table: means and variances tend to
    the data's, with an error that halves as the steps double."""
    for target in (sk.VPSDE(), sk.DiscreteVPSDE()):
        model = sk.convert(gaussians(sk.VESDE()), sde=target)
        gaps = []
        for steps in (100, 200):
            grid = sk.grids.log_snr(model.sde, steps)
            mean, variance = moments(solver, model.sde, grid, draws * steps, model=model)
            alpha, sigma = model.sde.alpha(grid[-1]), model.sde.sigma(grid[-1])
            true = alpha**2 * VARIANCES + sigma**2
            gaps.append(((variance - true) / true).norm() + ((mean - alpha * MEANS) / true.sqrt()).norm())
        assert float(gaps[1]) < 0.6 * float(gaps[0])
        assert float(gaps[1]) < 0.15


def rescaled(states):
    return [state.x / state.level.alpha for state in states]


@pytest.mark.parametrize(
    "solver",
    [sk.solvers.DDIM(), sk.solvers.Ancestral(), sk.solvers.Ancestral("learned"), sk.solvers.DPMSolver()],
    ids=repr,
)
def test_a_run_is_the_source_models_run_in_other_units(solver):
    """State by state on the same log-SNRs, with the same draws, to 1e-11; the learned variance is in the units, too."""
    table = sk.DiscreteVPSDE(sk.sdes.tables.linear(40, 1e-3, 0.3))
    model = Parametrised(Wave(channels=2), table, Epsilon(label="index"), LearnedRange())
    converted = sk.convert(model, sk.EDMSDE(0.001, 200.0))
    times = table.times.flip(0)
    model.requires_grad_(False)
    x = randn(4, 3)
    draws = sk.KeyedNoise(3)
    one = rescaled(sk.trajectory(model, solver, x, times, draws, denoise=False))
    there = converted.sde.time_at(table.log_snr(times))
    y = x / table.alpha(times[0])
    numbered = {float(level.t): float(time) for level, time in zip(converted.sde.levels(there), times, strict=True)}

    def same(x, t, s, stream="path"):  # the draws of the table's intervals
        return draws(x, table.levels(torch.tensor([numbered[t.t]]))[0], table.levels(torch.tensor([numbered[s.t]]))[0])

    other = rescaled(sk.trajectory(converted, solver, y, there, same, denoise=False))
    for a, b in zip(one, other, strict=True):
        assert float((a - b).abs().max()) < 1e-11 * float(a.abs().max())


def test_a_likelihood_is_the_targets():
    """log p on EDM of a mixture made on VP is the closed form's, with the law at t_max for a prior."""
    converted = sk.convert(mixture(sk.VPSDE()), sk.EDMSDE())
    truth = mixture(converted.sde)
    x = truth.sample(1, sk.Noise(0), t=converted.sde.t_min)
    found = sk.log_likelihood(converted, x, tol=1e-5, prior=lambda y: truth.log_prob(y, converted.sde.t_max))
    torch.testing.assert_close(found.log_prob, truth.log_prob(x, converted.sde.t_min), rtol=0, atol=1e-3)


# What the process of the result is


def test_a_target_that_reaches_further_keeps_what_the_source_has():
    """NCSN's 0.01 to 50 on VP: its own t_min and t_max, where sigma / alpha is that, and grids, priors and errors."""
    model = sk.convert(sk.ncsn(Wave()), sde=sk.VPSDE())
    sde = model.sde
    assert math.exp(-0.5 * sde.log_snr(sde.t_max)) == pytest.approx(50.0)
    assert math.exp(-0.5 * sde.log_snr(sde.t_min)) == pytest.approx(float(sk.VESDE().sigma(sk.VESDE().t_min)))
    assert sde == sk.VPSDE(t_min=sde.t_min, t_max=sde.t_max)
    assert repr(sde) == f"VPSDE(beta_min=0.1, beta_max=20.0, t_min={sde.t_min}, t_max={sde.t_max})"
    assert sk.sample(model, (2, 3), steps=4).isfinite().all()
    with pytest.raises(InvalidArgument, match=r"VPSDE: t must lie within \[0.00091\d*, 0.88\d*\], got 1"):
        model(randn(1, 3), 1.0)
    with pytest.raises(ScheduleError, match="times must lie within VPSDE's"):
        sk.sample(model, (2, 3), grid=[1.0, 0.5])


def test_a_target_within_reach_is_kept_as_it_is():
    """VE's 0.01 to 50 lies within VP's; and a source's own process within its own."""
    for source, target in [(sk.VPSDE(), sk.VESDE()), *((sde, sde) for sde in PROCESSES)]:
        assert sk.convert(gaussians(source), target).sde is target


def test_a_table_keeps_its_levels_within():
    """Whole times, labels, spacings, and the level before; between the levels the process it was."""
    table = sk.DiscreteVESDE(sk.sdes.tables.geometric(40, 1e-4, 1e4))
    model = sk.convert(gaussians(sk.VPSDE()), table)
    part, levels = model.sde, table.log_snr(table.times)
    least, most = reach(sk.VPSDE())
    assert torch.equal(part.times, table.times[(levels >= least) & (levels <= most)])
    assert sk.sample(model, (2, 8), grid="trailing", steps=10, dtype=F64).isfinite().all()
    assert part != table
    assert repr(part) == f"{table!r}.restricted({part.t_min:g}, {part.t_max:g})"


def test_the_datas_moments_go_along():
    """So that the start of a run is the source's in other units; a target's own moments come first."""
    known = sk.VPSDE().with_prior(0.3, 0.7)
    prior = sk.convert(gaussians(known), sk.VESDE()).sde.prior
    assert (prior.mean, prior.std) == (0.3, pytest.approx(math.hypot(0.7, 50.0)))
    own = sk.VESDE().with_prior(1.0, 2.0)
    assert sk.convert(gaussians(known), own).sde is own


def test_an_end_at_which_the_data_show_warns():
    """NCSN's end at sigma = 3 is no prior on VP, either."""
    model = sk.convert(gaussians(sk.VESDE(0.01, 3.0)), sk.VPSDE())
    with pytest.warns(PriorWarning, match="the process ends at"):
        sk.sample(model, (2, 8), steps=2)


@each_sde
def test_a_restricted_process_is_the_process_on_a_part(sde):
    """alpha, sigma, drift and time_at to the bit; a table respaced from it is the table respaced."""
    low, high = even(sde, 7)[[5, 2]].tolist()
    part = sde.restricted(low, high)
    assert type(part) is type(sde)
    assert (part.t_min, part.t_max) == (low, high)
    assert part != sde
    t = torch.linspace(low, high, 23, dtype=F64).clamp(low, high)
    for name in ("alpha", "sigma", "log_snr", "diffusion"):
        assert torch.equal(getattr(part, name)(t), getattr(sde, name)(t)), name
    assert float((part.time_at(sde.log_snr(t)) - sde.time_at(sde.log_snr(t))).abs().max()) <= 1e-14 * high
    assert part.time_at(torch.tensor([1e3, -1e3], dtype=F64)).tolist() == [low, high]
    assert sde.restricted(sde.t_min, sde.t_max) == sde
    with pytest.raises(InvalidArgument, match="t must lie within"):
        part.level(sde.t_max, randn(1, 3))
    if isinstance(sde, sk.TableSDE):
        chosen = torch.tensor([0, 3, len(part.times) - 1])
        offset = int(low) - 1
        assert part.respaced(chosen) == sde.respaced(chosen + offset)
        assert torch.equal(part.time_of(torch.linspace(0, 1, 9999, dtype=F64)).unique(), part.times)
        assert part.previous(part.levels(part.times[:1])[0]).clean
        with pytest.raises(InvalidArgument, match="must hold 2 levels"):
            sde.restricted(low + 0.1, low + 0.9)


@dataclass(frozen=True, eq=False, repr=False)
class Stretched(sk.GaussianSDE):
    """A process whose alpha and sigma depend on its own t_max."""

    t_min: float = 0.01
    t_max: float = 0.9

    @schedule
    def alpha(self, t):
        return torch.cos(1.5 * t / self.t_max)

    @schedule
    def sigma(self, t):
        return torch.sin(1.5 * t / self.t_max)


class Fixed(Stretched):
    """A process whose t_max cannot be set."""

    t_max = property(lambda self: 0.9, lambda self, value: None)


def test_a_process_that_would_be_another_one_is_not_restricted():
    """One that reads its own end in alpha, and one whose end is a property."""
    assert sk.convert(gaussians(sk.VPSDE()), Stretched()).sde == Stretched()  # nothing to leave out
    for sde in (Stretched(), Fixed()):
        with pytest.raises(UnsupportedCombination, match="restricted: t_min and t_max must be plain attributes"):
            sk.convert(gaussians(sk.VESDE(0.1, 5.0)), sde)
    for ends in [(0.0, 0.5), (0.5, 0.5), (0.2, 2.0)]:
        with pytest.raises(InvalidArgument, match=r"VPSDE\.restricted"):
            sk.VPSDE().restricted(*ends)


# What the network is told


@pytest.mark.parametrize("target", sdes())
def test_a_table_is_told_its_own_levels(target):
    """Every whole index of DDPM's 1000, in float64, at the times that stand at its levels, by rows and by one time."""
    table = sk.DiscreteVPSDE()
    network = Wave()
    model = sk.convert(Parametrised(network, table, Epsilon(label="index")), target)
    log_snr = table.log_snr(table.times)
    low, high = reach(model.sde)
    inside = (log_snr > low - 1e-11) & (log_snr < high + 1e-11)
    t = model.sde.time_at(log_snr[inside])
    x = randn(len(t), 1)
    model(x, t)
    assert torch.equal(network.labels[-1], table.times[inside] - 1)
    for i in range(0, len(t), 331):
        model(x, float(t[i]))
        assert float(network.labels[-1][0]) == float(table.times[inside][i]) - 1
    between = 0.5 * (log_snr[1:] + log_snr[:-1])
    t = model.sde.time_at(between[(between > low) & (between < high)])
    model(x[: len(t)], t)
    assert bool((network.labels[-1] != network.labels[-1].round()).all())


def test_a_posterior_mean_stands_on_its_own_level():
    """The level before a table's time is that of the table, not the time itself beside a rounded one."""
    table = sk.DiscreteVPSDE(sk.sdes.tables.linear(100, 1e-3, 0.2))
    exact = gaussians(table)
    x0 = exact(randn(100, 8), table.times).x0
    level = table.level(table.times, x0)
    p, q = PosteriorMean().target(level)
    eps = exact(randn(100, 8), table.times).eps
    model = sk.convert(Parametrised(lambda x, label: p * x0 + q * eps, table, PosteriorMean()), sk.VESDE(1e-3, 1000.0))
    x = table.perturb(x0, table.times, eps) / level.alpha
    found = model(x, model.sde.time_at(table.log_snr(table.times)))
    torch.testing.assert_close(found.x0, x0, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.eps, eps, rtol=0, atol=1e-10)


def test_what_belongs_to_a_level_is_computed_once_and_on_the_host(monkeypatch):
    """A run's levels are floats, made at the first of its evaluations; a second run inverts nothing."""
    calls = []
    inverse = sk.VPSDE.time_at
    monkeypatch.setattr(sk.VPSDE, "time_at", lambda self, v: calls.append(v) or inverse(self, v))
    seen = []
    source = mixture(sk.VPSDE())
    source.register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    model = sk.convert(source, sk.VESDE())
    calls.clear()
    times = sk.grids.log_snr(model.sde, 9)
    for _ in range(2):
        sk.sample(model, (3, 2), solver=sk.solvers.Heun(), grid=times)
    assert len(calls) == 10
    assert all(v.device.type == "cpu" for v in calls)
    assert all(isinstance(v, float) for level in seen for v in (level.t, level.alpha, level.sigma, level.f, level.g2))
    assert all(level.sde == sk.VPSDE() for level in seen)


def test_levels_are_taken_from_any_process():
    """A level says where x stands; one outside the model's range is refused by name, the clean one, too."""
    model = sk.convert(mixture(sk.VESDE()), sk.VPSDE())
    x = randn(2, 2)
    other = sk.CosineSDE()
    for level in (other.levels(torch.tensor([0.5]))[0], other.level(torch.tensor([0.5, 0.7]), x)):
        assert error(model(x, level), mixture(other)(x, level)) < 1e-11
    outside = sk.VPSDE()
    for level in (
        outside.levels(torch.tensor([1.0]))[0],
        outside.level(torch.tensor([0.5, 1e-4]), x),
    ):
        with pytest.raises(InvalidArgument, match=r"level whose log-SNR the model's VESDE has, within \[-7.8\d*, 9.2"):
            model(x, level)
    with pytest.raises(InvalidArgument, match="clean"):
        model(x, outside.clean())
    with pytest.raises(InvalidArgument, match="GaussianLevel"):
        model(x, sk.Level(outside, 0.5))


def test_a_full_memory_forgets(monkeypatch):
    """The levels that are kept are bounded, and what is asked after that is the same."""
    monkeypatch.setattr(sk.models.convert, "KEPT", 4)
    model = sk.convert(mixture(sk.VPSDE()), sk.VESDE())
    x, t = randn(2, 2), sk.grids.log_snr(model.sde, 9).tolist()
    first = [model(x, time).score for time in t]
    assert len(model.change.known) <= 4
    assert all(torch.equal(model(x, time).score, score) for time, score in zip(t, first, strict=True))


# What goes through


def test_conditions_follow_their_rows():
    """Bound before or after, by name or in a chunk of fixed shape: a row keeps its own."""
    shift = torch.tensor([0.0, 1.0, -1.0])
    model, x, t = sk.ddpm(Wave()), randn(3, 2), 0.4
    before, after = sk.convert(model.given(shift=shift), sk.VESDE()), sk.convert(model, sk.VESDE()).given(shift=shift)
    assert torch.equal(before.condition["shift"], shift)
    wanted = sk.convert(model, sk.VESDE())(x, t, shift=shift).eps
    index = torch.tensor([2, 0])
    for bound in (before, after):
        assert torch.equal(bound(x, t).eps, wanted)
        assert torch.equal(bound.rows(index)(x[index], t).eps, wanted[index])
        whole = sk.sample(bound, (3, 2), steps=4, per_sample=True)
        assert torch.equal(sk.sample(bound.rows(index), (2, 2), steps=4, per_sample=True, ids=[2, 0]), whole[index])
    run = sk.sample(before, (3, 2), solver=sk.solvers.ProbabilityFlow(), dtype=F64)
    assert torch.equal(run, sk.sample(after, (3, 2), solver=sk.solvers.ProbabilityFlow(), dtype=F64))
    assert before.rows(index).change is before.change


def test_guidance_counts_and_what_cannot_be_divided_stay():
    """Evaluations, divisible, and the variance are the model's."""
    model = sk.ddpm(Wave())
    guided = sk.guidance.ClassifierFree(model, model, 2.0)
    converted = sk.convert(guided.given(shift=1.0), sk.VESDE())
    assert converted.evaluations == 2
    assert converted.dtype == F64
    assert sk.sample(converted, (2, 2), solver=sk.solvers.DDIM(), steps=5, full=True).nfe == 10
    assert converted.divisible
    assert not converted.has_variance
    model.divisible = False
    assert not sk.convert(model, sk.VESDE()).divisible


def test_it_is_a_module_around_the_model():
    """Parameters, modes, dtype, device, copies and files are the model's, and training moves its weights."""
    model = sk.ddpm(Wave(F32))
    converted = sk.convert(model, sk.VESDE())
    assert [id(p) for p in converted.parameters()] == [id(p) for p in model.parameters()]
    assert (converted.dtype, converted.device) == (F32, torch.device("cpu"))
    converted.eval()
    assert not model.network.dropout.training
    x = randn(2, 2, dtype=F32)
    assert converted(x, 0.5).score.dtype == F32
    assert converted(x, torch.tensor([0.5, 0.6])).velocity.dtype == F32
    loss = sk.losses.DenoisingScoreMatching()(converted, x, sk.Noise(0))
    loss.backward()
    assert float(model.network.weight.grad.abs()) > 0
    model.network.labels.clear()
    for other in (copy.deepcopy(converted), pickle.loads(pickle.dumps(converted))):
        assert torch.equal(other(x, 0.5).score, converted(x, 0.5).score)
    assert converted.double().dtype == model.dtype == F64
    assert "VESDE" in repr(converted)
    assert "VPSDE" in repr(converted)


# Learned variance


def learned(v, table):
    """A model whose variance is at a share v of the way from the posterior's to the step's."""
    return Parametrised(
        lambda x, label: torch.cat([x, torch.full_like(x, v)], 1), table, Epsilon(label="index"), LearnedRange()
    )


@pytest.mark.parametrize("v", [-1.0, 1.0])
def test_a_learned_variance_has_the_units_of_the_step(v):
    """var(x_s | x_t, x_0) of the target where the source's is learned; var(x_t | x_s) times (alpha_s' / alpha_s)^2."""
    source = sk.DiscreteVPSDE(sk.sdes.tables.linear(30, 1e-3, 0.3))
    twin = sk.DiscreteVESDE(source.sigma(source.times) / source.alpha(source.times))
    model, x = sk.convert(learned(v, source), twin), randn(4, 3)
    assert model.has_variance
    for t, s in ((20.0, 19.0), (20.0, 7.0), (2.0, 1.0)):
        here, there = (twin.levels(torch.tensor([u]))[0] for u in (t, s))
        if v < 0:
            wanted = 2 * math.log(float(twin.posterior(x, x, here, there)[1]))
        else:
            step = source.transition(s, t)[1]
            wanted = 2 * math.log(float(step)) - 2 * math.log(float(source.alpha(s)))
        found = model(x, t).spread(there)
        torch.testing.assert_close(found, torch.full_like(x, wanted), rtol=0, atol=1e-12)
    p = model(x, torch.tensor([1.0, 2.0, 17.0, 30.0]))
    by_row = torch.cat([model(x[i : i + 1], float(t)).log_var for i, t in enumerate((1, 2, 17, 30))])
    torch.testing.assert_close(p.log_var, by_row, rtol=0, atol=1e-12)
    first = learned(v, source)(x, 1.0).log_var  # the step to the clean level has the data's units on both
    torch.testing.assert_close(model(x, 1.0).log_var, first, rtol=0, atol=1e-12)
    single = model(x.float(), 20.0).log_var
    assert single.dtype == F32
    assert model(x.float(), torch.full((4,), 20.0)).log_var.dtype == F32


def test_a_learned_variance_says_where_it_needs_a_table():
    """log_var asks the target's table for the level before; spread serves any process."""
    source = sk.DiscreteVPSDE(sk.sdes.tables.linear(30, 1e-3, 0.3))
    model, x = sk.convert(learned(-1.0, source), sk.VESDE()), randn(2, 3)
    t, s = sk.grids.log_snr(model.sde, 4)[1:3].tolist()
    here, there = model.sde.levels(torch.tensor([t, s], dtype=F64))
    wanted = 2 * math.log(float(model.sde.posterior(x, x, here, there)[1]))
    torch.testing.assert_close(model(x, t).spread(there), torch.full_like(x, wanted), rtol=0, atol=1e-12)
    with pytest.raises(UnsupportedCombination, match="log_var: needs a process on a table"):
        _ = model(x, t).log_var


class Own(sk.models.Prediction):
    """A prediction of somebody else's, in another form."""

    def __init__(self, inner):
        self.inner, self.x, self.level = inner, inner.x, inner.level

    score = property(lambda self: self.inner.score)
    velocity = property(lambda self: self.inner.velocity)

    def mix(self, a, b):
        return self.inner.mix(a, b)


def test_a_prediction_of_any_kind_is_carried():
    """By its mix alone, which is what the contract asks of one on a Gaussian process."""

    class Model(sk.models.ScoreModel):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.sde = inner, inner.sde

        def forward(self, x, t, **condition):
            return Own(self.inner(x, t))

    converted = sk.convert(Model(mixture(sk.VPSDE(), event=(3,))), sk.FlowSDE())
    t = even(converted.sde)
    x = noisy(converted.sde, t)
    assert error(mixture(converted.sde, event=(3,))(x, t), converted(x, t)) < 1e-11


# Errors


class Drifting(sk.SDE):
    """A process with drift and diffusion alone."""

    t_min, t_max = 0.01, 1.0
    prior = None

    def drift(self, x, t):
        return -x

    def diffusion(self, t):
        return torch.ones_like(torch.as_tensor(t))


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda m: sk.convert(Wave(), sk.VESDE()), InvalidType, "convert: model must be a ScoreModel"),
        (lambda m: sk.convert(None, sk.VESDE()), InvalidType, "convert: model must be a ScoreModel, got NoneType"),
        (lambda m: sk.convert(m, Drifting()), UnsupportedCombination, "convert: sde must be a GaussianSDE"),
        (lambda m: sk.convert(m, "VESDE"), UnsupportedCombination, "convert: sde must be a GaussianSDE.*'VESDE'"),
        (lambda m: sk.convert(m, sk.VESDE), UnsupportedCombination, "convert: sde must be a GaussianSDE"),
        (
            lambda m: sk.convert(FromFunction(Drifting(), score=lambda x, t: x), sk.VESDE()),
            UnsupportedCombination,
            "convert: the model's process must be a GaussianSDE",
        ),
        (
            lambda m: sk.convert(m, sk.EDMSDE(1e3, 1e4)),
            InvalidArgument,
            r"share a range of log-SNR.*EDMSDE on \[-18.4\d*, -13.8\d*\] for VPSDE on \[-10.05, 11.5\d*\]: they",
        ),
        (
            lambda m: sk.convert(m, sk.DiscreteVESDE([1e-9, 1.0, 1e9])),
            InvalidArgument,
            "share a range of log-SNR.*must hold 2 levels of the table or more, got 1",
        ),
        (lambda m: sk.convert(m, sk.VESDE())(randn(2, 2), -1.0), InvalidArgument, "VESDE: t must lie within"),
        (lambda m: sk.convert(m, sk.VESDE())(torch.zeros(2, 2, dtype=int), 0.5), InvalidType, "Converted: x must be"),
        (lambda m: sk.convert(m, sk.VESDE())(randn(2, 2), torch.zeros(3)), InvalidArgument, "t must be a number"),
    ],
)
def test_what_is_wrong_is_named(call, kind, text):
    """At the door, with what was given and what would be right."""
    with pytest.raises(kind, match=text):
        call(sk.ddpm(Wave()))


def test_a_change_of_level_is_a_function_of_the_level():
    """k = a / alpha = b / sigma and one log-SNR, at every level, from each process to the next."""
    for i, j in itertools.pairwise([*range(len(PROCESSES)), 0]):
        (there, change), _, _, _ = pair(i, j)
        assert isinstance(change.change, Change)
        level = there.level(even(there), randn(6, 3))
        found, k = change(level)
        assert float((found.alpha / level.alpha / k - 1).abs().max()) < 1e-12
        assert float((found.sigma / level.sigma / k - 1).abs().max()) < 1e-12
        assert float((found.log_snr - level.log_snr).abs().max()) < 1e-12
        own = PROCESSES[i].alpha(found.t), PROCESSES[i].sigma(found.t)  # what the time there says of them
        assert float((torch.hypot(*own) / torch.hypot(found.alpha, found.sigma) - 1).abs().max()) < 1e-12
