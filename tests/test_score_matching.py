"""Implicit and sliced score matching: closed forms on Gaussians, and the identity with denoising score matching.

Expectations are taken by quadrature: data, noise and directions are Gauss-Hermite nodes, or all signs there are.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from subjects import sdes

import sdekit as sk
from sdekit import losses
from sdekit.errors import InvalidArgument, InvalidType, NonFiniteError, UnsupportedCombination
from sdekit.losses import DenoisingScoreMatching, ImplicitScoreMatching, SlicedScoreMatching
from sdekit.models import FromFunction, GaussianMixture
from sdekit.training.generators import seeded

F32, F64 = torch.float32, torch.float64
MEAN, VAR = 0.8, 0.3  # of the data

each_sde = pytest.mark.parametrize("sde", sdes())
each_objective = pytest.mark.parametrize("objective", [ImplicitScoreMatching, SlicedScoreMatching])
each_weight = pytest.mark.parametrize("weight", list(losses.weights.NAMES))


class Given:
    """A source of noise that gives the eps, and the directions, that it was given."""

    def __init__(self, eps, directions=None):
        self.eps, self.directions = eps, directions

    def normal(self, shape, *, stream, dtype=None, device=None):
        if stream == "loss":
            assert tuple(shape) == tuple(self.eps.shape)
            return self.eps
        return self.directions[stream[1]].expand(shape)

    def rademacher(self, like, *, stream):
        return torch.ones_like(like) if self.directions is None else self.directions[stream[1]].expand(like.shape)


def normals(d, n):
    """Nodes (N, d) of a standard normal in d dimensions, n a dimension, and their weights (N,)."""
    v, w = np.polynomial.hermite_e.hermegauss(n)
    points = torch.tensor(list(itertools.product(v, repeat=d)), dtype=F64)
    weights = torch.tensor(list(itertools.product(w / w.sum(), repeat=d)), dtype=F64).prod(1)
    return points, weights


def signs(d):
    """All vectors of signs (2^d, d), each as likely as any."""
    points = torch.tensor(list(itertools.product((1.0, -1.0), repeat=d)), dtype=F64)
    return points, torch.full((2**d,), 0.5**d, dtype=F64)


DIRECTIONS = {"rademacher": signs, "normal": lambda d: normals(d, 3)}


def expected(loss, model, mean=MEAN, root=VAR**0.5, n=6):
    """E over x0 ~ N(mean, root^2) and eps of a loss in one dimension."""
    v, w = normals(2, n)
    return (w * loss.per_sample(model, (mean + root * v[:, :1]), Given(v[:, 1:]))).sum()


def exact(sde, mean=MEAN, var=VAR):
    return GaussianMixture(sde, [1.0], torch.tensor([[mean]], dtype=F64), var)


def some_times(sde, n=4):
    t = torch.logspace(math.log10(sde.t_min), math.log10(sde.t_max), n, dtype=F64)
    return t.clamp(sde.t_min, sde.t_max).tolist()


def batch(n=6, event=(2, 3), dtype=F64, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, *event, generator=g, dtype=dtype)


def coupled(sde):
    """A model that is wrong everywhere, and whose Jacobian is full and not symmetric."""

    def eps(x, t):
        flat = x.flatten(1)
        return (torch.sin(flat) + 0.5 * flat.roll(1, 1) ** 2 + 0.2).reshape(x.shape)

    return FromFunction(sde, eps=eps)


# Closed forms


@each_sde
@each_objective
@each_weight
@pytest.mark.parametrize("c", [1.0, -1.0, 0.5, 2.0])
def test_a_multiple_of_the_exact_score_costs_what_it_should(sde, objective, weight, c):
    """w sigma^2 (c^2 / 2 - c) / u with u = alpha^2 v + sigma^2: -w sigma^2 / (2 u) at the score itself, the least."""
    oracle = exact(sde)
    model = FromFunction(sde, eps=lambda x, t: c * oracle(x, t).eps)
    for t in some_times(sde):
        alpha, sigma = float(sde.alpha(t)), float(sde.sigma(t))
        level = sde.level(t, torch.zeros(1))
        w = float({"simple": 1.0}.get(weight) or losses.weights.NAMES[weight](level))
        share = w * sigma**2 / (alpha**2 * VAR + sigma**2)
        found = expected(objective(weight=weight, times=t), model).item()
        assert found == pytest.approx((0.5 * c * c - c) * share, rel=1e-10, abs=1e-13 * w)


@each_sde
@each_objective
def test_the_exact_score_is_stationary_and_its_opposite_is_not(sde, objective):
    """The gradient along 1, x and the exact eps is 0 at eps, to round-off; at -eps it is not (Hyvarinen 2005)."""
    model = exact(sde)
    for t in some_times(sde):
        unit = math.hypot(float(sde.alpha(t)), float(sde.sigma(t)))
        share = float(sde.sigma(t)) ** 2 / (float(sde.alpha(t)) ** 2 * VAR + float(sde.sigma(t)) ** 2)
        for sign in (1.0, -1.0):
            c = torch.zeros(3, dtype=F64, requires_grad=True)

            def eps(x, t, sign=sign, c=c, unit=unit):
                right = model(x, t).eps
                return sign * right + c[0] + c[1] * x / unit + c[2] * right

            (slope,) = torch.autograd.grad(expected(objective(times=t), FromFunction(sde, eps=eps)), c)
            if sign > 0:
                assert float(slope.abs().max()) <= 1e-10
            else:
                assert float(slope[2]) == pytest.approx(-2 * share, rel=1e-9)


@pytest.mark.parametrize("sde", [sk.VPSDE(), sk.VESDE(sigma_max=5.0)], ids=["VP", "VE"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_linear_score_on_correlated_data_costs_what_it_should(sde, reduction):
    """score = -A (x - b): sigma^2 (tr(A^T A (C + (m - b)(m - b)^T)) / 2 - tr A), C the covariance of x."""
    root = torch.tensor([[0.9, 0.0], [0.5, 0.4]], dtype=F64)
    m, b = torch.tensor([0.3, -0.7], dtype=F64), torch.tensor([-0.1, 0.4], dtype=F64)
    A = torch.tensor([[1.2, 0.7], [-0.4, 0.3]], dtype=F64)  # as wrong as any
    v, w = normals(4, 3)
    for t in some_times(sde):
        alpha, sigma = float(sde.alpha(t)), float(sde.sigma(t))
        C = alpha**2 * root @ root.T + sigma**2 * torch.eye(2, dtype=F64)
        gap = alpha * m - b
        wanted = sigma**2 * (0.5 * (A.T @ A @ (C + torch.outer(gap, gap))).trace() - A.trace())
        model = FromFunction(sde, score=lambda x, t: -(x - b) @ A.T)
        rows = ImplicitScoreMatching(times=t, reduction=reduction).per_sample(
            model, m + v[:, :2] @ root.T, Given(v[:, 2:])
        )
        found = (w * rows).sum().item() * {"sum": 1, "mean": 2}[reduction]
        assert found == pytest.approx(float(wanted), rel=1e-10, abs=1e-12)
        for distribution, directions in DIRECTIONS.items():
            loss = SlicedScoreMatching(times=t, reduction=reduction, distribution=distribution)
            total = 0.0
            for direction, share in zip(*directions(2), strict=True):
                rows = loss.per_sample(model, m + v[:, :2] @ root.T, Given(v[:, 2:], [direction]))
                total += (share * (w * rows).sum()).item()
            assert total * {"sum": 1, "mean": 2}[reduction] == pytest.approx(float(wanted), rel=1e-10, abs=1e-12)


@each_sde
@each_weight
def test_twice_the_loss_is_denoising_score_matchings_less_a_constant(sde, weight):
    """E DSM = 2 E ISM + w D, so that the gradients are 2 to 1 (Vincent 2011, section 4.2), for a model of any shape."""
    for t in some_times(sde):
        unit = math.hypot(float(sde.alpha(t)), float(sde.sigma(t)))
        c = torch.tensor([1.5, 0.2], dtype=F64, requires_grad=True)
        model = FromFunction(sde, eps=lambda x, t, c=c, unit=unit: torch.sin(c[0] * x / unit + c[1]) + 0.3)
        level = sde.level(t, torch.zeros(1))
        w = float(losses.weights.NAMES[weight](level))
        denoising = expected(DenoisingScoreMatching(weight, times=t), model, n=40)
        implicit = expected(ImplicitScoreMatching(weight, times=t), model, n=40)
        assert denoising.item() == pytest.approx(2 * implicit.item() + w, rel=1e-9, abs=1e-10 * w)
        slopes = [torch.autograd.grad(value, c)[0] for value in (denoising, implicit)]
        torch.testing.assert_close(slopes[0], 2 * slopes[1], rtol=1e-8, atol=1e-9 * w)
        assert float(slopes[0].abs().max()) > 1e-3 * w


# Directions


@pytest.mark.parametrize("event", [(2,), (1, 3), ()], ids=str)
@pytest.mark.parametrize("variance_reduced", [True, False])
@pytest.mark.parametrize("distribution", DIRECTIONS)
@pytest.mark.parametrize("times", [0.3, None])
def test_the_mean_over_directions_is_the_exact_trace_row_by_row(event, variance_reduced, distribution, times):
    """E v v^T = I: E v^T J v = tr J and E (v^T s)^2 = |s|^2 (Song et al. 2019, eq. 7, 8)."""
    sde, x0, eps = sk.VPSDE(), batch(4, event), batch(4, event, seed=1)
    wanted = ImplicitScoreMatching(times=times).per_sample(
        coupled_1d(sde) if event == () else coupled(sde), x0, Given(eps)
    )
    loss = SlicedScoreMatching(times=times, variance_reduced=variance_reduced, distribution=distribution)
    found, apart = torch.zeros(4, dtype=F64), []
    for direction, share in zip(*DIRECTIONS[distribution](math.prod(event)), strict=True):
        source = Given(eps, [direction.reshape(event)])
        rows = loss.per_sample(coupled_1d(sde) if event == () else coupled(sde), x0, source)
        apart.append(rows.detach())
        found = found + share * rows
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)
    if event:
        assert float(torch.stack(apart).std(0).min()) > 1e-3  # one direction is not the mean


def coupled_1d(sde):
    return FromFunction(sde, eps=lambda x, t: torch.sin(x) + 0.5 * x * x)


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("distribution", DIRECTIONS)
@pytest.mark.parametrize("variance_reduced", [True, False])
def test_the_variance_of_a_row_is_its_closed_form(d, distribution, variance_reduced):
    """At the exact score of N(0, u I), over data and direction, in units of 1 / u^2:

    signs: D / 2 reduced, D^2 / 2 not. Normal: 5 D / 2 reduced, (D^2 + 3 D) / 2 not. The reduction is one for signs
    from two dimensions on, for normal directions from three.
    """
    u = 0.7
    model = FromFunction(sk.VPSDE(), score=lambda x, t: -x / u)
    loss = SlicedScoreMatching(
        times=None, reduction="sum", variance_reduced=variance_reduced, distribution=distribution
    )
    y, w = normals(d, 3)
    directions, shares = DIRECTIONS[distribution](d)
    mean = square = 0.0
    for direction, share in zip(directions, shares, strict=True):
        rows = loss.per_sample(model, math.sqrt(u) * y, Given(None, [direction]))
        mean += (share * (w * rows).sum()).item()
        square += (share * (w * rows**2).sum()).item()
    assert mean == pytest.approx(-0.5 * d / u, rel=1e-11)
    wanted = {
        ("rademacher", True): d / 2,
        ("rademacher", False): d * d / 2,
        ("normal", True): 5 * d / 2,
        ("normal", False): (d * d + 3 * d) / 2,
    }[distribution, variance_reduced]
    assert square - mean**2 == pytest.approx(wanted / u**2, rel=1e-10)


def test_projections_are_averaged_and_are_draws_of_their_own():
    sde, x0, eps = sk.VPSDE(), batch(), batch(seed=1)
    v = [batch(seed=2), batch(seed=3)]
    one, two = (SlicedScoreMatching(times=0.3, projections=k, distribution="normal") for k in (1, 2))
    singly = [one.per_sample(coupled(sde), x0, Given(eps, [direction])) for direction in v]
    both = two.per_sample(coupled(sde), x0, Given(eps, v))
    torch.testing.assert_close(both, 0.5 * (singly[0] + singly[1]), rtol=1e-12, atol=0)
    noise = sk.KeyedNoise(0)  # a pure function of the stream
    assert not torch.equal(two.per_sample(coupled(sde), x0, noise), one.per_sample(coupled(sde), x0, noise))


class Recording(sk.Noise):
    """A source that keeps what it gave, and how it was asked."""

    def __init__(self, seed):
        super().__init__(seed)
        self.gave = []

    def normal(self, shape, *, stream, **kind):
        self.gave.append(("normal", super().normal(shape, stream=stream, **kind)))
        return self.gave[-1][1]

    def rademacher(self, like, *, stream):
        self.gave.append(("rademacher", super().rademacher(like, stream=stream)))
        return self.gave[-1][1]


@pytest.mark.parametrize("distribution", DIRECTIONS)
def test_directions_are_drawn_from_the_source(distribution):
    """One draw of the named kind, a direction of its own for each row, and the rows are those of these directions."""
    model, x0, source = coupled(sk.VPSDE()), batch(1).expand(40, 2, 3), Recording(1)
    loss = SlicedScoreMatching(times=None, distribution=distribution)
    rows = loss.per_sample(model, x0, source)
    ((kind, directions),) = source.gave
    assert (kind, directions.shape) == (distribution, x0.shape)
    assert torch.equal(loss.per_sample(model, x0, Given(None, [directions])), rows)
    assert len(directions.unique(dim=0)) > 20
    assert not torch.equal(loss.per_sample(model, x0, Given(None, [directions.flip(0)])), rows)


# Data without noise


class Drift(sk.SDE):
    """A process of which only drift and diffusion are known."""

    t_min, t_max = 0.1, 1.0
    prior = sk.sdes.NormalPrior()

    def drift(self, x, t):
        return -x

    def diffusion(self, t):
        return torch.ones_like(torch.as_tensor(t))


class Silent:
    """A source that must not be asked for normals."""

    def normal(self, shape, *, stream, dtype=None, device=None):
        raise AssertionError("noise was drawn")

    def rademacher(self, like, *, stream):
        return torch.ones_like(like)


@each_objective
@pytest.mark.parametrize("sde", [*sdes(), pytest.param(Drift(), id="no kernel")])
@pytest.mark.parametrize("c", [1.0, -1.0, 0.5])
def test_without_times_the_data_are_taken_as_they_are(objective, sde, c):
    """Hyvarinen's own setting: (c^2 / 2 - c) / v on N(m, v) for any process, which is asked at t_min."""
    seen = []
    model = FromFunction(sde, score=lambda x, t: seen.append(float(t)) or -c * (x - MEAN) / VAR)
    v, w = normals(1, 4)
    rows = objective(times=None).per_sample(model, MEAN + math.sqrt(VAR) * v, Silent())
    assert (w * rows).sum().item() == pytest.approx((0.5 * c * c - c) / VAR, rel=1e-10)
    assert seen == [sde.t_min]


