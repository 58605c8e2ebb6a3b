"""Solvers: each is one step over an interval, ``step(model, state, s, noise) -> state``."""

from .adams import Adams
from .adaptive_sde import AdaptiveSDE
from .ancestral import Ancestral
from .ancestral_step import AncestralStep
from .annealed_langevin import AnnealedLangevin
from .base import GaussianSolver, Solver, State
from .churn import Churn
from .ddim import DDIM
from .deis import DEIS
from .dpm_singlestep import DPMSolverSinglestep
from .dpm_solver import DPMSolver
from .dpm_solver_sde import DPMSolverSDE
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
from .sa_solver import SASolver
from .seeds import SEEDS
from .stochastic_runge_kutta import StochasticRungeKutta
from .unipc import UniPC

__all__ = [
    "DDIM",
    "DEIS",
    "LMS",
    "PLMS",
    "SEEDS",
    "Adams",
    "AdaptiveSDE",
    "Ancestral",
    "AncestralStep",
    "AnnealedLangevin",
    "Churn",
    "DPMSolver",
    "DPMSolverSDE",
    "DPMSolverSinglestep",
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
    "SASolver",
    "Solver",
    "State",
    "StochasticRungeKutta",
    "UniPC",
]
