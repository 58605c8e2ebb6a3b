"""Comparison: exact laws, errors that are those of closed forms, wrong solvers and wrong models, each apart."""

import csv
import dataclasses
import io
import itertools
import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

import sdekit as sk
from sdekit.comparison import Comparison, Entry, Measured, compare, oracle
from sdekit.comparison.oracles import NAMES, moments
from sdekit.errors import InvalidArgument, InvalidType, ScheduleError, UnsupportedCombination
from sdekit.metrics import Interval, NoiseFloor
from sdekit.solvers import DDIM, Ancestral, Heun, ProbabilityFlow, Solver, State

F64 = torch.float64
FEW = {"nfe": (6,), "repeats": 12}
DISTANCES = [
    "energy distance",
    "squared MMD",
    "sliced Wasserstein",
    "classifier",
    "Gaussian Wasserstein",
    "mean error",
    "covariance error",
]

each_oracle = pytest.mark.parametrize("name", NAMES)


def parts(name):
    """Weights, means and full covariances of a law, in NumPy."""
    weights, means, covariances = (v.numpy() for v in NAMES[name]())
    if covariances.ndim == 1:
        covariances = covariances[:, None, None] * np.eye(means.shape[1])
    return weights / weights.sum(), means, covariances


@dataclasses.dataclass(frozen=True)
class Flow(Solver):
    """The exact flow of data from N(m, c I), in one step: x - alpha m keeps its ratio to the deviation of p_t.

    ``moved`` and ``wide``: a slip at the last step, x0 -> moved + wide x0.
    """

    mean: float
    variance: float
    moved: float = 0.0
    wide: float = 1.0
    order, stochastic, evaluations = None, False, 1

    def step(self, model, state, s, noise):
        """The step; to the clean level the model's x0."""
        t = state.level
        if s.clean:
            return State(self.moved + self.wide * model(state.x, t).x0, s)
        before, after = (v.alpha**2 * self.variance + v.sigma**2 for v in (t, s))
        x = s.alpha * self.mean + (state.x - t.alpha * self.mean) * math.sqrt(after / before)
        return State(x, s)


def sphere(mean=0.5, variance=0.49, sde=None):
    """Data from N(m, c I) in the plane, and their exact flow."""
    process = (sde or sk.EDMSDE()).with_prior(mean, math.sqrt(variance))
    model = sk.models.GaussianMixture(process, [1.0], torch.full((1, 2), mean, dtype=F64), variance)
    return model, Flow(mean, variance)


def without_seconds(found):
    return dataclasses.replace(found, rows=tuple(dataclasses.replace(row, seconds=0.0) for row in found.rows))


# The exact laws


@each_oracle
def test_the_moments_of_a_law_are_sums_over_its_modes(name):
    """E x and E x x^T less E x E x^T, mode by mode; its process knows them."""
    weights, means, covariances = parts(name)
    mean = sum(w * m for w, m in zip(weights, means, strict=True))
    second = sum(w * (c + np.outer(m, m)) for w, m, c in zip(weights, means, covariances, strict=True))
    model = oracle(name)
    found_mean, found_covariance = moments(model)
    assert np.allclose(found_mean, mean, rtol=0, atol=1e-14)
    assert np.allclose(found_covariance, second - np.outer(mean, mean), rtol=0, atol=1e-13)
    known_mean, known_spread = model.sde.moments
    assert np.allclose(known_mean, mean, rtol=0, atol=1e-14)
    assert float(known_spread) == pytest.approx(math.sqrt(np.trace(second - np.outer(mean, mean)) / len(mean)))
    assert min(np.linalg.eigvalsh(c).min() for c in covariances) > 0


