"""The law of what samplers that draw noise give, for network evaluations spent: ours and the peers', on exact models.

    python benchmarks/stochastic.py [--quick] [--out DIR]

Figures: the energy distance to exact draws and, on Gaussian targets, W2, the Wasserstein distance between the moments
of a sampler's law and the target's own. W2 is exact: on a Gaussian a run is affine in its start and its draws, and unit
impulses in their place show its mean and variance (``_impulses.py``); quoted is the best setting, a sampler on a grid.
For the energy distance every setting is run once on 1,000 starts, and the best five of each library in each cell on
4,000 others; the best of these is then run anew on 3 times 2,000 others, and that is what counts: no library gains by
the luck of having more settings. Intervals are 95 % bootstrap intervals over all three; "floor" is the mean of as many
exact samples, which an estimate without bias may have below 0, by its size, and two deviations.
All start from the same draws; each library draws its own noise on the way.
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
from _impulses import exact
from _peers import Denoise, Run, azula, diffusers, k_diffusion, versions
from _targets import F64, HIGH, LOW, Target, targets

import sdekit as sk

BUDGETS = (5, 10, 20, 50)
CHOOSING, FINALISTS, DECIDING = 1_000, 5, 4_000
MEASURING, ROUNDS = 2_000, 3
TARGETS = ("gauss2", "gauss64", "gmm2", "gmm16", "gauss16", "aniso4")
S = sk.solvers
Row = dict[str, Any]

PEERS: dict[str, Callable[[torch.Tensor, Denoise], dict[str, Run]]] = {
    "azula": partial(
        azula,
        kinds={
            "DDPM": ("DDPM", {}),
            "Ito": ("Ito", {}),
            "Ito, eta 0.5": ("Ito", {"eta": 0.5}),
            "DDIM, eta 0.5": ("DDIM", {"eta": 0.5}),
        },
    ),
    "diffusers": partial(
        diffusers,
        kinds={
            "SDE-DPM++(1)": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 1}),
            "SDE-DPM++(2M)": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}),
            "SDE-DPM++(2M), Heun": (
                "DPMSolverMultistepScheduler",
                {"algorithm_type": "sde-dpmsolver++", "solver_order": 2, "solver_type": "heun"},
            ),
            "SA-Solver": ("SASolverScheduler", {"tau_func": lambda t: 1.0}),
            "SA-Solver, its own tau": ("SASolverScheduler", {}),
            "Euler ancestral": ("EulerAncestralDiscreteScheduler", {}),
        },
    ),
    "k-diffusion": partial(
        k_diffusion,
        kinds={
            "Euler ancestral": ("sample_euler_ancestral", 1, {}),
            "DPM-2 ancestral": ("sample_dpm_2_ancestral", 2, {}),
            "DPM++(2S) ancestral": ("sample_dpmpp_2s_ancestral", 2, {}),
            "DPM++ SDE": ("sample_dpmpp_sde", 2, {}),
            "DPM++(2M) SDE": ("sample_dpmpp_2m_sde", 1, {}),
            "DPM++(2M) SDE, Heun": ("sample_dpmpp_2m_sde", 1, {"solver_type": "heun"}),
            "DPM++(3M) SDE": ("sample_dpmpp_3m_sde", 1, {}),
            "Euler, churn": ("sample_euler", 1, {"s_churn": 4.0}),
            "Heun, churn": ("sample_heun", 2, {"s_churn": 4.0}),
        },
    ),
}
"""The peers' samplers that draw noise."""


def ours(model: sk.models.GaussianMixture, start: torch.Tensor, **draws: Any) -> dict[str, Run]:
    """Our samplers that draw noise, on our grids."""
    std = model.sde.centre[1]

    def ended(grid: Callable[..., torch.Tensor], end: float) -> Callable[..., torch.Tensor]:
        part = sk.EDMSDE(t_min=end, t_max=HIGH)
        return lambda sde, steps: grid(part, steps)

    def angle(sde: sk.SDE, steps: int) -> torch.Tensor:
        return sk.grids.angle(sde, steps, end=std / (5 * steps + 5), floor=0.05 + 20 / (steps + 1) ** 3)

    grids: dict[str, Any] = {"angle to std/5N": angle}
    for end in (LOW, 0.02):
        for name, grid in (("log_snr", sk.grids.log_snr), ("karras", sk.grids.karras)):
            grids[f"{name} to {end:g}"] = ended(grid, end)
    solvers: list[sk.solvers.Solver] = [
        S.Ancestral(),
        S.DDIM(0.5),
        S.EulerMaruyama(),
        S.ReverseDiffusion(),
        S.DPMSolverSDE(2),
        S.DPMSolverSDE(3),
        S.DPMSolverSDE(2, variant="heun"),
        S.DPMSolverSDE(3, eta=0.5),
        S.SASolver(),
        S.SASolver(tau=0.5),
        S.SASolver(few_steps=False),
        S.SEEDS(2),
        S.SEEDS(3),
        S.AncestralStep(S.DPMSolverSinglestep(2)),
        S.StochasticRungeKutta(),
        S.Churn(S.DPMSolver(2), 0.1),
        S.Heun(churn=0.1),
    ]

    def run(solver: sk.solvers.Solver, grid: Any) -> Run:
        return lambda n: sk.sample(model, x_T=start, solver=solver, grid=grid, nfe=n, **draws)

    return {f"{solver}, {name}": run(solver, grid) for solver in solvers for name, grid in grids.items()}


