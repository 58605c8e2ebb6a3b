"""Pictures: what stands where in them, read back from the figures and from the files."""

import math
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import _pylab_helpers
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.quiver import Quiver
from PIL import Image

import sdekit as sk
from sdekit import plots
from sdekit.plots import FieldPanel, Mark, PathPanel, PointPanel, SolverRow, Tradeoff, style

F64 = torch.float64
WASH = round(255 * to_rgb(style.WASH)[0])
"""The red of the gaps between images."""


@pytest.fixture(autouse=True)
def _the_callers_matplotlib_is_as_it_was():
    """Every test here draws: none may change a setting, nor leave a figure with pyplot."""
    before = dict(mpl.rcParams.copy())
    yield
    assert dict(mpl.rcParams.copy()) == before
    assert not _pylab_helpers.Gcf.figs


def checkers(n, h=3, w=4):
    """(n, 1, h, w): ink and paper in turn, another start each."""
    i, y, x = torch.meshgrid(torch.arange(n), torch.arange(h), torch.arange(w), indexing="ij")
    return (2.0 * ((i + y + x) % 2) - 1)[:, None]


def curves(axes):
    """The points of the lines of axes."""
    return [line.get_xydata() for line in axes.get_lines()]


def texts(fig):
    """Every text of a figure that is not empty."""
    found = [text.get_text() for axes in fig.axes for text in axes.texts]
    found += [label.get_text() for axes in fig.axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    found += [axes.get_title("left") for axes in fig.axes] + [axes.get_xlabel() for axes in fig.axes]
    return [text for text in found if text]


def roll():
    """A density on a small lattice, and points: one of each kind of picture of the plane needs them."""
    grid = plots.lattice(12, 2.0)
    model = sk.models.GaussianMixture(sk.VPSDE(), [1.0, 1.0], torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), 0.2)
    return grid, model.log_prob(grid.points, 0.2), sk.Noise(0).normal((30, 2), stream="data", dtype=F64)


def row(view, solver="DDIM", nfe=20.0, seconds=1.25, distance=0.0321, low=-0.004, high=0.006):
    return SolverRow(view, solver, nfe, seconds, distance, low, high)


def tradeoff(**changed):
    curves = {
        "DDIM": [(5, 0.4, 0.3, 0.5), (10, 0.1, 0.05, 0.15)],
        "Heun": [(9, 0.2, 0.1, 0.3), (49, -0.01, -0.1, 0.02)],
    }
    return Tradeoff("error", "evaluations", curves, [(5, 0.4), (10, 0.1), (49, -0.01)], 0.04)._replace(**changed)


def every_picture():
    grid, density, points = roll()
    along, paths = torch.linspace(0, 1, 30), points.reshape(5, 6, 2)
    field = FieldPanel("field", density, 2.0, points, -points, -1.1 * points)
    curves = {"flow order": plots.Convergence([10, 20, 40], [0.4, 0.1, 0.025], 2.0)}
    return {
        "certificate": lambda: plots.certificate("DDIM", curves, [("flow order", "2", ">= 1.85", True)]),
        "density_maps": lambda: plots.density_maps(["a", "b"], [density, density - 1], grid),
        "image_grid": lambda: plots.image_grid(checkers(6)),
        "image_rows": lambda: plots.image_rows([checkers(4), checkers(4)], ["a", "b"], [""] * 4, groups=[1]),
        "loss_curves": lambda: plots.loss_curves({"a": [1.0, 0.5, 0.4], "b": [2.0]}),
        "histogram": lambda: plots.histogram({"a": [0.1, 0.5, 0.7, 2.0], "b": [1.0, 1.5]}, "nats"),
        "mark_chart": lambda: plots.mark_chart([Mark("a", 1.0), Mark("b", 2.0, 0.5)], "bits"),
        "path_panels": lambda: plots.path_panels([PathPanel("p", paths, points)], grid, density),
        "point_panels": lambda: plots.point_panels([PointPanel("p", points, along, 2.0)], 2, ["row"]),
        "rate_distortion": lambda: plots.rate_distortion({"a": ([0.1, 0.5, 2.0], [1.0, 0.7, 0.2]), "b": ([0.0], [1])}),
        "schedules": lambda: plots.schedules({"VP": sk.VPSDE(), "VE": sk.VESDE()}),
        "score_fields": lambda: plots.score_fields([[field, field]], grid),
        "solver_table": lambda: plots.solver_table([row("A"), row("A", "Heun"), row("B")]),
        "tradeoffs": lambda: plots.tradeoffs([tradeoff(), tradeoff(floor=None)]),
        "verdicts": lambda: plots.verdicts(["A", "B"], ["VP"], {("A", "VP"): ("2", True), ("B", "VP"): ("1", False)}),
    }


