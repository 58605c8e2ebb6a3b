"""ODE methods: order, error control per row, and agreement with torchdiffeq and SciPy."""

import math

import numpy as np
import pytest
import torch
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


@pytest.mark.parametrize("method", [ode.Euler, ode.Heun, ode.RK4, ode.Dopri5])
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


@pytest.mark.parametrize(("t", "s"), [(0.0, 1.5), (1.5, 0.0)])
@pytest.mark.parametrize("tol", [1e-4, 1e-7, 1e-10])
def test_dopri5_reaches_its_tolerance(tol, t, s):
    """The end error is within 10 tolerances, and the accumulated estimate is an upper bound of its size."""
    x, stats = ode.Dopri5(rtol=tol, atol=tol).advance(logistic, X, t, s)
    wrong = (x - logistic_at(X, t, s)).abs()
    assert float(wrong.max()) <= 10 * tol
    assert bool((stats.error >= 0).all())
    assert stats.error.shape == X.shape


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
            self.k = k

        def __call__(self, x, t):
            return -self.k[:, None] * x

        if divisible:

            def rows(self, index):
                return Stiffness(self.k[index])

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
    assert method.advance(logistic, torch.empty(0, 2), 0.0, 1.0)[0].shape == (0, 2)
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
