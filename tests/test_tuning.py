"""tune_grid: a fitted grid is a grid, better on rows that it has not seen, and can be kept."""

import json
import math

import pytest
import torch
from problems import F64, mixture

import sdekit as sk
from sdekit.errors import CheckpointCorrupt, InvalidArgument, InvalidType, ScheduleError, UnsupportedCombination

MEAN, VARIANCE = torch.tensor([0.5, -1.0, 0.2, 0.0], dtype=F64), torch.tensor([0.02, 0.1, 0.5, 1.5], dtype=F64)


def gaussian(sde):
    """A Gaussian of four scales, whose flow from t ends at mean + sqrt(v / (alpha^2 v + sigma^2)) (x - alpha mean)."""
    return sk.models.GaussianMixture(sde, [1.0], MEAN[None], VARIANCE[None])


def known(sde):
    """The process with moments like those of the laws here."""
    return sde.with_prior(0.0, 1.0)


PROCESSES = [
    pytest.param(known(sde), id=type(sde).__name__)
    for sde in (sk.EDMSDE(0.002, 80.0), sk.VPSDE(), sk.FlowSDE(t_max=0.995))
]


@pytest.mark.parametrize("sde", PROCESSES)
@pytest.mark.parametrize(
    ("solver", "gain"), [(None, 0.5), (sk.solvers.DPMSolver(), 0.8), (sk.solvers.Heun(), 0.5)], ids=str
)
def test_a_fitted_grid_is_better_than_those_it_began_at_on_rows_it_has_not_seen(sde, solver, gain):
    """A part of the error of the best of three, for a Gaussian, by the closed form of its flow from fresh starts."""
    model, steps = gaussian(sde), 6
    grid = sk.tune_grid(model, solver, steps, seed=1)
    run = sk.solvers.Multistep() if solver is None else solver
    x_T = sde.prior.sample((200, 4), sk.Noise(77), dtype=F64)
    top = sde.level(sde.t_max, x_T)
    end = MEAN + (VARIANCE / (top.alpha**2 * VARIANCE + top.sigma**2)).sqrt() * (x_T - top.alpha * MEAN)

    def error(grid):
        x = sk.sample(model, x_T=x_T, solver=run, grid=grid, steps=steps)
        return float((x - end).square().mean().sqrt())

    begun = [error(name) for name in ("log_snr", "karras")]
    begun.append(error(lambda sde, n: sk.grids.angle(sde, n, end=1 / (5 * steps), floor=0.05 + 20 / steps**3)))
    assert error(grid) < gain * min(begun)
    assert error(grid) == pytest.approx(grid.error, rel=0.5, abs=1e-4)
    assert grid.error < gain * grid.before


def test_a_mixture_gains_too():
    model = mixture(known(sk.VPSDE()), components=4)
    grid = sk.tune_grid(model, None, 8, seed=3)
    assert grid.error < grid.before
    x_T = model.sde.prior.sample((300, 2), sk.Noise(5), dtype=F64)
    exact = sk.sample(model, x_T=x_T, tol=1e-8)
    tuned = sk.sample(model, x_T=x_T, solver=sk.solvers.Multistep(), grid=grid, steps=8)
    rule = sk.sample(model, x_T=x_T, nfe=8)
    assert float((tuned - exact).square().mean()) < float((rule - exact).square().mean())


def test_what_is_kept_is_never_worse_than_the_beginnings_on_the_held_out_rows():
    """Also where a single step leaves nothing to fit but the last level, and one level nothing at all."""
    model = gaussian(known(sk.VPSDE()))
    for steps in (1, 2, 3, 20):
        grid = sk.tune_grid(model, sk.solvers.DDIM(), steps, shape=(8, 4), rounds=2)
        assert grid.steps == steps
        assert grid.error <= grid.before


def test_a_fitted_grid_is_a_grid():
    sde = known(sk.VPSDE())
    grid = sk.tune_grid(gaussian(sde), None, 7, shape=(16, 4), rounds=2)
    times = grid(sde, 6)
    assert times.dtype == F64
    assert times.shape == (7,)
    assert float(times[0]) == sde.t_max
    assert bool((times.diff() < 0).all())
    assert float(times[-1]) > sde.t_min
    torch.testing.assert_close(sde.log_snr(times), torch.tensor(grid.log_snr, dtype=F64), rtol=0, atol=1e-9)
    assert hash(grid) == hash(sk.TunedGrid(*(getattr(grid, name) for name in ("log_snr", "solver", "error", "before"))))


