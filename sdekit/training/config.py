"""A model as a JSON object and back: a process, a parametrisation and a network, each by a name that sdekit exports."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from .. import models, networks, sdes
from ..errors import InvalidArgument, InvalidType, describe, one_of
from ..models.parametrisations import Parametrisation
from ..models.parametrised import Parametrised
from ..models.variances import Variance
from ..sdes.base import SDE
from .generators import seeded

PARTS: dict[str, tuple[ModuleType, type]] = {
    "sde": (sdes, SDE),
    "parametrisation": (models, Parametrisation),
    "network": (networks, nn.Module),
}
OPTIONAL: dict[str, tuple[ModuleType, type]] = {"variance": (models, Variance)}
"""Where the classes of each part come from: what these modules export, and nothing else is ever imported."""


def to_config(model: Parametrised) -> dict[str, Any]:
    """The model's classes and their arguments as a JSON object: ``from_config`` builds the same model, but for weights.

    Raises InvalidType for what a file cannot hold: a model that is not a Parametrised, a class that sdekit does not
    export, a network without ``.config``, a label or an input scale that is a function.
    """
    return split(model)[0]


def split(model: object) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The JSON object of ``to_config``, and the tensors it refers to by name, such as a prior's moments."""
    if not isinstance(model, Parametrised):
        raise InvalidType(
            f"to_config: model must be a Parametrised, such as sdekit.ddpm(network), got {describe(model)}"
        )
    tensors: dict[str, Tensor] = {}
    parts = [*PARTS, *(name for name in OPTIONAL if getattr(model, name) is not None)]
    config = {name: _describe(name, getattr(model, name), tensors) for name in parts}
    prior = getattr(model.sde, "_data", None)
    if prior is not None:
        values = zip(("mean", "std"), prior, strict=True)
        config["sde"]["prior"] = {name: _encode(f"sde.prior.{name}", value, tensors) for name, value in values}
    return config, tensors


def from_config(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None, *, seed: int = 0
) -> Parametrised:
    """The model of a JSON object made by ``to_config``, with initial weights that depend on the seed alone.

    ``tensors``: those that the object refers to by name, where it does. Raises InvalidArgument or InvalidType, naming
    the entry, for an object that describes no model; and the errors of the classes themselves.
    """
    if not isinstance(config, Mapping) or set(config) - set(OPTIONAL) != set(PARTS):
        raise InvalidArgument(f"from_config: config must hold {', '.join(PARTS)}, got {describe(config)}")
    with seeded(seed):
        built = {name: _build(name, part, tensors or {}) for name, part in config.items()}
    return Parametrised(built["network"], built["sde"], built["parametrisation"], built.get("variance"))


def _describe(part: str, value: Any, tensors: dict[str, Tensor]) -> dict[str, Any]:
    choices = _choices(part)
    name = type(value).__name__
    if choices.get(name) is not type(value):
        raise InvalidType(f"to_config: {part} must be one of {', '.join(choices)}, got {type(value).__qualname__}")
    if dataclasses.is_dataclass(value):
        arguments = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
    else:
        arguments = getattr(value, "config", None)  # type: ignore[assignment]
        if not isinstance(arguments, dict):
            raise InvalidType(f"to_config: {part} must have a dict .config of its arguments, got {describe(arguments)}")
    return {"class": name, "args": {k: _encode(f"{part}.{k}", v, tensors) for k, v in arguments.items()}}


def _encode(name: str, value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[f"config.{name}"] = value.detach()
        return {"tensor": f"config.{name}", "sha256": digest({name: value})}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Sequence):
        return [_encode(f"{name}.{i}", item, tensors) for i, item in enumerate(value)]
    if callable(value):
        raise InvalidType(
            f"to_config: {name} must be a name, got a function, which a file cannot hold: {describe(value)}"
        )
    raise InvalidType(f"to_config: {name} must be a number, a name, a list of these or a tensor, got {describe(value)}")


def _build(part: str, entry: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("args"), Mapping):
        raise InvalidType(f"from_config: {part} must hold class and args, got {describe(entry)}")
    choices = _choices(part)
    name = one_of("from_config", f"{part}.class", entry.get("class"), choices)
    arguments = {key: _decode(value, tensors) for key, value in entry["args"].items()}
    try:
        inspect.signature(choices[name]).bind(**arguments)
    except TypeError as error:
        raise InvalidArgument(f"from_config: {part}.args must be arguments of {name}: {error}") from error
    value = choices[name](**arguments)
    prior = entry.get("prior")
    if prior is None:
        return value
    if not isinstance(prior, Mapping) or set(prior) != {"mean", "std"}:
        raise InvalidType(f"from_config: {part}.prior must hold mean and std, got {describe(prior)}")
    return value.with_prior(_decode(prior["mean"], tensors), _decode(prior["std"], tensors))


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, Mapping):
        name = value.get("tensor")
        if not isinstance(name, str) or name not in tensors:
            raise InvalidArgument(f"from_config: tensors must hold {name!r}, got {', '.join(tensors) or 'none'}")
        return tensors[name]
    return value


def _choices(part: str) -> dict[str, type]:
    module, base = {**PARTS, **OPTIONAL}[part]
    exported = {name: getattr(module, name) for name in module.__all__}
    return {
        name: value
        for name, value in exported.items()
        if isinstance(value, type) and issubclass(value, base) and not inspect.isabstract(value)
    }


def digest(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of tensors: of their names, dtypes, shapes and bytes."""
    value = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().to("cpu").contiguous()
        value.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        value.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return value.hexdigest()
