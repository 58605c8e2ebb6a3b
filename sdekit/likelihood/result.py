"""What a likelihood is returned as: a number a row, its errors, and where they come from."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..errors import InvalidArgument, number


@dataclass(frozen=True)
class Likelihood:
    """Log-densities of a batch, with their errors; all in nats, one a row."""

    log_prob: Tensor
    """(B,): of p at t_min."""
    trace_se: Tensor
    """(B,): the standard error of the trace estimate; 0 where the trace is exact, infinite of a single probe."""
    nfe: Tensor
    """(B,) network evaluations, those of the error budget included."""
    dimension: int
    """Coordinates of an event."""
    probes: int = 0
    """Independent estimates of the trace; 0 where it is exact."""
    solver: Tensor | None = None
    """(B,): what the integrator's errors add up to; infinite where a method has no estimate, and of the libraries'
    methods an estimate rather than a bound. None without a budget."""
    prior: Tensor | None = None
    """(B,): a bound of |log p_T - log prior| at x_T, by the model's own score there. None without a budget."""
    truncation: Tensor | None = None
    """(B,): an estimate of what log p at t_min differs by from log p_0, the law of clean data; None where a process
    has no clean level, and without a budget. Not part of ``error``, which is of p at t_min."""

    @property
    def error(self) -> Tensor | None:
        """(B,): a bound of all but the trace's error, solver + prior; None without a budget."""
        return None if self.solver is None or self.prior is None else self.solver + self.prior

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """log_prob -+ (q trace_se + error), (B,) each: q is Student's quantile for as many probes, at the level.

        An exact trace leaves the error alone; a likelihood without a budget leaves the trace's part alone.
        """
        from scipy.stats import t as student

        level = number("Likelihood.interval", "level", level, above=0.0, below=1.0)
        half = self.trace_se if self.probes != 1 else self.trace_se.new_full(self.trace_se.shape, math.inf)
        if self.probes > 1:
            half = half * float(student.ppf(0.5 + 0.5 * level, self.probes - 1))
        if self.error is not None:
            half = half + self.error
        return self.log_prob - half, self.log_prob + half

    def bits_per_dim(self, bin_width: float) -> Tensor:
        """-log2(p bin_width^D) / D of each row, (B,): the code length of data whose levels stand bin_width apart.

        ``bin_width``: the width of a level in the model's own units, 1/256 for 8-bit data scaled to [0, 1] and 2/256
        for [-1, 1]. The data must have been dequantised by uniform noise of that width. (Theis et al. 2016, section
        3.1, arXiv:1511.01844.)
        """
        bin_width = number("bits_per_dim", "bin_width", bin_width, above=0.0)
        if not self.dimension:
            raise InvalidArgument("bits_per_dim: an event must have at least one coordinate, got none")
        return -self.log_prob / (self.dimension * math.log(2)) - math.log2(bin_width)
