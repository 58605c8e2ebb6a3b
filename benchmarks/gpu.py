"""What a sampling run on a GPU costs beyond its network calls, step by step and as one CUDA graph.

    python benchmarks/gpu.py [--quick] [--out DIR]

A run of 50 steps over 50 calls of the network alone, on one device and in turn: medians over rounds, in milliseconds.
"alone" calls the network on tensors that are there, with labels that are there; "alone, one graph" replays these calls
as a CUDA graph. "loop" is ``sample``; "graph" is ``sample(..., cuda_graph=True)``. Without a CUDA device the loops run
on the CPU, on smaller networks, and no graph.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _peers import versions

import sdekit as sk

STEPS = 50
S = sk.solvers
SOLVERS: tuple[sk.solvers.Solver, ...] = (S.DDIM(), S.DPMSolver(2), S.Multistep(), S.UniPC(3), S.Ancestral())


def networks(cuda: bool) -> dict[str, tuple[torch.nn.Module, tuple[int, ...]]]:
    """A network and the shape of a batch, by name."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found: dict[str, tuple[torch.nn.Module, tuple[int, ...]]] = {
            "MLP 4 x 256": (sk.networks.MLP((2,), width=256, depth=4), (512, 2))
        }
        if cuda:
            unet = sk.networks.UNet(3, width=64)
            found["U-Net 64, 32 x 32"] = (unet, (16, 3, 32, 32))
        else:
            found["U-Net 16, 8 x 8"] = (sk.networks.UNet(1, width=16), (4, 1, 8, 8))
    return found


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Of one run, the device waited for before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def graph(run: Callable[[], object]) -> Callable[[], object]:
    """A CUDA graph of a run."""
    run()
    torch.cuda.synchronize()
    made = torch.cuda.CUDAGraph()
    with torch.cuda.graph(made):
        run()
    replay: Callable[[], object] = made.replay
    return replay


def measure(device: torch.device, steps: int, rounds: int) -> list[dict[str, Any]]:
    """One row a network and solver."""
    rows = []
    for name, (network, shape) in networks(device.type == "cuda").items():
        model = sk.ddpm(network).to(device).eval()
        x = sk.Noise(0).normal(shape, stream="start", dtype=torch.float32, device=device)
        labels = torch.full(shape[:1], 500.0, device=device)

        def alone(x: torch.Tensor = x, labels: torch.Tensor = labels, network: torch.nn.Module = network) -> None:
            for _ in range(steps):
                network(x, labels)

        for solver in SOLVERS:

            def loop(model: sk.models.ScoreModel = model, solver: S.Solver = solver, x: torch.Tensor = x) -> object:
                return sk.sample(model, x_T=x, solver=solver, steps=steps)

            def whole(model: sk.models.ScoreModel = model, solver: S.Solver = solver, x: torch.Tensor = x) -> object:
                return sk.sample(model, x_T=x, solver=solver, steps=steps, cuda_graph=True)

            runs: dict[str, Callable[[], object]] = {"alone": alone, "loop": loop}
            if device.type == "cuda":
                runs |= {"alone, one graph": graph(alone), "graph": whole}
            spent: dict[str, list[float]] = {kind: [] for kind in runs}
            for run in runs.values():
                seconds(run, device)
                seconds(run, device)
            for _ in range(rounds):
                for kind, run in runs.items():
                    spent[kind].append(1e3 * seconds(run, device))
            medians = {kind: statistics.median(times) for kind, times in spent.items()}
            rows.append({"network": name, "batch": shape[0], "solver": str(solver), "milliseconds": medians})
    return rows


def tables(result: dict[str, Any]) -> str:
    """The figures as the documentation shows them."""
    kinds = list(result["rows"][0]["milliseconds"])
    ratios = [("loop", "alone")]
    if "graph" in kinds:
        ratios += [("graph", "alone"), ("graph", "alone, one graph")]
    head = [*(f"{kind}, ms" for kind in kinds), *(f"{a} / {b}" for a, b in ratios)]
    lines = [f"| network, batch | solver | {' | '.join(head)} |", "|---" * (2 + len(head)) + "|"]
    for row in result["rows"]:
        ms = row["milliseconds"]
        cells = [*(f"{ms[kind]:.2f}" for kind in kinds), *(f"{ms[a] / ms[b]:.3f}" for a, b in ratios)]
        lines.append(f"| {row['network']}, {row['batch']} | {row['solver']} | {' | '.join(cells)} |")
    made = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines += ["", f"{result['device']}, {made}.  `{result['command']}`"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, prints the table, and writes it as Markdown and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps and rounds: shows that it runs")
    parser.add_argument("--out", type=Path, help="a folder for gpu.json and gpu-tables.txt")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.no_grad():
        rows = measure(device, 5 if options.quick else STEPS, 2 if options.quick else 15)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    command = "python " + " ".join(["benchmarks/gpu.py", *sys.argv[1:]])
    result = {"command": command, "device": name, "versions": versions(), "rows": rows}
    print(tables(result))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")
        (options.out / "gpu-tables.txt").write_text(tables(result))


if __name__ == "__main__":
    main()
