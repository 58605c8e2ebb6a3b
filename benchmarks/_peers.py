"""The peers' samplers around an exact denoiser, and the versions of everything.

Each function gives runs by name: a run takes a number of evaluations and returns samples. ``kinds``: the samplers.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
import platform
import sys
import types
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

import torch
from _targets import F64, HIGH, LOW

Denoise = Callable[[torch.Tensor, float], torch.Tensor]
"""E[x_0 | x_0 + sigma eps = y]."""

Run = Callable[[int], torch.Tensor]


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


def azula(start: torch.Tensor, denoise: Denoise, kinds: Mapping[str, tuple[str, dict[str, Any]]]) -> dict[str, Run]:
    """azula's samplers, a class and its settings each, in its flow time and in log(sigma)."""
    from azula import sample
    from azula.denoise import Denoiser, DiracPosterior
    from azula.noise import RectifiedSchedule, VESchedule

    class Exact(Denoiser):
        def __init__(self, schedule: Any):
            super().__init__()
            self.schedule = schedule

        def forward(self, x_t: torch.Tensor, t: torch.Tensor, **kwargs: object) -> Any:
            alpha, sigma = (float(v) for v in self.schedule(t.double()))
            return DiracPosterior(mean=denoise(x_t / alpha, sigma / alpha))

    flow_time = {"start": HIGH / (1 + HIGH), "stop": 0.0}
    times = {
        "flow time": (RectifiedSchedule(), flow_time, 1 / (1 + HIGH)),
        "flow time to 0.002": (RectifiedSchedule(), {**flow_time, "stop": LOW / (1 + LOW)}, 1 / (1 + HIGH)),
        "log sigma to 0.002": (VESchedule(LOW, HIGH), {}, 1.0),
        "log sigma to 0.02": (VESchedule(0.02, HIGH), {}, 1.0),
    }
    runs = {}
    for name, (kind, settings) in kinds.items():
        for grid, (schedule, ends, scale) in times.items():
            if grid == "flow time" and "E" in kind:  # log(sigma) has no end at 0
                continue

            def run(n: int, kind=kind, settings=settings, schedule=schedule, ends=ends, scale=scale) -> torch.Tensor:
                sampler = getattr(sample, f"{kind}Sampler")
                made = sampler(Exact(schedule), steps=n, silent=True, dtype=F64, **ends, **settings)
                return made(start * scale)

            runs[f"azula {name}, {grid}"] = run
    return runs


def diffusers(start: torch.Tensor, denoise: Denoise, kinds: Mapping[str, tuple[str, dict[str, Any]]]) -> dict[str, Run]:
    """diffusers' schedulers on a table of 1000 levels whose sigma / alpha is log-uniform from 0.002 to 80."""
    import diffusers as library

    library.logging.set_verbosity_error()

    noise = torch.exp(torch.linspace(math.log(LOW), math.log(HIGH), 1000, dtype=F64))
    bar = 1 / (1 + noise**2)
    betas = (1 - bar / torch.cat([torch.ones(1, dtype=F64), bar[:-1]])).tolist()
    spacings: dict[str, dict[str, Any]] = {
        "linspace": {},
        "karras": {"use_karras_sigmas": True},
        "exponential": {"use_exponential_sigmas": True},
    }
    runs = {}
    for kind, (scheduler, settings) in kinds.items():
        for spacing, chosen in spacings.items():

            def run(n: int, scheduler=scheduler, settings={**settings, **chosen}) -> torch.Tensor:  # noqa: B006
                made = getattr(library, scheduler)(trained_betas=betas, prediction_type="sample", **settings)
                made.set_timesteps(n)
                variance_kept = "init_noise_sigma" not in vars(made) or float(made.init_noise_sigma) == 1.0
                x = start / math.sqrt(1 + HIGH**2) if variance_kept else start
                for i, t in enumerate(made.timesteps):
                    sigma = float(made.sigmas[i])
                    y = x * math.sqrt(1 + sigma**2) if variance_kept else x
                    if not variance_kept:
                        made.scale_model_input(x, t)
                    x = made.step(denoise(y, sigma), t, x).prev_sample
                return x

            runs[f"diffusers {kind}, {spacing}"] = run
    return runs


def k_diffusion(
    start: torch.Tensor, denoise: Denoise, kinds: Mapping[str, tuple[str, int, dict[str, Any]]]
) -> dict[str, Run]:
    """k-diffusion's functions, what a step of each costs and its settings, on its own grids."""
    sampling = k_diffusion_sampling()
    grids = {
        f"{name} to {low:g}": functools.partial(grid, sigma_min=low, sigma_max=HIGH)
        for name, grid in (("karras", sampling.get_sigmas_karras), ("exponential", sampling.get_sigmas_exponential))
        for low in (LOW, 0.02)
    }
    runs = {}
    for kind, (function, cost, settings) in kinds.items():
        for name, grid in grids.items():

            def run(n: int, function=function, cost=cost, settings=settings, grid=grid) -> torch.Tensor:
                sigmas = grid((n - 1) // cost + 1).double()
                sampler = getattr(sampling, function)
                return sampler(lambda x, sigma: denoise(x, float(sigma[0])), start, sigmas, disable=True, **settings)

            runs[f"k-diffusion {kind}, {name}"] = run
    return runs


def versions(peers: tuple[str, ...] = ("k-diffusion", "diffusers", "azula")) -> dict[str, str]:
    """Of Python, this package, torch and the peers."""
    found = {"python": platform.python_version()}
    for name in ("sdekit", "torch", *peers):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            spec = importlib.util.find_spec(name.replace("-", "_"))
            found[name] = "not there" if spec is None else "from source"
    return found
