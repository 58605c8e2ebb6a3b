"""Models: Karras' table, one belief in four views, the exact mixture against independent oracles, and networks."""

import math

import mpmath
import numpy as np
import pytest
import torch
from honest import counts, rosenblatt, smooth
from scipy import integrate, stats
from scipy.special import logsumexp
from subjects import rows_and_sdes, sdes
from torch import nn

import sdekit as sk
from sdekit.errors import InvalidArgument, InvalidType, UnsupportedCombination
from sdekit.models import (
    X0,
    Empirical,
    Epsilon,
    FromFunction,
    GaussianMixture,
    Karras,
    Parametrised,
    ScaledScore,
    VPrediction,
    empirical,
)
from sdekit.models.parametrisations import INPUTS, LABELS

F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16

each_sde = pytest.mark.parametrize("sde", sdes())
each_row_and_sde = pytest.mark.parametrize(("row", "sde"), rows_and_sdes())


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, dtype=F64, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def times(sde, n=5):
    """From t_min to t_max, evenly in log t."""
    t = torch.logspace(math.log10(sde.t_min), math.log10(sde.t_max), n, dtype=F64)
    return t.clamp(sde.t_min, sde.t_max)


class Wave(nn.Module):
    """A network with one weight: smooth, of its input and of its label, and not linear in either."""

    def __init__(self, dtype=F64):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7, dtype=dtype))
        self.seen = []

    def forward(self, x, label, shift=0.0):
        self.seen.append((x.detach(), label.detach()))
        label = label.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
        return torch.sin(self.weight * x + 0.1 * label) + shift


# Karras et al. 2022, table 1 (arXiv:2206.00364)


def karras_table(row, s, sigma_data):
    """(c_skip, c_out, c_in, c_noise) of y = x / alpha at the noise level s = sigma / alpha, in NumPy."""
    return {
        "VP": lambda: (1.0, -s, 1 / np.sqrt(s**2 + 1), None),
        "VE": lambda: (1.0, s, 1.0, np.log(s / 2)),
        "EDM": lambda: (
            sigma_data**2 / (s**2 + sigma_data**2),
            s * sigma_data / np.sqrt(sigma_data**2 + s**2),
            1 / np.sqrt(sigma_data**2 + s**2),
            np.log(s) / 4,
        ),
    }[row]()


@pytest.mark.parametrize(
    ("column", "row", "sde"),
    [
        ("VP", Epsilon(), sk.VPSDE()),
        ("VE", ScaledScore(), sk.VESDE()),
        ("EDM", Karras(sigma_data=0.5), sk.EDMSDE()),
        ("EDM", Karras(sigma_data=1.7), sk.EDMSDE()),
        ("EDM", Karras(sigma_data=0.5), sk.VPSDE()),
        ("EDM", Karras(sigma_data=0.5), sk.SubVPSDE()),
    ],
    ids=str,
)
def test_rows_are_karras_columns(column, row, sde):
    """x0 = c_skip y + c_out F(c_in y, c_noise) with y = x / alpha, for one time and for a time a row."""
    t = times(sde, 9)
    for level in (*sde.levels(t), sde.level(t, torch.zeros(9, 1))):
        alpha, sigma = (np.asarray(v, dtype=np.float64) for v in (level.alpha, level.sigma))
        skip, out, inp, label = karras_table(column, sigma / alpha, getattr(row, "sigma_data", None))
        found = row.scaling(level)
        np.testing.assert_allclose(np.asarray(found.skip) * alpha, skip, rtol=1e-13)
        np.testing.assert_allclose(np.asarray(found.out), out, rtol=1e-13)
        np.testing.assert_allclose(np.asarray(found.inp) * alpha, inp, rtol=1e-13)
        if label is not None:
            np.testing.assert_allclose(np.asarray(found.label), label, rtol=0, atol=1e-13 * np.abs(label).max())
        else:
            assert found.label is level.t  # DDPM's: a time, whose unit the network's embedding chooses


def test_edms_preconditioning_gives_unit_variance():
    """Karras et al. 2022, eq. 114 to 138: of the network's input and of its target, for data of that deviation."""
    for sde in (p.values[0] for p in sdes()):
        row = Karras(sigma_data=0.3)
        for level in sde.levels(times(sde)):
            p, q = row.target(level)
            assert row.scaling(level).inp ** 2 * ((level.alpha * 0.3) ** 2 + level.sigma**2) == pytest.approx(1.0)
            assert (p * 0.3) ** 2 + q**2 == pytest.approx(1.0)  # of p x0 + q eps, independent


@pytest.mark.parametrize(
    ("row", "target"),
    [
        (Epsilon(), lambda a, s: (0, 1)),
        (X0(), lambda a, s: (1, 0)),
        (sk.models.Score(), lambda a, s: (0, -1 / s)),
        (ScaledScore(), lambda a, s: (0, -1)),
        (VPrediction(), lambda a, s: (-s, a)),
        (sk.models.FlowVelocity(), lambda a, s: (-1, 1)),
    ],
    ids=["eps", "x0", "score", "scaled score", "v", "flow velocity"],
)
def test_targets_are_the_papers(row, target):
    """Ho et al. 2020, eq. 14; Song & Ermon 2019, eq. 5; Salimans & Ho 2022: v = alpha eps - sigma x0."""
    for level in sk.VPSDE().levels(times(sk.VPSDE())):
        assert row.target(level) == pytest.approx(target(level.alpha, level.sigma), rel=1e-15)


@each_row_and_sde
def test_scaling_and_target_are_one_convention(row, sde):
    """skip x + out (p x0 + q eps) = x0 for x = alpha x0 + sigma eps, whatever x0 and eps."""
    for level in sde.levels(times(sde)):
        p, q = row.target(level)
        skip, out, inp, _ = row.scaling(level)
        assert skip * level.alpha + out * p == pytest.approx(1.0, rel=1e-12)
        assert abs(skip * level.sigma + out * q) <= 1e-12 * abs(out * q)
        assert inp > 0


