"""Guidance: against closed forms, through every solver, by rows, and in likelihoods."""

import copy
import math

import pytest
import torch
from problems import F64, energy_distance, gaussians, mixture
from subjects import sdes, solvers

import sdekit as sk
from sdekit.errors import InvalidArgument, InvalidType, NonFiniteError, UnsupportedCombination
from sdekit.guidance import Classifier, ClassifierFree
from sdekit.losses import ConditionDropout
from sdekit.models import FromFunction, GaussianMixture, GaussianPrediction, Given
from sdekit.models.wrappers import Whole

each_sde = pytest.mark.parametrize("sde", sdes())

CENTRES = torch.tensor([[2.0, 0.0], [-1.0, 1.5], [0.5, -2.0]], dtype=F64)
SPREADS = torch.tensor([0.3, 0.6, 0.15], dtype=F64)  # variances
SHARES = torch.tensor([0.2, 0.5, 0.3], dtype=F64)


def randn(*shape, seed=0):
    return sk.Noise(seed).normal(shape, stream="x", dtype=F64)


def times(sde, n=5):
    t = torch.logspace(math.log10(sde.t_min), math.log10(sde.t_max), n, dtype=F64)
    return t.clamp(sde.t_min, sde.t_max).tolist()


def whole(sde):
    """The exact model of three isotropic Gaussians."""
    return GaussianMixture(sde, SHARES, CENTRES, SPREADS)


def part(sde, k):
    """The exact model of one of them."""
    return GaussianMixture(sde, [1.0], CENTRES[k : k + 1], SPREADS[k : k + 1])


def scaled(sde, x, t):
    """alpha and sigma at times (B,) or one, aligned with x."""
    return tuple(f(t).to(x).reshape(-1, *(1,) * (x.ndim - 1)) for f in (sde.alpha, sde.sigma))


def log_parts(sde, x, t):
    """log p_t(x | k) of each of the three, (B, 3)."""
    alpha, sigma = scaled(sde, x, torch.as_tensor(t, dtype=F64))
    variance = alpha**2 * SPREADS.to(x) + sigma**2
    gap = ((x[:, None] - alpha[..., None] * CENTRES.to(x)) ** 2).sum(-1)
    return -0.5 * gap / variance - torch.log(2 * math.pi * variance)


def posterior(sde):
    """log p(k = y | x_t = x) of the three Gaussians, exactly."""

    def log_prob(x, t, y):
        joint = SHARES.to(x).log() + log_parts(sde, x, t)
        return torch.log_softmax(joint, -1).gather(1, y[:, None])[:, 0]

    return log_prob


def labelled(sde):
    """A model whose label changes its law: component y of the three, and the whole mixture without a label."""

    def eps(x, t, y=None):
        alpha, sigma = scaled(sde, x, torch.as_tensor(t, dtype=F64).reshape(-1))
        if y is None:
            r = torch.softmax(SHARES.to(x).log() + log_parts(sde, x, torch.as_tensor(t, dtype=F64).reshape(-1)), -1)
        else:
            r = torch.nn.functional.one_hot(y, 3).to(x)
        variance = alpha[..., None] ** 2 * SPREADS.to(x)[:, None] + sigma[..., None] ** 2
        return sigma * (r[..., None] * (x[:, None] - alpha[..., None] * CENTRES.to(x)) / variance).sum(1)

    return FromFunction(sde, eps=eps)


class Bare(sk.SDE):
    """VP, of which only drift and diffusion are known."""

    t_min, t_max = 1e-3, 1.0
    prior = sk.sdes.NormalPrior(0.0, 1.0)

    def drift(self, x, t):
        return -0.5 * (0.1 + 19.9 * t) * x

    def diffusion(self, t):
        return torch.sqrt(0.1 + 19.9 * torch.as_tensor(t, dtype=F64))


VP = sk.VPSDE(t_min=1e-3)
MODEL = FromFunction(VP, x0=lambda x, t: x)
"""Asked nothing, where a loss asks it nothing."""
BARE = Bare()


def bare(model):
    """A model of VP, as one of a process without alpha and sigma."""
    return FromFunction(BARE, score=lambda x, t, **y: model(x, VP.at(_flat(t), x), **y).score)


def _flat(t):
    return t.reshape(-1) if isinstance(t, torch.Tensor) else t


VIEWS = ("x0", "eps", "score", "velocity")

# Classifier-free


@each_sde
@pytest.mark.parametrize("w", [-0.5, 0.3, 2.0, 7.5])
def test_every_view_is_the_linear_combination(sde, w):
    """Of eight Gaussians with known scores and a mixture, at one time and at a time per row."""
    cond, uncond = gaussians(sde), mixture(sde, (8,))
    guided = ClassifierFree(cond, uncond, w)
    for t in (*times(sde), torch.tensor(times(sde))):
        x = sde.perturb(randn(5, 8), t, randn(5, 8, seed=1))
        p, c, u = guided(x, t), cond(x, t), uncond(x, t)
        for view in VIEWS:
            wanted = (1 - w) * getattr(u, view) + w * getattr(c, view)
            scale = float(max(getattr(u, view).abs().max(), getattr(c, view).abs().max(), x.abs().max()))
            torch.testing.assert_close(getattr(p, view), wanted, rtol=1e-9, atol=1e-11 * scale, msg=view)