@each_oracle
@pytest.mark.parametrize("sde", [None, sk.VPSDE(), sk.FlowSDE()])
def test_the_score_of_a_law_is_the_gradient_of_scipys_density(name, sde):
    """p_t = sum w N(alpha m, alpha^2 C + sigma^2): its logarithm, and differences of it along a direction."""
    weights, means, covariances = parts(name)
    model = oracle(name, sde)
    t = model.sde.time_of(0.4)
    level = model.sde.levels(torch.tensor([t], dtype=F64))[0]
    laws = [
        stats.multivariate_normal(level.alpha * m, level.alpha**2 * c + level.sigma**2 * np.eye(len(m)))
        for m, c in zip(means, covariances, strict=True)
    ]

    def log_prob(x):
        return np.logaddexp.reduce([math.log(w) + law.logpdf(x) for w, law in zip(weights, laws, strict=True)])

    x = level.alpha * model.sample(4, sk.Noise(1)) + level.sigma * sk.Noise(2).normal((4, means.shape[1]), stream="z")
    direction = sk.Noise(3).normal(x.shape, stream="z", dtype=F64)
    direction = direction / direction.norm(dim=1, keepdim=True)
    h, pairs = 1e-4 * level.sigma, zip(x.numpy(), direction.numpy(), strict=True)
    slopes = [(log_prob(a + h * u) - log_prob(a - h * u)) / (2 * h) for a, u in pairs]
    score = (model(x, float(t)).score * direction).sum(1)
    assert model.log_prob(x, float(t)).tolist() == pytest.approx([log_prob(a) for a in x.numpy()], rel=1e-9)
    assert score.tolist() == pytest.approx(slopes, rel=1e-5, abs=1e-5)


def test_a_law_is_the_same_each_time_it_is_asked_for():
    for name in NAMES:
        a, b = oracle(name), oracle(name)
        assert a.sde == b.sde
        assert all(torch.equal(p, q) for p, q in zip(a.buffers(), b.buffers(), strict=True))
    assert len({oracle(name).means.shape for name in NAMES}) == len(NAMES)


# The flow error


@pytest.mark.parametrize("sde", [None, sk.VPSDE()])
def test_the_flow_error_of_ddim_on_a_gaussian_is_the_closed_form(sde):
    """Along an axis of variance c both maps are linear about the mean: DDIM's factor of a step is
    (alpha_s alpha_t c + sigma_s sigma_t) / (alpha_t^2 c + sigma_t^2), the flow's the root of the variances' ratio."""
    model = oracle("gaussian", sde)
    found = compare(model, (8, 16), [DDIM()], nfe=(1, 4, 9), repeats=2, seed=5)
    x_T = model.sde.prior.sample((8, 16), sk.Noise((5, 0)), dtype=F64)
    c, axes, mean = model.values[0], model.vectors[0], model.means[0]
    for row, n in zip(found.rows, (1, 4, 9), strict=True):
        run = sk.grids.levels(model.sde, "log_snr", n)
        euler = torch.ones_like(c)
        for t, s in itertools.pairwise(run):
            euler = euler * (s.alpha * t.alpha * c + s.sigma * t.sigma) / (t.alpha**2 * c + t.sigma**2)
        first, last = run[0], sk.grids.levels(model.sde, "log_snr", 2)[1]
        ratio = (last.alpha**2 * c + last.sigma**2) / (first.alpha**2 * c + first.sigma**2)
        exact = ratio.sqrt() * last.alpha * c / (last.alpha**2 * c + last.sigma**2)
        off = (x_T - first.alpha * mean) @ axes * (euler - exact)
        assert row.nfe == n
        assert row.flow.value == pytest.approx(float(off.square().mean().sqrt()), rel=1e-6)


@pytest.mark.parametrize("sde", [None, sk.VPSDE()])
def test_an_exact_sampler_has_no_flow_error_and_lies_within_the_floor(sde):
    model, flow = sphere(sde=sde)
    found = compare(model, (60, 2), [flow], nfe=(6,), repeats=60)
    (row,) = found.rows
    assert row.flow.value < 1e-6
    assert row.flow.low <= row.flow.value <= row.flow.high
    assert list(row.law) == DISTANCES
    for name, value in row.law.items():
        floor = found.floors[name]
        assert floor.low - floor.std < value.value < floor.high + floor.std, name


def test_a_wrong_sampler_is_seen_by_every_distance():
    """Its samples are moved by two deviations and half as wide again."""
    model, flow = sphere()
    wrong = dataclasses.replace(flow, moved=1.4, wide=1.5)
    found = compare(model, (60, 2), [flow, wrong], nfe=(6,), repeats=60)
    right, off = found.rows
    assert off.flow.low > 0.5
    for name in DISTANCES:
        floor = found.floors[name]
        assert off.law[name].value > floor.high + 3 * floor.std, name
        assert off.law[name].low > right.law[name].value, name


