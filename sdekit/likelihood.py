"""Exact likelihood, encoding and decoding: one ODE, the probability flow."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .chunks import Chunk, Chunks, check_ids_used, keyed
from .errors import InvalidArgument, InvalidType, batch, describe, finite_rows, flag, floating, number, one_of, whole
from .models.base import ScoreModel, check_condition, check_model, evaluating
from .noise import KeyedNoise, check_noise
from .ode.adaptive import Dopri5
from .ode.base import ODEMethod
from .solvers.probability_flow import Flow
from .types import NoiseSource, Time

TOLERANCES = {"fast": 1e-4, "default": 1e-6, "tight": 1e-9}
"""rtol = atol of Dopri5, by name."""


class Trace(ABC):
    """How the divergence of the flow is found: probes v of which v^T J v is taken, exactly or as an estimate."""

    @abstractmethod
    def probes(self, x: Tensor, noise: NoiseSource) -> Tensor | None:
        """The probe vectors, (B, probes, D), fixed for the whole integration; None where the trace is exact."""


@dataclass(frozen=True)
class Exact(Trace):
    """The whole trace: D backward passes through the model at each evaluation."""

    def probes(self, x: Tensor, noise: NoiseSource) -> None:
        """None."""


@dataclass(frozen=True)
class Hutchinson(Trace):
    """Hutchinson's estimate, E v^T J v over probes of identity covariance, with one backward pass a probe.

    Each row has probes of its own, fixed while it is integrated; each probe is integrated apart, and the standard
    error of their mean is returned. One probe alone has no standard error: it is then infinite. ``distribution``:
    ``"rademacher"``, whose variance is twice the squared off-diagonal of J's symmetric part, or ``"normal"``, which
    adds the diagonal. (Hutchinson 1989; Grathwohl et al. 2019, arXiv:1810.01367; Song et al. 2021, appendix D.2.)
    """

    n: int = 4
    distribution: str = "rademacher"

    def __post_init__(self) -> None:
        whole("Hutchinson", "n", self.n, at_least=1)
        one_of("Hutchinson", "distribution", self.distribution, ("rademacher", "normal"))

    def probes(self, x: Tensor, noise: NoiseSource) -> Tensor:
        """(B, n, D)."""
        like = x.reshape(len(x), 1, math.prod(x.shape[1:])).expand(-1, self.n, -1)
        if self.distribution == "rademacher":
            return noise.rademacher(like, stream="probe")
        return noise.normal(like.shape, stream="probe", dtype=x.dtype, device=x.device)


TRACES: dict[str, Trace] = {"exact": Exact(), "hutchinson": Hutchinson()}


@dataclass(frozen=True)
class Likelihood:
    """Log-densities of a batch, with their errors."""

    log_prob: Tensor
    """(B,) nats: of p at t_min."""
    trace_se: Tensor
    """(B,) nats: the standard error of the trace estimate; 0 where the trace is exact."""
    error: Tensor | None
    """(B,) nats: an estimate of the integrator's error, None where it has none: the sum of its local estimates for the
    divergence, and for x_T as the prior's log-density feels them, |grad log p_T(x_T)| |error of x_T|."""
    nfe: Tensor
    """(B,) network evaluations."""
    dimension: int
    """Coordinates of an event."""

    def bits_per_dim(self, bin_width: float) -> Tensor:
        """-log2(p bin_width^D) / D of each row, (B,): the code length of data whose levels stand bin_width apart.

        ``bin_width``: the width of a level in the model's own units, 1/256 for 8-bit data scaled to [0, 1] and 2/256
        for [-1, 1]. The data must have been dequantised by uniform noise of that width. (Theis et al. 2016, section
        3.1, arXiv:1511.01844.)
        """
        bin_width = number("bits_per_dim", "bin_width", bin_width, above=0.0)
        if not self.dimension:
            raise InvalidArgument("bits_per_dim: an event must have at least one coordinate, got none")
        return -self.log_prob / (self.dimension * math.log(2)) - math.log2(bin_width)


class _FlowWithDensity:
    """The flow with the log-density as further coordinates: d(x, l)/dt = (v, div v), one l a probe."""

    def __init__(self, model: ScoreModel, event: Sequence[int], probes: Tensor | None):
        self.flow = Flow(model)
        self.event = tuple(event)
        self.dimension = math.prod(event)
        self.probes = probes

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            # a clone: autograd refuses what was made in inference mode
            x = x[:, : self.dimension].clone().reshape(len(x), *self.event).detach().requires_grad_()
            v = self.flow(x, t)
            flat = v.reshape(len(v), self.dimension)
            if not flat.requires_grad:  # a flow that does not depend on x
                flat = flat + 0.0 * x.reshape(flat.shape)
            if self.probes is None:
                divergence = self._trace(flat, x)
            else:
                divergence = torch.stack([self._project(flat, x, z) for z in self.probes.unbind(1)], 1)
        return torch.cat([flat.detach(), divergence], 1)

    def _trace(self, v: Tensor, x: Tensor) -> Tensor:
        total = v.new_zeros(len(v))
        for i in range(self.dimension):
            last = i + 1 == self.dimension
            (row,) = torch.autograd.grad(v[:, i].sum(), x, retain_graph=not last, materialize_grads=True)
            total += row.reshape(v.shape)[:, i]
        return total[:, None]

    def _project(self, v: Tensor, x: Tensor, z: Tensor) -> Tensor:
        (row,) = torch.autograd.grad((v * z).sum(), x, retain_graph=True, materialize_grads=True)
        return (row.reshape(v.shape) * z).sum(1)

    @property
    def divisible(self) -> bool:
        return self.flow.divisible

    def rows(self, index: Tensor) -> _FlowWithDensity:
        probes = None if self.probes is None else self.probes[index]
        return _FlowWithDensity(self.flow.model.rows(index), self.event, probes)

    def on_behalf(self, index: Tensor) -> _FlowWithDensity:
        return _FlowWithDensity(self.flow.model.on_behalf(index), self.event, self.probes)


