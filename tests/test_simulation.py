"""The forward process and Langevin dynamics: their laws by impulses, no Monte Carlo, and their doors."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from honest import bounded, dkw
from problems import F64, Impulses, last
from scipy import stats
from subjects import sdes

import sdekit as sk
from sdekit.errors import InvalidArgument, InvalidType, NonFiniteError, ScheduleError, UnsupportedCombination


def coefficients(sde, steps, **settings):
    """The states' response to x0 and to every draw, and the levels: (N,), (N, draws), list."""
    x0 = torch.zeros(2 + steps, 1, dtype=F64)
    x0[1] = 1.0
    states = list(sk.simulate(sde, x0, Impulses(), steps=steps, **settings))
    film = torch.stack([state.x[:, 0] for state in states])
    assert torch.equal(film[:, 0], torch.zeros(len(film), dtype=F64))  # no offset
    return film[:, 1], film[:, 2:], [state.level for state in states]


@pytest.mark.parametrize("sde", sdes())
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_a_gaussian_process_has_its_exact_law_at_every_level(sde, steps):
    """Mean alpha(t) x0 and variance sigma(t)^2 to 1e-12, whatever the number of steps, from data on."""
    kept, drawn, levels = coefficients(sde, steps)
    assert len(levels) == steps + 1
    assert levels[0].clean
    assert levels[-1].t == sde.t_max
    for level, scale, draws in zip(levels, kept, drawn, strict=True):
        assert abs(float(scale) / level.alpha - 1) < 1e-12
        variance = float((draws**2).sum())
        assert variance == 0.0 if level.clean else abs(variance / level.sigma**2 - 1) < 1e-12
    # the control: Euler-Maruyama's factor 1 + f dt instead of the kernel's is seen
    if steps == 7 and float(levels[1].f) != 0.0 and not isinstance(sde, sk.FlowSDE):  # whose alpha is linear in t
        euler = math.prod(1 + s.f * (t.t - s.t) for s, t in pairwise(levels[1:]))
        assert abs(euler * levels[1].alpha / levels[-1].alpha - 1) > 1e-3


@pytest.mark.parametrize("sde", sdes())
def test_from_the_middle_it_is_the_kernel(sde):
    """``clean=False``: x0 stands at the grid's last time, and 5 steps are the one kernel to its first."""
    times = sk.grids.log_snr(sde, 9)[2:8]
    kept, drawn, levels = coefficients(sde, 5, grid=times, clean=False)
    assert [level.t for level in levels] == times.flip(0).tolist()
    scale, std = sde.transition(float(times[-1]), float(times[0]))
    assert abs(float(kept[-1]) / float(scale) - 1) < 1e-12
    assert abs(float((drawn[-1] ** 2).sum()) / float(std) ** 2 - 1) < 1e-12


@pytest.mark.parametrize("sde", [sk.VPSDE(), sk.VESDE(), sk.SubVPSDE()], ids=repr)
def test_on_one_path_every_grid_gives_the_same_end(sde):
    """x_T / alpha_T = x0 + W(clock of T): 1, 6 and 60 steps agree to 1e-9, where keyed draws do not."""
    x0 = sk.Noise(0).normal((9, 2, 2), stream="x", dtype=F64)
    settings = [{"steps": 1}, {"steps": 6}, {"steps": 60, "grid": "uniform"}]
    for source, same in ((sk.BrownianPath, True), (sk.KeyedNoise, False)):
        ends = [last(sk.simulate(sde, x0, source(5), **s)).x for s in settings]
        for end in ends[1:]:
            assert (float((end - ends[0]).abs().max()) < 1e-9 * float(sde.sigma(sde.t_max))) == same


class DoubleWell(sk.SDE):
    """dx = t (x - x^3) dt + (0.5 + t) dw: drift and diffusion of time, no kernel."""

    t_min, t_max = 0.1, 1.0

    def drift(self, x, t):
        return t * (x - x**3)

    def diffusion(self, t):
        return 0.5 + torch.as_tensor(t, dtype=F64)

    @property
    def prior(self):
        return sk.sdes.NormalPrior(0.0, 1.0)


