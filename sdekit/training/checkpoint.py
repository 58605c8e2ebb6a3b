"""Checkpoints: directories that are whole or absent, and that know when a bit of them has changed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from ..errors import (
    CheckpointCorrupt,
    CheckpointNotFound,
    CheckpointTooNew,
    CheckpointWriteError,
    InvalidType,
    whole,
)

FORMAT = 1
"""The version of the layout that this code writes, and the latest that it reads."""

KEEP = 2
"""Checkpoints that a run directory keeps."""

MANIFEST = "checkpoint.json"
NAME = re.compile(r"step-(\d{8,})(\.old)?")


class Checkpoint(NamedTuple):
    """A verified checkpoint: where it lies, its record, and its tensors by group and name."""

    path: Path
    record: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]


def save(directory: Path | str, tensors: Mapping[str, Mapping[str, Tensor]], record: Mapping[str, Any]) -> Path:
    """Writes ``directory/step-00000400``, a checkpoint that is either whole or not there, and returns its path.

    It holds one safetensors file a group of tensors and, written last, ``checkpoint.json``: format_version, the record
    and the size and SHA-256 of each file, under a SHA-256 of itself. The order is: a temporary sibling; every file
    synchronised with the disk; the sibling; the rename; the run directory. The last two checkpoints are kept.

    ``record``: anything JSON can hold; ``record["step"]`` names the checkpoint. Raises CheckpointWriteError where
    the disk is full or refuses: the checkpoints before are then untouched, and the temporary directory gone.
    """
    directory = Path(directory)
    step = whole("checkpoint", "record['step']", record.get("step"), at_least=0)
    blobs = {f"{group}.safetensors": _pack(values) for group, values in tensors.items()}
    files = {name: {"sha256": _sha256(blob), "size": len(blob)} for name, blob in blobs.items()}
    blobs[MANIFEST] = _manifest({"format_version": FORMAT, "record": dict(record), "files": files})
    final = directory / f"step-{step:08d}"
    aside = final.with_name(f"{final.name}.old")
    temporary = final.with_name(f".{final.name}.tmp")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for left in directory.glob(".step-*.tmp"):
            shutil.rmtree(left)
        check_space(directory, sum(map(len, blobs.values())))
        temporary.mkdir()
        for name, blob in blobs.items():
            write(temporary / name, blob)
        synchronise(temporary)
        if final.exists():
            # a directory cannot be renamed onto another; until the new one stands, load() reads the one put aside
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(final, aside)
        os.replace(temporary, final)
        synchronise(directory)
    except OSError as error:
        raise write_error(final, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    found = _newest_first(directory)
    # one of a later step was damaged, or it would have been gone on from
    kept = [path for path in found if path.suffix != ".old" and path.name <= final.name][:KEEP]
    for path in found:
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)
    return final


def load(directory: Path | str) -> Checkpoint:
    """The newest checkpoint of a run directory whose bytes match its manifest; or the one in a checkpoint's directory.

    Where the newest is damaged the one before it is taken, with a warning that names both. Raises CheckpointNotFound
    where there is none, CheckpointCorrupt where none can be used, and CheckpointTooNew for one of a later format.
    """
    directory = Path(directory)
    candidates = [directory] if (directory / MANIFEST).is_file() else _newest_first(directory)
    faults: list[str] = []
    for path in candidates:
        try:
            checkpoint = _read(path)
        except CheckpointCorrupt as error:
            faults.append(str(error))
            continue
        if faults:
            warnings.warn(f"checkpoint: {'; '.join(faults)}; going back to {path}", stacklevel=2)
        return checkpoint
    if faults:
        raise CheckpointCorrupt(f"checkpoint: no usable checkpoint in {directory}: {'; '.join(faults)}")
    raise CheckpointNotFound(
        f"checkpoint: no checkpoint in {directory}, where one must be named step-00000000 or the like"
    )


def clear(directory: Path) -> None:
    """Removes the checkpoints of a run directory, and nothing else."""
    for path in (*_newest_first(directory), *directory.glob(".step-*.tmp")):
        shutil.rmtree(path)


def write(path: Path, blob: bytes) -> None:
    """Writes a file and waits until the disk has it."""
    with open(path, "wb") as file:
        file.write(blob)
        file.flush()
        os.fsync(file.fileno())


def synchronise(directory: Path) -> None:
    """Waits until the disk has the names in a directory, where directories can be opened."""
    if os.name == "nt":
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_space(directory: Path, needed: int) -> None:
    """Raises the disk's own error, before anything is written, where the bytes will not fit."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"disk full: needs {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB free")


def write_error(path: Path, error: OSError) -> CheckpointWriteError:
    """The error that says what could not be written, and why."""
    return CheckpointWriteError(f"cannot write {path}: {error.strerror or error}; what was there before is untouched")


def _read(path: Path) -> Checkpoint:
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        digest = manifest.pop("sha256")
        if digest != _sha256(_canonical(manifest)):
            raise CheckpointCorrupt(f"{path} has a damaged {MANIFEST}")
        if manifest["format_version"] > FORMAT:
            raise CheckpointTooNew(
                f"checkpoint: {path} is of format {manifest['format_version']}, this version reads up to {FORMAT}: "
                "a later sdekit is needed"
            )
        tensors = {}
        for name, expected in manifest["files"].items():
            blob = (path / name).read_bytes()
            if len(blob) != expected["size"]:
                raise CheckpointCorrupt(f"{path / name} must have {expected['size']} bytes, got {len(blob)}")
            if _sha256(blob) != expected["sha256"]:
                raise CheckpointCorrupt(f"{path / name} does not match its SHA-256")
            tensors[name.removesuffix(".safetensors")] = safetensors.torch.load(blob)
        return Checkpoint(path, manifest["record"], tensors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise CheckpointCorrupt(f"{path} cannot be read ({type(error).__name__}: {error})") from error


def _newest_first(directory: Path) -> list[Path]:
    """The checkpoints of a run directory; one that was put aside comes after the one that took its name."""
    paths = directory.iterdir() if directory.is_dir() else ()
    found = [(match, path) for path in paths if (match := NAME.fullmatch(path.name)) and path.is_dir()]
    return [path for _, path in sorted(found, key=lambda pair: (int(pair[0][1]), not pair[0][2]), reverse=True)]


def _pack(tensors: Mapping[str, Tensor]) -> bytes:
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise InvalidType(f"checkpoint: {name} must be a tensor, got {type(value).__name__}")
    # copies: safetensors refuses tensors that share memory, as tied weights do
    return safetensors.torch.save({name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()})


def _manifest(content: dict[str, Any]) -> bytes:
    try:
        content = json.loads(json.dumps(content, allow_nan=False))
        return json.dumps({**content, "sha256": _sha256(_canonical(content))}, indent=1).encode()
    except (TypeError, ValueError) as error:
        raise InvalidType(f"checkpoint: record must hold what JSON can, got {error}") from error


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _sha256(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()
