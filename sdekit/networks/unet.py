"""A U-Net for signals, images and volumes of any size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from .checks import labelled, real, whole, wholes
from .embedding import Condition

Conv: TypeAlias = type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]
CONVOLUTIONS: dict[int, Conv] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def groups(channels: int, at_least: int) -> int:
    """The largest number of equal groups, up to 32, of at least so many channels each."""
    return max(n for n in range(1, 33) if n == 1 or (channels % n == 0 and channels // n >= at_least))


def norm(channels: int) -> nn.GroupNorm:
    """Group normalisation, at least four channels a group (Wu and He 2018, arXiv:1803.08494)."""
    return nn.GroupNorm(groups(channels, 4), channels)


def zero(layer: nn.Module) -> nn.Module:
    """The layer with its parameters at zero: a residual branch that starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Attention(nn.Module):
    """x + W softmax(q k^T / sqrt(d)) v, over all positions (Vaswani et al. 2017, arXiv:1706.03762, equation 1).

    Not scaled_dot_product_attention: its fused kernels have neither a second derivative nor a forward-mode one.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = groups(channels, 32)
        self.norm = norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zero(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1)
        h = self.out((weights @ v).transpose(1, 2).flatten(2))
        out: Tensor = x + h.transpose(1, 2).reshape(x.shape)
        return out


class Block(nn.Module):
    """skip(x) + conv(silu((1 + a) norm(conv(silu(norm(x)))) + b)), (a, b) linear in the embedding; then attention."""

    def __init__(self, conv: Conv, inner: int, outer: int, *, embedding: int, dropout: float, attend: bool) -> None:
        super().__init__()
        self.enter = nn.Sequential(norm(inner), nn.SiLU(), conv(inner, outer, 3, padding=1))
        self.norm = norm(outer)
        self.film = nn.Linear(embedding, 2 * outer)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.leave = zero(conv(outer, outer, 3, padding=1))
        self.skip = conv(inner, outer, 1) if inner != outer else nn.Identity()
        self.attention = Attention(outer) if attend else nn.Identity()

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.film(e)[(...,) + (None,) * (x.ndim - 2)].chunk(2, 1)
        h = silu((1 + scale) * self.norm(self.enter(x)) + shift)
        out: Tensor = self.attention(self.skip(x) + self.leave(self.dropout(h)))
        return out


class UNet(nn.Module):
    """A convolutional U-Net, told the level by scale and shift, with self-attention at chosen levels.

    Down: `blocks` residual blocks a level, then stride 2. Up: as many, each on the concatenation with the output of its
    twin, then nearest-neighbour growth to the size of the next twin, so that any size works, odd ones and 1x1 too.
    Ronneberger et al. 2015 (arXiv:1505.04597), with the blocks of Dhariwal and Nichol 2021 (arXiv:2105.05233). The last
    convolution of every block and of the network starts at zero, so that an untrained network answers 0.

    Level k has `width * multipliers[k]` channels; `attention` lists levels, 0 the finest; `size` (an int, or one a
    dimension), where given, is what x must measure; `dims` is 1, 2 or 3.
    x: (B, channels, *size); label: (B,); y: (B,) integers, or None for "no class". Returns the shape of x; with
    ``outputs`` = 2, as a learned variance needs, twice its channels. Raises ValueError, naming the argument, for
    numbers out of range and for shapes that do not fit.
    """

    def __init__(
        self,
        channels: int,
        size: int | Sequence[int] | None = None,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 2),
        blocks: int = 1,
        attention: Sequence[int] = (),
        classes: int = 0,
        dropout: float = 0.0,
        dims: int = 2,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        channels, width = whole("UNet", "channels", channels, 1), whole("UNet", "width", width, 4)
        multipliers = wholes("UNet", "multipliers", multipliers, 1)
        attention = wholes("UNet", "attention", attention, 0)
        blocks, classes = whole("UNet", "blocks", blocks, 1), whole("UNet", "classes", classes, 0)
        outputs = whole("UNet", "outputs", outputs, 1)
        if not multipliers:
            raise ValueError("UNet: multipliers must name at least one level, got []")
        if max(attention, default=0) >= len(multipliers):
            raise ValueError(f"UNet: attention levels must be below {len(multipliers)}, got {max(attention)}")
        if not 0 <= real("UNet", "dropout", dropout) < 1:
            raise ValueError(f"UNet: dropout must be in [0, 1), got {dropout!r}")
        if whole("UNet", "dims", dims, 1) not in CONVOLUTIONS:
            raise ValueError(f"UNet: dims must be 1, 2 or 3, got {dims!r}")
        if size is not None:
            size = wholes("UNet", "size", size if hasattr(size, "__len__") else [size] * dims, 1)
            if len(size) != dims:
                raise ValueError(f"UNet: size must have dims={dims} entries, got {size}")
        self.config: dict[str, Any] = {
            "channels": channels,
            "size": size,
            "width": width,
            "multipliers": multipliers,
            "blocks": blocks,
            "attention": attention,
            "classes": classes,
            "dropout": float(dropout),
            "dims": dims,
            "outputs": outputs,
        }
        conv, widths = CONVOLUTIONS[dims], [width * m for m in multipliers]
        block = partial(Block, conv, embedding=4 * width, dropout=dropout)
        self.condition = Condition("UNet", 4 * width, classes)
        self.stem = conv(channels, width, 3, padding=1)
        self.down, self.shrink, self.up, self.grow = (nn.ModuleList() for _ in range(4))
        inner = width
        for level, outer in enumerate(widths):
            if level:
                self.shrink.append(conv(inner, inner, 3, stride=2, padding=1))
                self.grow.insert(0, conv(outer, inner, 3, padding=1))
            for n in [inner] + [outer] * (blocks - 1):
                self.down.append(block(n, outer, attend=level in attention))
                self.up.insert(0, block(2 * outer, outer, attend=level in attention))
            inner = outer
        self.middle = block(inner, inner, attend=len(widths) - 1 in attention)
        self.head = nn.Sequential(norm(widths[0]), nn.SiLU(), zero(conv(widths[0], outputs * channels, 3, padding=1)))

    def forward(self, x: Tensor, label: Tensor, y: Tensor | None = None) -> Tensor:
        """F(x, label, y), of the shape of x, or with ``outputs`` times its channels."""
        channels, size, blocks, dims = (self.config[name] for name in ("channels", "size", "blocks", "dims"))
        event = ", ".join(map(str, [channels, *(size or "DHW"[-dims:])]))

        def fits(x: Tensor) -> bool:
            floats = x.is_floating_point() and x.ndim == dims + 2
            return floats and x.shape[1] == channels and (size is None or list(x.shape[2:]) == size)

        labelled("UNet", x, label, event, fits)
        e, h, twins = self.condition(label, y), self.stem(x), []
        for i, block in enumerate(self.down):
            if i and i % blocks == 0:
                h = self.shrink[i // blocks - 1](h)
            h = block(h, e)
            twins.append(h)
        h = self.middle(h, e)
        for i, block in enumerate(self.up):
            twin = twins.pop()
            if i and i % blocks == 0:
                h = self.grow[i // blocks - 1](interpolate(h, size=twin.shape[2:]))
            h = block(torch.cat([h, twin], 1), e)
        out: Tensor = self.head(h)
        return out