def test_noise_is_no_error_and_a_stochastic_sampler_has_no_flow():
    model, _ = sphere()
    deterministic, stochastic = compare(model, (20, 2), [DDIM(), Ancestral()], **FEW).rows
    assert deterministic.flow is not None
    assert stochastic.flow is None
    assert "flow error" not in stochastic.figures
    assert list(deterministic.figures) == ["flow error", *DISTANCES]


# The error of a model, apart


def test_the_error_of_a_model_is_apart_from_the_error_of_a_solver():
    """A model of other data, sampled exactly: far from the data, near its own law. On its own data it is near both."""
    model, flow = sphere()
    other = sphere(mean=1.2)[0].sample(400, sk.Noise(9))
    own = model.sample(400, sk.Noise(8))
    for data, wrong in ((other, True), (own, False)):
        found = compare(model, (50, 2), [flow], nfe=(6,), data=data, repeats=30)
        (row,) = found.rows
        for name in DISTANCES:
            if name == "covariance error":
                continue  # the data are elsewhere, and as wide
            law, to_data = found.floors[name], found.floors[f"{name} to data"]
            assert row.law[name].value < law.high + law.std, name
            assert (row.data[name].value > to_data.high + 2 * to_data.std) is wrong, name
            assert (found.model_error[f"{name} to data"].value > to_data.high + 2 * to_data.std) is wrong, name
            assert row.figures[f"{name} to data"] == row.data[name]
        assert list(found.model_error) == [f"{name} to data" for name in DISTANCES]


def network(model, dtype=F64):
    """A model that answers as another does, and that nobody knows to be exact; and a condition that moves its data."""

    def x0(x, t, y=0.0):
        moved = 0.0 if isinstance(y, float) else y[:, None].to(x)  # alpha is 1 on EDM's process
        return model(x - moved, t if isinstance(t, float) else t.reshape(-1)).x0 + moved

    found = sk.models.FromFunction(model.sde, x0=x0)
    found.register_buffer("of", torch.zeros(1, dtype=dtype))
    return found


def test_a_network_is_measured_as_the_exact_model_is():
    """Its law is the ends of its own flow, which are draws of the exact one."""
    model, _ = sphere()
    exact, found = (compare(m, (40, 2), [DDIM()], **FEW) for m in (model, network(model)))
    assert exact.model.startswith("GaussianMixture")
    assert found.model == "FromFunction"
    assert found.rows[0].flow.value == pytest.approx(exact.rows[0].flow.value, rel=1e-6)
    x_T = torch.cat([model.sde.prior.sample((40, 2), sk.Noise((0, 2, i)), dtype=F64) for i in range(8)])
    ends = sk.sample(model, x_T=x_T, tol=1e-9)
    assert found.rows[0].law["energy distance"].value == pytest.approx(
        float(sk.metrics.energy_distance(sk.sample(model, x_T=start(model), solver=DDIM(), steps=6), ends[:80])),
        rel=1e-5,
    )
    mean, covariance = moments(model)
    assert float(sk.metrics.GaussianWasserstein(mean, covariance)(ends)) < 0.1


def start(model, rows=40):
    """The starts of a comparison with seed 0."""
    return model.sde.prior.sample((rows, 2), sk.Noise((0, 0)), dtype=F64)


def test_a_network_in_single_is_measured_in_double():
    model, _ = sphere()
    data = model.sample(40, sk.Noise(1)).float()
    single = compare(network(model, torch.float32), (8, 2), [DDIM(), Ancestral()], data=data, **FEW)
    for row in single.rows:
        assert all(math.isfinite(v) for value in row.figures.values() for v in value)
    x_T = model.sde.prior.sample((8, 2), sk.Noise((0, 0)), dtype=torch.float32).double()
    off = sk.sample(model, x_T=x_T, solver=DDIM(), steps=6) - sk.sample(model, x_T=x_T, tol=1e-9)
    assert single.rows[0].flow.value == pytest.approx(float(off.square().mean().sqrt()), rel=1e-3)


def test_a_condition_of_one_a_row_stays_with_its_row():
    """The model's own law is asked for N rows at a time: half of it is far off, and so are the samples."""
    model, _ = sphere()
    y = torch.tensor([0.0, 20.0] * 4)
    (row,) = compare(network(model, torch.float32).given(y=y), (8, 2), [DDIM()], nfe=(40,), repeats=12).rows
    assert row.flow.value < 0.5
    assert row.law["energy distance"].value < 2.0


