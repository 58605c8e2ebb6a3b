"""Watchers of every operation that torch runs: for draws from a generator that nobody passed in, and for broadcasts of
one rank over another."""

import sys
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import sdekit

UNSEEDED = 0x5DE_C0DE
"""The seed of torch's own generator while nobody has lent it: who seeds it, under a fork, may draw."""

PACKAGE = str(Path(sdekit.__file__).parent)
TORCH = str(Path(torch.__file__).parent)

OUTER = {
    ("models/mixture.py", "_parts"): "means and variances of the components, (K, D), beside rows, (B, 1, D)",
    ("networks/embedding.py", "features"): "labels, (B, 1), beside frequencies, (n,)",
    ("networks/unet.py", "forward"): "under vmap group norm becomes a product with its weights, (C, 1, 1)",
    ("noise/counter.py", "philox"): "counters of nodes, (L, 1), beside counters of blocks, (n,)",
}
"""Where two ranks meet on purpose, by file and function, and why."""


class UnseededDraw(AssertionError):
    """A draw from torch's own generator, which nobody has seeded for it."""


class SilentBroadcast(AssertionError):
    """A pointwise operation of tensors of different rank that are no numbers, nor values of an event beside a batch."""


class Guards(TorchDispatchMode):
    """Raises UnseededDraw and SilentBroadcast where they happen."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        kind = KINDS.get(func)
        if kind is None:
            kind = KINDS[func] = (torch.Tag.nondeterministic_seeded in func.tags, torch.Tag.pointwise in func.tags)
        random, pointwise = kind
        if random and unseeded(args, kwargs):
            raise UnseededDraw(f"{func} drew from torch's own generator{where()}")
        if pointwise:
            shapes = {tuple(arg.shape) for arg in args if isinstance(arg, torch.Tensor) and arg.numel() > 1}
            if len(shapes) > 1 and not aligned(shapes) and (place := caller()) is not None and place not in OUTER:
                raise SilentBroadcast(f"{func} of shapes {sorted(shapes)} in {place[0]}, {place[1]}")
        return func(*args, **kwargs)


KINDS: dict = {}
"""Whether an operation is random, and whether it is pointwise."""


def aligned(shapes):
    """Whether shapes are of one rank, or the shorter ones the whole end of the longest: (D,) beside (B, D)."""
    longest = max(shapes, key=len)
    return all(len(shape) == len(longest) or shape == longest[len(longest) - len(shape) :] for shape in shapes)


def unseeded(args, kwargs):
    """Whether a random operation draws from torch's own generator at the seed that nobody gave it."""
    given = [v for v in (*args, *kwargs.values()) if isinstance(v, torch.Generator)]
    return not given and torch.default_generator.initial_seed() == UNSEEDED


def frames():
    """The frames of the caller, the innermost first, without torch's and this file's."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name != __file__ and not name.startswith((TORCH, "<")):
            yield frame
        frame = frame.f_back


def caller():
    """The file and the function where an operation was asked for, where that is the package; else None."""
    frame = next(frames())
    if not frame.f_code.co_filename.startswith(PACKAGE):
        return None
    return frame.f_code.co_filename[len(PACKAGE) + 1 :], frame.f_code.co_name


def where():
    """The place, for a message."""
    frame = next(frames())
    return f" at {frame.f_code.co_filename}:{frame.f_lineno}"
