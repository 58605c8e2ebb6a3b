"""Forward processes: x_t | x_0 ~ N(alpha(t) x_0, sigma(t)^2 I), and what follows from it."""

from .base import SDE, GaussianLevel, GaussianSDE, Level
from .edm import EDMSDE
from .prior import NormalPrior, Prior
from .subvp import SubVPSDE
from .ve import VESDE
from .vp import VPSDE

__all__ = [
    "EDMSDE",
    "SDE",
    "GaussianLevel",
    "GaussianSDE",
    "Level",
    "NormalPrior",
    "Prior",
    "SubVPSDE",
    "VESDE",
    "VPSDE",
]
