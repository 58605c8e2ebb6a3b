"""Quality for network evaluations spent: every deterministic solver and grid, ours and the peers', on exact models.

    python benchmarks/samplers.py [--quick] [--out DIR]

Targets are Gaussians and mixtures whose score is known, at sigma / alpha from 80 to 0. Each run starts from the same
512 draws; its error is the root mean square per coordinate between its ends and those of the exact probability flow: a
closed form for a Gaussian, 1500 Runge-Kutta steps in log(sigma) for a mixture. There is no error of a model in it.
Peers, where they are installed, ask the same model in the same process, each on the grids that it has. A cell is the
best of a library; "rule" is what ``sample(..., nfe=N)`` takes, one rule for every cell, and "tuned" the best of two
solvers on grids that ``sk.tune_grid`` fits to the target, from other starts.

The rule was chosen on the first eight targets; those called "held out" were made afterwards.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _peers import Denoise, Run, azula, diffusers, k_diffusion, versions
from _targets import HELD_OUT, HIGH, LOW, Target, laws, targets

import sdekit as sk

BUDGETS = (5, 8, 10, 15, 20, 35, 50, 100)
TUNED = 20
"""The largest budget for which grids are fitted to the target, by ``sk.tune_grid``."""
S = sk.solvers

Row = dict[str, Any]


def ours(target: Target) -> dict[str, Run]:
    """The rule, and our solvers on our grids."""
    std = target.model.sde.centre[1]

    def on(solver: sk.solvers.Solver, grid: Any) -> Run:
        return lambda n: sk.sample(target.model, x_T=target.start, solver=solver, grid=grid, nfe=n)

    def ended(grid: Callable[..., torch.Tensor], end: float) -> Callable[..., torch.Tensor]:
        part = sk.EDMSDE(t_min=end, t_max=HIGH)
        return lambda sde, steps: grid(part, steps)

    grids: dict[str, Any] = {
        "angle to std/5N": lambda sde, steps: sk.grids.angle(
            sde, steps, end=std / (5 * steps + 5), floor=0.05 + 20 / (steps + 1) ** 3
        )
    }
    for end in (LOW, 0.02):
        for name, grid in (("log_snr", sk.grids.log_snr), ("karras", sk.grids.karras)):
            grids[f"{name} to {end:g}"] = ended(grid, end)
    solvers: list[sk.solvers.Solver] = [
        *(S.Multistep(k, "velocity", "angle") for k in (2, 3, 4)),
        *(S.Multistep(4, view, coordinate) for view in ("x0", "eps") for coordinate in ("angle", "log_snr")),
        *(S.DDIM(), S.Heun(), S.DPMSolver(2), S.DPMSolver(3), S.UniPC(2), S.UniPC(3), S.DEIS(3), S.LMS(4), S.PLMS(4)),
        *(S.DPMSolverSinglestep(2), S.DPMSolverSinglestep(3)),
    ]
    runs = {f"{solver}, {name}": on(solver, grid) for solver in solvers for name, grid in grids.items()}
    for solver in (S.Multistep(), S.UniPC(2)):
        runs[f"{solver}, tuned"] = tuned(target, solver)
    return {"rule": lambda n: sk.sample(target.model, x_T=target.start, nfe=n), **runs}


def tuned(target: Target, solver: sk.solvers.Solver) -> Run:
    """A solver on a grid that was fitted to the target from other starts than those that are measured."""

    def run(n: int) -> torch.Tensor:
        grid = sk.tune_grid(target.model, solver, n, shape=(160, target.start.shape[1]), seed=1, rounds=6)
        return sk.sample(target.model, x_T=target.start, solver=solver, grid=grid, steps=n)

    return run


PEERS: dict[str, Callable[[torch.Tensor, Denoise], dict[str, Run]]] = {
    "azula": partial(
        azula,
        kinds={
            f"{kind}{order}": (kind, {"order": order})
            for kind in ("vAB", "xEAB", "zEAB", "zAB", "REAB")
            for order in (2, 3)
        },
    ),
    "diffusers": partial(
        diffusers,
        kinds={
            "DPM++(2M)": ("DPMSolverMultistepScheduler", {"solver_order": 2}),
            "DPM++(3M)": ("DPMSolverMultistepScheduler", {"solver_order": 3}),
            "DPM++(3S)": ("DPMSolverSinglestepScheduler", {"solver_order": 3}),
            "UniPC2": ("UniPCMultistepScheduler", {"solver_order": 2}),
            "UniPC3": ("UniPCMultistepScheduler", {"solver_order": 3}),
            "DEIS3": ("DEISMultistepScheduler", {"solver_order": 3}),
            "LMS": ("LMSDiscreteScheduler", {}),
            "Euler": ("EulerDiscreteScheduler", {}),
        },
    ),
    "k-diffusion": partial(
        k_diffusion,
        kinds={
            "Euler": ("sample_euler", 1, {}),
            "Heun": ("sample_heun", 2, {}),
            "DPM-2": ("sample_dpm_2", 2, {}),
            "LMS": ("sample_lms", 1, {}),
            "DPM++(2M)": ("sample_dpmpp_2m", 1, {}),
        },
    ),
}
"""The peers' deterministic samplers."""