@each_objective
def test_without_times_there_is_nothing_to_weigh(objective):
    for weight in ("likelihood", losses.simple):
        with pytest.raises(InvalidArgument, match=f"{objective.__name__}: weight must be 'simple' where times is None"):
            objective(weight=weight, times=None)


@each_objective
def test_a_process_without_a_kernel_needs_data_without_noise(objective):
    model = FromFunction(Drift(), score=lambda x, t: -x)
    for times in ("stratified", 0.5):
        with pytest.raises(
            UnsupportedCombination,
            match=f"{objective.__name__}: the model's process must have alpha and sigma, got Drift",
        ):
            objective(times=times)(model, batch(), sk.Noise(0))


# Rows, gradients, dtypes


@each_sde
@each_objective
def test_the_rows_are_their_own_and_the_loss_is_their_mean(sde, objective):
    """By hand from each row's own time, data, noise and direction, with the Jacobian written out."""
    noise = sk.KeyedNoise(3)
    for event in ((), (1,), (2, 3), (6,)):  # (6,) of 6 rows would hide a transposed broadcast
        x0 = batch(6, event)
        t, _ = losses.stratified(sde, 6, noise)
        eps = noise.normal(x0.shape, stream="loss", dtype=F64)
        model = FromFunction(sde, eps=lambda x, t: torch.sin(3 * x) + 0.2)
        rows = objective(weight="likelihood").per_sample(model, x0, noise)
        assert rows.shape == (6,)
        for i in range(6):
            alpha, sigma, g = (float(f(t[i])) for f in (sde.alpha, sde.sigma, sde.diffusion))
            x = alpha * x0[i] + sigma * eps[i]
            terms = 0.5 * (torch.sin(3 * x) + 0.2) ** 2 - sigma * 3 * torch.cos(3 * x)  # a diagonal Jacobian
            assert float(rows[i].detach()) == pytest.approx(g**2 / (2 * sigma**2) * float(terms.mean()), rel=1e-8)
        value = objective(weight="likelihood")(model, x0, noise)
        assert value.shape == ()
        assert value.item() == pytest.approx(rows.mean().item(), rel=1e-12)


