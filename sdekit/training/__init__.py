"""Training: the loop, its settings, checkpoints that survive a crash, and models in one file."""

from .files import load_model, save_model
from .settings import Settings
from .trainer import Trained, train

__all__ = ["Settings", "Trained", "load_model", "save_model", "train"]