@each_sde
def test_the_eps_of_eps_models_is_mixed_as_it_is(sde):
    """Also where sigma is least: no detour through x0."""
    a, b = randn(4, 3, seed=1), randn(4, 3, seed=2)
    one, other = (FromFunction(sde, eps=lambda x, t, value=value: value) for value in (a, b))
    for t in times(sde):
        eps = ClassifierFree(one, other, 3.0)(randn(4, 3), t).eps
        assert torch.equal(eps, torch.add(-2.0 * b, a, alpha=3.0))


@each_sde
def test_weight_one_is_the_conditional_model_and_weight_zero_the_other_to_the_bit(sde):
    cond, uncond = mixture(sde, seed=1), mixture(sde, seed=2)
    for t in times(sde):
        x = sde.perturb(randn(6, 2), t, randn(6, 2, seed=1))
        for view in VIEWS:
            assert torch.equal(getattr(ClassifierFree(cond, uncond, 1.0)(x, t), view), getattr(cond(x, t), view))
            assert torch.equal(getattr(ClassifierFree(cond, uncond, 0.0)(x, t), view), getattr(uncond(x, t), view))


def test_two_gaussians_guide_to_a_third():
    """(1 - w) / v_u + w / v_c is the precision of p_u^(1 - w) p_c^w, and its mean is weighed so: in closed form."""
    sde, w, t = sk.EDMSDE(), 2.5, 1.3
    mu, nu, v, u = 0.7, -0.4, 0.5, 2.0
    one = torch.ones(1, 1, dtype=F64)
    cond, uncond = GaussianMixture(sde, [1.0], mu * one, v), GaussianMixture(sde, [1.0], nu * one, u)
    x = randn(7, 1)
    precision = (1 - w) / (u + t * t) + w / (v + t * t)
    mean = ((1 - w) * nu / (u + t * t) + w * mu / (v + t * t)) / precision
    torch.testing.assert_close(
        ClassifierFree(cond, uncond, w)(x, t).score, -precision * (x - mean), rtol=1e-12, atol=1e-13
    )


def test_both_ways_of_giving_a_condition_agree_to_the_bit():
    model, y = labelled(VP), torch.tensor([0, 1, 2, 1])
    before, after = ClassifierFree(model.given(y=y), model, 3.0), ClassifierFree(model, model, 3.0).given(y=y)
    x = randn(4, 2)
    for t in times(VP):
        assert torch.equal(before(x, t).eps, after(x, t).eps)
        assert torch.equal(before(x, t).eps, ClassifierFree(model, model, 3.0)(x, t, y=y).eps)
    for guided in (before, after):
        assert torch.equal(guided.condition["y"], y)
        assert torch.equal(guided.rows(torch.tensor([2]))(x[2:3], 0.4).eps, before(x, 0.4).eps[2:3])
    settings = {"steps": 8, "seed": 1, "solver": sk.solvers.Ancestral(), "dtype": F64}
    assert torch.equal(sk.sample(before, (4, 2), **settings), sk.sample(after, (4, 2), **settings))


def test_the_unconditional_model_keeps_what_is_bound_to_it():
    """A condition given later is the conditional model's alone: the other may be one to keep away from."""
    model, y, away = labelled(VP), torch.tensor([0, 1]), torch.tensor([2, 2])
    guided = ClassifierFree(model, model.given(y=away), 2.0).given(y=y)
    x = randn(2, 2)
    wanted = 2 * model(x, 0.3, y=y).eps - model(x, 0.3, y=away).eps
    torch.testing.assert_close(guided(x, 0.3).eps, wanted)
    assert set(guided.condition) == {"y", "uncond.y"}


def test_a_learned_variance_is_the_conditional_models():
    class Learned(sk.models.ScoreModel):
        def __init__(self, log_var):
            super().__init__()
            self.sde, self.log_var = VP, log_var

        def forward(self, x, t, **condition):
            spread = lambda s: self.log_var * torch.ones_like(x)  # noqa: E731
            return GaussianPrediction(x, self.sde.level(t, x), x, 0.0, 1.0, spread)

    x = randn(2, 3)
    assert float(ClassifierFree(Learned(-1.0), Learned(-2.0), 3.0)(x, 0.5).spread(None)[0, 0]) == -1.0
    assert float(Classifier(Learned(-1.0), lambda x, t: x.sum(1))(x, 0.5).spread(None)[0, 0]) == -1.0


# Classifier


