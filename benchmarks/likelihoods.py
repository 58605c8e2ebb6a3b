"""Log-densities: the error, for network evaluations and for seconds, beside other libraries on exact laws.

    python benchmarks/likelihoods.py [--quick] [--out DIR]

One exact network in float64 serves all (``_densities.py``); each library integrates the velocity of the process that is
its own. A method's error is the mean, over 256 draws of the data, of what its log-density differs by from the exact one
at the level where the method stops; "clean" is that of the data themselves. Exact traces are swept over tolerances;
"time at equal error" is read off each library's fastest points, interpolated in the logarithms of both. Seconds are the
processor's, of one thread, the median of three rounds in which all take their turns (one beyond the plane).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from _densities import (
    Answer,
    Law,
    Method,
    Run,
    flow_matching,
    k_diffusion,
    mixture,
    ours,
    score_sde,
    targets,
    torchdiffeq,
    zuko,
)
from _peers import versions

import sdekit as sk

TARGETS = ("gmm2", "gmm16", "gauss64")
PEERS = ("torchdiffeq", "k-diffusion", "flow_matching", "zuko")
ROWS = 256
BATCHES = (1, 256, 4096)
GROWTH = (2, 4, 8, 16, 32, 64, 128, 256)
LEVELS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
ROUNDS = 3
TOLERANCES = (1e-3, 1e-4, 1e-5, 1e-6)
OWN = (10.0, 3.0, 1.0, 0.3, 1e-1, 1e-2, 1e-3, 1e-4)


def methods(law: Law) -> Iterator[Method]:
    """Every way to ask for the log-densities of a law."""
    plane = law.d == 2  # elsewhere runs take seconds, and fewer of them
    for tol, method in itertools.product(OWN if plane else OWN[:7], (sk.ode.Dopri5, sk.ode.Dopri8)):
        run = ours(law, method=method(1e-3 * tol, tol), budget=False)
        yield Method("sdekit", method.__name__, tol, True, run)
    yield Method("sdekit", "default, its own prior, with its budget", None, True, ours(law, known=False))
    steps = ("dopri5", "dopri8") if plane else ("dopri5",)
    for tol, path, method in itertools.product(TOLERANCES[: None if plane else 3], ("vp", "straight"), steps):
        yield Method("torchdiffeq", f"{method}, {path}", tol, True, torchdiffeq(law, path, method, tol))
    for tol in TOLERANCES[: None if plane else 3]:
        yield Method("flow_matching", "dopri5", tol, True, flow_matching(law, "dopri5", tol))
        yield Method("zuko", "its own", tol, True, zuko(law, 0.1 * tol, tol))
    yield Method("score_sde", "RK45, one probe", None, False, score_sde(law))
    yield Method("k-diffusion", "dopri5, one probe", None, False, k_diffusion(law))


def rounds(law: Law) -> int:
    """How often each method has its turn: once where a run takes seconds."""
    return ROUNDS if law.d == 2 else 1


def timed(run: Run, x: torch.Tensor) -> tuple[float, Answer]:
    """The seconds of a run, and its answer."""
    begin = time.process_time()
    answer = run(x)
    return time.process_time() - begin, answer


def measured(law: Law) -> Iterator[dict[str, Any]]:
    """One row a method: its error, evaluations and seconds."""
    known = list(methods(law))
    spent: dict[int, list[float]] = {}
    answers: dict[int, Answer] = {}
    for turn, (i, method) in itertools.product(range(1 + rounds(law)), enumerate(known)):
        try:
            seconds, answers[i] = timed(method.run, law.x if turn else law.x[:2])
        except ImportError as error:
            if not turn:
                print(f"{method.library}: {error}", file=sys.stderr)
            continue
        if turn:  # the first one, of two rows, warms up
            spent.setdefault(i, []).append(seconds)
    for i, method in enumerate(known):
        if i in answers:
            answer = answers[i]
            wrong = (answer.log_prob - law.log_prob(answer.where, law.x)).abs()
            clean = (answer.log_prob - law.log_prob("clean", law.x)).abs()
            yield {
                "target": law.name, "library": method.library, "method": method.label, "tol": method.tol,
                "exact": method.exact, "error": float(wrong.mean()), "most": float(wrong.max()),
                "clean": float(clean.mean()), "nfe": answer.nfe, "seconds": statistics.median(spent[i]),
            }  # fmt: skip


def at_error(rows: list[dict[str, Any]], level: float) -> float | None:
    """The least seconds that reach an error: on the front of a library's points, along straight lines of logarithms."""
    front: list[tuple[float, float]] = []
    for r in sorted(rows, key=lambda r: r["seconds"]):
        if not front or r["error"] < front[-1][1]:
            front.append((r["seconds"], r["error"]))
    if not front or front[-1][1] > level:
        return None
    if front[0][1] <= level:
        return front[0][0]
    (s, e), (t, f) = next(p for p in itertools.pairwise(front) if p[1][1] <= level)
    share = math.log(e / level) / math.log(e / f)
    return math.exp(math.log(s) + share * math.log(t / s))