Runs = Callable[..., dict[str, Run]]
"""The runs of a library by name, from starts; ours take ``seed`` or ``noise``."""


def libraries(target: Target) -> dict[str, tuple[Runs, list[int]]]:
    """Those that are installed, and how often the model was asked."""
    calls = [0]

    def denoise(y: torch.Tensor, sigma: float) -> torch.Tensor:
        calls[0] += 1
        if sigma < LOW:  # a peer may ask at 0, where the model is the identity to first order
            return y
        return target.model(y.double(), min(sigma, HIGH)).x0.to(y.dtype)

    def of(peer: Callable[[torch.Tensor, Denoise], dict[str, Run]]) -> Runs:
        return lambda start, **draws: peer(start, denoise)

    found: dict[str, tuple[Runs, list[int]]] = {"sdekit": (partial(ours, target.model), [0])}
    for name, peer in PEERS.items():
        try:
            peer(target.start, denoise)
            found[name] = of(peer), calls
        except ImportError as error:
            print(f"{name}: left out ({error})", file=sys.stderr)
    return found


def begun(target: Target, runs: Runs, n: int, seed: int) -> dict[str, Run]:
    """The runs from n starts of a seed."""
    d = target.start.shape[1]
    start = HIGH * torch.randn(n, d, generator=torch.Generator().manual_seed(4242 + seed), dtype=F64)
    return runs(start, seed=seed)


def asked(run: Run, calls: list[int], n: int, seed: int) -> torch.Tensor | None:
    """A run's samples; None where it fails, or costs more than the budget."""
    calls[0] = 0
    torch.manual_seed(seed)  # peers draw from the global generator
    try:
        x = run(n)
    except (ValueError, RuntimeError, IndexError, AssertionError, ZeroDivisionError, TypeError):
        return None
    return x.double() if calls[0] <= n and bool(torch.isfinite(x).all()) else None


def measure(target: Target, budgets: tuple[int, ...]) -> Iterator[Row]:
    """One row a library, budget and figure: of the best setting; where it is sampled, the best beforehand."""
    draws = target.model.sample(4 * MEASURING, sk.Noise((7, 1)))
    distance = sk.metrics.EnergyDistance(draws[: 2 * MEASURING])
    of_exact = distance.floor(draws[2 * MEASURING :], MEASURING, repeats=40, seed=3)
    floor = abs(of_exact.mean) + 2 * of_exact.std / math.sqrt(ROUNDS)
    gaussian = len(target.model.weights) == 1
    for library, (runs, calls) in libraries(target).items():
        choosing = begun(target, runs, CHOOSING, 0)
        deciding = begun(target, runs, DECIDING, ROUNDS + 1)
        fresh = [begun(target, runs, MEASURING, 1 + k) for k in range(ROUNDS)]
        for n in budgets:
            tried = {name: asked(run, calls, n, 0) for name, run in choosing.items()}
            values = {name: float(distance(x)) for name, x in tried.items() if x is not None}
            if not values:
                continue
            row = {"target": target.name, "nfe": n, "library": library, "settings": len(values)}
            best = sorted(values, key=lambda name: values[name])[:FINALISTS]
            decided = {name: asked(deciding[name], calls, n, ROUNDS + 1) for name in best}
            finals = {name: float(distance(x)) for name, x in decided.items() if x is not None}
            chosen = min(finals, key=lambda name: finals[name])
            again = [asked(of[chosen], calls, n, 1 + k) for k, of in enumerate(fresh)]
            found = distance.interval(torch.cat([x for x in again if x is not None]), repeats=100, seed=4)
            yield row | {
                "figure": "energy",
                "sampler": chosen,
                "value": found.value,
                "low": found.low,
                "high": found.high,
                "floor": floor,
            }
            if gaussian:
                if not (moments := exact(target, runs, list(values), n)):
                    continue
                least = min(moments, key=lambda name: moments[name])
                value = moments[least]
                yield row | {
                    "figure": "W2",
                    "sampler": least,
                    "value": value,
                    "low": value,
                    "high": value,
                    "floor": 0.0,
                }


