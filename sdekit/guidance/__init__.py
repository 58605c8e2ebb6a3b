"""Guidance: models made of models, for which no solver and no likelihood needs to change."""

from .base import Guidance
from .classifier import Classifier
from .classifier_free import ClassifierFree

__all__ = ["Classifier", "ClassifierFree", "Guidance"]
