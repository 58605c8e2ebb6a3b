"""What a row may depend on: itself, its seed and its id. And what a call may change: nothing."""

import random
import signal
from contextlib import nullcontext
from dataclasses import replace

import guards
import numpy as np
import pytest
import torch
from problems import mixture
from subjects import solvers, stochastic_solvers

import sdekit as sk
from sdekit.solvers import DDIM, Ancestral

ROWS = 1000
SIZES = (1, 2, 3, 7, 16, 64, 1000)
SHUFFLED = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))
EASY = sk.ode.Dopri5(rtol=3e-2, atol=3e-2)


def network(make, *args, **settings):
    """A network whose first and last weights are random, the same ones at each call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = make(*args, **settings)
        for parameter in net.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    return net


def mlp(sde=None):
    """A float32 network wide enough for blocked matrix products."""
    net = network(sk.networks.MLP, (3,), width=96, depth=1)
    return sk.models.Parametrised(net, sde or sk.VPSDE(), sk.models.Epsilon())


def unet():
    """A float32 network of convolutions, group norms and attention."""
    return sk.ddpm(network(sk.networks.UNet, 1, width=8, multipliers=(1, 2), attention=(1,)))


def starts(*event, rows=ROWS):
    return sk.KeyedNoise(1).normal((rows, *event), stream="start", dtype=torch.float32)


def check_rows(run, x, sizes):
    """Each tensor that ``run(x, ids)`` returns, one entry a row, is the same bits in any split, order and company."""
    n = len(x)
    everyone = run(x, torch.arange(n))
    assert all(len(value) == n and not value.isnan().any() for value in everyone)
    for size in sizes:
        for order in (torch.arange(n), SHUFFLED[n > SHUFFLED]):
            for ids in order[: 2 * size if size < 64 else size].split(size):
                for alone, together in zip(run(x[ids], ids), everyone, strict=True):
                    assert torch.equal(alone, together[ids]), f"a row differs in a split of {size}"
    crowd, some = x[:64].clone(), torch.arange(min(n, 64))
    crowd[1::2] *= 1e6
    for alone, together in zip(run(crowd, some), everyone, strict=True):
        assert torch.equal(alone[::2], together[some][::2]), "a row differs beside outliers"


def sampled(model, solver, **settings):
    """A run's samples, and a row's evaluations and error where the solver has them."""

    def run(x, ids):
        r = sk.sample(model, x_T=x, ids=ids, solver=solver, seed=7, per_sample=True, full=True, **settings)
        return [v for v in (r.x, torch.as_tensor(r.nfe).expand(len(x)), r.error) if v is not None]

    return run


def filmed(model, solver, grid="log_snr", **settings):
    """A run's states, side by side."""

    def run(x, ids):
        noise = sk.KeyedNoise(7, ids)
        states = sk.trajectory(model, solver, x, grid, noise, per_sample=True, **settings)
        return [torch.stack([state.x for state in states], 1).detach()]

    return run


def weighed(model, **settings):
    """All that is known of a row's likelihood."""

    def run(x, ids):
        r = sk.log_likelihood(model, x, ids=ids, seed=7, per_sample=True, **settings)
        return [v for v in (r.log_prob, r.trace_se, r.nfe, r.solver, r.prior, r.truncation) if v is not None]

    return run


def served(solver):
    """The network; for the adaptive SDE solver, which is slow on a rough one, an exact model with matrix products."""
    return smooth() if isinstance(solver, sk.solvers.AdaptiveSDE) else mlp()


def smooth():
    """An exact model of two Gaussians with full covariances."""
    root = torch.linspace(-1, 1, 9).reshape(3, 3)
    covariances = torch.stack([0.3 * root @ root.mT, 0.2 * root.mT @ root]) + 0.5 * torch.eye(3)
    return sk.models.GaussianMixture(sk.VPSDE(), [0.4, 0.6], torch.eye(2, 3), covariances)