@each_sde
def test_the_exact_classifier_makes_the_exact_conditional_model(sde):
    """Bayes: grad log p(x) + grad log p(y | x) = grad log p(x | y), for every component, time and view."""
    guided, x0, eps = Classifier(whole(sde), posterior(sde)), randn(5, 2), randn(5, 2, seed=1)
    for t in (*times(sde), torch.tensor(times(sde))):
        x = sde.perturb(x0, t, eps)
        for k in range(3):
            p, wanted = guided(x, t, y=torch.full((5,), k)), part(sde, k)(x, t)
            for view in VIEWS:
                a, b = getattr(p, view), getattr(wanted, view)
                scale = float(max(b.abs().max(), getattr(whole(sde)(x, t), view).abs().max(), 1.0))
                torch.testing.assert_close(a, b, rtol=0, atol=1e-10 * scale, msg=view)


@each_sde
@pytest.mark.parametrize("w", [0.0, 2.0, -1.0])
def test_other_weights_are_powers_of_the_likelihood(sde, w):
    """grad log p(x) + w grad log p(y | x), with both gradients from autograd on the closed form."""
    y = torch.tensor([0, 1, 2, 0, 1])
    for t in times(sde):
        x = sde.perturb(randn(5, 2), t, randn(5, 2, seed=1)).requires_grad_()
        log_p = torch.logsumexp(SHARES.log() + log_parts(sde, x, t), -1) + w * posterior(sde)(x, t, y)
        (score,) = torch.autograd.grad(log_p.sum(), x)
        got = Classifier(whole(sde), posterior(sde), w).given(y=y)(x.detach(), t).score
        torch.testing.assert_close(got, score, rtol=1e-8, atol=1e-10 * float(score.abs().max()))


def test_classifier_and_classifier_free_guidance_are_the_same_for_exact_models():
    """(1 - w) s + w (s + grad log p(y | x)) = s + w grad log p(y | x): Ho & Salimans' argument."""
    y, x = torch.tensor([2, 0, 1, 1]), randn(4, 2)
    one = Classifier(whole(VP), posterior(VP), 3.0).given(y=y)
    other = ClassifierFree(labelled(VP).given(y=y), labelled(VP), 3.0)
    for t in times(VP):
        torch.testing.assert_close(one(x, t).eps, other(x, t).eps, rtol=1e-9, atol=1e-11)


def test_its_samples_have_the_components_law():
    """Samples of the guided mixture against draws of one component, beside the distance of two sets of draws."""
    y = torch.ones(600, dtype=torch.int64)
    guided = Classifier(whole(VP), posterior(VP)).given(y=y)
    x = sk.sample(guided, (600, 2), steps=40, seed=3)
    data = [part(VP, 1).sample(600, sk.Noise(seed)) for seed in (1, 2)]
    assert energy_distance(x, data[0]) < 2.5 * energy_distance(*data)
    assert energy_distance(whole(VP).sample(600, sk.Noise(4)), data[0]) > 20 * energy_distance(*data)
    torch.testing.assert_close(x.mean(0), CENTRES[1], rtol=0, atol=0.1)
    torch.testing.assert_close(x.var(0), SPREADS[1].expand(2), rtol=0.15, atol=0)


def test_a_classifier_is_told_a_time_a_row_in_the_dtype_of_x():
    seen = []

    def log_prob(x, t):
        seen.append((x.dtype, t))
        return -x.square().sum(1)

    guided = Classifier(whole(VP), log_prob)
    for dtype in (torch.float32, F64):
        guided(randn(3, 2).to(dtype), 0.3)
        guided(randn(3, 2).to(dtype), torch.tensor([0.1, 0.2, 0.3], dtype=F64))
    for (dtype, t), wanted in zip(seen, ([0.3] * 3, [0.1, 0.2, 0.3]) * 2, strict=True):
        assert (t.dtype, t.shape) == (dtype, (3,))
        torch.testing.assert_close(t, torch.tensor(wanted, dtype=F64).to(dtype), rtol=0, atol=0)
    assert {dtype for dtype, _ in seen} == {torch.float32, F64}