def tables(rows: list[Row], made: str) -> str:
    """The figures as the documentation shows them."""
    lines = []
    names = list(dict.fromkeys(r["target"] for r in rows))
    found = list(dict.fromkeys(r["library"] for r in rows))
    for figure in dict.fromkeys(r["figure"] for r in rows):
        lines += [
            f"| {figure}, NFE | target | {' | '.join(found)} | floor | ours / best peer |",
            "|---" * (len(found) + 4) + "|",
        ]
        for n in sorted({r["nfe"] for r in rows}):
            ratios = []
            for name in names:
                cell = {r["library"]: r for r in rows if (r["target"], r["nfe"], r["figure"]) == (name, n, figure)}
                if not cell:
                    continue
                texts = [shown(cell[library]) if library in cell else "-" for library in found]
                peers = [r for library, r in cell.items() if library != "sdekit"]
                ratio = "-"
                if peers and "sdekit" in cell:
                    floor = cell["sdekit"]["floor"]
                    own, best = (max(v, floor) for v in (cell["sdekit"]["value"], min(r["value"] for r in peers)))
                    ratios.append(own / best)
                    ratio = f"{own / best:.2f}"
                floor = next(iter(cell.values()))["floor"]
                floor_text = f"{floor:.1e}" if floor else "exact"
                lines.append(f"| {n} | {name} | {' | '.join(texts)} | {floor_text} | {ratio} |")
            if ratios:
                mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
                lines.append(f"| {n} | geometric mean | {' | '.join('' for _ in found)} | | {mean:.2f} |")
        lines.append("")
    return "\n".join([*lines, made]) + "\n"


def shown(row: Row) -> str:
    """A value, with its interval where it was sampled, and the sampler that has it."""
    interval = f" ({row['low']:.1e} to {row['high']:.1e})" if row["floor"] else ""
    return f"{row['value']:.1e}{interval} {row['sampler']}"


def picture(rows: list[Row], path: Path) -> None:
    """The energy distance over evaluations, a panel a target: each library's best, beside the floor."""
    panels = []
    for name in dict.fromkeys(r["target"] for r in rows):
        chosen = [r for r in rows if r["target"] == name and r["figure"] == "energy"]
        curves: dict[str, list[tuple[float, float, float, float]]] = {}
        for r in chosen:
            curves.setdefault(r["library"], []).append((float(r["nfe"]), r["value"], r["low"], r["high"]))
        panels.append(sk.plots.Tradeoff(name, "network evaluations", curves, floor=chosen[0]["floor"]))
    sk.plots.save(sk.plots.tradeoffs(panels, columns=min(3, len(panels))), path)


def main() -> None:
    """Measures, prints the tables, and writes them with every row, as text, JSON, CSV and a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one target, two budgets, few samples: shows that it runs")
    parser.add_argument("--out", type=Path, help="a folder for stochastic.json, .csv, .png and stochastic-tables.txt")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.quick:
        global CHOOSING, DECIDING, MEASURING
        CHOOSING, DECIDING, MEASURING = 200, 400, 400
    chosen = {"gauss2"} if options.quick else set(TARGETS)
    budgets = (5, 10) if options.quick else BUDGETS
    made_with = versions()
    rows: list[Row] = []
    with torch.no_grad():
        for target in targets(chosen):
            rows += measure(target, budgets)
            print(f"{target.name}: done", file=sys.stderr, flush=True)
    command = "python " + " ".join(["benchmarks/stochastic.py", *sys.argv[1:]])
    made = ", ".join(f"{n} {v}" for n, v in made_with.items()) + f".  `{command}`"
    print(tables(rows, made))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        result = {"command": command, "versions": made_with, "rows": rows}
        (options.out / "stochastic.json").write_text(json.dumps(result, indent=1) + "\n")
        (options.out / "stochastic-tables.txt").write_text(tables(rows, made))
        with (options.out / "stochastic.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        picture(rows, options.out / "stochastic.png")


if __name__ == "__main__":
    main()
