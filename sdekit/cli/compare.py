"""``sdekit compare``: samplers of one model beside each other, as a table, a picture, CSV and JSON."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from ..comparison import Entry

HELP = "put samplers of one model beside each other: errors and distances for network evaluations and seconds"

OUT = Path("sdekit-comparison")

DATA = ("digits", "swissroll")


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

    samples = whole("sdekit compare", "--samples", args.samples, at_least=4, at_most=MOST)
    seed = whole("sdekit compare", "--seed", args.seed, at_least=0)
    repeats = whole("sdekit compare", "--repeats", args.repeats, at_least=2, at_most=MOST)
    for budget in args.nfe:
        whole("sdekit compare", "--nfe", budget, at_least=1, at_most=MOST)
    model = _model(args.model)
    data = None if args.data is None else _data(args.data)
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


def _model(text: str) -> Any:
    """The model that a text names: a law, a file, or one's own."""
    from ..comparison.oracles import NAMES, oracle
    from ..errors import InvalidArgument, SDEKitError
    from ..models import ScoreModel
    from .objects import read

    if text in NAMES:
        return oracle(text)
    path = Path(text)
    if path.exists():
        from ..training import load_model

        try:
            return load_model(path)
        except SDEKitError as error:
            raise InvalidArgument(f"MODEL: {error}") from error
    if ":" not in text:
        raise InvalidArgument(
            f"MODEL: must be one of {', '.join(NAMES)}, a file that is there, or module:name, got {text!r}"
        )
    model = read("MODEL", text)
    if not isinstance(model, ScoreModel):
        raise InvalidArgument(f"MODEL: {text!r} must be a model, got {type(model).__name__}")
    return model


def _data(text: str) -> Tensor:
    """Data by name, or from a file."""
    import numpy as np
    import torch

    from ..data import digits, swiss_roll
    from ..errors import InvalidArgument

    if text == "digits":
        known = digits()
        return torch.cat([known.train, known.test])
    if text == "swissroll":
        return swiss_roll(10_000)
    path = Path(text)
    if path.suffix != ".npy" or not path.is_file():
        raise InvalidArgument(f"--data: must be one of {', '.join(DATA)} or an .npy file that is there, got {text!r}")
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidArgument(f"--data: {path} must be an array as numpy.save writes it: {error}") from error
    if array.dtype.kind not in "fiu":
        raise InvalidArgument(f"--data: {path} must hold real numbers, (M, *event), got {array.dtype}")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64))


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