# Runs


@dataclasses.dataclass(frozen=True)
class Spy(Solver):
    """Keeps the start of every run, and the draws of its first step."""

    seen: list = dataclasses.field(repr=False)
    name: str = ""
    order, stochastic, evaluations = None, True, 1

    def step(self, model, state, s, noise):
        """To the model's x0."""
        if state.memory is None:
            self.seen.append((state.x.clone(), noise(state.x, state.level, s)))
        return State(model(state.x, state.level).x0, s, True)


def test_every_sampler_begins_at_the_same_starts_with_the_same_seed():
    seen = []
    model, _ = sphere()
    compare(model, (6, 2), [Spy(seen, "a"), Spy(seen, "b")], nfe=(2, 3), repeats=2, seed=4)
    assert len(seen) == 4 + 2  # before the clock starts, each has run at the least budget
    assert all(torch.equal(x, seen[0][0]) and torch.equal(z, seen[0][1]) for x, z in seen)
    assert torch.equal(seen[0][0], model.sde.prior.sample((6, 2), sk.Noise((4, 0)), dtype=F64))
    compare(model, (6, 2), [Spy(seen, "a")], nfe=(2,), repeats=2, seed=5)
    assert not torch.equal(seen[-1][0], seen[0][0])


def test_budgets_are_kept_and_what_was_spent_is_told():
    """Budget by budget, each in the order of the entries; Heun's last step costs one, the others two."""
    entries = [Entry("nfe=N"), DDIM(), Entry("Heun", Heun(), "karras"), Entry("mine", DDIM(), sk.grids.uniform)]
    found = compare(sphere()[0], (5, 2), entries, nfe=(1, 4, 7), repeats=2)
    names = ["nfe=N", "DDIM(eta=0.0)", "Heun", "mine"]
    assert [(row.budget, row.sampler) for row in found.rows] == [(n, name) for n in (1, 4, 7) for name in names]
    assert [row.nfe for row in found.rows] == [1, 1, 1, 1, 4, 4, 3, 4, 7, 7, 7, 7]
    assert [row.grid for row in found.rows[:4]] == ["angle", "log_snr", "karras", "uniform"]
    assert found.rows[0].solver.startswith("Multistep(")
    assert all(row.seconds > 0 for row in found.rows)


def test_a_guided_model_costs_its_evaluations():
    whole, _ = sphere()
    part = sk.models.GaussianMixture(whole.sde, [1.0], torch.zeros(1, 2, dtype=F64), 0.3)
    model = sk.guidance.ClassifierFree(part, whole, weight=1.5).float()
    found = compare(model, (4, 2), [DDIM()], nfe=(2, 7), repeats=2)
    assert [(row.budget, row.nfe) for row in found.rows] == [(2, 2), (7, 6)]
    with pytest.raises(InvalidArgument, match="compare: nfe must be at least 2, got nfe=1"):
        compare(model, (4, 2), [DDIM()], nfe=(1,))


def test_one_seed_is_one_result_but_for_the_seconds():
    data = sphere()[0].sample(40, sk.Noise(1))
    runs = [compare(sphere()[0], (8, 2), data=data, seed=seed, **FEW) for seed in (0, 0, 1, (0, 1), [0, 1])]
    assert without_seconds(runs[0]) == without_seconds(runs[1])
    assert without_seconds(runs[3]) == without_seconds(runs[4])
    for figure in runs[0].figures:
        if "classifier" not in figure and figure != "flow error":
            assert len({run.floors[figure].mean for run in runs}) == 3
    assert len({run.rows[0].flow for run in runs}) == 3
    assert runs[3].seed == (0, 1)