def test_a_process_without_a_kernel_steps_from_its_earlier_end():
    """Euler-Maruyama: drift and diffusion of the state and the time that a step begins with, Kloeden & Platen 1992,
    eq. 10.2.4."""
    sde, noise = DoubleWell(), sk.KeyedNoise(1)
    x0 = torch.tensor([[0.5], [-1.5]], dtype=F64)
    states = list(sk.simulate(sde, x0, noise, steps=3))
    assert [round(state.level.t, 12) for state in states] == [0.1, 0.4, 0.7, 1.0]
    assert torch.equal(states[0].x, x0)
    for before, after in pairwise(states):
        s, t, x = before.level, after.level, before.x
        z = noise(x, t, s)
        wanted = x + s.t * (x - x**3) * (t.t - s.t) + (0.5 + s.t) * math.sqrt(t.t - s.t) * z
        torch.testing.assert_close(after.x, wanted, rtol=1e-14, atol=1e-14)
    # ``step`` is the same discretisation at its other end
    (s, t) = (states[0].level, states[1].level)
    increment, std = sde.step(x0, t, s)
    torch.testing.assert_close(increment, 0.4 * (x0 - x0**3) * 0.3)
    assert abs(float(std) - 0.9 * math.sqrt(0.3)) < 1e-12


def test_euler_maruyama_forward_has_strong_order_1_on_one_path():
    """16 to 128 steps against 512: the slope is within 0.9 and 1.25, and 0 with draws of each grid's own."""
    x0 = sk.Noise(2).normal((64, 1), stream="x", dtype=F64)
    steps = (16, 32, 64, 128)
    for source, low, high in ((sk.BrownianPath, 0.9, 1.25), (sk.KeyedNoise, -0.3, 0.3)):
        ends = [last(sk.simulate(Constant(), x0, source(3), steps=n)).x for n in (*steps, 512)]
        errors = [float((x - ends[-1]).pow(2).mean().sqrt()) for x in ends[:-1]]
        slope = -float(np.polyfit(np.log(steps), np.log(errors), 1)[0])
        assert low < slope < high, errors


class Constant(DoubleWell):
    """The same wells with noise that does not depend on time, whose clock is the time."""

    def drift(self, x, t):
        return x - x**3

    def diffusion(self, t):
        return torch.as_tensor(t, dtype=F64) * 0 + 0.7


