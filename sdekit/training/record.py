"""What a checkpoint says of its run, and how two runs differ."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidType
from ..models.base import ScoreModel
from .config import split
from .settings import Settings

HASHED = 2**26
"""Bytes of the data that a checkpoint's fingerprint of them reads, at most."""


def record(
    model: ScoreModel, settings: Settings, loss: object, data: Tensor, condition: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a checkpoint says of its run beside the step, and the tensors of the model's configuration."""
    try:
        config, tensors = split(model)
    except InvalidType:  # a network of the user's own: it is trained and resumed, but cannot be built from a file
        config, tensors = None, {}
    content = {
        "settings": asdict(settings),
        "model": config,
        "loss": re.sub(r" at 0x[0-9a-f]+", "", repr(loss)),
        "data": {name: _fingerprint(value) for name, value in {"data": data, **condition}.items()},
    }
    return json.loads(json.dumps(content)), tensors


def _fingerprint(data: Tensor) -> str:
    """Dtype, shape and a hash of rows of the data, evenly spaced: all of them up to 64 MB."""
    every = -(-data.numel() * data.element_size() // HASHED) or 1
    rows = data[::every].detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
    return f"{data.dtype} {tuple(data.shape)} {hashlib.sha256(rows.numpy().data).hexdigest()[:16]}"


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of a run has changed: anything but more steps and another interval of checkpoints."""
    before, after = _flat(saved), _flat(now)
    before.pop("step")
    for flat in (before, after):
        flat.pop("settings.checkpoint_every")
    steps = before.pop("settings.steps"), after.pop("settings.steps")
    differs = [] if steps[1] >= steps[0] else [f"settings.steps was {steps[0]} and may only grow, not be {steps[1]}"]
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            differs.append(f"{name} was {before.get(name)!r}, not {after.get(name)!r}")
    return differs


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    return {k: v for key, item in value.items() for k, v in _flat(item, f"{name}.{key}" if name else key).items()}


def mismatches(group: str, saved: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> list[str]:
    kinds = [{name: (tuple(t.shape), t.dtype) for name, t in tensors.items()} for tensors in (saved, now)]
    names = sorted(name for name in kinds[0].keys() | kinds[1].keys() if kinds[0].get(name) != kinds[1].get(name))
    return [f"{group}: {name} was {kinds[0].get(name)}, not {kinds[1].get(name)}" for name in names]
