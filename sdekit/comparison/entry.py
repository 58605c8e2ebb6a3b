"""A sampler to compare: a solver on a grid, by a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .. import solvers as s
from ..errors import InvalidArgument, InvalidType, describe
from ..grids import Grid
from ..solvers.base import Solver, check_solver


class Entry(NamedTuple):
    """A solver, and a grid by name or by function (sde, steps) -> times; what ``sample`` takes for nfe without them."""

    name: str
    solver: Solver | None = None
    grid: str | Grid | None = None


DEFAULT: tuple[Entry, ...] = (
    Entry("nfe=N"),
    Entry("DDIM", s.DDIM(), "log_snr"),
    Entry("DPM-Solver++(2M)", s.DPMSolver(), "log_snr"),
    Entry("UniPC(3)", s.UniPC(), "log_snr"),
    Entry("Heun, Karras", s.Heun(), "karras"),
    Entry("Ancestral, Karras", s.Ancestral(), "karras"),
)
"""What is compared unless something else is given."""


def entries(value: Any) -> list[Entry]:
    """The samplers as entries of different names: each an Entry, or a solver on the log-SNR grid."""
    if isinstance(value, (str, Solver)) or not isinstance(value, Sequence):
        raise InvalidType(f"compare: entries must be a list of solvers or of Entry, got {describe(value)}")
    found: list[Entry] = []
    for given in value:
        item = Entry(str(given), given, "log_snr") if isinstance(given, Solver) else given
        if not isinstance(item, Entry) or not isinstance(item.name, str):
            raise InvalidType(f"compare: entries must be solvers or Entry(name, solver, grid), got {describe(item)}")
        if item.solver is not None:
            check_solver("compare", item.solver, "entries")
        if not (item.grid is None or isinstance(item.grid, str) or callable(item.grid)):
            raise InvalidType(
                f"compare: entries must be on grids by name or by function (sde, steps), got {describe(item.grid)}"
            )
        if item.name in [other.name for other in found]:
            raise InvalidArgument(f"compare: entries must have names of their own, got {item.name!r} twice")
        found.append(item)
    if not found:
        raise InvalidArgument(f"compare: entries must hold at least one sampler, got {describe(value)}")
    return found
