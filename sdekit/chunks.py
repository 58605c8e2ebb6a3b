"""Chunks of one shape: what makes a row the same bits alone, and in any batch.

The arithmetic of a matrix product may depend on how many rows it has, and on where a row stands. So a row has a chunk
and a slot by its id alone, and a network sees whole chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from .errors import InvalidArgument, InvalidType, SDEKitError, describe, flag, renamed
from .models.base import ScoreModel
from .models.wrappers import Whole
from .noise import BrownianPath, KeyedNoise
from .types import Device, NoiseSource, Stream

CHUNK = 64
"""Rows that ``per_sample=True`` gives a network at a time."""

Keyed: TypeAlias = KeyedNoise | BrownianPath
"""Sources whose draws are a row's own."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some rows of a batch, row ``id`` in slot ``id mod CHUNK``; an empty slot holds a copy of one of them."""

    rows: Tensor
    """(n,), the rows' numbers in the batch."""
    slots: Tensor
    """(n,), where they stand."""
    held: Tensor
    """(CHUNK,), which of the n rows each slot holds."""

    def spread(self, values: Tensor) -> Tensor:
        """The slots' values, (CHUNK, ...), from one a row of the batch."""
        return values[self.rows[self.held].to(values.device)]

    def model(self, model: ScoreModel) -> Whole:
        """The model of the slots, with the conditions of the rows that they hold: asked for all slots or for none."""
        return Whole(model.rows(self.rows[self.held]))

    def noise(self, source: Keyed) -> NoiseSource:
        """The noise of the slots: that of the rows that they hold."""
        return _Spread(source.rows(self.rows), self.slots, self.held)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors that name slots name the batch's rows instead."""
        try:
            yield
        except SDEKitError as error:
            if not error.rows:
                raise
            rows = sorted(set(self.rows[self.held[list(error.rows)]].tolist()))
            raise renamed(error, rows) from error


class _Spread:
    """Draws of a chunk's rows, given to the slots that hold them."""

    def __init__(self, source: Keyed, slots: Tensor, held: Tensor):
        self.source = source
        self.slots = slots
        self.held = held

    def __call__(self, x: Tensor, t: Any, s: Any, stream: Stream = "path") -> Tensor:
        return self._spread(self.source(x[self.slots.to(x.device)], self._of_rows(t), self._of_rows(s), stream))

    def normal(
        self, shape: Sequence[int], *, stream: Stream, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        shape = (len(self.slots), *shape[1:])
        return self._spread(self.source.normal(shape, stream=stream, dtype=dtype, device=device))

    def uniform(self, n: int, *, stream: Stream, device: Device = None) -> Tensor:
        return self._spread(self.source.uniform(len(self.slots), stream=stream, device=device))

    def rademacher(self, like: Tensor, *, stream: Stream) -> Tensor:
        return self._spread(self.source.rademacher(like[self.slots.to(like.device)], stream=stream))

    def _of_rows(self, level: Any) -> Any:
        """The level of the rows, of one that has a time for each slot."""
        if not isinstance(level.t, Tensor) or not level.t.ndim:
            return level
        slots = self.slots.to(level.t.device)
        return _Times(level.t[slots], level.clock[slots])

    def path(self) -> NoiseSource:
        return _Spread(self.source.path(), self.slots, self.held)

    def _spread(self, drawn: Tensor) -> Tensor:
        return drawn[self.held.to(drawn.device)]


class _Times(NamedTuple):
    """What a source reads of a level."""

    t: Tensor
    clock: Tensor


class Chunks:
    """A batch cut into chunks by the ids of its rows, (B,): distinct whole numbers, 0, 1, ... unless given."""

    def __init__(self, rows: int, ids: Tensor | None = None):
        ids = torch.arange(rows) if ids is None else ids
        self.chunks = [self._chunk(ids, int(number)) for number in torch.unique(ids // CHUNK)]
        self.order = torch.cat([chunk.rows for chunk in self.chunks]).argsort() if self.chunks else ids

    @staticmethod
    def _chunk(ids: Tensor, number: int) -> Chunk:
        rows = (ids // CHUNK == number).nonzero()[:, 0]
        slots = ids[rows] % CHUNK
        return Chunk(rows, slots, torch.zeros(CHUNK, dtype=torch.int64).index_copy(0, slots, torch.arange(len(rows))))

    def __iter__(self) -> Iterator[Chunk]:
        return iter(self.chunks)

    def gather(self, parts: Sequence[Tensor]) -> Tensor:
        """The values of the batch's rows, in their order, from those of each chunk's slots."""
        values = [part[chunk.slots.to(part.device)] for part, chunk in zip(parts, self.chunks, strict=True)]
        joined = torch.cat(values)
        return joined[self.order.to(joined.device)]

    def map(self, run: Callable[[Chunk], tuple[Tensor | None, ...]]) -> tuple[Tensor | None, ...]:
        """What a function of a chunk returns, one value a slot each, for the rows of the batch; None stays None."""
        parts = []
        for chunk in self.chunks:
            with chunk.named():
                parts.append(run(chunk))
        return tuple(
            None if column[0] is None else self.gather([part for part in column if part is not None])
            for column in zip(*parts, strict=True)
        )


def keyed(owner: str, noise: object) -> Keyed:
    """The value where its draws are a row's own, else a named error."""
    if not isinstance(noise, Keyed):
        raise InvalidType(
            f"{owner}: noise must be keyed with per_sample=True, KeyedNoise or BrownianPath, got {describe(noise)}"
        )
    return noise


def keyed_source(
    owner: str, noise: NoiseSource | None, seed: int | Sequence[int], ids: Tensor | Sequence[int] | None, own: bool
) -> NoiseSource:
    """The noise, or keyed draws of the seed; with ``own`` (per_sample=True) one whose draws are a row's own."""
    check_ids_used(owner, ids, noise, flag(owner, "per_sample", own))
    if noise is None:
        return KeyedNoise(seed, ids)
    return keyed(owner, noise) if own else noise


def by_row(
    owner: str,
    run: Callable[[ScoreModel, Tensor, NoiseSource], tuple[Tensor | None, ...]],
    model: ScoreModel,
    x: Tensor,
    noise: NoiseSource,
    per_sample: bool,
) -> tuple[Tensor | None, ...]:
    """What a function of model, rows and noise returns, one value a row each: of the batch, or chunk by chunk."""
    if not per_sample:
        return run(model, x, noise)
    source = keyed(owner, noise)
    return Chunks(len(x), source.ids).map(lambda chunk: run(chunk.model(model), chunk.spread(x), chunk.noise(source)))


def check_ids_used(owner: str, ids: object, noise: object, per_sample: bool) -> None:
    """Raises InvalidArgument for ids that nobody would read."""
    if ids is not None and noise is not None:
        raise InvalidArgument(
            f"{owner}: ids must be left out where noise is given: it has its own, KeyedNoise(seed, ids)"
        )
    if ids is not None and not per_sample:
        raise InvalidArgument(f"{owner}: ids need per_sample=True, or must be left out, got {describe(ids)}")
