"""Encoding and decoding: the probability flow from data to noise, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..chunks import by_row, keyed_source
from ..errors import InvalidArgument, UnsupportedCombination, batch, finite_rows, whole
from ..models.base import ScoreModel, check_condition, check_model, evaluating
from ..noise import check_noise
from ..ode.base import ODEMethod
from ..sdes.prior import NormalPrior
from ..solvers.probability_flow import Flow, InAngle, InTime, frame_of
from ..types import NoiseSource
from .method import chosen


def encode(
    model: ScoreModel,
    x: Tensor,
    *,
    method: ODEMethod | None = None,
    tol: str | float | None = None,
    coordinate: str | None = None,
    per_sample: bool = False,
    ids: Tensor | Sequence[int] | None = None,
) -> Tensor:
    """The latent of each row: the probability flow from x at t_min to t_max, (B, *event) in the dtype of x.

    ``tol``: of each coordinate, in the units of the data; by name 3e-4, 1e-5 and 1e-8. ``method``, ``coordinate``,
    ``per_sample`` and ``ids`` as in :func:`log_likelihood`. (Song et al. 2021, section 4.3, arXiv:2011.13456.)
    """
    method = chosen("encode", method, tol)
    return _transport("encode", "x", model, x, method, coordinate, per_sample, ids, forward=True)


def decode(
    model: ScoreModel,
    z: Tensor,
    *,
    method: ODEMethod | None = None,
    tol: str | float | None = None,
    coordinate: str | None = None,
    per_sample: bool = False,
    ids: Tensor | Sequence[int] | None = None,
) -> Tensor:
    """The data of each latent: the probability flow from z at t_max to t_min, the inverse of :func:`encode`."""
    method = chosen("decode", method, tol)
    return _transport("decode", "z", model, z, method, coordinate, per_sample, ids, forward=False)


def interpolate(
    model: ScoreModel,
    a: Tensor,
    b: Tensor,
    steps: int,
    *,
    method: ODEMethod | None = None,
    tol: str | float | None = None,
    coordinate: str | None = None,
) -> Tensor:
    """The way from each row of a to that of b through the latents, (steps, *a.shape): both ends among them.

    z_v = (sin((1 - v) theta) z_a + sin(v theta) z_b) / sin(theta),    cos(theta) = z_a . z_b / (|z_a| |z_b|),

    with z the latents less the prior's mean, over its std: along the arc between them (Shoemake 1985, doi
    10.1145/325165.325242; of probability flows, Song et al. 2021, section 4.3, arXiv:2011.13456), where a straight line
    would leave the sphere that the prior's mass is near. Parallel latents have a line.

    ``a``, ``b``: (B, *event) each; ``steps`` at least 2. ``method``, ``tol``, ``coordinate``: as of :func:`encode`.

    Example: ``film = interpolate(model, x[:8], x[8:16], 9)``.
    """
    a, b = batch("interpolate", "a", a), batch("interpolate", "b", b)
    if a.shape != b.shape:
        raise InvalidArgument(f"interpolate: b must be of the shape of a, {tuple(a.shape)}, got {tuple(b.shape)}")
    steps = whole("interpolate", "steps", steps, at_least=2)
    check_model("interpolate", model)
    prior = model.sde.prior
    if not isinstance(prior, NormalPrior):
        raise UnsupportedCombination(f"interpolate: the prior must be normal, for arcs to be of one size, got {prior}")
    frame_of("interpolate", model.sde, coordinate)
    how: dict[str, Any] = {"method": chosen("interpolate", method, tol), "coordinate": coordinate}
    mean, std = (torch.as_tensor(v, dtype=torch.float64, device=a.device) for v in (prior.mean, prior.std))
    starts, ends = (((encode(model, x, **how).double() - mean) / std).flatten(1) for x in (a, b))
    cosine = (starts * ends).sum(1) / (starts.norm(dim=1) * ends.norm(dim=1))
    theta = torch.arccos(cosine.clamp(-1, 1))[:, None]
    film = []
    for v in torch.linspace(0, 1, steps, dtype=torch.float64).tolist():
        arc = (torch.sin((1 - v) * theta) * starts + torch.sin(v * theta) * ends) / torch.sin(theta)
        z = torch.where(theta.sin() > 1e-6, arc, (1 - v) * starts + v * ends)
        film.append(decode(model, (z.reshape(a.shape) * std + mean).to(a.dtype), **how))
    return torch.stack(film)


def _transport(
    owner: str,
    name: str,
    model: ScoreModel,
    x: Tensor,
    method: ODEMethod,
    coordinate: str | None,
    per_sample: bool,
    ids: Tensor | Sequence[int] | None,
    *,
    forward: bool,
) -> Tensor:
    check_model(owner, model)
    x = batch(owner, name, x)
    frame = frame_of(owner, model.sde, coordinate)
    source = keyed_source(owner, None, 0, ids, per_sample)
    check_noise(owner, source, len(x))
    check_condition(owner, model, len(x))
    low, high = model.sde.t_min, model.sde.t_max
    t, s = (low, high) if forward else (high, low)
    wide = result = x.to(torch.promote_types(x.dtype, torch.float32))

    def advanced(model: ScoreModel, x: Tensor, noise: NoiseSource) -> tuple[Tensor]:
        return (_advance(model, frame, method, x, t, s),)

    with torch.no_grad(), evaluating(model):
        if x.numel():
            (moved,) = by_row(owner, advanced, model, wide, source, per_sample)
            assert moved is not None
            result = moved
    finite_rows(owner, "the result", result)
    return result.to(x.dtype)


def _advance(model: ScoreModel, frame: InTime | InAngle, method: ODEMethod, x: Tensor, t: float, s: float) -> Tensor:
    here, there = model.sde.levels(torch.tensor([t, s], dtype=torch.float64))
    flow = Flow(model, frame=frame)
    w, _ = method.advance(flow, frame.enter(x, here), frame.position(here), frame.position(there))
    return frame.leave(w, there)
