"""Distances between samples, their intervals, and what of them is noise."""

from .base import Distance, Interval, NoiseFloor
from .energy import energy_distance, noise_floor
from .kernels import MMD, EnergyDistance
from .moments import CovarianceError, GaussianWasserstein, MeanError
from .nearest import NearestNeighbours
from .wasserstein import SlicedWasserstein

__all__ = [
    "MMD",
    "CovarianceError",
    "Distance",
    "EnergyDistance",
    "GaussianWasserstein",
    "Interval",
    "MeanError",
    "NearestNeighbours",
    "NoiseFloor",
    "SlicedWasserstein",
    "energy_distance",
    "noise_floor",
]
