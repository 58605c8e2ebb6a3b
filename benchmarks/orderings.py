"""Orderings that papers found on CIFAR-10, asked of small models of 8x8 digits: which sampler, which process is better.

    python benchmarks/orderings.py [--quick] [--out DIR] [--models DIR]

Trains a small U-Net on scikit-learn's digits as DDPM (VP and sub-VP, continuous, and VP on DDPM's own table) and as
NCSN (VE), and runs the samplers of each table. Figures: where the papers have FID, the energy distance of the samples
to all digits, dequantised, with a 95 % bootstrap interval; and bits per dimension of held-out digits, with the standard
error. The last column says whether two are ordered as in the paper: "kept", "reversed", or "open" where the intervals
overlap.

Sources: Song et al. 2021, tables 1 and 2 (arXiv:2011.13456); Song et al. 2021, table 1 (arXiv:2010.02502); Lu et al.
2022, table 1 (arXiv:2206.00927); of EDM's network, Zheng et al. 2023 (arXiv:2310.13268).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _peers import versions

import sdekit as sk
from sdekit.data import Dequantised, dequantise, digits
from sdekit.training import Settings, load_model, save_model, train

S = sk.solvers


class Run(NamedTuple):
    """A sampler of a table: its name in the paper, the paper's figure, and ours."""

    name: str
    paper: float
    solver: sk.solvers.Solver
    steps: int
    grid: str = "uniform"


