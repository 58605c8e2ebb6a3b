"""Adaptive samplers of the reverse SDE: the law that they give, for the network evaluations that a tolerance costs.

    python benchmarks/adaptive.py [--quick] [--out DIR]

On exact models of a VP process that knows the data's mean and deviation: ``AdaptiveSDE``, and the solver of
Jolicoeur-Martineau et al. 2021 (arXiv:2105.14080), algorithm 2, as the paper gives it, with its tolerance of each row;
beside them samplers on the log-SNR grid, at fixed numbers of steps. Figures: the mean evaluations of a row, the
greatest, and the energy distance of 3 x 2,000 samples to exact draws, with 95 % bootstrap intervals; "floor" is the
mean of as many exact samples and two deviations.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from _peers import versions
from _targets import laws

import sdekit as sk

F64 = torch.float64
TARGETS = ("gauss2", "gmm2", "gmm16", "ring", "aniso4")
ROWS, ROUNDS = 2_000, 3
TOLERANCES = {"AdaptiveSDE": (0.3, 0.1, 0.03), "Jolicoeur-Martineau": (0.2, 0.05, 0.01)}
STEPS = (10, 20, 40, 80, 160)
Samples = tuple[torch.Tensor, torch.Tensor]
"""Samples, and the evaluations of each."""


def jolicoeur_martineau(model: sk.models.GaussianMixture, x: torch.Tensor, rtol: float, seed: int) -> Samples:
    """Algorithm 2: Euler-Maruyama and its improved Euler step, with extrapolation; r = 0.9, theta = 0.9, h = 0.01 at
    first, the scaled 2-norm, and an absolute tolerance of 2 / 256 for data within about [-1, 1]. The last step is
    Tweedie's."""
    sde = model.sde
    draw = torch.Generator().manual_seed(seed)
    n = len(x)
    t, h = torch.full((n,), sde.t_max, dtype=F64), torch.full((n,), 0.01, dtype=F64)
    before, cost = x.clone(), torch.zeros(n, dtype=torch.int64)
    live = torch.arange(n)

    def slope(x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        level = sde.level(t, x)
        return level.f * x - level.g2 * model(x, level).score, level.g2.sqrt()

    while len(live):
        here, now, size = x[live], t[live], h[live, None]
        z = torch.randn(here.shape, generator=draw, dtype=F64)
        drift, g = slope(here, now)
        first = here - size * drift + size.sqrt() * g * z
        drift, g = slope(first, now - size[:, 0])
        second = 0.5 * (first + here - size * drift + size.sqrt() * g * z)
        cost[live] += 2
        allowed = (rtol * torch.maximum(first.abs(), before[live].abs())).clamp(min=2 / 256)
        error = ((first - second) / allowed).square().mean(1).sqrt()
        taken = error <= 1.0
        x[live] = torch.where(taken[:, None], second, here)
        before[live] = torch.where(taken[:, None], first, before[live])
        now = torch.where(taken, now - size[:, 0], now)
        t[live] = now
        left = (now - sde.t_min).clamp(min=0.0)
        h[live] = torch.minimum(left, 0.9 * size[:, 0] * error.clamp(min=1e-6) ** -0.9)
        live = live[left > 1e-12]
    return model(x, sde.t_min).x0, cost + 1


def samplers(model: sk.models.GaussianMixture) -> Iterator[tuple[str, Callable[[torch.Tensor, int], Samples]]]:
    """Each sampler at each tolerance or number of steps: a function of starts and a seed."""

    def ours(solver: sk.solvers.Solver, steps: int | None = None) -> Callable[[torch.Tensor, int], Samples]:
        def run(x: torch.Tensor, seed: int) -> Samples:
            found = sk.sample(model, x_T=x, solver=solver, steps=steps, seed=seed, full=True)
            return found.x, torch.as_tensor(found.nfe).expand(len(x))

        return run

    for tol in TOLERANCES["AdaptiveSDE"]:
        yield f"AdaptiveSDE, tol={tol:g}", ours(sk.solvers.AdaptiveSDE(tol))
    for rtol in TOLERANCES["Jolicoeur-Martineau"]:
        yield (
            f"Jolicoeur-Martineau, rtol={rtol:g}",
            lambda x, seed, rtol=rtol: jolicoeur_martineau(model, x.clone(), rtol, seed),
        )
    for solver in (sk.solvers.Ancestral(), sk.solvers.SASolver()):
        for n in STEPS:
            yield f"{type(solver).__name__}, {n} steps", ours(solver, n)


def measure(
    name: str, weights: torch.Tensor, means: torch.Tensor, covariances: torch.Tensor
) -> Iterator[dict[str, Any]]:
    """One row a sampler and setting."""
    law = sk.models.GaussianMixture(sk.VPSDE(), weights, means, covariances)
    mean, covariance = sk.comparison.oracles.moments(law)
    std = math.sqrt(float(covariance.diagonal().mean()))
    model = sk.models.GaussianMixture(sk.VPSDE(t_min=1e-3).with_prior(mean, std), weights, means, covariances)
    draws = model.sample(4 * ROWS, sk.Noise((7, 1)))
    energy = sk.metrics.EnergyDistance(draws[: 2 * ROWS])
    floor = energy.floor(draws[2 * ROWS :], ROWS, repeats=40, seed=3)
    for label, run in samplers(model):
        parts = []
        for seed in range(ROUNDS):
            start = model.sde.prior.sample((ROWS, means.shape[1]), sk.Noise((9, seed)), dtype=F64)
            parts.append(run(start, seed))
        x, nfe = (torch.cat(v) for v in zip(*parts, strict=True))
        found = energy.interval(x, repeats=100, seed=4)
        yield {
            "target": name,
            "sampler": label,
            "nfe": float(nfe.double().mean()),
            "most": int(nfe.max()),
            "value": found.value,
            "low": found.low,
            "high": found.high,
            "floor": abs(floor.mean) + 2 * floor.std / math.sqrt(ROUNDS),
        }


def tables(result: dict[str, Any]) -> str:
    """The figures as the documentation shows them."""
    rows = result["rows"]
    names = list(dict.fromkeys(r["target"] for r in rows))
    lines = [f"| sampler | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for label in dict.fromkeys(r["sampler"] for r in rows):
        cells = []
        for name in names:
            r = next(r for r in rows if (r["target"], r["sampler"]) == (name, label))
            cells.append(f"{r['nfe']:.0f} (at most {r['most']}): {r['value']:.1e} ({r['low']:.1e} to {r['high']:.1e})")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    floors = [next(r["floor"] for r in rows if r["target"] == name) for name in names]
    lines += [f"| floor | {' | '.join(f'{v:.1e}' for v in floors)} |", ""]
    lines.append(", ".join(f"{n} {v}" for n, v in result["versions"].items()) + f".  `{result['command']}`")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, prints the table, and writes it as Markdown, JSON and a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one target, few samples: shows that it runs")
    parser.add_argument("--out", type=Path, help="a folder for adaptive.json, adaptive.png and adaptive-tables.txt")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = TARGETS
    if options.quick:
        global ROWS, STEPS
        ROWS, STEPS, chosen = 100, (10,), ("gauss2",)
        TOLERANCES.update({"AdaptiveSDE": (0.3,), "Jolicoeur-Martineau": (0.2,)})
    rows: list[dict[str, Any]] = []
    with torch.no_grad():
        for name, weights, means, covariances in laws():
            if name in chosen:
                rows += measure(name, weights / weights.sum(), means, covariances)
                print(f"{name}: done", file=sys.stderr, flush=True)
    command = "python " + " ".join(["benchmarks/adaptive.py", *sys.argv[1:]])
    result = {"command": command, "versions": versions(), "rows": rows}
    print(tables(result))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "adaptive.json").write_text(json.dumps(result, indent=1) + "\n")
        (options.out / "adaptive-tables.txt").write_text(tables(result))
        panels = []
        for name in dict.fromkeys(r["target"] for r in rows):
            of = [r for r in rows if r["target"] == name]
            curves: dict[str, list[tuple[float, float, float, float]]] = {}
            for r in of:
                curve = curves.setdefault(r["sampler"].split(",")[0], [])
                curve.append((r["nfe"], r["value"], r["low"], r["high"]))
            panels.append(sk.plots.Tradeoff(name, "network evaluations", curves, floor=of[0]["floor"]))
        sk.plots.save(sk.plots.tradeoffs(panels, columns=min(3, len(panels))), options.out / "adaptive.png")


if __name__ == "__main__":
    main()
