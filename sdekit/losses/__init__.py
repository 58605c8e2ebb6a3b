"""Objectives: denoising score matching, its weights, and the densities of its times."""

from .denoising import DenoisingScoreMatching
from .dropout import ConditionDropout
from .times import stratified, uniform
from .weights import likelihood, simple

__all__ = ["ConditionDropout", "DenoisingScoreMatching", "likelihood", "simple", "stratified", "uniform"]
