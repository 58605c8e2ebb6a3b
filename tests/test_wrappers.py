"""Churn and restarts around a solver: against the papers' loops, closed forms, and what they leave alone."""

import itertools
import math

import numpy as np
import pytest
import torch
from problems import F64, Recorded, Silent, last, mixture

import sdekit as sk
from sdekit import grids
from sdekit.certification import exact, references, subject
from sdekit.solvers import DDIM, Ancestral, Churn, DPMSolver, Heun, ProbabilityFlow, Restart, State, UniPC

WINDOW = {"churn": 0.3, "churn_min": 0.05, "churn_max": 50.0, "churn_noise": 1.003}
TWICE = ((0.9, 2.5, 2, 3), (0.06, 0.3, 3, 2))


def normals(n, shape=(6, 2)):
    return [sk.Noise(k).normal(shape, stream="z", dtype=F64) for k in range(n)]


class Listening:
    """Draws of 0, and where they were asked for."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, t, s, stream="path"):
        self.calls.append((stream, t.clock, s.clock))
        return torch.zeros_like(x)


# churn


@pytest.mark.parametrize("sde", [sk.EDMSDE(), sk.VPSDE(), sk.FlowSDE()], ids=lambda v: type(v).__name__)
def test_churn_around_heun_is_heun_with_churn_bit_for_bit(sde):
    """One formula, in a run and for rows at times of their own."""
    model = mixture(sde)
    for noise in (sk.Noise(3), sk.KeyedNoise(3)):
        a, b = (
            sk.sample(model, (7, 2), solver=solver, grid="karras", steps=12, noise=type(noise)(3))
            for solver in (Heun(**WINDOW), Churn(Heun(), **WINDOW))
        )
        assert torch.equal(a, b)
    assert not torch.equal(a, sk.sample(model, (7, 2), solver=Heun(), grid="karras", steps=12, noise=type(noise)(3)))
    x, t = normals(1, (3, 2))[0], torch.tensor([0.9, 0.5, 0.01], dtype=F64) * sde.t_max
    state, s = State(x, sde.level(t, x)), sde.level(0.9 * t, x)
    a, b = (solver.step(model, state, s, sk.KeyedNoise(1)).x for solver in (Heun(**WINDOW), Churn(Heun(), **WINDOW)))
    assert torch.equal(a, b)


def test_churn_around_ddim_is_edms_loop_with_eulers_step():
    """Karras et al. 2022, algorithm 2 without its lines 7 and 8 (arXiv:2206.00364), in NumPy."""
    sde, n = sk.EDMSDE(), 18
    model = mixture(sde)
    t = [*((80 ** (1 / 7) + np.arange(n) / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7), 0.0]
    x = x_T = normals(1)[0] * 80
    z = normals(n + 1)[1:]
    draws = iter(z)
    for a, b in itertools.pairwise(t):
        hat = a * (1 + 0.3) if 0.05 <= a <= 50 and b else a
        if hat > a:
            x = x + math.sqrt(hat**2 - a**2) * 1.003 * next(draws)
        x = x + (b - hat) * (x - model(x, hat).x0) / hat
    got = last(sk.trajectory(model, Churn(DDIM(), **WINDOW), x_T, "karras", Recorded(z), steps=n)).x
    torch.testing.assert_close(got, x, rtol=1e-9, atol=1e-9)


def test_a_multistep_solver_begins_anew_where_churn_moves_the_state_and_only_there():
    """Within the window DPM-Solver++(2M) and UniPC take the steps of DDIM, of order 1; outside they remember."""
    sde = sk.EDMSDE()
    model = mixture(sde)
    levels = grids.levels(sde, "karras", 8, denoise=False)
    inside = {"churn": 0.2, "churn_max": 100.0}
    outside = {"churn": 0.2, "churn_max": 0.001}
    for solver in (DPMSolver(2), UniPC(2)):
        ends = {}
        for name, made in (
            ("churned", Churn(solver, **inside)),
            ("DDIM", Churn(DDIM(), **inside)),
            ("left alone", Churn(solver, **outside)),
            ("itself", solver),
        ):
            state = State(normals(1)[0], levels[1])
            for s in levels[2:5]:
                state = made.step(model, state, s, sk.KeyedNoise(1))
            ends[name] = state.x
        torch.testing.assert_close(ends["churned"], ends["DDIM"], rtol=1e-12, atol=1e-12)
        assert torch.equal(ends["left alone"], ends["itself"])
        assert not torch.allclose(ends["itself"], ends["DDIM"], rtol=1e-3)


def test_churn_without_churn_is_the_solver_and_says_so():
    """Its order, its evaluations, its bits; with churn it has no order, and draws."""
    plain, churned = Churn(DPMSolver(3), 0.0), Churn(DPMSolver(3), 0.1)
    assert (plain.order, plain.stochastic, plain.evaluations) == (3, False, 1)
    assert (churned.order, churned.stochastic, churned.evaluations) == (None, True, 1)
    model = mixture(sk.VPSDE())
    assert torch.equal(*(sk.sample(model, (4, 2), solver=v, steps=6) for v in (plain, DPMSolver(3))))
    assert sk.sample(model, (4, 2), solver=Churn(ProbabilityFlow(), 0.1), full=True).nfe.shape == (4,)


# restarts


@pytest.mark.parametrize("inner", [Heun(), DDIM()], ids=repr)
def test_restart_is_its_papers_loop(inner):
    """Xu et al. 2023, algorithm 2 (arXiv:2306.14878), in NumPy: two intervals, the later one with three repeats."""
    sde, n = sk.EDMSDE(), 18
    model = mixture(sde)
    t = [*((80 ** (1 / 7) + np.arange(n) / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7), 0.0]
    x = x_T = normals(1)[0] * 80
    z = normals(6)[1:]
    draws = iter(z)

    def down(x, a, b):
        d = (x - model(x, a).x0) / a
        end = x + (b - a) * d
        if b and isinstance(inner, Heun):
            end = x + (b - a) * (d + (end - model(end, b).x0) / b) / 2
        return end

    restarts = {next(b for b in t if b <= low): (high, k, steps) for low, high, k, steps in TWICE}
    assert all(b > 0 for b in restarts)
    for a, b in itertools.pairwise(t):
        x = down(x, a, b)
        high, repeats, steps = restarts.get(b, (0, 0, 0))
        for _ in range(repeats):
            x = x + math.sqrt(high**2 - b**2) * next(draws)
            way = [(high ** (1 / 7) + j / steps * (b ** (1 / 7) - high ** (1 / 7))) ** 7 for j in range(steps + 1)]
            for c, d in itertools.pairwise(way):
                x = down(x, c, d)
    assert next(draws, None) is None
    got = last(sk.trajectory(model, Restart(inner, TWICE), x_T, "karras", Recorded(z), steps=n)).x
    torch.testing.assert_close(got, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sde", [sk.VPSDE(), sk.FlowSDE(), sk.VESDE()], ids=lambda v: type(v).__name__)
@pytest.mark.parametrize(
    "solver",
    [
        Restart(UniPC(), TWICE),
        Restart(DDIM(), ((0.5, 1e6, 2, 3),)),  # to the end of the process
        Restart(Heun(), ((3.0, 4.0, 1, 1), (0.02, 4.0, 2, 5))),
        Churn(UniPC(), **WINDOW),
        Churn(Heun(), 0.2, churn_min=0.1),
        Churn(DDIM(), math.sqrt(2) - 1),
    ],
    ids=repr,
)
def test_the_law_is_its_references(solver, sde):
    """Mean and variance after N steps of a run on Gaussians, and every coefficient, to 1e-12 of the trajectory."""
    sampler = subject.subject("solver", solver, None, None, None)
    for n in (1, 2, 7, 30):
        times = grids.karras(sde, n)
        found = exact.responses(sampler, sde, times)
        wanted = references.reference(solver, sde, times.numpy(), len(found.noise))
        assert wanted is not None
        for ours, theirs in zip(found[:3], wanted[:3], strict=True):
            scale = max(wanted.size, float(np.abs(theirs).max(initial=0.0)))
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-12 * scale)


def test_the_references_tell_one_setting_from_another():
    """The negative control: another number of repeats, of steps, another end and another churn are seen."""
    sde = sk.VPSDE()
    times = grids.karras(sde, 12)
    for solver, other in (
        (Restart(DDIM(), ((0.5, 1.0, 2, 3),)), Restart(DDIM(), ((0.5, 1.0, 3, 3),))),
        (Restart(DDIM(), ((0.5, 1.0, 2, 3),)), Restart(DDIM(), ((0.5, 1.0, 2, 4),))),
        (Restart(DDIM(), ((0.5, 1.0, 2, 3),)), Restart(DDIM(), ((0.5, 1.01, 2, 3),))),
        (Churn(DDIM(), 0.1), Churn(DDIM(), 0.11)),
        (Churn(DDIM(), 0.1), Churn(DDIM(), 0.1, churn_noise=1.003)),
    ):
        found = exact.responses(subject.subject("solver", solver, None, None, None), sde, times)
        wanted = references.reference(other, sde, times.numpy(), len(found.noise))
        assert float(np.abs(found.noise.numpy() - wanted.noise).max()) > 1e-4


def test_each_restart_contracts_what_was_wrong_by_the_flows_own_factor():
    """On N(0, v) the flow from n_max to n_s shrinks by sqrt((v + n_s^2) / (v + n_max^2)): K restarts by its K-th power,
    and the law that comes in is lost by as much. With 400 steps a restart, to 1e-4."""
    sde, v = sk.EDMSDE(), 0.25
    model = sk.models.GaussianMixture(sde, [1.0], torch.zeros(1, 1, dtype=F64), v)
    times = grids.karras(sde, 40)
    s = float(next(b for b in times if b <= 0.1))
    one = torch.ones(1, 1, dtype=F64)
    ends = [
        float(last(sk.trajectory(model, solver, one, times, Listening(), denoise=False)).x)
        for solver in (Heun(), *(Restart(Heun(), ((0.1, 2.0, k, 400),)) for k in (1, 2, 5)))
    ]
    factor = math.sqrt((v + s * s) / (v + 4.0))
    for end, k in zip(ends[1:], (1, 2, 5), strict=True):
        assert end / ends[0] == pytest.approx(factor**k, rel=1e-4)


def test_every_evaluation_is_counted_and_every_draw_has_a_stream_of_its_own():
    """CIFAR-10's first setting costs 43: 35 for 18 steps, and 2 x 2 x 2 more."""
    model = mixture(sk.EDMSDE())
    assert sk.sample(model, (3, 2), solver=Restart(), grid="karras", steps=18, full=True).nfe == 43
    assert Restart().evaluations is None
    assert not Restart().adaptive
    assert sk.sample(model, (3, 2), solver=Restart(DDIM(), TWICE), grid="karras", steps=18, full=True).nfe == 18 + 12
    listening = Listening()
    last(sk.trajectory(model, Restart(DDIM(), TWICE), normals(1)[0], "karras", listening, steps=18))
    assert [c[0] for c in listening.calls] == [("restart", i, k) for i, count in ((0, 2), (1, 3)) for k in range(count)]
    for (_, i, _), c, d in listening.calls:
        assert d <= TWICE[i][0] ** 2 < c == pytest.approx(TWICE[i][1] ** 2, rel=1e-12)
    by_row = sk.sample(model, (3, 2), solver=Restart(ProbabilityFlow()), full=True)
    assert by_row.nfe.shape == (3,)


