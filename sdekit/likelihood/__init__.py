"""Exact likelihoods with their errors, encoding and decoding: one ODE, the probability flow."""

from ..density.trace import Exact, Hutchinson, Trace
from .exact import log_likelihood
from .result import Likelihood
from .transport import decode, encode, interpolate

__all__ = ["Exact", "Hutchinson", "Likelihood", "Trace", "decode", "encode", "interpolate", "log_likelihood"]
