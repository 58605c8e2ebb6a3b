"""Draws under a further name."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..types import Device, NoiseSource, Stream


class Named:
    """A source whose draws have a further name: other draws under each name, and the same under the same."""

    def __init__(self, source: NoiseSource, name: Stream):
        self.source = source
        self.name = name

    def __call__(self, x: Tensor, t: object, s: object, stream: Stream = "path") -> Tensor:
        """The source's, of that name."""
        return self.source(x, t, s, (stream, self.name))

    def normal(
        self, shape: Sequence[int], *, stream: Stream, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """The source's, of that name."""
        return self.source.normal(shape, stream=(stream, self.name), dtype=dtype, device=device)

    def uniform(self, n: int, *, stream: Stream, device: Device = None) -> Tensor:
        """The source's, of that name."""
        return self.source.uniform(n, stream=(stream, self.name), device=device)

    def rademacher(self, like: Tensor, *, stream: Stream) -> Tensor:
        """The source's, of that name."""
        return self.source.rademacher(like, stream=(stream, self.name))

    def path(self) -> NoiseSource:
        """The source's own path."""
        return self.source.path()