def test_a_classifier_that_is_a_module_moves_and_is_evaluated_with_the_model():
    """Its dropout is off in a run, and its mode afterwards as before; the dtype is the model's."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones((), dtype=F64))

        def forward(self, x, t):
            assert not self.training
            return -self.scale * x.square().sum(1)

    net = Net()
    guided = Classifier(whole(VP), net, 0.5)
    sk.sample(guided, (3, 2), steps=3)
    assert net.training
    assert guided.dtype == F64
    guided.to(torch.float32)
    assert net.scale.dtype == torch.float32


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_gradient_is_taken_in_every_mode(mode):
    """And a run under inference mode, whose rows are made there, ends with the same bits."""
    y = torch.tensor([0, 1, 2])
    guided, x = Classifier(whole(VP), posterior(VP), 2.0).given(y=y), randn(3, 2)
    wanted, run = guided(x, 0.2).score, sk.sample(guided, (3, 2), steps=4, per_sample=True)
    with mode():
        assert torch.equal(guided(x.clone(), 0.2).score, wanted)
        rows = guided(x.clone(), torch.full((3,), 0.2, dtype=F64)).score
        torch.testing.assert_close(rows, wanted, rtol=1e-12, atol=0)
        assert torch.equal(sk.sample(guided, (3, 2), steps=4, per_sample=True), run)
    assert not x.requires_grad


def test_gradients_flow_through_the_guidance():
    """The Jacobian of the guided score is that of the component's score: -1 / variance."""
    x = randn(1, 2).requires_grad_()
    score = Classifier(whole(VP), posterior(VP)).given(y=torch.tensor([1]))(x, 0.4).score
    jacobian = torch.stack([torch.autograd.grad(s, x, retain_graph=True)[0][0] for s in score[0]])
    alpha, sigma = float(VP.alpha(0.4)), float(VP.sigma(0.4))
    wanted = -torch.eye(2, dtype=F64) / (alpha**2 * SPREADS[1] + sigma**2)
    torch.testing.assert_close(jacobian, wanted, rtol=0, atol=1e-10)


# Weights


def per_row(make, weights):
    """A guidance by a tensor of weights, and by each of its numbers."""
    return make(weights), [make(float(w)) for w in weights]


MAKERS = {
    "classifier-free": lambda w: ClassifierFree(labelled(VP).given(y=torch.tensor([0, 1, 2, 1])), labelled(VP), w),
    "classifier": lambda w: Classifier(whole(VP), posterior(VP), w).given(y=torch.tensor([0, 1, 2, 1])),
}
each_guidance = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@each_guidance
def test_a_weight_a_row_is_each_rows_own(make):
    weights, x, index = torch.tensor([0.0, 1.0, 2.5, -1.0], dtype=F64), randn(4, 2), torch.tensor([3, 1])
    together, apart = per_row(make, weights)
    for t in (*times(VP), torch.linspace(0.1, 0.9, 4, dtype=F64)):
        wanted = torch.stack([model(x, t).eps[i] for i, model in enumerate(apart)])
        torch.testing.assert_close(together(x, t).eps, wanted, rtol=0, atol=1e-12)
        part_t = t[index] if isinstance(t, torch.Tensor) else t
        torch.testing.assert_close(together.rows(index)(x[index], part_t).eps, wanted[index], rtol=0, atol=1e-12)
    assert torch.equal(together.condition["weight"], weights)


@each_guidance
def test_a_weight_is_a_function_of_the_level(make):
    """An interval: guided within it, conditional outside, at one time and at a time a row."""

    def interval(level):
        return 1.0 + 2.0 * ((level.sigma > 0.3) & (level.sigma < 0.9))

    x, t = randn(4, 2), torch.tensor([1e-3, 0.3, 0.4, 1.0], dtype=F64)
    inside = (VP.sigma(t) > 0.3) & (VP.sigma(t) < 0.9)
    assert inside.tolist() == [False, True, True, False]
    guided, plain, strong = make(interval), make(1.0), make(3.0)
    rows = guided(x, t)
    for i, time in enumerate(t.tolist()):
        wanted = (strong if inside[i] else plain)(x, time)
        torch.testing.assert_close(guided(x, time).eps, wanted.eps, rtol=0, atol=0)
        torch.testing.assert_close(rows.eps[i], wanted.eps[i], rtol=0, atol=1e-12)


@each_guidance
def test_whole_numbers_and_tensors_of_one_number_are_weights(make):
    x = randn(4, 2)
    for weight in (2, torch.tensor(2), torch.tensor(2.0), lambda level: 2, lambda level: torch.tensor(2.0)):
        assert torch.equal(make(weight)(x, 0.4).eps, make(2.0)(x, 0.4).eps)


@each_guidance
def test_weights_and_conditions_move_with_the_model_and_weights_are_never_rounded(make):
    weights = torch.tensor([1.1, 2.2, 3.3, 4.4], dtype=F64)
    guided = make(weights)
    assert torch.equal(guided.to(torch.bfloat16).condition["weight"], weights)
    moved = copy.deepcopy(guided).to("meta")
    for name in ("weight", "y"):
        assert moved.condition[name].device.type == "meta"
        assert guided.condition[name].device.type == "cpu"


# Solvers, rows and likelihoods


@pytest.mark.parametrize("solver", solvers())
@each_guidance
def test_every_solver_runs_a_guided_model(solver, make):
    """Rows of components 0, 1, 2, 1 end near their components at weight 1."""
    x = sk.sample(make(1.0), (4, 2), solver=solver, steps=40 if solver.evaluations else None, seed=1, dtype=F64)
    if solver.order is not None or type(solver).__name__ == "PredictorCorrector":
        gap = (x - CENTRES[[0, 1, 2, 1]]).norm(dim=1) / SPREADS[[0, 1, 2, 1]].sqrt()
        assert float(gap.max()) < 5


