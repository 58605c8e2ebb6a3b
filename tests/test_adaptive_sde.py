"""The adaptive SDE solver: its tolerance on exact paths, what a refused step leaves alone, and its rows."""

import math
from types import SimpleNamespace

import pytest
import torch
from problems import F64, Silent, mixture

import sdekit as sk
from sdekit.errors import IntegrationError, InvalidArgument, NonFiniteError, UnsupportedCombination
from sdekit.solvers import AdaptiveSDE, State
from sdekit.solvers.adaptive_sde import LARGEST

PROCESSES = [sk.VPSDE(), sk.SubVPSDE(), sk.VESDE(), sk.EDMSDE(), sk.FlowSDE(), sk.CosineSDE()]
AT = 0.5
STD = 1.3


def ends(sde):
    """The levels of a run without the clean one, and (sigma / alpha)^2 there."""
    levels = sde.levels(torch.tensor([sde.t_max, sde.t_min], dtype=F64))
    return levels, [math.exp(-level.log_snr) for level in levels]


def solution(sde, x, mean, variances, path, n=250):
    """The strong solution of the reverse SDE on N(mean, diag(variances)): (y - mean) / (n^2 + s^2) = B_s, a Brownian
    motion in the clock 1 / (n^2 + s^2), which is the path's own with another spread; n sums of its increments."""
    (first, last), (c, end) = ends(sde)
    angles = torch.linspace(math.atan(math.sqrt(c) / STD), math.atan(math.sqrt(end) / STD), 2 * n + 1, dtype=F64)
    squares = (STD * torch.tan(angles)) ** 2
    clocks = 1 / (squares + STD**2)
    w = (x / first.alpha - mean) / (variances + c)
    for a, middle, b in zip(clocks[:-2:2], squares[1::2], clocks[2::2], strict=True):
        z = path(x, SimpleNamespace(clock=float(b)), SimpleNamespace(clock=float(a)))
        w = w + (middle + STD**2) / (middle + variances) * torch.sqrt(b - a) * z
    return last.alpha * (mean + w * (variances + end))


def gaussian(sde, d):
    """A Gaussian off the process's own mean, with deviations from 0.2 to 2."""
    mean = 0.5 + 0.4 * sk.Noise(5).normal((1, d), stream="means", dtype=F64)
    variances = torch.logspace(math.log10(0.2), math.log10(2.0), d, dtype=F64) ** 2
    model = sk.models.GaussianMixture(sde.with_prior(AT, STD), [1.0], mean, torch.diag(variances)[None])
    return model, mean, variances


@pytest.mark.parametrize(("tol", "d"), [(0.1, 1), (0.1, 16), (0.03, 2)])
def test_a_tolerance_is_kept_on_the_path_and_not_wasted(tol, d):
    """Over six processes, root mean square distances from the path's own solution: at most 3 tol, and not below
    tol / 30 on average; the error that is told is within a factor of 10. On another path nothing is near."""
    ratios = []
    for sde in PROCESSES:
        model, mean, variances = gaussian(sde, d)
        x = model.sde.prior.sample((16, d), sk.Noise(3), dtype=F64)
        how = {"x_T": x, "solver": AdaptiveSDE(tol), "denoise": False, "full": True}
        found = sk.sample(model, noise=sk.BrownianPath(4), **how)
        exact = solution(sde, x, mean, variances, sk.BrownianPath(4))
        rms = float((found.x - exact).square().mean().sqrt())
        ratios.append(rms / tol)
        assert rms / 3 < float(found.error.mean()) < 10 * rms
        assert float((sk.sample(model, noise=sk.BrownianPath(5), **how).x - exact).square().mean().sqrt()) > 5 * rms
    assert max(ratios) <= 3
    assert sum(ratios) / len(ratios) >= 1 / 30


def test_errors_follow_the_tolerance_on_one_path():
    """A tenth of the tolerance, less than a third of the error, and 3 to 20 times the evaluations: strong order 1."""
    model, mean, variances = gaussian(sk.EDMSDE(), 3)
    x = model.sde.prior.sample((64, 3), sk.Noise(3), dtype=F64)
    exact = solution(model.sde, x, mean, variances, sk.BrownianPath(4))
    errors, costs = [], []
    for tol in (0.1, 0.01):
        found = sk.sample(model, x_T=x, solver=AdaptiveSDE(tol), noise=sk.BrownianPath(4), denoise=False, full=True)
        errors.append(float((found.x - exact).square().mean().sqrt()))
        costs.append(float(found.nfe.double().mean()))
    assert errors[1] < errors[0] / 3
    assert 3 < costs[1] / costs[0] < 20


