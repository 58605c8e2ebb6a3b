"""Exact likelihoods with their errors, encoding and decoding: one ODE, the probability flow."""

from ..density.trace import Exact, Hutchinson, Trace
from .discrete import DiscreteLikelihood, discrete_log_likelihood
from .exact import log_likelihood
from .result import Likelihood
from .transport import decode, encode, interpolate

__all__ = [
    "DiscreteLikelihood",
    "Exact",
    "Hutchinson",
    "Likelihood",
    "Trace",
    "decode",
    "discrete_log_likelihood",
    "encode",
    "interpolate",
    "log_likelihood",
]
