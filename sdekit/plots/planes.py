"""Pictures of the plane: densities, score fields, trajectories, points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from ..errors import number, whole
from . import checks, style

Array = NDArray[np.float64]


class Lattice(NamedTuple):
    """A square lattice of points of the plane: ``points`` (side^2, 2), row by row, over [-extent, extent]^2."""

    points: Tensor
    side: int
    extent: float

    def square(self, values: Tensor) -> Array:
        """Values at the points, (side^2,), as a (side, side) array whose first row is the lowest."""
        checks.of_lattice("Lattice", "values", values, self.side**2)
        array: Array = values.detach().to("cpu").double().reshape(self.side, self.side).numpy()
        return array

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The ends of both axes, in matplotlib's order."""
        return (-self.extent, self.extent, -self.extent, self.extent)


def lattice(side: int, extent: float) -> Lattice:
    """The lattice of side^2 points, each in the middle of its cell."""
    side = whole("lattice", "side", side, at_least=1, at_most=10_000)
    extent = number("lattice", "extent", extent, above=0.0)
    ticks = (torch.arange(side, dtype=torch.float64) + 0.5) / side * (2 * extent) - extent
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return Lattice(torch.stack([x.reshape(-1), y.reshape(-1)], 1), side, extent)


class FieldPanel(NamedTuple):
    """Arrows over a density: the model's, and where there are any the exact ones, at the same points."""

    title: str
    log_density: Tensor
    extent: float
    points: Tensor
    arrows: Tensor
    exact: Tensor | None = None


class PathPanel(NamedTuple):
    """Paths over a density, (times, paths, 2), and points beside them, (N, 2)."""

    title: str
    paths: Tensor
    points: Tensor | None = None


class PointPanel(NamedTuple):
    """Points, and a number in [0, 1] that colours each; the picture's half-width."""

    title: str
    points: Tensor
    along: Tensor
    extent: float


@style.picture
def score_fields(panels: Sequence[Sequence[FieldPanel]], background: Lattice) -> Figure:
    """Score fields over the density they are the gradient of the logarithm of: rows of panels.

    The model's arrows are ink, drawn over the exact ones in vermilion, which show only where the two differ. Lengths
    grow with the logarithm of the score, so that weak and strong ones are seen in one picture.
    """
    checks.one("score_fields", "background", background, Lattice)
    for line in checks.listed("score_fields", "panels", panels, Sequence):
        for panel in checks.listed("score_fields", "panels", line, FieldPanel):
            checks.of_lattice("score_fields", "panels", panel.log_density, background.side**2)
    rows, columns = len(panels), len(panels[0])
    fig = style.figure(3.1 * columns, 3.3 * rows)
    grid = np.atleast_2d(np.asarray(fig.subplots(rows, columns, squeeze=False)))
    for line, axes_line in zip(panels, grid, strict=True):
        for panel, axes in zip(line, axes_line, strict=True):
            _shade(axes, background, panel.log_density, panel.extent)
            points = _array(panel.points)
            spacing = 2 * panel.extent / np.sqrt(len(points))
            reference = panel.arrows if panel.exact is None else panel.exact
            unit = float(reference.norm(dim=1).median())
            for arrows, colour, width in ((panel.exact, style.VERMILION, 0.007), (panel.arrows, style.INK, 0.0045)):
                if arrows is None:
                    continue
                u = _array(arrows)
                size = np.linalg.norm(u, axis=1, keepdims=True)
                u = u / np.maximum(size, 1e-12) * np.log1p(size / unit) * 0.75 * spacing
                axes.quiver(
                    *points.T, *u.T, angles="xy", scale_units="xy", scale=1.0, color=colour, width=width, headwidth=3.6,
                    headlength=4.0, headaxislength=3.6, pivot="tail",
                )  # fmt: skip
            axes.set_title(panel.title)
            _frame(axes, panel.extent)
    return fig


