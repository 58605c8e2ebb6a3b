"""Certificates: every solver's on every process; what a defect does to one; and the laws that they measure with."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from subjects import pairs, sdes, spared

import sdekit as sk
from sdekit.certification import check, checks, exact, law, problems, references, table
from sdekit.certification.certificate import labels
from sdekit.certification.run import prepare
from sdekit.certification.subject import subject
from sdekit.solvers import (
    DDIM,
    DEIS,
    SEEDS,
    Ancestral,
    DPMSolver,
    EulerMaruyama,
    GaussianSolver,
    Heun,
    Langevin,
    LinearMultistep,
    Solver,
    State,
)
from sdekit.types import exp, expm1, sqrt

F64 = torch.float64


def holds(measure, solver, sde):
    """One measure of a certificate, alone."""
    sampler, target, _ = check(solver, sde=sde)
    for found in measure(prepare(sampler, target)):
        assert found.passed is not False, found


def read(solver, **declared):
    return subject("solver", solver, *(declared.get(k) for k in ("order", "stochastic", "evaluations")))


@pytest.mark.parametrize(("sde", "solver"), pairs())
def test_every_solver_is_certified_on_every_process(sde, solver):
    """Its order less 0.15 on log-SNR grids, on Gaussians and on a mixture; strong order 0.9; N steps to 1e-12 in
    float64 and 1e-5 in float32, N = 1, 2, 5, 10, 50, 1000; convergence elsewhere; the last step; and what a row needs.
    """
    found = sk.certify(solver, sde=sde)
    assert found.passed, found
    names = {c.name for c in found.checks if c.passed}
    assert {"last step", "mates", "randomness", "dtypes"} <= names
    if solver.evaluations is not None:
        assert "evaluations" in names
    if not solver.adaptive:
        # the integral of DEIS runs over the kinks of a table by quadrature: there is no reference to the last bits
        if not (isinstance(solver, DEIS) and isinstance(sde, sk.TableSDE)):
            assert {"N steps, float64", "N steps, float32"} <= names
        if solver.order is not None:
            kinds = {"weak order", "weak order, mixture", "strong order"} if solver.stochastic else {
                "flow order", "flow order, mixture"
            }  # fmt: skip
            if isinstance(solver, LinearMultistep) or solver == SEEDS(3):  # a memory, or more draws than are propagated
                kinds -= {"weak order, mixture"}
            assert kinds | {"other grids"} <= names
            in_t = isinstance(solver, sk.solvers.ProbabilityFlow)
            for name in kinds - {"strong order"}:
                assert found[name].figure >= solver.order - 0.15 or (in_t and isinstance(sde, sk.TableSDE)), found


@pytest.mark.parametrize(("sde", "solver"), spared())
def test_every_solver_is_held_to_its_order_and_its_steps_on_the_other_processes_too(sde, solver):
    """What a certificate begins with, where all of it is slow: the order, and up to 50 steps; or the tolerance."""
    sampler, target, _ = check(solver, sde=sde)
    case = prepare(sampler, target, None, checks.QUICK._replace(lengths=(1, 2, 5, 10, 50)))
    measures = (checks.flow_order, checks.weak_order, checks.n_steps, checks.tolerance)
    found = [c for measure in measures for c in measure(case)]
    assert any(c.passed for c in found)
    assert not [c for c in found if c.passed is False]


# Defects: each is a sampler that looks right


class Broken(GaussianSolver):
    """Ancestral sampling with hooks to break it."""

    order = 1
    stochastic = True
    evaluations = 1

    def noise(self, z, x):
        return z

    def std(self, std):
        return std

    def step(self, model, state, s, noise):
        p, t = model(state.x, state.level), state.level
        if s.clean:
            return State(self.last(p.x0, noise, state, s), s)
        gap = t.log_snr - s.log_snr
        mean = p.mix(s.alpha, s.sigma * exp(0.5 * gap))
        z = self.noise(noise(state.x, t, s), state.x)
        return State(mean + self.std(s.sigma * sqrt(-expm1(gap))) * z, s)

    def last(self, x0, noise, state, s):
        return x0


class NoisyEnd(Broken):
    def last(self, x0, noise, state, s):
        return x0 + 1e-3 * noise(state.x, state.level, s)


class ShrunkenEnd(Broken):
    def last(self, x0, noise, state, s):
        return x0 * (1 - 1e-6)


class Louder(Broken):
    def std(self, std):
        return 1.02 * std


class Global(Broken):
    def noise(self, z, x):
        return z + 0.0 * torch.randn_like(x)


class Crowd(Broken):
    def noise(self, z, x):
        return z + 1e-9 * x.mean(0)


class Wide(Broken):
    def noise(self, z, x):
        return z.double()


class Asks(Broken):
    def step(self, model, state, s, noise):
        model(state.x, state.level)
        return super().step(model, state, s, noise)


class ForgetfulMultistep(GaussianSolver):
    """DPM-Solver++(2M) whose memory is lost, and whose declared order stays."""

    order, stochastic, evaluations = 2, False, 1

    def step(self, model, state, s, noise):
        return State(DPMSolver(2).step(model, State(state.x, state.level), s, noise).x, s)


class HalvesApart(Broken):
    """A draw of the whole step in place of two of its halves: the mean of two keyed draws is too quiet by a root of 2,
    where increments of one path would add up."""

    def step(self, model, state, s, noise):
        def halves(x, t, s, stream="path"):
            return (noise(x, t, s) + noise(x, t, s, stream="second")) / 2

        return super().step(model, state, s, halves)


@pytest.mark.parametrize(
    ("solver", "failing"),
    [
        (NoisyEnd(), "last step"),
        (ShrunkenEnd(), "last step"),
        (Louder(), "weak order"),
        (Louder(), "weak order, mixture"),
        (Global(), "randomness"),
        (Crowd(), "mates"),
        (Wide(), "dtypes"),
        (Asks(), "evaluations"),
        (ForgetfulMultistep(), "flow order"),
        (ForgetfulMultistep(), "flow order, mixture"),
        (HalvesApart(), "weak order"),
    ],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
def test_a_defect_fails_the_check_that_is_made_for_it(solver, failing):
    """And the sound sampler, from which it differs by that defect, passes."""
    found = sk.certify(solver)
    assert found[failing].passed is False, found
    assert not found.passed


def test_the_sampler_that_the_defects_are_made_to_passes():
    """Without a reference its N steps are not held to one; given Ancestral as reference they are."""
    assert sk.certify(Broken()).passed
    found = sk.certify(Broken(), reference=Ancestral())
    assert found.passed
    assert found["N steps, float64"].figure <= 1e-12
    assert sk.certify(Louder(), reference=Ancestral())["N steps, float64"].passed is False


class LouderOnce(Broken):
    """One draw of many is too loud by a part in 10^8."""

    def step(self, model, state, s, noise):
        def draw(x, t, s, stream="path"):
            return noise(x, t, s, stream) * (1 + 1e-8 * (0.300 < float(t.t) <= 0.302))

        return super().step(model, state, s, draw)


def test_one_coefficient_of_a_thousand_steps_that_is_off_is_seen_in_sums_with_signs():
    """As it is where each is held to the reference, with more rows; and the sound sampler passes either way."""
    sampler, sde, other = check(LouderOnce(), reference=Ancestral())
    times = sk.grids.log_snr(sde, 1000)[:-1]
    assert int(((times > 0.300) & (times <= 0.302)).sum()) == 1
    for effort in (checks.QUICK, checks.QUICK._replace(each=1000)):
        found, _ = checks.n_steps(prepare(sampler, sde, other, effort))
        assert not found.passed
        assert 1e-12 < found.figure < 1e-9
        sound, _ = checks.n_steps(prepare(read(Broken()), sde, other, effort))
        assert sound.passed


@pytest.mark.parametrize("dtype", [F64, torch.float32], ids=str)
def test_sums_with_signs_are_those_of_the_responses_to_each_draw(dtype):
    """To rounding; and the mean of their squares is the variance that the draws add, but for its scatter: 16 axes of 32
    sums, whose relative deviation is a quarter."""
    sde, subject = sk.VPSDE(), read(Ancestral())
    times = sk.grids.log_snr(sde, 20)
    found = exact.sums(subject, sde, times, dtype=dtype)
    each = exact.responses(subject, sde, times, dtype=dtype)
    signed = torch.stack([torch.tensor(problems.signs(k)) for k in range(20)], 1)
    bound = 1e-13 if dtype == F64 else 1e-5
    torch.testing.assert_close(found.noise, signed @ each.noise, rtol=0, atol=bound)
    torch.testing.assert_close(found.start, each.start, rtol=0, atol=bound)
    begin = sde.levels(times[:1])[0]
    (mean, variance), (wanted, _) = found.moments(begin), each.moments(begin)
    torch.testing.assert_close(mean, wanted, rtol=0, atol=bound)
    ratio = (variance - found.start**2 * problems.law(begin)[1]) / (each.noise**2).sum(0)
    assert 0.5 < float(ratio.mean()) < 2
    assert found.signed
    assert not each.signed


# Plain functions, one's own classes, and what is refused


def my_ddim(model, x, levels, noise):
    """DDIM as one would write it in a notebook."""
    for t, s in itertools.pairwise(levels):
        p = model(x, t)
        x = s.alpha * p.x0 + s.sigma * p.eps
    return x


def my_ancestral(model, x, levels, noise):
    for t, s in itertools.pairwise(levels):
        mean, std = model.sde.posterior(x, model(x, t).x0, t, s)
        x = mean + std * noise(x, t, s)
    return x


def off_by_one(model, x, levels, noise):
    """The label of the level after: x stands at t, the model is told s."""
    for t, s in itertools.pairwise(levels):
        p = model(x, s)
        x = s.alpha * p.x0 + s.sigma * (x - t.alpha * p.x0) / t.sigma
    return x


def borrowed(model, x, levels, noise):
    for t, s in itertools.pairwise(levels):
        p = model(x, t)
        x = s.alpha * p.x0 + s.sigma * p.eps + 1e-9 * torch.randn_like(x)
    return x


def test_a_plain_function_is_certified():
    """With what is declared of it, and against a reference; undeclared figures are measured, and nothing is asked."""
    found = sk.certify(my_ddim, order=1, stochastic=False, evaluations=1, reference=DDIM())
    assert found.passed, found
    assert found.solver == "my_ddim"
    assert found["N steps, float64"].figure < 1e-12
    assert sk.certify(my_ancestral, order=1, reference=Ancestral()).passed
    undeclared = sk.certify(my_ancestral)
    assert undeclared.passed
    assert undeclared["weak order"].passed is None
    assert abs(undeclared["weak order"].figure - 1) < 0.1


def test_a_function_that_is_wrong_is_told_so():
    found = sk.certify(off_by_one, order=1, reference=DDIM())
    assert found["N steps, float64"].passed is False
    assert sk.certify(my_ddim, order=2)["flow order"].passed is False
    before = torch.get_rng_state()
    assert sk.certify(borrowed, order=1)["randomness"].passed is False
    assert torch.equal(before, torch.get_rng_state())


def test_a_solver_whose_steps_depend_on_the_batch_is_told_so():
    """Song's rule of the corrector averages norms over the batch."""
    found = sk.certify(Langevin(step_size="batch"))
    assert found["mates"].passed is False
    assert found["N steps, float64"].passed is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": "DDIM"}, "certify: solver must be a solver such as DDIM\\(\\), or a function"),
        ({"solver": DDIM}, "give an instance"),
        ({"solver": DDIM(), "order": 2}, "certify: order must be left out"),
        ({"solver": DDIM(), "sde": "VP"}, "certify: sde must be a GaussianSDE"),
        ({"solver": DDIM(), "full": 1}, "certify: full must be True or False"),
        ({"solver": DDIM(), "reference": 3}, "certify: reference must be a solver"),
        ({"solver": my_ddim, "order": -1.0}, "certify: order must be finite and > 0"),
        ({"solver": my_ddim, "evaluations": 0}, "certify: evaluations must be at least 1"),
        ({"solver": my_ddim, "stochastic": "no"}, "certify: stochastic must be True, False or None"),
        ({"solver": Ancestral("learned")}, "needs a model with a variance"),
        ({"solver": lambda model, x, levels, noise: x[:1]}, "must return the shape of x_T"),
        ({"solver": lambda model, x, levels, noise: noise.uniform(3, stream="u")}, "must draw normal numbers alone"),
    ],
)
def test_bad_input_is_refused_by_name(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        sk.certify(**arguments)


def test_a_certificate_is_text_json_and_a_picture(tmp_path):
    found = sk.certify(DDIM())
    text = str(found)
    assert text.startswith("DDIM(eta=0.0) on VPSDE(")
    assert "certified" in text
    stored = json.loads(found.save(tmp_path / "ddim.json").read_text())
    assert stored["passed"] is True
    assert [c["name"] for c in stored["checks"]] == [c.name for c in found.checks]
    assert stored["checks"][0]["series"]["steps"] == [80.0, 160.0, 320.0]
    assert found.plot(tmp_path / "ddim.png").stat().st_size > 10_000
    lines = table([found, found]).splitlines()
    assert "flow order" in lines[1]
    assert lines[2].endswith("ok")
    with pytest.raises(KeyError, match="name must be one of flow order"):
        found["nothing"]


# The instruments


def test_the_eight_problems_are_gaussians_of_several_dimensions_with_axes_of_their_own():
    assert len(problems.PROBLEMS) == 8
    assert len(set(problems.SIZES)) == 4
    torch.testing.assert_close(problems.AXES @ problems.AXES.mT, torch.eye(16, dtype=F64), rtol=0, atol=1e-14)


@pytest.mark.parametrize("sde", sdes())
def test_the_model_of_the_problems_is_exact(sde):
    """Against GaussianMixture of one component, and Bayes' rule by a linear solve in NumPy."""
    model = problems.Gaussians(sde)
    axes, v, m = (a.numpy() for a in (problems.AXES, problems.VARIANCES, problems.MEANS))
    covariance, mean = axes @ np.diag(v) @ axes.T, axes @ m
    t = 0.5 * (sde.t_min + sde.t_max)
    a, s = float(sde.alpha(t)), float(sde.sigma(t))
    x = torch.randn(5, 16, dtype=F64, generator=torch.Generator().manual_seed(0))
    gain = a * covariance @ np.linalg.inv(a * a * covariance + s * s * np.eye(16))
    np.testing.assert_allclose(model(x, t).x0.numpy(), mean + (x.numpy() - a * mean) @ gain.T, rtol=1e-10, atol=1e-10)
    mixture = sk.models.GaussianMixture(sde, [1.0], torch.from_numpy(mean)[None], torch.from_numpy(covariance)[None])
    torch.testing.assert_close(model(x, t).eps, mixture(x, t).eps, rtol=1e-9, atol=1e-9)
    rows = torch.full((5,), t, dtype=F64)
    torch.testing.assert_close(model(x, rows).score, model(x, t).score, rtol=1e-12, atol=1e-12)


def test_quantiles_invert_the_distribution_function():
    sde = sk.VPSDE()
    model = problems.mixture_1d(sde)
    for level in sde.levels(torch.tensor([1.0, 0.4, 1e-4], dtype=F64)):
        q = law.quantiles(model, level, law.QUANTILES)
        w, m, s = law._marginal(model, level)
        cdf = (w * 0.5 * torch.erfc(-(q[:, None] - m) / (s * math.sqrt(2)))).sum(-1)
        torch.testing.assert_close(cdf, law.QUANTILES, rtol=0, atol=1e-13)


def test_the_propagated_law_is_that_of_a_dense_quadrature():
    """Three steps of Ancestral, forwards, as integrals over all three draws and the start: no spline, no recursion."""
    sde, n = sk.VPSDE(), 3
    model = problems.mixture_1d(sde)
    times = sk.grids.log_snr(sde, n)
    levels = sde.levels(times)
    node, weight = np.polynomial.hermite_e.hermegauss(16)
    weight = weight / weight.sum()
    w, m, s = (v.numpy() for v in law._marginal(model, levels[0]))
    x = (m[:, None] + s[:, None] * node).reshape(-1)
    p = (w[:, None] * weight).reshape(-1)
    for t, later in itertools.pairwise(levels):
        here = torch.from_numpy(x)[:, None]
        mean, std = sde.posterior(here, model(here, t).x0, t, later)
        x = (mean.numpy() + std * node).reshape(-1)
        p = (p[:, None] * weight).reshape(-1)
    found = (p[:, None] * law._observed(x)).sum(0) - law._expected(model, levels[-1])
    got = law.weak_error(read(Ancestral()), sde, n, 1).numpy()
    np.testing.assert_allclose(got, found, rtol=0, atol=2e-3)


def test_a_law_in_the_plane_that_is_the_exact_one_is_within_chance_and_a_shifted_one_is_not():
    """DKW over eight projections, false alarms below 1e-6; a shift of 0.05 deviations at 20,000 samples is outside."""
    sde = sk.VPSDE()
    model = problems.mixture_2d(sde)
    level = sde.levels(torch.tensor([0.2], dtype=F64))[0]
    x = model.sample(20_000, sk.Noise(0), level)
    chance = math.sqrt(math.log(2 * law.PROJECTIONS / 1e-6) / (2 * len(x)))
    assert law.plane_error(x, model, level) < chance
    assert law.plane_error(x + 0.1, model, level) > chance


@pytest.mark.parametrize("solver", [Heun(), Ancestral(), EulerMaruyama()], ids=repr)
def test_the_references_converge_to_the_exact_law(solver):
    """They share nothing with the package, and are right by themselves: mean and variance at t_min, 400 steps."""
    sde = sk.SubVPSDE()
    times = sk.grids.log_snr(sde, 400)
    begin, end = sde.levels(times[[0, -1]])
    found = references.reference(solver, sde, times.numpy(), 400 if solver.stochastic else 0)
    offset, start, noise = map(torch.from_numpy, found[:3])
    moments = exact.Responses(offset, start, noise, 0.0, frozenset()).moments(begin)
    for got, want in zip(moments, problems.law(end), strict=True):
        torch.testing.assert_close(got, want, rtol=0.05, atol=0.02)


def test_check_asks_for_nothing_but_says_what_is_wrong():
    sampler, sde, other = check(DDIM())
    assert sampler.order == 1
    assert sde == sk.VPSDE()
    assert other is None
    assert isinstance(sampler.solver, Solver)


def test_labels_that_are_cut_stay_different():
    """Two names that differ in the middle alone make the labels as wide as that needs."""
    long = [f"Solver(method=Inner(steps={k}), coordinate='t', settings='the same in all')" for k in (1, 2)]
    found = labels([*long, "DDIM()"], 20)
    assert len(set(found.values())) == 3
    assert found["DDIM()"] == "DDIM()"
    assert max(map(len, found.values())) < len(long[0])
    assert max(map(len, labels(long[:1], 20).values())) == 20
