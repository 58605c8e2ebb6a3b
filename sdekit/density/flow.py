"""The probability flow with its log-density as further coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import UnsupportedCombination
from ..models.base import GaussianPrediction
from ..ode.base import ODEMethod, Stats
from ..sdes.base import Level
from ..solvers.probability_flow import Flow, InAngle, InTime, Slope
from ..types import NoiseSource, Time, cast, scale
from .adjoint import evaluate
from .trace import Trace

GRADIENTS = ("direct", "adjoint")
"""How gradients flow through a log-density: through every evaluation's graph, or through evaluations made again."""


class Probes:
    """The probes of one solve: fixed, or those of each evaluation in turn, drawn for the whole batch."""

    def __init__(self, trace: Trace, x: Tensor, noise: NoiseSource):
        self.trace = trace.of_batch(x)
        self.x = x
        self.noise = noise
        self.evaluations = 0
        self.followed = False
        """Whether it is known that autograd can follow the network."""
        self.first = trace.vectors(x, noise, 0)
        self.count = 1 if self.first is None else self.first.shape[1]

    def next(self) -> Tensor | None:
        """(B, n, D), or None for an exact trace."""
        number, self.evaluations = self.evaluations, self.evaluations + 1
        if not self.trace.fresh or not number:
            return self.first
        return self.trace.vectors(self.x, self.noise, number)


class FlowWithDensity:
    """d(w, l)/du = (dw/du, div dw/du), in the variables of a frame, with one l a probe: a field of shape (B, D + n).

    An error dw of the path at u and dl of the log-density change log p(x) by grad log p_u(w) . dw + dl, whatever
    follows: p_u is constant along the rest of an exact path but for what l counts. So errors are weighed in nats, with
    the model's score for the gradient: the size of this sum, and, lest its terms cancel by chance, the root of their
    squares, with 1 / std beside the score for a model whose score is not that of its flow. Fresh probes hide the error
    of l in their noise: that of w counts twice then.
    """

    def __init__(
        self,
        flow: Flow,
        event: Sequence[int],
        probes: Probes,
        *,
        index: Tensor | None = None,
        gradient: str | None = None,
    ):
        self.flow = flow
        self.event = tuple(event)
        self.dimension = math.prod(event)
        self.probes = probes
        self.index = index
        self.gradient = gradient

    @property
    def frame(self) -> InTime | InAngle:
        """The variables that it moves."""
        return self.flow.frame

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """The derivative, of the shape of x."""
        probes = self.probes.next()
        if probes is not None and self.index is not None:
            probes = probes[self.index]
        if self.gradient == "adjoint":
            return evaluate(lambda x, graph: self.derivative(x, t, probes, graph=graph), x, self.flow.model)
        return self.derivative(x, t, probes, graph=self.gradient == "direct")

    def active(self, x: Tensor, t: Time) -> Tensor:
        """The derivative of w alone, with 0 for that of l, on which nothing depends."""
        if self.gradient == "adjoint":
            return evaluate(lambda x, graph: self._path(x, t), x, self.flow.model)
        return self._path(x, t)

    def _path(self, x: Tensor, t: Time) -> Tensor:
        place = x[:, : self.dimension].reshape(len(x), *self.event)
        slope = self.flow(place, t).reshape(len(x), self.dimension)
        return torch.cat([slope, torch.zeros_like(x[:, self.dimension :])], 1)

    def derivative(self, x: Tensor, t: Time, probes: Tensor | None, *, graph: bool) -> Tensor:
        """The derivative with those probes; with a graph, gradients flow through it."""
        with torch.inference_mode(False), torch.set_grad_enabled(graph):
            part = self.flow.split(x[:, : self.dimension].reshape(len(x), *self.event), t, graph=graph)
            trace = self.probes.trace
            if not self.probes.followed:
                self._check_followed(part, t)
            with torch.enable_grad():  # a trace of one's own may go through more before it differentiates
                own = trace.divergence(part.value, part.x, probes, graph=graph)
            keep, gain = (k.reshape(-1, 1) if isinstance(k, Tensor) else k for k in (part.keep, part.gain))
            kept = keep * trace.of_identity(part.x, probes)
            divergence = scale(gain, own) + (cast(kept, own.dtype) if isinstance(kept, Tensor) else kept)
            return torch.cat([part.slope.reshape(len(x), self.dimension), divergence], 1)

    def _check_followed(self, part: Slope, t: Time) -> None:
        """Raises UnsupportedCombination where a network that depends on x hides that from autograd; once a solve."""
        self.probes.followed = True
        value, x = part.value, part.x
        if value.requires_grad:
            (found,) = torch.autograd.grad(value, x, torch.ones_like(value), retain_graph=True, allow_unused=True)
            if found is not None:
                return
        level = self.frame.level(t, x)
        with torch.no_grad():
            there = self.flow.model(x + 1e-3 * (1 + x.abs()), level)
        other = there.value if isinstance(there, GaussianPrediction) else self.frame.slope(there)
        if not torch.allclose(other.to(value.dtype).reshape(value.shape), value, rtol=0, atol=0, equal_nan=True):
            raise UnsupportedCombination(
                "the trace needs a network that autograd can follow, got one that depends on x and gives no gradient: "
                "it may run under torch.no_grad, or detach its result"
            )

    def weigh(self, error: Tensor, x: Tensor, slope: Tensor, t: Tensor) -> Tensor:
        """What errors of the coordinates change log p(x) by at most, in nats, (B,)."""
        d = self.dimension
        place, moving = (v[:, :d].reshape(len(v), *self.event) for v in (x, slope))
        score = self.frame.score(place, moving, t).reshape(len(x), d)
        path, density = error[:, :d], error[:, d:].mean(1)
        if self.probes.trace.fresh:
            path, density = 2 * path, torch.zeros_like(density)
        together = (score * path).sum(1) + density
        apart = ((score.abs() + 1.0 / self.frame.std) * path).square().sum(1) + density.square()
        return together.abs() + apart.sqrt()

    def expect(self, times: Sequence[float]) -> None:
        """Computes what the flow needs at the times at once."""
        self.flow.expect(times)

    @property
    def divisible(self) -> bool:
        """Whether the model is."""
        return self.flow.divisible

    def rows(self, index: Tensor) -> FlowWithDensity:
        """The flow of some rows of the batch, with their own probes."""
        held = index if self.index is None else self.index[index]
        return FlowWithDensity(self.flow.rows(index), self.event, self.probes, index=held, gradient=self.gradient)

    def on_behalf(self, index: Tensor) -> FlowWithDensity:
        """The flow of the whole batch, asked for some rows."""
        flow = self.flow.on_behalf(index)
        return FlowWithDensity(flow, self.event, self.probes, index=self.index, gradient=self.gradient)


def carried(field: FlowWithDensity, method: ODEMethod, x: Tensor, t: Level, s: Level) -> tuple[Tensor, Tensor, Stats]:
    """x at s, from x at t; what the log-density of each row has changed by, one estimate a probe, (B, n); the stats.

    log p_s(x_s) = log p_t(x_t) - int_t^s div v dt.    (Chen et al. 2018, eq. 8, arXiv:1806.07366.)
    """
    frame, d = field.frame, field.dimension
    start = torch.cat([frame.enter(x, t).reshape(len(x), d), x.new_zeros(len(x), field.probes.count)], 1)
    end, stats = method.advance(field, start, frame.position(t), frame.position(s))
    volume = d * (frame.log_slope(s) - frame.log_slope(t))
    return frame.leave(end[:, :d].reshape(x.shape), s), volume - end[:, d:], stats
