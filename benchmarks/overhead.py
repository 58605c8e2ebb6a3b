"""What a sampling step costs beyond the network, and a training step beyond forward, backward and Adam.

    python benchmarks/overhead.py [--quick] [--out DIR]

Sampling: microseconds of the processor a step around a network that returns its input, batch 1 in two dimensions, one
thread. A run of many steps less a run of few, over their difference: what a run costs once does not count. Peers, where
they are installed, run in turn in the same process. Quoted are the median over rounds, and that of the ratio to
k-diffusion's DPM++(2M) (our DDIM where it is not installed) in the same round, which a machine that is now fast and now
slow leaves as it is. Training: an MLP of 4 x 128 at batch 4096; one step of ``train``, denoising score matching with
clipping and averaged weights, over one of forward, backward and Adam alone on such a network and batch, step by step in
turn.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _peers import k_diffusion_sampling, versions

import sdekit as sk
from sdekit.training import Settings, train

Run = Callable[[int], object]


def ours() -> dict[str, Run]:
    """Our samplers around a network that returns its input."""
    model = sk.ddpm(lambda x, label: x)
    x_T = torch.ones(1, 2)

    def run(solver: sk.solvers.Solver) -> Run:
        return lambda n: sk.sample(model, x_T=x_T, solver=solver, steps=n)

    return {
        "sdekit Euler (ProbabilityFlow)": run(sk.solvers.ProbabilityFlow(sk.ode.Euler())),
        "sdekit EulerMaruyama": run(sk.solvers.EulerMaruyama()),
        "sdekit DDIM": run(sk.solvers.DDIM()),
        "sdekit Ancestral": run(sk.solvers.Ancestral()),
        "sdekit Heun": run(sk.solvers.Heun()),
        "sdekit DPMSolver(2)": run(sk.solvers.DPMSolver(2)),
        "sdekit UniPC(3)": run(sk.solvers.UniPC(3)),
        "sdekit LMS(4)": run(sk.solvers.LMS(4)),
        "sdekit Multistep(), as nfe=N takes it": run(sk.solvers.Multistep()),
    }


def k_diffusion() -> dict[str, Run]:
    """k-diffusion's samplers around a denoiser that returns its input; its sampling module alone is imported."""
    sampling = k_diffusion_sampling()
    x_T = torch.ones(1, 2)

    def run(function: Callable[..., object]) -> Run:
        return lambda n: function(lambda x, sigma: x, x_T, sampling.get_sigmas_karras(n, 0.01, 80.0), disable=True)

    return {
        "k-diffusion Euler": run(sampling.sample_euler),
        "k-diffusion Euler ancestral": run(sampling.sample_euler_ancestral),
        "k-diffusion Heun": run(sampling.sample_heun),
        "k-diffusion DPM++(2M)": run(sampling.sample_dpmpp_2m),
    }


def diffusers() -> dict[str, Run]:
    """diffusers' schedulers around a network that returns its input."""
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

    x_T = torch.ones(1, 2)

    def run(scheduler: type) -> Run:
        def loop(n: int) -> torch.Tensor:
            s = scheduler()
            s.set_timesteps(n)
            x = x_T * s.init_noise_sigma
            for t in s.timesteps:
                x = s.step(s.scale_model_input(x, t), t, x).prev_sample
            return x

        return loop

    return {
        "diffusers Euler": run(EulerDiscreteScheduler),
        "diffusers DDIM": run(DDIMScheduler),
        "diffusers DPM++(2M)": run(DPMSolverMultistepScheduler),
    }


def azula() -> dict[str, Run]:
    """azula's samplers around a denoiser whose network returns its input."""
    from azula.denoise import KarrasDenoiser
    from azula.noise import VPSchedule
    from azula.sample import DDIMSampler, DDPMSampler

    class Identity(torch.nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor, **kwargs: object) -> torch.Tensor:
            return x

    denoiser = KarrasDenoiser(Identity(), VPSchedule())
    x_T = torch.ones(1, 2)

    def run(sampler: type) -> Run:
        return lambda n: sampler(denoiser, steps=n, silent=True)(x_T)

    return {"azula DDIM": run(DDIMSampler), "azula DDPM": run(DDPMSampler)}


