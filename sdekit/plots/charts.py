"""Charts: losses, schedules, tables of solvers, what samplers cost, bits per dimension, certificates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from ..errors import MOST, InvalidArgument, InvalidType, describe, whole
from ..sdes.gaussian import GaussianSDE
from . import checks, style


class SolverRow(NamedTuple):
    """A run of a solver: what it cost, and how far its samples are from held-out data beside the noise floor."""

    view: str
    solver: str
    nfe: float
    seconds: float
    distance: float
    floor_low: float
    floor_high: float


class Mark(NamedTuple):
    """A value with an error bar."""

    name: str
    value: float
    error: float = 0.0
    colour: str = style.MUTED


class Convergence(NamedTuple):
    """The errors of runs of some numbers of steps, and the order that was read off them; None where there is none."""

    steps: Sequence[float]
    errors: Sequence[float]
    order: float | None


class Tradeoff(NamedTuple):
    """What samplers reach for what they cost, on logarithmic scales.

    ``curves``: by sampler, (cost, value, low, high) of each run, joined in their order. ``front``: (cost, value) of the
    runs than which none is better at no higher cost. ``floor``: below it a value is noise. What is 0 or less stands at
    the lower edge.
    """

    title: str
    cost: str
    curves: Mapping[str, Sequence[tuple[float, float, float, float]]]
    front: Sequence[tuple[float, float]] = ()
    floor: float | None = None


@style.picture
def tradeoffs(panels: Sequence[Tradeoff], columns: int = 2) -> Figure:
    """Panels of values over costs, one colour a sampler in all of them, with the Pareto front as grey steps."""
    for panel in checks.listed("tradeoffs", "panels", panels, Tradeoff):
        _check_tradeoff(panel)
    columns = min(whole("tradeoffs", "columns", columns, at_least=1, at_most=MOST), len(panels))
    lines = math.ceil(len(panels) / columns)
    names = list(dict.fromkeys(name for panel in panels for name in panel.curves))
    colours = dict(zip(names, itertools.cycle(style.CYCLE), strict=False))
    marks = dict(zip(names, itertools.cycle("osD^vPX"), strict=False))
    fig = style.figure(4.6 * columns, 3.1 * lines + 0.25 * math.ceil(len(names) / 4))
    grid = fig.subplots(lines, columns, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        shown = [point[1] for points in panel.curves.values() for point in points if point[1] > 0]
        least = min([*shown, *([panel.floor] if panel.floor and panel.floor > 0 else [])], default=1e-3)
        for name, points in panel.curves.items():
            cost, value, low, high = np.asarray(points, dtype=np.float64).T
            value, low, high = (np.maximum(v, 0.5 * least) for v in (value, low, high))
            bars = np.maximum([value - low, high - value], 0.0)
            axes.errorbar(
                cost, value, yerr=bars, fmt=f"{marks[name]}-", color=colours[name], markersize=4, capsize=2,
                linewidth=1.2, elinewidth=0.8, label=name,
            )  # fmt: skip
        if panel.front:
            axes.step(
                *np.asarray(panel.front).T, where="post", color=style.MUTED, linewidth=5.0, alpha=0.25, zorder=0,
                label="Pareto front",
            )  # fmt: skip
        if panel.floor is not None and panel.floor > 0:
            axes.axhspan(
                0.4 * least, panel.floor, color=style.GREEN, alpha=0.15, linewidth=0, zorder=0, label="noise floor"
            )
        axes.set(title=panel.title, xlabel=panel.cost, xscale="log", yscale="log")
        if shown:
            axes.set_ylim(0.4 * least, 2.0 * max(shown))
        ticks = sorted({point[0] for points in panel.curves.values() for point in points})
        if all(tick == round(tick) for tick in ticks):
            kept = [a for a, b in zip(ticks, [*ticks[1:], math.inf], strict=True) if b > 1.15 * a]
            axes.set_xticks(kept, [f"{tick:g}" for tick in kept])
        else:
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.set_xticks([], minor=True)
        axes.grid(axis="y")
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    handles: dict[str, Any] = dict.fromkeys(names)  # first the samplers, in the order of their colours
    for axes in grid.flat:
        found, labels = axes.get_legend_handles_labels()
        handles.update(zip(labels, found, strict=True))
    fig.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=min(4, len(handles)))
    return fig


def _check_tradeoff(panel: Tradeoff) -> None:
    """Raises a named error for points that are no numbers, or that cost nothing."""
    for name, points in checks.named("tradeoffs", "curves", panel.curves).items():
        for point in checks.listed("tradeoffs", f"curves of {name}", points, tuple):
            checks.count("tradeoffs", f"curves of {name}", point, 4)
            checks.finite("tradeoffs", f"curves of {name}", point)
            if not point[0] > 0:
                raise InvalidArgument(f"tradeoffs: curves of {name} must cost more than 0, got a cost of {point[0]:g}")
    for point in panel.front:
        checks.finite("tradeoffs", "front", point)
    checks.finite("tradeoffs", "floor", [] if panel.floor is None else [panel.floor])


@style.picture
def certificate(
    title: str, curves: Mapping[str, Convergence], rows: Sequence[tuple[str, str, str, bool | None]]
) -> Figure:
    """Errors over steps beside the slopes found, and a table of (what was measured, figure, wanted, verdict)."""
    checks.text("certificate", "title", title)
    checks.listed("certificate", "rows", rows, tuple)
    if curves != {}:
        for curve in checks.named("certificate", "curves", curves).values():
            checks.one("certificate", "curves", curve, Convergence)
    fig = style.figure(9.2, max(2.9, 0.27 * len(rows) + 0.9))
    fig.suptitle(title, x=0.01, ha="left", fontsize=9)
    axes, text = fig.subplots(1, 2, width_ratios=(4.0, 5.2))
    for (name, curve), colour in zip(curves.items(), itertools.cycle(style.CYCLE), strict=False):
        order = "" if curve.order is None else f", {curve.order:.2f}"
        axes.plot(curve.steps, curve.errors, "o-", color=colour, markersize=4, label=f"{name}{order}")
        if curve.order is not None:
            n, e = np.asarray(curve.steps), curve.errors[-1]
            axes.plot(n, e * (n / n[-1]) ** -round(curve.order), ":", color=colour, linewidth=1.0)
    axes.set(xlabel="steps", ylabel="error", xscale="log", yscale="log")
    ticks = sorted({step for curve in curves.values() for step in curve.steps})
    axes.set_xticks(ticks, [f"{step:g}" for step in ticks])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y")
    if curves:
        axes.legend(fontsize=7.5)
    columns = ((0.0, "left"), (0.55, "right"), (0.58, "left"), (1.0, "right"))
    words = {True: ("ok", style.GREEN), False: ("FAILED", style.VERMILION), None: ("-", style.MUTED)}
    for y, (name, figure, wanted, passed) in enumerate(rows):
        word, colour = words[passed]
        cells = ((name, style.INK), (figure, style.INK), (wanted, style.MUTED), (word, colour))
        for (at, side), (cell, ink) in zip(columns, cells, strict=True):
            text.text(at, y, cell, ha=side, va="center", color=ink, fontsize=8.5)
    text.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6))
    text.set_axis_off()
    return fig


@style.picture
def verdicts(
    solvers: Sequence[str], processes: Sequence[str], cells: Mapping[tuple[str, str], tuple[str, bool]]
) -> Figure:
    """Solvers against processes: in each cell a figure, on green where all of its certificate holds."""
    checks.listed("verdicts", "solvers", solvers, str)
    checks.listed("verdicts", "processes", processes, str)
    checks.named("verdicts", "cells", cells)
    for solver, process in cells:
        if solver not in solvers or process not in processes:
            raise InvalidArgument(f"verdicts: cells must be of the solvers and processes, got {(solver, process)}")
    longest = max(style.text_width(name, 8.5) for name in solvers)
    fig = style.figure(max(4.0, longest + 0.72 * len(processes) + 0.3), 0.27 * len(solvers) + 1.4)
    axes = fig.add_subplot()
    for (solver, process), (figure, passed) in cells.items():
        x, y = processes.index(process), solvers.index(solver)
        colour = style.GREEN if passed else style.VERMILION
        axes.add_patch(Rectangle((x - 0.47, y - 0.43), 0.94, 0.86, color=colour, alpha=0.22, linewidth=0))
        axes.text(x, y, figure, ha="center", va="center", fontsize=8.5)
    axes.set_xticks(range(len(processes)), processes, rotation=30, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(solvers)), solvers)
    axes.tick_params(length=0, labelcolor=style.INK)
    axes.set(xlim=(-0.5, len(processes) - 0.5), ylim=(len(solvers) - 0.5, -0.5))
    for spine in axes.spines.values():
        spine.set_visible(False)
    return fig


@style.picture
def loss_curves(curves: Mapping[str, Sequence[float]]) -> Figure:
    """Losses over steps, each beside its running mean; the first sets the colours' order.

    The scale is logarithmic where all losses are above zero, as those of a loss without a target are not.
    """
    columns = {}
    for name, losses in checks.named("loss_curves", "curves", curves).items():
        try:
            columns[name] = np.asarray(losses, dtype=np.float64).reshape(len(losses))
        except (TypeError, ValueError) as error:
            raise InvalidType(
                f"loss_curves: curves must hold lists of numbers, got {name!r}: {describe(losses)}"
            ) from error
    positive = all(bool((values > 0).all()) for values in columns.values())
    fig = style.figure(7.2, 2.9)
    axes = fig.add_subplot()
    for (name, values), colour in zip(columns.items(), itertools.cycle(style.CYCLE), strict=False):
        if not len(values):
            continue
        steps = np.arange(1, len(values) + 1)
        window = max(1, len(values) // 40)
        axes.plot(steps, values, color=colour, alpha=0.18, linewidth=0.6)
        mean = np.convolve(values, np.ones(window) / window, mode="valid")
        axes.plot(steps[window - 1 :], mean, color=colour, label=name)
    axes.set(xlabel="step", ylabel="loss", yscale="log" if positive else "linear", xlim=(1, None))
    axes.grid(axis="y")
    axes.legend()
    return fig


@style.picture
def schedules(processes: Mapping[str, GaussianSDE], points: int = 400) -> Figure:
    """alpha, sigma and the log-SNR of processes over their times."""
    points = whole("schedules", "points", points, at_least=2, at_most=MOST)
    for name, sde in checks.named("schedules", "processes", processes).items():
        if not isinstance(sde, GaussianSDE):
            raise InvalidType(
                f"schedules: processes must have alpha and sigma (GaussianSDE), got {name!r}: {describe(sde)}"
            )
    fig = style.figure(9.2, 2.7)
    names = ("data kept, α(t)", "noise added, σ(t)", "log-SNR, log(α² / σ²)")
    panels: Sequence[Axes] = fig.subplots(1, 3)
    for (name, sde), colour in zip(processes.items(), itertools.cycle(style.CYCLE), strict=False):
        t = torch.linspace(sde.t_min, sde.t_max, points, dtype=torch.float64)
        for axes, values in zip(panels, (sde.alpha(t), sde.sigma(t), sde.log_snr(t)), strict=True):
            axes.plot(t.numpy(), values.numpy(), color=colour, label=name)
    for axes, title in zip(panels, names, strict=True):
        axes.set_title(title)
        axes.set_xlabel("t")
        axes.grid(axis="y")
    panels[0].set_ylim(-0.04, 1.08)
    panels[1].set_yscale("log")
    panels[2].axhline(0.0, color=style.MUTED, linewidth=0.8)
    panels[0].legend(loc="lower left")
    return fig


@style.picture
def solver_table(rows: Sequence[SolverRow], distance: str = "energy distance to held-out data") -> Figure:
    """The table of solvers as a picture: numbers on the left, distances beside the noise floor's band on the right."""
    checks.text("solver_table", "distance", distance)
    for row in checks.listed("solver_table", "rows", rows, SolverRow):
        checks.finite("solver_table", "rows", row[2:])
    views = list(dict.fromkeys(row.view for row in rows))
    lines = len(rows) + 1.6 * len(views)
    fig = style.figure(9.2, 0.27 * lines + 0.75)
    text, chart = fig.subplots(1, 2, width_ratios=(5.2, 4.0), sharey=True)
    columns = ((0.0, "solver", "left"), (0.56, "NFE", "right"), (0.76, "seconds", "right"), (0.99, "distance", "right"))
    y = 0.0
    for index, view in enumerate(views):
        y += 0.2
        text.text(0.0, y, view, weight="bold", color=style.CYCLE[index % len(style.CYCLE)], va="center")
        for at, name, side in columns[1:]:
            text.text(at, y, name, ha=side, va="center", color=style.MUTED, fontsize=8)
        chosen = [row for row in rows if row.view == view]
        top = y + 0.5
        for row in chosen:
            y += 1.0
            cells = (row.solver, f"{row.nfe:.0f}", f"{row.seconds:.1f}", f"{row.distance:.4f}")
            for (at, _, side), cell in zip(columns, cells, strict=True):
                text.text(at, y, cell, ha=side, va="center")
            chart.plot([0.0, row.distance], [y, y], color=style.RULE, linewidth=1.2, zorder=1)
            chart.plot(row.distance, y, "o", color=style.CYCLE[index % len(style.CYCLE)], markersize=6, zorder=3)
        floor = chosen[0]
        band = (floor.floor_low, floor.floor_high)
        chart.fill_betweenx([top, y + 0.5], *band, color=style.GREEN, alpha=0.18, linewidth=0, zorder=0)
        y += 1.4
    text.set(xlim=(0, 1), ylim=(y - 0.6, -0.5))
    text.set_axis_off()
    chart.axvline(0.0, color=style.MUTED, linewidth=0.8, zorder=2)
    chart.set_xscale("asinh", linear_width=0.02)
    shown = [v for row in rows for v in (row.distance, row.floor_low, row.floor_high)]
    low, high = min(-0.015, 1.2 * min(shown)), 1.35 * max(0.02, *shown)
    sizes = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 100)
    ticks = [v for v in (*(-v for v in reversed(sizes)), 0, *sizes) if low <= v <= high]
    chart.set_xticks(ticks, [f"{v:g}" for v in ticks])
    chart.set_xticks([], minor=True)
    chart.set_xlim(low, high)
    chart.set_xlabel(f"{distance}   (band: the noise floor, 90 %)")
    chart.tick_params(axis="y", left=False, labelleft=False)
    chart.spines["left"].set_visible(False)
    return fig