def log_likelihood(
    model: ScoreModel,
    x: Tensor,
    *,
    method: ODEMethod | None = None,
    tol: str | float | None = None,
    trace: str | Trace = "exact",
    prior: Callable[[Tensor], Tensor] | None = None,
    seed: int | Sequence[int] = 0,
    noise: NoiseSource | None = None,
    per_sample: bool = False,
    ids: Tensor | Sequence[int] | None = None,
    dtype: torch.dtype = torch.float64,
) -> Likelihood:
    """The log-density of each row of x under the model's probability flow, at t_min.

    log p(x) = log p_T(x_T) + int_{t_min}^{t_max} div v(x_t, t) dt,    with dx/dt = v the flow from x at t_min.

    (Chen et al. 2018, arXiv:1806.07366; Song et al. 2021, eq. 39, arXiv:2011.13456.)

    ``x``: (B, *event), finite floats; data with levels must be dequantised first, and integers are refused.
    ``method``: any of ``sdekit.ode``; or ``tol``, ``"fast"``, ``"default"``, ``"tight"`` or a number, the tolerance of
    ``Dopri5``. ``trace``: ``"exact"``, ``"hutchinson"``, or ``Hutchinson(n, distribution)``, whose probes come from
    ``seed`` or ``noise``, keyed by row. ``prior``: a log-density of p_T, (B, *event) -> (B,), in place of the process's
    prior. ``per_sample=True`` gives the network chunks of fixed shape, where row ``ids`` (0, 1, ... unless given, or a
    keyed ``noise``'s own) has its place: all that is returned of a row is the same bits alone, and in any split, with
    any method of sdekit's own. ``dtype``: of the integration; a network runs in its own.

    Raises named errors at the door; NonFiniteError and IntegrationError, whose ``rows`` are those at fault, where the
    flow cannot be integrated.

    Example: ``r = log_likelihood(model, x, tol=1e-7); r.log_prob; r.bits_per_dim(bin_width=2 / 256)``.
    """
    check_model("log_likelihood", model)
    x = batch("log_likelihood", "x", x)
    method = _method("log_likelihood", method, tol)
    trace = _trace(trace)
    if prior is not None and not callable(prior):
        raise InvalidType(f"log_likelihood: prior must be a log-density, (B, *event) -> (B,), got {describe(prior)}")
    dtype = floating("log_likelihood", "dtype", dtype)
    check_ids_used("log_likelihood", ids, noise, flag("log_likelihood", "per_sample", per_sample))
    if per_sample and noise is not None:
        keyed("log_likelihood", noise)
    noise = KeyedNoise(seed, ids) if noise is None else noise
    check_noise("log_likelihood", noise, len(x))
    check_condition("log_likelihood", model, len(x))
    x = x.detach().to(dtype)
    zeros, n = x.new_zeros(len(x)), math.prod(x.shape[1:])
    density = model.sde.prior.log_prob if prior is None else prior
    _check_density(density(x), x)
    if not x.numel():
        return Likelihood(density(x).to(dtype), zeros, zeros, zeros.long(), n)
    with torch.no_grad(), evaluating(model):
        if per_sample:
            source = keyed("log_likelihood", noise)

            def part(chunk: Chunk) -> tuple[Tensor | None, ...]:
                return _density(chunk.model(model), chunk.spread(x), method, trace, density, chunk.noise(source))

            log_prob, se, error, nfe = Chunks(len(x), source.ids).map(part)
        else:
            log_prob, se, error, nfe = _density(model, x, method, trace, density, noise)
    assert log_prob is not None
    assert se is not None
    assert nfe is not None
    finite_rows("log_likelihood", "log_prob", log_prob)
    return Likelihood(log_prob, se, error, nfe, n)