@each_objective
@pytest.mark.parametrize("times", ["importance", 0.4, None])
def test_a_rows_loss_does_not_see_its_mates(objective, times):
    sde, noise, x0 = sk.VPSDE(), sk.KeyedNoise(3), batch()
    loss = objective(times=times)
    first = loss.per_sample(coupled(sde), x0, noise)[0].item()
    x0[1:] = 100 * x0[1:] + 7
    assert loss.per_sample(coupled(sde), x0, noise)[0].item() == first


@each_objective
def test_training_on_it_finds_the_score(objective):
    """Gradient descent on one weight: eps = c x on N(0, 1) data and VP noise, whose best c is sigma at every t."""
    sde = sk.VPSDE()
    c = torch.tensor(0.0, dtype=F64, requires_grad=True)
    t, model = 0.3, FromFunction(sde, eps=lambda x, t: c * x)
    for _ in range(200):
        (slope,) = torch.autograd.grad(expected(objective(times=t), model, mean=0.0, root=1.0), c)
        with torch.no_grad():
            c -= 0.4 * slope
    assert c.item() == pytest.approx(float(sde.sigma(t)), rel=1e-9)


@each_objective
def test_a_network_is_trained_through_its_derivative(objective):
    """Every parameter but the last bias of eps is in the trace; the gradient is that of finite differences."""
    with seeded(0):
        network = sk.networks.MLP((2,), width=8, depth=1).double()
    model, x0 = sk.ddpm(network), batch(4, (2,))
    loss = objective(times=0.3)
    slopes = torch.autograd.grad(loss(model, x0, sk.KeyedNoise(0)), list(network.parameters()), allow_unused=True)
    for parameter, slope in zip(network.parameters(), slopes, strict=True):
        at = tuple(0 for _ in parameter.shape)
        ends = []
        for h in (1e-5, -1e-5):
            with torch.no_grad():
                parameter[at] += h
                ends.append(loss(model, x0, sk.KeyedNoise(0)).item())
                parameter[at] -= h
        assert float(slope[at]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-8)


