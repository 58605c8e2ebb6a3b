"""One Brownian path a row: increments that add up over intervals."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..types import Device, Scalar, Stream
from .checks import Seed, check_ids, fold
from .counter import MASK, inverse_normal_cdf, open_uniform, philox
from .keyed import KeyedNoise

DEPTH = 32
"""Levels of the tree below an octave: the path is linear within 2^-DEPTH of one."""

LOWEST = -128
"""The lowest octave is [2^LOWEST, 2^(LOWEST + 1)); what lies below is one interval that begins at 0."""

LEVEL = torch.arange(DEPTH)[:, None]
STD = torch.tensor([0.5 * 2.0 ** (-0.5 * i) for i in range(DEPTH)], dtype=torch.float64)[:, None]
"""What a midpoint adds to its ends' mean, in octaves of length 1."""

CHUNK = 2**16
"""Normals made at a time: about what a core's own cache holds."""


class BrownianPath:
    """Draws that are the increments of one keyed Brownian path a row: they add up over intervals.

    noise(x, t, s) = (W(c_t) - W(c_s)) / sqrt(c_t - c_s), with c the clock of a level: (sigma / alpha)^2 on a Gaussian
    process, t on any other. So a coarse grid, a fine one and the stages of a step see one path: W(a, c) = W(a, b) +
    W(b, c) with W(a, b) = sqrt(b - a) noise(x, b, a), to 4e-15 sqrt(c) in float64. A clock that is computed in two
    ways, as a number and in a tensor, and differs by its last bit moves W by 2e-11 sqrt(c), root mean square.

    Each octave [2^k, 2^(k + 1)) of the clock has an increment of its own and a Brownian bridge within, by Lévy's
    midpoints: W(2^k (1 + u)) - W(2^k) = 2^(k/2) (u z_0 + sum_l 2^(-l/2 - 1) hat_l(u) z_l), where z_l is the normal of
    the node of level l = 0, ..., 31 that holds u and hat_l rises from 0 at its ends to 1 at its midpoint. The law is
    Brownian at the nodes, and linear between neighbours, d = 2^(k - 32) apart: a draw's variance is 1 - d / (2 (c_t -
    c_s)) at least where the interval is longer than d. An empty interval gives 0.
    (Lévy 1948; Li et al. 2020, arXiv:2001.01328; Jelinčič et al. 2024, arXiv:2405.06464.)

    A row's path depends on (seed, id) alone, bit for bit, as :class:`KeyedNoise`'s draws do; every stream but
    ``"path"``, and ``normal``, ``uniform`` and ``rademacher``, are that source's. The ends of the last interval are
    remembered, because a run's next interval begins there; no result depends on it.

    ``ids`` names the rows, one distinct whole number in [0, 2^32) each; without it they count from 0. Raises
    InvalidArgument where the batch has another number of rows than ids, or a clock is negative or not finite.

    Example: ``coarse, fine = (sk.sample(model, (8, 2), steps=n, noise=sk.BrownianPath(seed=0)) for n in (50, 500))``.
    """

    def __init__(self, seed: Seed = 0, ids: Tensor | Sequence[int] | None = None):
        self.seed = seed
        self.ids = None if ids is None else check_ids("BrownianPath", ids)
        self._keyed = KeyedNoise(seed, self.ids)
        self._key = _path_key(fold(seed))
        self._last: dict[_Key, _End] = {}

    def rows(self, index: Tensor) -> BrownianPath:
        """The paths of some rows of the batch."""
        return BrownianPath(self.seed, index.cpu() if self.ids is None else self.ids[index.cpu()])

    def __call__(self, x: Tensor, t: Any, s: Any, stream: Stream = "path") -> Tensor:
        """The scaled increment between the levels s and t; another stream than the path's is an independent draw."""
        if stream != "path":
            return self._keyed(x, t, s, stream)
        if self.ids is not None and len(self.ids) != len(x):
            raise InvalidArgument(f"BrownianPath: ids must name every row, got {len(self.ids)} ids for {len(x)} rows")
        if not x.numel():
            return torch.zeros_like(x)
        a, b = _clocks(t.clock, s.clock)
        after = self._end(torch.maximum(a, b), x)  # first: a run remembers it
        increment = self._between(self._end(torch.minimum(a, b), x), after, x)
        # an empty interval is divided by infinity
        gap = a - b
        root = (torch.sign(gap) * torch.sqrt(gap.abs())).masked_fill_(gap == 0, math.inf)
        return (increment / root.to(x.device)[:, None]).to(x.dtype).reshape(x.shape)

    def normal(
        self, shape: Sequence[int], *, stream: Stream, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """Standard normals of the given shape (B, *event): :class:`KeyedNoise`'s."""
        return self._keyed.normal(shape, stream=stream, dtype=dtype, device=device)

    def uniform(self, n: int, *, stream: Stream, device: Device = None) -> Tensor:
        """Numbers uniform on (0, 1), (n,) in float64: :class:`KeyedNoise`'s."""
        return self._keyed.uniform(n, stream=stream, device=device)

    def rademacher(self, like: Tensor, *, stream: Stream) -> Tensor:
        """Independent signs, +1 or -1: :class:`KeyedNoise`'s."""
        return self._keyed.rademacher(like, stream=stream)

    def _between(self, early: _End, late: _End, x: Tensor) -> Tensor:
        """W(late) - W(early), (rows, width)."""
        low, high = int(early.octave.min()), int(late.octave.max())
        within = late.begun - early.begun
        if low == high:
            return within
        crossed = late.begun + early.left
        if high - low > 1:
            k = torch.arange(low + 1, high, device=early.octave.device)[:, None]
            inside = (early.octave[None] < k) & (k < late.octave[None])
            crossed = crossed + self._sum(k, torch.zeros_like(k), inside * torch.sqrt(_length(k)), x)[0]
        return torch.where((early.octave == late.octave).to(x.device)[:, None], within, crossed)

    def _end(self, c: Tensor, x: Tensor) -> _End:
        """What the path has done within the octave of c, before and after: remembered where c is one number."""
        key = (float(c), len(x), x[:1].numel(), x.device) if len(c) == 1 else None
        known = None if key is None else self._last.get(key)
        if known is not None:
            return known
        octave, node, weight = _nodes(c)
        begun, root = self._sum(octave, node, weight, x)
        end = _End(octave, begun, root * torch.sqrt(_length(octave)).to(x.device)[:, None] - begun)
        if key is not None:
            self._last = dict([*self._last.items(), (key, end)][-2:])
        return end

    def _sum(self, octave: Tensor, node: Tensor, weight: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over l of weight_l z_l, and z_0: the normals of nodes given as (L, 1) or (L, B), each (rows, width)."""
        rows, width = len(x), x[:1].numel()
        blocks = (width + 1) // 2
        octave = (octave - LOWEST + 1) << 20
        low, high, weight = (v.to(x.device).expand(weight.shape) for v in (node, octave, weight))  # a node has 32 bits
        ids = torch.arange(rows, device=x.device) if self.ids is None else self.ids.to(x.device)
        pairs = torch.arange(rows * blocks, device=x.device)
        step = max(1, CHUNK // (2 * len(weight)))
        sums, firsts = [], []
        for i in range(0, rows * blocks, step):
            some = pairs[i : i + step]
            row = some // blocks
            mine = slice(None) if weight.shape[1] == 1 else row
            w = philox((some - row * blocks, ids[row], low[:, mine], high[:, mine]), self._key)
            z = inverse_normal_cdf(open_uniform(torch.stack((w[0], w[2]), -1), torch.stack((w[1], w[3]), -1)))
            firsts.append(z[0].clone())  # not a view, which would keep every level's normals
            total, *others = (z * weight[:, mine, None]).unbind()
            for other in others:  # in this order on every device, and a node that a row has not changes no bit of it
                total += other
            sums.append(total)
        return _joined(sums, rows, width), _joined(firsts, rows, width)

    def path(self) -> BrownianPath:
        """The source itself."""
        return self

    def __repr__(self) -> str:
        return f"BrownianPath(seed={self.seed}{'' if self.ids is None else f', ids={len(self.ids)} rows'})"


class _End(NamedTuple):
    """Where a clock stands: its octave, (1,) or (B,), and the path's increments there, (rows, width)."""

    octave: Tensor
    begun: Tensor
    """From the octave's beginning to the clock."""
    left: Tensor
    """From the clock to the octave's end."""


_Key = tuple[float, int, int, torch.device]


def _path_key(seed: int) -> tuple[int, int]:
    """A key of Philox for the paths of a seed, which no other draw has."""
    name = int.from_bytes(hashlib.blake2b(b"BrownianPath", digest_size=8).digest(), "little")
    words = philox((name & MASK, name >> 32, 0, 0), (seed & MASK, seed >> 32))
    return words[0], words[1]


def _clocks(t: Scalar, s: Scalar) -> list[Tensor]:
    """Two clocks as float64 of one shape, (1,) on the host for numbers and (B,) for rows; a named error for others."""
    like = next((v.reshape(-1) for v in (t, s) if isinstance(v, Tensor)), torch.empty(1)).to(torch.float64)
    clocks = [v.to(like).reshape(-1) if isinstance(v, Tensor) else torch.full_like(like, v) for v in (t, s)]
    for c in clocks:
        if not bool((c >= 0).all() & (c < math.inf).all()):
            raise InvalidArgument(f"BrownianPath: a level's clock must be finite and >= 0, got {c.tolist()[:8]}")
    return clocks


def _length(octave: Tensor) -> Tensor:
    """The length of an octave: 2^k, and 2^LOWEST for the interval below the lowest."""
    # 2^k by its bits: devices differ in the last bit of a power
    return ((octave.clamp(min=LOWEST) + 1023) << 52).view(torch.float64)


def _nodes(c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The octave of each clock, (R,), its nodes and their weights, (DEPTH + 1, R): the octave's root, then each level.

    A root is node 0; node 2^l + i is the i-th of level l.
    """
    octave = (torch.frexp(c).exponent.to(torch.int64) - 1).masked_fill(c < 2.0**LOWEST, LOWEST - 1)
    length = _length(octave)
    start = length.masked_fill(octave < LOWEST, 0.0)
    place = ((c - start) / length * 2.0**52).to(torch.int64)[None]
    level, std = (v.to(c.device) for v in (LEVEL, STD))
    node = (1 << level) + (place >> (52 - level))
    # the shift's product is right modulo 2^52 whether or not int64 overflows
    beyond = (place << level) & (2**52 - 1)
    hat = torch.minimum(beyond, 2**52 - beyond).to(torch.float64) * 2.0**-51
    nodes = torch.cat([torch.zeros_like(node[:1]), node])
    weights = torch.cat([place.to(torch.float64) * 2.0**-52, hat * std]) * torch.sqrt(length)
    return octave, nodes, weights


def _joined(parts: list[Tensor], rows: int, width: int) -> Tensor:
    return torch.cat(parts).reshape(rows, -1)[:, :width]
