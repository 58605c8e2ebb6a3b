"""The checks of a certificate: each a function of a subject and a process."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import grids
from ..models.wrappers import Counted
from ..noise import BrownianPath, KeyedNoise, Noise
from ..sdes import GaussianSDE, TableSDE
from ..solvers.adaptive_sde import AdaptiveSDE, Clock
from . import exact, law, references
from .certificate import Check
from .problems import AXES, F64, MEANS, VARIANCES, Gaussians, Impulses, Listed, PathImpulses, mixture_2d
from .problems import law as law_at
from .subject import Subject

SLACK = 0.15
"""What a measured order may fall short of the declared one."""
STRONG_SLACK = 0.1
LIMIT = 0.1
"""What may be left of the error in the limit: a method has terms above those that are extrapolated."""
FASTER, SMALL = 0.3, 1e-3
"""By how much an order must exceed the declared one, and how small the last error must be, for no limit to be asked
about."""
FLOOR = 1e-11
"""Relative to the data's scale: below it an error is rounding, and says nothing of the order."""
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5}
ALARM = 1e-6
"""The false-alarm rate of a check that draws."""


class Effort(NamedTuple):
    """How much a certificate measures."""

    deterministic: tuple[int, ...]
    high: tuple[int, ...]
    stochastic: tuple[int, ...]
    mixture: tuple[int, ...]
    strong: int
    lengths: tuple[int, ...]
    each: int
    """Steps up to which each draw's coefficient is held to the reference."""
    samples: int


LENGTHS = (1, 2, 5, 10, 50, 1000)
QUICK = Effort((80, 160, 320), (80, 160, 320), (100, 200, 400), (40, 80, 160), 512, LENGTHS, 50, 0)
FULL = Effort(
    (80, 160, 320, 640), (80, 160, 320, 640), (100, 200, 400, 800), (80, 160, 320), 1024, LENGTHS, 1000, 20_000
)


class Case(NamedTuple):
    """What a check is asked about."""

    subject: Subject
    sde: GaussianSDE
    effort: Effort
    reference: Subject | None
    affine: bool
    draws: int
    """Of the noise, in one step."""


def slope(steps: Sequence[int], errors: Sequence[float], floor: float = FLOOR) -> float | None:
    """The order of convergence between the two finest grids with errors above rounding; None where there are none."""
    fine = [(n, e) for n, e in zip(steps, errors, strict=True) if e > floor]
    if len(fine) < 2:
        return None
    (n, e), (m, d) = fine[-2:]
    return math.log(e / d) / math.log(m / n)


def limit(steps: Sequence[int], errors: Sequence[Tensor], order: float) -> float:
    """The norm of what Richardson's extrapolation of the three finest grids leaves of the error, over the largest error
    that one of them predicts for the last.

    The terms of the order and of the one above it are gone from it: a method that converges to the exact answer leaves
    little, and one that converges to another answer leaves the difference.
    """
    left = list(errors[-3:])
    for power in (order, order + 1):
        ratios = [(m / n) ** power for n, m in itertools.pairwise(steps[-len(left) :])]
        left = [
            (r * fine - coarse) / (r - 1) for r, (coarse, fine) in zip(ratios, itertools.pairwise(left), strict=True)
        ]
    scale = max(
        float(error.norm()) * float((n / steps[-1]) ** order) for n, error in zip(steps[-3:], errors[-3:], strict=True)
    )
    return float(left[-1].norm()) / scale


def _order(name: str, case: Case, steps: Sequence[int], errors: Sequence[Tensor], order: float | None) -> Check:
    """Holds signed errors to the declared order, and to the limit 0."""
    sizes = [float(error.norm()) for error in errors]
    found = slope(steps, sizes)
    series = {"steps": list(map(float, steps)), "error": sizes}
    if order is None:
        return Check(name, None, found, "", "no order is declared", series)
    if found is None:
        return Check(name, True, None, f">= {order - SLACK:g}", "exact but for rounding", series)
    if found < order - SLACK and isinstance(case.sde, TableSDE) and order > 1:
        # where a step meets them is chance, and two grids may meet them alike: a line through all of them
        found = -float(np.polyfit(np.log(steps), np.log(sizes), 1)[0])
        detail = "the rates of a table have kinks: order 1, over all grids, is asked of a method in t"
        return Check(name, found >= 1 - SLACK, found, f">= {1 - SLACK:g}", detail, series)
    # errors that fall faster than declared leave nothing to extrapolate: the last of them bounds what is left
    faster = found > order + FASTER and sizes[-1] < SMALL
    off = 0.0 if faster or sizes[-1] <= FLOOR else limit(steps, errors, order)
    detail = f"{off:.2g} of the error is left in the limit"
    # between the kinks of a table an error may cross zero: no limit is read off two grids there
    passed = found >= order - SLACK and (off <= LIMIT or isinstance(case.sde, TableSDE))
    return Check(name, passed, found, f">= {order - SLACK:g}", detail, series)