@each_objective
@pytest.mark.parametrize("times", ["stratified", 0.3, None])
def test_the_number_is_the_same_where_no_gradients_are_recorded(objective, times):
    sde, x0, noise = sk.VPSDE(), batch(), sk.KeyedNoise(0)
    loss = objective(times=times)
    value = loss(coupled(sde), x0, noise)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            inside = loss(coupled(sde), batch(), noise)
        assert inside.item() == value.item()
        assert not inside.requires_grad
    assert not x0.requires_grad, "the caller's data record gradients"


@each_objective
@pytest.mark.parametrize("times", ["stratified", 0.3])
def test_a_model_that_does_not_depend_on_the_data_has_no_trace(objective, times):
    """A constant: |eps|^2 / 2 alone, whether it has parameters or not."""
    constant = torch.tensor(0.6, dtype=F64)
    for c in (constant, constant.clone().requires_grad_()):
        model = FromFunction(sk.VPSDE(), eps=lambda x, t, c=c: c * torch.ones_like(x))
        assert objective(times=times)(model, batch(), sk.Noise(0)).item() == pytest.approx(0.18, rel=1e-12)


@each_objective
def test_a_condition_reaches_the_model(objective):
    sde, x0, noise = sk.VPSDE(), batch(), sk.KeyedNoise(0)
    model = FromFunction(sde, eps=lambda x, t, y: y * x)
    y = batch(seed=2)
    loss = objective()
    assert loss(model, x0, noise, y=y).item() == loss(model.given(y=y), x0, noise).item()
    assert loss(model, x0, noise, y=y).item() != loss(model, x0, noise, y=0 * y).item()