SPLIT_SOLVERS = [
    pytest.param(solver, id=repr(solver))
    for solver in (
        sk.solvers.Ancestral(),
        sk.solvers.DPMSolver(),
        sk.solvers.ProbabilityFlow(sk.ode.Dopri5(1e-4, 1e-4)),
    )
]


@pytest.mark.parametrize("solver", SPLIT_SOLVERS)
@pytest.mark.parametrize("kind", ["classifier-free", "classifier", "network"])
def test_rows_are_the_same_bits_in_any_split(solver, kind):
    """70 rows with labels and weights of their own, alone, in two parts and in another order."""
    y = torch.arange(70) % 3
    weights = 1.0 + 0.05 * torch.arange(70, dtype=F64)
    network = sk.ddpm(_network(), VP)

    def guided(index):
        labels, w = y[index], weights[index]
        if kind == "classifier":
            return Classifier(whole(VP), posterior(VP), w).given(y=labels)
        model = network if kind == "network" else labelled(VP)
        return ClassifierFree(model, model, w).given(y=labels)

    def run(index):
        made = {"solver": solver, "steps": 3 if solver.evaluations else None, "per_sample": True, "ids": index}
        return sk.sample(guided(index), (len(index), 2), dtype=F64, seed=5, **made)

    everyone = run(torch.arange(70))
    for index in (torch.tensor([66]), torch.arange(30), torch.arange(30, 70), torch.tensor([69, 0, 12])):
        assert torch.equal(run(index), everyone[index])
    assert not torch.equal(everyone[3:6], everyone[:3])


def _network():
    """An MLP with labels, and weights of some size, without torch's global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = sk.networks.MLP((2,), width=16, depth=1, embedding=8, classes=3)
        torch.nn.init.normal_(network.head.weight, std=0.1)
    return network


@each_guidance
def test_an_adaptive_flow_takes_each_row_by_its_own_label_and_weight(make):
    """Rows that arrive are asked no more, and those that go on keep what is theirs: each is as if it were alone."""
    weights = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=F64)
    flow = sk.solvers.ProbabilityFlow(sk.ode.Dopri5(1e-6, 1e-6))
    x_T = randn(4, 2)
    run = sk.sample(make(weights), x_T=x_T, solver=flow, full=True)
    assert len(set(run.nfe.tolist())) > 1
    for i in range(4):
        row = make(weights).rows(torch.tensor([i]))
        alone = sk.sample(row, x_T=x_T[i : i + 1], solver=flow, full=True)
        torch.testing.assert_close(alone.x[0], run.x[i], rtol=0, atol=1e-9)
        assert int(torch.as_tensor(alone.nfe).max()) == int(run.nfe[i])


@each_guidance
@pytest.mark.parametrize("trace", ["exact", sk.Hutchinson(2)], ids=["exact", "hutchinson"])
def test_the_likelihood_of_a_guided_model_is_the_components(make, trace):
    """At weight 1 each row's density is that of the component it is labelled with, known in closed form."""
    y = [0, 1, 2, 1]
    x = CENTRES[y] + 0.3 * randn(4, 2)

    def prior(x):
        return log_parts(VP, x, VP.t_max).gather(1, torch.tensor(y)[:, None])[:, 0]

    r = sk.log_likelihood(make(1.0), x, tol=1e-7, prior=prior, trace=trace)
    wanted = log_parts(VP, x, VP.t_min).gather(1, torch.tensor(y)[:, None])[:, 0]
    torch.testing.assert_close(r.log_prob, wanted, rtol=0, atol=1e-4)


@each_guidance
def test_a_guided_model_encodes_and_decodes(make):
    x = CENTRES[[0, 1, 2, 1]] + 0.1 * randn(4, 2)
    z = sk.encode(make(2.0), x, tol=1e-8)
    torch.testing.assert_close(sk.decode(make(2.0), z, tol=1e-8), x, rtol=0, atol=1e-4)


@pytest.mark.parametrize("solver", [sk.solvers.EulerMaruyama(), sk.solvers.ReverseDiffusion(), None], ids=repr)
def test_processes_without_alpha_and_sigma_are_guided(solver):
    """The same scores as of VP, and the same samples where the solver asks for no more."""
    y = torch.tensor([0, 1, 2, 1])
    pairs = [
        (Classifier(bare(whole(VP)), posterior(VP), 2.0), Classifier(whole(VP), posterior(VP), 2.0)),
        (
            ClassifierFree(bare(labelled(VP)), bare(labelled(VP)), 2.0),
            ClassifierFree(labelled(VP), labelled(VP), 2.0),
        ),
    ]
    x = randn(4, 2)
    for one, other in pairs:
        for t in (0.2, torch.tensor([0.1, 0.2, 0.5, 0.9], dtype=F64)):
            for view in ("score", "velocity"):
                a, b = (getattr(model.given(y=y)(x, t), view) for model in (one, other))
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
        samples = sk.sample(one.given(y=y), (4, 2), solver=solver, steps=20, dtype=F64)
        assert samples.shape == (4, 2)