def test_a_flow_velocity_on_the_straight_process_is_the_probability_flow():
    """dx/dt = eps - x0 for x = (1 - t) x0 + t eps: Lipman et al. 2023, eq. 23, with time reversed."""
    sde = sk.FlowSDE()
    x0, eps = torch.tensor([[1.0, -2.0]], dtype=F64), torch.tensor([[0.3, 0.7]], dtype=F64)
    model = Parametrised(lambda x, label: eps - x0, sde, sk.models.FlowVelocity())
    for t in times(sde).tolist():
        p = model(sde.perturb(x0, t, eps), t)
        torch.testing.assert_close(p.velocity, eps - x0, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(p.x0, x0, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("stride", [1, 20])
def test_a_posterior_mean_is_ddpms_and_its_residual_sohl_dicksteins(stride):
    """Ho et al. 2020, eq. 7, on the whole table and on a respaced one; and mu = sqrt(1 - beta) x + sqrt(beta) m in
    Sohl-Dickstein's code, where m is the network's output (arXiv:1503.03585)."""
    betas = np.linspace(1e-4, 0.02, 1000)
    whole = sk.DiscreteVPSDE(betas)
    index = np.arange(0, 1000, stride)
    sde = whole if stride == 1 else whole.respaced(index)
    bar = np.cumprod(1 - betas)[index]
    before = np.concatenate([[1.0], bar[:-1]])
    beta = 1 - bar / before
    x0, eps = 0.7, -1.3
    for k in (0, 1, 2, len(index) // 2, len(index) - 1):
        level = sde.level(float(index[k] + 1), torch.zeros(1))
        x = math.sqrt(bar[k]) * x0 + math.sqrt(1 - bar[k]) * eps
        mu = math.sqrt(before[k]) * beta[k] / (1 - bar[k]) * x0
        mu += math.sqrt(1 - beta[k]) * (1 - before[k]) / (1 - bar[k]) * x
        m = (mu - math.sqrt(1 - beta[k]) * x) / math.sqrt(beta[k])
        for row, wanted in ((sk.models.PosteriorMean(), mu), (sk.models.PosteriorMean(residual=True), m)):
            p, q = row.target(level)
            assert p * x0 + q * eps == pytest.approx(wanted, rel=1e-9)
            assert row.scaling(level).label == float(index[k])
    rows = sde.level(sde.times, torch.zeros(len(index), 1))
    p, q = sk.models.PosteriorMean().target(rows)
    assert bool(torch.isfinite(p).all())
    assert (float(p[0]), float(q[0])) == (1.0, 0.0)  # below the first level stands x0 itself


def test_labels_and_inputs_by_name():
    """t, log-SNR, ln(s / 2), ln(s) / 4 with s = sigma / alpha; and 1 / sqrt(alpha^2 + sigma^2)."""
    sde = sk.SubVPSDE()
    for level in sde.levels(times(sde)):
        s = level.sigma / level.alpha
        known = {
            "t": level.t,
            "log_snr": -2 * math.log(s),
            "ln(sigma/2)": math.log(s / 2),
            "ln(sigma)/4": math.log(s) / 4,
            "alpha": level.alpha,
        }
        assert {name: LABELS[name](level) for name in known} == pytest.approx(known, abs=1e-12)
        assert set(LABELS) == {*known, "index"}
        assert INPUTS["x"](level) == 1.0
        assert INPUTS["unit"](level) == pytest.approx(1 / math.hypot(level.alpha, level.sigma), rel=1e-14)
        assert Epsilon(label="log_snr", inp="unit").scaling(level)[2:] == pytest.approx(
            (1 / math.hypot(level.alpha, level.sigma), known["log_snr"]), abs=1e-12
        )
        own = Epsilon(label=lambda level: 1000 * level.t, inp=lambda level: level.alpha)
        assert own.scaling(level)[2:] == (level.alpha, 1000 * level.t)


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda: Epsilon(label="sigma"), InvalidArgument, "Epsilon: label must be one of t, log_snr"),
        (lambda: X0(inp=3), InvalidType, "X0: inp must be one of x, unit, got int 3"),
        (lambda: Karras(sigma_data=0.0), InvalidArgument, "Karras: sigma_data must be finite and > 0"),
        (lambda: Karras(sigma_data="1"), InvalidType, "Karras: sigma_data must be a number"),
    ],
)
def test_a_row_that_is_none_is_named(make, kind, said):
    with pytest.raises(kind) as caught:
        make()
    assert said in str(caught.value)


# One belief, four views


def forms(t, n):
    """One time as a float, as (), and a time a row."""
    return [t.item(), t, t.expand(n)]


def check_views(p, sde, t, x):
    """alpha x0 + sigma eps = x, score = -eps / sigma, velocity = f x - g^2 score / 2: 1e-12 of |x| / sigma."""
    alpha, sigma = float(sde.alpha(t)), float(sde.sigma(t))
    g2, f = float(sde.diffusion(t)) ** 2, float(sde.drift(torch.ones(1, dtype=F64), t.item()))
    size = float(x.abs().max()) / sigma + float(p.eps.abs().max()) + float(p.x0.abs().max())
    assert float((alpha * p.x0 + sigma * p.eps - x).abs().max()) <= 1e-12 * max(alpha, sigma) * size
    assert float((p.score + p.eps / sigma).abs().max()) <= 1e-12 * size / sigma
    flow = f * x - 0.5 * g2 * p.score
    assert float((p.velocity - flow).abs().max()) <= 1e-12 * (abs(f) + g2 / sigma) * (size + float(x.abs().max()))
    assert {v.shape for v in (p.x0, p.eps, p.score, p.velocity)} == {x.shape}


@each_row_and_sde
def test_the_views_are_one_belief(row, sde):
    """Song et al. 2021, eq. 13, and Tweedie; for one time and for a time a row; bitwise the same for float and ()."""
    x = randn(3, 2, 2)
    model = Parametrised(Wave(), sde, row)
    with torch.no_grad():
        for t in times(sde):
            scale = math.hypot(float(sde.alpha(t)), float(sde.sigma(t)))
            answers = [model(scale * x, form) for form in forms(t, 3)]
            for p in answers:
                check_views(p, sde, t, scale * x)
                check_views(p.with_x0(torch.sin(p.x0)), sde, t, scale * x)
                check_views(p.with_eps(torch.sin(p.eps)), sde, t, scale * x)
                check_views(p.with_score(p.score + 1.0), sde, t, scale * x)
            for view in ("x0", "eps", "score", "velocity"):
                one, same, rows = (getattr(p, view) for p in answers)
                assert torch.equal(one, same)
                torch.testing.assert_close(rows, one, rtol=1e-11, atol=1e-11 * float(one.abs().max()))


@each_row_and_sde
def test_a_time_a_row_is_each_rows_own(row, sde):
    t = times(sde, 4)
    x = randn(4, 3)
    model = Parametrised(Wave(), sde, row)
    with torch.no_grad():
        together = model(x, t)
        for i in range(4):
            alone = model(x[i : i + 1], t[i].item())
            for view in ("x0", "eps", "score", "velocity"):
                a, b = getattr(together, view)[i], getattr(alone, view)[0]
                torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11 * float(b.abs().max()))


@each_sde
@pytest.mark.parametrize("form", ["float", "rows"])
def test_an_edited_view_is_bitwise_what_was_given(sde, form):
    """A network of eps, x0 or the score answers with its output itself: nothing cancels where sigma is small."""
    x, value = randn(3, 2), randn(3, 2, seed=1)
    t = sde.t_min if form == "float" else torch.full((3,), sde.t_min, dtype=F64)
    eps_net, x0_net = (Parametrised(lambda x, label: value, sde, row) for row in (Epsilon(), X0()))
    assert torch.equal(eps_net(x, t).eps, value)
    assert torch.equal(x0_net(x, t).x0, value)
    p = eps_net(x, t)
    assert torch.equal(p.with_x0(x).x0, x)
    assert torch.equal(p.with_eps(x).eps, x)
    torch.testing.assert_close(p.with_score(x).score, x, rtol=1e-15, atol=0)
    for edited in (p.with_x0(x), p.with_eps(x), p.with_score(x)):
        assert edited.x is p.x
        assert edited.level is p.level


@each_sde
def test_the_four_functions_give_one_prediction(sde):
    """FromFunction of eps, score, x0 or velocity: the same belief, by alpha' x0 + sigma' eps for the velocity."""
    oracle = GaussianMixture(sde, [1.0, 2.0], torch.tensor([[1.0, 0.0], [-1.0, 0.5]], dtype=F64), 0.1)
    x = randn(3, 2)
    for t in times(sde):
        y = x * math.hypot(float(sde.alpha(t)), float(sde.sigma(t)))
        for form in (t.item(), t.expand(3)):
            exact = oracle(y, form)
            for name in ("eps", "score", "x0", "velocity"):
                value = getattr(exact, name)
                p = FromFunction(sde, **{name: lambda x, t, value=value: value})(y, form)
                size = float((y.abs() + exact.eps.abs() + exact.x0.abs()).max()) / float(sde.sigma(t))
                for view in ("eps", "x0"):
                    gap = (getattr(p, view) - getattr(exact, view)).abs().max()
                    assert float(gap) <= 1e-11 * size, (name, view)
                check_views(p, sde, t, y)