def cheap(solver):
    """The solver and its steps: an adaptive method at a tolerance that it reaches soon."""
    if not solver.adaptive:
        return {"solver": solver, "steps": 3}
    easy = {"tol": 1.0} if isinstance(solver, sk.solvers.AdaptiveSDE) else {"method": EASY}
    return {"solver": replace(solver, **easy), "steps": 2}


@pytest.mark.parametrize("solver", solvers())
def test_a_sample_is_the_same_bits_in_any_split(solver):
    """With its evaluations and its error, from given starts; the outliers are 1e6 times as large."""
    rows, sizes = (130, SIZES[:-1]) if solver.adaptive else (ROWS, SIZES)
    check_rows(sampled(served(solver), **cheap(solver)), starts(3, rows=rows), sizes)


@pytest.mark.parametrize("solver", solvers())
def test_a_trajectory_is_the_same_bits_in_any_split(solver):
    """Every state of it; and its last one is the sample."""
    x = starts(3, rows=130)
    run = filmed(served(solver), **cheap(solver))
    check_rows(run, x, (1, 7, 64))
    ids = torch.arange(len(x))
    assert torch.equal(run(x, ids)[0][:, -1], sampled(served(solver), **cheap(solver))(x, ids)[0])


@pytest.mark.parametrize("source", [sk.KeyedNoise, sk.BrownianPath])
def test_a_sample_from_the_prior_is_the_same_bits_in_any_split(source):
    """Its start is a keyed draw, too; and another id is another sample."""

    def run(x, ids):
        return [sk.sample(mlp(), (len(ids), 3), solver=Ancestral(), steps=3, noise=source(7, ids), per_sample=True)]

    x = starts(3, rows=130)
    check_rows(run, x, (1, 7, 64))
    assert not torch.equal(*(run(x, torch.tensor([i]))[0] for i in (0, 1)))


@pytest.mark.parametrize("trace", ["exact", sk.Hutchinson(2), sk.Hutchinson(2, "normal")], ids=repr)
@pytest.mark.parametrize("method", [EASY, sk.ode.Heun(3)], ids=repr)
def test_a_likelihood_is_the_same_bits_in_any_split(method, trace):
    """With its standard error, its evaluations and, of fewer rows, its account of the error."""
    if method.evaluations and trace == "exact":
        check_rows(weighed(mlp(), method=method, trace=trace, budget=False), starts(3, rows=ROWS), SIZES)
    check_rows(weighed(mlp(), method=method, trace=trace), starts(3, rows=70), (3, 64))


@pytest.mark.parametrize("method", [EASY, sk.ode.RK4(2)], ids=repr)
@pytest.mark.parametrize("way", [sk.encode, sk.decode])
def test_a_latent_is_the_same_bits_in_any_split(way, method):
    model = mlp()
    check_rows(lambda x, ids: [way(model, x, method=method, per_sample=True, ids=ids)], starts(3, rows=130), (1, 7, 64))


def test_images_of_a_unet_are_the_same_bits_in_any_split():
    """Convolutions, group norms and attention; a sample, and a likelihood by Hutchinson's trace."""
    x, model = starts(1, 8, 8, rows=70), unet()
    check_rows(sampled(model, Ancestral(), steps=2), x, (1, 3, 64))
    check_rows(weighed(model, method=sk.ode.Euler(1), trace=sk.Hutchinson(1)), x[:20], (1, 3))