@each_objective
@pytest.mark.parametrize("dtype", [F32, F64, torch.bfloat16], ids=str)
def test_the_loss_is_in_the_dtype_of_the_data(objective, dtype):
    for times in ("stratified", 0.3, None):
        assert objective(times=times)(coupled(sk.VPSDE()), batch(dtype=dtype), sk.Noise(0)).dtype == dtype


@each_objective
@each_sde
def test_single_precision_is_enough_at_every_level(objective, sde):
    """The score is of order 1 / sigma and the trace of order 1 / sigma^2 there; their eps is not."""
    model, noise = exact(sde), sk.KeyedNoise(0)
    for t in some_times(sde):
        rows = [objective(times=t).per_sample(model.to(d), batch(8, (1,)).to(d), noise).double() for d in (F64, F32)]
        torch.testing.assert_close(*rows, rtol=1e-4, atol=1e-5)


# What is refused


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"weight": "snr"}, InvalidArgument, "weight must be one of simple, likelihood, edm, flow, min_snr, got 'snr'"),
        ({"times": "normal"}, InvalidArgument, "times must be one of uniform, stratified, .*, got 'normal'"),
        ({"times": True}, InvalidType, "times must be a name, a time density, a number or None, got bool True"),
        ({"times": math.inf}, InvalidArgument, "times must be finite, got times=inf"),
        ({"reduction": "none"}, InvalidArgument, "reduction must be one of mean, sum, got 'none'"),
    ],
)
@each_objective
def test_a_setting_that_is_none_is_named(objective, settings, kind, said):
    with pytest.raises(kind, match=f"{objective.__name__}: {said}"):
        objective(**settings)


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"projections": 0}, InvalidArgument, "projections must be at least 1, got projections=0"),
        ({"projections": 1.5}, InvalidType, "projections must be a whole number, got float 1.5"),
        ({"variance_reduced": "yes"}, InvalidType, "variance_reduced must be True or False, got str 'yes'"),
        ({"distribution": "uniform"}, InvalidArgument, "distribution must be one of rademacher, normal, got 'uniform'"),
    ],
)
def test_a_setting_of_the_directions_that_is_none_is_named(settings, kind, said):
    with pytest.raises(kind, match=f"SlicedScoreMatching: {said}"):
        SlicedScoreMatching(**settings)


