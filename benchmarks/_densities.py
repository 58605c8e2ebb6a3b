"""Log-densities of flows: one exact network for all, what the peers make of it, and how ours is asked.

The network is that of a Gaussian mixture: at x = alpha x0 + sigma eps it answers v = alpha eps - sigma x0, of which
every view is well conditioned. It takes an alpha and a sigma a row, as networks take a label a row. Around it stand
the velocities that the libraries integrate, each on the process that is its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from _peers import k_diffusion_sampling
from _targets import laws

import sdekit as sk

F64 = torch.float64
BETA_MIN, BETA_MAX, T_MIN = 0.1, 20.0, 1e-5
Log = Callable[[torch.Tensor], torch.Tensor]
Velocity = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Network:
    """v of an exact mixture, and the calls that it has had."""

    def __init__(self, weights: torch.Tensor, means: torch.Tensor, covariances: torch.Tensor):
        self.calls = 0
        full = covariances.ndim == 3
        values, self.axes = torch.linalg.eigh(covariances) if full else (covariances[:, None], None)
        self.log_weights, self.means, self.values = weights.log(), means, values.expand_as(means)

    def to(self, dtype: torch.dtype) -> Network:
        """The network in another dtype."""
        other = object.__new__(Network)
        other.calls = 0
        other.axes = None if self.axes is None else self.axes.to(dtype)
        other.log_weights, other.means, other.values = (
            v.to(dtype) for v in (self.log_weights, self.means, self.values)
        )
        return other

    def __call__(self, x: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """v, (B, D), at alpha and sigma of (B, 1)."""
        self.calls += 1
        a, s = alpha[..., None], sigma[..., None]
        off = x[:, None] - a * self.means
        if self.axes is not None:
            off = torch.einsum("bki,kij->bkj", off, self.axes)
        variance = a**2 * self.values + s**2
        share = torch.softmax(self.log_weights - 0.5 * (off**2 / variance + variance.log()).sum(-1), 1)
        # alpha eps - sigma x0 of each component, but for the mean
        pull = off / variance * (a * s * (1 - self.values))
        if self.axes is not None:
            pull = torch.einsum("bkj,kij->bki", pull, self.axes)
        return torch.einsum("bk,bki->bi", share, pull - s * self.means)


class Law(NamedTuple):
    """A target: the oracle on the variance-preserving process, the network, and test points."""

    name: str
    oracle: sk.models.GaussianMixture
    network: Network
    x: torch.Tensor

    @property
    def d(self) -> int:
        """Coordinates."""
        return self.x.shape[1]

    def log_prob(self, where: str, x: torch.Tensor) -> torch.Tensor:
        """The exact log-density at which a method stops: at ``t_min``, at its least ``sigma``, or of ``clean`` data."""
        if where == "t_min":
            return self.oracle.log_prob(x, T_MIN)
        least = 0.0 if where == "clean" else SIGMA_MIN
        off = x[:, None] - self.oracle.means
        if self.oracle.vectors is not None:
            off = torch.einsum("bki,kij->bkj", off, self.oracle.vectors)
        variance = self.oracle.values + least**2
        each = self.oracle.weights.log() - 0.5 * (off**2 / variance + (2 * math.pi * variance).log()).sum(-1)
        return torch.logsumexp(each, 1)


def law(name: str, weights: torch.Tensor, means: torch.Tensor, covariances: torch.Tensor, rows: int) -> Law:
    """The target of a mixture, with so many draws of its data."""
    weights = weights / weights.sum()
    mean = weights @ means
    own = covariances.diagonal(dim1=1, dim2=2).mean(1) if covariances.ndim == 3 else covariances
    std = math.sqrt(float(weights @ own + (weights @ (means - mean) ** 2).mean()))
    sde = sk.VPSDE(BETA_MIN, BETA_MAX, t_min=T_MIN).with_prior(mean, std)
    oracle = sk.models.GaussianMixture(sde, weights, means, covariances)
    return Law(name, oracle, Network(weights, means, covariances), oracle.sample(rows, sk.Noise(11)))


def mixture(d: int, rows: int) -> Law:
    """Eight components of one variance each in d dimensions."""
    draw = torch.Generator().manual_seed(500 + d)
    weights = 1 + torch.rand(8, generator=draw, dtype=F64)
    means = 0.9 * torch.randn(8, d, generator=draw, dtype=F64)
    return law(f"gmm{d}", weights, means, (0.1 + 0.3 * torch.rand(8, generator=draw, dtype=F64)) ** 2, rows)


def targets(chosen: tuple[str, ...], rows: int) -> Iterator[Law]:
    """The laws by name."""
    found = {name: parts for name, *parts in laws()}
    for name in chosen:
        yield law(name, *found[name], rows) if name in found else mixture(int(name.removeprefix("gmm")), rows)


def levels(t: torch.Tensor | float, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """alpha, sigma and beta of the variance-preserving process at t, (B, 1) each."""
    t = torch.as_tensor(t, dtype=x.dtype).reshape(-1, 1).expand(len(x), 1)
    integral = t * (BETA_MIN + 0.5 * (BETA_MAX - BETA_MIN) * t)
    beta = BETA_MIN + t * (BETA_MAX - BETA_MIN)
    return torch.exp(-0.5 * integral), torch.sqrt(-torch.expm1(-integral)), beta


SIGMA_MIN, SIGMA_MAX = (
    float(sigma / alpha) for alpha, sigma, _ in (levels(t, torch.zeros(1, 1, dtype=F64)) for t in (T_MIN, 1.0))
)
"""The ends of the variance-preserving process in k-diffusion's sigma."""


