"""Distances between samples, and what of them is noise."""

from .energy import NoiseFloor, energy_distance, noise_floor

__all__ = ["NoiseFloor", "energy_distance", "noise_floor"]