def sampling(steps: int, rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds a step of every sampler at hand: median, least and greatest over the rounds, and the ratio."""
    runs = ours()
    for peer in (k_diffusion, diffusers, azula):
        try:
            runs |= peer()
        except ImportError as error:
            print(f"{peer.__name__}: left out ({error})")
    few = 10
    spent: dict[str, list[float]] = {name: [] for name in runs}
    with torch.no_grad():
        for run in runs.values():
            run(few)
        for _ in range(rounds):
            for name, run in runs.items():
                times = []
                for n in (few, few + steps):
                    start = time.process_time()
                    run(n)
                    times.append(time.process_time() - start)
                spent[name].append((times[1] - times[0]) / steps * 1e6)
    beside = spent.get("k-diffusion DPM++(2M)", spent["sdekit DDIM"])
    return {
        n: {
            "median": statistics.median(v),
            "min": min(v),
            "max": max(v),
            "ratio": statistics.median(a / b for a, b in zip(v, beside, strict=True)),
        }
        for n, v in spent.items()
    }


def training(steps: int, rounds: int) -> dict[str, float]:
    """A step of ``train`` over one of forward, backward and Adam alone: the median of the ratios of the rounds."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = [sk.networks.MLP((8,), width=128, depth=4) for _ in range(2)]
    data = sk.Noise(0).normal((4096, 8), stream="data")
    labels = sk.Noise(1).uniform(4096, stream="labels").float()
    optimiser = torch.optim.Adam(networks[0].parameters(), lr=1e-3, fused=True)
    model = sk.ddpm(networks[1])

    def alone() -> None:
        optimiser.zero_grad(set_to_none=True)
        (networks[0](data, labels) - data).square().mean().backward()
        optimiser.step()

    def one_round() -> tuple[float, float]:
        """Seconds of the processor a step, alone and whole: they take turns, so that both meet the same machine."""
        marks: list[float] = []

        def in_turn(trained: object) -> None:
            marks.append(time.process_time())
            alone()
            marks.append(time.process_time())

        train(model, data, Settings(steps=steps + 2, batch_size=4096), callback=in_turn)
        ends, starts = marks[2::2], marks[1::2]  # the first step is not counted: it makes Adam's state
        return (
            sum(end - start for end, start in zip(starts[1:], ends, strict=True)) / len(ends),
            sum(end - start for end, start in zip(ends, starts, strict=False)) / len(ends),
        )

    one_round()
    found = [one_round() for _ in range(rounds)]
    return {
        "alone_ms": 1e3 * statistics.median(a for a, _ in found),
        "train_ms": 1e3 * statistics.median(b for _, b in found),
        "ratio": statistics.median(b / a for a, b in found),
    }


def machine() -> dict[str, str]:
    """What the figures were taken with."""
    return {"processor": platform.machine(), "cores": str(os.cpu_count()), **versions()}


def tables(result: dict[str, Any]) -> str:
    """The figures as the documentation shows them."""
    rows = sorted(result["microseconds_a_step"].items(), key=lambda item: item[1]["ratio"])
    lines = [
        "| sampler | microseconds a step | least and greatest | ratio |",
        "|---|---|---|---|",
        *(
            f"| {name} | {row['median']:.1f} | {row['min']:.1f} to {row['max']:.1f} | {row['ratio']:.2f} |"
            for name, row in rows
        ),
        "",
        "| training | milliseconds a step |",
        "|---|---|",
        f"| forward, backward and Adam alone | {result['training']['alone_ms']:.2f} |",
        f"| `train` | {result['training']['train_ms']:.2f} |",
        f"| ratio | {result['training']['ratio']:.3f} |",
        "",
        ", ".join(f"{name} {version}" for name, version in result["machine"].items()) + f".  `{result['command']}`",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, prints the tables, and writes them as Markdown and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps and rounds: shows that it runs")
    parser.add_argument("--out", type=Path, help="a folder for overhead.json and overhead-tables.txt")
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps, rounds = (20, 2) if options.quick else (100, 41)
    result = {
        "machine": machine(),
        "command": "python " + " ".join(["benchmarks/overhead.py", *sys.argv[1:]]),
        "microseconds_a_step": sampling(steps, rounds),
        "training": training(2 if options.quick else 20, 2 if options.quick else 9),
    }
    print(tables(result))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "overhead.json").write_text(json.dumps(result, indent=2) + "\n")
        (options.out / "overhead-tables.txt").write_text(tables(result))


if __name__ == "__main__":
    main()
