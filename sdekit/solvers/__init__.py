"""Solvers: each is one step over an interval, ``step(model, state, s, noise) -> state``."""

from .ancestral import Ancestral
from .annealed_langevin import AnnealedLangevin
from .base import GaussianSolver, Solver, State
from .ddim import DDIM
from .dpm_solver import DPMSolver
from .euler_maruyama import EulerMaruyama
from .heun import Heun
from .langevin import Langevin
from .predictor_corrector import PredictorCorrector
from .probability_flow import ProbabilityFlow
from .reverse_diffusion import ReverseDiffusion

__all__ = [
    "DDIM",
    "Ancestral",
    "AnnealedLangevin",
    "DPMSolver",
    "EulerMaruyama",
    "GaussianSolver",
    "Heun",
    "Langevin",
    "PredictorCorrector",
    "ProbabilityFlow",
    "ReverseDiffusion",
    "Solver",
    "State",
]