@pytest.mark.parametrize("sde", PROCESSES, ids=repr)
def test_normal_data_of_the_process_s_own_take_one_exact_step_after_another(sde):
    """w = k (y - m) moves by B alone: the end is exact, and only LARGEST tells how many steps there are."""
    model = sk.models.GaussianMixture(sde.with_prior(AT, STD), [1.0], torch.full((1, 2), AT, dtype=F64), STD**2)
    x = model.sde.prior.sample((5, 2), sk.Noise(3), dtype=F64)
    found = sk.sample(model, x_T=x, solver=AdaptiveSDE(1e-3), noise=sk.KeyedNoise(4), denoise=False, full=True)
    (first, last), (c, end) = ends(sde)
    before, after = (1 / (v + STD**2) for v in (c, end))
    z = sk.BrownianPath(4)(x, SimpleNamespace(clock=after), SimpleNamespace(clock=before))
    w = before * (x / first.alpha - AT) + math.sqrt(after - before) * z
    torch.testing.assert_close(found.x, last.alpha * (AT + w / after), rtol=1e-9, atol=1e-9)
    assert float(found.error.max()) < 1e-9
    way = math.atan(math.sqrt(c) / STD) - math.atan(math.sqrt(end) / STD)
    assert int(torch.as_tensor(found.nfe).max()) <= 3 + math.ceil(way / LARGEST)


def test_a_hard_row_neither_slows_nor_spoils_the_others():
    """An outlier among 39 easy rows: their ends and costs are what they are without it."""
    model = mixture(sk.EDMSDE().with_prior(0.0, 1.0))
    x = model.sde.prior.sample((40, 2), sk.Noise(3), dtype=F64)
    solver = AdaptiveSDE(0.1)
    alone = sk.sample(model, x_T=x[1:], solver=solver, noise=sk.KeyedNoise(2, range(1, 40)), full=True)
    x[0] = 1e5
    found = sk.sample(model, x_T=x, solver=solver, noise=sk.KeyedNoise(2), full=True)
    assert torch.equal(found.nfe[1:], alone.nfe)
    torch.testing.assert_close(found.x[1:], alone.x, rtol=0, atol=1e-9)


def test_a_row_s_evaluations_are_the_calls_it_was_in():
    """The model is asked for the rows that are under way alone."""

    class Asked(sk.models.GaussianMixture):
        rows_asked = 0

        def forward(self, x, t, **condition):
            Asked.rows_asked += len(x)
            return super().forward(x, t, **condition)

    sde = sk.EDMSDE().with_prior(0.0, 1.0)
    model = Asked(sde, [0.3, 0.7], torch.tensor([[1.0, 0.0], [-1.0, 0.5]], dtype=F64), 0.04)
    found = sk.sample(model, (20, 2), solver=AdaptiveSDE(0.1), seed=3, full=True)
    assert int(found.nfe.sum()) == Asked.rows_asked
    assert int(found.nfe.min()) < int(found.nfe.max())


def test_two_intervals_are_one_run():
    """A grid with a level between goes on along the same path, and adds up its errors as squares."""
    model, _, _ = gaussian(sk.VPSDE(), 2)
    x = model.sde.prior.sample((8, 2), sk.Noise(3), dtype=F64)
    how = {"x_T": x, "noise": sk.KeyedNoise(2), "denoise": False, "full": True, "solver": AdaptiveSDE(0.01)}
    whole = sk.sample(model, steps=1, **how)
    parts = sk.sample(model, grid=[1.0, 0.4, 1e-4], **how)
    torch.testing.assert_close(parts.x, whole.x, rtol=0, atol=0.03)
    torch.testing.assert_close(parts.error, whole.error, rtol=0.2, atol=0)


def test_sources_have_paths():
    """A keyed source's is of its seed and ids, the same at every call; torch's draws a seed for each."""
    x = torch.zeros(3, 2, dtype=F64)
    late, early = SimpleNamespace(clock=2.0, t=2.0), SimpleNamespace(clock=1.0, t=1.0)
    keyed = sk.KeyedNoise((1, 2), [4, 0, 9])
    assert torch.equal(keyed.path()(x, late, early), sk.BrownianPath((1, 2), [4, 0, 9])(x, late, early))
    path = sk.BrownianPath(3)
    assert path.path() is path
    source = sk.Noise(1)
    first, second = (source.path()(x, late, early) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(sk.Noise(1).path()(x, late, early), first)


def test_the_strong_solution_is_asked_for_by_name_where_it_cannot_be_had():
    model = mixture(sk.VPSDE())
    x = torch.zeros(3, 2, dtype=F64)
    with pytest.raises(UnsupportedCombination, match="needs a source with a path"):
        sk.sample(model, x_T=x, solver=AdaptiveSDE(), noise=lambda x, t, s, stream: x)
    with pytest.raises(UnsupportedCombination, match="needs data of a std > 0"):
        sk.sample(mixture(sk.VPSDE().with_prior(0.0, 0.0)), x_T=x, solver=AdaptiveSDE())
    t, s = (model.sde.level(torch.full((3,), v, dtype=F64), x) for v in (0.9, 0.5))
    with pytest.raises(UnsupportedCombination, match="needs one time for the whole batch"):
        AdaptiveSDE().step(model, State(x, t), s, Silent())
    with pytest.raises(IntegrationError, match=r"max_steps=3 .* for rows \[0, 1, 2\] at tol=0.02") as error:
        sk.sample(model, x_T=x, solver=AdaptiveSDE(max_steps=3))
    assert error.value.rows == (0, 1, 2)
    with pytest.raises(InvalidArgument, match=r"tol must be"):
        AdaptiveSDE(0.0)
    x[1] = math.nan
    with pytest.raises((NonFiniteError, InvalidArgument)) as error:
        sk.sample(model, x_T=x, solver=AdaptiveSDE())
    assert error.value.rows == (1,)
