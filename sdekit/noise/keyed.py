"""The keyed source: numbers that depend on a seed, a row's id and the draw, and on nothing else."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import MOST, InvalidArgument, real, whole
from ..types import Device, Stream
from .checks import Seed, check_ids, check_normal, fold
from .counter import MASK, Word, bits, inverse_normal_cdf, open_uniform, philox

if TYPE_CHECKING:
    from .path import BrownianPath

_Draw = tuple[Word, Word]


class KeyedNoise:
    """Counter-based draws: row i receives the same numbers alone, in a batch of 512, and in any split or order.

    Every draw is Philox 4x32-10 of (seed; id, interval and stream, coordinate), turned into normals by Wichura's
    rational approximation of the inverse normal distribution function, in additions, multiplications, divisions and
    square roots of float64 alone. These are rounded alike everywhere: the same bits on every device, for every shape.
    A call is a pure function: to draw twice in one interval, name two streams.

    Salmon et al. 2011 (Random123, doi 10.1145/2063384.2063405); Wichura 1988 (AS 241, doi 10.2307/2347330).

    ``ids`` names the rows of the batch, one distinct whole number in [0, 2^32) each; without it they count from 0.
    Raises InvalidArgument where the batch has another number of rows than ids.
    """

    def __init__(self, seed: Seed = 0, ids: Tensor | Sequence[int] | None = None):
        self.seed = seed
        self._seed = fold(seed)
        self.ids = None if ids is None else check_ids("KeyedNoise", ids)

    def rows(self, index: Tensor) -> KeyedNoise:
        """The noise of some rows of the batch."""
        if self.ids is None:
            return KeyedNoise(self.seed, index.cpu())
        return KeyedNoise(self.seed, self.ids[index.cpu()])

    def __call__(self, x: Tensor, t: Any, s: Any, stream: Stream = "path") -> Tensor:
        """The standard normal of the interval between the levels s and t: the same for the same ids and interval."""
        return self._normal(x.shape, self._draw(stream, t.t, s.t), x.dtype, x.device)

    def normal(
        self, shape: Sequence[int], *, stream: Stream, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """Standard normals of the given shape (B, *event)."""
        shape, dtype = check_normal("KeyedNoise", shape, dtype)
        kind = dtype or torch.get_default_dtype()
        return self._normal(shape, self._draw(stream), kind, torch.device(device or "cpu"))

    def uniform(self, n: int, *, stream: Stream, device: Device = None) -> Tensor:
        """Numbers uniform on (0, 1), (n,) in float64: one a row."""
        n = whole("KeyedNoise", "n", n, at_least=0, at_most=MOST)
        return open_uniform(*self._words(n, 1, self._draw(stream), torch.device(device or "cpu")))[:, 0]

    def rademacher(self, like: Tensor, *, stream: Stream) -> Tensor:
        """Independent signs, +1 or -1."""
        like = real("KeyedNoise", "like", like)
        high, _ = self._words(len(like), like[:1].numel(), self._draw(stream), like.device)
        return (2 * (high >> 31) - 1).to(like.dtype).reshape(like.shape)

    def _normal(self, shape: Sequence[int], draw: _Draw, dtype: torch.dtype, device: torch.device) -> Tensor:
        width = math.prod(shape[1:])
        u = open_uniform(*self._words(shape[0], width, draw, device))
        return inverse_normal_cdf(u).to(dtype).reshape(tuple(shape))

    def _words(self, rows: int, width: int, draw: _Draw, device: torch.device) -> tuple[Tensor, Tensor]:
        """Two 32-bit words a coordinate, each (rows, width) in int64."""
        if self.ids is not None and len(self.ids) != rows:
            raise InvalidArgument(f"KeyedNoise: ids must name every row, got {len(self.ids)} ids for {rows} rows")
        ids = torch.arange(rows, device=device) if self.ids is None else self.ids.to(device)
        blocks = torch.arange((width + 1) // 2, device=device)
        low, high = (w.to(device).reshape(-1, 1) if isinstance(w, Tensor) else w for w in draw)
        key = (self._seed & MASK, self._seed >> 32)
        shape = (rows, len(blocks))
        w0, w1, w2, w3 = philox((blocks.expand(shape), ids[:, None].expand(shape), low, high), key)
        size = (rows, 2 * len(blocks))
        first, second = (torch.stack(pair, -1).reshape(size)[:, :width] for pair in ([w0, w2], [w1, w3]))
        return first, second

    def _draw(self, stream: Stream, t: float | Tensor = 0.0, s: float | Tensor = 0.0) -> _Draw:
        """64 bits that name a draw: Philox of the bits of t and s under the hash of the stream."""
        name = int.from_bytes(hashlib.blake2b(repr(stream).encode(), digest_size=8).digest(), "little")
        w = philox((*bits(t), *bits(s)), (name & MASK, name >> 32))
        return w[0], w[1]

    def path(self) -> BrownianPath:
        """One Brownian path a row, of the same seed and ids: the same at every call."""
        from .path import BrownianPath

        return BrownianPath(self.seed, self.ids)

    def __repr__(self) -> str:
        return f"KeyedNoise(seed={self.seed}{'' if self.ids is None else f', ids={len(self.ids)} rows'})"