def test_a_function_sees_a_float_or_a_column():
    """t is a python float where the batch shares it, else (B, 1, 1) in the dtype of x."""
    seen = []

    def score(x, t, y=None):
        seen.append((t, y))
        return -x / (1 + t * t)

    sde = sk.EDMSDE()
    x = randn(2, 3, 4, dtype=F32)
    model = FromFunction(sde, score=score)
    assert torch.equal(model(x, 2.0).score, -x / 5.0)
    assert model(x, torch.tensor([2.0, 3.0])).score[1].equal(-x[1] / 10.0)
    model(x, torch.tensor(2.0), y="label")
    assert seen[0] == (2.0, None)
    assert seen[1][0].shape == (2, 1, 1)
    assert seen[1][0].dtype == F32
    assert seen[2] == (2.0, "label")


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (
            lambda f: FromFunction(sk.VPSDE()),
            InvalidArgument,
            "exactly one of eps, score, x0, velocity must be given, got",
        ),
        (lambda f: FromFunction(sk.VPSDE(), eps=f, x0=f), InvalidArgument, "must be given, got eps, x0"),
        (lambda f: FromFunction(sk.VPSDE(), eps=3), InvalidType, "eps must be a callable (x, t), got int 3"),
        (lambda f: FromFunction("vp", eps=f), InvalidType, "sde must be a process such as VPSDE(), got str 'vp'"),
        (lambda f: Parametrised(None, sk.VPSDE(), Epsilon()), InvalidType, "network must be a module or a callable"),
        (lambda f: Parametrised(f, sk.VPSDE(), Epsilon), InvalidType, "parametrisation must be one such as Epsilon()"),
        (lambda f: Parametrised(f, "vp", Epsilon()), UnsupportedCombination, "Parametrised: sde must be a GaussianSDE"),
    ],
)
def test_a_model_of_the_wrong_parts_is_named(make, kind, said):
    with pytest.raises(kind) as caught:
        make(lambda x, t: x)
    assert said in str(caught.value)


# Networks: their dtype, their labels, their output


@pytest.mark.parametrize("x_dtype", [F64, F32, BF16, torch.float16], ids=str)
@pytest.mark.parametrize("net_dtype", [F64, F32, BF16, torch.float16], ids=str)
def test_a_network_runs_in_its_own_dtype_and_answers_in_that_of_x(x_dtype, net_dtype):
    """Its labels are float32 at least, one a row; x is never promoted, whatever the dtype of t."""
    sde = sk.VESDE()
    network = Wave(net_dtype)
    model = sk.ncsn(network, sde)
    x = randn(3, 2).to(x_dtype)
    for t in (0.5, torch.tensor(0.5), torch.tensor([0.5, 0.1, 0.9], dtype=F64), torch.tensor([0.5, 0.1, 0.9])):
        p = model(x, t)
        seen, label = network.seen[-1]
        assert seen.dtype == net_dtype
        assert label.dtype == (F64 if net_dtype == F64 else F32)
        assert label.shape == (3,)
        exact = torch.log(sde.sigma(torch.as_tensor(t, dtype=F64)) / 2).expand(3)
        torch.testing.assert_close(label.double(), exact, rtol=1e-6, atol=1e-6)
        assert {v.dtype for v in (p.x0, p.eps, p.score, p.velocity)} == {x_dtype}


def test_a_thousand_labels_are_distinct_in_a_bfloat16_network():
    """A label never passes through the network's own precision: 999 of 1000 would."""
    network = Wave(BF16)
    model = sk.ddpm(network)
    t = (torch.arange(1000) + 1) / 1000
    model(torch.zeros(1000, 1), t)
    assert torch.equal(network.seen[0][1], t)
    assert len(network.seen[0][1].unique()) == 1000


def test_a_label_is_the_same_for_one_time_and_for_a_time_a_row():
    """Bit for bit: what training shows a network at a time is what sampling shows it there."""
    for row, sde in (p.values for p in rows_and_sdes()):
        network = Wave(F32)
        model = Parametrised(network, sde, row)
        for t in times(sde, 7).tolist():
            model(torch.zeros(2, 1), t)
            model(torch.zeros(2, 1), torch.full((2,), t, dtype=F64))
        labels = [label for _, label in network.seen]
        inputs = [x for x, _ in network.seen]
        for k in range(0, len(labels), 2):
            torch.testing.assert_close(labels[k], labels[k + 1], rtol=1.2e-7, atol=0)
            assert torch.equal(inputs[k], inputs[k + 1])


@pytest.mark.parametrize("row", [Karras(sigma_data=2.0), Epsilon(inp="unit")], ids=repr)
def test_a_network_sees_scaled_inputs(row):
    """inp x, at each row's own level."""
    network = Wave()
    sde = sk.EDMSDE()
    x, t = randn(3, 2), torch.tensor([0.01, 1.0, 50.0], dtype=F64)
    Parametrised(network, sde, row)(x, t)
    unit = 4.0 if isinstance(row, Karras) else 1.0
    torch.testing.assert_close(network.seen[0][0], x / torch.sqrt(unit + t**2)[:, None], rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("output", "kind", "said"),
    [
        (lambda x: x[:1], InvalidArgument, r"must return the shape of x, \(4, 2\), got \(1, 2\)"),
        (lambda x: x[:, :1], InvalidArgument, r"\(4, 2\), got \(4, 1\)"),
        (lambda x: x.sum(), InvalidArgument, r"\(4, 2\), got \(\)"),
        (lambda x: x[None], InvalidArgument, r"\(4, 2\), got \(1, 4, 2\)"),
        (lambda x: (x, x), InvalidType, "must return a real tensor of the shape of x, got tuple"),
        (lambda x: x.numpy(), InvalidType, "must return a real tensor of the shape of x, got ndarray"),
        (lambda x: None, InvalidType, "must return a real tensor of the shape of x, got NoneType"),
        (lambda x: x + 0j, InvalidType, "must return a real tensor of the shape of x, got a complex128 tensor"),
    ],
)
def test_an_output_of_another_shape_is_named_and_never_broadcast(output, kind, said):
    x = randn(4, 2)
    for model in (
        sk.ddpm(lambda x, label: output(x)),
        FromFunction(sk.VPSDE(), eps=lambda x, t: output(x)),
    ):
        with pytest.raises(kind, match=said):
            model(x, 0.5)


@pytest.mark.parametrize("bad", [(2.0, "t must"), (torch.tensor([0.5, 0.5]), r"\(B,\) = \(4,\)")], ids=str)
def test_a_bad_time_is_named_before_the_network_is_called(bad):
    t, said = bad
    network = Wave()
    for model in (
        sk.ddpm(network),
        FromFunction(sk.VPSDE(), eps=network),
        GaussianMixture(sk.VPSDE(), [1], [[0.0]], 1),
    ):
        with pytest.raises(InvalidArgument, match=said):
            model(randn(4, 1), t)
    assert not network.seen


