"""The log-density of the probability flow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..chunks import by_row, keyed_source
from ..density.flow import GRADIENTS, FlowWithDensity, Probes, carried
from ..density.trace import Hutchinson, Trace, trace_of
from ..errors import InvalidArgument, UnsupportedCombination, batch, finite_rows, flag, floating, one_of
from ..models.base import ScoreModel, check_condition, check_model, evaluating
from ..noise import check_noise
from ..noise.named import Named
from ..ode.adaptive import Adaptive
from ..ode.base import ODEMethod
from ..ode.libraries import SciPy
from ..sdes.prior import Prior
from ..solvers.probability_flow import Flow, InAngle, InTime, frame_of
from ..types import NoiseSource
from .budget import PRIOR_NFE, TRUNCATION_NFE, prior_mismatch, truncation
from .levels import levels_of
from .method import chosen
from .prior import Density, check_prior, density_of
from .result import Likelihood

REACH = 8
"""Units of rounding of the integration's dtype, a coordinate, that a tolerance must have."""

FLAT = 8
"""Coordinates of an event from which on rows on common levels are data with levels, and no lattice of points."""


def log_likelihood(
    model: ScoreModel,
    x: Tensor,
    *,
    method: ODEMethod | None = None,
    tol: str | float | None = None,
    coordinate: str | None = None,
    trace: str | Trace | None = None,
    prior: Prior | Density | None = None,
    budget: bool = True,
    gradient: str | None = None,
    seed: int | Sequence[int] = 0,
    noise: NoiseSource | None = None,
    per_sample: bool = False,
    ids: Tensor | Sequence[int] | None = None,
    dtype: torch.dtype = torch.float64,
) -> Likelihood:
    """The log-density of each row of x under the model's probability flow, at t_min, and an account of its error.

    log p(x) = log p_T(x_T) + int_{t_min}^{t_max} div v(x_t, t) dt,    with dx/dt = v the flow from x at t_min.

    (Chen et al. 2018, arXiv:1806.07366; Song et al. 2021, eq. 39, arXiv:2011.13456.)

    ``x``: (B, *event), finite floats. Data with levels have probabilities, no density, and are refused: integers, and
    rows of eight coordinates and more that lie on a tenth as many evenly spaced values as they have numbers. They must
    be dequantised first, as :func:`discrete_log_likelihood` does.
    ``tol``: what the errors of a step may change log p by, in nats, of which the whole then is within about a third: a
    number; or ``"fast"``, ``"default"`` or ``"tight"``, 3e-4, 1e-5 and 1e-8 for events of up to 32 coordinates and in
    proportion to them above. A trained network is rougher than an exact model: 0.03 is enough where a data set's mean
    has a standard error of a tenth. From about 0.01 on a few rows may be off by more than it. The method is
    ``Dopri8``, and ``Dopri5`` with fresh probes. ``method``: any of ``sdekit.ode`` instead; adaptive ones of sdekit's
    own take ``atol`` as nats, and ``rtol`` of what x itself counts
    for. ``coordinate``: "t" or "angle", as of :class:`ProbabilityFlow`; None is the angle, where the flow is smooth, on
    processes that have one.

    ``trace``: ``"exact"``, ``"hutchinson"``, or an ``Exact(at_once)`` or ``Hutchinson(n, ...)``, whose probes come from
    ``seed`` or ``noise``, keyed by row; None is exact up to 128 coordinates, and four probes, fresh at every
    evaluation, above. ``prior``: a :class:`sdes.FittedPrior`, or any log-density of p_T, (B, *event) -> (B,), in place
    of the process's prior.

    ``budget=True`` fills ``solver``, ``prior`` and ``truncation`` of the :class:`Likelihood`: 18 evaluations of the
    network a row at t_max and three near t_min, two of them with the trace; and, for methods without an error estimate,
    a second run of half the steps or ten times the tolerance.

    ``gradient``: what log_prob can be differentiated by, x and the model's parameters, and how. ``"direct"`` keeps the
    graph of every evaluation, and gives second derivatives too. ``"adjoint"`` keeps the states alone, and evaluates the
    network again on the way back: the same gradient to rounding, in the memory of one evaluation. Other parts of the
    result have no gradient, and None, the default, gives none at all. The model is in evaluation mode, as always here.

    ``per_sample=True`` gives the network chunks of fixed shape, where row ``ids`` (0, 1, ... unless given, or a keyed
    ``noise``'s own) has its place: all that is returned of a row is the same bits alone, and in any split, with any
    method of sdekit's own. ``dtype``: of the integration, float32 where tol is 1e-6 a coordinate; networks have theirs.

    Raises named errors at the door; NonFiniteError and IntegrationError, whose ``rows`` are those at fault, where the
    flow cannot be integrated.

    Example: ``r = log_likelihood(model, x, tol=1e-7); r.log_prob; r.error; r.bits_per_dim(bin_width=2 / 256)``; and
    ``log_likelihood(model, x, tol="fast", budget=False, gradient="adjoint").log_prob.mean().backward()``.
    """
    owner = "log_likelihood"
    check_model(owner, model)
    x = batch(owner, "x", x)
    n = math.prod(x.shape[1:])
    levels = levels_of(x) if n >= FLAT else None
    if levels is not None:
        count, lowest, width = levels
        raise InvalidArgument(
            f"{owner}: x must be dequantised, got {count} levels, {width:g} apart from {lowest:g}, which have no "
            f"density: discrete_log_likelihood(model, x, bin_width={width:g}, origin={lowest:g})"
        )
    trace = trace_of(owner, trace, n)
    frame = frame_of(owner, model.sde, coordinate)
    method = chosen(owner, method, tol, n, noisy=trace.fresh)
    prior = check_prior(owner, model.sde, prior)
    flag(owner, "budget", budget)
    if gradient is not None:
        one_of(owner, "gradient", gradient, GRADIENTS)
        if isinstance(method, SciPy):
            raise UnsupportedCombination(
                f"{owner}: gradient must be None with {method!r}, which has none, got {gradient!r}"
            )
        if torch.is_inference_mode_enabled():
            raise UnsupportedCombination(
                f"{owner}: gradient must be None in torch.inference_mode(), which keeps no graph, got {gradient!r}"
            )
    dtype = floating(owner, "dtype", dtype)
    least = REACH * max(1, n) * torch.finfo(dtype).eps
    if isinstance(method, Adaptive) and max(method.rtol, method.atol) < least:
        more = ": dtype=torch.float64 reaches further" if dtype != torch.float64 else ""
        raise InvalidArgument(
            f"{owner}: tol must be at least {least:.0e} nats in {dtype}, for {n} coordinates, got {method!r}{more}"
        )
    noise = keyed_source(owner, noise, seed, ids, per_sample)
    check_noise(owner, noise, len(x))
    check_condition(owner, model, len(x))
    x = (x.detach() if gradient is None else x).to(dtype)
    density = density_of(owner, prior)
    with torch.no_grad():
        start = density(x)
    probes = trace.n if isinstance(trace, Hutchinson) else 0
    if not x.numel():
        zeros = x.new_zeros(len(x))
        known = zeros if budget else None
        return Likelihood(start.to(dtype), zeros, zeros.long(), n, probes, known, known, known)

    def parts(model: ScoreModel, x: Tensor, noise: NoiseSource) -> tuple[Tensor | None, ...]:
        return _density(model, x, frame, method, trace, density, budget, gradient, noise)

    with torch.set_grad_enabled(gradient is not None), evaluating(model):
        log_prob, se, nfe, *account = by_row(owner, parts, model, x, noise, per_sample)
    assert log_prob is not None
    assert se is not None
    assert nfe is not None
    finite_rows(owner, "log_prob", log_prob)
    return Likelihood(log_prob, se, nfe, n, probes, *account)


