"""What a network is told beside x: the noise level, and a class where there is one."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .checks import real, shown, whole


class LevelEmbedding(nn.Module):
    """Sinusoidal features of a scalar label, log-spaced in frequency, and a two-layer MLP on top.

    e(c) = W2 silu(W1 [cos(w_k c), sin(w_k c)]_k),    w_k from `min_freq` to `max_freq` (radians per unit of label)

    Vaswani et al. 2017, section 3.5 (arXiv:1706.03762), as DDPM uses it (Ho et al. 2020, arXiv:2006.11239); there the
    spectrum fits integers up to 1000. Here it fits a time in [0, 1], a log sigma in [-7, 5] and ln(sigma) / 4 alike:
    the slowest wave, of period 20, names the place on any of these ranges without repeating; the fastest, of period
    1/16, turns by 0.1 radians from i / 1000 to (i + 1) / 1000, which bfloat16 still tells apart.

    label: (B,), any real dtype; the features are formed in float32, or in float64 for a float64 label, whatever the
    dtype of the weights, and then cast to it. Returns (B, dim). Raises ValueError for an odd dim and for frequencies
    out of order.
    """

    def __init__(self, dim: int, min_freq: float = 2 * math.pi / 20, max_freq: float = 2 * math.pi * 16) -> None:
        super().__init__()
        if whole("LevelEmbedding", "dim", dim, 4) % 2:
            raise ValueError(f"LevelEmbedding: dim must be even, got {dim}")
        real("LevelEmbedding", "min_freq", min_freq), real("LevelEmbedding", "max_freq", max_freq)
        if not 0 < min_freq < max_freq < math.inf:
            raise ValueError(
                f"LevelEmbedding: max_freq must exceed min_freq > 0, got min_freq={min_freq}, max_freq={max_freq}"
            )
        self.config = {"dim": int(dim), "min_freq": float(min_freq), "max_freq": float(max_freq)}
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return next(self.parameters()).dtype

    def features(self, label: Tensor) -> Tensor:
        """[cos(w_k c), sin(w_k c)]_k in float32 or better, (B, dim)."""
        dim, low, high = self.config["dim"], self.config["min_freq"], self.config["max_freq"]
        c = label.to(torch.promote_types(label.dtype, torch.float32))
        # Not a buffer: module.to(bfloat16) would round it, and with it every phase.
        w = torch.linspace(math.log(low), math.log(high), int(dim) // 2, dtype=c.dtype, device=c.device).exp()
        phase = c[..., None] * w
        return torch.cat([phase.cos(), phase.sin()], -1)

    def forward(self, label: Tensor) -> Tensor:
        """The embedding of a batch of labels, (B,) -> (B, dim)."""
        if not isinstance(label, Tensor) or label.is_complex():
            raise ValueError(f"LevelEmbedding: label must be a real tensor of shape (B,), got {shown(label)}")
        out: Tensor = self.mlp(self.features(label).to(self.dtype))
        return out


class Condition(nn.Module):
    """The level embedding plus, with classes, an embedding of y; the index `classes` means "no class".

    e(c, y) = silu(LevelEmbedding(c) + E_y)

    Ho and Salimans 2022 (arXiv:2207.12598): one network is the conditional model and, at that index, the unconditional
    one. label: (B,); y: (B,) integers in [0, classes], or None for no class. Returns (B, dim).
    """

    def __init__(self, owner: str, dim: int, classes: int) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"{owner}: embedding must be even, got {dim}")
        self.owner, self.classes = owner, classes
        self.level = LevelEmbedding(dim)
        self.table = nn.Embedding(classes + 1, dim) if classes else None

    def forward(self, label: Tensor, y: Tensor | None) -> Tensor:
        e: Tensor = self.level(label)
        if self.table is None:
            if y is not None:
                raise ValueError(f"{self.owner}: y must be None for a network with classes=0, got {shown(y)}")
            return nn.functional.silu(e)
        if y is None:
            y = torch.full(label.shape, self.classes, device=label.device)
        if not isinstance(y, Tensor):
            raise ValueError(f"{self.owner}: y must be integers of shape {tuple(label.shape)}, got {shown(y)}")
        if y.shape != label.shape or y.dtype not in (torch.int32, torch.int64):
            raise ValueError(
                f"{self.owner}: y must be integers of shape {tuple(label.shape)}, got {y.dtype} of {tuple(y.shape)}"
            )
        # on the host, where asking costs nothing; a device says it itself
        if y.device.type == "cpu" and bool(((y < 0) | (y > self.classes)).any()):
            raise ValueError(f"{self.owner}: y must lie in [0, {self.classes}], got {y.dtype}, {y.tolist()[:8]}")
        return nn.functional.silu(e + self.table(y))
