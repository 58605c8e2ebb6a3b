"""The probability flow that keeps count of the density: traces, the field, and a solver."""

from .trace import Exact, Hutchinson, Trace

__all__ = ["Exact", "Hutchinson", "Trace"]
