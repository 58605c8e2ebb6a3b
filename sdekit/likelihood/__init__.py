"""Exact likelihoods with their errors, encoding and decoding: one ODE, the probability flow."""

from .exact import log_likelihood
from .result import Likelihood
from .trace import Exact, Hutchinson, Trace
from .transport import decode, encode

__all__ = ["Exact", "Hutchinson", "Likelihood", "Trace", "decode", "encode", "log_likelihood"]
