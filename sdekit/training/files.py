"""A model in one file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointCorrupt, CheckpointError, CheckpointNotFound, CheckpointTooNew, file_path
from ..models.parametrised import Parametrised
from . import checkpoint
from .config import digest, from_config, split

HEADER = "sdekit"
"""The entry of a file's safetensors header that describes the model."""


def save_model(path: Path | str, model: Parametrised) -> None:
    """Writes a model as one safetensors file whose header says, in JSON, how to build it.

    The file is written beside the path, synchronised with the disk and renamed: the path holds the old file or the new
    one, whatever happens. Raises InvalidType for a model that a file cannot hold (see ``to_config``) and
    CheckpointWriteError where the disk is full or refuses.

    Example: ``save_model("digits.safetensors", trained.ema)``.
    """
    path = file_path("save_model", "path", path)
    config, extra = split(model)
    tensors = {
        name: value.detach().to("cpu", copy=True).contiguous() for name, value in (model.state_dict() | extra).items()
    }
    content = {"format_version": checkpoint.FORMAT, "model": json.loads(json.dumps(config, allow_nan=False))}
    header = json.dumps({**content, "sha256": _seal(content, tensors)})
    blob = safetensors.torch.save(tensors, metadata={HEADER: header})
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        checkpoint.check_space(path.parent, len(blob))
        checkpoint.write(temporary, blob)
        os.replace(temporary, path)
        checkpoint.synchronise(path.parent)
    except OSError as error:
        raise checkpoint.write_error(path, error) from error
    finally:
        with suppress(NotADirectoryError):
            temporary.unlink(missing_ok=True)


def load_model(path: Path | str) -> Parametrised:
    """The model that ``save_model`` wrote, on the CPU and in evaluation mode; of a run directory, the averaged model.

    A directory is one that ``train`` wrote checkpoints to, or one of these. Nothing in a file is executed, and only
    classes that sdekit exports are built. Raises CheckpointNotFound, CheckpointCorrupt where the bytes are not those
    that were written, CheckpointTooNew, and CheckpointError for a file that holds no model of sdekit's.
    """
    path = file_path("load_model", "path", path)
    if path.is_dir():
        where, record, groups = checkpoint.load(path)
        if record.get("model") is None:
            raise CheckpointError(
                f"load_model: {where} must say how to build its model, got one whose classes are not all sdekit's; "
                "build it yourself and load the weights in its ema.safetensors"
            )
        return _filled(record["model"], groups["ema"], groups.get("config", {}))
    content, tensors = _read(path)
    seal = content.pop("sha256", None)
    if seal != _seal(content, tensors):
        raise CheckpointCorrupt(f"load_model: {path} does not match its SHA-256")
    if content["format_version"] > checkpoint.FORMAT:
        raise CheckpointTooNew(
            f"load_model: {path} is of format {content['format_version']}, this version reads up to "
            f"{checkpoint.FORMAT}: a later sdekit is needed"
        )
    extra = {name: tensors.pop(name) for name in list(tensors) if name.startswith("config.")}
    return _filled(content["model"], tensors, extra)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointNotFound(
            f"load_model: path must be a file that is there: no file {path}, got '{path}'"
        ) from error
    except (OSError, SafetensorError) as error:
        raise CheckpointCorrupt(f"load_model: {path} cannot be read as safetensors ({error})") from error
    if header is None:
        raise CheckpointError(f"load_model: {path} must be a file that save_model wrote: its header has no {HEADER!r}")
    try:
        return dict(json.loads(header)), tensors
    except (TypeError, ValueError) as error:
        raise CheckpointCorrupt(f"load_model: {path} has a damaged header ({error})") from error


def _seal(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of a model's description and tensors."""
    text = json.dumps(content, sort_keys=True) + digest(tensors)
    return hashlib.sha256(text.encode()).hexdigest()


def _filled(config: dict[str, Any], weights: Mapping[str, Tensor], extra: Mapping[str, Tensor]) -> Parametrised:
    model = from_config(config, extra)
    expected = model.state_dict()
    names = expected.keys() | weights.keys()
    wrong = sorted(name for name in names if _shape(expected, name) != _shape(weights, name))
    if wrong:
        raise CheckpointCorrupt(
            f"load_model: the weights must be those of the model described, got others for {wrong[:5]}"
        )
    model.load_state_dict(weights, assign=True)  # assigned, not copied: the dtype is the file's
    return model.eval()


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None