def test_the_samples_of_a_row_are_those_of_sample():
    """A user gets what was measured: the same seed, the same start."""
    model, _ = sphere()
    found = compare(model, (9, 2), [Ancestral()], nfe=(5,), repeats=2, seed=3)
    x_T = model.sde.prior.sample((9, 2), sk.Noise((3, 0)), dtype=F64)
    x = sk.sample(model, x_T=x_T, solver=Ancestral(), steps=5, seed=(3, 1))
    own = model.sample(72, sk.Noise((3, 2)))
    assert found.rows[0].law["energy distance"].value == pytest.approx(
        float(sk.metrics.energy_distance(x, own[:18])), rel=1e-12
    )
    assert found.rows[0].law["mean error"].value == pytest.approx(
        float((x.mean(0) - 0.5).norm()) / math.sqrt(2 * 0.49), rel=1e-12
    )
    floor = sk.metrics.noise_floor(own[18:], own[:18], 9, repeats=2, seed=(3, 3))
    assert found.floors["energy distance"].mean == pytest.approx(floor.mean, rel=1e-12)


PROCESSES = [sk.VPSDE(), sk.SubVPSDE(), sk.VESDE(), sk.FlowSDE(), sk.CosineSDE(), sk.DiscreteVPSDE()]


@pytest.mark.parametrize("sde", PROCESSES)
def test_the_default_runs_on_every_process(sde):
    found = compare(sphere(sde=sde)[0], (4, 2), nfe=(1, 8), repeats=2)
    assert len(found.rows) == 12
    assert found.rows[6].flow.value < found.rows[0].flow.value


# What is refused


@pytest.mark.parametrize(
    ("changed", "kind", "said"),
    [
        ({"model": torch.nn.Linear(2, 2)}, InvalidType, "compare: model must be"),
        ({"shape": (3, 2)}, InvalidArgument, r"compare: shape must ask for at least 4 samples .* got \(3, 2\)"),
        ({"shape": (9, 0)}, InvalidArgument, "compare: shape must ask for at least 4 samples that are not empty"),
        ({"entries": []}, InvalidArgument, "compare: entries must hold at least one sampler, got"),
        ({"entries": DDIM()}, InvalidType, "compare: entries must be a list of solvers or of Entry, got DDIM"),
        ({"entries": [DDIM]}, InvalidType, r"compare: entries must be solvers or Entry\(name, solver, grid\), got"),
        ({"entries": [("a", DDIM(), None)]}, InvalidType, "compare: entries must be solvers or Entry"),
        ({"entries": [Entry("a", "DDIM")]}, InvalidType, "compare: entries must be one such as DDIM()"),
        (
            {"entries": [Entry("a", DDIM(), [1.0])]},
            InvalidType,
            "entries must be on grids by name",
        ),
        ({"entries": [Entry("a", DDIM(), "cats")]}, InvalidArgument, "grid must be one of .* got 'cats'"),
        ({"entries": [DDIM(), DDIM()]}, InvalidArgument, r"names of their own, got 'DDIM\(eta=0.0\)' twice"),
        (
            {"entries": [ProbabilityFlow()]},
            UnsupportedCombination,
            "entries must cost a number of",
        ),
        ({"nfe": 5}, InvalidType, "compare: nfe must be a list of budgets, got int 5"),
        ({"nfe": ()}, InvalidArgument, "compare: nfe must hold at least one budget, got"),
        ({"nfe": (5, 0)}, InvalidArgument, "compare: nfe must be at least 1, got nfe=0"),
        ({"nfe": (5, 2.5)}, InvalidType, "compare: nfe must be a whole number, got float 2.5"),
        ({"data": torch.zeros(31, 2)}, InvalidArgument, r"compare: data must be .* with M at least 4 N = 32, got"),
        ({"data": torch.zeros(90, 3)}, InvalidArgument, r"compare: data must be of shape \(M, \*\(2,\)\)"),
        ({"data": torch.full((90, 2), math.nan)}, InvalidArgument, "compare: data must be finite"),
        ({"repeats": 1}, InvalidArgument, "compare: repeats must be at least 2, got repeats=1"),
        ({"seed": -1}, InvalidArgument, "seed must be at least 0, got seed=-1"),
        ({"seed": "3"}, InvalidType, "seed must be a whole number"),
        ({"progress": "no"}, InvalidType, "compare: progress must be True or False"),
    ],
)
def test_what_cannot_be_compared_is_refused_at_the_door(changed, kind, said):
    """Before the model is asked for anything."""
    model, _ = sphere()

    def asked(x, t):
        raise AssertionError("the network was asked")

    silent = sk.models.FromFunction(model.sde, x0=asked)
    with pytest.raises(kind, match=said):
        compare(**{"model": silent, "shape": (8, 2), **changed})


