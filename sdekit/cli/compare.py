"""``sdekit compare``: samplers of one model beside each other, as a table, a picture, CSV and JSON."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .inputs import DATA

if TYPE_CHECKING:
    from torch import Tensor

    from ..comparison import Entry

HELP = "put samplers of one model beside each other: errors and distances for network evaluations and seconds"

OUT = Path("sdekit-comparison")


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "models:\n"
        "  ring, lattice, modes, gaussian   laws whose score and samples are exact\n"
        "  sdekit-demo/ddpm.safetensors     a file that save_model wrote, or a directory that train wrote\n"
        "  module:name                      one's own model\n"
        "samplers, each at every budget:\n"
        "  nfe=N                            what sample(model, shape, nfe=N) takes\n"
        "  'DDIM(eta=0.5)' 'Heun()@karras'  a solver, on the log-SNR grid or on one by its name"
    )
    parser.add_argument("model", metavar="MODEL", help="the model, as below")
    parser.add_argument("samplers", nargs="*", metavar="SAMPLER", help="what to compare (those of compare)")
    parser.add_argument("--nfe", nargs="+", type=int, default=[5, 10, 20, 50], help="budgets of network evaluations")
    parser.add_argument("--samples", type=int, default=1000, help="of each sampler at each budget (1000)")
    parser.add_argument("--event", nargs="+", type=int, help="the shape of one sample, where neither the model nor "
                        "data tell")  # fmt: skip
    parser.add_argument("--data", help=f"{', '.join(DATA)}, or an .npy file of (M, *event): adds distances to data")
    parser.add_argument("--seed", type=int, default=0, help="of the noise and of the intervals (0)")
    parser.add_argument("--repeats", type=int, default=200, help="bootstrap draws behind each interval (200)")
    parser.add_argument("--out", type=Path, default=OUT, help=f"the directory to write to (./{OUT})")
    parser.add_argument("--force", action="store_true", help="write into a directory that holds other files")


def run(args: argparse.Namespace) -> None:
    """Compares, prints the table, and writes comparison.json, table.csv and comparison.png."""
    from ..comparison import DEFAULT, compare
    from ..comparison.run import check
    from ..errors import MOST, whole
    from .folder import Folder
    from .inputs import data_of, model_of

    samples = whole("sdekit compare", "--samples", args.samples, at_least=4, at_most=MOST)
    seed = whole("sdekit compare", "--seed", args.seed, at_least=0)
    repeats = whole("sdekit compare", "--repeats", args.repeats, at_least=2, at_most=MOST)
    for budget in args.nfe:
        whole("sdekit compare", "--nfe", budget, at_least=1, at_most=MOST)
    model = model_of(args.model)
    data = None if args.data is None else data_of("--data", args.data)
    shape = (samples, *_event(args.event, model, data))
    entries = [_entry(text) for text in args.samplers] or DEFAULT
    settings: dict[str, Any] = {"nfe": args.nfe, "data": data, "seed": seed, "repeats": repeats}
    check(model, shape, entries, **settings)
    folder = Folder(args.out, args.force)
    found = compare(model, shape, entries, **settings, progress=True)
    folder.json("comparison.json", found.to_dict())
    folder.text("table.csv", found.csv())
    folder.text("table.txt", f"{found}\n")
    with folder.writing("comparison.png") as path:
        found.plot(path)
    print(f"{found.table(found.main)}\n\nall figures are in {folder.path}")


def _event(given: list[int] | None, model: Any, data: Tensor | None) -> tuple[int, ...]:
    """The shape of a sample: the one that is given, or the data's, or the model's own."""
    from ..comparison.run import event_of
    from ..errors import InvalidArgument, whole

    if given is not None:
        return tuple(whole("sdekit compare", "--event", n, at_least=1) for n in given)
    if data is not None:
        return tuple(data.shape[1:])
    event = event_of(model)
    if event is None:
        raise InvalidArgument("--event: must be given where neither the model nor --data tells the shape of a sample")
    return event


def _entry(text: str) -> Entry:
    """``nfe=N``, ``SOLVER`` or ``SOLVER@GRID``."""
    from ..comparison import Entry
    from ..errors import InvalidArgument, describe
    from ..grids import NAMES, TABLE_NAMES
    from ..solvers import Solver
    from .objects import read

    if text == "nfe=N":
        return Entry(text)
    name, at, grid = text.partition("@")
    solver = read("SAMPLER", name)
    if not isinstance(solver, Solver):
        raise InvalidArgument(f"SAMPLER: {name!r} must be a solver, got {describe(solver)}")
    if at and grid not in (*NAMES, *TABLE_NAMES):
        raise InvalidArgument(f"SAMPLER: the grid of {text!r} must be one of {', '.join((*NAMES, *TABLE_NAMES))}")
    return Entry(text, solver, grid or "log_snr")
