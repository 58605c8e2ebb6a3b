"""Pictures of images: grids, films, the forward process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from ..errors import MOST, file_path, number, whole
from . import checks, style

Raster = NDArray[np.float64]

TICK = 8.5
"""Points of the names of rows and columns."""

GAP = 1
"""Pixels of paper between two images."""


@style.picture
def image_grid(images: Tensor, columns: int = 8, scale: int = 10) -> Figure:
    """A grid of one-channel images in [-1, 1], (N, 1, H, W) or (N, H, W): ink on paper, without a word.

    Every pixel is a square of ``scale`` points of the file, at ``dpi=100``: save it with :func:`save_grid`.
    """
    checks.images("image_grid", "images", images)
    columns = whole("image_grid", "columns", columns, at_least=1, at_most=MOST)
    scale = whole("image_grid", "scale", scale, at_least=1, at_most=1000)
    raster = mosaic(images, columns)
    height, width = raster.shape
    fig = Figure(figsize=(width * scale / 100, height * scale / 100), dpi=100)
    axes = fig.add_axes((0, 0, 1, 1))
    axes.imshow(raster, cmap=_ink(), vmin=0, vmax=1, aspect="auto")
    axes.set_axis_off()
    return fig


def save_grid(images: Tensor, path: Path, columns: int = 8, scale: int = 10) -> Path:
    """Writes :func:`image_grid`, its pixels whole, and returns the path."""
    path = file_path("save_grid", "path", path)
    return style.save(image_grid(images, columns, scale), path, dpi=100)


def save_film(frames: Sequence[Tensor], path: Path, columns: int = 8, scale: int = 8, seconds: float = 0.08) -> Path:
    """Writes grids of images as an animated GIF that rests on its last frame, and returns the path."""
    from PIL import Image

    path = file_path("save_film", "path", path)
    for images in checks.listed("save_film", "frames", frames, Tensor):
        checks.images("save_film", "frames", images)
    columns = whole("save_film", "columns", columns, at_least=1, at_most=MOST)
    scale = whole("save_film", "scale", scale, at_least=1, at_most=1000)
    seconds = number("save_film", "seconds", seconds, above=0.0, at_most=60.0)
    pages = []
    for images in frames:
        raster = _ink()(mosaic(images, columns), bytes=True)[..., 0]
        pages.append(Image.fromarray(np.kron(raster, np.ones((scale, scale), dtype=np.uint8))))
    last = len(pages) - 1
    times = [2500 if i == last else int(1000 * seconds) for i in range(len(pages))]
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=times, loop=0, optimize=True)
    return path


@style.picture
def image_rows(
    rows: Sequence[Tensor],
    names: Sequence[str],
    columns: Sequence[str],
    *,
    groups: Sequence[int] = (),
    height: float = 0.62,
) -> Figure:
    """Rows of one-channel images in [-1, 1], each (N, 1, H, W), with a name a row and a label a column.

    ``groups``: the rows before which a wider gap stands. ``height``: of a row, in inches.
    """
    for row in checks.listed("image_rows", "rows", rows, Tensor):
        checks.images("image_rows", "rows", row)
    checks.count("image_rows", "names", checks.listed("image_rows", "names", names, str), len(rows))
    checks.count("image_rows", "columns", checks.listed("image_rows", "columns", columns, str), len(rows[0]))
    for group in checks.listed("image_rows", "groups", groups, int, empty=True):
        whole("image_rows", "groups", group, at_least=0)
    height = number("image_rows", "height", height, above=0.0, at_most=100.0)
    strips, centres, top = [], [], 0
    for i, row in enumerate(rows):
        strip = mosaic(row, len(row))
        pixels = strip.shape[0] - 2 * GAP
        if i in groups:
            gap = np.full((pixels // 2, strip.shape[1]), np.nan)
            strips.append(gap)
            top += len(gap)
        centres.append(top + GAP + pixels / 2 - 0.5)
        strips.append(strip[: GAP + pixels])
        top += GAP + pixels
    raster = np.concatenate([*strips, np.full((GAP, strips[0].shape[1]), np.nan)])
    across = raster.shape[1]
    cell = (across - GAP) / len(rows[0])
    inch = height / cell
    # margins by hand: constrained layout gives up on pictures of a fixed aspect
    left = 0.15 + max(style.text_width(name, TICK) for name in names)
    head = 0.3 if any(columns) else 0.05
    width, depth = left + across * inch + 0.05, head + raster.shape[0] * inch + 0.05
    fig = Figure(figsize=(width, depth), dpi=style.DPI)
    axes = fig.add_axes((left / width, 0.05 / depth, across * inch / width, raster.shape[0] * inch / depth))
    axes.imshow(raster, cmap=_ink(), vmin=0, vmax=1, aspect="auto")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_yticks(centres, names)
    axes.set_xticks([GAP / 2 + cell * (i + 0.5) - 0.5 for i in range(len(rows[0]))], columns)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False, labelsize=TICK)
    return fig


def mosaic(images: Tensor, columns: int) -> Raster:
    """One raster of many images in [-1, 1], 0 for paper and 1 for ink, NaN in the gaps between and around them."""
    x = images.detach().to("cpu").double().numpy()
    x = np.clip((x.reshape(len(x), *x.shape[-2:]) + 1) / 2, 0, 1)
    n, h, w = x.shape
    rows = -(-n // columns)
    raster = np.full((rows * (h + GAP) + GAP, columns * (w + GAP) + GAP), np.nan)
    for i, image in enumerate(x):
        top, left = GAP + (i // columns) * (h + GAP), GAP + (i % columns) * (w + GAP)
        raster[top : top + h, left : left + w] = image
    return raster


def _ink() -> Colormap:
    colours: Colormap = style.INK_ON_PAPER.with_extremes(bad=style.WASH)
    return colours
