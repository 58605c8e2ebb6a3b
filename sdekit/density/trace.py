"""How the divergence of a flow is found: the whole trace, or an estimate."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import UnsupportedCombination, flag, one_of, whole
from ..types import NoiseSource, Scalar, Stream

EXACT = 128
"""Coordinates of an event up to which the trace is exact unless another is asked for."""

ROOM, FEW = 2**13, 4
"""Numbers at whose many-fold, inside a network, a processor's cache is full, and the fewest directions that repay their
batching."""


class Trace(ABC):
    """How the divergence of the flow, the trace of its Jacobian J, is found: from products v^T J with vectors v."""

    at_once: int

    @abstractmethod
    def vectors(self, x: Tensor, noise: NoiseSource, evaluation: int) -> Tensor | None:
        """The probes of an evaluation, (B, n, D), for x of shape (B, *event); None where there are none."""

    @abstractmethod
    def divergence(self, v: Tensor, x: Tensor, probes: Tensor | None, *, graph: bool = False) -> Tensor:
        """Estimates of the divergence of v, (B, D), by x, (B, *event): one a probe, (B, n), or one, (B, 1).

        ``graph``: whether gradients are to flow through it.
        """

    def standard_error(self, estimates: Tensor) -> Tensor:
        """Of the mean of a row's estimates, (B,) from (B, n): their deviation over sqrt(n); infinite of one."""
        n = estimates.shape[1]
        return estimates.std(1) / math.sqrt(n) if n > 1 else estimates.new_full((len(estimates),), math.inf)

    def of_identity(self, x: Tensor, probes: Tensor | None) -> Scalar:
        """The same estimates of the identity, whose trace is D: (B, n), or D where it is that for all."""
        return float(math.prod(x.shape[1:]))

    @property
    def fresh(self) -> bool:
        """Whether every evaluation has probes of its own."""
        return False

    def of_batch(self, x: Tensor) -> Trace:
        """The same trace, of no more directions at a time than are found soonest in a batch x: the same in a whole
        solve, however many rows are under way."""
        return self