@each_objective
def test_arguments_that_are_none_are_named(objective):
    model, owner = coupled(sk.VPSDE()), objective.__name__
    with pytest.raises(InvalidType, match=f"{owner}: model must be a ScoreModel"):
        objective()(torch.nn.Identity(), batch(), sk.Noise(0))
    with pytest.raises(InvalidType, match=f"{owner}: noise must be a source such as"):
        objective()(model, batch(), 3)
    with pytest.raises(InvalidType, match=f"{owner}: x0 must be of a floating-point dtype"):
        objective()(model, torch.zeros(2, 2, dtype=torch.int64), sk.Noise(0))
    with pytest.raises(InvalidArgument, match=f"{owner}: x0 must hold at least one row"):
        objective()(model, torch.zeros(0, 2), sk.Noise(0))
    with pytest.raises(InvalidArgument, match=f"{owner}: times must lie within the process's"):
        objective(times=2.0)(model, batch(), sk.Noise(0))
    broken = FromFunction(sk.VPSDE(), eps=lambda x, t: x / 0)
    with pytest.raises(NonFiniteError, match=f"{owner}: the loss must be finite"):
        objective()(broken, batch(), sk.Noise(0))


def test_an_objective_is_its_settings():
    assert repr(ImplicitScoreMatching()) == (
        "ImplicitScoreMatching(weight='simple', times='stratified', reduction='mean')"
    )
    assert repr(SlicedScoreMatching()) == (
        "SlicedScoreMatching(weight='simple', times='stratified', reduction='mean', projections=1, "
        "variance_reduced=True, distribution='rademacher')"
    )
    assert SlicedScoreMatching("likelihood") == SlicedScoreMatching(weight="likelihood")
