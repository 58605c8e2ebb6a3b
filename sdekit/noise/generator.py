"""The fast source: torch's own generators."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import MOST, real, whole
from ..types import Device, Stream
from .checks import Seed, check_normal, fold
from .counter import MASK
from .path import BrownianPath


class Noise:
    """Independent draws from torch generators of its own, one a device: fast, and the same for the same calls.

    The numbers that a row receives depend on the batch around it; :class:`KeyedNoise` is the source that does not.

    Example: ``z = Noise(seed=0).normal((64, 2), stream="prior")``.
    """

    def __init__(self, seed: Seed = 0):
        self.seed = seed
        self._seed = fold(seed)
        self._generators: dict[torch.device, torch.Generator] = {}

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(_word(self._seed))
        return self._generators[device]

    def __call__(self, x: Tensor, t: Any, s: Any, stream: Stream = "path") -> Tensor:
        """A standard normal like x; every call draws afresh, whatever the interval and the stream."""
        return torch.randn(x.shape, generator=self._generator(x.device), dtype=x.dtype, device=x.device)

    def normal(
        self, shape: Sequence[int], *, stream: Stream, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """Standard normals of the given shape (B, *event)."""
        shape, dtype = check_normal("Noise", shape, dtype)
        device = torch.device(device or "cpu")
        return torch.randn(shape, generator=self._generator(device), dtype=dtype, device=device)

    def uniform(self, n: int, *, stream: Stream, device: Device = None) -> Tensor:
        """Numbers uniform on [0, 1), (n,) in float64."""
        n = whole("Noise", "n", n, at_least=0, at_most=MOST)
        device = torch.device(device or "cpu")
        return torch.rand(n, generator=self._generator(device), dtype=torch.float64, device=device)

    def rademacher(self, like: Tensor, *, stream: Stream) -> Tensor:
        """Independent signs, +1 or -1."""
        like = real("Noise", "like", like)
        bits = torch.randint(0, 2, like.shape, generator=self._generator(like.device), device=like.device)
        return (2 * bits - 1).to(like.dtype)

    def path(self) -> BrownianPath:
        """One Brownian path a row, of a seed drawn afresh at every call."""
        return BrownianPath(int(torch.randint(2**62, (), generator=self._generator(torch.device("cpu")))))

    def __repr__(self) -> str:
        return f"Noise(seed={self.seed})"


def _word(seed: int) -> int:
    """A seed as 32 bits, which is all that torch's generator on the CPU reads of it."""
    return (
        seed if seed <= MASK else int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=4).digest(), "little")
    )
