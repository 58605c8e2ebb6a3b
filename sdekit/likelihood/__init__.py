"""Likelihoods with their errors, encoding and decoding, by one ODE, the probability flow; and variational bounds."""

from ..density.trace import Exact, Hutchinson, Trace
from .bound import LikelihoodBound, variational_bound
from .coding import ProgressiveCoding, progressive_coding
from .discrete import DiscreteLikelihood, discrete_log_likelihood
from .exact import log_likelihood
from .result import Likelihood
from .transport import decode, encode, interpolate

__all__ = [
    "DiscreteLikelihood",
    "Exact",
    "Hutchinson",
    "Likelihood",
    "LikelihoodBound",
    "ProgressiveCoding",
    "Trace",
    "decode",
    "discrete_log_likelihood",
    "encode",
    "interpolate",
    "log_likelihood",
    "progressive_coding",
    "variational_bound",
]
