"""``sdekit likelihood``: log-densities of data under a model, as a mean with its interval, rows, and a picture."""

from __future__ import annotations

import argparse
import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .inputs import DATA

if TYPE_CHECKING:
    from torch import Tensor

HELP = "log-densities of data under a model, with their errors; of two data sets, how well they tell them apart"

OUT = Path("sdekit-likelihood")


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "models:\n"
        "  ring, lattice, modes, gaussian   laws whose score and density are exact\n"
        "  sdekit-demo/ddpm.safetensors     a file that save_model wrote, or a directory that train wrote\n"
        "  module:name                      one's own model\n"
        f"data:\n  {', '.join(DATA)}, or an .npy file of (M, *event)\n\n"
        "data with levels need --bin-width and --origin: each row is then dequantised --draws times"
    )
    parser.add_argument("model", metavar="MODEL", help="the model, as below")
    parser.add_argument("data", nargs="+", metavar="DATA", help="one data set, or two to compare, as below")
    parser.add_argument("--tol", type=float, help="nats a step (by the number of coordinates)")
    parser.add_argument("--trace", choices=["exact", "hutchinson"], help="of the divergence (by their number, too)")
    parser.add_argument("--bin-width", type=float, help="the width of a level, in the data's units")
    parser.add_argument("--origin", type=float, help="the lowest level")
    parser.add_argument("--draws", type=int, default=1, help="of the dequantisation (1)")
    parser.add_argument("--limit", type=int, help="the first rows only (every row)")
    parser.add_argument("--map", type=int, help="of the plane: a picture of the density, of so many points a side")
    parser.add_argument("--batch", type=int, default=256, help="rows at a time (256)")
    parser.add_argument("--seed", type=int, default=0, help="of probes and dequantisation (0)")
    parser.add_argument("--out", type=Path, default=OUT, help=f"the directory to write to (./{OUT})")
    parser.add_argument("--force", action="store_true", help="write into a directory that holds other files")


def run(args: argparse.Namespace) -> None:
    """Prints the means, and writes likelihood.json, rows.csv, rows.npz, histogram.png and, if asked, density.png."""
    import numpy as np

    from .. import plots
    from ..errors import MOST, InvalidArgument, number, whole
    from .folder import Folder
    from .inputs import data_of, model_of

    owner = "sdekit likelihood"
    if args.tol is not None:
        number(owner, "--tol", args.tol, above=0.0, below=1.0)
    if args.bin_width is not None:
        number(owner, "--bin-width", args.bin_width, above=0.0)
    if args.origin is not None:
        number(owner, "--origin", args.origin)
    pair = {"--bin-width": args.bin_width, "--origin": args.origin}
    alone = [flag for flag, value in pair.items() if value is not None]
    if len(alone) == 1:
        (other,) = pair.keys() - set(alone)
        raise InvalidArgument(f"{alone[0]}: must be given with {other}, got {pair[alone[0]]:g} alone")
    whole(owner, "--draws", args.draws, at_least=1, at_most=MOST)
    whole(owner, "--batch", args.batch, at_least=1, at_most=MOST)
    whole(owner, "--seed", args.seed, at_least=0)
    if args.limit is not None:
        whole(owner, "--limit", args.limit, at_least=1)
    if args.map is not None:
        whole(owner, "--map", args.map, at_least=2, at_most=1000)
    if len(args.data) > 2 or len(set(args.data)) < len(args.data):
        raise InvalidArgument(f"DATA: must be one data set, or two that differ, got {', '.join(args.data)}")
    model = model_of(args.model)
    sets = {name: data_of("DATA", name)[: args.limit] for name in args.data}
    for name, data in sets.items():
        _check(name, data, model, args.bin_width is not None)
        if args.map is not None and tuple(data.shape[1:]) != (2,):
            raise InvalidArgument(f"--map: needs events of shape (2,), got {tuple(data.shape[1:])} in {name}")
    folder = Folder(args.out, args.force)
    found = {name: _of_rows(model, data, args) for name, data in sets.items()}
    summary: dict[str, Any] = {"model": args.model, "sets": {n: _summary(rows) for n, rows in found.items()}}
    if len(found) == 2:
        inside, outside = (rows["log_prob"] for rows in found.values())
        summary["separation"] = _separation(inside, outside)
    folder.json("likelihood.json", summary)
    folder.text("rows.csv", _csv(found))
    with folder.writing("rows.npz") as path:
        arrays = {f"{i}_{key}": v.numpy() for i, rows in enumerate(found.values()) for key, v in rows.items()}
        np.savez(path, allow_pickle=False, sets=np.array(list(found)), **arrays)
    with folder.writing("histogram.png") as path:
        label = "bits per dimension" if args.bin_width is not None else "log-density, nats"
        key = "bits_per_dim" if args.bin_width is not None else "log_prob"
        plots.save(plots.histogram({name: rows[key].tolist() for name, rows in found.items()}, label), path)
    if args.map is not None:
        points = plots.lattice(args.map, 1.1 * max(float(data.abs().max()) for data in sets.values()))
        values = _on_the_map(model, points.points, args)
        with folder.writing("density.png") as path:
            plots.save(plots.density_maps([args.model], [values], points), path)
    for name, about in summary["sets"].items():
        print(f"{name}: {_line(about)}")
    if "separation" in summary:
        first, second = found
        print(f"a row of {first} is likelier than one of {second} in {100 * summary['separation']:.1f} % of pairs")
    print(f"\nall figures are in {folder.path}")


