"""A whole run as one CUDA graph: what the host would launch step by step, launched at once."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .errors import InvalidArgument, UnsupportedCombination
from .models.base import ScoreModel
from .sdes.base import Level
from .solvers.base import Solver
from .types import NoiseSource, Stream

Loop = Callable[[ScoreModel, Tensor, Any], tuple[Tensor, int | Tensor]]
"""A run from x_T: its last x, and the network evaluations of a row."""


def check(owner: str, solver: Solver, device: torch.device, per_sample: bool) -> None:
    """Raises a named error where a run cannot be one graph."""
    if not available(device):
        raise InvalidArgument(f"{owner}: cuda_graph needs a CUDA device, got the device {str(device)!r}")
    if solver.adaptive:
        raise UnsupportedCombination(f"{owner}: cuda_graph needs a solver that takes the grid's steps, got {solver}")
    if per_sample:
        raise InvalidArgument(f"{owner}: cuda_graph must be left out with per_sample=True, whose chunks are many runs")


def available(device: torch.device) -> bool:
    """Whether there are graphs on the device."""
    return device.type == "cuda"


class Slots:
    """Draws that stand in buffers: the first run makes them, the others read them in the same order."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Any, Stream]] = []
        self.buffers: list[Tensor] = []
        self.next: int | None = None

    def __call__(self, x: Tensor, t: Any, s: Any, stream: Stream = "path") -> Tensor:
        """The next buffer."""
        if self.next is None:
            self.asked.append((t, s, stream))
            self.buffers.append(torch.zeros_like(x))
            return self.buffers[-1]
        self.next += 1
        return self.buffers[self.next - 1]

    def fill(self, noise: NoiseSource) -> None:
        """Draws afresh from a source, in the order of a run."""
        for (t, s, stream), buffer in zip(self.asked, self.buffers, strict=True):
            buffer.copy_(noise(buffer, t, s, stream))


@dataclass(frozen=True)
class Captured:
    """A run that has been captured, and what it was captured for."""

    key: Hashable
    start: Tensor
    end: Tensor
    slots: Slots
    nfe: int | Tensor
    replay: Callable[[], None]


_last: weakref.WeakKeyDictionary[ScoreModel, Captured] = weakref.WeakKeyDictionary()


def run(
    model: ScoreModel, solver: Solver, levels: Sequence[Level], x_T: Tensor, noise: NoiseSource, loop: Loop
) -> tuple[Tensor, int | Tensor]:
    """The loop's end from x_T, replayed where the model's last run was the same but for x_T and the noise.

    The same: solver, levels, shape, dtype, and the places of the model's parameters, buffers and conditions in memory.
    Numbers that change in place, as an optimiser changes them, are read anew by every replay. The draws are those of a
    run without a graph.
    """
    tensors = [*model.parameters(), *model.buffers(), *(v for v in model.condition.values() if isinstance(v, Tensor))]
    places = tuple(v.data_ptr() for v in tensors)
    key = (repr(solver), tuple((level.t, level.clean) for level in levels), tuple(x_T.shape), x_T.dtype, places)
    captured = _last.get(model)
    if captured is None or captured.key != key:
        _last.pop(model, None)  # its memory first
        captured = _last[model] = _captured(key, model, x_T, loop)
    captured.slots.fill(noise)
    captured.start.copy_(x_T)
    captured.replay()
    return captured.end.clone(), captured.nfe


def _captured(key: Hashable, model: ScoreModel, x_T: Tensor, loop: Loop) -> Captured:
    start, end, slots = x_T.clone(), torch.empty_like(x_T), Slots()
    reference = weakref.ref(model)  # the model's entry must not keep the model
    count: list[int | Tensor] = []

    def body() -> None:
        model = reference()
        assert model is not None
        slots.next = 0 if count else None
        x, nfe = loop(model, start, slots)
        count.append(nfe)
        end.copy_(x)

    replay = capture(body, x_T.device)
    return Captured(key, start, end, slots, count[0], replay)


def capture(body: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """What repeats a function's kernels, after one run that sets libraries up beside the current stream."""
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            body()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            body()
    replay: Callable[[], None] = graph.replay
    return replay