def test_samples_of_another_shape_than_the_models_are_refused():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = sk.networks.MLP((2,), width=4, depth=1)
    for model in (sphere()[0], sk.edm(network)):
        with pytest.raises(
            InvalidArgument, match=r"compare: shape must be \(N, \*\(2,\)\) for the model, got \(8, 3\)"
        ):
            compare(model, (8, 3))


def test_a_process_with_drift_and_diffusion_alone_is_refused():
    class Bare(sk.SDE):
        t_min, t_max = 0.01, 1.0

        def drift(self, x, t):
            return -x

        def diffusion(self, t):
            return torch.ones_like(torch.as_tensor(t, dtype=F64))

        @property
        def prior(self):
            return sk.sdes.NormalPrior()

    model = sk.models.FromFunction(Bare(), score=lambda x, t: -x)
    with pytest.raises(UnsupportedCombination, match="model must be on a process with alpha and sigma, got Bare"):
        compare(model, (8, 2))


def test_a_grid_that_begins_below_the_starts_is_refused():
    """A run from p_T at another level than T is wrong from its first step."""
    model = sphere(sde=sk.DiscreteVPSDE())[0]
    with pytest.raises(InvalidArgument, match=r"grids that begin at t_max=1000, got 'a', whose leading begins at 751"):
        compare(model, (8, 2), [Entry("a", DDIM(), "leading")], nfe=(4,))
    with pytest.raises(ScheduleError, match="grid"):
        compare(model, (8, 2), [Entry("a", DDIM(), lambda sde, steps: [1.0, 2.0])], nfe=(4,))


def test_a_law_that_is_none_is_named():
    with pytest.raises(InvalidArgument, match="oracle: name must be one of gaussian, ring, lattice, modes, got 'cats'"):
        oracle("cats")


# What is told


def made(rows, floors=None):
    """A comparison by hand: (sampler, nfe, seconds, flow, energy)."""
    measured = [
        Measured(
            name, f"{name}()", "log_snr", nfe, nfe, seconds,
            None if flow is None else Interval(flow, 0.9 * flow, 1.1 * flow),
            {"energy distance": Interval(energy, energy - 0.5, energy + 0.5)},
        )
        for name, nfe, seconds, flow, energy in rows
    ]  # fmt: skip
    return Comparison("model", (100, 2), 0, tuple(measured), floors or {}, {})


HAND = made(
    [
        ("a", 5, 3.0, 4.0, 9.0),
        ("b", 5, 1.0, 3.0, 7.0),
        ("c", 5, 2.0, None, 7.0),
        ("a", 10, 2.5, 3.0, 8.0),
        ("b", 10, 4.0, 2.0, -1.0),
        ("c", 20, 5.0, None, -1.0),
        ("a", 20, 0.5, 5.0, 10.0),
    ],
    {"energy distance": NoiseFloor(0.0, 1.0, -1.5, 1.5)},
)


def test_the_front_is_each_row_that_is_better_than_all_cheaper_ones():
    """Dearer and equal is no better; the best of one cost; a row without the figure is none of them."""

    def front(*which):
        return [(row.sampler, row.nfe) for row in HAND.front(*which)]

    assert front() == [("b", 5), ("b", 10)]
    assert front("flow error") == [("b", 5), ("b", 10)]
    assert front("energy distance", "seconds") == [("a", 20), ("b", 5), ("b", 10)]
    assert front("flow error", "seconds") == [("a", 20), ("b", 5), ("b", 10)]
    with pytest.raises(InvalidArgument, match=r"Comparison.front: figure must be one of flow error, energy"):
        HAND.front("cats")
    with pytest.raises(InvalidArgument, match=r"Comparison.front: cost must be one of nfe, seconds, got 'money'"):
        HAND.front("flow error", "money")