def predicted_noise(network: Network, x: torch.Tensor, t: torch.Tensor | float) -> torch.Tensor:
    """eps on the variance-preserving process: a trained network's answer."""
    alpha, sigma, _ = levels(t, x)
    return sigma * x + alpha * network(x, alpha, sigma)


def preserving(network: Network) -> Velocity:
    """The velocity of the variance-preserving process, dx/dt = beta (eps / sigma - x) / 2."""

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alpha, sigma, beta = levels(t, x)
        eps = sigma * x + alpha * network(x, alpha, sigma)
        return 0.5 * beta * (eps / sigma - x)

    return velocity


def straight(network: Network) -> Velocity:
    """The velocity of flow matching's straight path, x0 - eps at x = t x0 + (1 - t) eps: noise at 0, data at 1."""

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alpha = torch.as_tensor(t, dtype=x.dtype).reshape(-1, 1).expand(len(x), 1)
        sigma = 1 - alpha
        return ((alpha - sigma) * x - (alpha + sigma) * network(x, alpha, sigma)) / (alpha**2 + sigma**2)

    return velocity


def normal(x: torch.Tensor) -> torch.Tensor:
    """log N(x; 0, I)."""
    return -0.5 * (x**2 + math.log(2 * math.pi)).sum(1)


class Answer(NamedTuple):
    """Log-densities, where they are meant to be those of, and what they cost a row: its mean and its most."""

    log_prob: torch.Tensor
    where: str
    nfe: float
    most: float


Run = Callable[[torch.Tensor], Answer]


class Method(NamedTuple):
    """A way to ask for log-densities: as published, or at a tolerance; ``exact`` is whether its trace is."""

    library: str
    label: str
    tol: float | None
    exact: bool
    run: Run


def ours(law: Law, *, known: bool = True, **settings: Any) -> Run:
    """``log_likelihood`` of the network; ``known``: with the data's mean and deviation, and the exact log p_T."""
    sde = law.oracle.sde if known else sk.VPSDE(BETA_MIN, BETA_MAX, t_min=T_MIN)
    model = sk.models.FromFunction(sde, eps=lambda x, t: predicted_noise(law.network, x, t))
    if known:
        settings["prior"] = lambda x: law.oracle.log_prob(x, 1.0)

    def run(x: torch.Tensor) -> Answer:
        found = sk.log_likelihood(model, x, **settings)
        nfe = found.nfe.double()
        return Answer(found.log_prob, "t_min", float(nfe.mean()), float(nfe.max()))

    return run


def counted(network: Network, where: str, function: Log) -> Run:
    """A peer's function, whose evaluations are the calls of the network."""

    def run(x: torch.Tensor) -> Answer:
        before = network.calls
        value = function(x)
        nfe = float(network.calls - before)
        return Answer(value, where, nfe, nfe)

    return run


def score_sde(law: Law, tol: float = 1e-5) -> Run:
    """score_sde's recipe: SciPy's RK45 over the whole batch, one Rademacher probe, a network in float32, N(0, I)."""
    from scipy.integrate import solve_ivp

    network = law.network.to(torch.float32)
    velocity = preserving(network)

    def log_prob(x: torch.Tensor) -> torch.Tensor:
        shape, n = x.shape, x.numel()
        draw = torch.Generator().manual_seed(0)
        probe = torch.randint(0, 2, shape, generator=draw).float() * 2 - 1

        def field(t: float, state: Any) -> Any:
            place = torch.as_tensor(state[:n]).reshape(shape).float()
            times = torch.full((shape[0],), t, dtype=torch.float32)
            drift = velocity(place, times)  # the recipe asks the network twice: for the drift, and for its divergence
            with torch.enable_grad():
                place.requires_grad_()
                (product,) = torch.autograd.grad((velocity(place, times) * probe).sum(), place)
            return torch.cat([drift.reshape(-1), (product * probe).sum(1)]).numpy()

        start = torch.cat([x.float().reshape(-1), torch.zeros(shape[0])]).numpy()
        end = torch.as_tensor(solve_ivp(field, (T_MIN, 1.0), start, rtol=tol, atol=tol, method="RK45").y[:, -1])
        return normal(end[:n].reshape(shape)) + end[n:]

    return counted(network, "t_min", log_prob)


