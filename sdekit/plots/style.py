"""One look for every picture: ink on paper, few lines, colours that colour-blind readers tell apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from ..errors import file_path, whole
from . import checks

PAPER = "#ffffff"
INK = "#1c2127"
MUTED = "#66707c"
RULE = "#d5dae0"
WASH = "#eef1f4"

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
"""Okabe and Ito's palette, in an order in which neighbours differ most."""

DENSITY = LinearSegmentedColormap.from_list(
    "density", ["#ffffff", "#e3edf6", "#b7d2e8", "#79aed3", "#3b82b8", "#155a92", "#08315c"]
)
"""Paper to deep blue, its lightness falling all the way."""

ALONG = LinearSegmentedColormap.from_list("along", ["#1b2a63", "#2a6fa3", "#43a58c", "#a5bd54", "#efbe3c"])
"""For a position along a curve: dark to light, blue to yellow."""

INK_ON_PAPER = LinearSegmentedColormap.from_list("ink", [PAPER, "#10151b"])
"""For handwriting: the highest value is ink."""

DPI = 200

RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.color": INK,
    "mathtext.fontset": "dejavusans",
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "savefig.bbox": None,
    "savefig.transparent": False,
    "axes.facecolor": PAPER,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.0,
    "axes.titlesize": 10.0,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlepad": 6.0,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "image.interpolation": "nearest",
}
"""Settings in force while a picture is drawn and saved, and never outside."""

P = ParamSpec("P")


@contextmanager
def styled() -> Iterator[None]:
    """The look, for the length of a block."""
    with mpl.rc_context(RC):
        yield


def picture(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draws under the look; the caller's own settings are as they were afterwards."""

    @wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with styled():
            return draw(*args, **kwargs)

    return in_style


def figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, laid out without overlaps; no canvas, no window, no global state."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def save(fig: Figure, path: Path, dpi: int = DPI) -> Path:
    """Writes the figure as a file of the kind that the name says, and returns the path."""
    checks.one("save", "fig", fig, Figure)
    path = file_path("save", "path", path)
    dpi = whole("save", "dpi", dpi, at_least=1, at_most=10_000)
    with styled():
        fig.savefig(path, dpi=dpi)
    return path


def text_width(text: str, points: float) -> float:
    """The width of a text in inches."""
    return float(TextPath((0, 0), text, size=points).get_extents().width) / 72 if text else 0.0


def framed(axes: Axes) -> None:
    """Axes without ticks, in a thin frame, of equal scales."""
    axes.set(xticks=[], yticks=[], aspect="equal")
    for spine in axes.spines.values():
        spine.set_visible(True)