@style.picture
def mark_chart(marks: Sequence[Mark], label: str) -> Figure:
    """Values on one axis, a line each, their error bars drawn where they can be seen."""
    checks.text("mark_chart", "label", label)
    for mark in checks.listed("mark_chart", "marks", marks, Mark):
        checks.finite("mark_chart", "marks", (mark.value, mark.error))
    fig = style.figure(7.2, 0.34 * len(marks) + 0.7)
    axes = fig.add_subplot()
    for i, mark in enumerate(marks):
        axes.plot([0.0, mark.value], [i, i], color=style.RULE, linewidth=1.2, zorder=1)
        axes.errorbar(
            mark.value, i, xerr=mark.error or None, fmt="o", color=mark.colour, markersize=7, capsize=3, zorder=3
        )
        number = f"{mark.value:.2f}" + (f" ± {mark.error:.2f}" if mark.error else "")
        axes.annotate(number, (mark.value + mark.error, i), (10, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(marks)), [mark.name for mark in marks])
    axes.tick_params(axis="y", length=0, labelcolor=style.INK)
    low = min(0.0, *(mark.value - mark.error for mark in marks))
    high = max(0.0, *(mark.value + mark.error for mark in marks)) or (0.0 if low else 1.0)
    axes.set(ylim=(len(marks) - 0.5, -0.5), xlim=(1.1 * low, 1.15 * high), xlabel=label)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    return fig