def test_gradients_reach_the_network_and_x():
    network = Wave()
    model = sk.edm(network)
    x = randn(3, 2).requires_grad_()
    model(x, torch.tensor([0.1, 1.0, 10.0])).x0.sum().backward()
    assert float(network.weight.grad.abs()) > 0
    assert bool((x.grad.abs() > 0).all())


def test_the_presets_are_rows_of_the_table():
    """DDPM, NCSN and EDM: a network, a process and a row. (Karras et al. 2022, table 1.)"""
    network = Wave()
    ddpm, ncsn, edm = sk.ddpm(network), sk.ncsn(network), sk.edm(network, sigma_data=0.7)
    for model, sde, row in (
        (ddpm, sk.VPSDE(), Epsilon()),
        (ncsn, sk.VESDE(), ScaledScore()),
        (edm, sk.EDMSDE(), Karras(sigma_data=0.7)),
    ):
        assert isinstance(model, Parametrised)
        assert model.sde == sde
        assert model.parametrisation == row
        assert model.network is network
        assert [name for name, _ in model.named_parameters()] == ["network.weight"]
    assert sk.edm(network).parametrisation.sigma_data == 0.5
    other = sk.VPSDE(beta_max=10.0)
    assert [make(network, sde=other).sde for make in (sk.ddpm, sk.ncsn, sk.edm)] == [other] * 3


# Conditions


def test_a_bound_condition_is_the_condition():
    """model.given(y=...) is the model at y; what is given at the call wins; rows follow the batch."""
    network = Wave()
    model = sk.ddpm(network)
    x, y, t = randn(4, 2), randn(4, 1, seed=1), 0.3
    bound = model.given(shift=y)
    assert torch.equal(bound(x, t).eps, model(x, t, shift=y).eps)
    assert torch.equal(bound(x, t, shift=1.0).eps, model(x, t, shift=1.0).eps)
    assert bound.condition == {"shift": y}
    assert model.condition == {}
    index = torch.tensor([2, 0])
    assert torch.equal(bound.rows(index)(x[index], t).eps, bound(x, t).eps[index])
    assert torch.equal(bound.rows(index).rows(torch.tensor([1]))(x[:1], t).eps, bound(x, t).eps[:1])
    assert model.given(shift=2.0).rows(index).condition == {"shift": 2.0}
    assert (bound.sde, bound.evaluations, bound.dtype) == (model.sde, 1, F64)


def test_conditions_bound_twice_add_and_the_later_wins():
    model = FromFunction(sk.VPSDE(), eps=lambda x, t, a, b: a * x + b)
    x = randn(2, 1)
    bound = model.given(a=2.0, b=5.0).given(b=7.0)
    assert torch.equal(bound(x, 0.5).eps, 2 * x + 7)
    assert bound.condition == {"a": 2.0, "b": 7.0}


def test_a_condition_of_another_batch_is_named():
    model = sk.ddpm(Wave()).given(shift=randn(3, 1))
    with pytest.raises(InvalidArgument, match="given: shift must hold one entry a row, got 3 entries for 4 rows of x"):
        model(randn(4, 2), 0.5)


def test_a_condition_given_at_the_call_wins_whatever_was_bound():
    """Also where the bound one belongs to another batch."""
    model = sk.ddpm(Wave())
    x, y = randn(4, 2), randn(4, 1, seed=2)
    assert torch.equal(model.given(shift=randn(3, 1))(x, 0.5, shift=y).eps, model(x, 0.5, shift=y).eps)


def test_a_models_dtype_and_device_are_its_parameters():
    assert sk.ddpm(Wave(BF16)).dtype == BF16
    assert sk.ddpm(lambda x, label: x).dtype == torch.get_default_dtype()
    assert sk.ddpm(lambda x, label: x).device is None
    assert sk.ddpm(Wave()).device == torch.device("cpu")
    assert GaussianMixture(sk.VPSDE(), [1.0], torch.zeros(1, 2, dtype=F64), 1.0).dtype == F64


# The exact mixture, against SciPy and linear algebra of its own


class Edge:
    """A source whose uniform numbers are one number, and whose normals are 0."""

    def __init__(self, u):
        self.u = u

    def uniform(self, n, *, stream, device=None):
        return torch.full((n,), self.u, dtype=F64)

    def normal(self, shape, *, stream, dtype=None, device=None):
        return torch.zeros(shape, dtype=dtype)


def test_the_last_number_below_one_draws_the_last_component_or_datum():
    """Also where weights in single precision add up to less than one."""
    sde, least, most = sk.VPSDE(), Edge(2.0**-53), Edge(1 - 2.0**-53)
    for k in (2, 3, 7, 300):
        means = torch.arange(float(k))[:, None]
        model = GaussianMixture(sde, torch.linspace(0.1, 1.0, k), means, torch.zeros(()))
        assert torch.equal(model.sample(2, least), means[[0, 0]])
        assert torch.equal(model.sample(2, most), means[[-1, -1]])
        model = Empirical(sde, means)
        assert torch.equal(model.sample(2, least), means[[0, 0]])
        assert torch.equal(model.sample(2, most), means[[-1, -1]])


@pytest.mark.parametrize("rows", [0, 1, 3, 4, 5, 9])
def test_what_is_computed_in_pieces_is_computed_at_once(rows, monkeypatch):
    """Whatever the rows that fit into a piece, with one time and with a time a row: the numbers of the whole."""
    model, x = Empirical(sk.VPSDE(), randn(6, 2)), randn(rows, 2, seed=3)
    times = torch.linspace(0.1, 0.9, rows, dtype=F64)
    whole = [v for t in (0.3, times) for v in (model(x, t).x0, model.log_prob(x, t))]
    monkeypatch.setattr(empirical, "CELLS", 6 * 4)
    assert len(model._pieces(x, model.sde.level(0.3, x))) == max(1, math.ceil(rows / 4))
    parts = [v for t in (0.3, times) for v in (model(x, t).x0, model.log_prob(x, t))]
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


EVENTS = [(), (2,), (1, 8, 8), (16, 3), (2, 3, 4, 5)]
each_event = pytest.mark.parametrize("event", EVENTS, ids=str)
each_kind = pytest.mark.parametrize("kind", ["full", "diagonal", "isotropic", "number"])


def data(event, kind, seed=0):
    """Weights, means and covariances, as the mixture takes them, and the covariances as (K, D, D) arrays."""
    rng = np.random.default_rng(seed)
    k, d = 3, math.prod(event)
    weights, means = rng.uniform(0.5, 2.0, k), rng.normal(size=(k, *event))
    if kind == "full":
        root = rng.normal(size=(k, d, d)) / np.sqrt(d)
        given = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(d)
        matrices = given
    elif kind == "diagonal":
        given = rng.uniform(0.1, 1.5, size=(k, *event))
        matrices = np.stack([np.diag(v.reshape(-1)) for v in given.reshape(k, -1)])
    elif kind == "isotropic":
        given = rng.uniform(0.1, 1.5, size=k)
        matrices = given[:, None, None] * np.eye(d)
    else:
        given, matrices = 0.4, np.stack([0.4 * np.eye(d)] * k)
    return weights, means, given, matrices


