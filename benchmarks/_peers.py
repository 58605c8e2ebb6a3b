"""What the benchmarks share: k-diffusion without its training code, and the versions of everything."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import platform
import sys
import types
from importlib import metadata
from typing import Any


@functools.cache
def k_diffusion_sampling() -> Any:
    """The sampling module of k-diffusion; raises ImportError where it is not installed.

    The package's own __init__ imports training code; sampling needs one function of utils alone.
    """
    spec = importlib.util.find_spec("k_diffusion")
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("k_diffusion is not installed")
    package = types.ModuleType("k_diffusion")
    package.__spec__ = spec
    package.__path__ = list(spec.submodule_search_locations)
    utils = types.ModuleType("k_diffusion.utils")
    utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]  # type: ignore[attr-defined]
    sys.modules.update({"k_diffusion": package, "k_diffusion.utils": utils})
    return importlib.import_module("k_diffusion.sampling")


def versions() -> dict[str, str]:
    """Of Python, this package, torch and the peers."""
    found = {"python": platform.python_version()}
    for name in ("sdekit", "torch", "k-diffusion", "diffusers", "azula"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            spec = importlib.util.find_spec(name.replace("-", "_"))
            found[name] = "not there" if spec is None else "from source"
    return found