def torchdiffeq(
    law: Law, path: str, method: str, tol: float | None, *, steps: int = 0, probe: bool = False, known: bool = True
) -> Run:
    """torchdiffeq written plainly: the state and its log-density, a loop of D backward passes or one probe.

    ``path``: "vp", whose prior is the exact log p_T or, unless it is ``known``, N(0, I); or "straight".
    """
    from torchdiffeq import odeint

    vp = path == "vp"
    velocity = (preserving if vp else straight)(law.network)
    times = torch.tensor([T_MIN, 1.0] if vp else [1.0, 0.0], dtype=F64)
    settings: dict[str, Any] = {"rtol": tol, "atol": tol}
    if steps:
        settings = {"options": {"step_size": float(times.diff().abs()) / steps}}

    def log_prob(x: torch.Tensor) -> torch.Tensor:
        signs = None
        if probe:
            signs = torch.randint(0, 2, x.shape, generator=torch.Generator().manual_seed(0)).to(x.dtype) * 2 - 1

        def field(t: torch.Tensor, state: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
            with torch.enable_grad():
                place = state[0].detach().requires_grad_()
                v = velocity(place, t)
                if signs is None:
                    columns = [v[:, i].sum() for i in range(x.shape[1])]
                    rows = [torch.autograd.grad(c, place, retain_graph=True)[0][:, i] for i, c in enumerate(columns)]
                    divergence = torch.stack(rows).sum(0)
                else:
                    (product,) = torch.autograd.grad(v, place, signs)
                    divergence = (product * signs).sum(1)
            return v.detach(), divergence.detach()

        end, change = odeint(field, (x, x.new_zeros(len(x))), times, method=method, **settings)
        start = law.oracle.log_prob(end[-1], 1.0) if vp and known else normal(end[-1])
        return start + change[-1]

    return counted(law.network, "t_min" if vp else "clean", log_prob)


def k_diffusion(law: Law, tol: float = 1e-4) -> Run:
    """k-diffusion's ``log_likelihood``, one Rademacher probe, between the ends of the same process."""

    def denoised(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        s, one = sigma[:, None], torch.ones(len(x), 1, dtype=x.dtype)
        # the network's own process is a rotation: alpha^2 + sigma^2 = 1
        norm = torch.sqrt(1 + s**2)
        return (x / norm - s * law.network(x / norm, one / norm, s / norm)) / norm

    def log_prob(x: torch.Tensor) -> torch.Tensor:
        sampling = k_diffusion_sampling()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return sampling.log_likelihood(denoised, x, SIGMA_MIN, SIGMA_MAX, atol=tol, rtol=tol)[0]

    return counted(law.network, "sigma", log_prob)


def flow_matching(law: Law, method: str, tol: float, exact: bool = True) -> Run:
    """flow_matching's ``compute_likelihood`` on its straight path, which knows p at the noisy end: N(0, I)."""
    velocity, times = straight(law.network), torch.tensor([1.0, 0.0], dtype=F64)

    def log_prob(x: torch.Tensor) -> torch.Tensor:
        from flow_matching.solver import ODESolver

        solver = ODESolver(velocity)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            found: torch.Tensor = solver.compute_likelihood(
                x.clone(), normal, None, method, tol, tol, times, exact_divergence=exact
            )[1]
            return found.detach()

    return counted(law.network, "clean", log_prob)


def zuko(law: Law, atol: float = 1e-6, rtol: float = 1e-5) -> Run:
    """The transform of zuko's continuous normalising flow, on the straight path, with its exact trace."""
    velocity = straight(law.network)

    def log_prob(x: torch.Tensor) -> torch.Tensor:
        from zuko.transforms import FreeFormJacobianTransform

        transform = FreeFormJacobianTransform(lambda t, x: velocity(x, t), 1.0, 0.0, atol=atol, rtol=rtol, exact=True)
        end, change = transform.call_and_ladj(x)
        return normal(end) + change

    return counted(law.network, "clean", log_prob)
