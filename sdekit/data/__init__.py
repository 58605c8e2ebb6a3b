"""Small real data sets that come with scikit-learn, and what they need: ``pip install 'sdekit[demo]'``."""

from .base import MissingExtra, dequantise
from .dequantised import Dequantised
from .digits import Digits, digits
from .logit import Logit
from .swissroll import roll_position, swiss_roll, swiss_roll_density

__all__ = [
    "Dequantised",
    "Digits",
    "Logit",
    "MissingExtra",
    "dequantise",
    "digits",
    "roll_position",
    "swiss_roll",
    "swiss_roll_density",
]
