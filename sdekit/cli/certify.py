"""``sdekit certify``: samplers measured on processes, as a table, pictures and JSON."""

from __future__ import annotations

import argparse
import concurrent.futures
import csv
import functools
import io
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from ..certification import Certificate

HELP = "measure samplers: orders, exact moments, the last step, what a row depends on; a table, pictures and JSON"

OUT = Path("sdekit-certificates")


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "samplers and processes:\n"
        "  DDIM  'DDIM(eta=0.5)'  'ProbabilityFlow(method=RK4())'  'VPSDE(beta_max=15.0)'\n"
        "  module:name   one's own: a solver, or a function (model, x_T, levels, noise) -> x\n\n"
        "exit code 1 where a certificate fails"
    )
    parser.add_argument("solvers", nargs="*", metavar="SAMPLER", help="what to certify (every solver)")
    parser.add_argument("--sde", nargs="+", default=[], metavar="PROCESS", help="the processes (every one; VPSDE for "
                        "one sampler)")  # fmt: skip
    parser.add_argument("--order", type=float, help="the order that a function is held to")
    parser.add_argument("--reference", help="a sampler that must do the same in N steps")
    parser.add_argument("--all", action="store_true", help="longer runs, and samples of a mixture in the plane")
    parser.add_argument("--jobs", type=int, help="processes at a time (as many as there are cores)")
    parser.add_argument("--out", type=Path, default=OUT, help=f"the directory to write to (./{OUT})")
    parser.add_argument("--force", action="store_true", help="write into a directory that holds other files")


def run(args: argparse.Namespace) -> None:
    """Certifies; each certificate is on disk as soon as it is there."""
    from tqdm import tqdm

    from ..certification import catalogue, check, table
    from ..errors import CertificationFailed, whole
    from .demo import cores
    from .folder import Folder
    from .objects import read

    if args.jobs is not None:
        whole("sdekit certify", "--jobs", args.jobs, at_least=1)
    samplers = [read("SAMPLER", text) for text in args.solvers] or catalogue.all_solvers()
    processes = [read("--sde", text) for text in args.sde]
    if not processes:
        processes = [read("--sde", "VPSDE")] if len(args.solvers) == 1 else catalogue.processes()
    settings: dict[str, Any] = {"full": args.all, "order": args.order}
    settings["reference"] = None if args.reference is None else read("--reference", args.reference)
    pairs = [(sampler, sde) for sde in processes for sampler in samplers]
    _check(samplers, processes, settings)
    for sampler, sde in pairs:
        check(sampler, sde=sde, **settings)
    folder = Folder(args.out, args.force)
    found: list[Certificate] = []
    with _working(min(args.jobs or cores(), len(pairs))) as run_all, tqdm(total=len(pairs), leave=False) as bar:
        for certificate in run_all(functools.partial(_certified, settings), pairs):
            found.append(certificate)
            bar.set_description(f"{certificate.solver.partition('(')[0]} on {certificate.sde.partition('(')[0]}")
            bar.update()
            _write(folder, found)
    print(str(found[0]) if len(found) == 1 else table(found))
    with folder.writing("certificates.png") as path:
        _picture(found, path)
    print(f"\n{sum(c.passed for c in found)} of {len(found)} certified; written to {folder.path}")
    failed = [f"{c.solver} on {c.sde}" for c in found if not c.passed]
    if failed:
        raise CertificationFailed(f"certify: {len(failed)} of {len(found)} failed: {'; '.join(failed)}")


def _check(samplers: list[Any], processes: list[Any], settings: dict[str, Any]) -> None:
    """Raises InvalidArgument, naming the flag, for objects that are of another kind."""
    from ..errors import InvalidArgument, describe, number
    from ..sdes import GaussianSDE
    from ..solvers import Solver

    for flag, value in [("SAMPLER", v) for v in samplers] + [("--reference", settings["reference"])]:
        if not (value is None or isinstance(value, Solver) or callable(value)):
            raise InvalidArgument(f"{flag}: must be a solver or a function, got {describe(value)}")
    for value in processes:
        if not isinstance(value, GaussianSDE):
            raise InvalidArgument(f"--sde: must be a process with alpha and sigma, got {describe(value)}")
    if settings["order"] is not None:
        number("sdekit certify", "--order", settings["order"], above=0.0)
        if any(isinstance(v, Solver) for v in samplers):
            raise InvalidArgument(f"--order: must be left out for a solver, got {settings['order']:g}: it has its own")


Runner: TypeAlias = "Callable[[Callable[[Any], Certificate], Iterable[Any]], Iterator[Certificate]]"


@contextmanager
def _working(jobs: int) -> Iterator[Runner]:
    """A ``map`` over as many processes as there are jobs, of a thread each; in this one where there is one job."""
    if jobs == 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context, initializer=_alone) as pool:
        try:
            yield functools.partial(_in_order, pool)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _in_order(
    pool: concurrent.futures.Executor, function: Callable[[Any], Any], values: Iterable[Any]
) -> Iterator[Any]:
    """The pool's own ``map`` cancels what the pool still holds: where it is stopped, both fail over one future."""
    for future in [pool.submit(function, value) for value in values]:
        yield future.result()


def _alone() -> None:
    """One thread a process; Ctrl-C is for the one that started it."""
    import signal

    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _certified(settings: dict[str, Any], pair: tuple[Any, Any]) -> Certificate:
    from ..certification import certify

    sampler, sde = pair
    return certify(sampler, sde=sde, **settings)


def _write(folder: Any, found: list[Certificate]) -> None:
    folder.json("certificates.json", [c.to_dict() for c in found])
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["process", "solver", "check", "figure", "wanted", "verdict", "detail"])
    verdict = {True: "ok", False: "failed", None: ""}
    rows.writerows(
        [c.sde, c.solver, k.name, "" if k.figure is None else repr(k.figure), k.wanted, verdict[k.passed], k.detail]
        for c in found
        for k in c.checks
    )
    folder.text("table.csv", text.getvalue())


def _picture(found: list[Certificate], path: Path) -> None:
    if len(found) == 1:
        found[0].plot(path)
        return
    from .. import plots
    from ..certification.certificate import labels

    solvers, processes = (labels((getattr(c, kind) for c in found), 34) for kind in ("solver", "sde"))
    cells = {}
    for c in found:
        order = next((k.figure for k in c.checks if k.name in ("flow order", "weak order")), None)
        cells[solvers[c.solver], processes[c.sde]] = ("" if order is None else f"{order:.2f}", c.passed)
    rows, columns = (list(dict.fromkeys(pair[i] for pair in cells)) for i in (0, 1))
    plots.save(plots.verdicts(rows, columns, cells), path)