BAD = [
    (lambda x: sk.simulate("vp", x, sk.Noise(0), steps=3), InvalidType, "simulate: sde must be a process"),
    (lambda x: sk.simulate(sk.VPSDE(), [0.0], sk.Noise(0), steps=3), InvalidType, "simulate: x0 must be a tensor"),
    (lambda x: sk.simulate(sk.VPSDE(), x / 0, sk.Noise(0), steps=3), InvalidArgument, "simulate: x0 must be finite"),
    (lambda x: sk.simulate(sk.VPSDE(), x, 3, steps=3), InvalidType, "simulate: noise must be a source"),
    (lambda x: sk.simulate(sk.VPSDE(), x, sk.KeyedNoise(0, [1]), steps=3), InvalidArgument, "got 1 ids for 3 rows"),
    (lambda x: sk.simulate(sk.VPSDE(), x, sk.Noise(0)), InvalidType, "steps must be given"),
    (lambda x: sk.simulate(sk.VPSDE(), x, sk.Noise(0), steps=0), InvalidArgument, "steps must be at least 1"),
    (lambda x: sk.simulate(sk.VPSDE(), x, sk.Noise(0), grid=[0.1, 0.5]), ScheduleError, "noisiest first"),
    (lambda x: sk.simulate(DoubleWell(), x, sk.Noise(0), steps=3, clean=True), UnsupportedCombination, "DoubleWell"),
    (lambda x: sk.langevin(3, x, step_size=0.1, steps=3), InvalidType, "langevin: score must be a callable"),
    (lambda x: sk.langevin(torch.neg, x.int(), step_size=0.1, steps=3), InvalidType, "langevin: x must be of a float"),
    (lambda x: sk.langevin(torch.neg, x, step_size=0.0, steps=3), InvalidArgument, "step_size must be finite and > 0"),
    (lambda x: sk.langevin(torch.neg, x, step_size="a", steps=3), InvalidType, "step_size must be a number"),
    (lambda x: sk.langevin(torch.neg, x, step_size=0.1, steps=0), InvalidArgument, "steps must be at least 1"),
    (lambda x: sk.langevin(torch.neg, x, step_size=0.1, steps=3, noise=0), InvalidType, "noise must be a source"),
    (lambda x: sk.langevin(torch.neg, x, step_size=0.1, steps=3, seed=-1), InvalidArgument, "seed must be at least 0"),
    (lambda x: sk.langevin(lambda x: x[:1], x, step_size=0.1, steps=3), InvalidArgument, "langevin: score must return"),
    (lambda x: sk.langevin(lambda x: 1.0, x, step_size=0.1, steps=3), InvalidType, "langevin: score must return"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_input_is_refused_by_name(call, kind, message):
    with pytest.raises(kind, match=message):
        call(torch.ones(3, 1))


# Langevin dynamics on one density

V = torch.linspace(0.25, 2.0, 8, dtype=F64)
M = torch.linspace(-1.0, 3.0, 8, dtype=F64)


class Drawn(Impulses):
    """Impulses for draws that belong to no interval."""

    def normal(self, shape, *, stream, dtype=None, device=None):
        return self(torch.empty(shape, dtype=dtype), None, None)


class Uniform(sk.Noise):
    """The slip: uniform numbers for normal ones."""

    def normal(self, shape, *, stream, dtype=None, device=None):
        return self.uniform(math.prod(shape), stream=stream).reshape(shape).to(dtype)


def test_the_chains_stationary_law_is_the_closed_form():
    """Mean m and variance v / (1 - h / (2 v)) on eight Gaussians to 1e-12; the last step draws."""
    h, steps = 0.2, 400
    x = torch.zeros(2 + steps, 8, dtype=F64)
    x[1] = 1.0
    x = sk.langevin(lambda x: (M - x) / V, x, step_size=h, steps=steps, noise=Drawn())
    assert float((x[1] - x[0]).abs().max()) < 1e-15  # the start is forgotten
    assert float((x[0] / M - 1).abs().max()) < 1e-12
    draws = x[2:] - x[0]
    assert float(((draws**2).sum(0) / (V / (1 - h / (2 * V))) - 1).abs().max()) < 1e-12
    torch.testing.assert_close(draws[-1], torch.full_like(V, math.sqrt(2 * h)), rtol=1e-14, atol=1e-14)
    assert float(((draws**2).sum(0) / V - 1).abs().min()) > 0.05  # and it is not v


@pytest.mark.statistical
def test_uniform_numbers_in_place_of_normals_are_seen(seed):
    """2e4 ends have the chain's own law with normals, N(0, 1 / (1 - h / 2)). With uniforms they have the mean
    sqrt(2 h) / (2 h) = 2.2 and a twelfth of the variance, and neither with normals."""
    h, steps, n = 0.1, 120, 20_000
    right, wrong = (
        sk.langevin(torch.neg, torch.zeros(n, 1, dtype=F64), step_size=h, steps=steps, noise=source(seed))[:, 0].numpy()
        for source in (sk.Noise, Uniform)
    )
    v = (1 - (1 - h) ** (2 * steps)) / (1 - h / 2)
    dkw(right, stats.norm(0.0, math.sqrt(v)).cdf, of=2).holds(detects=0.04)
    dkw(wrong, stats.norm(0.0, math.sqrt(v)).cdf, of=2).fails()
    # each end is a sum of uniforms with weights sqrt(2 h) (1 - h)^k
    reach = math.sqrt(2 * h) * (1 - (1 - h) ** steps) / h
    slip = {"low": 0.0, "high": reach, "sd": math.sqrt(v / 12), "of": 2}
    bounded(wrong.mean(), n, reach / 2, **slip).holds(detects=0.08)
    bounded(right.mean(), n, reach / 2, **slip).fails()


def test_a_chain_is_its_draws_and_leaves_its_start_and_its_gradients_alone():
    """A keyed row is the same bits alone; the same seed gives the same chain; no graph is built."""
    weight = torch.ones(1, requires_grad=True)
    x = torch.linspace(-1, 1, 6).reshape(6, 1)
    before = x.clone()
    settings = {"step_size": 0.1, "steps": 5}
    end = sk.langevin(lambda x: -weight * x, x, noise=sk.KeyedNoise(2), **settings)
    assert not end.requires_grad
    assert torch.equal(x, before)
    alone = sk.langevin(lambda x: -weight * x, x[4:5], noise=sk.KeyedNoise(2, [4]), **settings)
    assert torch.equal(alone, end[4:5])
    a, b, c = (sk.langevin(torch.neg, x, seed=seed, **settings) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert end.dtype == torch.float32


def test_a_row_that_leaves_the_finite_numbers_is_named():
    x = torch.tensor([[0.0], [1.0], [2.0]])
    with pytest.raises(NonFiniteError, match=r"langevin: the chain must be finite.*1 of 3 rows \(rows 1\)"):
        sk.langevin(lambda y: torch.where(x == 1.0, torch.nan, -y), x, step_size=0.1, steps=3)