def equal(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Seconds at equal error, by target and library."""
    found = []
    for target, level in itertools.product(dict.fromkeys(r["target"] for r in rows), LEVELS):
        of = [r for r in rows if r["target"] == target and r["exact"] and r["tol"] is not None]
        times = {name: at_error([r for r in of if r["library"] == name], level) for name in {r["library"] for r in of}}
        found.append({"target": target, "error": level, "seconds": dict(sorted(times.items()))})
    return found


def in_turn(pairs: dict[str, Run], x: torch.Tensor) -> dict[str, tuple[float, float]]:
    """Seconds and evaluations of each, in turns."""
    spent: dict[str, list[float]] = {name: [] for name in pairs}
    nfe: dict[str, float] = {}
    for turn, (name, run) in itertools.product(range(1 + ROUNDS), pairs.items()):
        seconds, answer = timed(run, x)
        nfe[name] = answer.nfe
        if turn:
            spent[name].append(seconds)
    return {name: (statistics.median(values), nfe[name]) for name, values in spent.items()}


def batches(law: Law) -> list[dict[str, Any]]:
    """Seconds of one, 256 and 4096 rows, at tolerances of about one error."""
    x = law.oracle.sample(max(BATCHES), sk.Noise(12))
    pairs = {
        "sdekit": ours(law, method=sk.ode.Dopri5(1e-6, 1e-3), budget=False),
        "torchdiffeq": torchdiffeq(law, "straight", "dopri5", 1e-5),
    }
    found = []
    for n in BATCHES:
        for name, (seconds, nfe) in in_turn(pairs, x[:n]).items():
            found.append({"target": law.name, "batch": n, "library": name, "seconds": seconds, "nfe": nfe})
    return found


def hutchinson(law: Law, steps: int = 25) -> dict[str, Any]:
    """Seconds of one probe at equal evaluations: RK4 of so many steps, ours over torchdiffeq's plain loop."""
    probe = sk.Hutchinson(1)
    pairs = {
        "sdekit": ours(law, method=sk.ode.RK4(steps), trace=probe, budget=False),
        "in t": ours(law, method=sk.ode.RK4(steps), coordinate="t", trace=probe, budget=False),
        "torchdiffeq": torchdiffeq(law, "vp", "rk4", None, steps=steps, probe=True),
    }
    found = in_turn(pairs, law.x)
    assert len({nfe for _, nfe in found.values()}) == 1
    return {"target": law.name, "nfe": found["sdekit"][1]} | {name: seconds for name, (seconds, _) in found.items()}


def growth(d: int) -> dict[str, Any]:
    """Milliseconds an evaluation in d coordinates, of the whole trace and of one probe."""
    law = mixture(d, min(ROWS, 64))
    steps = sk.ode.RK4(2)
    pairs = {
        "exact, sdekit": ours(law, method=steps, trace="exact", budget=False),
        "exact, torchdiffeq": torchdiffeq(law, "vp", "rk4", None, steps=2),
        "one probe, sdekit": ours(law, method=steps, trace=sk.Hutchinson(1), budget=False),
        "one probe, torchdiffeq": torchdiffeq(law, "vp", "rk4", None, steps=2, probe=True),
    }
    return {"d": d} | {name: 1e3 * seconds / nfe for name, (seconds, nfe) in in_turn(pairs, law.x).items()}


def tables(result: dict[str, Any]) -> str:
    """The figures as the documentation shows them."""
    lines = ["Seconds at equal error, exact trace, 256 rows:", ""]
    names = sorted({name for r in result["equal"] for name in r["seconds"]})
    lines += [
        f"| target | error, nats | {' | '.join(names)} | ours over the best peer |",
        "|---" * (3 + len(names)) + "|",
    ]
    for r in result["equal"]:
        own = r["seconds"].get("sdekit")
        peers = [v for name, v in r["seconds"].items() if name != "sdekit" and v is not None]
        cells = ["-" if r["seconds"].get(name) is None else f"{r['seconds'][name]:.2f}" for name in names]
        ratio = f"{own / min(peers):.2f}" if own is not None and peers else "-"
        lines.append(f"| {r['target']} | {r['error']:.0e} | {' | '.join(cells)} | {ratio} |")
    lines += [
        "",
        "Seconds by the number of rows:",
        "",
        "| target | rows | library | evaluations | seconds |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['target']} | {r['batch']} | {r['library']} | {r['nfe']:.0f} | {r['seconds']:.3f} |"
        for r in result["batches"]
    ]
    lines += ["", "One probe at equal evaluations, RK4, seconds, 256 rows:", ""]
    lines += [
        "| target | evaluations | sdekit | sdekit, in t | torchdiffeq, plain | ratio |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['target']} | {r['nfe']:.0f} | {r['sdekit']:.3f} | {r['in t']:.3f} | {r['torchdiffeq']:.3f} "
        f"| {r['sdekit'] / r['torchdiffeq']:.2f} |"
        for r in result["hutchinson"]
    ]
    lines += ["", "Milliseconds an evaluation, 64 rows:", ""]
    kinds = [name for name in result["growth"][0] if name != "d"]
    lines += [f"| D | {' | '.join(kinds)} |", "|---" * (1 + len(kinds)) + "|"]
    lines += [f"| {r['d']} | {' | '.join(f'{r[name]:.2f}' for name in kinds)} |" for r in result["growth"]]
    lines += ["", "Every run, 256 rows:", ""]
    lines += [
        "| target | library | method | tolerance | mean error | worst | of clean data | evaluations | seconds |",
        "|---" * 9 + "|",
    ]
    for r in result["rows"]:
        tol = "-" if r["tol"] is None else f"{r['tol']:.0e}"
        lines.append(
            f"| {r['target']} | {r['library']} | {r['method']} | {tol} | {r['error']:.1e} | {r['most']:.1e} "
            f"| {r['clean']:.1e} | {r['nfe']:.0f} | {r['seconds']:.2f} |"
        )
    lines += ["", ", ".join(f"{n} {v}" for n, v in result["versions"].items()) + f".  `{result['command']}`"]
    return "\n".join(lines) + "\n"


def picture(result: dict[str, Any], path: Path) -> None:
    """Error over evaluations and over seconds, a panel a target."""
    panels = []
    for axis, label in (("nfe", "network evaluations"), ("seconds", "seconds")):
        for target in dict.fromkeys(r["target"] for r in result["rows"]):
            curves: dict[str, list[tuple[float, float, float, float]]] = {}
            for r in result["rows"]:
                if r["target"] == target and (r["tol"] is not None or not r["exact"]):
                    name = r["library"] if r["library"] != "sdekit" else f"sdekit {r['method']}"
                    if r["library"] == "torchdiffeq" and r["method"] != "dopri5, straight":
                        continue
                    curves.setdefault(name, []).append((r[axis], r["error"], r["error"], r["error"]))
            panels.append(sk.plots.Tradeoff(target, label, curves))
    sk.plots.save(sk.plots.tradeoffs(panels, columns=len(panels) // 2), path)


def main() -> None:
    """Measures, prints the tables, and writes them as Markdown, JSON and a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one target, few rows: shows that it runs")
    parser.add_argument("--out", type=Path, help="a folder for likelihoods.json, likelihoods.png and the tables")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # peers' deprecations
    global ROWS, BATCHES, GROWTH, ROUNDS, TOLERANCES, OWN
    chosen = TARGETS
    if options.quick:
        chosen, ROWS, BATCHES, GROWTH, ROUNDS, TOLERANCES, OWN = ("gmm2",), 8, (1, 8), (2,), 1, (1e-3,), (1e-2,)
    result: dict[str, Any] = {"command": "python " + " ".join(["benchmarks/likelihoods.py", *sys.argv[1:]])}
    result |= {"versions": versions(PEERS), "rows": [], "hutchinson": [], "batches": []}
    with torch.no_grad():
        for law in targets(chosen, ROWS):
            result["rows"] += measured(law)
            result["hutchinson"].append(hutchinson(law))
            if law.d == 2:
                result["batches"] += batches(law)
            print(f"{law.name}: done", file=sys.stderr, flush=True)
        result["growth"] = [growth(d) for d in GROWTH]
    result["equal"] = equal(result["rows"])
    print(tables(result))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "likelihoods.json").write_text(json.dumps(result, indent=1) + "\n")
        (options.out / "likelihoods-tables.txt").write_text(tables(result))
        picture(result, options.out / "likelihoods.png")


if __name__ == "__main__":
    main()