def test_one_seed_is_one_grid_and_the_global_generator_is_left_alone():
    model = gaussian(known(sk.VPSDE()))
    before = torch.get_rng_state()
    grids = [sk.tune_grid(model, None, 4, shape=(16, 4), rounds=2, seed=seed) for seed in (0, 0, 1)]
    assert grids[0] == grids[1] != grids[2]
    assert torch.equal(before, torch.get_rng_state())


def test_a_grid_serves_another_process_of_the_same_levels():
    """What is fitted are log-SNRs: on EDM's process within VP's range the times are others, and the levels the same."""
    vp = known(sk.VPSDE())
    grid = sk.tune_grid(gaussian(vp), None, 5, shape=(16, 4), rounds=2)
    wide = known(sk.EDMSDE(1e-3, 500.0))
    torch.testing.assert_close(wide.log_snr(grid(wide, 4)), vp.log_snr(grid(vp, 4)), rtol=0, atol=1e-9)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return sk.networks.MLP((2,), width=8, depth=1)


def test_a_network_in_single_precision_is_tuned():
    net = network()
    model = sk.ddpm(net, known(sk.VPSDE()))
    grid = sk.tune_grid(model, sk.solvers.DPMSolver(), 4, shape=(8, 2), rounds=2)
    assert grid.error <= grid.before
    assert all(p.grad is None for p in net.parameters())


def test_a_grid_that_is_kept_comes_back_to_the_bit(tmp_path):
    grid = sk.tune_grid(gaussian(known(sk.VPSDE())), None, 5, shape=(16, 4), rounds=2)
    path = grid.save(tmp_path / "grid.json")
    assert sk.TunedGrid.load(path) == grid


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"log_snr": [1, 0], "solver": "", "error": 0, "before": 0}', '{"solver": 1}']
)
def test_a_file_that_holds_no_grid_is_refused(tmp_path, text):
    path = tmp_path / "grid.json"
    path.write_text(text)
    with pytest.raises(CheckpointCorrupt, match=r"TunedGrid\.load"):
        sk.TunedGrid.load(path)


def test_steps_and_processes_it_was_not_fitted_for_are_refused():
    sde = known(sk.VPSDE())
    grid = sk.tune_grid(gaussian(sde), None, 5, shape=(16, 4), rounds=2)
    with pytest.raises(ScheduleError, match=r"TunedGrid: steps must be 5 .* got 6"):
        sk.sample(gaussian(sde), (2, 4), grid=grid, steps=6)
    with pytest.raises(ScheduleError, match="TunedGrid: sde must reach log-SNRs"):
        grid(sk.EDMSDE(0.5, 80.0), 4)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"solver": sk.solvers.Ancestral()}, UnsupportedCombination, "tune_grid: solver must be deterministic"),
        ({"solver": sk.solvers.ProbabilityFlow()}, UnsupportedCombination, "tune_grid: solver must be deterministic"),
        ({"solver": "DDIM"}, InvalidType, "tune_grid: solver must be one such as"),
        ({"steps": 0}, InvalidArgument, "tune_grid: steps must be at least 1, got steps=0"),
        ({"rounds": 0}, InvalidArgument, "tune_grid: rounds must be at least 1"),
        ({"shape": (3, 4)}, InvalidArgument, "tune_grid: shape must be of at least 4 rows"),
        ({"model": None}, InvalidType, "tune_grid: model must be"),
    ],
)
def test_wrong_arguments_are_named(change, kind, said):
    settings = {"model": gaussian(known(sk.VPSDE())), "solver": None, "steps": 4, **change}
    with pytest.raises(kind, match=said):
        sk.tune_grid(settings.pop("model"), settings.pop("solver"), settings.pop("steps"), **settings)


def test_a_model_that_tells_no_event_needs_a_shape():
    model = sk.ddpm(network())
    with pytest.raises(InvalidArgument, match=r"tune_grid: shape \(N, \*event\) must be given"):
        sk.tune_grid(model, None, 4)


def test_the_levels_are_numbers_that_json_holds():
    grid = sk.tune_grid(gaussian(known(sk.VPSDE())), None, 3, shape=(8, 4), rounds=1)
    assert all(math.isfinite(v) for v in json.loads(json.dumps(grid.log_snr)))