each_picture = pytest.mark.parametrize("name", every_picture())


# What every picture promises


def test_every_public_name_is_there_and_every_picture_is_tested():
    kinds = {"save", "save_film", "save_grid", "styled", "lattice"} | {"Convergence", "FieldPanel", "Lattice", "Mark"}
    kinds |= {"PathPanel", "PointPanel", "SolverRow", "Tradeoff"}
    assert set(plots.__all__) == kinds | set(every_picture())
    assert all(hasattr(plots, name) for name in plots.__all__)


@each_picture
def test_a_saved_picture_is_a_png_of_the_figures_size(tmp_path, name):
    """Its pixels are the figure's inches times the dots per inch; without an alpha that lets the paper through."""
    fig = every_picture()[name]()
    path = plots.save(fig, tmp_path / "a.png")
    assert path == tmp_path / "a.png"
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with Image.open(path) as head:
        width, height = head.size
    assert (width, height) == tuple(int(side * style.DPI + 1e-6) for side in fig.get_size_inches())
    picture = Image.open(path).convert("RGBA")
    assert picture.getextrema()[3] == (255, 255)
    assert len(picture.getcolors(width * height)) > 2, "nothing is drawn"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png"]


@each_picture
def test_a_picture_is_the_same_whatever_the_callers_settings(tmp_path, name):
    """Also drawn under one and saved under another."""
    plain = plots.save(every_picture()[name](), tmp_path / "plain.png", dpi=60).read_bytes()
    with mpl.rc_context(FOREIGN):
        fig = every_picture()[name]()
        plots.save(fig, tmp_path / "foreign.png", dpi=60)
    assert (tmp_path / "foreign.png").read_bytes() == plain


FOREIGN = {
    "font.size": 20.0,
    "axes.facecolor": "black",
    "axes.grid": True,
    "axes.spines.top": True,
    "figure.facecolor": "black",
    "savefig.facecolor": "black",
    "lines.linewidth": 9.0,
    "text.color": "red",
    "image.interpolation": "bilinear",
    "axes.titlelocation": "center",
    "legend.frameon": True,
}
"""Settings that the package has a value for: it must be in force."""


def test_the_look_ends_with_its_block_also_by_an_exception():
    before = mpl.rcParams["font.size"]
    with mpl.rc_context({"font.size": 20.0}):
        with plots.styled():
            assert mpl.rcParams["font.size"] == style.RC["font.size"] != 20.0
            assert mpl.rcParams["axes.spines.top"] is False
        assert mpl.rcParams["font.size"] == 20.0
        with pytest.raises(ValueError, match="broken"), plots.styled():
            raise ValueError("broken")
        assert mpl.rcParams["font.size"] == 20.0
    assert mpl.rcParams["font.size"] == before


def test_a_picture_that_cannot_be_drawn_leaves_the_settings():
    """The autouse fixture compares them all."""
    with pytest.raises(TypeError, match="curves must hold lists of numbers"):
        plots.loss_curves({"a": ["no number"]})


def test_pyplot_is_never_loaded(tmp_path):
    """By drawing and saving, in a process of its own."""
    code = f"""
import sys
from pathlib import Path
import torch
from sdekit import plots
plots.save(plots.loss_curves({{"a": [1.0, 0.5]}}), Path({str(tmp_path / "a.png")!r}))
plots.save_grid(torch.zeros(4, 1, 3, 3), Path({str(tmp_path / "b.png")!r}))
plots.save_film([torch.zeros(4, 1, 3, 3)], Path({str(tmp_path / "c.gif")!r}))
assert "matplotlib.pyplot" not in sys.modules, "pyplot"
assert "tkinter" not in sys.modules, "tkinter"
"""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png", "c.gif"]


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_a_picture_is_of_the_kind_that_its_name_says(tmp_path, suffix):
    path = plots.save(every_picture()["mark_chart"](), tmp_path / f"a.{suffix}")
    assert path.read_bytes().lstrip()[:5] == {"svg": b"<?xml", "pdf": b"%PDF-"}[suffix]


# Images