@pytest.fixture
def threads():
    """A function that sets torch's number of threads, until the end of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(("model", "event"), [(mlp, (3,)), (unet, (1, 8, 8))], ids=["mlp", "unet"])
def test_one_thread_and_two_give_the_same_bits(model, event, threads):
    """Samples, trajectories and likelihoods, of 64 rows and of one."""
    x, model, ids = starts(*event, rows=64), model(), torch.arange(64)
    runs = [filmed(model, Ancestral(), steps=2), weighed(model, method=EASY, trace=sk.Hutchinson(1), budget=False)]
    results = []
    for n in (1, 2):
        threads(n)
        results.append([v for run in runs[: 1 + (event == (3,))] for v in run(x, ids)])
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


class Coupled(sk.models.ScoreModel):
    """A model that looks at its whole batch."""

    def __init__(self, model, how):
        super().__init__()
        self.model, self.how, self.sde = model, how, model.sde

    def forward(self, x, t, **condition):
        prediction = self.model(x, t, **condition)
        return prediction.with_eps(prediction.eps + 1e-3 * self.how(x))


def mean(x):
    return x.mean(0).expand(x.shape)


def draw(x):
    generator = torch.Generator().manual_seed(len(x) + int(x[0].abs().sum() * 1e6))
    return torch.randn(x.shape, generator=generator)


@pytest.mark.parametrize("couple", [mean, draw])
@pytest.mark.parametrize("run", [
    lambda m: sampled(m, DDIM(), steps=3),
    lambda m: filmed(m, DDIM(), steps=3),
    lambda m: weighed(m, method=sk.ode.Heun(1)),
], ids=["sample", "trajectory", "likelihood"])  # fmt: skip
def test_a_model_that_couples_its_rows_is_found(run, couple):
    """The negative controls: a batch mean, and draws of the batch."""
    with pytest.raises(AssertionError, match="a row differs"):
        check_rows(run(Coupled(mlp(), couple)), starts(3, rows=70), (1,))


def test_a_solver_that_couples_its_rows_is_found():
    """Song et al.'s corrector takes norms over the batch."""
    solver = sk.solvers.PredictorCorrector(corrector=sk.solvers.Langevin(step_size="batch"))
    with pytest.raises(AssertionError, match="a row differs"):
        check_rows(sampled(mlp(), solver, steps=3), starts(3, rows=130), (1, 7, 64))


@pytest.mark.parametrize("solver", stochastic_solvers())
def test_without_keyed_draws_a_row_depends_on_its_split(solver):
    """A negative control: batch-wide draws."""
    settings = {"solver": solver, "steps": 3, "x_T": torch.linspace(-1, 1, 12).reshape(6, 2), "seed": 11}
    alone = {**settings, "x_T": settings["x_T"][3:]}
    model = mixture(sk.VPSDE())
    assert not torch.equal(sk.sample(model, **settings)[3:], sk.sample(model, **alone))


def test_a_network_sees_whole_chunks_and_a_row_in_the_slot_of_its_id():
    """Ids 70, 5 and 6 are two chunks of 64, whose empty slots hold copies of one of their rows."""
    seen = []

    def look(x, t):
        seen.append(x[:, 0].tolist())
        return torch.zeros_like(x)

    model = sk.models.FromFunction(sk.VPSDE(), eps=look)
    x_T = torch.tensor([[1.0], [2.0], [3.0]])
    sk.sample(model, x_T=x_T, ids=[70, 5, 6], solver=DDIM(), steps=1, per_sample=True)
    assert seen == [[2.0] * 6 + [3.0] + [2.0] * 57, [1.0] * 64]


def test_a_row_s_steps_do_not_depend_on_when_its_mates_arrive():
    """Among mates of other speeds, over hundreds of steps: the bits of its end, its evaluations and its error."""
    rates = torch.logspace(0, 1.7, 64, dtype=torch.float64)[:, None]
    method = sk.ode.Dopri5(rtol=1e-8, atol=1e-8)

    def run(rates):
        x, stats = method.advance(lambda x, t: torch.sin(rates * t[:, None]) * rates - x, rates.clone(), 0.0, 3.0)
        return x, stats.nfe, stats.error

    everyone = run(rates)
    for k in (1, 3, 17, 40):
        others = rates.clone()
        others[k + 1 :] = 1e-3
        for alone, together in zip(run(others), everyone, strict=True):
            assert torch.equal(alone[: k + 1], together[: k + 1])