def test_the_table_has_a_line_a_row_and_the_floor():
    lines = str(HAND).splitlines()
    assert lines[0] == "model: 100 samples of shape (2,)"
    assert lines[1].split("  ")[0] == "NFE"
    assert len(lines) == 2 + 7 + 1
    assert lines[2].split() == ["5", "a", "3", "4.00e+00", "(3.6e+00,", "4.4e+00)", "9.00e+00", "(8.5e+00,", "9.5e+00)"]
    assert lines[4].split() == ["5", "c", "2", "7.00e+00", "(6.5e+00,", "7.5e+00)"]
    assert lines[-1].split() == ["noise", "floor", "(90", "%)", "-1.5e+00", "to", "1.5e+00"]
    # the figures stand under their names, to the right
    ends = {line.rstrip().rfind(")") for line in lines[2:9]}
    assert ends == {len(lines[1]) - 1} == {max(map(len, lines[2:])) - 1}
    narrow = HAND.table(["energy distance"])
    assert "flow error" not in narrow
    assert "7.00e+00" in narrow
    with pytest.raises(InvalidArgument, match=r"Comparison.table: figures must be one of .* got 'cats'"):
        HAND.table(["cats"])
    with pytest.raises(InvalidType, match=r"Comparison.table: figures must be a list of names, got str"):
        HAND.table("energy distance")


@pytest.fixture(scope="module")
def small():
    """A comparison with every figure that there is."""
    model, _ = sphere()
    return compare(model, (8, 2), [DDIM(), Ancestral()], nfe=(3, 6), data=model.sample(40, sk.Noise(1)), repeats=4)


def test_the_csv_says_every_figure_exactly(small):
    rows = list(csv.DictReader(io.StringIO(small.csv())))
    assert len(rows) == sum(len(row.figures) for row in small.rows) == 2 * 15 + 2 * 14
    there = {(row.sampler, row.budget, name): value for row in small.rows for name, value in row.figures.items()}
    for row in rows:
        value = there.pop((row["sampler"], int(row["budget"]), row["figure"]))
        assert (float(row["value"]), float(row["low"]), float(row["high"])) == tuple(value)
        assert (row["grid"], row["nfe"]) == ("log_snr", row["budget"])
        assert row["solver"] == row["sampler"]
        assert float(row["seconds"]) > 0
    assert not there


def test_the_json_is_all_that_was_found(small, tmp_path):
    path = small.save(tmp_path / "a.json")
    found = json.loads(path.read_text("utf-8"))
    assert found == json.loads(json.dumps(small.to_dict(), allow_nan=False))
    assert found["shape"] == [8, 2]
    assert found["versions"]["torch"] == torch.__version__
    assert [row["nfe"] for row in found["rows"]] == [3, 3, 6, 6]
    for row, wanted in zip(found["rows"], small.rows, strict=True):
        assert {name: Interval(**value) for name, value in row["figures"].items()} == wanted.figures
    assert {name: NoiseFloor(**floor) for name, floor in found["floors"].items()} == small.floors
    assert {name: Interval(**value) for name, value in found["model_error"].items()} == small.model_error


def test_the_picture_shows_the_main_figures_over_both_costs(small, tmp_path, monkeypatch):
    drawn = []
    tradeoffs = sk.plots.tradeoffs
    monkeypatch.setattr(sk.plots, "tradeoffs", lambda panels, **more: drawn.append(panels) or tradeoffs(panels, **more))
    path = small.plot(tmp_path / "a.png")
    assert path.read_bytes()[:4] == b"\x89PNG"
    main = ["flow error", "energy distance", "energy distance to data"]
    assert small.main == main
    assert [(panel.title, panel.cost) for panel in drawn[0]] == [
        (name, cost) for cost in ("network evaluations", "seconds") for name in main
    ]
    panel = drawn[0][1]
    name = str(Ancestral())
    first, second = (row for row in small.rows if row.sampler == name)
    assert panel.curves[name] == [(row.nfe, *row.law["energy distance"]) for row in (first, second)]
    assert panel.front == [(row.nfe, row.law["energy distance"].value) for row in small.front()]
    assert panel.floor == small.floors["energy distance"].high
    assert drawn[0][0].floor is None
    assert list(drawn[0][0].curves) == ["DDIM(eta=0.0)"]
    with pytest.raises(InvalidArgument, match=r"Comparison.plot: figures must be one of"):
        small.plot(tmp_path / "b.png", ["cats"])


def test_progress_is_shown_and_changes_nothing(capsys):
    model, _ = sphere()
    shown, still = (compare(model, (5, 2), [DDIM()], nfe=(3,), repeats=2, progress=p) for p in (True, False))
    assert without_seconds(shown) == without_seconds(still)
    out, err = capsys.readouterr()
    assert not out
    assert "DDIM(eta=0.0) at 3" in err
