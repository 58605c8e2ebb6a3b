"""Encoding and decoding: the probability flow from data to noise, and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..chunks import Chunk, Chunks, check_ids_used
from ..errors import batch, finite_rows, flag
from ..models.base import ScoreModel, check_condition, check_model, evaluating
from ..noise import KeyedNoise, check_noise
from ..ode.base import ODEMethod
from ..solvers.probability_flow import Flow, InAngle, InTime, frame_of
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

    ``tol``: of each coordinate, in the units of the data; by name 4e-4, 1e-5 and 1e-8. ``method``, ``coordinate``,
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
                return (_advance(chunk.model(model), frame, method, chunk.spread(wide), t, s),)

            (moved,) = Chunks(len(x), source.ids).map(part)
            assert moved is not None
            result = moved
        elif x.numel():
            result = _advance(model, frame, method, result, t, s)
    finite_rows(owner, "the result", result)
    return result.to(x.dtype)


def _advance(model: ScoreModel, frame: InTime | InAngle, method: ODEMethod, x: Tensor, t: float, s: float) -> Tensor:
    here, there = model.sde.levels(torch.tensor([t, s], dtype=torch.float64))
    flow = Flow(model, frame=frame)
    w, _ = method.advance(flow, frame.enter(x, here), frame.position(here), frame.position(there))
    return frame.leave(w, there)