@pytest.mark.parametrize("run", [
    lambda m: sampled(m, DDIM(), steps=3),
    lambda m: sampled(m, **cheap(sk.solvers.ProbabilityFlow())),
    lambda m: filmed(m, sk.solvers.ProbabilityFlow(EASY), steps=2),
    lambda m: weighed(m, method=EASY, trace=sk.Hutchinson(2)),
    lambda m: weighed(m, method=sk.ode.Heun(2)),
    lambda m: lambda x, ids: [sk.encode(m, x, method=EASY, per_sample=True, ids=ids)],
    lambda m: lambda x, ids: [sk.decode(m, x, method=sk.ode.Heun(2), per_sample=True, ids=ids)],
], ids=["sample", "adaptive", "trajectory", "adaptive likelihood", "likelihood", "encode", "decode"])  # fmt: skip
@pytest.mark.parametrize("where", ["start", "network"])
def test_rows_that_are_not_finite_are_named_and_the_others_are_had_without_them(run, where):
    """A NaN in two rows of the start, or from the network for them; dropped, the others are the bits they ever were."""
    model, x, ids = mlp(), starts(3, rows=80), SHUFFLED[SHUFFLED < 128][:80]
    right = run(model)(x, ids)
    bad = [5, 77]
    if where == "start":
        x[bad] = torch.nan
    else:
        x[bad] = 1e7
        model = Coupled(model, lambda y: torch.where(y[:, :1].abs() > 1e5, torch.nan, 0.0).expand(y.shape))
    keep, named = torch.arange(80), []
    while len(named) < len(bad):  # an adaptive method gives up at the first of them
        with pytest.raises((sk.errors.NonFiniteError, sk.errors.InvalidArgument, sk.errors.IntegrationError)) as caught:
            run(model)(x[keep], ids[keep])
        assert caught.value.rows
        rows = list(caught.value.rows)
        assert all(str(row) in str(caught.value) for row in rows)
        named += keep[rows].tolist()
        keep = keep[[i for i in range(len(keep)) if i not in rows]]
    assert sorted(named) == bad
    rest = run(model)(x[keep], ids[keep])
    for alone, together in zip(rest, right, strict=True):
        assert torch.equal(alone, together[keep])