def _check(name: str, data: Tensor, model: Any, dequantised: bool) -> None:
    """Raises InvalidArgument, before anything is written, for data that the model cannot be asked for."""
    from ..comparison.run import event_of
    from ..errors import InvalidArgument
    from ..likelihood.levels import levels_of

    if not len(data):
        raise InvalidArgument(f"DATA: must hold at least one row, got none in {name}")
    event = event_of(model)
    if event is not None and tuple(data.shape[1:]) != tuple(event):
        raise InvalidArgument(f"DATA: rows must be of shape {tuple(event)}, got {tuple(data.shape[1:])} in {name}")
    known = None if dequantised else levels_of(data)
    if known is not None:
        count, lowest, width = known
        raise InvalidArgument(
            f"DATA: {name} has {count} levels, {width:g} apart from {lowest:g}, and no density: give "
            f"--bin-width {width:g} --origin {lowest:g}, and it is dequantised"
        )


def _of_rows(model: Any, data: Tensor, args: argparse.Namespace) -> dict[str, Tensor]:
    """What is known of each row, under a bar."""
    import torch

    from ..chunks import CHUNK
    from ..likelihood import discrete_log_likelihood, log_likelihood
    from .watch import travelling

    columns: dict[str, list[Tensor]] = {}
    how: dict[str, Any] = {"tol": args.tol, "trace": args.trace, "seed": args.seed, "per_sample": True}
    for start, x in _batches(data, args.batch):
        ids = range(start, start + len(x))
        runs = (1 if args.bin_width is None else args.draws) * (ids[-1] // CHUNK - ids[0] // CHUNK + 1)
        name, ends = f"rows {start} to {start + len(x)}", (model.sde.t_min, model.sde.t_max)
        with travelling(model, name, CHUNK, *ends, runs) as shown:
            if args.bin_width is None:
                r = log_likelihood(shown, x, ids=ids, **how)
                part = {"log_prob": r.log_prob, "trace_se": r.trace_se, "nfe": r.nfe}
                parts = {"solver": r.solver, "prior": r.prior, "truncation": r.truncation}
                part |= {name: value for name, value in parts.items() if value is not None}
            else:
                levels = {"bin_width": args.bin_width, "origin": args.origin, "draws": args.draws}
                d = discrete_log_likelihood(shown, x, ids=ids, **levels, **how)
                part = {"log_prob": d.log_prob, "bits_per_dim": d.bits_per_dim, "nfe": d.nfe}
        for name, value in part.items():
            columns.setdefault(name, []).append(value.cpu())
    return {name: torch.cat(values) for name, values in columns.items()}


def _on_the_map(model: Any, points: Tensor, args: argparse.Namespace) -> Tensor:
    """Log-densities for the eye, to a twentieth of a nat a step unless asked for better, under a bar."""
    from ..likelihood import log_likelihood
    from .watch import travelling

    sde = model.sde
    with travelling(model, f"map of {len(points)} points", len(points), sde.t_min, sde.t_max) as shown:
        return log_likelihood(shown, points, tol=args.tol or 0.05, trace=args.trace, budget=False).log_prob.cpu()


def _batches(data: Tensor, size: int) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, len(data), size):
        yield start, data[start : start + size]


def _summary(rows: dict[str, Tensor]) -> dict[str, float]:
    """Means, the standard error of the main one, and the largest of each error."""
    main = rows.get("bits_per_dim", rows["log_prob"])
    n = len(main)
    about = {"rows": n, "mean": float(main.mean()), "nfe": float(rows["nfe"].double().mean())}
    about["standard_error"] = float(main.std()) / math.sqrt(n) if n > 1 else math.inf
    about["bits_per_dim"] = float("bits_per_dim" in rows)
    for name in ("solver", "prior", "truncation"):
        if name in rows:
            about[f"most_{name}"] = float(rows[name].max())
    return about


def _line(about: dict[str, float]) -> str:
    unit = "bits per dimension, at most" if about["bits_per_dim"] else "nats"
    text = f"{about['mean']:.4f} +- {1.96 * about['standard_error']:.4f} {unit} (95 % of {about['rows']:.0f} rows)"
    parts = [f"{n} {about[f'most_{n}']:.0e}" for n in ("solver", "prior", "truncation") if f"most_{n}" in about]
    return f"{text}, {about['nfe']:.0f} evaluations a row" + (f"; at most: {', '.join(parts)}" if parts else "")


def _separation(inside: Tensor, outside: Tensor) -> float:
    """The share of pairs whose first is the likelier, ties counted half: the area under the ROC curve."""
    import torch

    below = torch.searchsorted(outside.sort().values, inside).double()
    upto = torch.searchsorted(outside.sort().values, inside, right=True).double()
    return float((0.5 * (below + upto) / len(outside)).mean())


def _csv(found: dict[str, dict[str, Tensor]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    names = list(next(iter(found.values())))
    writer.writerow(["set", "row", *names])
    for name, rows in found.items():
        columns = [rows[key].tolist() for key in names]
        writer.writerows([name, i, *map(repr, values)] for i, values in enumerate(zip(*columns, strict=True)))
    return text.getvalue()