@style.picture
def histogram(sets: Mapping[str, Sequence[float]], label: str) -> Figure:
    """Values by name over common bins, by Freedman and Diaconis' rule on all of them, as shares of their set."""
    checks.text("histogram", "label", label)
    for values in checks.named("histogram", "sets", sets).values():
        checks.finite("histogram", "sets", values)
        if not len(values):
            raise InvalidArgument(f"histogram: sets must hold at least one value each, got {describe(sets)}")
    edges = np.histogram_bin_edges(np.concatenate([np.asarray(v, dtype=float) for v in sets.values()]), "fd")
    if len(edges) > 201:  # few values far out
        edges = np.linspace(edges[0], edges[-1], 201)
    fig = style.figure(7.2, 3.4)
    axes = fig.add_subplot()
    for colour, (name, values) in zip(itertools.cycle(style.CYCLE), sets.items(), strict=False):
        weights = np.full(len(values), 1.0 / len(values))
        axes.hist(values, edges.tolist(), weights=weights, color=colour, alpha=0.55, label=name)
        axes.axvline(float(np.mean(values)), color=colour, linewidth=1.4)
    axes.set(xlabel=label, ylabel="share of rows")
    if len(sets) > 1:
        axes.legend()
    return fig


@style.picture
def rate_distortion(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], rate: str = "rate (bits a coordinate)"
) -> Figure:
    """Distortions over rates, by name: what is still wrong with the data after so much of them has been sent.

    ``curves``: (rates, distortions) of each, as ``ProgressiveCoding.mean`` gives them, in the order of sending; a few
    levels are marked, many are a line. The axes begin at 0. (Ho et al. 2020, figure 5, arXiv:2006.11239.)
    """
    checks.text("rate_distortion", "rate", rate)
    columns = {}
    for name, pair in checks.named("rate_distortion", "curves", curves).items():
        if not isinstance(pair, (tuple, list)):
            raise InvalidType(f"rate_distortion: curves must hold (rates, distortions), got {name!r}: {describe(pair)}")
        checks.count("rate_distortion", f"curves of {name}", pair, 2)
        try:
            rates, wrong = (np.asarray(values, dtype=np.float64).reshape(len(values)) for values in pair)
        except (TypeError, ValueError) as error:
            raise InvalidType(
                f"rate_distortion: curves must hold lists of numbers, got {name!r}: {describe(pair)}"
            ) from error
        checks.count("rate_distortion", f"curves of {name}", wrong.tolist(), len(rates))
        checks.finite("rate_distortion", f"curves of {name}", [*rates.tolist(), *wrong.tolist()])
        columns[name] = (rates, wrong)
    fig = style.figure(5.4, 3.4)
    axes = fig.add_subplot()
    for (name, (rates, wrong)), colour in zip(columns.items(), itertools.cycle(style.CYCLE), strict=False):
        axes.plot(rates, wrong, "o-" if len(rates) <= 40 else "-", color=colour, markersize=3.5, label=name)
    axes.set(xlabel=rate, ylabel="distortion (root mean square)")
    axes.set_xlim(left=min(0.0, *(float(r.min(initial=0.0)) for r, _ in columns.values())))
    axes.set_ylim(bottom=0.0)
    axes.grid(axis="y")
    axes.legend()
    return fig