def network(seed: int = 0) -> sk.networks.UNet:
    """The demo's network."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return sk.networks.UNet(1, 8, width=24, multipliers=(1, 2), attention=(1,))


def models(data: torch.Tensor, steps: int, kept: Path | None) -> dict[str, sk.models.Parametrised]:
    """The trained models, or those that an earlier run has kept."""
    mean, std = data.mean(0), data.std(0)
    p = sk.models
    made = {
        "VP": p.Parametrised(network(), sk.VPSDE(t_min=1e-3), p.Epsilon()),
        "sub-VP": p.Parametrised(network(), sk.SubVPSDE(t_min=1e-3), p.Epsilon()),
        "VP, discrete": p.Parametrised(network(), sk.DiscreteVPSDE(), p.Epsilon()),
        "VE": p.Parametrised(network(), sk.VESDE(0.01, 10.0).with_prior(mean, std), p.ScaledScore(inp="unit")),
    }
    settings = Settings(steps=steps, lr=6e-3, warmup=min(100, steps // 4), ema=0.99, betas=(0.9, 0.99))
    found = {}
    for name, model in made.items():
        path = None if kept is None else kept / f"{name.lower().replace(', ', '-')}-{steps}.safetensors"
        if path is not None and path.exists():
            found[name] = load_model(path)
            continue
        found[name] = train(model, data, settings, loss=Dequantised(2 / 16)).ema
        print(f"{name}: trained", file=sys.stderr, flush=True)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_model(path, found[name])
    return found


def samplers(n: int) -> dict[str, tuple[str, list[Run]]]:
    """The tables: (model, runs) by name; n are the steps of those with 1000 in the papers."""
    flow = S.ProbabilityFlow(sk.ode.Euler())

    def table(ancestral: sk.solvers.Solver, figures: tuple[float, ...]) -> list[Run]:
        pairs = [("ancestral", ancestral), ("reverse diffusion", S.ReverseDiffusion()), ("flow, Euler", flow)]
        alone = [Run(name, paper, solver, n) for (name, solver), paper in zip(pairs, figures[:3], strict=True)]
        corrected = [
            Run(f"{name}, corrected", paper, S.PredictorCorrector(solver), n)
            for (name, solver), paper in zip(pairs, figures[3:6], strict=True)
        ]
        return [*alone, *corrected, Run("corrector alone", figures[6], S.AnnealedLangevin(0.03, 2), n)]

    eta = [
        Run(f"{name}, {steps} steps", paper, solver, steps)
        for name, solver, papers in (
            ("eta 0", S.DDIM(), (13.36, 4.16, 4.04)),
            ("eta 1", S.DDIM(1.0), (41.07, 5.78, 4.73)),
            ("larger variance", S.Ancestral("upper"), (367.43, 9.99, 3.17)),
        )
        for steps, paper in zip((10, 100, n), papers, strict=True)
    ]
    return {
        "VE, 1000 steps": ("VE", table(S.Ancestral(), (4.98, 4.79, 15.41, 3.62, 3.60, 3.51, 20.43))),
        "VP, 1000 steps": ("VP", table(S.Ancestral("upper"), (3.24, 3.21, 3.59, 3.21, 3.18, 3.06, 19.06))),
        "DDIM's eta": ("VP", eta),
        "12 evaluations": (
            "VP",
            [
                Run("Heun in t", 16.40, S.ProbabilityFlow(sk.ode.Heun()), 6),
                Run("DPM-Solver-2", 5.28, S.DPMSolverSinglestep(2, "eps"), 6, "log_snr"),
            ],
        ),
        "10 evaluations": (
            "VE",
            [
                Run("Heun", 16.6, S.Heun(), 6, "karras"),
                Run("DPM-Solver++", 2.91, S.DPMSolver(3), 10, "log_snr"),
                Run("UniPC", 2.85, S.UniPC(3), 10, "log_snr"),
            ],
        ),
    }


def quality(found: dict[str, Any], n: int, samples: int, real: torch.Tensor) -> list[dict[str, Any]]:
    """The energy distance of every run, all from one noise."""
    distance = sk.metrics.EnergyDistance(real)
    rows = []
    for title, (name, runs) in samplers(n).items():
        for run in runs:
            x = sk.sample(found[name], (samples, 1, 8, 8), solver=run.solver, steps=run.steps, grid=run.grid, seed=1)
            value = distance.interval(x, seed=2)
            about = {"table": title, "name": run.name, "solver": repr(run.solver), "steps": run.steps}
            rows.append({**about, "paper": run.paper, "value": value.value, "low": value.low, "high": value.high})
            print(f"{title}: {run.name} {value.value:.4f}", file=sys.stderr, flush=True)
    return rows


def bits(found: dict[str, Any], test: torch.Tensor, draws: int) -> list[dict[str, Any]]:
    """Bits per dimension of held-out digits, each with its standard error, and the bound of the discrete model."""
    rows = []
    noise = sk.Noise(5)
    x = torch.cat([dequantise(test, 2 / 16, noise) for _ in range(draws)])

    def row(name: str, paper: float, values: torch.Tensor) -> dict[str, Any]:
        values = values.double().reshape(draws, -1).mean(0)
        error = float(values.std()) / math.sqrt(len(values))
        print(f"bits per dimension: {name} {float(values.mean()):.3f} +- {error:.3f}", file=sys.stderr, flush=True)
        return {"name": name, "paper": paper, "value": float(values.mean()), "error": error}

    kinds = (("VP", 3.08), ("sub-VP", 2.92), ("VP, discrete", 3.16))
    for name, paper in kinds:
        # a network that has seen whole indices alone is rough between them: Heun's steps of 3 levels stand on levels
        heun = sk.ode.Heun(333 if draws > 1 else 9)
        how: dict[str, Any] = {"method": heun, "coordinate": "t"} if name == "VP, discrete" else {"tol": 1e-3}
        r = sk.log_likelihood(found[name], x, trace=sk.Hutchinson(1), seed=3, budget=False, **how)
        rows.append(row(name, paper, r.bits_per_dim(bin_width=2 / 16)))
    with torch.no_grad():
        bound = sk.losses.VariationalBound("upper").terms(found["VP, discrete"], x, sk.Noise(6)).total
    rows.append(row("VP, discrete, variational bound", 3.70, bound / (64 * math.log(2)) - math.log2(2 / 16)))
    return rows


PAIRS = {
    "VE, 1000 steps": [
        ("reverse diffusion", "ancestral"),
        ("ancestral", "flow, Euler"),
        ("ancestral, corrected", "ancestral"),
        ("reverse diffusion, corrected", "reverse diffusion"),
        ("flow, Euler, corrected", "flow, Euler"),
        ("ancestral", "corrector alone"),
    ],
    "VP, 1000 steps": [
        ("reverse diffusion", "ancestral"),
        ("ancestral", "flow, Euler"),
        ("flow, Euler, corrected", "flow, Euler"),
        ("ancestral", "corrector alone"),
    ],
    "DDIM's eta": [
        ("eta 0, 10 steps", "eta 1, 10 steps"),
        ("eta 1, 10 steps", "larger variance, 10 steps"),
        ("eta 0, 100 steps", "eta 1, 100 steps"),
        ("eta 1, 100 steps", "larger variance, 100 steps"),
        ("larger variance, {n} steps", "eta 0, {n} steps"),
    ],
    "12 evaluations": [("DPM-Solver-2", "Heun in t")],
    "10 evaluations": [("DPM-Solver++", "Heun"), ("UniPC", "DPM-Solver++")],
}
"""(better, worse) in the papers."""

BITS = [("sub-VP", "VP"), ("VP", "VP, discrete"), ("VP, discrete", "VP, discrete, variational bound")]


def tables(result: dict[str, Any]) -> str:
    """The figures as the documentation shows them."""
    lines = []
    for title in dict.fromkeys(r["table"] for r in result["quality"]):
        lines += [f"| {title} | paper's FID | energy distance (95 %) |", "|---|---|---|"]
        rows = [r for r in result["quality"] if r["table"] == title]
        lines += [
            f"| {r['name']} | {r['paper']:g} | {r['value']:.4f} ({r['low']:.4f} to {r['high']:.4f}) |" for r in rows
        ]
        lines.append("")
    lines += ["| bits per dimension | paper's | of 8x8 digits |", "|---|---|---|"]
    lines += [f"| {r['name']} | {r['paper']:.2f} | {r['value']:.3f} ± {r['error']:.3f} |" for r in result["bits"]]
    lines += ["", "| table | better in the paper | worse | paper's effect | ours | |", "|---|---|---|---|---|---|"]
    for title, pairs in PAIRS.items():
        rows = {r["name"]: r for r in result["quality"] if r["table"] == title}
        for pair in pairs:
            good, bad = (rows[name.format(n=result["steps"])] for name in pair)
            apart = good["high"] < bad["low"] or bad["high"] < good["low"]
            verdict = ("kept" if good["value"] < bad["value"] else "reversed") if apart else "open"
            ours = f"{good['value']:.4f} beside {bad['value']:.4f}"
            paper = f"{good['paper']:g} beside {bad['paper']:g}"
            lines.append(f"| {title} | {good['name']} | {bad['name']} | {paper} | {ours} | {verdict} |")
    rows = {r["name"]: r for r in result["bits"]}
    for a, b in BITS:
        good, bad = rows[a], rows[b]
        gain, error = bad["value"] - good["value"], math.hypot(good["error"], bad["error"])
        verdict = "open" if abs(gain) < 2 * error else "kept" if gain > 0 else "reversed"
        paper = f"{good['paper']:.2f} beside {bad['paper']:.2f}"
        lines.append(
            f"| bits per dimension | {a} | {b} | {paper} | {good['value']:.3f} beside {bad['value']:.3f} | {verdict} |"
        )
    made = ", ".join(f"{n} {v}" for n, v in result["versions"].items())
    lines += [
        "",
        f"{result['samples']} samples each, 1000 steps are {result['steps']} here. {made}.  `{result['command']}`",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Trains, samples, prints the tables, and writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="little training, few samples: shows that it runs")
    parser.add_argument("--out", type=Path, help="a folder for orderings.json and orderings-tables.txt")
    parser.add_argument(
        "--models", type=Path, help="a folder that keeps the trained models, and lends them to a later run"
    )
    options = parser.parse_args()
    training, n, samples, held_out, draws = (20, 12, 60, 16, 1) if options.quick else (1200, 200, 600, 360, 2)
    data = digits()
    found = models(data.train, training, options.models)
    real = dequantise(torch.cat([data.train, data.test]), 2 / 16, sk.Noise(0))
    result = {
        "command": "python benchmarks/orderings.py" + " --quick" * options.quick + " --out docs/benchmarks",
        "versions": {name: version for name, version in versions().items() if version != "not there"},
        "samples": samples,
        "steps": n,
        "quality": quality(found, n, samples, real),
        "bits": bits(found, data.test[:held_out], draws),
    }
    print(tables(result))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "orderings.json").write_text(json.dumps(result, indent=1) + "\n")
        (options.out / "orderings-tables.txt").write_text(tables(result))


if __name__ == "__main__":
    main()
