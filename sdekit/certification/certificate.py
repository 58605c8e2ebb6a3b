"""What a certificate says."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

COLUMNS = (
    *("flow order", "flow order, mixture", "flow error", "weak order", "weak order, mixture", "strong order"),
    *(
        "N steps, float64",
        "N steps, float32",
        "other grids",
        "last step",
        "evaluations",
        "mates",
        "randomness",
        "dtypes",
    ),
    "law in the plane",
)
"""The checks in the order of a table's columns."""

VERDICTS = {True: "ok", False: "FAILED", None: "-"}


@dataclass(frozen=True)
class Check:
    """One thing that was measured.

    ``figure`` is the measurement and ``wanted`` what it is held to; ``passed`` is None where nothing is asked, and
    ``detail`` says why, or what was found. ``series`` holds the numbers behind the figure, by name.
    """

    name: str
    passed: bool | None
    figure: float | None = None
    wanted: str = ""
    detail: str = ""
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __str__(self) -> str:
        figure = "" if self.figure is None else f"{self.figure:.3g}"
        return f"{self.name:<20} {figure:>9}  {self.wanted:<18} {VERDICTS[self.passed]:<7}{self.detail}".rstrip()


@dataclass(frozen=True)
class Certificate:
    """The certificate of a sampler on a process: its checks, as text, JSON (``save``) and a picture
    (``sdekit.plots.certificate``)."""

    solver: str
    sde: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed is not False for check in self.checks)

    def __getitem__(self, name: str) -> Check:
        """The check of a name; raises KeyError, with the names there are."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"Certificate: name must be one of {', '.join(c.name for c in self.checks)}, got {name!r}")

    def __str__(self) -> str:
        asked = [check for check in self.checks if check.passed is not None]
        held = sum(check.passed is True for check in asked)
        head = f"{self.solver} on {self.sde}: {'certified' if self.passed else 'FAILED'}, {held} of {len(asked)} checks"
        return "\n".join([head, *(f"  {check}" for check in self.checks)])

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data, with the versions it was measured with."""
        versions = {
            "sdekit": metadata.version("sdekit"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        return {"passed": self.passed, **asdict(self), "versions": versions}

    def save(self, path: str | Path) -> Path:
        """Writes ``to_dict`` as JSON, and returns the path."""
        path = Path(path)
        path.write_text(json.dumps(self.to_dict(), indent=1) + "\n", "utf-8")
        return path

    def plot(self, path: str | Path) -> Path:
        """Draws the convergence that was measured beside the verdicts, as a file of the kind that the name says."""
        from .. import plots

        curves = {
            check.name: plots.Convergence(check.series["steps"], check.series["error"], check.figure)
            for check in self.checks
            if "steps" in check.series
        }
        rows = [(check.name, _short(check), check.wanted, check.passed) for check in self.checks]
        return plots.save(plots.certificate(f"{self.solver} on {self.sde}", curves, rows), Path(path))


def _short(check: Check) -> str:
    return "" if check.figure is None else f"{check.figure:.3g}"


def table(certificates: Sequence[Certificate]) -> str:
    """Many certificates as a text: a line each, a column a check."""
    there = list(dict.fromkeys(check.name for c in certificates for check in c.checks))
    names = sorted(there, key=lambda name: COLUMNS.index(name) if name in COLUMNS else len(COLUMNS))
    of = labels((c.solver for c in certificates), 48)
    width = max(map(len, of.values()), default=0)
    lines, sde = [], None
    for c in certificates:
        if c.sde != sde:
            sde = c.sde
            lines += ["", sde, f"  {'':<{width}}  " + "  ".join(f"{name:>{_width(name)}}" for name in names)]
        found = {check.name: check for check in c.checks}
        cells = [_cell(found.get(name)).rjust(_width(name)) for name in names]
        lines.append(f"  {of[c.solver]:<{width}}  " + "  ".join(cells) + ("  ok" if c.passed else "  FAILED"))
    return "\n".join(lines[1:])


def brief(name: str, width: int) -> str:
    """The name within a width: what is left out is the middle, for settings differ at either end."""
    end = width // 2
    return name if len(name) <= width else f"{name[: width - end - 1]}…{name[-end:]}"


def labels(names: Iterable[str], width: int) -> dict[str, str]:
    """A label for each name, all of them different: of the width, or of the least above it at which they are."""
    known = list(dict.fromkeys(names))
    while len({brief(name, width) for name in known}) < len(known):
        width += 1
    return {name: brief(name, width) for name in known}


def _width(name: str) -> int:
    return max(len(name), 9)


def _cell(check: Check | None) -> str:
    if check is None:
        return ""
    return _short(check) + ("!" if check.passed is False else "") or VERDICTS[check.passed]
