"""Legal and illegal arguments together, at random: the outcome is a finite result or a documented error."""

import inspect
import warnings

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sdekit as sk
from sdekit.errors import PriorWarning, SDEKitError

from .registry import ENTRIES, Spy
from .values import Wrong

CI = settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))

numbers = st.one_of(
    st.floats(-1.0, 2.0), st.floats(), st.integers(-3, 60), st.sampled_from([None, "1", True, 1j, [0.5], 10**400])
)
counts = st.one_of(st.integers(-2, 6), st.integers(), st.sampled_from([None, 2.5, "3", True, float("nan")]))
names = st.sampled_from(["log_snr", "karras", "uniform", "quadratic", "leading", "cats", "", None, 3])
times = st.lists(st.floats(0.0, 1.2), max_size=4).map(lambda t: sorted(t, reverse=True))
shapes = st.one_of(
    st.lists(st.integers(-1, 4), max_size=3).map(tuple), st.sampled_from([None, 3, "ab", (2.5,), (3, None)])
)
seeds = st.one_of(st.integers(-1, 5), st.integers(), st.sampled_from([(1, 2), [1, -1], None, "0", 0.5]))
elements = st.one_of(st.floats(-3, 3, width=32), st.sampled_from([float("nan"), float("inf"), 1e30]))
dtypes = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64])


@st.composite
def tensors(draw):
    """Small tensors of any dtype and rank, some not finite."""
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    fill = draw(elements) if draw(st.integers(0, 4)) == 0 else 0.5
    return torch.full(shape, fill).to(draw(dtypes)) if fill == 0.5 else torch.full(shape, fill)


def outcome(call, **arguments):
    """The result of a call, or None where it ended with a documented error; a PriorWarning is documented, too."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", PriorWarning)
        try:
            return call(**arguments)
        except SDEKitError:
            return None


def solvers():
    """Every solver with its defaults."""
    kinds = [getattr(sk.solvers, name) for name in sk.solvers.__all__]
    kinds = [k for k in kinds if not inspect.isabstract(k) and issubclass(k, sk.solvers.Solver)]
    return st.sampled_from([None, *(kind() for kind in kinds if kind is not sk.solvers.AnnealedLangevin)])


SETTINGS = [entry for entry in ENTRIES if inspect.isclass(entry.call) and not entry.plain and entry.base() == {}]
"""Classes that are made of settings alone."""


@settings(CI, max_examples=400)
@given(st.data())
def test_a_class_of_settings_is_made_or_named(data):
    """Several settings at once, legal and illegal: an object with a repr, or a documented error."""
    entry = data.draw(st.sampled_from(SETTINGS))
    arguments = {}
    for name, wrong in entry.wrong.items():
        if isinstance(wrong, Wrong) and data.draw(st.booleans()):
            arguments[name] = data.draw(st.one_of(numbers, counts, st.sampled_from(list(wrong.values.values()))))
    made = outcome(entry.call, **arguments)
    assert made is None or repr(made)
    if isinstance(made, sk.GaussianSDE):
        t = torch.linspace(made.t_min, made.t_max, 5, dtype=torch.float64)
        assert bool((made.alpha(t) >= 0).all())
        assert bool(torch.isfinite(made.sigma(t)).all())


@CI
@given(
    shape=shapes,
    steps=counts,
    grid=st.one_of(names, times),
    seed=seeds,
    solver=solvers(),
    denoise=st.sampled_from([None, True, False, "no"]),
    per_sample=st.sampled_from([False, True, 1]),
    dtype=st.one_of(st.none(), dtypes),
)
def test_samples_are_finite_or_named(shape, steps, grid, seed, solver, denoise, per_sample, dtype):
    """Of the shape that was asked for, in the dtype that was."""
    if isinstance(steps, int) and steps > 60 and steps <= sk.errors.MOST:
        steps = 60
    arguments = {"steps": steps, "grid": grid, "seed": seed, "solver": solver, "denoise": denoise}
    x = outcome(sk.sample, model=sk.ddpm(Spy()), shape=shape, per_sample=per_sample, dtype=dtype, **arguments)
    if x is not None:
        assert tuple(x.shape) == tuple(shape)
        assert bool(torch.isfinite(x).all())


@CI
@given(
    x=tensors(),
    tol=st.one_of(st.sampled_from(["fast", "slow", None, 1e-3]), numbers),
    trace=st.sampled_from(["exact", "hutchinson", "x", None]),
    seed=seeds,
)
def test_log_likelihoods_are_finite_or_named(x, tol, trace, seed):
    """One number a row."""
    if isinstance(tol, float) and 0 < tol < 1e-5:
        tol = 1e-5
    r = outcome(sk.log_likelihood, model=sk.ddpm(Spy()), x=x, tol=tol, trace=trace, seed=seed)
    if r is not None:
        assert r.log_prob.shape == x.shape[:1]
        assert bool(torch.isfinite(r.log_prob).all())


@CI
@given(
    x0=tensors(),
    weight=st.sampled_from(["simple", "likelihood", "edm", "min_snr", "cats", None]),
    times=st.one_of(st.sampled_from(["uniform", "importance", "log_normal", None]), numbers),
    kind=st.sampled_from(
        [sk.losses.DenoisingScoreMatching, sk.losses.SlicedScoreMatching, sk.losses.ImplicitScoreMatching]
    ),
    seed=st.integers(0, 3),
)
def test_losses_are_finite_or_named(x0, weight, times, kind, seed):
    """A scalar."""
    loss = outcome(kind, weight=weight, times=times)
    if loss is not None:
        value = outcome(loss, model=sk.ddpm(Spy()), x0=x0, noise=sk.Noise(seed))
        assert value is None or (value.ndim == 0 and bool(torch.isfinite(value)))


@CI
@given(grid=st.sampled_from([*sk.grids.NAMES, *sk.grids.TABLE_NAMES]), steps=counts, table=st.booleans())
def test_grids_fall_or_are_named(grid, steps, table):
    """Strictly, within the domain, with as many times as steps ask for."""
    if isinstance(steps, int) and steps > 1000 and steps <= sk.errors.MOST:
        steps = 1000
    sde = sk.DiscreteVPSDE(sk.sdes.tables.linear(20)) if table else sk.VPSDE()
    t = outcome({**sk.grids.NAMES, **sk.grids.TABLE_NAMES}[grid], sde=sde, steps=steps)
    if t is not None:
        assert t.shape == (steps + 1,)
        assert bool((t.diff() < 0).all())
        assert sde.t_min <= float(t.min()) <= float(t.max()) <= sde.t_max
