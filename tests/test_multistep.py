"""Linear multistep methods, and the flow in the angle: each against its reference, its ends, rows and promises."""

import math

import numpy as np
import pytest
import torch
from problems import F64, Silent, mixture
from scipy.integrate import quad
from scipy.interpolate import lagrange
from torch.utils._python_dispatch import TorchDispatchMode

import sdekit as sk
from sdekit import grids, ode
from sdekit.certification import exact, references, subject
from sdekit.solvers import DEIS, LMS, PLMS, Adams, DPMSolver, Multistep, ProbabilityFlow, State, UniPC
from sdekit.solvers.multistep import COORDINATES, VIEWS

FAMILY = [
    Multistep(points, view, coordinate, corrector)
    for view in VIEWS
    for coordinate in COORDINATES
    for corrector in (False, True)
    for points in (1, 2, 3, 4)
]
NAMED = [
    *(DPMSolver(order, view) for order in (1, 2, 3) for view in ("x0", "eps")),
    *(UniPC(order, variant) for order in (1, 2, 3) for variant in ("bh1", "bh2")),
    *(kind(points) for kind in (LMS, PLMS, Adams) for points in (1, 2, 3, 4)),
    *(PLMS(points, runge_kutta=True) for points in (1, 2, 3, 4)),
    *(DEIS(points, coordinate) for points in (1, 2, 3, 4) for coordinate in ("t", "sigma")),
]
IN_ONE_STEP = [ProbabilityFlow(m, c) for m in (ode.Euler(), ode.Heun(), ode.RK4()) for c in ("t", "angle")]
PROCESSES = [sk.VPSDE().with_prior(0.4, 1.7), sk.FlowSDE(0.01, 0.99), sk.VESDE().with_prior(-1.0, 0.3)]


@pytest.mark.parametrize("sde", PROCESSES, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("solver", [*FAMILY, *NAMED, *IN_ONE_STEP], ids=repr)
def test_every_member_is_its_reference(solver, sde):
    """Offset and response to the start after N steps, N = 1, 2, 3, 7, 25, to 1e-12 of the trajectory's scale."""
    sampler = subject.subject("solver", solver, None, None, None)
    for n in (1, 2, 3, 7, 25):
        times = grids.karras(sde, n)  # uneven in every coordinate
        found = exact.responses(sampler, sde, times, draws=0)
        wanted = references.reference(solver, sde, times.numpy(), len(found.noise))
        assert wanted is not None
        for ours, theirs in zip(found[:2], wanted[:2], strict=True):
            scale = max(wanted.size, float(np.abs(theirs).max()))
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-12 * scale)


def test_the_reference_tells_one_member_from_another():
    """The negative control: another member is further off than 1e-6 in every setting."""
    sde = PROCESSES[0]
    times = grids.karras(sde, 7)
    for solver, other in (
        (Multistep(3), Multistep(4)),
        (Multistep(3), Multistep(3, corrector=False)),
        (Multistep(3, "eps", "angle"), Multistep(3, "eps", "log_snr")),
        (Multistep(3, "x0", "t"), Multistep(3, "eps", "t")),
        (UniPC(2, "bh1"), UniPC(2, "bh2")),
    ):
        found = exact.responses(subject.subject("solver", solver, None, None, None), sde, times, draws=0)
        wanted = references.reference(other, sde, times.numpy(), 0)
        assert float(np.abs(found[0].numpy() - wanted.offset).max()) > 1e-6


@pytest.mark.parametrize("points", [2, 3, 4])
@pytest.mark.parametrize("coordinate", ["sigma", "angle"])
@pytest.mark.parametrize("view", VIEWS)
def test_the_step_to_the_clean_level_is_the_polynomials_own_end(view, coordinate, points):
    """In sigma / alpha and in the angle, by SciPy: Lagrange's polynomial through the last values, integrated to 0; of
    x0 its value there. One value alone, and the other coordinates, end at the model's x0."""
    sde = sk.VPSDE().with_prior(0.4, 1.7)
    model = mixture(sde)
    solver = Multistep(points, view, coordinate, corrector=False)
    levels = [*sde.levels(torch.tensor([0.5, 0.4, 0.3, 0.15], dtype=F64)[-points:]), sde.clean()]
    state = State(torch.tensor([[0.7, -0.4]], dtype=F64), levels[0])
    values, where = [], []
    for s in levels[1:]:
        p, level = model(state.x, state.level), state.level
        n = level.sigma / level.alpha
        u = n if coordinate == "sigma" else math.atan(n / 1.7)
        turn = 1.7 * math.cos(u) * p.eps - math.sin(u) * (p.x0 - 0.4)
        value = p.x0 if view == "x0" else turn if view == "velocity" and coordinate == "angle" else p.eps
        values.append(float(value[0, 0]))
        where.append(u)
        before = state
        state = solver.step(model, state, s, Silent())
    through = lagrange(np.array(where) - where[-1], values)  # about the last node

    def integral(weight):
        return quad(lambda v: through(v - where[-1]) * weight(v), where[-1], 0.0, epsabs=1e-13, epsrel=1e-13)[0]

    y = float(before.x[0, 0]) / before.level.alpha
    if view == "x0":
        wanted = through(-where[-1])
    elif view == "velocity" and coordinate == "angle":
        wanted = 0.4 + math.cos(where[-1]) * (y - 0.4) + integral(lambda v: 1.0)
    else:
        wanted = y + integral((lambda v: 1.0) if coordinate == "sigma" else (lambda v: 1.7 / math.cos(v) ** 2))
    assert float(state.x[0, 0]) == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("solver", [s for s in [*FAMILY, *NAMED] if getattr(s, "points", 0) == 3], ids=repr)