def test_a_run_that_does_not_cross_is_the_solvers_own():
    """From below n_min, or with an end above it; and from a level above to the clean one nothing is thrown back."""
    sde = sk.EDMSDE()
    model, solver = mixture(sde), Restart(DPMSolver(), ((1.0, 5.0, 2, 2),))
    x = normals(1)[0]
    for times in ([0.9, 0.5, 0.1], [80.0, 20.0, 1.1]):
        runs = [list(sk.trajectory(model, v, x, times, Silent(), denoise=False)) for v in (solver, DPMSolver())]
        assert all(torch.equal(a.x, b.x) for a, b in zip(*runs, strict=True))
    assert torch.equal(solver.step(model, State(x, sde.level(2.0, x)), sde.clean(), Silent()).x, model(x, 2.0).x0)


def test_restarts_ask_for_what_they_need():
    """Named errors: a solver that draws, a time per row, a budget of evaluations, and intervals that are none."""
    model, x = mixture(sk.VPSDE()), normals(1, (3, 2))[0]
    t = torch.tensor([0.9, 0.5, 0.2], dtype=F64)
    with pytest.raises(sk.errors.UnsupportedCombination, match="one time for the whole batch"):
        Restart().step(model, State(x, model.sde.level(t, x)), model.sde.level(0.9 * t, x), Silent())
    with pytest.raises(sk.errors.UnsupportedCombination, match="steps differ in their evaluations"):
        sk.sample(model, (3, 2), solver=Restart(), nfe=50)
    for make, said in (
        (lambda: Restart(Ancestral()), "Restart: solver must draw no noise of its own, such as DDIM(), got Ancestral"),
        (lambda: Churn(Heun(churn=0.1), 0.1), "Churn: solver must draw no noise of its own"),
        (lambda: Churn(Churn(DDIM(), 0.1), 0.1), "Churn: solver must draw no noise of its own"),
        (lambda: Restart(DDIM), "give an instance, such as DDIM()"),
        (lambda: Churn(DDIM(), 0.5), "Churn: churn must be finite and >= 0 and <= 0.41"),
        (lambda: Churn(DDIM(), 0.1, churn_min=2.0, churn_max=1.0), "Churn: churn_max must reach churn_min"),
        (lambda: Restart(intervals=()), "Restart: intervals must hold tuples (n_min, n_max, repeats, steps)"),
        (lambda: Restart(intervals=((0.1, 1.0, 2),)), "Restart: intervals must hold tuples"),
        (lambda: Restart(intervals=((1.0, 0.1, 2, 2),)), "intervals: n_max must exceed n_min"),
        (lambda: Restart(intervals=((0.1, 1.0, 0, 2),)), "intervals: repeats must be at least 1"),
        (lambda: Restart(intervals=((0.1, 1.0, 1, 0),)), "intervals: steps must be at least 1"),
    ):
        with pytest.raises((sk.errors.InvalidArgument, sk.errors.InvalidType)) as caught:
            make()
        assert said in str(caught.value)
    assert Restart(intervals=[[0.1, 1.0, 1, 2]]) == Restart(intervals=((0.1, 1.0, 1, 2),))
    assert hash(Restart(intervals=[[0.1, 1.0, 1, 2]])) == hash(Restart(intervals=((0.1, 1.0, 1, 2),)))