class Net(torch.nn.Module):
    """A network with dropout, batch normalisation and conditions, which fails at its k-th call."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.BatchNorm1d(2), torch.nn.Dropout(0.5), torch.nn.Linear(2, 2)])
        self.layers[1].eval()  # one part in another mode than the rest
        self.fail, self.calls = (None, None), 0

    def forward(self, x, label, y=None):
        self.calls += 1
        if self.calls == self.fail[0]:
            raise self.fail[1]
        for layer in self.layers:
            x = layer(x)
        return x


def digest(model):
    """All that a call could change and must not, a number or bytes each."""
    numbers = np.random.get_state()  # noqa: NPY002
    return {
        "torch's generator": torch.get_rng_state().tolist(),
        "NumPy's generator": (numbers[1].tolist(), *numbers[2:]),
        "Python's generator": random.getstate(),
        "default dtype": torch.get_default_dtype(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "threads": torch.get_num_threads(),
        "determinism": torch.are_deterministic_algorithms_enabled(),
        "modes": [module.training for module in model.modules()],
        "weights": {k: v.tolist() for k, v in model.state_dict().items()},
        "gradients of weights": [(p.requires_grad, p.grad is None) for p in model.parameters()],
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
        "SIGINT": signal.getsignal(signal.SIGINT),
    }


X = torch.linspace(-1, 1, 8).reshape(4, 2)
QUICK = sk.ode.RK4(2)


def _trained(model):
    """Trains it: its weights and the averages of its normalisation are what it is for, and are put back."""
    before = {k: v.clone() for k, v in model.state_dict().items()}
    try:
        settings = sk.training.Settings(steps=3, batch_size=4, lr=1e-3)
        sk.training.train(model, X, settings, loss=sk.losses.DenoisingScoreMatching())
    finally:
        model.load_state_dict(before)


def _lost(loss):
    """The value of an objective and its gradient, with the model in evaluation mode, as normalisation would move."""

    def call(model):
        with sk.models.base.evaluating(model):
            value = sum(loss(model, X, sk.Noise(k)) for k in range(3))
        torch.autograd.grad(value, list(model.parameters()), allow_unused=True)

    return call


def _moved(model):
    """Langevin dynamics on its score, in evaluation mode: the chain knows a function, and no model."""
    with sk.models.base.evaluating(model):
        sk.langevin(lambda x: model(x, 0.5).score, X, step_size=0.1, steps=4)


def _listed(states):
    return [state.x for state in states]


CALLS = {
    "sample": lambda m: sk.sample(m, (4, 2), steps=4),
    "sample per sample": lambda m: sk.sample(m, (4, 2), steps=4, per_sample=True),
    "sample with a bar": lambda m: sk.sample(m, (4, 2), steps=4, progress=True),
    "adaptive sample": lambda m: sk.sample(m, (4, 2), solver=sk.solvers.ProbabilityFlow(EASY)),
    "sample of given": lambda m: sk.sample(m.given(y=torch.zeros(4)), (4, 2), steps=4),
    "guided sample": lambda m: sk.sample(
        sk.guidance.ClassifierFree(m.given(y=torch.zeros(4)), m, 2.0), (4, 2), steps=4
    ),
    "trajectory": lambda m: _listed(sk.trajectory(m, Ancestral(), X, "log_snr", sk.Noise(0), steps=4)),
    "trajectory per sample": lambda m: _listed(
        sk.trajectory(m, Ancestral(), X, "log_snr", sk.KeyedNoise(0), steps=4, per_sample=True)
    ),
    "likelihood": lambda m: sk.log_likelihood(m, X, method=QUICK),
    "likelihood per sample": lambda m: sk.log_likelihood(m, X, method=QUICK, trace="hutchinson", per_sample=True),
    "likelihood by SciPy": lambda m: sk.log_likelihood(m, X, method=sk.ode.SciPy(rtol=1e-2, atol=1e-2)),
    "likelihood by torchdiffeq": lambda m: sk.log_likelihood(m, X, method=sk.ode.TorchDiffEq(rtol=1e-2, atol=1e-2)),
    "encode": lambda m: sk.encode(m, X, method=QUICK),
    "decode": lambda m: sk.decode(m, X, method=QUICK, per_sample=True),
    "langevin": _moved,
    "denoising": _lost(sk.losses.DenoisingScoreMatching()),
    "sliced": _lost(sk.losses.SlicedScoreMatching()),
    "implicit": _lost(sk.losses.ImplicitScoreMatching()),
    "train": _trained,
    "compare": lambda m: sk.compare(m, (4, 2), [sk.solvers.DDIM()], nfe=(2,), data=torch.cat([X] * 16), repeats=2),
}
WITHOUT_A_NETWORK = {
    "simulate": lambda: _listed(sk.simulate(sk.VPSDE(), X, sk.Noise(0), steps=4)),
    "energy distance": lambda: sk.metrics.energy_distance(X, X + 1),
    "noise floor": lambda: sk.metrics.noise_floor(X, X + 1, 2, repeats=3),
    "interval": lambda: sk.metrics.SlicedWasserstein(X + 1).interval(X, repeats=3),
    "floor": lambda: sk.metrics.MMD(X + 1).floor(X, 2, repeats=3),
    "oracle": lambda: sk.comparison.oracle("lattice"),
    "swiss roll": lambda: sk.data.swiss_roll(5),
}
FAILURES = [
    (None, None),
    *((k, e) for k in (1, 2, 3) for e in (KeyboardInterrupt(), RuntimeError("the network failed"))),
]


@pytest.mark.parametrize(
    "failure", FAILURES, ids=lambda f: "whole" if f[0] is None else f"{type(f[1]).__name__}-{f[0]}"
)
@pytest.mark.parametrize("name", CALLS)
def test_a_call_leaves_everything_as_it_found_it(name, failure):
    """Generators, dtype, gradients, threads, modes, weights; also where the network fails at its k-th call."""
    model = sk.ddpm(network(Net))
    model.network.fail = failure
    before = digest(model)
    if failure[0] is None:
        CALLS[name](model)
    else:
        with pytest.raises(type(failure[1])):
            CALLS[name](model)
    after = digest(model)
    assert {what for what in before if before[what] != after[what]} == set()


@pytest.mark.parametrize("name", WITHOUT_A_NETWORK)
def test_a_call_without_a_network_leaves_everything_as_it_found_it(name):
    model = sk.ddpm(network(Net))
    before = digest(model)
    WITHOUT_A_NETWORK[name]()
    assert digest(model) == before


CHANGES = {
    "torch's generator": lambda m: torch.manual_seed(1),
    "NumPy's generator": lambda m: np.random.rand(),  # noqa: NPY002
    "Python's generator": lambda m: random.random(),
    "default dtype": lambda m: torch.set_default_dtype(torch.float64),
    "gradients": lambda m: torch.set_grad_enabled(False),
    "threads": lambda m: torch.set_num_threads(2),
    "modes": lambda m: m.network.layers[1].train(),
    "weights": lambda m: m.network.layers[0].running_mean.add_(1),
    "gradients of weights": lambda m: m.network.layers[2].weight.requires_grad_(False),
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_digest_sees_every_change(what):
    """Its negative control."""
    numbers, python = np.random.get_state(), random.getstate()  # noqa: NPY002
    model = sk.ddpm(network(Net))
    before = digest(model)
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad() if what == "weights" else nullcontext():
            CHANGES[what](model)
            after = digest(model) | ({"gradients": before["gradients"]} if what == "weights" else {})
    finally:
        np.random.set_state(numbers)  # noqa: NPY002
        random.setstate(python)
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
        torch.set_num_threads(1)
    assert {k for k in before if before[k] != after[k]} == {what}


@pytest.mark.parametrize("draw", [
    lambda: torch.rand(2), lambda: torch.randn_like(X), lambda: X.clone().normal_(), lambda: torch.randperm(3),
    lambda: torch.nn.functional.dropout(X, 0.5), lambda: torch.nn.Linear(2, 2), lambda: torch.bernoulli(X.abs()),
    lambda: torch.multinomial(X.abs().reshape(-1), 1),
])  # fmt: skip
def test_the_guard_stops_a_draw_that_nobody_seeded(draw):
    """Of torch's own generator; a generator passed in, or a seed lent under a fork, is fine."""
    with guards.Guards():
        with pytest.raises(guards.UnseededDraw, match=r"test_independence\.py"):
            draw()
        torch.randn(2, generator=torch.Generator().manual_seed(0))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            draw()