def _density(
    model: ScoreModel,
    x: Tensor,
    method: ODEMethod,
    trace: Trace,
    density: Callable[[Tensor], Tensor],
    noise: NoiseSource,
) -> tuple[Tensor | None, ...]:
    """log_prob, trace_se, error and nfe of each row."""
    event, n = x.shape[1:], math.prod(x.shape[1:])
    probes = trace.probes(x, noise)
    k = 1 if probes is None else probes.shape[1]
    start = torch.cat([x.reshape(len(x), -1), x.new_zeros(len(x), k)], 1)
    flow = _FlowWithDensity(model, event, probes)
    end, stats = method.advance(flow, start, model.sde.t_min, model.sde.t_max)
    x_T, divergence = end[:, :n].reshape(x.shape), end[:, n:]
    log_prior, slope = _with_slope(density, x_T)
    log_prob = log_prior.to(x.dtype) + divergence.mean(1)
    se = x.new_zeros(len(x))
    if probes is not None:
        se = divergence.std(1) / math.sqrt(k) if k > 1 else torch.full_like(se, math.inf)
    error = None
    if stats.error is not None:
        error = stats.error[:, n:].mean(1) + (slope.abs() * stats.error[:, :n]).sum(1)
    nfe = torch.as_tensor(stats.nfe, device=x.device) * model.evaluations
    return log_prob, se, error, nfe.expand(len(x))


def _check_density(value: Any, x: Tensor) -> None:
    if not isinstance(value, Tensor) or value.shape != x.shape[:1]:
        raise InvalidArgument(f"log_likelihood: prior must return (B,) = ({len(x)},), got {describe(value)}")


def _with_slope(density: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The log-density of each row, (B,), and its gradient, (B, D): 0 where it cannot be differentiated."""
    with torch.inference_mode(False), torch.enable_grad():
        x = x.clone().requires_grad_()
        value = density(x)
        _check_density(value, x)
        if not value.requires_grad:
            return value, torch.zeros_like(x).reshape(len(x), -1)
        (slope,) = torch.autograd.grad(value.sum(), x, materialize_grads=True)
    return value.detach(), slope.reshape(len(x), -1)


def encode(
    model: ScoreModel,
    x: Tensor,
    *,
    method: ODEMethod | None = None,
    tol: str | float | None = None,
    per_sample: bool = False,
    ids: Tensor | Sequence[int] | None = None,
) -> Tensor:
    """The latent of each row: the probability flow from x at t_min to t_max, (B, *event) in the dtype of x.

    ``method`` or ``tol``, ``per_sample`` and ``ids`` as in :func:`log_likelihood`. (Song et al. 2021, section 4.3,
    arXiv:2011.13456.)
    """
    method = _method("encode", method, tol)
    return _transport("encode", "x", model, x, method, per_sample, ids, forward=True)


def decode(
    model: ScoreModel,
    z: Tensor,
    *,
    method: ODEMethod | None = None,
    tol: str | float | None = None,
    per_sample: bool = False,
    ids: Tensor | Sequence[int] | None = None,
) -> Tensor:
    """The data of each latent: the probability flow from z at t_max to t_min, the inverse of :func:`encode`."""
    method = _method("decode", method, tol)
    return _transport("decode", "z", model, z, method, per_sample, ids, forward=False)


def _transport(
    owner: str,
    name: str,
    model: ScoreModel,
    x: Tensor,
    method: ODEMethod,
    per_sample: bool,
    ids: Tensor | Sequence[int] | None,
    *,
    forward: bool,
) -> Tensor:
    check_model(owner, model)
    x = batch(owner, name, x)
    check_ids_used(owner, ids, None, flag(owner, "per_sample", per_sample))
    source = KeyedNoise(0, ids)
    check_noise(owner, source, len(x))
    check_condition(owner, model, len(x))
    low, high = model.sde.t_min, model.sde.t_max
    t, s = (low, high) if forward else (high, low)
    wide = result = x.to(torch.promote_types(x.dtype, torch.float32))
    with torch.no_grad(), evaluating(model):
        if x.numel() and per_sample:

            def part(chunk: Chunk) -> tuple[Tensor | None, ...]:
                return (_advance(chunk.model(model), method, chunk.spread(wide), t, s),)

            (moved,) = Chunks(len(x), source.ids).map(part)
            assert moved is not None
            result = moved
        elif x.numel():
            result = _advance(model, method, result, t, s)
    finite_rows(owner, "the result", result)
    return result.to(x.dtype)


def _advance(model: ScoreModel, method: ODEMethod, x: Tensor, t: float, s: float) -> Tensor:
    return method.advance(Flow(model), x, t, s)[0]


def _method(owner: str, method: ODEMethod | None, tol: str | float | None) -> ODEMethod:
    if method is not None:
        if not isinstance(method, ODEMethod):
            raise InvalidType(f"{owner}: method must be one such as ode.Dopri5(), got {describe(method)}")
        if tol is not None:
            raise InvalidArgument(
                f"{owner}: tol must be left out where a method is given, got {describe(tol)} with {method!r}"
            )
        return method
    if tol is None or isinstance(tol, str):
        tol = TOLERANCES[one_of(owner, "tol", tol or "default", TOLERANCES)]
    tol = number(owner, "tol", tol, above=0.0, below=1.0)
    return Dopri5(rtol=tol, atol=tol)


def _trace(trace: str | Trace) -> Trace:
    if isinstance(trace, Trace):
        return trace
    return TRACES[one_of("log_likelihood", "trace", trace, TRACES)]