@pytest.mark.parametrize("per_sample", [False, True])
def test_evaluations_count_both_models(per_sample):
    guided = ClassifierFree(labelled(VP), labelled(VP), 1.0).given(y=torch.zeros(3, dtype=torch.int64))
    for solver, steps, wanted in ((sk.solvers.DDIM(), 5, 10), (sk.solvers.Heun(), 3, 10)):
        assert sk.sample(guided, (3, 2), solver=solver, steps=steps, per_sample=per_sample, full=True).nfe == wanted
    nested = ClassifierFree(guided, labelled(VP), 2.0)
    assert (guided.evaluations, nested.evaluations) == (2, 3)
    assert Classifier(nested, lambda x, t: x.sum(1)).evaluations == 3


def test_a_model_that_cannot_be_divided_makes_a_guided_one_that_cannot():
    one, other = whole(VP), Whole(whole(VP))
    assert ClassifierFree(one, one, 2.0).divisible
    for guided in (
        ClassifierFree(one, other, 2.0),
        ClassifierFree(other, one, 2.0),
        ClassifierFree(one, other, 2.0).given(y=0),
        Classifier(other, posterior(VP)),
    ):
        assert not guided.divisible


def test_guidance_of_a_guided_model_is_guidance():
    """A classifier on top of classifier-free guidance: the scores add."""
    y, x = torch.tensor([0, 1]), randn(2, 2)
    free = ClassifierFree(labelled(VP).given(y=y), labelled(VP), 2.0)
    both = Classifier(free, lambda x, t: -x.square().sum(1), 0.5)
    torch.testing.assert_close(both(x, 0.3).score, free(x, 0.3).score - x, rtol=1e-10, atol=1e-12)
    assert torch.equal(both.condition["y"], y)


# Training with and without a condition


class Asked:
    """A loss that keeps what it is asked."""

    def __call__(self, model, x0, noise, **condition):
        self.condition = condition
        return noise.normal((1,), stream="loss").sum()


class AskedByRow(Asked):
    """One that has a loss for each row, too."""

    def per_sample(self, model, x0, noise, **condition):
        self.condition = condition
        return x0.sum(1)


def test_a_share_of_the_rows_loses_its_conditions_together():
    """Those that null names, in rows drawn anew for each source of noise; the rest is as it was given."""
    loss = Asked()
    dropout = ConditionDropout(loss, 0.3, {"y": 3, "z": 0.0})
    y, z, kept = torch.arange(4000) % 3, 1 + randn(4000, 2).abs(), randn(4000)
    lost = []
    for seed in (0, 1):
        dropout(MODEL, randn(4000, 2), sk.Noise(seed), y=y, z=z, kept=kept)
        found = loss.condition
        lost.append(found["y"] == 3)
        assert found["kept"] is kept
        assert torch.equal(lost[-1], (found["z"] == 0).all(1))
        assert torch.equal(found["y"][~lost[-1]], y[~lost[-1]])
        assert torch.equal(found["z"][~lost[-1]], z[~lost[-1]])
        assert (found["y"].dtype, found["z"].dtype) == (y.dtype, z.dtype)
        assert abs(float(lost[-1].double().mean()) - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 4000)
    assert not torch.equal(*lost)


@pytest.mark.parametrize(("probability", "lost"), [(0.0, 0), (1.0, 5)])
def test_none_or_all_lose_their_condition_at_the_ends(probability, lost):
    loss = Asked()
    ConditionDropout(loss, probability, {"y": 9})(MODEL, randn(5, 2), sk.Noise(0), y=torch.arange(5))
    assert int((loss.condition["y"] == 9).sum()) == lost


def test_a_loss_for_each_row_is_asked_where_there_is_one():
    """With the same rows lost as in the mean, and none is made up where the loss has none."""
    loss, x0, y = AskedByRow(), randn(50, 2), torch.arange(50)
    dropout = ConditionDropout(loss, 0.5, {"y": 99})
    dropout(MODEL, x0, sk.Noise(3), y=y)
    whole_batch = loss.condition["y"]
    assert torch.equal(dropout.per_sample(MODEL, x0, sk.Noise(3), y=y), x0.sum(1))
    assert torch.equal(loss.condition["y"], whole_batch)
    assert ConditionDropout(Asked(), 0.5, {"y": 99}).per_sample is None
    keyed = [ConditionDropout(loss, 0.5, {"y": 99}).dropped(x0, sk.KeyedNoise(1), {"y": y})["y"] for _ in range(2)]
    assert torch.equal(*keyed)


def test_no_class_is_no_label():
    """The index ``classes`` and no y at all are one model: a network so trained is both models of the guidance."""
    model, x = sk.ddpm(_network(), VP), randn(4, 2)
    assert torch.equal(model(x, 0.4, y=torch.full((4,), 3)).eps, model(x, 0.4).eps)
    assert not torch.equal(model(x, 0.4, y=torch.zeros(4, dtype=torch.int64)).eps, model(x, 0.4).eps)


