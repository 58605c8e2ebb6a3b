"""sdekit: score-based generative modelling, DDPM and NCSN as one thing.

Processes (:mod:`sdekit.sdes`), models (:mod:`sdekit.models`), objectives (:mod:`sdekit.losses`), solvers
(:mod:`sdekit.solvers`), ODE methods (:mod:`sdekit.ode`), guidance (:mod:`sdekit.guidance`), and around them
``sample``, ``trajectory``, ``log_likelihood``, ``encode`` and ``decode``; ``certify`` measures a sampler, ``compare``
puts several beside each other.

Data stand at t_min and noise at t_max; the batch comes first, with events of any shape; log-densities are in nats.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import errors, grids, guidance, losses, models, networks, noise, ode, sdes, solvers, types
from .likelihood import (
    DiscreteLikelihood,
    Exact,
    Hutchinson,
    Likelihood,
    LikelihoodBound,
    ProgressiveCoding,
    decode,
    discrete_log_likelihood,
    encode,
    interpolate,
    log_likelihood,
    progressive_coding,
    variational_bound,
)
from .models.convert import convert
from .noise import BrownianPath, KeyedNoise, Noise
from .presets import ddpm, edm, ncsn
from .sampling import Samples, sample, trajectory
from .sdes import (
    EDMSDE,
    SDE,
    VESDE,
    VPSDE,
    CosineSDE,
    DiscreteVESDE,
    DiscreteVPSDE,
    FlowSDE,
    GaussianLevel,
    GaussianSDE,
    Level,
    LinearSDE,
    SubVPSDE,
    TableSDE,
)
from .simulation import langevin, simulate
from .tuning import TunedGrid, tune_grid

if TYPE_CHECKING:
    from . import certification, comparison, data, metrics, plots, training
    from .certification import certify
    from .comparison import compare

__version__ = "0.1.0"

LAZY = ("certification", "comparison", "data", "metrics", "plots", "training")
"""Modules that load more than torch: imported when first asked for."""

FUNCTIONS = {"certify": "certification", "compare": "comparison"}
"""Functions of such modules."""


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return import_module(f"{__name__}.{name}")
    if name in FUNCTIONS:
        return getattr(import_module(f"{__name__}.{FUNCTIONS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "EDMSDE",
    "SDE",
    "VESDE",
    "VPSDE",
    "CosineSDE",
    "DiscreteLikelihood",
    "DiscreteVESDE",
    "DiscreteVPSDE",
    "BrownianPath",
    "Exact",
    "FlowSDE",
    "GaussianLevel",
    "GaussianSDE",
    "Hutchinson",
    "KeyedNoise",
    "Level",
    "Likelihood",
    "LikelihoodBound",
    "LinearSDE",
    "Noise",
    "ProgressiveCoding",
    "Samples",
    "SubVPSDE",
    "TableSDE",
    "TunedGrid",
    "certification",
    "certify",
    "compare",
    "comparison",
    "convert",
    "data",
    "ddpm",
    "decode",
    "discrete_log_likelihood",
    "edm",
    "encode",
    "errors",
    "grids",
    "guidance",
    "interpolate",
    "langevin",
    "log_likelihood",
    "losses",
    "metrics",
    "models",
    "ncsn",
    "networks",
    "noise",
    "ode",
    "plots",
    "progressive_coding",
    "sample",
    "sdes",
    "simulate",
    "solvers",
    "training",
    "trajectory",
    "tune_grid",
    "types",
    "variational_bound",
]