def _density(
    model: ScoreModel,
    x: Tensor,
    frame: InTime | InAngle,
    method: ODEMethod,
    trace: Trace,
    density: Density,
    budget: bool,
    gradient: str | None,
    noise: NoiseSource,
) -> tuple[Tensor | None, ...]:
    """log_prob, trace_se, nfe, and the parts of the budget, of each row."""
    event = x.shape[1:]
    low, high = model.sde.levels(torch.tensor([model.sde.t_min, model.sde.t_max], dtype=torch.float64))

    def field_of(noise: NoiseSource) -> FlowWithDensity:
        return FlowWithDensity(Flow(model, frame=frame), event, Probes(trace, x, noise), gradient=gradient)

    def run(method: ODEMethod) -> tuple[Tensor, Tensor, Any]:
        """x_T, the log-densities, one a probe, and what the method knows."""
        x_T, change, stats = carried(field_of(noise), method, x, low, high)
        return x_T, density(x_T).to(x.dtype)[:, None] - change, stats

    x_T, values, stats = run(method)
    log_prob = values.mean(1)
    se = trace.standard_error(values.detach())
    nfe = torch.as_tensor(stats.nfe, device=x.device)
    parts: list[Tensor | None] = [None] * 3
    if budget:
        with torch.no_grad():
            solver, coarser = stats.error, method.coarser()
            if solver is None and coarser is not None:
                other_x, other, more = run(coarser)
                # its two terms apart, which cancel
                far = density(other_x).to(x.dtype)
                other = other.mean(1) - far
                here = density(x_T).to(x.dtype)
                apart = (here - far).abs() + (log_prob - here - other).abs()
                solver, nfe = 3 * apart, nfe + torch.as_tensor(more.nfe, device=x.device)
            parts[0] = torch.full_like(log_prob, math.inf) if solver is None else solver.detach()
            parts[1] = prior_mismatch(model, x_T, density, noise)
            parts[2] = truncation(field_of(Named(noise, "truncation")), x)
            nfe = nfe + PRIOR_NFE + (0 if parts[2] is None else TRUNCATION_NFE)
    return (log_prob, se, (nfe * model.evaluations).expand(len(x)), *parts)
