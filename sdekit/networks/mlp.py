"""A residual MLP for data of any event shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import silu

from .checks import labelled, whole, wholes
from .embedding import Condition


class ResidualLayer(nn.Module):
    """h + W2 silu((1 + a) W1 silu(h) + b), where (a, b) are linear in the level embedding."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.film = nn.Linear(embedding, 2 * width)
        self.outer = nn.Linear(width, width)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.film(e).chunk(2, -1)
        out: Tensor = h + self.outer(silu((1 + scale) * self.inner(silu(h)) + shift))
        return out


class MLP(nn.Module):
    """A residual SiLU network on the flattened event, told the level by scale and shift (FiLM).

    h_0 = W x,    h_k = h_(k-1) + W2 silu((1 + a_k(e)) W1 silu(h_(k-1)) + b_k(e)),    F = V silu(h_depth)

    FiLM: Perez et al. 2017 (arXiv:1709.07871). V starts at zero, so that an untrained network answers 0.

    x: (B, *event_shape), also () for scalars; label: (B,); y: (B,) integers, or None for "no class". Returns the shape
    of x; with ``outputs`` = 2, as a learned variance needs, twice its channels, (B, 2 C, ...). Raises ValueError,
    naming the argument, for sizes that are not whole numbers and for shapes that do not fit.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        width: int = 128,
        depth: int = 4,
        embedding: int = 64,
        classes: int = 0,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.event = tuple(wholes("MLP", "event_shape", event_shape, 1))
        width, depth = whole("MLP", "width", width, 1), whole("MLP", "depth", depth, 1)
        embedding, classes = whole("MLP", "embedding", embedding, 4), whole("MLP", "classes", classes, 0)
        outputs = whole("MLP", "outputs", outputs, 1)
        if outputs > 1 and not self.event:
            raise ValueError(f"MLP: outputs must be 1 for scalars, whose shape has no channels, got {outputs}")
        self.config: dict[str, Any] = {
            "event_shape": list(self.event),
            "width": width,
            "depth": depth,
            "embedding": embedding,
            "classes": classes,
            "outputs": outputs,
        }
        self.size = math.prod(self.event)
        self.condition = Condition("MLP", embedding, classes)
        self.stem = nn.Linear(self.size, width)
        self.layers = nn.ModuleList(ResidualLayer(width, embedding) for _ in range(depth))
        self.head = nn.Linear(width, outputs * self.size)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, label: Tensor, y: Tensor | None = None) -> Tensor:
        """F(x, label, y), of the shape of x, or with ``outputs`` times its channels."""
        event = ", ".join(map(str, self.event))
        labelled(
            "MLP", x, label, event, lambda x: x.is_floating_point() and x.ndim > 0 and tuple(x.shape[1:]) == self.event
        )
        e = self.condition(label, y)
        h = self.stem(x.reshape(x.shape[0], self.size))
        for layer in self.layers:
            h = layer(h, e)
        shape = (len(x), self.config["outputs"] * self.event[0], *self.event[1:]) if self.event else x.shape
        out: Tensor = self.head(silu(h)).reshape(shape)
        return out