@style.picture
def path_panels(panels: Sequence[PathPanel], background: Lattice, log_density: Tensor, columns: int = 3) -> Figure:
    """Trajectories over the density of the data: each from a ring, where it starts, to a dot, where it ends."""
    checks.listed("path_panels", "panels", panels, PathPanel)
    checks.one("path_panels", "background", background, Lattice)
    checks.of_lattice("path_panels", "log_density", log_density, background.side**2)
    columns = whole("path_panels", "columns", columns, at_least=1, at_most=100)
    fig, grid = _panels(len(panels), columns, size=10.4 / columns)
    for panel, axes in zip(panels, grid, strict=True):
        _shade(axes, background, log_density, background.extent, strength=0.5)
        if panel.points is not None:
            x, y = _array(panel.points).T
            axes.scatter(x, y, s=2.5, color=style.INK, alpha=0.7, linewidths=0)
        paths = _array(panel.paths)
        for i in range(paths.shape[1]):
            colour = style.CYCLE[i % len(style.CYCLE)]
            axes.plot(*paths[:, i].T, color=colour, linewidth=1.0, alpha=0.9)
            axes.plot(*paths[0, i], "o", color=style.PAPER, markeredgecolor=colour, markersize=5, markeredgewidth=1.2)
            axes.plot(*paths[-1, i], "o", color=colour, markeredgecolor=style.PAPER, markersize=6, zorder=5)
        axes.set_title(panel.title)
        _frame(axes, background.extent)
    return fig


@style.picture
def point_panels(panels: Sequence[PointPanel], columns: int, names: Sequence[str] = ()) -> Figure:
    """Clouds of points, coloured along a curve; ``names`` label the rows of panels."""
    checks.listed("point_panels", "panels", panels, PointPanel)
    columns = whole("point_panels", "columns", columns, at_least=1, at_most=100)
    checks.listed("point_panels", "names", names, str, empty=True)
    fig, grid = _panels(len(panels), columns, size=9.6 / columns)
    for i, (panel, axes) in enumerate(zip(panels, grid, strict=True)):
        x, y = _array(panel.points).T
        size = 2.2 if len(x) > 700 else 5.0
        axes.scatter(
            x, y, c=_array(panel.along), cmap=style.ALONG, vmin=0, vmax=1, s=size, linewidths=0, rasterized=True
        )
        axes.set_title(panel.title, fontsize=9)
        _frame(axes, panel.extent)
        if names and i % columns == 0:
            axes.set_ylabel(names[i // columns], color=style.INK)
    return fig


@style.picture
def density_maps(
    titles: Sequence[str], log_densities: Sequence[Tensor], background: Lattice, depth: float = 8.0
) -> Figure:
    """Maps of log-densities: each from its first's maximum down by ``depth`` nats, with a line every two nats."""
    checks.one("density_maps", "background", background, Lattice)
    for values in checks.listed("density_maps", "log_densities", log_densities, Tensor):
        checks.of_lattice("density_maps", "log_densities", values, background.side**2)
    checks.count("density_maps", "titles", checks.listed("density_maps", "titles", titles, str), len(log_densities))
    depth = number("density_maps", "depth", depth, above=0.0)
    fig = style.figure(3.3 * len(titles) + 0.5, 3.5)
    row: Sequence[Axes] = np.atleast_1d(np.asarray(fig.subplots(1, len(titles)))).tolist()
    top = float(np.nanmax(background.square(log_densities[0])))
    image: Any = None
    for title, values, axes in zip(titles, log_densities, row, strict=True):
        square = background.square(values)
        image = axes.imshow(
            np.maximum(square, top - depth), origin="lower", extent=background.box, cmap=style.DENSITY,
            vmin=top - depth, vmax=top, interpolation="bilinear",
        )  # fmt: skip
        levels = top - np.arange(depth - 2, 0, -2)
        axes.contour(
            square,
            levels=levels,
            extent=background.box,
            colors=style.INK,
            linewidths=0.5,
            linestyles="solid",
            alpha=0.55,
        )
        axes.set_title(title)
        _frame(axes, background.extent)
    bar = fig.colorbar(image, ax=row, shrink=0.8, aspect=26, pad=0.015)
    bar.set_label("log-density (nats)", color=style.MUTED)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    return fig


def _panels(count: int, columns: int, size: float = 3.1) -> tuple[Figure, list[Axes]]:
    rows = -(-count // columns)
    fig = style.figure(size * columns, (size + 0.25) * rows)
    grid: list[Axes] = np.asarray(fig.subplots(rows, columns, squeeze=False)).reshape(-1).tolist()
    for axes in grid[count:]:
        axes.set_axis_off()
    return fig, grid[:count]


def _shade(axes: Axes, background: Lattice, log_density: Tensor, extent: float, strength: float = 0.8) -> None:
    density = np.exp(background.square(log_density) - float(log_density.max()))
    box = (-extent, extent, -extent, extent)
    axes.imshow(
        strength * np.sqrt(density),
        origin="lower",
        extent=box,
        cmap=style.DENSITY,
        vmin=0,
        vmax=1,
        interpolation="bilinear",
    )


def _frame(axes: Axes, extent: float) -> None:
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent))
    style.framed(axes)


def _array(x: Tensor) -> Array:
    array: Array = x.detach().to("cpu").double().numpy()
    return array
