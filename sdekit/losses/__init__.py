"""Objectives: score matching by denoising, implicit and sliced; their weights, and the densities of their times."""

from .denoising import DenoisingScoreMatching
from .dropout import ConditionDropout
from .implicit import ImplicitScoreMatching
from .sliced import SlicedScoreMatching
from .times import LogitNormal, LogNormal, importance, noise_levels, stratified, uniform
from .variational import Hybrid, Terms, VariationalBound
from .weights import EDM, MinSNR, flow, likelihood, simple

__all__ = [
    "ConditionDropout",
    "DenoisingScoreMatching",
    "EDM",
    "Hybrid",
    "ImplicitScoreMatching",
    "LogNormal",
    "LogitNormal",
    "MinSNR",
    "SlicedScoreMatching",
    "Terms",
    "VariationalBound",
    "flow",
    "importance",
    "likelihood",
    "noise_levels",
    "simple",
    "stratified",
    "uniform",
]
