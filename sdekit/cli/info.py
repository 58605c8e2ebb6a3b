"""``sdekit info``: versions, devices, and what there is to combine."""

from __future__ import annotations

import argparse
import inspect
import json
import platform
from importlib import metadata
from types import ModuleType

HELP = "print versions, devices, and the processes, parametrisations, guidance, solvers and ODE methods there are"

PACKAGES = ("torch", "numpy", "scipy", "matplotlib", "scikit-learn", "torchdiffeq", "safetensors", "tqdm")


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(args: argparse.Namespace) -> None:
    """Prints the information."""
    known = collect()
    if args.json:
        print(json.dumps(known, indent=2))
        return
    for title, value in known.items():
        if isinstance(value, dict):
            print(f"{title}:")
            width = max(map(len, value))
            for name, entry in value.items():
                print(f"  {name:<{width}}  {entry}")
        else:
            print(f"{title}: {', '.join(value)}")


def collect() -> dict[str, dict[str, str] | list[str]]:
    """What the command prints, as a JSON object."""
    import torch

    from .. import __version__, grids, guidance, losses, models, networks, ode, sdes, solvers

    versions = {"sdekit": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    devices = {"cpu": f"{torch.get_num_threads()} threads"}
    for i in range(torch.cuda.device_count()):
        devices[f"cuda:{i}"] = torch.cuda.get_device_name(i)
    return {
        "versions": versions,
        "devices": devices,
        "processes": classes(sdes, sdes.SDE),
        "models": classes(models, models.ScoreModel),
        "parametrisations": classes(models, models.Parametrisation),
        "guidance": classes(guidance, guidance.Guidance),
        "losses": [name for name in classes(losses, object) if hasattr(getattr(losses, name), "per_sample")],
        "weights": list(losses.weights.NAMES),
        "time densities": list(losses.times.NAMES),
        "solvers": classes(solvers, solvers.Solver),
        "ODE methods": classes(ode, ode.ODEMethod),
        "grids": [*grids.NAMES, *grids.TABLE_NAMES],
        "networks": classes(networks, object),
    }


def classes(module: ModuleType, base: type) -> list[str]:
    """The concrete classes of a kind that a package exports, in its own order."""
    exported = ((name, getattr(module, name)) for name in module.__all__)
    return [
        name
        for name, value in exported
        if isinstance(value, type) and issubclass(value, base) and not inspect.isabstract(value)
    ]
