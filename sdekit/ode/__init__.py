"""Methods for ordinary differential equations, which know nothing of diffusion.

An instance integrates any field over an interval in either direction; it is at once a sampler
(``solvers.ProbabilityFlow``) and a likelihood (``log_likelihood``).
"""

from .adaptive import Dopri5
from .base import Field, ODEMethod, Stats
from .dopri8 import Dopri8
from .fixed import RK4, Euler, Heun
from .libraries import SciPy, TorchDiffEq

__all__ = ["RK4", "Dopri5", "Dopri8", "Euler", "Field", "Heun", "ODEMethod", "SciPy", "Stats", "TorchDiffEq"]
