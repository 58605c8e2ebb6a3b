"""Runs as one CUDA graph, played on the host: a replay here is the body once more, from the same buffers."""

import pytest
import torch
from problems import F64, mixture
from subjects import fixed_grid_solvers

import sdekit as sk
from sdekit import graphs, networks
from sdekit.errors import InvalidArgument, UnsupportedCombination
from sdekit.solvers import Ancestral, DPMSolver


@pytest.fixture
def captures(monkeypatch):
    """Graphs on any device; how many were captured."""
    made = []

    def capture(body, device):
        body()
        body()
        made.append(device)
        return body

    monkeypatch.setattr(graphs, "available", lambda device: True)
    monkeypatch.setattr(graphs, "capture", capture)
    return made


@pytest.mark.parametrize("source", [sk.Noise, sk.KeyedNoise, sk.BrownianPath])
@pytest.mark.parametrize("solver", fixed_grid_solvers())
def test_a_graph_gives_the_samples_of_the_loop(solver, source, captures):
    """Two starts and two seeds, with one capture: the same bits, and the same evaluations."""
    model = mixture(sk.VPSDE())
    for seed in (1, 2):
        x_T = sk.Noise(seed).normal((3, 2), stream="start", dtype=F64)
        how = {"x_T": x_T, "solver": solver, "steps": 4, "full": True}
        plain = sk.sample(model, noise=source(seed), **how)
        graph = sk.sample(model, noise=source(seed), cuda_graph=True, **how)
        assert torch.equal(graph.x, plain.x)
        assert graph.nfe == plain.nfe
    assert len(captures) == 1


def test_numbers_that_change_in_place_are_read_anew(captures):
    """As an optimiser changes them; a parameter that is another tensor is captured again."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = networks.MLP((2,)), networks.MLP((2,))
    model = sk.ddpm(first)
    how = {"shape": (3, 2), "steps": 4}
    before = sk.sample(model, cuda_graph=True, **how)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.003)
    after = sk.sample(model, cuda_graph=True, **how)
    assert not torch.equal(before, after)
    assert torch.equal(after, sk.sample(model, **how))
    assert len(captures) == 1
    model.network = second
    sk.sample(model, cuda_graph=True, **how)
    assert len(captures) == 2


@pytest.mark.parametrize("other", [
    {"solver": DPMSolver(3)}, {"steps": 5}, {"shape": (4, 2)}, {"dtype": F64}, {"grid": "karras"}, {"denoise": False},
], ids=str)  # fmt: skip
def test_another_run_is_another_graph(other, captures):
    """And the first is captured again: a model keeps the last."""
    model = mixture(sk.EDMSDE())
    how = {
        "shape": (3, 2),
        "solver": DPMSolver(2),
        "steps": 4,
        "grid": "log_snr",
        "cuda_graph": True,
        "dtype": torch.float32,
    }
    first = sk.sample(model, **how)
    second = sk.sample(model, **{**how, **other})
    assert torch.equal(second, sk.sample(model, **{**how, **other, "cuda_graph": False}))
    assert torch.equal(sk.sample(model, **how), first)
    assert len(captures) == 3


def test_a_graph_of_a_condition_is_that_condition_s(captures):
    """Bound by ``given``: the object that has it keeps the graph."""
    model = sk.models.FromFunction(sk.VPSDE(), score=lambda x, t, y: y[:, None] - x)
    how = {"shape": (3, 2), "steps": 4}
    for labels in ([0.0, 1.0, 2.0], [5.0, 6.0, 7.0]):
        given = model.given(y=torch.tensor(labels))
        plain = sk.sample(given, **how)
        for _ in range(2):
            assert torch.equal(sk.sample(given, cuda_graph=True, **how), plain)
    assert len(captures) == 2


def test_a_graph_goes_with_its_model(captures):
    """The memory of a model's last run is not kept beyond the model."""
    held = len(graphs._last)
    model = mixture(sk.VPSDE())
    sk.sample(model, (3, 2), steps=3, cuda_graph=True)
    assert len(graphs._last) == held + 1
    del model
    assert len(graphs._last) == held


def test_what_cannot_be_one_graph_is_refused():
    """By name, before the first network call; here there is no CUDA device."""
    model = mixture(sk.VPSDE())
    with pytest.raises(InvalidArgument, match=r"cuda_graph needs a CUDA device, got the device 'cpu'"):
        sk.sample(model, (3, 2), cuda_graph=True)
    cuda = torch.device("cuda")
    with pytest.raises(UnsupportedCombination, match="cuda_graph needs a solver that takes the grid's steps"):
        graphs.check("sample", sk.solvers.ProbabilityFlow(), cuda, False)
    with pytest.raises(InvalidArgument, match="cuda_graph must be left out with per_sample=True"):
        graphs.check("sample", Ancestral(), cuda, True)
    assert graphs.check("sample", Ancestral(), cuda, False) is None
