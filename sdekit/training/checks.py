"""What ``train`` refuses, before its first step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointNotFound, CheckpointWriteError, InvalidArgument, InvalidType, batch, describe, file_path
from ..models.base import ScoreModel
from .settings import Settings


def data_and_condition(data: Any, condition: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The data and the condition, detached, where they are tensors of as many rows; or a named error."""
    data = batch("train", "data", data).detach()
    if len(data) == 0:
        raise InvalidArgument("train: data must hold at least one row, got none")
    condition = {} if condition is None else condition
    if not isinstance(condition, Mapping):
        raise InvalidType(f"train: condition must be tensors by name, got {describe(condition)}")
    for name, value in condition.items():
        if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != len(data):
            raise InvalidArgument(
                f"train: condition[{name!r}] must hold one entry for each of {len(data)} rows, got {describe(value)}"
            )
    return data, {name: value.detach() for name, value in condition.items()}


def parameters(model: ScoreModel) -> tuple[list[str], list[nn.Parameter]]:
    """The names and the parameters that are trained; or a named error."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not named:
        raise InvalidArgument("train: model must have parameters that ask for a gradient, got none")
    narrow = {p.dtype for _, p in named} - {torch.float32, torch.float64}
    if narrow:
        # an average of half-precision weights stands still: 1 - ema is below their rounding
        raise InvalidType(f"train: model must hold weights in float32 or float64, got {', '.join(map(str, narrow))}")
    devices = {str(p.device) for _, p in named}
    if len(devices) > 1:
        raise InvalidArgument(f"train: model must stand on one device, got {', '.join(sorted(devices))}")
    return [name for name, _ in named], [p for _, p in named]


def savable(model: ScoreModel) -> None:
    """Raises InvalidType where a checkpoint could not hold the model's state."""
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise InvalidType(
                f"train: model must have a state of tensors alone where out is given, got {name}: {describe(value)}"
            )


def directory(out: Path | str | None, settings: Settings, resume: bool, force: bool) -> Path | None:
    """The directory for checkpoints, made and found writable; or a named error."""
    if resume and force:
        raise InvalidArgument("train: resume and force must not both be True, got both")
    if out is None:
        if resume or force or settings.checkpoint_every is not None:
            what = "resume" if resume else "force" if force else "checkpoint_every"
            raise InvalidArgument(f"train: {what} needs out, a directory for checkpoints, got out=None")
        return None
    out = file_path("train", "out", out)
    if out.exists() and not out.is_dir():
        raise InvalidArgument(f"train: out must be a directory, got the file {out}")
    if resume and not out.is_dir():
        raise CheckpointNotFound(f"train: nothing to resume in {out}, which does not exist")
    probe = out / ".writable"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CheckpointWriteError(f"train: out must be a directory one can write to, got {out}: {error}") from error
    if not (resume or force) and any(out.iterdir()):
        raise InvalidArgument(
            f"train: out must be empty, got {out} with files in it; resume=True goes on, force=True starts anew"
        )
    return out