def expected(images, columns, scale):
    """The picture of a grid, in grey levels, pixel by pixel."""
    n, _, h, w = images.shape
    rows = -(-n // columns)
    grey = np.full(((rows * (h + 1) + 1) * scale, (columns * (w + 1) + 1) * scale), WASH, dtype=np.uint8)
    for i in range(n):
        for y in range(h):
            for x in range(w):
                top, left = (1 + (i // columns) * (h + 1) + y) * scale, (1 + (i % columns) * (w + 1) + x) * scale
                grey[top : top + scale, left : left + scale] = 255 if images[i, 0, y, x] < 0 else 16
    return grey


@pytest.mark.parametrize(
    ("n", "h", "w", "columns", "scale"),
    [(1, 3, 4, 1, 10), (5, 3, 4, 2, 10), (8, 3, 4, 8, 1), (3, 2, 2, 8, 7), (40, 8, 8, 8, 10), (64, 8, 8, 8, 10)],
)
def test_a_saved_grid_holds_every_pixel_as_a_square(tmp_path, n, h, w, columns, scale):
    """1 is ink (red 16), -1 is paper (255), between them and around stands the wash; nothing is blurred or cut."""
    images = checkers(n, h, w)
    path = plots.save_grid(images, tmp_path / "grid.png", columns, scale)
    found = np.asarray(Image.open(path).convert("RGB"))[..., 0]
    wanted = expected(images, columns, scale)
    assert found.shape == wanted.shape
    np.testing.assert_array_equal(found, wanted)


def test_a_grid_keeps_its_pixels_under_a_tight_bounding_box(tmp_path):
    """A setting of many users, which would cut and pad the file."""
    images = checkers(6)
    with mpl.rc_context({"savefig.bbox": "tight"}):
        path = plots.save_grid(images, tmp_path / "grid.png", 3, 10)
    np.testing.assert_array_equal(np.asarray(Image.open(path).convert("RGB"))[..., 0], expected(images, 3, 10))


@pytest.mark.parametrize("shape", [(2, 1, 1, 3), (2, 1, 3)])
def test_grey_rises_with_the_value_and_values_outside_are_its_ends(tmp_path, shape):
    """-1, 0, 1 in the first image; -7 and 7 in the second are clipped. (N, H, W) is as good as (N, 1, H, W)."""
    images = torch.tensor([[-1.0, 0.0, 1.0], [-7.0, 0.5, 7.0]], dtype=F64).reshape(shape)
    path = plots.save_grid(images, tmp_path / "grid.png", 2, 1)
    red = np.asarray(Image.open(path).convert("RGB"))[1, :, 0].astype(int)
    assert red.tolist()[:1] + red.tolist()[4:5] == [WASH, WASH]
    assert (red[1], red[3], red[5], red[7]) == (255, 16, 255, 16)
    assert red[2] == pytest.approx((255 + 16) / 2, abs=1.5)
    assert red[6] == pytest.approx(255 - 0.75 * (255 - 16), abs=1.5)


def test_a_film_has_its_frames_in_order_and_rests_on_the_last(tmp_path):
    """Each frame pixel by pixel; 80 ms each, 2.5 s the last; it runs forever."""
    frames = [checkers(n, 3, 4) for n in (4, 1, 2, 3)]
    path = plots.save_film(frames, tmp_path / "film.gif", columns=4, scale=5)
    assert path == tmp_path / "film.gif"
    assert path.read_bytes()[:6] == b"GIF89a"
    with Image.open(path) as film:
        assert film.n_frames == 4
        assert film.info["loop"] == 0
        for i, images in enumerate(frames):
            film.seek(i)
            np.testing.assert_array_equal(np.asarray(film.convert("RGB"))[..., 0], expected(images, 4, 5))
            assert film.info["duration"] == (2500 if i == 3 else 80)


def test_a_film_that_stands_still_lasts_as_long(tmp_path):
    """Equal frames may be one in the file: the time is theirs together."""
    path = plots.save_film([checkers(2)] * 3 + [checkers(1)] * 2, tmp_path / "film.gif", seconds=0.2)
    with Image.open(path) as film:
        total = 0
        for i in range(film.n_frames):
            film.seek(i)
            total += film.info["duration"]
    assert total == 4 * 200 + 2500


def test_a_film_of_one_frame_is_a_picture(tmp_path):
    path = plots.save_film([checkers(2)], tmp_path / "film.gif", columns=2, scale=3)
    with Image.open(path) as film:
        assert getattr(film, "n_frames", 1) == 1
        np.testing.assert_array_equal(np.asarray(film.convert("RGB"))[..., 0], expected(checkers(2), 2, 3))


def test_rows_of_images_stand_under_their_columns_beside_their_names():
    """Each image where its name's tick and its column's tick cross; a wider gap before the group."""
    rows = [torch.full((3, 1, 4, 4), -1.0) for _ in range(3)]
    for i, strip in enumerate(rows):
        strip[i] = 1.0
    fig = plots.image_rows(rows, ["a", "b", "c"], ["x", "y", "z"], groups=[2])
    axes = fig.axes[0]
    raster = np.ma.filled(axes.get_images()[0].get_array(), np.nan)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x", "y", "z"]
    for i, y in enumerate(axes.get_yticks()):
        for j, x in enumerate(axes.get_xticks()):
            patch = raster[round(y - 1.5) : round(y + 2.5), round(x - 1.5) : round(x + 2.5)]
            np.testing.assert_array_equal(patch, np.full((4, 4), float(i == j)))
    gaps = np.diff(axes.get_yticks())
    assert gaps.tolist() == [5.0, 7.0]
    assert np.isnan(raster[0]).all()
    assert np.isnan(raster[-1]).all()
    assert np.nansum(raster) == 3 * 16


def test_rows_of_images_have_square_pixels_and_room_for_their_names(tmp_path):
    """A pixel is as wide as high, to a part in 1,000; no name is cut off by the edge of the paper."""
    rows = [checkers(5, 4, 4), checkers(5, 4, 4)]
    fig = plots.image_rows(rows, ["Predictor-corrector of some length", "b"], ["0.00"] * 5)
    axes = fig.axes[0]
    box, raster = axes.get_window_extent(), axes.get_images()[0].get_array()
    assert box.width / raster.shape[1] == pytest.approx(box.height / raster.shape[0], rel=1e-3)
    with plots.styled():
        FigureCanvasAgg(fig).draw()
        for label in (*axes.get_yticklabels(), *axes.get_xticklabels()):
            extent = label.get_window_extent()
            assert extent.x0 >= 0
            assert extent.x1 <= fig.bbox.width
            assert extent.y1 <= fig.bbox.height


# The plane


def test_a_lattice_is_the_middles_of_its_cells_row_by_row():
    grid = plots.lattice(4, 2.0)
    ticks = [-1.5, -0.5, 0.5, 1.5]
    assert grid.points.tolist() == [[x, y] for y in ticks for x in ticks]
    assert (grid.side, grid.extent, grid.box) == (4, 2.0, (-2.0, 2.0, -2.0, 2.0))
    np.testing.assert_array_equal(grid.square(grid.points[:, 0]), np.tile(ticks, (4, 1)))
    np.testing.assert_array_equal(grid.square(grid.points[:, 1])[0], [-1.5] * 4)


def test_a_lattice_integrates_a_normal_density_to_one():
    grid = plots.lattice(40, 7.0)
    density = torch.exp(-grid.points.square().sum(1) / 2) / (2 * math.pi)
    assert float(density.mean()) * 14.0**2 == pytest.approx(1.0, abs=1e-9)


def test_arrows_point_along_the_score_and_grow_with_its_logarithm():
    """0.75 of the spacing times log(1 + |s| / median |s|), at the points given; the exact ones first and beneath."""
    grid, density, _ = roll()
    points = plots.lattice(3, 2.0).points
    exact = torch.stack([torch.arange(1.0, 10.0), -torch.ones(9)], 1)
    learned = 2 * exact
    learned[4] = 0.0
    fig = plots.score_fields([[FieldPanel("f", density, 2.0, points, learned, exact)]], grid)
    quivers = [artist for artist in fig.axes[0].collections if isinstance(artist, Quiver)]
    assert [tuple(q.get_facecolor()[0]) for q in quivers] == [to_rgba(style.VERMILION), to_rgba(style.INK)]
    unit, spacing = float(exact.norm(dim=1).median()), 4.0 / 3
    for quiver, field in zip(quivers, (exact, learned), strict=True):
        np.testing.assert_array_equal(np.stack([quiver.X, quiver.Y], 1), points.numpy())
        size = field.norm(dim=1, keepdim=True)
        wanted = field / size.clamp(min=1e-12) * torch.log1p(size / unit) * 0.75 * spacing
        np.testing.assert_allclose(np.stack([quiver.U, quiver.V], 1), wanted.numpy(), rtol=1e-6, atol=1e-12)
        assert (quiver.scale, quiver.angles, quiver.scale_units) == (1.0, "xy", "xy")
    assert fig.axes[0].get_xlim() == fig.axes[0].get_ylim() == (-2.0, 2.0)


def test_score_fields_stand_in_rows_and_columns_under_their_titles():
    grid, density, points = roll()
    panels = [[FieldPanel(f"{i}{j}", density, 2.0, points, points) for j in range(3)] for i in range(2)]
    fig = plots.score_fields(panels, grid)
    places = {axes.get_title("left"): axes.get_subplotspec() for axes in fig.axes}
    assert {name: (s.rowspan.start, s.colspan.start) for name, s in places.items()} == {
        f"{i}{j}": (i, j) for i in range(2) for j in range(3)
    }
    assert all(sum(isinstance(a, Quiver) for a in axes.collections) == 1 for axes in fig.axes)


def test_paths_run_from_a_ring_to_a_dot():
    """The first state hollow, the last filled, in the colour of the line between them; points as they are."""
    grid, density, points = roll()
    paths = sk.Noise(1).normal((7, 3, 2), stream="data")
    fig = plots.path_panels([PathPanel("p", paths, points), PathPanel("none", paths[:, :0])], grid, density, columns=4)
    axes, empty = fig.axes[:2]
    lines = axes.get_lines()
    assert len(lines) == 9
    assert not empty.get_lines()
    for i in range(3):
        path, ring, dot = lines[3 * i : 3 * i + 3]
        np.testing.assert_array_equal(path.get_xydata(), paths[:, i].numpy())
        np.testing.assert_array_equal(ring.get_xydata(), paths[:1, i].numpy())
        np.testing.assert_array_equal(dot.get_xydata(), paths[-1:, i].numpy())
        assert ring.get_markerfacecolor() == style.PAPER
        assert path.get_color() == ring.get_markeredgecolor() == dot.get_markerfacecolor() == style.CYCLE[i]
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), points.numpy())
    assert [a.axison for a in fig.axes] == [True, True, False, False]


def test_the_density_behind_is_the_right_way_up():
    """Its only peak, at (1.5, -0.5) of the plane, is the darkest place of the drawn image."""
    grid = plots.lattice(8, 2.0)
    density = -4 * (grid.points - torch.tensor([1.25, -0.75])).square().sum(1)
    fig = plots.path_panels([PathPanel("p", torch.zeros(1, 0, 2))], grid, density, columns=1)
    shown = fig.axes[0].get_images()[0]
    assert shown.origin == "lower"
    i, j = np.unravel_index(np.argmax(shown.get_array()), (8, 8))
    left, right, bottom, top = shown.get_extent()
    assert (left + (j + 0.5) * (right - left) / 8, bottom + (i + 0.5) * (top - bottom) / 8) == (1.25, -0.75)


def test_points_keep_their_places_and_their_colours():
    """A scatter a panel, coloured from 0 to 1 along the curve; the names stand before the rows."""
    _, _, points = roll()
    along = torch.linspace(0, 1, 30)
    panels = [PointPanel(f"p{i}", points + i, along, 2.0 + i) for i in range(5)]
    fig = plots.point_panels(panels, 3, ["first", "second"])
    for i, axes in enumerate(fig.axes[:5]):
        np.testing.assert_allclose(axes.collections[0].get_offsets(), (points + i).numpy(), rtol=1e-15)
        np.testing.assert_array_equal(axes.collections[0].get_array(), along.double().numpy())
        assert axes.collections[0].get_clim() == (0, 1)
        assert axes.get_xlim() == (-2.0 - i, 2.0 + i)
        assert axes.get_title("left") == f"p{i}"
    assert [axes.get_ylabel() for axes in fig.axes] == ["first", "", "", "second", "", ""]


def test_density_maps_share_the_scale_of_the_first():
    """From its maximum down by 8 nats, with lines at 2, 4 and 6; lower values are the floor."""
    grid, density, _ = roll()
    fig = plots.density_maps(["exact", "learned"], [density, density - 1.5], grid)
    top = float(density.max())
    for axes, values in zip(fig.axes[:2], (density, density - 1.5), strict=True):
        shown = axes.get_images()[0]
        assert shown.get_clim() == pytest.approx((top - 8, top))
        np.testing.assert_allclose(shown.get_array(), grid.square(values.clamp(min=top - 8)), rtol=1e-6)
        np.testing.assert_allclose(axes.collections[0].levels, [top - 6, top - 4, top - 2])
    assert [axes.get_title("left") for axes in fig.axes[:2]] == ["exact", "learned"]


def test_a_map_far_below_the_first_is_drawn_without_a_warning():
    """A model that has learned nothing yet: no line crosses it."""
    grid, density, _ = roll()
    fig = plots.density_maps(["exact", "untrained"], [density, torch.full_like(density, -60.0)], grid)
    assert float(fig.axes[1].get_images()[0].get_array().max()) == pytest.approx(float(density.max()) - 8)


# Charts


def test_losses_stand_over_their_steps_beside_their_running_mean():
    """Steps count from 1; the mean of a fortieth of them ends where they end."""
    losses = np.exp(sk.Noise(0).normal((200, 1), stream="data").numpy()[:, 0]).astype(float)
    fig = plots.loss_curves({"DDPM": losses.tolist(), "NCSN": [3.0]})
    raw, mean, single, its_mean = curves(fig.axes[0])
    np.testing.assert_array_equal(raw, np.stack([np.arange(1, 201), losses], 1))
    np.testing.assert_array_equal(mean[:, 0], np.arange(5, 201))
    np.testing.assert_allclose(mean[:, 1], [losses[i : i + 5].mean() for i in range(196)], rtol=1e-12)
    np.testing.assert_array_equal(single, [[1, 3.0]])
    np.testing.assert_array_equal(its_mean, [[1, 3.0]])
    assert fig.axes[0].get_yscale() == "log"
    below = plots.loss_curves({"DDPM": losses.tolist(), "NCSN": [3.0, -0.2]})  # no target: a logarithm would hide it
    assert below.axes[0].get_yscale() == "linear"
    np.testing.assert_array_equal(curves(below.axes[0])[2], [[1, 3.0], [2, -0.2]])
    assert [text.get_text() for text in fig.axes[0].get_legend().get_texts()] == ["DDPM", "NCSN"]


def test_a_curve_without_a_loss_yet_is_drawn_as_nothing():
    """A run on another device that ends in its first steps has none on the host."""
    fig = plots.loss_curves({"DDPM": [2.0, 1.0], "NCSN": []})
    assert [len(points) for points in curves(fig.axes[0])[:2]] == [2, 2]


def test_a_seventh_curve_is_not_dropped():
    """There are six colours: they begin again."""
    fig = plots.loss_curves({str(i): [1.0, 2.0 + i] for i in range(7)})
    assert len(fig.axes[0].get_legend().get_texts()) == 7
    fig = plots.schedules({str(i): sk.VESDE(sigma_max=10.0 + i) for i in range(7)}, points=5)
    assert len(fig.axes[0].get_lines()) == 7


def test_schedules_are_alpha_sigma_and_log_snr():
    """VP in closed form, with beta from 0.1 to 20: log alpha = -t^2 (20 - 0.1) / 4 - 0.1 t / 2; VE keeps alpha = 1."""
    fig = plots.schedules({"VP": sk.VPSDE(beta_min=0.1, beta_max=20.0), "VE": sk.VESDE()}, points=50)
    alpha, sigma, log_snr = (curves(axes) for axes in fig.axes)
    t = alpha[0][:, 0]
    assert (t[0], t[-1], len(t)) == (sk.VPSDE().t_min, sk.VPSDE().t_max, 50)
    a = np.exp(-0.25 * 19.9 * t**2 - 0.05 * t)
    np.testing.assert_allclose(alpha[0][:, 1], a, rtol=1e-10)
    np.testing.assert_allclose(sigma[0][:, 1], np.sqrt(-np.expm1(2 * np.log(a))), rtol=1e-10)
    np.testing.assert_allclose(log_snr[0][:, 1], 2 * np.log(alpha[0][:, 1] / sigma[0][:, 1]), rtol=1e-9)
    np.testing.assert_array_equal(alpha[1][:, 1], np.ones(50))
    np.testing.assert_allclose(log_snr[1][:, 1], -2 * np.log(sigma[1][:, 1]), rtol=1e-9)
    assert [text.get_text() for text in fig.axes[0].get_legend().get_texts()] == ["VP", "VE"]


def test_the_table_of_solvers_says_every_number():
    """And draws every distance at its place, beside the band of its view."""
    rows = [
        row("DDPM view", "Ancestral", 150.0, 12.34, 0.04321),
        row("DDPM view", "DDIM", 49.6, 0.06, -0.0012),
        row("NCSN view", "Heun", 19.0, 3.0, 1.5, -0.01, 0.02),
    ]
    fig = plots.solver_table(rows)
    text, chart = fig.axes
    said = [t.get_text() for t in text.texts]
    for wanted in (["Ancestral", "150", "12.3", "0.0432"], ["DDIM", "50", "0.1", "-0.0012"], ["Heun", "19", "3.0"]):
        start = said.index(wanted[0])
        assert said[start : start + len(wanted)] == wanted
    assert said.index("DDPM view") < said.index("Ancestral") < said.index("NCSN view") < said.index("Heun")
    assert said.count("NFE") == said.count("seconds") == said.count("distance") == 2
    dots = [line for line in chart.get_lines() if line.get_marker() == "o"]
    assert [float(line.get_xdata()[0]) for line in dots] == [0.04321, -0.0012, 1.5]
    heights = {t.get_text(): t.get_position()[1] for t in text.texts}
    assert [float(line.get_ydata()[0]) for line in dots] == [heights[r.solver] for r in rows]
    for band, wanted, inside in zip(
        chart.collections, [(-0.004, 0.006), (-0.01, 0.02)], [rows[:2], rows[2:]], strict=True
    ):
        corners = band.get_paths()[0].vertices
        assert (corners[:, 0].min(), corners[:, 0].max()) == pytest.approx(wanted)
        assert all(corners[:, 1].min() < heights[r.solver] < corners[:, 1].max() for r in inside)


@pytest.mark.parametrize(
    "rows",
    [
        [row("A", distance=0.03)],
        [row("A", distance=-0.06)],
        [row("A", distance=300.0)],
        [row("A", distance=0.001), row("B", distance=0.002, low=-0.2, high=0.3)],
        [row("A", distance=0.0), row("A", distance=5e-4, low=-1e-4, high=1e-4)],
    ],
    ids=["usual", "negative", "far off", "a wide band in the second view", "small"],
)
def test_every_dot_and_every_band_lies_within_the_chart(rows):
    """A distance may be negative; a band may be wider than any distance."""
    fig = plots.solver_table(rows)
    chart = fig.axes[1]
    low, high = chart.get_xlim()
    bottom, top = sorted(chart.get_ylim())
    for entry in rows:
        assert low < entry.distance < high
        assert low <= entry.floor_low < entry.floor_high <= high
    for line in chart.get_lines():
        if line.get_marker() == "o":
            assert bottom < line.get_ydata()[0] < top


def bars(axes):
    """The ends of the error bars of axes, by line."""
    found = {}
    for container in axes.containers:
        for bar in container[2]:
            (left, y), (right, _) = bar.get_segments()[0]
            found[round(float(y))] = (float(left), float(right))
    return found


def test_marks_stand_at_their_values_with_bars_of_their_errors():
    """One line each, from the top; a mark without an error has no bar. Numbers are written beside them."""
    marks = [Mark("a", 4.09), Mark("b", 2.5, 0.25, style.GREEN), Mark("c", -0.5, 0.1)]
    fig = plots.mark_chart(marks, "bits per dimension")
    axes = fig.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert [text.get_text() for text in axes.texts] == ["4.09", "2.50 ± 0.25", "-0.50 ± 0.10"]
    assert bars(axes) == {1: pytest.approx((2.25, 2.75)), 2: pytest.approx((-0.6, -0.4))}
    dots = [container[0] for container in axes.containers]
    assert [tuple(dot.get_xydata()[0]) for dot in dots] == [(4.09, 0), (2.5, 1), (-0.5, 2)]
    assert dots[1].get_color() == style.GREEN
    assert axes.get_xlabel() == "bits per dimension"


@pytest.mark.parametrize(
    "marks",
    [
        [Mark("a", 3.0, 0.5), Mark("b", 1.0)],
        [Mark("a", 0.2, 0.5), Mark("b", 1.0)],
        [Mark("a", -2.0, 0.3), Mark("b", -1.0, 0.1)],
        [Mark("a", -2.0, 0.9), Mark("b", 1.0)],
        [Mark("a", 0.0)],
    ],
    ids=["usual", "a bar across zero", "all negative", "a bar beyond the lowest", "zero"],
)
def test_every_mark_and_every_bar_lies_within_the_chart(marks):
    axes = plots.mark_chart(marks, "nats").axes[0]
    low, high = axes.get_xlim()
    for mark in marks:
        assert low <= mark.value - mark.error
        assert mark.value + mark.error <= high
    assert low <= 0 <= high


@pytest.mark.parametrize("name", ["loss_curves", "mark_chart", "solver_table", "schedules", "point_panels"])
def test_no_text_is_cut_off_by_the_edge_of_the_paper(name):
    fig = every_picture()[name]()
    with plots.styled():
        FigureCanvasAgg(fig).draw()
        inner = [text for axes in fig.axes for text in (*axes.texts, axes.xaxis.label, axes.yaxis.label)]
        for text in inner:
            if text.get_text():
                extent = text.get_window_extent()
                assert extent.x0 > -1, text
                assert extent.x1 < fig.bbox.width + 1, text
                assert extent.y0 > -1, text
                assert extent.y1 < fig.bbox.height + 1, text
    assert texts(fig)


def test_rates_and_distortions_stand_where_they_were_measured():
    """In the order of sending, a mark a level where they are few; both axes begin at 0, and tensors do."""
    few = (torch.tensor([0.5, 1.0, 3.0]), torch.tensor([0.8, 0.4, 0.1]))
    many = (np.linspace(1.0, 2.0, 41), np.linspace(1.0, 0.5, 41))
    fig = plots.rate_distortion({"few": few, "many": many}, "bits")
    (axes,) = fig.axes
    shown = curves(axes)
    np.testing.assert_allclose(shown[0], np.stack([v.numpy() for v in few], 1))
    np.testing.assert_allclose(shown[1], np.stack(many, 1))
    assert [line.get_marker() for line in axes.get_lines()] == ["o", "None"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["few", "many"]
    assert axes.get_xlabel() == "bits"
    assert axes.get_xlim()[0] == axes.get_ylim()[0] == 0.0


def test_a_tradeoff_shows_each_run_at_its_cost_with_its_interval():
    """On logarithmic scales; what is 0 or less stands at half the least value, and its bar reaches up to its end."""
    fig = plots.tradeoffs([tradeoff()])
    (axes,) = fig.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert (axes.get_title("left"), axes.get_xlabel()) == ("error", "evaluations")
    lines = {box.get_label(): box.lines for box in axes.containers}
    assert lines["DDIM"][0].get_xydata().tolist() == [[5, 0.4], [10, 0.1]]
    assert lines["Heun"][0].get_xydata().tolist() == [[9, 0.2], [49, 0.02]]  # half of the floor, which is the least
    (bars,) = lines["Heun"][2]
    assert np.allclose(bars.get_segments(), [[[9, 0.1], [9, 0.3]], [[49, 0.02], [49, 0.02]]], rtol=1e-12)
    (front,) = [line for line in axes.get_lines() if line.get_label() == "Pareto front"]
    assert front.get_xydata().tolist() == [[5, 0.4], [10, 0.1], [49, -0.01]]
    assert front.get_drawstyle() == "steps-post"
    (band,) = [patch for patch in axes.patches if patch.get_label() == "noise floor"]
    assert band.get_extents().transformed(axes.transData.inverted()).y1 == pytest.approx(0.04)
    low, high = axes.get_ylim()
    assert low < 0.02
    assert high > 0.4
    assert [text.get_text() for text in axes.get_xticklabels()] == ["5", "10", "49"]


def test_a_sampler_has_one_colour_in_all_panels_and_one_line_in_the_legend():
    turned = tradeoff(curves=dict(reversed(tradeoff().curves.items())), floor=None)
    fig = plots.tradeoffs([tradeoff(), turned, tradeoff(curves={"UniPC": [(0.013, 1.0, 1.0, 1.0)]}, front=[])])
    colours = [{box.get_label(): box.lines[0].get_color() for box in axes.containers} for axes in fig.axes]
    assert colours[0] == colours[1] == {"DDIM": style.BLUE, "Heun": style.VERMILION}
    assert colours[2] == {"UniPC": style.GREEN}
    (legend,) = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == ["DDIM", "Heun", "UniPC", "Pareto front", "noise floor"]
    assert len(fig.axes) == 4
    assert not fig.axes[3].axison
    assert [len(axes.patches) for axes in fig.axes] == [1, 0, 1, 0]