def flow_order(case: Case) -> Iterator[Check]:
    """Order on the probability flow: of a deterministic sampler on eight Gaussians, whose flow is
    x_s = alpha_s m + sqrt(v_s / v_t) (x_t - alpha_t m), and on a mixture, whose flow keeps quantiles."""
    subject, sde = case.subject, case.sde
    if case.draws or subject.stochastic or subject.adaptive:
        return
    high = subject.order is not None and subject.order > 2
    halved = (case.effort.high[0] // 2,) if isinstance(sde, TableSDE) else ()
    steps = (*halved, *case.effort.high) if high else case.effort.deterministic
    if case.affine:
        errors = []
        for n in steps:
            times = grids.log_snr(sde, n)
            found = exact.responses(subject, sde, times, draws=case.draws)
            (m0, v0), (m1, v1) = (law_at(level) for level in sde.levels(times[[0, -1]]))
            flow = torch.sqrt(v1 / v0)
            errors.append(torch.stack([(found.start - flow) * v0.sqrt(), found.offset - (m1 - flow * m0)]))
        yield _order("flow order", case, steps, errors, subject.order)
    steps = (*halved, *case.effort.high) if high else case.effort.mixture
    errors = [law.flow_error(subject, sde, n) for n in steps]
    yield _order("flow order, mixture", case, steps, errors, subject.order)


def _moment_error(case: Case, times: Tensor) -> Tensor:
    """The errors of mean and variance at the last time, from the exact law at the first: (2, 16)."""
    begin, end = case.sde.levels(times[[0, -1]])
    found = exact.responses(case.subject, case.sde, times, draws=case.draws).moments(begin)
    return torch.stack(found) - torch.stack(law_at(end))


def weak_order(case: Case) -> Iterator[Check]:
    """Weak order: of mean and variance on eight Gaussians, and of the law on a mixture."""
    subject, sde = case.subject, case.sde
    if not case.draws or (subject.order is None and subject.solver is not None):
        return
    if case.affine:
        steps = case.effort.stochastic
        errors = [_moment_error(case, grids.log_snr(sde, n)) for n in steps]
        yield _order("weak order", case, steps, errors, subject.order)
    if case.draws not in law.NODES or subject.order is None:
        return
    if _remembers(case):
        yield Check("weak order, mixture", None, None, "", "it has a memory, and is no Markov chain")
        return
    steps = case.effort.mixture
    errors = [law.weak_error(subject, sde, n, case.draws) for n in steps]
    yield _order("weak order, mixture", case, steps, errors, subject.order)


def _remembers(case: Case) -> bool:
    """Whether two steps at once are more than one after the other."""
    times = grids.log_snr(case.sde, 12)[5:8]
    model, x = Gaussians(case.sde), AXES[:4] @ AXES.mT
    z = [0.3 * AXES[k : k + 4] for k in range(2 * case.draws)]
    once = case.subject.run(model, x, times, Listed(z))
    middle = case.subject.run(model, x, times[:2], Listed(z[: case.draws]))
    twice = case.subject.run(model, middle, times[1:], Listed(z[case.draws :]))
    return not torch.allclose(once, twice, rtol=1e-9, atol=1e-12)


def strong_order(case: Case) -> Iterator[Check]:
    """Strong order: the root mean square difference of runs of N and 2 N steps on one Brownian path, exactly, on eight
    Gaussians. The noise is additive, so that it is 1 for a sampler that uses the increments of the path alone. One that
    falls short is asked again on grids twice as fine: an order is a limit."""
    subject, sde = case.subject, case.sde
    if not case.draws or not case.affine or subject.order is None:
        return
    probe = Impulses(exact.UNIT, 0)
    subject.run(Gaussians(sde), torch.zeros(2, len(MEANS), dtype=F64), grids.log_snr(sde, 8), probe)
    if probe.streams != {"path"}:
        yield Check("strong order", None, None, "", "it draws from other streams than the path's")
        return
    for finest in (case.effort.strong, 2 * case.effort.strong):
        steps = [finest // k for k in (32, 16, 8, 4, 2)]
        errors = _path_differences(subject, sde, steps, finest)
        found = slope(steps[:-1], errors)
        passed = found is not None and found >= 1 - STRONG_SLACK
        if passed:
            break
    series = {"steps": list(map(float, steps[:-1])), "error": errors}
    yield Check("strong order", passed, found, f">= {1 - STRONG_SLACK:g}", "", series)


def _path_differences(subject: Subject, sde: GaussianSDE, steps: Sequence[int], finest: int) -> list[float]:
    """The root mean square differences of runs of neighbouring numbers of steps, which divide the finest."""
    times = grids.log_snr(sde, finest)
    levels = sde.levels(times)
    noise = PathImpulses(exact.UNIT, [float(level.clock) for level in levels])
    mean, variance = law_at(levels[0])
    runs = [exact.path(subject, sde, times[:: finest // n], noise, finest) for n in steps]
    errors = []
    for coarse, fine in itertools.pairwise(runs):
        start = coarse.start - fine.start
        off = coarse.offset - fine.offset + start * mean
        spread = start**2 * variance + ((coarse.noise - fine.noise) ** 2).sum(0)
        errors.append(math.sqrt(float((off**2 + spread).sum())))
    return errors


def n_steps(case: Case) -> Iterator[Check]:
    """Mean and variance after N steps, and every coefficient they are made of, against a reference; of many steps the
    coefficients of draws are held to it in sums with random signs."""
    subject, sde = case.subject, case.sde
    if subject.adaptive:
        return
    if not case.affine:
        yield Check("N steps, float64", None, None, "", "its steps depend on the state")
        return
    worst = dict.fromkeys(TOLERANCES, 0.0)
    for n in case.effort.lengths:
        times = grids.log_snr(sde, n)
        begin = sde.levels(times[:1])[0]
        respond = exact.sums if case.draws and n > case.effort.each else partial(exact.responses, draws=case.draws)
        runs = {dtype: respond(subject, sde, times, dtype=dtype) for dtype in TOLERANCES}
        signed = runs[F64].signed
        size = 0.0
        if case.reference is not None:
            wanted = respond(case.reference, sde, times)
        else:
            draws = None if signed else len(runs[F64].noise)
            found = None if subject.solver is None else references.reference(subject.solver, sde, times.numpy(), draws)
            if found is None:
                yield Check("N steps, float64", None, None, "", "no reference is known: give reference=")
                return
            offset, start, noise = map(torch.from_numpy, found[:3])
            wanted = exact.Responses(offset, start, noise, 0.0, frozenset(), signed)
            size = found.size
        there = wanted.moments(begin)
        # of the trajectory: what the reference met on its way, the exact law at each level, and what a start becomes
        lawful = (float((mean.abs() + 2 * v.sqrt()).max()) for mean, v in map(law_at, sde.levels(times)))
        scale = max(size, float(wanted.start.abs().max()) * float(law_at(begin)[1].max().sqrt()), *lawful)
        for dtype, run in runs.items():
            pairs = [*zip(run[:3], wanted[:3], strict=True)]
            if any(a.shape != b.shape for a, b in pairs):
                worst[dtype] = math.inf
                continue
            error = max((float((a - b).abs().max()) for a, b in pairs if a.numel()), default=0.0) / scale
            here = run.moments(begin)
            mean = float((here[0] - there[0]).abs().max()) / scale
            variance = float((here[1] - there[1]).abs().max()) / (scale * scale)
            worst[dtype] = max(worst[dtype], error, mean, variance / 2)
    for dtype, bound in TOLERANCES.items():
        name = str(dtype).removeprefix("torch.")
        detail = f"N = {', '.join(map(str, case.effort.lengths))}"
        yield Check(f"N steps, {name}", worst[dtype] <= bound, worst[dtype], f"<= {bound:g}", detail)


def other_grids(case: Case) -> Iterator[Check]:
    """Convergence on grids that are uneven in log-SNR, of mean and variance at t_min."""
    subject, sde = case.subject, case.sde
    if subject.adaptive or not case.affine or subject.order is None:
        return
    worst, detail = 0.0, []
    for name in ("uniform", "karras"):
        errors = [float(_moment_error(case, grids.NAMES[name](sde, n)).norm()) for n in (60, 480)]
        worst = max(worst, 0.0 if errors[1] < 1e-3 else errors[1] / errors[0])
        detail.append(f"{name} {errors[0]:.1e} to {errors[1]:.1e}")
    yield Check("other grids", worst < 0.5, worst, "< 0.5 of before", f"60 to 480 steps: {', '.join(detail)}")


def last_step(case: Case) -> Iterator[Check]:
    """The step to the clean level: the model's x0, E[x_0 | x], without noise."""
    subject, sde = case.subject, case.sde
    if subject.solver is None:
        yield Check("last step", None, None, "", "a function ends where it ends")
        return
    model = Gaussians(sde)
    times = torch.tensor([sde.t_min], dtype=F64)
    level = sde.levels(times)[0]
    mean, variance = law_at(level)
    x = torch.stack([mean, mean + variance.sqrt(), mean - 2 * variance.sqrt()])
    noise = Impulses(exact.UNIT, 0)
    end = subject.run(model, x @ AXES.mT, times, noise, denoise=True) @ AXES
    alpha, sigma = float(level.alpha), float(level.sigma)
    tweedie = MEANS + alpha * VARIANCES / variance * (x - alpha * MEANS)
    error = float((end - tweedie).abs().max()) / max(1.0, float(x.abs().max()), sigma / alpha)
    detail = f"{noise.count} draws" if noise.count else "no draw"
    yield Check("last step", error <= 1e-10 and not noise.count, error, "<= 1e-10, no draw", detail)


def tolerance(case: Case) -> Iterator[Check]:
    """The error of an adaptive method beside its tolerance: the largest of 48 points on the flow of eight Gaussians, or
    the root mean square distance from what the path itself makes of 16 starts."""
    subject, sde = case.subject, case.sde
    if not subject.adaptive:
        return
    if isinstance(subject.solver, AdaptiveSDE):
        yield _on_a_path(subject, sde, subject.solver.tol)
        return
    times = grids.log_snr(sde, 1)
    (m0, v0), (m1, v1) = (law_at(level) for level in sde.levels(times))
    z = torch.tensor([[-1.5], [0.2], [1.0]], dtype=F64)
    end = subject.run(Gaussians(sde), (m0 + v0.sqrt() * z) @ AXES.mT, times, Listed([])) @ AXES
    error = float((end - (m1 + v1.sqrt() * z)).abs().max())
    method = getattr(subject.solver, "method", None)
    rtol = getattr(method, "rtol", None)
    if rtol is None:
        yield Check("flow error", None, error, "", "it states no tolerance")
        return
    bound = 100 * float(rtol)
    yield Check("flow error", error <= bound, error, f"<= {bound:g}", f"rtol = {rtol:g}")


def _on_a_path(subject: Subject, sde: GaussianSDE, tol: float) -> Check:
    """With y = x / alpha, n = sigma / alpha, and m and v of an axis, w = (y - m) / (v + n^2) has no drift:
    dw = ((n^2 + std^2) / (n^2 + v)) dB(k), with k = 1 / (n^2 + std^2) and B the path."""
    times = grids.log_snr(sde, 1)
    first, last = sde.levels(times)
    std = sde.centre[1]
    turns = [math.atan(float(level.sigma / level.alpha) / std) for level in (first, last)]
    squares = (std * torch.linspace(turns[0], turns[1], 601, dtype=F64).tan()) ** 2
    clocks = 1.0 / (squares + std**2)
    z = Noise(3).normal((16, len(MEANS)), stream="start", dtype=F64)
    mean, variance = law_at(first)
    x = mean + variance.sqrt() * z
    w = (x / first.alpha - MEANS) / (VARIANCES + squares[0])
    path = BrownianPath(5)
    for a, middle, b in zip(clocks[:-2:2], squares[1::2], clocks[2::2], strict=True):
        drawn = path(x, Clock(b[None]), Clock(a[None])) @ AXES
        w = w + (middle + std**2) / (middle + VARIANCES) * torch.sqrt(b - a) * drawn
    exact = last.alpha * (MEANS + w * (VARIANCES + squares[-1]))
    end = subject.run(Gaussians(sde), x @ AXES.mT, times, path) @ AXES
    error = float((end - exact).square().mean().sqrt())
    return Check("path error", error <= 3 * tol, error, f"<= {3 * tol:g}", f"tol = {tol:g}")


def evaluations(case: Case) -> Iterator[Check]:
    """Network evaluations of 10 steps, beside those declared."""
    subject, sde = case.subject, case.sde
    counted = Counted(Gaussians(sde), 2)
    x = torch.zeros(2, len(MEANS), dtype=F64)
    steps = 1 if subject.adaptive else 10
    subject.run(counted, x, grids.log_snr(sde, steps), Noise(0))
    nfe = float(torch.as_tensor(counted.nfe).max())
    wanted = subject.cost(steps)
    if wanted is None:
        detail = "it chooses its own steps" if subject.adaptive else "no number a step is declared"
        yield Check("evaluations", None, nfe, "", detail)
        return
    yield Check("evaluations", nfe == wanted, nfe, f"= {wanted}", f"{steps} steps")


def mates(case: Case) -> Iterator[Check]:
    """How far a row moves where its batch mates are a million times as large: not by one bit."""
    subject, sde = case.subject, case.sde
    times = grids.log_snr(sde, 1 if subject.adaptive else 8)
    x = sde.prior.sample((4, len(MEANS)), KeyedNoise(1), dtype=F64)
    crowd = x.clone()
    crowd[1:] *= 1e6
    alone, among = (subject.run(Gaussians(sde), v, times, KeyedNoise(2))[0] for v in (x, crowd))
    moved = float((alone - among).abs().max())
    bound = 1e-9 if subject.adaptive else 0.0
    detail = "its arithmetic may follow the number of rows still under way" if subject.adaptive else ""
    yield Check("mates", moved <= bound, moved, f"<= {bound:g}", detail)


def generators() -> tuple[Tensor, Any, Any]:
    """The states of the global generators of torch, NumPy and Python."""
    return torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002


def _moved(before: tuple[Tensor, Any, Any], after: tuple[Tensor, Any, Any]) -> list[str]:
    same = (
        torch.equal(before[0], after[0]),
        all(map(np.array_equal, before[1], after[1])),
        before[2] == after[2],
    )
    return [name for name, kept in zip(("torch", "numpy", "python"), same, strict=True) if not kept]


def randomness(case: Case) -> Iterator[Check]:
    """Use of global generators: none; and two runs from one seed are the same bits."""
    subject, sde = case.subject, case.sde
    times = grids.log_snr(sde, 1 if subject.adaptive else 5)
    x = sde.prior.sample((3, len(MEANS)), KeyedNoise(1), dtype=F64)
    before = generators()
    ends = [subject.run(Gaussians(sde), x, times, Noise(7)) for _ in range(2)]
    moved = _moved(before, generators())
    same = torch.equal(ends[0], ends[1])
    detail = f"moves the generator of {', '.join(moved)}" if moved else "" if same else "two runs of one seed differ"
    yield Check("randomness", not moved and same, float(len(moved)), "= 0", detail)


def dtypes(case: Case) -> Iterator[Check]:
    """The dtype that is kept: float64, float32, bfloat16 and float16, with finite results."""
    subject, sde = case.subject, case.sde
    times = grids.log_snr(sde, 1 if subject.adaptive else 10)
    lost = []
    kinds = (F64, torch.float32) if subject.adaptive else (F64, torch.float32, torch.bfloat16, torch.float16)
    for dtype in kinds:
        x = sde.prior.sample((2, len(MEANS)), KeyedNoise(1), dtype=dtype)
        end = subject.run(Gaussians(sde), x, times, KeyedNoise(2))
        if end.dtype != dtype or not bool(torch.isfinite(end).all()):
            lost.append(str(dtype).removeprefix("torch."))
    detail = f"not kept, or not finite: {', '.join(lost)}" if lost else ""
    yield Check("dtypes", not lost, float(len(lost)), "= 0", detail)


def plane(case: Case) -> Iterator[Check]:
    """The law of samples of a mixture in the plane, after 500 steps.

    The largest distance between distribution functions over eight projections, beside what chance alone exceeds once
    in a million certificates (Dvoretzky-Kiefer-Wolfowitz with Massart's constant, and Bonferroni)."""
    subject, sde, n = case.subject, case.sde, case.effort.samples
    if not n:
        return
    model = mixture_2d(sde)
    times = grids.log_snr(sde, 1 if subject.adaptive else 500)
    first, last = sde.levels(times[[0, -1]])
    x_T = model.sample(n, Noise(11), first)
    error = law.plane_error(subject.run(model, x_T, times, Noise(12)), model, last)
    chance = math.sqrt(math.log(2 * law.PROJECTIONS / ALARM) / (2 * n))
    name, detail = "law in the plane", f"{n} samples; chance exceeds {chance:.3f} with probability 1e-6"
    if subject.order is None:
        yield Check(name, None, error, "", "no order is declared")
        return
    # what a first-order method leaves after 500 steps, and chance
    yield Check(name, error <= chance + 0.01, error, f"<= {chance + 0.01:.3f}", detail)


CHECKS: tuple[Callable[[Case], Iterator[Check]], ...] = (
    flow_order,
    weak_order,
    strong_order,
    tolerance,
    n_steps,
    other_grids,
    last_step,
    plane,
    evaluations,
    mates,
    randomness,
    dtypes,
)
