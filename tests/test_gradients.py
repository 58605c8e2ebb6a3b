"""Gradients of log-densities: against closed forms, torchdiffeq's adjoint, and one another."""

import pytest
import torch
from problems import F64, mixture

import sdekit as sk
from sdekit import ode

GRADIENTS = ("direct", "adjoint")


class Bent(torch.nn.Module):
    """A small smooth network, of nobody's distribution."""

    def __init__(self, d, seed=0):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.inner = torch.nn.Parameter(torch.randn(d + 1, 6, dtype=F64, generator=draw) / 2)
        self.outer = torch.nn.Parameter(torch.randn(6, d, dtype=F64, generator=draw) / 2)

    def forward(self, x, t):
        t = torch.as_tensor(t, dtype=x.dtype).reshape(-1, 1).expand(len(x), 1)
        return torch.tanh(torch.cat([x, t], 1) @ self.inner) @ self.outer


class Asked(torch.nn.Module):
    """A network that is not told the time."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, t):
        return self.network(x)


class Normal(torch.nn.Module):
    """eps of N(0, e^v), with one parameter."""

    def __init__(self, sde, v):
        super().__init__()
        self.sde = sde
        self.v = torch.nn.Parameter(torch.tensor(v, dtype=F64))

    def forward(self, x, t):
        alpha, sigma = (torch.as_tensor(k, dtype=F64).reshape(-1, 1) for k in (self.sde.alpha(t), self.sde.sigma(t)))
        return x * sigma / (alpha**2 * self.v.exp() + sigma**2)


def gradients(model, x, **settings):
    """Of the sum of log_prob, by x and by the model's parameters."""
    x = x.clone().requires_grad_()
    r = sk.log_likelihood(model, x, **settings)
    assert not r.trace_se.requires_grad
    return torch.autograd.grad(r.log_prob.sum(), (x, *model.parameters()))