def test_rows_at_times_of_their_own_take_the_steps_that_they_take_alone(solver):
    """Four steps of three rows, whose memory is of levels (B, 1), and a clean end, against each row by itself."""
    sde = sk.CosineSDE().with_prior(0.2, 0.8)
    model = mixture(sde)
    first = torch.tensor([0.9, 0.6, 0.3], dtype=F64)
    x = torch.tensor([[0.5, -1.0], [1.5, 0.2], [-0.3, 0.9]], dtype=F64)
    factors = (1.0, 0.8, 0.55, 0.4, 0.33)
    together = State(x, sde.level(first, x))
    for f in factors[1:]:
        together = solver.step(model, together, sde.level(first * f, x), Silent())
    together = solver.step(model, together, sde.clean(), Silent())
    for i in range(3):
        alone = State(x[i : i + 1], sde.level(float(first[i]), x[:1]))
        for f in factors[1:]:
            alone = solver.step(model, alone, sde.level(float(first[i] * f), x[:1]), Silent())
        alone = solver.step(model, alone, sde.clean(), Silent())
        torch.testing.assert_close(together.x[i : i + 1], alone.x, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("view", ["velocity"])
@pytest.mark.parametrize("coordinate", ["angle", "log_snr"])
def test_gaussian_data_of_the_known_moments_take_any_step_exactly(view, coordinate):
    """dw = 0 there: one step from the most noise to the least is the flow, alpha m + sqrt(v_s / v_t) (x - alpha m)."""
    for sde in (sk.VPSDE(), sk.VESDE(), sk.FlowSDE()):
        known = sde.with_prior(torch.tensor([0.7, -2.0]), 0.6)
        model = sk.models.GaussianMixture(known, [1.0], torch.tensor([[0.7, -2.0]]), 0.36)
        x = known.prior.sample((5, 2), sk.Noise(0), dtype=F64)
        t, s = known.levels(torch.tensor([known.t_max, known.t_min], dtype=F64))
        got = Multistep(1, view, coordinate).step(model, State(x, t), s, Silent()).x
        mean = torch.tensor([0.7, -2.0], dtype=F64)
        v_t, v_s = (level.alpha**2 * 0.36 + level.sigma**2 for level in (t, s))
        torch.testing.assert_close(got, s.alpha * mean + math.sqrt(v_s / v_t) * (x - t.alpha * mean), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("solver", "most"),
    [(DPMSolver(2), 6), (LMS(4), 6), (UniPC(3), 8), (Multistep(4), 9)],
    ids=repr,
)
def test_a_step_asks_torch_for_few_operations(solver, most):
    """One label, the view, and one sum over the state and the values, the correction among them: each tensor once."""

    class Counting(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, kinds, values=(), named=None):
            self.count += function is not torch.ops.aten.promote_types.default
            return function(*values, **(named or {}))

    model = sk.ddpm(lambda x, label: x)
    counts = []
    for steps in (20, 40):
        with Counting() as counting:
            sk.sample(model, x_T=torch.ones(1, 2), solver=solver, steps=steps)
        counts.append(counting.count)
    assert 20 * (most - 1) < counts[1] - counts[0] <= 20 * most


def test_settings_at_their_bounds_are_accepted():
    """1 to 4 points, and orders 1 to 3."""
    for kind in (LMS, PLMS, Adams, DEIS, Multistep):
        assert [kind(points=k).points for k in (1, 2, 3, 4)] == [1, 2, 3, 4]
        for k in (0, 5):
            with pytest.raises(sk.errors.InvalidArgument, match=f"{kind.__name__}: points must be"):
                kind(points=k)
    assert [UniPC(k).order for k in (1, 2, 3)] == [DPMSolver(k).order for k in (1, 2, 3)] == [1, 2, 3]
    assert [Multistep(k, corrector=True).order for k in (1, 2, 3, 4)] == [2, 3, 3, 3]
    assert [LMS(k).order for k in (1, 2, 3, 4)] == [1, 2, 2, 2]
