"""Objectives: score matching by denoising, implicit and sliced; their weights, and the densities of their times."""

from .denoising import DenoisingScoreMatching
from .implicit import ImplicitScoreMatching
from .sliced import SlicedScoreMatching
from .times import LogitNormal, LogNormal, importance, noise_levels, stratified, uniform
from .weights import EDM, MinSNR, flow, likelihood, simple

__all__ = [
    "DenoisingScoreMatching",
    "EDM",
    "ImplicitScoreMatching",
    "LogNormal",
    "LogitNormal",
    "MinSNR",
    "SlicedScoreMatching",
    "flow",
    "importance",
    "likelihood",
    "noise_levels",
    "simple",
    "stratified",
    "uniform",
]