@pytest.mark.parametrize(
    ("sde", "gradient"),
    [(sk.VPSDE(t_min=0.05), "direct"), (sk.VESDE(t_min=0.2), "adjoint"), (sk.FlowSDE(t_min=0.05), "adjoint")],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_gradient_by_the_data_is_the_score(sde, gradient):
    """Of a mixture, with its own law at t_max for the prior: the model's score at t_min, of rows near and far."""
    model = mixture(sde, (2,))
    x = torch.cat([model.sample(2, sk.Noise(0), t=sde.t_min), torch.full((1, 2), 3.0, dtype=F64)]).requires_grad_()
    r = sk.log_likelihood(model, x, tol=1e-6, prior=lambda z: model.log_prob(z, sde.t_max), gradient=gradient)
    (found,) = torch.autograd.grad(r.log_prob.sum(), x)
    score = model(x.detach(), sde.t_min).score
    torch.testing.assert_close(found, score, rtol=1e-5, atol=1e-5 * float(score.abs().max()))
    for part in (r.solver, r.prior, r.truncation):
        assert not part.requires_grad


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("coordinate", ["t", "angle"])
def test_the_gradient_by_parameters_is_that_of_the_closed_form(gradient, coordinate):
    """The flow of N(0, e^v) is x_T = x s_T / s_0, s^2 = alpha^2 e^v + sigma^2: log p is explicit, d log p / dv too."""
    sde = sk.VPSDE()

    network = Normal(sde, -0.7)
    model = sk.models.FromFunction(sde, eps=network)
    x = torch.tensor([[0.3, -1.2], [2.0, 0.1]], dtype=F64)
    r = sk.log_likelihood(model, x, tol="tight", coordinate=coordinate, gradient=gradient, budget=False)
    (found,) = torch.autograd.grad(r.log_prob.sum(), network.v)
    v = network.v.detach().clone().requires_grad_()
    s0, s1 = ((sde.alpha(t) ** 2 * v.exp() + sde.sigma(t) ** 2).sqrt() for t in (sde.t_min, sde.t_max))
    exact = sde.prior.log_prob(x * s1 / s0) + 2 * torch.log(s1 / s0)
    torch.testing.assert_close(r.log_prob, exact, rtol=0, atol=1e-7)
    (expected,) = torch.autograd.grad(exact.sum(), v)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


TRACES = [sk.Exact(), sk.Exact(1), sk.Hutchinson(2), sk.Hutchinson(3, "normal", fresh=True)]


@pytest.mark.parametrize("trace", TRACES, ids=repr)
@pytest.mark.parametrize(("method", "per_sample"), [(ode.Dopri5(1e-4, 1e-4), False), (ode.RK4(4), True)], ids=repr)
def test_adjoint_and_direct_agree(method, trace, per_sample):
    """By data and parameters, to 1e-9 and far below: the adjoint is that of the same steps."""
    model = sk.models.FromFunction(sk.VPSDE(), eps=Bent(5))
    x = sk.Noise(0).normal((4, 5), stream="x", dtype=F64)
    how = {"method": method, "trace": trace, "per_sample": per_sample, "budget": False}
    direct, adjoint = (gradients(model, x, gradient=g, **how) for g in GRADIENTS)
    assert len(direct) == 3
    for a, b in zip(direct, adjoint, strict=True):
        assert float(b.abs().max()) > 0.01
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_the_way_back_is_asked_as_the_way_there():
    """In evaluation mode and under the same autocast, though backward is called after both are over; and of weights
    that have changed since there is no gradient."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = torch.nn.Linear(2, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2)
    network = torch.nn.Sequential(*layers).double()
    seen = []
    network.register_forward_hook(lambda *_: seen.append((network.training, torch.is_autocast_enabled("cpu"))))
    x = sk.Noise(0).normal((4, 2), stream="x", dtype=F64)
    how = {"method": ode.RK4(3), "budget": False}
    network.train()
    found = {}
    for gradient in GRADIENTS:
        for p in network.parameters():
            p.grad = None
        with torch.autocast("cpu"):
            r = sk.log_likelihood(sk.models.FromFunction(sk.VPSDE(), eps=Asked(network)), x, gradient=gradient, **how)
        r.log_prob.sum().backward()
        found[gradient] = [p.grad.clone() for p in network.parameters()]
    assert set(seen) == {(False, True)}
    assert int(network[1].num_batches_tracked) == 0
    for a, b in zip(*found.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    r = sk.log_likelihood(sk.models.FromFunction(sk.VPSDE(), eps=Asked(network)), x, gradient="adjoint", **how)
    with torch.no_grad():
        network[0].weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        r.log_prob.sum().backward()


def test_both_are_torchdiffeq_s_adjoint():
    """Its adjoint ODE, on the flow in t written here, at a tolerance of 1e-11: within 1e-9 of ours at tight."""
    from torchdiffeq import odeint_adjoint

    sde = sk.VPSDE(t_min=0.2)
    network = Bent(2)
    model = sk.models.FromFunction(sde, eps=network)
    x = sk.Noise(0).normal((3, 2), stream="x", dtype=F64)

    class Written(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, t, state):
            with torch.enable_grad():
                y = state[0].clone()
                y = y if y.requires_grad else y.requires_grad_()
                beta = sde.beta_min + t * (sde.beta_max - sde.beta_min)
                v = -0.5 * beta * y + 0.5 * beta * network(y, t) / sde.sigma(t.detach())
                trace = sum(torch.autograd.grad(v[:, i].sum(), y, create_graph=True)[0][:, i] for i in range(2))
            return v, trace

    y = x.clone().requires_grad_()
    times = torch.tensor([sde.t_min, sde.t_max], dtype=F64)
    exact = {"rtol": 1e-11, "atol": 1e-11, "method": "dopri8", "options": {"step_t": times[1:]}}  # or it interpolates
    back = {"adjoint_options": {"step_t": times[:1]}}
    ends, changes = odeint_adjoint(Written(), (y, y.new_zeros(3)), times, **exact, **back)
    theirs = (sde.prior.log_prob(ends[-1]) + changes[-1]).sum()
    expected = torch.autograd.grad(theirs, (y, *network.parameters()))
    for gradient, coordinate in zip(GRADIENTS, ("t", "angle"), strict=True):
        found = gradients(model, x, gradient=gradient, coordinate=coordinate, method=ode.Dopri8(0, 1e-11), budget=False)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_the_adjoint_keeps_states_and_the_graph_keeps_all():
    """Bytes that autograd holds until the way back: of a network of 256 units and two coordinates, a tenth and less."""
    held = {}
    with torch.random.fork_rng(devices=[]):
        model = sk.models.FromFunction(sk.VPSDE(), eps=Wide())
    for gradient in GRADIENTS:
        sizes = {}

        def pack(tensor, sizes=sizes):
            if not isinstance(tensor, torch.nn.Parameter):
                sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            x = torch.ones(8, 2, dtype=F64, requires_grad=True)
            r = sk.log_likelihood(model, x, method=ode.RK4(8), gradient=gradient, budget=False)
        held[gradient] = sum(sizes.values())
        r.log_prob.sum().backward()
    assert held["adjoint"] < 0.1 * held["direct"]


class Wide(torch.nn.Module):
    """Two layers of 256 units."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(2, 256, dtype=F64),
            torch.nn.SiLU(),
            torch.nn.Linear(256, 256, dtype=F64),
            torch.nn.SiLU(),
            torch.nn.Linear(256, 2, dtype=F64),
        )

    def forward(self, x, t):
        return self.layers(x)


