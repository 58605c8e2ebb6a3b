"""Forward processes: x_t | x_0 ~ N(alpha(t) x_0, sigma(t)^2 I), and what follows from it."""

from . import tables
from .base import SDE, Level
from .cosine import CosineSDE
from .discrete_ve import DiscreteVESDE
from .discrete_vp import DiscreteVPSDE
from .edm import EDMSDE
from .fitted import FittedPrior
from .flow import FlowSDE
from .gaussian import GaussianLevel, GaussianSDE
from .linear import LinearSDE
from .prior import NormalPrior, Prior
from .subvp import SubVPSDE
from .table import TableSDE
from .ve import VESDE
from .vp import VPSDE

__all__ = [
    "EDMSDE",
    "SDE",
    "CosineSDE",
    "DiscreteVESDE",
    "DiscreteVPSDE",
    "FittedPrior",
    "FlowSDE",
    "GaussianLevel",
    "GaussianSDE",
    "Level",
    "LinearSDE",
    "NormalPrior",
    "Prior",
    "SubVPSDE",
    "TableSDE",
    "VESDE",
    "VPSDE",
    "tables",
]