@pytest.mark.parametrize("inner", [sk.losses.DenoisingScoreMatching(), Asked()], ids=["by row", "whole"])
def test_a_run_with_dropout_is_resumed_to_the_last_bit(tmp_path, inner):
    """Which rows lose their label is a function of the seed and the step."""
    data, y = randn(60, 2).float(), torch.arange(60) % 3
    seen = []

    class Kept:
        def __call__(self, model, x0, noise, **condition):
            seen.append(condition["y"])
            return sk.losses.DenoisingScoreMatching()(model, x0, noise, **condition)

        def __repr__(self):
            return "Kept()"

    loss = ConditionDropout(inner if hasattr(inner, "per_sample") else Kept(), 0.4, {"y": 3})

    def run(steps, out, **options):
        settings = sk.training.Settings(steps=steps, batch_size=16, seed=2, decay="constant")
        made = {"loss": loss, "condition": {"y": y}, "out": tmp_path / out}
        return sk.training.train(sk.ddpm(_network().float(), VP), data, settings, **made, **options)

    whole_run = run(6, "whole")
    labels = list(seen)
    run(3, "cut")
    seen.clear()
    again = run(6, "cut", resume=True)
    assert again.losses == whole_run.losses
    assert all(map(torch.equal, again.model.parameters(), whole_run.model.parameters()))
    assert all(map(torch.equal, seen, labels[3:]))


def test_a_network_trained_with_dropout_guides_itself():
    """Two labels, two means: with a label the samples are of its part, without one of both."""
    y = torch.arange(2000) % 2
    data = (2.0 * (2 * y[:, None] - 1) + 0.3 * randn(2000, 1)).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = sk.ddpm(sk.networks.MLP((1,), width=32, depth=2, embedding=16, classes=2), VP)
    loss = ConditionDropout(sk.losses.DenoisingScoreMatching(), 0.3, {"y": 2})
    settings = sk.training.Settings(steps=300, batch_size=256, lr=5e-3)
    model = sk.training.train(model, data, settings, loss=loss, condition={"y": y}).ema
    labels = torch.arange(200) % 2
    x = sk.sample(ClassifierFree(model, model, 1.5).given(y=labels), (200, 1), steps=20)
    assert float(((x[:, 0] > 0) == (labels == 1)).double().mean()) > 0.98
    share = float((sk.sample(model, (400, 1), steps=20) > 0).double().mean())
    assert 0.35 < share < 0.65


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ((2.0, 0.1, {"y": 1}), InvalidType, r"loss must be a callable \(model, x0, noise\), got float 2\.0"),
        ((Asked(), 1.1, {"y": 1}), InvalidArgument, "probability must be finite and >= 0 and <= 1, got"),
        ((Asked(), "0.1", {"y": 1}), InvalidType, "probability must be a number, got str"),
        ((Asked(), 0.1, 10), InvalidType, "null must be numbers by name, such as .*, got int 10"),
        ((Asked(), 0.1, {}), InvalidType, "null must be numbers by name"),
        ((Asked(), 0.1, {"y": None}), InvalidType, "null.'y'. must be a number, got NoneType None"),
    ],
)
def test_settings_of_dropout_that_are_none_are_named(settings, kind, said):
    with pytest.raises(kind, match=f"ConditionDropout: {said}"):
        ConditionDropout(*settings)


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ({}, "condition y must hold one entry for each of 4 rows, got NoneType None"),
        ({"y": 2}, "condition y must hold one entry for each of 4 rows, got int 2"),
        ({"y": torch.zeros(3)}, "condition y must hold one entry for each of 4 rows, got a float32 tensor"),
    ],
)
def test_a_condition_that_cannot_be_dropped_is_named(condition, said):
    with pytest.raises(InvalidArgument, match=f"ConditionDropout: the {said}"):
        ConditionDropout(Asked(), 0.1, {"y": 3})(MODEL, randn(4, 2), sk.Noise(0), **condition)


# Errors


BAD = [
    ("2", InvalidType, "weight must be a number, a tensor \\(B,\\) or a function of the level, got str"),
    (None, InvalidType, "weight must be a number, a tensor \\(B,\\) or a function of the level, got NoneType"),
    ([1.0, 2.0], InvalidType, "weight must be a number, a tensor"),
    (True, InvalidType, "weight must be a number, a tensor"),
    (math.nan, InvalidArgument, "weight must be finite, got weight=nan"),
    (math.inf, InvalidArgument, "weight must be finite, got weight=inf"),
    (torch.ones(4, 1), InvalidArgument, "weight must be real, of shape \\(B,\\) where it is a tensor, got a float32"),
    (torch.ones(4, dtype=torch.bool), InvalidArgument, "weight must be real"),
    (torch.ones(4, dtype=torch.complex64), InvalidArgument, "weight must be real"),
    (torch.tensor([1.0, math.nan]), InvalidArgument, "weight must be finite, got a float32 tensor of shape \\(2,\\)"),
    (torch.tensor(math.nan), InvalidArgument, "weight must be finite, got weight=nan"),
]


