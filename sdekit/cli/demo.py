"""``sdekit demo``: both views trained, sampled and measured, on data that come with scikit-learn."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidArgument, whole
from ..noise import fold

if TYPE_CHECKING:
    import torch

HELP = "train DDPM and NCSN on small real data, sample with eight solvers, and write a page that shows it all"

DATA = {
    "digits": "scikit-learn's handwritten digits with a small U-Net (about 5 minutes on 2 cores)",
    "swissroll": "scikit-learn's Swiss roll in the plane, beside its exact density (under 2 minutes)",
}

OBJECTIVES = ("denoising", "sliced", "implicit")

OUT = {"digits": Path("sdekit-demo"), "swissroll": Path("sdekit-demo") / "swissroll"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(["data:", *(f"  {name:<10} {text}" for name, text in DATA.items())])
    parser.add_argument("data", nargs="?", choices=list(DATA), default="digits", help="what to train on (digits)")
    parser.add_argument(
        "--objective", choices=OBJECTIVES, default=OBJECTIVES[0],
        help="what the swissroll views are trained with: by denoising, or without a target, with the trace of the "
        "score's derivative estimated (sliced) or exact (implicit); digits: denoising alone (denoising)",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a short run that only shows that everything works")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (cpu)")
    parser.add_argument("--out", type=Path, help="the directory to write to (./sdekit-demo, or its swissroll folder)")
    parser.add_argument("--seed", type=int, default=0, help="of the training, the noise and the samples (0)")
    parser.add_argument("--force", action="store_true", help="write into a directory that holds other files")


def run(args: argparse.Namespace) -> None:
    """Runs the demo; on Ctrl-C and SIGTERM, leaves what is done with a page that shows it."""
    import torch

    from . import demo_digits, demo_swissroll
    from .folder import Folder

    device = check_device(args.device)
    seed = fold(whole("sdekit demo", "--seed", args.seed, at_least=0))
    if args.data == "digits" and args.objective != "denoising":
        raise InvalidArgument(
            f"--objective: must be denoising for digits, got {args.objective!r}; swissroll has them all"
        )
    module = {"digits": demo_digits, "swissroll": demo_swissroll}[args.data]
    module.load()  # before the directory is touched: scikit-learn may be missing
    folder = Folder(OUT[args.data] if args.out is None else args.out, args.force)
    settings = module.QUICK if args.quick else module.FULL
    if args.objective != "denoising":
        settings = demo_swissroll.trained_by(args.objective, settings)
    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(cores(), MOST_THREADS))
    try:
        module.demo(folder, settings, device=device, seed=seed)
    finally:
        torch.set_num_threads(threads)


MOST_THREADS = 8
"""More threads than this only get in each other's way on networks of this size."""


def check_device(name: str) -> torch.device:
    """The device of a name; raises InvalidArgument where there is none."""
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidArgument(f"--device: must be cpu, cuda or cuda:N, got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise InvalidArgument(f"--device: must be cpu, cuda or cuda:N, got {name!r}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise InvalidArgument(f"--device: {name} is not there: torch sees {count} CUDA devices on this machine")
    return device


def cores() -> int:
    """The cores that this process may use: those it is bound to, or a container's share where that is less."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
        return max(1, min(count, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or "max": no bound
        return count
