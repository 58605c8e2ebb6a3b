"""ODE methods: order, error control per row, and agreement with torchdiffeq and SciPy."""

import math
import sys

import numpy as np
import pytest
import scipy.integrate
import torch
import torchdiffeq  # noqa: F401 - its table of solvers is read below
from subjects import ode_methods

import sdekit as sk
from sdekit import ode

F64 = torch.float64


def logistic(x, t):
    """dx/dt = (1 + t) x (1 - x), non-linear and non-autonomous."""
    t = t.reshape(-1, *(1,) * (x.ndim - 1)) if isinstance(t, torch.Tensor) else t
    return (1 + t) * x * (1 - x)


def logistic_at(x, t, s):
    """The exact solution: logit x_s = logit x_t + int_t^s (1 + u) du."""
    return torch.sigmoid(torch.logit(x) + (s - t) * (1 + (s + t) / 2))


X = torch.tensor([[0.1, 0.2], [0.5, 0.6], [0.9, 0.3]], dtype=F64)


@pytest.mark.parametrize("method", [ode.Euler, ode.Heun, ode.RK4])
@pytest.mark.parametrize(("t", "s"), [(0.0, 1.5), (1.5, 0.0)])
def test_fixed_methods_have_their_order_in_both_directions(method, t, s):
    """The error falls by 2^order when the step is halved."""
    errors = [float((method(steps=n).advance(logistic, X, t, s)[0] - logistic_at(X, t, s)).norm()) for n in (32, 64)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(method.order, abs=0.15)


@pytest.mark.parametrize("method", [ode.Euler, ode.Heun, ode.RK4, ode.Dopri5, ode.Dopri8])
def test_tableaux_are_consistent_and_of_their_order(method):
    """Sum a_ij = c_i and the order conditions sum b c^(k-1) = 1 / k; the error weights sum to zero."""
    c, a, b, e = method.tableau
    np.testing.assert_allclose([sum(row) for row in a], c, atol=1e-15)
    for k in range(1, method.order + 1):
        np.testing.assert_allclose(np.dot(b, np.array(c) ** (k - 1)), 1 / k, atol=1e-14)
    if e:
        for k in range(1, method.order):
            np.testing.assert_allclose(np.dot(e, np.array(c) ** (k - 1)), 0.0, atol=1e-14)


def test_dormand_and_prince_s_weights_are_the_published_ones():
    """Hairer, Norsett & Wanner 1993, table II.5.2: the embedded weights are b - e."""
    embedded = np.array(ode.Dopri5.tableau.b) - np.array(ode.Dopri5.tableau.e)
    published = [5179 / 57600, 0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40]
    np.testing.assert_allclose(embedded, published, atol=1e-15)


def test_prince_and_dormand_s_numbers_are_those_of_another_library():
    """torchdiffeq's, to the last bit; it has the same stages, and the slope at the step's end for a last one."""
    from torchdiffeq._impl.dopri8 import _DOPRI8_TABLEAU as theirs

    ours = ode.Dopri8.tableau
    np.testing.assert_array_equal(ours.c[1:], theirs.alpha)
    for row, other in zip(ours.a[1:], theirs.beta, strict=True):
        np.testing.assert_array_equal(row, other)
    np.testing.assert_array_equal(ours.b, theirs.c_sol)
    np.testing.assert_array_equal(ours.e, theirs.c_error)


@pytest.mark.parametrize(("method", "steps"), [(ode.Dopri5, (16, 32)), (ode.Dopri8, (4, 8))])
def test_pairs_have_their_order_in_steps_of_one_size(method, steps):
    """The tableau on the logistic equation, in NumPy: an error that falls by 2^order, and an estimate of the order
    below."""
    c, a, b, e = method.tableau
    errors, estimates = [], []
    for n in steps:
        x, h, estimate = X.numpy().ravel(), 1.5 / n, 0.0
        for i in range(n):
            k = []
            for node, row in zip(c, a, strict=True):
                stage = x + h * sum((w * v for w, v in zip(row, k, strict=True)), np.zeros_like(x))
                k.append(np.asarray(logistic(stage, (i + node) * h)))
            x = x + h * (np.array(b) @ np.array(k))
            estimate = max(estimate, np.abs(h * (np.array(e) @ np.array(k))).max())
        errors.append(np.abs(x - logistic_at(X, 0.0, 1.5).numpy().ravel()).max())
        estimates.append(estimate)
    assert math.log2(errors[0] / errors[1]) == pytest.approx(method.order, abs=0.6)
    assert math.log2(estimates[0] / estimates[1]) == pytest.approx(method.order, abs=0.6)


@pytest.mark.parametrize(("t", "s"), [(0.0, 1.5), (1.5, 0.0)])
@pytest.mark.parametrize("tol", [1e-4, 1e-7, 1e-10])
@pytest.mark.parametrize("method", [ode.Dopri5, ode.Dopri8])
def test_pairs_reach_their_tolerance(method, tol, t, s):
    """The end error is within 10 tolerances, and the accumulated estimate is an upper bound of its size."""
    x, stats = method(rtol=tol, atol=tol).advance(logistic, X, t, s)
    wrong = (x - logistic_at(X, t, s)).abs()
    assert float(wrong.max()) <= 10 * tol
    assert bool((stats.error >= 0).all())
    assert stats.error.shape == X.shape


def test_order_8_is_cheaper_where_the_tolerance_is_tight():
    """And dearer where it is loose."""
    costs = {
        tol: [int(m(rtol=tol, atol=tol).advance(logistic, X, 0.0, 1.5)[1].nfe.max()) for m in (ode.Dopri5, ode.Dopri8)]
        for tol in (1e-3, 1e-12)
    }
    assert costs[1e-3][0] < costs[1e-3][1]
    assert costs[1e-12][1] < 0.5 * costs[1e-12][0]


def test_dopri5_errors_fall_with_the_tolerance():
    """Ten times less tolerance shrinks the error at least five times, over four decades."""
    errors = [
        float((ode.Dopri5(rtol=tol, atol=tol).advance(logistic, X, 0.0, 1.5)[0] - logistic_at(X, 0.0, 1.5)).abs().max())
        for tol in (1e-5, 1e-9)
    ]
    assert errors[0] / errors[1] > 5**4


@pytest.mark.parametrize("divisible", [True, False])
def test_a_row_of_dopri5_does_not_depend_on_its_mates(divisible):
    """Alone, in a batch, and beside an outlier scaled by 1e6: same value and same evaluations."""

    class Stiffness:
        """dx/dt = -k x, with a rate k a row."""

        def __init__(self, k):
            self.k, self.divisible = k, divisible

        def __call__(self, x, t):
            return -self.k[:, None] * x

        def rows(self, index):
            return Stiffness(self.k[index])

        def on_behalf(self, index):
            return self

    k = torch.tensor([1.0, 300.0, 3.0, 0.0], dtype=F64)
    x = torch.tensor([[1.0, 2.0], [1e6, 1e6], [0.5, -1.0], [2.0, 1.0]], dtype=F64)
    method = ode.Dopri5(rtol=1e-8, atol=1e-8)
    together, stats = method.advance(Stiffness(k), x, 0.0, 1.0)
    for i in range(4):
        alone, own = method.advance(Stiffness(k[i : i + 1]), x[i : i + 1], 0.0, 1.0)
        assert torch.equal(alone[0], together[i])
        assert int(own.nfe[0]) == int(stats.nfe[i])
    assert int(stats.nfe[1]) > 5 * int(stats.nfe[2])
    torch.testing.assert_close(together, x * torch.exp(-k)[:, None], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", ode_methods())
def test_every_method_keeps_shape_and_dtype_and_agrees_with_dopri5(method):
    """Any event shape, both directions, float32 and float64; the given x is left as it was."""
    for dtype, event in ((F64, ()), (torch.float32, (2, 3)), (F64, (1, 2, 2))):
        x = torch.linspace(0.1, 0.9, 3 * math.prod(event), dtype=dtype).reshape(3, *event)
        before = x.clone()
        for t, s in ((0.0, 0.5), (0.5, 0.0)):
            got, stats = method.advance(logistic, x, t, s)
            assert got.shape == x.shape
            assert got.dtype == dtype
            tolerance = 0.1 if method.evaluations is not None else 1e-3
            torch.testing.assert_close(got, logistic_at(x, t, s), rtol=tolerance, atol=tolerance)
            assert bool((torch.as_tensor(stats.nfe) > 0).all())
        assert torch.equal(x, before)


@pytest.mark.parametrize("method", ode_methods())
def test_an_empty_batch_and_an_empty_interval(method):
    """No rows give no rows; no way to go gives x itself."""
    x, stats = method.advance(logistic, torch.empty(0, 2), 0.0, 1.0)
    assert x.shape == (0, 2)
    if method.evaluations is None:
        assert int(torch.as_tensor(stats.nfe).sum()) == 0
    if not isinstance(method, ode.TorchDiffEq):
        assert torch.equal(method.advance(logistic, X, 0.5, 0.5)[0], X)


@pytest.mark.parametrize("method", ode_methods())
def test_declared_evaluations_are_the_calls_made(method):
    """``evaluations`` an interval for fixed steps; the stats count the calls of the library's methods."""
    calls = 0

    def counted(x, t):
        nonlocal calls
        calls += 1
        return logistic(x, t)

    _, stats = method.advance(counted, X, 0.0, 1.0)
    if method.evaluations is not None:
        assert calls == method.evaluations
    assert calls == int(torch.as_tensor(stats.nfe).max())


class Row:
    """The documented algorithm for one row, in NumPy: where it asks, where it ends, and the sum of its estimates."""

    def __init__(self, field, x, t, s, *, rtol, atol, weigh=None):
        self.field, self.rtol, self.atol, self.asked = field, rtol, atol, []
        a = [np.array(row) for row in ode.Dopri5.tableau.a]
        c, e = np.array(ode.Dopri5.tableau.c), np.array(ode.Dopri5.tableau.e)
        self.x, self.error, before, self.rejected = x, np.zeros_like(x), 1.0, 0
        slope = self.at(x, t)
        step, sign = self.first(slope, t, abs(s - t), math.copysign(1.0, s - t)), math.copysign(1.0, s - t)
        while t != s:
            left = abs(s - t)
            step = left if 1.1 * step >= left else left / 2 if 2 * step > left else step
            h = sign * step
            k = [slope]
            for node, row in zip(c[1:], a[1:], strict=True):
                k.append(self.at(self.x + h * (row @ np.array(k)), t + node * h))
            ahead, local = self.x + h * (a[-1] @ np.array(k[:-1])), np.abs(h * (e @ np.array(k)))
            if weigh is None:
                ratio = np.max(local / self.tolerance(self.x, ahead))
            else:
                local, ratio = (
                    weigh(h * (e @ np.array(k))),
                    weigh(h * (e @ np.array(k))) / (atol + rtol * weigh(self.x)),
                )
            control = 0.9 if weigh is None else 0.8
            if not np.isfinite(k[-1]).all() or not ratio <= 1.0:
                self.rejected += 1
                step = abs(h) * max(0.2, control * ratio**-0.2 if np.isfinite(ratio) else 0.0)
                continue
            self.error, slope, self.x = self.error + local, k[-1], ahead
            t = s if step >= left else t + h
            factor = (
                0.9 * ratio**-0.14 * before**0.08 if weigh is None and ratio else 0.8 * ratio**-0.2 if ratio else 10
            )
            step = abs(h) * min(10.0, max(0.2, factor))
            before = max(ratio, 1e-4)

    def at(self, x, t):
        self.asked.append(t)
        return self.field(x, t)

    def tolerance(self, x, other):
        return self.atol + self.rtol * np.maximum(np.abs(x), np.abs(other))

    def first(self, slope, t, span, sign):
        """Hairer, Norsett & Wanner 1993, section II.4, with the largest coordinate for a norm."""
        d0, d1 = (np.max(np.abs(v) / self.tolerance(self.x, self.x)) for v in (self.x, slope))
        h0 = min(span, 1e-6 * span if min(d0, d1) < 1e-5 else 0.01 * d0 / d1)
        ahead = self.at(self.x + sign * h0 * slope, t + sign * h0)
        d2 = np.max(np.abs(ahead - slope) / self.tolerance(self.x, self.x)) / h0
        steepest = max(d1, d2) if np.isfinite(d2) else math.inf
        h1 = 1e-6 * span if steepest <= 1e-15 else (0.01 / steepest) ** 0.2
        return min(100 * h0, h1, span)


CONTROL = {
    "a decay": (lambda x, t: -x, [1.0, -0.3], 0.0, 2.0),
    "back in time": (lambda x, t: -x * t, [1.0, 2.0], 1.5, -0.5),
    "stiffness": (lambda x, t: -300.0 * (x - np.cos(3 * t)), [2.0], 0.0, 1.0),
    "a kick": (lambda x, t: 30 * np.exp(-200 * (t - 0.6) ** 2) + 0 * x, [0.1, 0.2], 0.0, 1.0),
    "data near zero": (lambda x, t: 1.0 + x, [1e-12, -1e-11], 0.0, 1.0),
    "a start at rest": (lambda x, t: t**3 + 0 * x, [0.5], 0.0, 3.0),
    "nearly at rest": (lambda x, t: 1e-12 * t**2 + 0 * x, [0.5], 0.0, 3.0),
    "rest": (lambda x, t: 0 * x, [0.7], 0.0, 4.0),
    "a straight line": (lambda x, t: 0.25 + 0 * x, [3.0], 0.0, 4.0),
    "a weak field": (lambda x, t: 1e-6 * x, [1.0], 0.0, 1.0),
    "a bend alone": (lambda x, t: 1e4 * np.sin(5 * t) + 0 * x, [1.0], 0.0, 1.0),
    "a pole ahead": (lambda x, t: x * x, [1.0], 0.0, 0.9),
    "a shock": (lambda x, t: np.tanh(40 * (t - 0.5)) + 0 * x, [1.0], 0.0, 1.0),
    "a growing scale": (lambda x, t: 8 * x, [1.0, 1e-4], 0.0, 2.0),
}


@pytest.mark.parametrize("rtol", [0.0, 1e-6, 1e-3])
@pytest.mark.parametrize("case", CONTROL)
def test_steps_are_chosen_as_documented(case, rtol):
    """Every time at which the field is asked, the result, and the estimates, against the algorithm in NumPy."""
    field, start, t, s = CONTROL[case]
    asked = []

    def watched(x, t):
        asked.append(float(t[0]))
        return torch.from_numpy(np.asarray(field(x[0].numpy(), float(t[0]))))[None]

    expected = Row(field, np.array(start), t, s, rtol=rtol, atol=1e-7)
    x, stats = ode.Dopri5(rtol=rtol, atol=1e-7).advance(watched, torch.tensor([start], dtype=F64), t, s)
    assert int(stats.nfe[0]) == len(asked) == len(expected.asked)
    np.testing.assert_allclose(asked, expected.asked, rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(x[0], expected.x, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(stats.error[0], expected.error, rtol=1e-4, atol=1e-15)
    assert case != "a shock" or expected.rejected, "nothing was rejected"


class Weighed:
    """A field that counts errors as three times the largest, and remembers when it was asked."""

    def __init__(self, field):
        self.field, self.asked = field, []

    def __call__(self, x, t):
        self.asked.append(float(t[0]))
        return torch.from_numpy(np.asarray(self.field(x[0].numpy(), float(t[0]))))[None]

    def weigh(self, error, x, slope, t):
        return 3.0 * error.abs().amax(1)


@pytest.mark.parametrize("rtol", [0.0, 1e-3])
@pytest.mark.parametrize("case", CONTROL)
def test_steps_of_a_field_that_weighs_its_errors_are_chosen_as_documented(case, rtol):
    """Against the same algorithm in NumPy: what a step counts for, and steps of 0.8 r^(-1/5)."""
    field, start, t, s = CONTROL[case]
    watched = Weighed(field)
    expected = Row(field, np.array(start), t, s, rtol=rtol, atol=1e-7, weigh=lambda v: 3.0 * np.max(np.abs(v)))
    x, stats = ode.Dopri5(rtol=rtol, atol=1e-7).advance(watched, torch.tensor([start], dtype=F64), t, s)
    assert int(stats.nfe[0]) == len(watched.asked) == len(expected.asked)
    np.testing.assert_allclose(watched.asked, expected.asked, rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(x[0], expected.x, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(stats.error[0], np.max(expected.error), rtol=1e-4, atol=1e-15)


def test_a_step_that_meets_nan_is_a_fifth_as_long():
    """Whatever the estimate says: the steps shrink by 0.2 until the field is finite at the end, or underflow."""
    asked = []

    def wall(x, t):
        asked.append(float(t[0]))
        return torch.where(t[:, None] < 0.7, torch.ones_like(x), torch.nan)

    with pytest.raises(sk.errors.IntegrationError, match=r"underflowed at rows \[0\], t=0.7"):
        ode.Dopri5().advance(wall, torch.ones(1, 1, dtype=F64), 0.0, 1.0)
    ends = np.array(asked[7::6])  # of the trial steps: two calls come before the first one's five inner stages
    refused = np.flatnonzero(ends >= 0.7)
    since = 0.7 - ends[ends < 0.7].max()
    assert len(refused) > 5
    assert since < 1e-12


def test_a_gradient_is_that_of_the_steps_taken():
    """d x_s / d x_t of dx/dt = -x^2 is (x_s / x_t)^2, and 1 where the field is 0: the control has no gradient."""
    x = torch.tensor([[0.5, 0.2], [0.0, 0.0]], dtype=F64, requires_grad=True)
    end, _ = ode.Dopri5(rtol=1e-9, atol=1e-9).advance(lambda x, t: -x * x, x, 0.0, 1.0)
    (slope,) = torch.autograd.grad(end.sum(), x)
    torch.testing.assert_close(slope, (1 + x.detach()) ** -2, rtol=1e-7, atol=1e-7)


def test_an_event_of_no_coordinates_costs_nothing():
    x, stats = ode.Dopri5().advance(logistic, torch.empty(3, 0), 0.0, 1.0)
    assert x.shape == stats.error.shape == (3, 0)
    assert stats.nfe.tolist() == [0, 0, 0]


@pytest.mark.parametrize("method", ode_methods())
def test_what_a_field_answers_is_checked(method):
    """A tensor of another shape is an argument out of range, anything else of the wrong kind."""
    with pytest.raises(sk.errors.InvalidArgument, match=r"field must return a tensor of the shape of x, \(3, 2\)"):
        method.advance(lambda x, t: x[:, :1], X, 0.0, 1.0)
    with pytest.raises(sk.errors.InvalidType, match=r"shape of x, \(3, 2\), got float 1.0"):
        method.advance(lambda x, t: 1.0, X, 0.0, 1.0)


def test_the_libraries_methods_have_the_orders_that_the_libraries_declare():
    """BDF and LSODA vary theirs and declare none; Radau IIA of three stages has order 5 = 2 * 3 - 1."""
    solvers = sys.modules["torchdiffeq._impl.odeint"].SOLVERS
    for name in ode.libraries.TORCHDIFFEQ:
        assert ode.TorchDiffEq(name).order == solvers[name].order
    for name in ("RK23", "RK45", "DOP853"):
        assert ode.SciPy(name).order == getattr(scipy.integrate, name).order
    assert [ode.SciPy(name).order for name in ("Radau", "BDF", "LSODA")] == [5, 1, 1]


def test_fields_that_are_not_finite_are_named():
    """At the start, the rows; on the way, the underflow; and a limit of steps that is not enough."""

    def broken(x, t):
        return torch.where(x > 0.8, torch.nan, x)

    with pytest.raises(sk.errors.NonFiniteError, match=r"rows \[2\]"):
        ode.Dopri5().advance(broken, X, 0.0, 1.0)
    with pytest.raises(sk.errors.IntegrationError, match="underflowed at rows"):
        ode.Dopri5().advance(broken, X[:2], 0.0, 2.0)
    with pytest.raises(sk.errors.IntegrationError, match="max_steps=3"):
        ode.Dopri5(rtol=1e-10, atol=1e-10, max_steps=3).advance(logistic, X, 0.0, 1.0)


def test_an_assertion_of_the_field_is_no_failure_of_the_method():
    """torchdiffeq asserts where its step underflows; a network that asserts is heard itself."""

    def pole(x, t):
        return x * x * x

    with pytest.raises(sk.errors.IntegrationError, match="TorchDiffEq: dopri5 gave up between 0 and 2: underflow"):
        ode.TorchDiffEq("dopri5").advance(pole, X + 1.0, 0.0, 2.0)

    def strict(x, t):
        assert float(t) < 0.5, "the network knows times below a half"
        return x

    with pytest.raises(AssertionError, match="knows times below a half"):
        ode.TorchDiffEq("dopri5").advance(strict, X, 0.0, 1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ode.Dopri5(rtol=-1.0), "Dopri5: rtol must be finite and >= 0, got rtol=-1"),
        (lambda: ode.Dopri5(atol=0.0), "Dopri5: atol must be finite and > 0"),
        (lambda: ode.RK4(steps=0), "RK4: steps must be at least 1, got steps=0"),
        (lambda: ode.RK4(steps=1.5), "RK4: steps must be a whole number"),
        (lambda: ode.TorchDiffEq("rk45"), "TorchDiffEq: name must be one of dopri5"),
        (lambda: ode.SciPy("dopri5"), "SciPy: name must be one of RK23"),
        (lambda: ode.SciPy(rtol=1e-20), "SciPy: rtol must be at least 1e-13"),
    ],
)
def test_bad_settings_are_refused_by_name(make, message):
    """The error names the argument, what was given and what would be right."""
    with pytest.raises((sk.errors.InvalidArgument, sk.errors.InvalidType), match=message):
        make()


def test_a_tolerance_out_of_reach_of_the_dtype_is_named():
    """Below a thousandth of its rounding; float64 goes on."""
    strict = ode.Dopri5(rtol=1e-12, atol=1e-12)
    with pytest.raises(sk.errors.InvalidArgument, match=r"within reach of torch.float32, above 1e-10"):
        strict.advance(logistic, X.float(), 0.0, 1.0)
    strict.advance(logistic, X, 0.0, 1.0)


@pytest.mark.parametrize("method", ode_methods())
def test_an_interval_of_no_length_changes_nothing(method):
    x, _ = method.advance(logistic, X, 0.5, 0.5)
    assert torch.equal(x, X)


@pytest.mark.parametrize("method", ode_methods())
def test_a_method_is_its_settings(method):
    assert method == eval(repr(method), vars(ode))
    assert hash(method) == hash(eval(repr(method), vars(ode)))


def test_options_that_are_no_settings_are_named():
    with pytest.raises(sk.errors.InvalidType, match="TorchDiffEq: options must be settings by name, got int 3"):
        ode.TorchDiffEq(options=3)


def test_fixed_steps_tell_the_times_that_they_then_ask_at():
    """To a field that wants to know, where there is more than one step; the result is the same."""

    class Told:
        def __init__(self):
            self.told, self.asked = [], []

        def expect(self, times):
            self.told += times

        def __call__(self, x, t):
            self.asked.append(t)
            return -x * t

    for steps, told in ((3, 12), (1, 0)):
        field, x = Told(), torch.ones(2, 1, dtype=torch.float64)
        end, _ = ode.RK4(steps).advance(field, x, 1.0, 0.2)
        assert len(field.told) == told
        assert field.told in ([], field.asked)
        assert torch.equal(end, ode.RK4(steps).advance(lambda x, t: -x * t, x, 1.0, 0.2)[0])


@pytest.mark.parametrize(("method", "share"), [(ode.Dopri8(1e-6, 1e-6), 9 / 13), (ode.Dopri5(1e-6, 1e-6), 5 / 6)])
def test_passive_coordinates_are_asked_for_where_they_have_weight(method, share):
    """An integral beside its path: 9 of 13 stages, and 5 of 6, for the same result as of a field that gives all."""

    def full(x, t):
        return torch.stack([-x[:, 0], x[:, 0].square()], 1)

    class Integral:
        whole = 0

        def __call__(self, x, t):
            Integral.whole += 1
            return full(x, t)

        def active(self, x, t):
            return torch.stack([-x[:, 0], torch.zeros_like(x[:, 1])], 1)

    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    end, stats = method.advance(Integral(), x, 0.0, 2.0)
    plain, _ = method.advance(full, x, 0.0, 2.0)
    torch.testing.assert_close(end, plain, rtol=0, atol=0)
    assert float(end[0, 1]) == pytest.approx(0.5 * (1 - math.exp(-4)), abs=1e-5)
    spent = int(stats.nfe) - 2  # the first slope, and the one that finds the first step
    Integral.whole = 0
    method.advance(Integral(), x, 0.0, 2.0)
    assert Integral.whole - 2 == round(share * spent)


def test_a_gradient_through_a_trial_step_beyond_the_field_is_refused():
    """The step is refused and the result right, but 0 times an infinite gradient is NaN, of every row's parameter."""
    p = torch.tensor(20.0, dtype=torch.float64)

    def field(x, t):
        return -p * x * torch.exp(0.3 * x.square())

    x = torch.tensor([[0.1], [6.0]], dtype=torch.float64)
    method = ode.Dopri5(1e-3, 1e-3)
    end, _ = method.advance(field, x, 0.0, 1.0)
    assert bool(torch.isfinite(end).all())
    p.requires_grad_()
    with pytest.raises(sk.errors.NonFiniteError, match=r"for gradients to pass it, got NaN or infinity at rows \[1\]"):
        method.advance(field, x, 0.0, 1.0)
    method.advance(field, x[:1], 0.0, 1.0)[0].sum().backward()
    assert bool(torch.isfinite(p.grad))
