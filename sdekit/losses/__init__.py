"""Objectives: denoising score matching, its weights, and the densities of its times."""

from .denoising import DenoisingScoreMatching
from .times import LogitNormal, LogNormal, importance, noise_levels, stratified, uniform
from .weights import EDM, MinSNR, flow, likelihood, simple

__all__ = [
    "DenoisingScoreMatching",
    "EDM",
    "LogNormal",
    "LogitNormal",
    "MinSNR",
    "flow",
    "importance",
    "likelihood",
    "noise_levels",
    "simple",
    "stratified",
    "uniform",
]
