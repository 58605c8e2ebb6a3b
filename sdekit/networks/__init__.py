"""Networks to put a score model on: plain torch modules, called as network(x, label, y=None)."""

from .embedding import LevelEmbedding
from .mlp import MLP
from .unet import UNet

__all__ = ["MLP", "LevelEmbedding", "UNet"]
