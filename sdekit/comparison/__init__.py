"""Samplers beside each other: error for the network evaluations spent, on exact laws and on anyone's model."""

from .entry import DEFAULT, Entry
from .oracles import oracle
from .result import Comparison, Measured
from .run import compare

__all__ = ["DEFAULT", "Comparison", "Entry", "Measured", "compare", "oracle"]