@each_guidance
@pytest.mark.parametrize(("weight", "kind", "said"), BAD, ids=[repr(weight) for weight, _, _ in BAD])
def test_a_weight_that_is_none_is_named_at_the_door(make, weight, kind, said):
    with pytest.raises(kind, match=said):
        make(weight)


@each_guidance
@pytest.mark.parametrize(
    ("weight", "kind", "said"),
    [
        (lambda level: "2", InvalidType, "weight must be a number, got str"),
        (lambda level: math.nan, InvalidArgument, "weight must be finite, got weight=nan"),
        (lambda level: torch.ones(3), InvalidArgument, "weight must hold one entry a row, got a float32 tensor"),
    ],
)
def test_a_function_that_returns_no_weight_is_named(make, weight, kind, said):
    with pytest.raises(kind, match=said):
        make(weight)(randn(4, 2), 0.5)


@each_guidance
def test_weights_and_labels_of_another_batch_are_named_before_the_first_evaluation(make):
    weights = torch.ones(3, dtype=F64)
    with pytest.raises(InvalidArgument, match="condition weight must hold one entry a row, got 3 entries for 4 rows"):
        sk.sample(make(weights), (4, 2))
    with pytest.raises(InvalidArgument, match="condition y must hold one entry a row, got 4 entries for 5 rows"):
        sk.sample(make(2.0), (5, 2))
    with pytest.raises(InvalidArgument, match="condition y must hold one entry a row"):
        sk.log_likelihood(make(2.0), randn(5, 2))
    model = labelled(VP)
    away = ClassifierFree(model, model.given(y=torch.zeros(2, dtype=torch.int64)), 2.0)
    with pytest.raises(InvalidArgument, match=r"condition uncond\.y must hold one entry a row, got 2 entries"):
        sk.sample(away.given(y=torch.zeros(4, dtype=torch.int64)), (4, 2))


def test_what_is_no_model_is_named():
    model, net = whole(VP), _network()
    with pytest.raises(InvalidType, match="ClassifierFree: cond: model must be a ScoreModel, got MLP"):
        ClassifierFree(net, model, 2.0)
    with pytest.raises(InvalidType, match="ClassifierFree: uncond: model must be a ScoreModel, got NoneType None"):
        ClassifierFree(model, None, 2.0)
    with pytest.raises(InvalidType, match="Classifier: model must be a ScoreModel, got NoneType None"):
        Classifier(None, posterior(VP))
    with pytest.raises(InvalidType, match=r"Classifier: log_prob must be a callable \(x, t\), got float 2\.0"):
        Classifier(model, 2.0)


def test_models_of_two_processes_are_named():
    """Equal processes are one, whichever object they are; another prior is another process."""
    assert ClassifierFree(whole(sk.VPSDE()), whole(sk.VPSDE()), 2.0).sde == sk.VPSDE()
    said = "ClassifierFree: cond and uncond must be of one process, got VPSDE.* and VPSDE"
    for other in (sk.VPSDE(beta_max=10.0), sk.VPSDE().with_prior(0.0, 1.0), BARE):
        model = bare(whole(VP)) if other is BARE else whole(other)
        with pytest.raises(UnsupportedCombination, match=said.removesuffix("VPSDE")):
            ClassifierFree(whole(sk.VPSDE()), model, 2.0)


@pytest.mark.parametrize(
    ("log_prob", "said"),
    [
        (lambda x, t: x.sum(1, keepdim=True), "log_prob must return \\(B,\\) = \\(4,\\), got a float64 tensor"),
        (lambda x, t: x.sum(), "log_prob must return \\(B,\\) = \\(4,\\), got a float64 tensor of shape \\(\\)"),
        (lambda x, t: 0.0, "log_prob must return \\(B,\\) = \\(4,\\), got float 0.0"),
        (lambda x, t: x.detach().sum(1), "log_prob must be differentiable in x, got a value without a gradient"),
        (lambda x, t: t.clone().requires_grad_(), "log_prob must be differentiable in x"),
    ],
)
def test_a_log_probability_that_guides_nowhere_is_named(log_prob, said):
    with pytest.raises(InvalidArgument, match=f"Classifier: {said}"):
        sk.sample(Classifier(whole(VP), log_prob), (4, 2), steps=2)


def test_a_classifier_that_is_not_finite_is_an_error_of_the_run():
    with pytest.raises(NonFiniteError, match="rows"):
        sk.sample(Classifier(whole(VP), lambda x, t: math.inf * x.sum(1)), (4, 2), steps=2)


def test_a_guided_model_shows_its_weight():
    assert "weight=2.0" in repr(ClassifierFree(whole(VP), whole(VP), 2.0))
    assert isinstance(ClassifierFree(whole(VP), whole(VP), 2.0).given(y=0), Given)