@dataclass(frozen=True)
class Exact(Trace):
    """The whole trace, sum_i dv_i / dx_i: D products of a unit vector and the Jacobian at each evaluation.

    ``at_once``: directions a backward pass at most, which bounds the memory: that of so many copies of the batch. More
    than one are batched by ``torch.vmap``; a network that it cannot batch needs ``Exact(at_once=1)``. On a CPU fewer
    are taken, as many as make 8,192 numbers with the batch, or one, which is faster there.
    """

    at_once: int = 16

    def __post_init__(self) -> None:
        whole("Exact", "at_once", self.at_once, at_least=1)

    def vectors(self, x: Tensor, noise: NoiseSource, evaluation: int) -> None:
        """None."""

    def of_batch(self, x: Tensor) -> Exact:
        """The same trace, of no more directions at a time than have room."""
        return replace(self, at_once=_fitting(x, math.prod(x.shape[1:]), self.at_once))

    def divergence(self, v: Tensor, x: Tensor, probes: Tensor | None, *, graph: bool = False) -> Tensor:
        """The divergence, (B, 1)."""
        d = v.shape[1]
        row = v.new_zeros(max(1, 2 * d - 1))
        row[len(row) // 2] = 1
        units = row.unfold(0, d, 1)  # unit vectors from the last to the first, all in the memory of one row
        total = v.new_zeros(len(v))
        for start in range(0, d, self.at_once):
            some = units[start : start + self.at_once, None].expand(-1, *v.shape)
            for i, product in enumerate(_products(self, v, x, some, graph, last=start + self.at_once >= d), start):
                total = total + product[:, d - 1 - i]
        return total[:, None]

    def standard_error(self, estimates: Tensor) -> Tensor:
        """0."""
        return estimates.new_zeros(len(estimates))


@dataclass(frozen=True)
class Hutchinson(Trace):
    """Hutchinson's estimate, E v^T J v over probes v of identity covariance, with one product a probe.

    Each row has probes of its own, and each of its ``n`` probes is integrated apart: the standard error of their mean
    is returned. One probe alone has no standard error: it is then infinite. ``distribution``: ``"rademacher"``, whose
    variance is twice the squared off-diagonal of J's symmetric part, or ``"normal"``, which adds the diagonal. Probes
    are fixed while a row is integrated; with ``fresh`` they are drawn anew at every evaluation, at the same price: the
    errors of the quadrature's nodes are then independent, and that of their sum is smaller. ``at_once``: as of
    :class:`Exact`. (Hutchinson 1989; Grathwohl et al. 2019, arXiv:1810.01367; Song et al. 2021, appendix D.2.)

    Below about eight coordinates few sign vectors differ, and equal probes show no spread: ``Exact`` costs no more.
    """

    n: int = 4
    distribution: str = "rademacher"
    fresh: bool = False
    at_once: int = 16

    def __post_init__(self) -> None:
        whole("Hutchinson", "n", self.n, at_least=1)
        one_of("Hutchinson", "distribution", self.distribution, ("rademacher", "normal"))
        flag("Hutchinson", "fresh", self.fresh)
        whole("Hutchinson", "at_once", self.at_once, at_least=1)

    def vectors(self, x: Tensor, noise: NoiseSource, evaluation: int) -> Tensor:
        """(B, n, D)."""
        stream: Stream = ("probe", evaluation) if self.fresh else "probe"
        like = x.reshape(len(x), 1, math.prod(x.shape[1:])).expand(-1, self.n, -1)
        if self.distribution == "rademacher":
            return noise.rademacher(like, stream=stream)
        return noise.normal(like.shape, stream=stream, dtype=x.dtype, device=x.device)

    def of_identity(self, x: Tensor, probes: Tensor | None) -> Scalar:
        """|v|^2 of each probe, (B, n), or D where it is that for all."""
        if self.distribution == "rademacher":
            return super().of_identity(x, probes)
        assert probes is not None
        return probes.square().sum(2)

    def of_batch(self, x: Tensor) -> Hutchinson:
        """The same trace, of no more probes at a time than have room."""
        return replace(self, at_once=_fitting(x, self.n, self.at_once))

    def divergence(self, v: Tensor, x: Tensor, probes: Tensor | None, *, graph: bool = False) -> Tensor:
        """v^T J v of each probe, (B, n)."""
        assert probes is not None
        found = []
        for start in range(0, self.n, self.at_once):
            some = probes[:, start : start + self.at_once].transpose(0, 1)
            product = _products(self, v, x, some, graph, last=start + self.at_once >= self.n)
            found.append((product * some).sum(2))
        return (torch.cat(found) if len(found) > 1 else found[0]).transpose(0, 1)


def _fitting(x: Tensor, directions: int, at_once: int) -> int:
    """How many of the directions of a batch are done at once."""
    if x.device.type != "cpu":
        return at_once if directions > FEW else 1
    room = ROOM // max(1, x.numel())
    return min(at_once, room) if min(room, directions) >= FEW else 1


def _products(trace: Trace, v: Tensor, x: Tensor, vectors: Tensor, graph: bool, *, last: bool) -> Tensor:
    """vector^T dv/dx of each of the vectors, (n, B, D)."""
    if not v.requires_grad:
        return torch.zeros_like(vectors)
    how = {"retain_graph": graph or not last, "create_graph": graph, "allow_unused": True}
    if len(vectors) == 1:
        (row,) = torch.autograd.grad(v, x, vectors[0], **how)
        return torch.zeros_like(vectors) if row is None else row.reshape(vectors.shape)
    try:
        (rows,) = torch.autograd.grad(v, x, vectors, is_grads_batched=True, **how)
    except RuntimeError as error:
        raise UnsupportedCombination(
            f"{trace!r}: torch.vmap must be able to batch the network's backward pass; give at_once=1 to do without "
            f"({error})"
        ) from error
    return torch.zeros_like(vectors) if rows is None else rows.reshape(vectors.shape)


TRACES: dict[str, Trace] = {"exact": Exact(), "hutchinson": Hutchinson(fresh=True)}
"""Traces by name."""


def trace_of(owner: str, trace: str | Trace | None, dimension: int) -> Trace:
    """The trace, that of the name, or, of None, the default for events of so many coordinates."""
    if trace is None:
        return TRACES["exact" if dimension <= EXACT else "hutchinson"]
    if isinstance(trace, Trace):
        return trace
    return TRACES[one_of(owner, "trace", trace, TRACES)]