def measure(target: Target, budgets: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """One row a sampler and budget: target, library, sampler, nfe and rms; a peer's evaluations are counted."""
    calls = 0

    def denoise(y: torch.Tensor, sigma: float) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if sigma < LOW:  # a peer may ask at 0, where the model is the identity to first order
            return y
        return target.model(y.double(), min(sigma, HIGH)).x0.to(y.dtype)

    libraries: dict[str, dict[str, Run]] = {"sdekit": ours(target)}
    for name, peer in PEERS.items():
        try:
            libraries[name] = peer(target.start, denoise)
        except ImportError as error:
            print(f"{name}: left out ({error})", file=sys.stderr)
    for library, runs in libraries.items():
        for name, run in runs.items():
            for n in budgets:
                if name.endswith("tuned") and n > TUNED:
                    continue
                calls = 0
                about = {"target": target.name, "library": library, "sampler": name, "nfe": n}
                try:
                    x = run(n)
                except (ValueError, RuntimeError, IndexError, AssertionError, ZeroDivisionError) as error:
                    yield {
                        "target": target.name,
                        "library": library,
                        "sampler": name,
                        "nfe": n,
                        "error": str(error)[:120],
                    }
                    continue
                if library != "sdekit" and calls > n:
                    continue  # dearer than the budget
                rms = float((x.double() - target.end).square().mean().sqrt())
                yield {**about, "rms": rms}


def best(
    rows: list[dict[str, Any]], target: str, n: int, of: Callable[[dict[str, Any]], bool]
) -> dict[str, Any] | None:
    """The row of the least error."""
    found = [
        r for r in rows if r["target"] == target and r["nfe"] == n and of(r) and math.isfinite(r.get("rms", math.nan))
    ]
    return min(found, key=lambda r: r["rms"], default=None)


def is_rule(row: Row) -> bool:
    """Whether it is what ``nfe=N`` takes."""
    return row["sampler"] == "rule"


def is_tuned(row: Row) -> bool:
    """Whether its grid was fitted to the target."""
    return bool(row["sampler"].endswith("tuned"))


def is_ours(row: Row) -> bool:
    """Whether it is of this package, on a grid that knows no target."""
    return row["library"] == "sdekit" and not is_tuned(row)


def is_peer(row: Row) -> bool:
    """Whether it is of another."""
    return row["library"] != "sdekit"


def cells(rows: list[Row]) -> list[Row]:
    """The best setting of each library for a target and budget, and the rule."""
    asked = dict.fromkeys((r["target"], r["nfe"]) for r in rows)
    libraries = dict.fromkeys(r["library"] for r in rows)
    kinds = [is_rule, is_tuned, is_ours]
    kinds += [lambda r, name=name: r["library"] == name for name in libraries if name != "sdekit"]
    found = (best(rows, target, n, of) for target, n in asked for of in kinds)
    return [row for row in found if row]


def mean(ratios: list[float]) -> str:
    """The geometric mean."""
    return f"{math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f}" if ratios else "-"


def tables(result: dict[str, Any]) -> str:
    """The figures as the documentation shows them."""
    rows = result["cells"]
    names = list(dict.fromkeys(r["target"] for r in rows))
    budgets = sorted({r["nfe"] for r in rows})
    lines = []
    for title, chosen in (
        ("targets", [n for n in names if n not in HELD_OUT]),
        ("held out", [n for n in names if n in HELD_OUT]),
    ):
        if not chosen:
            continue
        head = " | ".join(f"{n}: rule, best of ours, tuned, best peer" for n in chosen)
        lines += [
            f"| {title}, NFE | {head} | rule / best peer | best of ours / best peer | tuned / best peer |",
            "|---" * (len(chosen) + 4) + "|",
        ]
        for n in budgets:
            cells, ratios = [], []
            for name in chosen:
                found = [best(rows, name, n, of) for of in (is_rule, is_ours, is_tuned, is_peer)]
                cells.append(", ".join(f"{row['rms']:.1e}" if row else "-" for row in found))
                peer = found[-1]
                if peer:
                    cells[-1] += f" {peer['sampler']}"
                    ratios.append([row["rms"] / peer["rms"] if row else math.nan for row in found[:3]])
            means = [mean([r[i] for r in ratios if not math.isnan(r[i])]) for i in range(3)]
            lines.append(f"| {n} | {' | '.join(cells)} | {' | '.join(means)} |")
        lines.append("")
    settings = ", ".join(f"{name} {count}" for name, count in result["settings"].items())
    lines += [
        f"Settings, a solver on a grid, of which the best counts: {settings}. Failed runs: {result['failed']}.",
        "",
    ]
    lines.append(", ".join(f"{n} {v}" for n, v in result["versions"].items()) + f".  `{result['command']}`")
    return "\n".join(lines) + "\n"


def picture(result: dict[str, Any], path: Path) -> None:
    """Error against evaluations: the rule, the best of ours and the best of each peer."""
    from matplotlib.figure import Figure

    rows = result["cells"]
    names = list(dict.fromkeys(r["target"] for r in rows))
    budgets = sorted({r["nfe"] for r in rows})
    columns = min(4, len(names))
    figure = Figure(figsize=(3.3 * columns, 3.0 * math.ceil(len(names) / columns)), layout="constrained", dpi=150)
    axes = figure.subplots(math.ceil(len(names) / columns), columns, squeeze=False).flat
    libraries = list(dict.fromkeys(r["library"] for r in rows if is_peer(r)))
    styles = {"azula": "#e69f00", "diffusers": "#cc79a7", "k-diffusion": "#009e73"}
    for axis, name in zip(axes, names, strict=False):
        curves = [("sdekit, nfe=N", "#0072b2", "-", is_rule), ("sdekit, best", "#56b4e9", "--", is_ours)]
        curves += [("sdekit, tuned grid", "#0072b2", ":", is_tuned)]
        curves += [(f"{lib}, best", styles[lib], "-", lambda r, lib=lib: r["library"] == lib) for lib in libraries]
        for label, colour, line, of in curves:
            found = [(n, row["rms"]) for n in budgets if (row := best(rows, name, n, of))]
            if found:
                axis.loglog(*zip(*found, strict=True), line, color=colour, label=label, marker="o", markersize=3)
        axis.set_title(name + (" (held out)" if name in HELD_OUT else ""), fontsize=10)
        axis.set_xlabel("network evaluations")
        axis.grid(alpha=0.25)
    axes = figure.axes
    axes[0].set_ylabel("RMS error at the end of the flow")
    axes[0].legend(fontsize=7)
    figure.savefig(path)


def summary(rows: list[Row], made_with: dict[str, str]) -> dict[str, Any]:
    """The cells, with what they were made with and how many settings were asked."""
    libraries = list(dict.fromkeys(r["library"] for r in rows))
    return {
        "command": "python " + " ".join(["benchmarks/samplers.py", *sys.argv[1:]]),
        "versions": made_with,
        "settings": {name: len({r["sampler"] for r in rows if r["library"] == name}) for name in libraries},
        "failed": sum("error" in r for r in rows),
        "cells": cells(rows),
    }


def write(result: dict[str, Any], out: Path) -> None:
    """The four files."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "samplers.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "samplers-tables.txt").write_text(tables(result))
    with (out / "samplers.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["target", "library", "sampler", "nfe", "rms"])
        writer.writeheader()
        writer.writerows(result["cells"])
    picture(result, out / "samplers.png")


def main() -> None:
    """Measures, prints the tables, and writes them with every row, as text, JSON, CSV and a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one target and three budgets: shows that it runs")
    parser.add_argument("--out", type=Path, help="a folder for what is printed, as text, JSON, CSV and PNG")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = {"gauss2"} if options.quick else {name for name, *_ in laws()}
    budgets = (5, 10, 20) if options.quick else BUDGETS
    made_with = versions()
    rows: list[Row] = []
    with torch.no_grad():
        for target in targets(chosen):
            rows += measure(target, budgets)
            print(f"{target.name}: done", file=sys.stderr)
            if options.out:
                write(summary(rows, made_with), options.out)
    print(tables(summary(rows, made_with)))


if __name__ == "__main__":
    main()