def bayes(x, alpha, sigma, weights, means, matrices):
    """(log p, E[x0 | x]) by the conditional mean of a joint normal (Bishop 2006, eq. 2.96), in NumPy and SciPy."""
    x, means = x.reshape(len(x), -1), means.reshape(len(means), -1)
    eye = np.eye(x.shape[1])
    joint, posteriors = [], []
    for w, m, c in zip(weights / weights.sum(), means, matrices, strict=True):
        v = alpha**2 * c + sigma**2 * eye
        joint.append(np.log(w) + stats.multivariate_normal(alpha * m, v).logpdf(x).reshape(-1))
        posteriors.append(m + alpha * np.linalg.solve(v, (x - alpha * m).T).T @ c)
    joint = np.stack(joint)
    log_p = logsumexp(joint, axis=0)
    return log_p, np.einsum("kb,kbd->bd", np.exp(joint - log_p), np.stack(posteriors))


@each_event
@each_kind
def test_the_mixture_is_bayes_rule(event, kind):
    """log p_t, x0, eps and score on any event shape and kind of covariance, for one time and for a time a row."""
    weights, means, given, matrices = data(event, kind)
    sde = sk.VPSDE()
    model = GaussianMixture(sde, weights, torch.tensor(means), torch.as_tensor(given, dtype=F64))
    t = torch.tensor([2e-4, 0.05, 0.3, 1.0], dtype=F64)
    x0 = torch.from_numpy(np.random.default_rng(1).normal(size=(4, *event)))
    x = sde.perturb(x0, t, randn(4, *event))
    rows, log_rows = model(x, t), model.log_prob(x, t)
    for i in range(4):
        alpha, sigma = float(sde.alpha(t[i])), float(sde.sigma(t[i]))
        log_p, mean = bayes(x[i : i + 1].numpy(), alpha, sigma, weights, means, matrices)
        one = model(x[i : i + 1], t[i].item())
        for p, j in ((one, 0), (rows, i)):
            np.testing.assert_allclose(p.x0[j].numpy().reshape(-1), mean[0], rtol=0, atol=1e-9)
            eps = (x[i].numpy().reshape(-1) - alpha * mean[0]) / sigma
            np.testing.assert_allclose(p.eps[j].numpy().reshape(-1), eps, rtol=0, atol=1e-9)
            np.testing.assert_allclose(p.score[j].numpy().reshape(-1), -eps / sigma, rtol=0, atol=1e-9 / sigma)
        for found in (model.log_prob(x[i : i + 1], t[i].item())[0], log_rows[i]):
            assert float(found) == pytest.approx(log_p[0], rel=1e-10, abs=1e-9)


@pytest.mark.parametrize("t", [0.01, 0.2, 1.0])
def test_the_mixture_is_the_integral_over_x0(t):
    """E[x0 | x] and p_t(x) in one dimension, by quadrature of p(x | x0) p(x0) alone."""
    sde = sk.SubVPSDE()
    alpha, sigma = float(sde.alpha(t)), float(sde.sigma(t))
    w, m, s = np.array([0.3, 0.7]), np.array([-1.0, 0.8]), np.array([0.5, 0.2])
    model = GaussianMixture(sde, w, torch.tensor(m), torch.tensor(s**2))
    for x in (-1.5, 0.1, 2.0):

        def density(x0, x=x):
            return (w * stats.norm.pdf(x0, m, s)).sum() * stats.norm.pdf(x, alpha * x0, sigma)

        peaks = sorted({x / alpha, *m} & {v for v in (x / alpha, *m) if -6 < v < 6})
        options = {"points": peaks, "epsabs": 1e-13, "epsrel": 1e-12, "limit": 400}
        mass = integrate.quad(density, -6, 6, **options)[0]
        mean = integrate.quad(lambda x0: x0 * density(x0), -6, 6, **options)[0] / mass
        point = torch.tensor([x], dtype=F64)
        assert float(model.log_prob(point, t)) == pytest.approx(math.log(mass), abs=1e-9)
        assert float(model(point, t).x0) == pytest.approx(mean, abs=1e-9)


@each_sde
def test_the_mixtures_score_is_the_gradient_of_its_log_density(sde):
    """By autograd, from t_min to t_max."""
    weights, means, given, _ = data((2,), "full")
    model = GaussianMixture(sde, weights, torch.tensor(means), torch.tensor(given))
    for t in times(sde).tolist():
        x = (model.sample(6, sk.Noise(0), t)).requires_grad_()
        (score,) = torch.autograd.grad(model.log_prob(x, t).sum(), x)
        found = model(x.detach(), t).score
        size = float(score.abs().max()) + float(x.detach().abs().max()) / float(sde.sigma(t)) ** 2
        torch.testing.assert_close(found, score, rtol=0, atol=1e-12 * size)


@each_sde
@each_kind
def test_float32_is_accurate_where_sigma_is_small_and_where_it_is_large(sde, kind):
    """Its x0 and eps are float64's to a few ulp of what x / sigma carries, never to what a difference leaves."""
    weights, means, given, _ = data((2,), kind)
    exact = GaussianMixture(sde, weights, torch.tensor(means), torch.as_tensor(given, dtype=F64))
    single = GaussianMixture(sde, weights, torch.tensor(means).float(), torch.as_tensor(given).float())
    for t in times(sde, 7).tolist():
        x = exact.sample(50, sk.Noise(1), t).float()
        a, b = single(x, t), exact(x.double(), t)
        sigma = float(sde.sigma(t))
        error_x0 = float((a.x0.double() - b.x0).abs().max())
        error_eps = float((a.eps.double() - b.eps).abs().max())
        # x is given to 2^-24 |x|: eps to that over sigma at best, x0 to the size of the data
        size = float(x.abs().max())
        assert error_x0 <= 2e-5 * max(1.0, size * min(1.0, 1 / sigma))
        assert error_eps <= 2e-5 * max(1.0, size / sigma)
        assert a.x0.dtype == F32


def test_rows_of_the_mixture_are_independent():
    """A row's prediction and log-density are the same alone and beside outliers."""
    weights, means, given, _ = data((3,), "full")
    model = GaussianMixture(sk.VPSDE(), weights, torch.tensor(means), torch.tensor(given))
    x = randn(5, 3)
    x[1:] *= 1e3
    torch.testing.assert_close(model(x, 0.3).score[:1], model(x[:1], 0.3).score, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.log_prob(x, 0.3)[:1], model.log_prob(x[:1], 0.3), rtol=1e-12, atol=1e-12)


def test_far_from_every_component_the_score_is_finite_and_points_home():
    """Log-densities of -1e10 and no division of zeros: the nearest component's own score."""
    model = GaussianMixture(sk.VESDE(), [1.0, 1.0], torch.tensor([[0.0], [1.0]], dtype=F64), 1e-4)
    x = torch.tensor([[1e5], [-1e5]], dtype=F64)
    s2 = float(sk.VESDE().sigma(0.1)) ** 2 + 1e-4
    torch.testing.assert_close(model(x, 0.1).score, (torch.tensor([[1.0], [0.0]], dtype=F64) - x) / s2)


def test_weights_need_not_sum_to_one():
    a, b = (GaussianMixture(sk.VPSDE(), w, torch.tensor([[0.0], [2.0]]), 0.1) for w in ([1, 3], [0.25, 0.75]))
    x = torch.tensor([[0.4]])
    assert torch.equal(a(x, 0.2).score, b(x, 0.2).score)


