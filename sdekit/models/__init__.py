"""Score models: networks with their parametrisations, and exact models."""

from .analytic import AnalyticVariance, NoiseResidual, noise_residual
from .base import GaussianPrediction, Given, Prediction, ScoreModel, ScorePrediction
from .convert import Converted
from .empirical import Empirical
from .function import FromFunction
from .mixture import GaussianMixture
from .parametrisations import (
    X0,
    Epsilon,
    FlowVelocity,
    Karras,
    Parametrisation,
    PosteriorMean,
    ScaledScore,
    Scaling,
    Score,
    VPrediction,
)
from .parametrised import Parametrised
from .variances import LearnedLogit, LearnedRange, Variance

__all__ = [
    "X0",
    "AnalyticVariance",
    "Converted",
    "Empirical",
    "Epsilon",
    "FlowVelocity",
    "FromFunction",
    "GaussianMixture",
    "GaussianPrediction",
    "Given",
    "Karras",
    "LearnedLogit",
    "LearnedRange",
    "NoiseResidual",
    "Parametrisation",
    "Parametrised",
    "PosteriorMean",
    "Prediction",
    "ScaledScore",
    "Scaling",
    "Score",
    "ScoreModel",
    "ScorePrediction",
    "VPrediction",
    "Variance",
    "noise_residual",
]
