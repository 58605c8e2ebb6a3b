"""On a CUDA device: the same laws, and loops that never wait for it."""

import pytest
import torch
from problems import F64, gaussians, last, mixture
from subjects import fixed_grid_solvers, sdes, solvers

import sdekit as sk
from sdekit import networks

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("solver", fixed_grid_solvers())
def test_a_fixed_grid_loop_never_synchronises(solver, device):
    """``torch.cuda.set_sync_debug_mode("error")`` around every step, with a network and a conditional label."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = sk.ddpm(networks.MLP((2,))).to(device)
    x_T = torch.zeros(8, 2, device=device)
    noise = sk.Noise(0)
    noise.normal((1,), stream="warm", device=device)
    states = sk.trajectory(model, solver, x_T, "log_snr", noise, steps=5)
    with torch.no_grad():
        torch.cuda.set_sync_debug_mode("error")
        try:
            x = last(states).x
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert bool(torch.isfinite(x).all())


@pytest.mark.parametrize("source", [sk.Noise, sk.KeyedNoise])
@pytest.mark.parametrize("solver", fixed_grid_solvers())
def test_a_graph_gives_the_samples_of_the_loop(solver, source, device):
    """The whole loop captured once and replayed from other starts and draws, with a network and labels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = networks.MLP((2,))
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    model = sk.ddpm(network).to(device)
    for seed in (1, 2):
        x_T = sk.Noise(seed).normal((8, 2), stream="start", device=device)
        how = {"x_T": x_T, "solver": solver, "steps": 5, "full": True}
        plain = sk.sample(model, noise=source(seed), **how)
        graph = sk.sample(model, noise=source(seed), cuda_graph=True, **how)
        torch.testing.assert_close(graph.x, plain.x, rtol=1e-4, atol=1e-4)
        assert graph.nfe == plain.nfe


@pytest.mark.parametrize("solver", solvers())
def test_the_gpu_follows_the_cpu(solver, device):
    """The same keyed noise in float64: the same samples to 1e-9."""
    ends = []
    for place in ("cpu", device):
        model = mixture(sk.VPSDE()).to(place)
        steps = 2 if solver.adaptive else 50
        ends.append(sk.sample(model, (64, 2), solver=solver, steps=steps, seed=3, per_sample=True).cpu())
    assert float((ends[0] - ends[1]).abs().median()) < 1e-9


def test_keyed_noise_is_the_same_bits_on_every_device(device):
    """Additions, multiplications, divisions and square roots of float64 alone are rounded alike everywhere."""
    a, b = (sk.KeyedNoise(5).normal((1000, 33), stream="z", dtype=F64, device=d).cpu() for d in ("cpu", device))
    assert torch.equal(a, b)


def test_likelihood_on_the_gpu(device):
    """1e-6 nats on the device, too."""
    model = mixture(sk.VPSDE()).to(device)
    x = model.sample(8, sk.Noise(0), t=model.sde.t_min)
    r = sk.log_likelihood(model, x, tol="tight", prior=lambda x: model.log_prob(x, 1.0))
    assert float((r.log_prob - model.log_prob(x, model.sde.t_min)).abs().max()) < 1e-6


def test_guidance_on_the_gpu_follows_the_cpu(device):
    """Weights of one a row move with the model, and a classifier's gradient is taken where the model stands."""
    ends = []
    for place in ("cpu", device):
        one, whole = mixture(sk.VPSDE(), components=1), mixture(sk.VPSDE())
        free = sk.guidance.ClassifierFree(one, whole, torch.linspace(0.0, 3.0, 8))
        guided = sk.guidance.Classifier(free, lambda x, t, y: -(x - y).square().sum(1)).given(y=torch.ones(8, 1))
        ends.append(sk.sample(guided.to(place), (8, 2), steps=20, seed=3, per_sample=True, dtype=F64).cpu())
    torch.testing.assert_close(*ends, rtol=0, atol=1e-9)


def test_training_loss_on_the_gpu(device):
    """Denoising score matching of a batch on the device."""
    x0 = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)).to(device)
    loss = sk.losses.DenoisingScoreMatching()(gaussians(sk.VPSDE()), x0, sk.Noise(0))
    assert loss.device.type == "cuda"


def test_a_brownian_path_is_the_same_bits_on_every_device(device):
    """Nothing of its tree depends on the place: the clock is a float, the draws are Philox's."""
    sde = sk.VPSDE()
    levels = sde.levels(torch.tensor([0.9, 0.4], dtype=F64))
    ends = [sk.BrownianPath(5)(torch.zeros(64, 3, dtype=F64, device=d), *levels).cpu() for d in ("cpu", device)]
    assert torch.equal(*ends)


@pytest.mark.parametrize("sde", sdes())
def test_a_process_on_the_gpu_follows_the_cpu(sde, device):
    """A time a row on the device: alpha, sigma, log-SNR, the rates, and for a table the level before."""
    t = torch.linspace(sde.t_min, sde.t_max, 50, dtype=F64)
    here, there = sde.level(t, torch.zeros(50, 1)), sde.level(t.to(device), torch.zeros(50, 1, device=device))
    pairs = [(here, there)]
    if isinstance(sde, sk.TableSDE):
        pairs.append((sde.previous(here), sde.previous(there)))
    for a, b in pairs:
        for name in ("alpha", "sigma", "log_snr"):
            assert getattr(b, name).device.type == device.type
            torch.testing.assert_close(getattr(b, name).cpu(), getattr(a, name), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(there.g2.cpu(), here.g2, rtol=1e-9, atol=1e-12)
    back = sde.time_at(there.log_snr.flatten()).cpu()
    torch.testing.assert_close(back, sde.time_at(here.log_snr.flatten()), rtol=1e-9, atol=1e-12)


def test_a_learned_variance_on_a_table_samples_on_the_gpu(device):
    """The whole classic: DDPM's table, a network that is told its index, a learned variance, its bound as a loss."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = networks.MLP((2,), outputs=2)
    sde = sk.DiscreteVPSDE().respaced(20)
    row, variance = sk.models.Epsilon(label="index"), sk.models.LearnedRange()
    model = sk.models.Parametrised(network, sde, row, variance).to(device)
    value = sk.losses.Hybrid()(model, torch.zeros(16, 2, device=device), sk.Noise(0))
    value.backward()
    x = sk.sample(model, (8, 2), solver=sk.solvers.Ancestral("learned"), grid="linspace", steps=20, per_sample=True)
    assert x.device.type == device.type