class Draws(DDIM):
    """A solver that draws for itself."""

    def step(self, model, state, s, noise):
        """A step with noise of its own."""
        state = super().step(model, state, s, noise)
        return state._replace(x=state.x + torch.randn_like(state.x))


def test_the_guard_stops_a_solver_that_draws_for_itself():
    with guards.Guards(), pytest.raises(guards.UnseededDraw):
        sk.sample(mlp(), (2, 3), solver=Draws(), steps=2)


def test_the_guard_stops_a_silent_broadcast_in_the_package():
    """(B, 1) beside (B,) is (B, B); a number, an event beside a batch, and other people's code are no matter of it."""
    column, row, batch = torch.ones(4, 1), torch.ones(4), torch.ones(4, 2)
    with guards.Guards():
        for x, y in ((column, row), (torch.ones(4), torch.ones(2, 4, 2))):
            with pytest.raises(guards.SilentBroadcast, match=r"types\.py, lincomb"):
                sk.types.lincomb(1.0, x, 1.0, y)
        sk.types.lincomb(1.0, batch, 1.0, torch.tensor(1.0))
        sk.types.lincomb(1.0, batch, 1.0, torch.ones(2))
        sk.types.lincomb(1.0, batch, 1.0, column)
        assert (column + row).shape == (4, 4)
