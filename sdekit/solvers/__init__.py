"""Solvers: each is one step over an interval, ``step(model, state, s, noise) -> state``."""

from .adams import Adams
from .ancestral import Ancestral
from .annealed_langevin import AnnealedLangevin
from .base import GaussianSolver, Solver, State
from .churn import Churn
from .ddim import DDIM
from .deis import DEIS
from .dpm_solver import DPMSolver
from .euler_maruyama import EulerMaruyama
from .heun import Heun
from .langevin import Langevin
from .lms import LMS
from .multistep import LinearMultistep, Multistep
from .plms import PLMS
from .predictor_corrector import PredictorCorrector
from .probability_flow import ProbabilityFlow
from .restart import Restart
from .reverse_diffusion import ReverseDiffusion
from .stochastic_runge_kutta import StochasticRungeKutta
from .unipc import UniPC

__all__ = [
    "DDIM",
    "DEIS",
    "LMS",
    "PLMS",
    "Adams",
    "Ancestral",
    "AnnealedLangevin",
    "Churn",
    "DPMSolver",
    "EulerMaruyama",
    "GaussianSolver",
    "Heun",
    "Langevin",
    "LinearMultistep",
    "Multistep",
    "PredictorCorrector",
    "ProbabilityFlow",
    "Restart",
    "ReverseDiffusion",
    "Solver",
    "State",
    "StochasticRungeKutta",
    "UniPC",
]