@each_kind
def test_a_degenerate_covariance_is_fine(kind):
    """Points, and data on a line: the marginals are proper, x0 is the responsibilities' mean, log p is SciPy's."""
    means = torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, 2.0]], dtype=F64)
    flat = torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=F64).expand(3, 2, 2)
    given = {"full": flat, "diagonal": torch.tensor([[0.0, 1.0]] * 3), "isotropic": torch.zeros(3), "number": 0.0}[kind]
    matrices = {
        "full": flat.numpy(),
        "diagonal": np.stack([np.diag([0.0, 1.0])] * 3),
        "isotropic": np.zeros((3, 2, 2)),
        "number": np.zeros((3, 2, 2)),
    }[kind]
    sde = sk.VPSDE()
    model = GaussianMixture(sde, [1.0, 1.0, 2.0], means, torch.as_tensor(given, dtype=F64))
    x = randn(4, 2)
    log_p, mean = bayes(
        x.numpy(), float(sde.alpha(0.2)), float(sde.sigma(0.2)), np.array([1.0, 1.0, 2.0]), means.numpy(), matrices
    )
    np.testing.assert_allclose(model.log_prob(x, 0.2).numpy(), log_p, rtol=1e-11)
    np.testing.assert_allclose(model(x, 0.2).x0.numpy(), mean, rtol=1e-11, atol=1e-11)
    drawn = model.sample(200, sk.Noise(0))
    if kind in {"isotropic", "number"}:
        assert all(bool((means == row).all(1).any()) for row in drawn)
    if kind == "full":  # on the lines of direction (1, 1) through the means
        offset = (drawn[:, 0] - drawn[:, 1])[:, None] - (means[:, 0] - means[:, 1])
        assert float(offset.abs().min(1).values.max()) < 1e-7


@pytest.mark.statistical
@pytest.mark.parametrize("source", [sk.Noise, sk.KeyedNoise])
@pytest.mark.parametrize("t", [None, 0.1])
def test_draws_have_the_mixtures_law(source, t, seed):
    """2e4 draws in three dimensions; the wrong component's weight, and a deviation 1.1 times too large, are seen."""
    weights, means, given, matrices = data((3,), "full", seed=4)
    sde = sk.VPSDE()
    model = GaussianMixture(sde, weights, torch.tensor(means), torch.tensor(given))
    alpha, sigma = (1.0, 0.0) if t is None else (float(sde.alpha(t)), float(sde.sigma(t)))
    n = 20_000
    x = model.sample(n, source(seed), t).numpy()
    assert x.shape == (n, 3)
    law = alpha * means, alpha**2 * matrices + sigma**2 * np.eye(3)
    smooth(rosenblatt(x, weights, *law)).holds(detects=0.09)
    smooth(rosenblatt(1.1 * x, weights, *law)).fails()
    smooth(rosenblatt(x, weights[[1, 2, 0]], *law)).fails()


@pytest.mark.statistical
def test_draws_of_the_data_choose_components_by_weight(seed):
    """Counts of 2e4 draws of four points; probabilities that are off by 0.03 are seen."""
    w = np.array([0.1, 0.2, 0.3, 0.4])
    model = GaussianMixture(sk.VPSDE(), w, torch.tensor([0.0, 1.0, 2.0, 3.0]), 0.0)
    found = torch.bincount(model.sample(20_000, sk.Noise(seed)).long(), minlength=4)
    counts(found, w).holds(detects=0.03)
    counts(found, [0.13, 0.17, 0.3, 0.4]).fails()


def test_a_keyed_draw_of_the_mixture_is_its_rows_own():
    weights, means, given, _ = data((2,), "full")
    model = GaussianMixture(sk.VPSDE(), weights, torch.tensor(means), torch.tensor(given))
    whole = model.sample(9, sk.KeyedNoise(0), 0.3)
    part = model.sample(2, sk.KeyedNoise(0, [7, 3]), 0.3)
    torch.testing.assert_close(part, whole[[7, 3]], rtol=1e-14, atol=1e-14)


@each_event
def test_an_empty_batch_has_empty_answers(event):
    model = GaussianMixture(sk.VPSDE(), [1.0, 1.0], torch.zeros(2, *event), 1.0)
    x = torch.zeros(0, *event)
    for t in (0.5, torch.zeros(0)):
        assert model(x, t).score.shape == x.shape
        assert model.log_prob(x, t).shape == (0,)
        assert sk.ddpm(Wave(F32))(x, t).x0.shape == x.shape
    assert model.sample(0, sk.Noise(0)).shape == x.shape


@each_event
@each_kind
def test_a_mixture_tells_its_covariances(event, kind):
    weights, means, given, matrices = data(event, kind)
    model = GaussianMixture(sk.VPSDE(), weights, torch.tensor(means), torch.as_tensor(given, dtype=F64))
    np.testing.assert_allclose(model.covariances().numpy(), matrices, rtol=0, atol=1e-14)


def test_variances_alone_make_no_matrix():
    """Of images with 49152 coordinates a D x D matrix would take 19 GB."""
    means = randn(2, 3, 128, 128)
    model = GaussianMixture(sk.VPSDE(), [1.0, 1.0], means, 0.01)
    x = model.sample(2, sk.Noise(0))
    assert sum(buffer.numel() for buffer in model.buffers()) < 5 * means.numel()
    nearest = (x[:, None] - means).flatten(2).square().mean(-1).amin(1)
    assert torch.allclose(nearest, torch.full((2,), 0.01, dtype=F64), rtol=0.05)
    assert float((model(x, sk.VPSDE().t_min).x0 - x).abs().max()) < 0.1


def test_a_mixture_moves_and_saves_as_a_module():
    """Its numbers are buffers: .to and state_dict take them along."""
    weights, means, given, _ = data((2,), "full")
    model = GaussianMixture(sk.VPSDE(), weights, torch.tensor(means), torch.tensor(given))
    other = GaussianMixture(sk.VPSDE(), [1.0] * 3, torch.zeros(3, 2, dtype=F64), torch.eye(2).repeat(3, 1, 1))
    other.load_state_dict(model.state_dict())
    x = randn(3, 2)
    assert torch.equal(other(x, 0.3).score, model(x, 0.3).score)
    assert model.to(F32).dtype == F32


def mixture(weights=(1.0, 1.0), means=((0.0, 0.0), (1.0, 1.0)), covariances=1.0):
    return GaussianMixture(sk.VPSDE(), weights, means, covariances)


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda: mixture(weights=[1.0, 0.0]), InvalidArgument, "weights must be positive, of shape (K,)"),
        (lambda: mixture(weights=[1.0, -1.0]), InvalidArgument, "weights must be positive"),
        (
            lambda: mixture(weights=1.0),
            InvalidArgument,
            "weights must be positive, of shape (K,), got a float32 tensor of",
        ),
        (lambda: mixture(weights=[1.0, math.nan]), InvalidArgument, "weights must be finite"),
        (lambda: mixture(weights="ab"), InvalidType, "weights must be numbers, got str 'ab'"),
        (lambda: mixture(weights=[1.0]), InvalidArgument, "means must be of shape (K, *event) with K = 1"),
        (lambda: mixture(means=[[math.inf, 0.0], [0.0, 0.0]]), InvalidArgument, "means must be finite"),
        (lambda: mixture(covariances=[[1.0] * 3] * 2), InvalidArgument, "(2, 2, 2), (2, 2), (2,) or (), got a float32"),
        (lambda: mixture(covariances=-1.0), InvalidArgument, "covariances must be positive semi-definite"),
        (
            lambda: mixture(covariances=[[[1.0, 0.5], [0.0, 1.0]]] * 2),
            InvalidArgument,
            "covariances must be symmetric",
        ),
        (
            lambda: mixture(covariances=[[[1.0, 2.0], [2.0, 1.0]]] * 2),
            InvalidArgument,
            "positive semi-definite, got an eigenvalue of -1",
        ),
        (lambda: mixture()(torch.zeros(3, 3), 0.5), InvalidArgument, "x must be of shape (B, *(2,)), got (3, 3)"),
        (lambda: mixture().log_prob(torch.zeros(2), 0.5), InvalidArgument, "x must be of shape (B, *(2,)), got (2,)"),
        (
            lambda: mixture()(torch.zeros(3, 2), 0.5, y=1),
            InvalidArgument,
            "condition must be empty, got y",
        ),
    ],
)
def test_a_mixture_that_is_none_is_named(make, kind, said):
    with pytest.raises(kind) as caught:
        make()
    assert f"GaussianMixture: {said}" in str(caught.value) or said in str(caught.value)


