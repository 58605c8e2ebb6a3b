"""What a training run is told, as one value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InvalidArgument, InvalidType, describe, number, one_of, whole
from ..noise import fold


@dataclass(frozen=True)
class Settings:
    """The numbers of a training run: Adam with a warm-up and a decay of its rate, clipping, and an average of weights.

    Steps count from 1. The rate of step n is lr min(1, n / warmup) h(n), with h = 1 for ``decay="constant"`` and
    h = (1 + cos(pi max(0, n - 1 - warmup) / (steps - warmup))) / 2 for ``decay="cosine"``. The averaged weights are
    a_0 = w_0, a_n = d_n a_(n-1) + (1 - d_n) w_n with d_n = min(ema, (1 + n) / (10 + n)): the average forgets the start.

    Adam: Kingma & Ba 2015 (arXiv:1412.6980). Cosine: Loshchilov & Hutter 2017 (arXiv:1608.03983), without restarts.
    Averaging for score models: Song & Ermon 2020, technique 5 (arXiv:2006.09011).

    ``steps``: optimiser steps of ``batch_size`` rows. ``clip``: the largest norm of the whole gradient, None for no
    bound. ``seed``: of the order of the data, the losses' noise and dropout. ``checkpoint_every``: steps between
    checkpoints; None writes one at the end. ``betas``: Adam's.

    Raises InvalidArgument or InvalidType, naming the setting, for values out of range.
    """

    steps: int
    batch_size: int = 128
    lr: float = 1e-3
    warmup: int = 0
    decay: str = "cosine"
    ema: float = 0.999
    clip: float | None = 1.0
    seed: int = 0
    checkpoint_every: int | None = None
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        every = self.checkpoint_every
        checked = {
            "steps": whole("Settings", "steps", self.steps, at_least=1),
            "batch_size": whole("Settings", "batch_size", self.batch_size, at_least=1),
            "lr": number("Settings", "lr", self.lr, above=0.0),
            "warmup": whole("Settings", "warmup", self.warmup, at_least=0),
            "decay": one_of("Settings", "decay", self.decay, ("cosine", "constant")),
            "ema": number("Settings", "ema", self.ema, at_least=0.0, below=1.0),
            "clip": None if self.clip is None else number("Settings", "clip", self.clip, above=0.0),
            "seed": fold(whole("Settings", "seed", self.seed, at_least=0)),
            "checkpoint_every": None if every is None else whole("Settings", "checkpoint_every", every, at_least=1),
            "betas": _betas(self.betas),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.warmup >= self.steps:
            raise InvalidArgument(f"Settings: warmup must be below steps, got warmup={self.warmup}, steps={self.steps}")

    def rate(self, step: int) -> float:
        """Adam's rate at a step, counted from 1."""
        ramp = min(1.0, step / self.warmup) if self.warmup else 1.0
        if self.decay == "constant":
            return self.lr * ramp
        gone = max(0, step - 1 - self.warmup) / (self.steps - self.warmup)
        return self.lr * ramp * 0.5 * (1.0 + math.cos(math.pi * gone))

    def average_decay(self, step: int) -> float:
        """d_n = min(ema, (1 + n) / (10 + n)), the share of itself that the average keeps at step n."""
        return min(self.ema, (1 + step) / (10 + step))


def _betas(value: object) -> tuple[float, float]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise InvalidType(f"Settings: betas must be two numbers in [0, 1), got {describe(value)}")
    first, second = (number("Settings", f"betas[{i}]", b, at_least=0.0, below=1.0) for i, b in enumerate(value))
    return first, second
