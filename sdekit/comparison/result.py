"""What a comparison found, as a table, CSV, JSON and a picture."""

from __future__ import annotations

import csv
import io
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InvalidArgument, InvalidType, describe, file_path, one_of
from ..metrics import EnergyDistance, Interval, NoiseFloor

if TYPE_CHECKING:
    from ..plots import Tradeoff

ENERGY = EnergyDistance.name

COSTS = {"nfe": "network evaluations", "seconds": "seconds"}

FLOW = "flow error"
"""The root mean square, over rows and coordinates, of the difference to the exact flow's end from the same start."""


@dataclass(frozen=True)
class Measured:
    """A sampler at a budget: what it cost, and how far its samples are from what they should be.

    ``nfe``: network evaluations a sample. ``seconds``: of the whole run, on the clock. ``flow``: the root mean square
    error of a deterministic sampler beside the exact flow from the same starts; None where noise was drawn. ``law``: by
    the name of a distance, the samples against the model's own law, which is the error of the solver alone. ``data``:
    against data, the error of the model in it.
    """

    sampler: str
    solver: str
    grid: str
    budget: int
    nfe: float
    seconds: float
    flow: Interval | None
    law: Mapping[str, Interval]
    data: Mapping[str, Interval] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, Interval]:
        """All of it by one name each: "flow error", "energy distance", "energy distance to data"."""
        flow = {} if self.flow is None else {FLOW: self.flow}
        return {**flow, **self.law, **{to_data(name): value for name, value in self.data.items()}}


def to_data(name: str) -> str:
    """The name of a distance, to data."""
    return f"{name} to data"


@dataclass(frozen=True)
class Comparison:
    """Samplers beside each other: rows of :class:`Measured`, and what of each distance is noise.

    ``floors``: by the names of the rows' figures, the distance that perfect samples of this number have.
    ``model_error``: the distances to data of exact samples of the model, where there are data.
    """

    model: str
    shape: tuple[int, ...]
    seed: Any
    rows: tuple[Measured, ...]
    floors: Mapping[str, NoiseFloor]
    model_error: Mapping[str, Interval]

    @property
    def figures(self) -> list[str]:
        """The names of what was measured."""
        return list(dict.fromkeys(name for row in self.rows for name in row.figures))

    @property
    def main(self) -> list[str]:
        """Those of them that a picture shows unless told: the flow error and the energy distances."""
        return [name for name in (FLOW, ENERGY, to_data(ENERGY)) if name in self.figures]

    def front(self, figure: str = ENERGY, cost: str = "nfe") -> list[Measured]:
        """The Pareto front of a figure and a cost, "nfe" or "seconds": each row that is better than all cheaper ones.

        Of rows of one cost it is the best; what only equals a cheaper one is left out. Raises InvalidArgument for a
        figure that no row has.
        """
        one_of("Comparison.front", "figure", figure, self.figures)
        one_of("Comparison.front", "cost", cost, COSTS)

        def place(row: Measured) -> tuple[float, float]:
            return getattr(row, cost), row.figures[figure].value

        best, kept = float("inf"), []
        for row in sorted((row for row in self.rows if figure in row.figures), key=place):
            if place(row)[1] < best:
                best = place(row)[1]
                kept.append(row)
        return kept

    def __str__(self) -> str:
        return self.table()

    def table(self, figures: Sequence[str] | None = None) -> str:
        """A line a row, a column a figure with its interval: all figures, or those that are named.

        Raises InvalidArgument for a figure that no row has.
        """
        names = self._known("Comparison.table", self.figures if figures is None else figures)
        head = ["NFE", "sampler", "seconds", *names]
        lines = [
            [f"{row.nfe:g}", row.sampler, f"{row.seconds:.3g}", *(_cell(row.figures.get(name)) for name in names)]
            for row in self.rows
        ]
        floor = ["", "noise floor (90 %)", "", *(_band(self.floors.get(name)) for name in names)]
        widths = [max(map(len, column)) for column in zip(head, *lines, floor, strict=True)]
        aligned = [
            "  ".join(
                cell.ljust(width) if i == 1 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in (head, *lines, floor)
        ]
        return "\n".join([f"{self.model}: {self.shape[0]} samples of shape {self.shape[1:]}", *aligned])

    def csv(self) -> str:
        """A line a row and figure: sampler, solver, grid, budget, nfe, seconds, figure, value, low, high."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(["sampler", "solver", "grid", "budget", "nfe", "seconds", "figure", "value", "low", "high"])
        for row in self.rows:
            about = [row.sampler, row.solver, row.grid, row.budget, f"{row.nfe:g}", f"{row.seconds:.4g}"]
            lines.writerows([*about, name, *map(repr, values)] for name, values in row.figures.items())
        return text.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data, with the versions it was measured with."""
        rows = [
            {
                "sampler": row.sampler,
                "solver": row.solver,
                "grid": row.grid,
                "budget": row.budget,
                "nfe": row.nfe,
                "seconds": row.seconds,
                "figures": {name: value._asdict() for name, value in row.figures.items()},
            }
            for row in self.rows
        ]
        return {
            "model": self.model,
            "shape": list(self.shape),
            "seed": self.seed,
            "rows": rows,
            "floors": {name: vars(floor) for name, floor in self.floors.items()},
            "model_error": {name: value._asdict() for name, value in self.model_error.items()},
            "versions": {
                "sdekit": metadata.version("sdekit"),
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }

    def save(self, path: str | Path) -> Path:
        """Writes ``to_dict`` as JSON, and returns the path."""
        path = file_path("Comparison.save", "path", path)
        path.write_text(json.dumps(self.to_dict(), indent=1) + "\n", "utf-8")
        return path

    def plot(self, path: str | Path, figures: Sequence[str] | None = None) -> Path:
        """Draws figures over network evaluations and over seconds, with the Pareto front and the noise floor.

        Raises InvalidArgument for a figure that no row has.
        """
        from .. import plots

        path = file_path("Comparison.plot", "path", path)
        names = self._known("Comparison.plot", self.main if figures is None else figures)
        panels = [self._panel(name, cost) for cost in COSTS for name in names]
        return plots.save(plots.tradeoffs(panels, columns=len(names)), path)

    def _panel(self, name: str, cost: str) -> Tradeoff:
        from .. import plots

        curves: dict[str, list[tuple[float, float, float, float]]] = {}
        for row in self.rows:
            if name in row.figures:
                curves.setdefault(row.sampler, []).append((getattr(row, cost), *row.figures[name]))
        front = [(getattr(row, cost), row.figures[name].value) for row in self.front(name, cost)]
        floor = self.floors.get(name)
        return plots.Tradeoff(name, COSTS[cost], curves, front, None if floor is None else floor.high)

    def _known(self, owner: str, names: Any) -> list[str]:
        if isinstance(names, str) or not isinstance(names, Sequence):
            raise InvalidType(f"{owner}: figures must be a list of names, got {describe(names)}")
        if not names:
            raise InvalidArgument(f"{owner}: figures must hold at least one name, got {describe(names)}")
        return [one_of(owner, "figures", name, self.figures) for name in names]


def _cell(value: Interval | None) -> str:
    return "" if value is None else f"{value.value:.2e} ({value.low:.1e}, {value.high:.1e})"


def _band(floor: NoiseFloor | None) -> str:
    return "" if floor is None else f"{floor.low:.1e} to {floor.high:.1e}"