def test_likelihood_training_fits_a_gaussian():
    """Maximum likelihood through the adjoint: N(0, e^v) finds the variance of its data."""
    sde = sk.VPSDE()
    network = Normal(sde, 1.0)
    model = sk.models.FromFunction(sde, eps=network)
    x = 0.5 * sk.Noise(0).normal((64, 1), stream="x", dtype=F64)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.2)
    for _ in range(25):
        optimiser.zero_grad()
        r = sk.log_likelihood(model, x, method=ode.RK4(6), budget=False, gradient="adjoint")
        (-r.log_prob.mean()).backward()
        optimiser.step()
    assert network.v.exp().item() == pytest.approx(x.square().mean().item(), rel=0.05)


def test_second_derivatives_come_with_the_graph():
    """Of log p of a Gaussian mixture by x: its curvature, against differences of the score."""
    sde = sk.VPSDE(t_min=0.05)
    model = mixture(sde, (2,))
    x = model.sample(1, sk.Noise(0), t=sde.t_min)

    def log_prob(x):
        how = {"method": ode.RK4(60), "gradient": "direct", "budget": False}
        return sk.log_likelihood(model, x[None], prior=lambda z: model.log_prob(z, sde.t_max), **how).log_prob[0]

    found = torch.autograd.functional.hessian(log_prob, x[0])
    exact = torch.autograd.functional.hessian(lambda y: model.log_prob(y[None], sde.t_min)[0], x[0])
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4 * float(exact.abs().max()))


def test_what_has_no_gradient_says_so():
    """Another name, SciPy's methods, and tensors that the adjoint cannot see."""
    theta = torch.tensor(0.5, dtype=F64, requires_grad=True)
    model = sk.models.FromFunction(sk.VPSDE(), eps=lambda x, t: theta * torch.tanh(x))
    x = torch.ones(2, 2, dtype=F64)
    with pytest.raises(sk.errors.InvalidArgument, match="gradient must be one of direct, adjoint"):
        sk.log_likelihood(model, x, gradient="forward")
    with pytest.raises(sk.errors.UnsupportedCombination, match=r"gradient must be None with SciPy\("):
        sk.log_likelihood(model, x, method=ode.SciPy(), gradient="direct")
    r = sk.log_likelihood(model, x.clone().requires_grad_(), method=ode.RK4(2), gradient="adjoint", budget=False)
    with pytest.raises(sk.errors.UnsupportedCombination, match=r'gradient must be "direct".*shape \(\)'):
        r.log_prob.sum().backward()
    r = sk.log_likelihood(model, x, method=ode.RK4(2), gradient="direct", budget=False)
    (found,) = torch.autograd.grad(r.log_prob.sum(), theta)
    assert float(found.abs()) > 0.01