def test_a_condition_moves_with_its_model():
    """As buffers do: ``.to`` takes it along, and whole numbers stay whole."""
    model = sk.ddpm(Wave(F32)).given(shift=randn(4, 1, dtype=F32), y=torch.arange(4)).to(F64)
    assert model.condition["shift"].dtype == F64
    assert model.condition["y"].dtype == torch.int64


@pytest.mark.parametrize("view", ["x0", "eps", "score", "velocity"])
def test_a_functions_answer_takes_the_dtype_of_x(view):
    """Whatever it computes in: a float64 answer does not promote a float32 state."""
    x = randn(3, 2, dtype=F32)
    p = FromFunction(sk.VPSDE(), **{view: lambda x, t: x.double()})(x, 0.5)
    assert p.x0.dtype == p.eps.dtype == p.score.dtype == p.velocity.dtype == F32


@pytest.mark.parametrize("dtype", [torch.float16, BF16], ids=str)
def test_a_mixture_answers_half_precision_as_well_as_its_rounding_allows(dtype):
    """Its squares are taken in float32: at 300 and sigma = 80 float16 would overflow."""
    model = GaussianMixture(sk.EDMSDE(), [1.0, 2.0], [[0.0, 1.0], [-1.0, 0.5]], 0.5)
    x = torch.tensor([[300.0, 0.0], [-40.0, 250.0]])
    for t in (0.1, 80.0):
        p, exact = model(x.to(dtype), t), model(x.to(dtype).double(), t)
        assert p.score.dtype == dtype
        torch.testing.assert_close(p.score.double(), exact.score, rtol=0.02, atol=1e-4)
        torch.testing.assert_close(
            model.log_prob(x.to(dtype), 80.0).double(), model.log_prob(x, 80.0).double(), rtol=0.02, atol=0.1
        )
    assert sk.sample(model, (50, 2), steps=10, dtype=dtype).dtype == dtype


@pytest.mark.parametrize("model", [
    sk.ddpm(lambda x, label: x),
    FromFunction(sk.VPSDE(), score=lambda x, t: -x),
    GaussianMixture(sk.VPSDE(), [1.0], [[0.0, 0.0]], 1.0),
], ids=["Parametrised", "FromFunction", "GaussianMixture"])  # fmt: skip
def test_a_model_is_asked_at_noisy_levels_of_floats(model):
    x = torch.zeros(3, 2)
    with pytest.raises(InvalidArgument, match="t must be a time or a level with noise, got the clean level"):
        model(x, sk.VPSDE().clean())
    with pytest.raises(InvalidArgument, match="VPSDE: t must be a time or a GaussianLevel, got Level"):
        model(x, sk.Level(sk.VPSDE(), 0.5))
    for wrong in (x.long(), [[0.0, 0.0]]):
        with pytest.raises(InvalidType, match="x must be a floating-point tensor"):
            model(wrong, 0.5)


def test_a_mixture_draws_whole_numbers_of_rows():
    with pytest.raises(InvalidArgument, match="n must be at least 0, got n=-1"):
        GaussianMixture(sk.VPSDE(), [1.0], [[0.0]], 1.0).sample(-1, sk.Noise(0))


# Learned variances


def learned(variance, second, sde, row=None):
    """A model whose network says 0 and, of the variance, a given number."""
    network = lambda x, label: torch.cat([torch.zeros_like(x), torch.full_like(x, second)], 1)  # noqa: E731
    return Parametrised(network, sde, row or Epsilon(label="index"), variance)


@pytest.mark.parametrize("stride", [1, 20])
def test_a_learned_range_is_beta_and_the_posteriors_at_its_ends(stride):
    """v = 1 gives log(beta), v = -1 log(beta~), and 0 their middle: Nichol & Dhariwal 2021, eq. 15; of the strided step
    on a respaced table, where beta is 17.9 times the table's own."""
    betas = np.linspace(1e-4, 0.02, 1000)
    index = np.arange(0, 1000, stride)
    sde = sk.DiscreteVPSDE(betas).respaced(index) if stride > 1 else sk.DiscreteVPSDE(betas)
    bar = np.cumprod(1 - betas)[index]
    before = np.concatenate([[1.0], bar[:-1]])
    upper = np.log(1 - bar / before)
    posterior = (1 - before) / (1 - bar) * (1 - bar / before)
    posterior[0] = posterior[1]  # their code's posterior_log_variance_clipped
    lower = np.log(posterior)
    x = torch.zeros(len(index), 2, dtype=F64)
    for v, wanted in ((1.0, upper), (-1.0, lower), (0.0, 0.5 * (upper + lower)), (0.5, 0.75 * upper + 0.25 * lower)):
        found = learned(sk.models.LearnedRange(), v, sde)(x, sde.times).log_var
        np.testing.assert_allclose(found[:, 0].numpy(), wanted, rtol=1e-9)
        one = learned(sk.models.LearnedRange(), v, sde)(x, float(sde.times[-1])).log_var
        np.testing.assert_allclose(one[0].numpy(), wanted[-1], rtol=1e-9)
    if stride == 20:
        assert math.exp(float(upper[25])) / betas[500] == pytest.approx(17.9, abs=0.4)


def test_a_learned_logit_is_sohl_dicksteins():
    """beta_reverse = sigmoid(v / sqrt(trajectory_length) + logit(beta_forward)), as their code has it."""
    betas = np.linspace(1e-3, 0.3, 40)
    sde = sk.DiscreteVPSDE(betas)
    for v in (0.0, 2.5, -30.0):
        found = learned(sk.models.LearnedLogit(), v, sde)(torch.zeros(40, 1, dtype=F64), sde.times).log_var
        wanted = 1 / (1 + np.exp(-(v / math.sqrt(40) + np.log(betas / (1 - betas)))))
        np.testing.assert_allclose(found[:, 0].exp().numpy(), wanted, rtol=1e-9)


def test_a_variance_follows_a_prediction_and_a_model_through_what_wraps_them():
    sde = sk.DiscreteVPSDE()
    model = learned(sk.models.LearnedRange(), 0.3, sde)
    x, t = torch.zeros(2, 3, dtype=F64), 500.0
    p = model(x, t)
    for other in (p.with_x0(x), p.with_eps(x), p.with_score(x)):
        assert torch.equal(other.log_var, p.log_var)
    assert model.has_variance
    assert model.given(y=1).has_variance
    assert not Parametrised(lambda x, label: x, sde, Epsilon()).has_variance
    assert Parametrised(lambda x, label: x, sde, Epsilon())(x, t).log_var is None


