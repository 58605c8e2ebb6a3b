"""Score models: networks with their parametrisations, and exact models."""

from .base import GaussianPrediction, Given, Prediction, ScoreModel, ScorePrediction
from .function import FromFunction
from .mixture import GaussianMixture
from .parametrisations import X0, Epsilon, Karras, Parametrisation, ScaledScore, Scaling, Score, VPrediction
from .parametrised import Parametrised

__all__ = [
    "X0",
    "Epsilon",
    "FromFunction",
    "GaussianMixture",
    "GaussianPrediction",
    "Given",
    "Karras",
    "Parametrisation",
    "Parametrised",
    "Prediction",
    "ScaledScore",
    "Scaling",
    "Score",
    "ScoreModel",
    "ScorePrediction",
    "VPrediction",
]