def test_a_learned_variance_that_cannot_be_is_named():
    x = torch.zeros(3, 2)
    with pytest.raises(InvalidType, match=r"Parametrised: variance must be one such as LearnedRange\(\), got str"):
        Parametrised(lambda x, label: x, sk.VPSDE(), Epsilon(), "learned")
    model = Parametrised(lambda x, label: x, sk.DiscreteVPSDE(), Epsilon(), sk.models.LearnedRange())
    with pytest.raises(InvalidArgument, match=r"twice the channels of x with a variance, \(3, 4\), got \(3, 2\)"):
        model(x, 5.0)
    with pytest.raises(InvalidArgument, match=r"x must be of shape \(B, C, \.\.\.\) with a variance"):
        model(torch.zeros(3), 5.0)
    continuous = learned(sk.models.LearnedRange(), 0.0, sk.VPSDE(), Epsilon())
    with pytest.raises(UnsupportedCombination, match="log_var: needs a process on a table"):
        continuous(x, 0.5).log_var  # noqa: B018


# The exact model of a finite data set


@each_sde
def test_the_empirical_model_is_bayes_rule_over_its_data(sde):
    """x0 = sum r_i y_i with r proportional to N(x; alpha y_i, sigma^2 I), by plain sums in 60 digits."""
    data = torch.tensor([[0.3, -1.0], [1.2, 0.4], [-0.7, 0.9]], dtype=F64)
    model = sk.models.Empirical(sde, data)
    with mpmath.workdps(60):
        for level in sde.levels(times(sde, 5)):
            x = level.alpha * data[:1] + level.sigma * torch.tensor([[0.4, -0.2]], dtype=F64)
            a, s = mpmath.mpf(level.alpha), mpmath.mpf(level.sigma)
            point = [mpmath.mpf(v) for v in x[0].tolist()]
            weights = [
                mpmath.exp(-sum((u - a * mpmath.mpf(v)) ** 2 for u, v in zip(point, y, strict=True)) / (2 * s * s))
                for y in data.tolist()
            ]
            total = sum(weights)
            x0 = [
                sum(w * mpmath.mpf(y[k]) for w, y in zip(weights, data.tolist(), strict=True)) / total for k in (0, 1)
            ]
            p = model(x, level)
            wanted = torch.tensor([[float(v) for v in x0]], dtype=F64)
            eps = torch.tensor([[float((u - a * v) / s) for u, v in zip(point, x0, strict=True)]], dtype=F64)
            torch.testing.assert_close(p.x0, wanted, rtol=1e-11, atol=1e-11)
            torch.testing.assert_close(p.eps, eps, rtol=1e-9, atol=1e-9)
            log_p = float(mpmath.log(total / (3 * 2 * mpmath.pi * s * s)))
            assert float(model.log_prob(x, level)[0]) == pytest.approx(log_p, abs=1e-10)


def test_the_empirical_model_is_the_limit_of_a_mixture():
    """A mixture around the data whose variance vanishes; for one time and for a time a row, in pieces or at once."""
    sde = sk.VPSDE()
    data = sk.Noise(0).normal((50, 2, 3), stream="data", dtype=F64)
    model = sk.models.Empirical(sde, data)
    oracle = GaussianMixture(sde, torch.ones(50), data, 0.0)
    t = torch.linspace(0.1, 0.9, 7, dtype=F64)
    x = sk.Noise(1).normal((7, 2, 3), stream="x", dtype=F64)
    for time in (0.4, t):
        torch.testing.assert_close(model(x, time).x0, oracle(x, time).x0, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(model.log_prob(x, time), oracle.log_prob(x, time), rtol=1e-10, atol=1e-10)
    from sdekit.models import empirical

    many, cells = model(x, t).x0, empirical.CELLS
    try:
        empirical.CELLS = 100
        torch.testing.assert_close(model(x, t).x0, many, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(model.log_prob(x, 0.4), oracle.log_prob(x, 0.4), rtol=1e-10, atol=1e-10)
    finally:
        empirical.CELLS = cells


@pytest.mark.statistical
def test_sampling_the_empirical_model_gives_the_data_back(seed):
    """Every sample is a datum, and each datum has its share: the trained network that does this has learned nothing.

    Shares of 600 samples to 0.2, of 3000 draws to 0.08, and 3000 draws of p_t by their law. Seen: shares of 1/4, 1/4
    and 1/2, and a p_t whose data are 1.2 times too far.
    """
    data = torch.tensor([[-2.0, 0.0], [2.0, 0.0], [0.0, 2.0]], dtype=F64)
    model = sk.models.Empirical(sk.VPSDE(), data)
    x = sk.sample(model, (600, 2), steps=50, seed=seed)
    distance, nearest = torch.cdist(x, data).min(1)
    assert float(distance.max()) < 1e-3
    drawn = torch.cdist(model.sample(3000, sk.Noise((seed, 1))), data).argmin(1)
    counts(nearest.bincount(minlength=3), [1, 1, 1], of=3).holds(detects=0.2)
    counts(drawn.bincount(minlength=3), [1, 1, 1], of=3).holds(detects=0.08)
    counts(drawn.bincount(minlength=3), [1, 1, 2], of=3).fails()
    alpha, sigma = float(model.sde.alpha(0.5)), float(model.sde.sigma(0.5))
    covariances = np.tile(sigma**2 * np.eye(2), (3, 1, 1))
    noisy = model.sample(3000, sk.Noise((seed, 2)), 0.5)
    smooth(rosenblatt(noisy, [1, 1, 1], alpha * data, covariances), of=3).holds(detects=0.21)
    smooth(rosenblatt(1.2 * noisy, [1, 1, 1], alpha * data, covariances), of=3).fails()


@pytest.mark.parametrize(
    ("data", "kind", "said"),
    [
        (torch.zeros(0, 2), InvalidArgument, "Empirical: data must hold at least one row"),
        (torch.zeros(3, 2, dtype=torch.int64), InvalidType, "Empirical: data must be of a floating-point dtype"),
        (torch.full((2, 2), math.nan), InvalidArgument, "Empirical: data must be finite"),
        ([[1.0]], InvalidType, "Empirical: data must be a tensor"),
    ],
)
def test_data_that_are_none_have_no_empirical_model(data, kind, said):
    with pytest.raises(kind, match=said):
        sk.models.Empirical(sk.VPSDE(), data)
    with pytest.raises(InvalidArgument, match=r"Empirical: x must be of shape \(B, \*\(2,\)\), got \(3, 3\)"):
        sk.models.Empirical(sk.VPSDE(), torch.zeros(1, 2))(torch.zeros(3, 3), 0.5)


def test_a_model_without_a_variance_says_so():
    """An exact model and a function have none, and are refused a learned one."""
    sde = sk.VPSDE()
    exact = GaussianMixture(sde, [1.0], torch.zeros(1, 2), 1.0)
    for model in (exact, FromFunction(sde, eps=lambda x, t: 0 * x)):
        assert not model.has_variance
        with pytest.raises(UnsupportedCombination, match="variance"):
            sk.sample(model, (2, 2), solver=sk.solvers.Ancestral("learned"), steps=3)
