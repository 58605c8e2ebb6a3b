"""Sampling: the one loop that runs every solver, and ``sample`` around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, overload

import torch
from torch import Tensor

from . import errors, graphs
from .choice import for_budget, for_tolerance
from .chunks import CHUNK, Chunk, Chunks, Keyed, check_ids_used, keyed
from .density.solver import for_density
from .errors import InvalidArgument
from .grids import Grid, levels
from .models.base import ScoreModel, check_condition, check_model, evaluating
from .models.wrappers import Counted
from .noise import KeyedNoise, Noise, check_noise
from .sdes.base import Level
from .sdes.gaussian import GaussianSDE
from .sdes.prior import Prior
from .solvers.base import Solver, State, check_solver
from .solvers.dpm_solver import DPMSolver
from .solvers.euler_maruyama import EulerMaruyama
from .types import Device, NoiseSource


def trajectory(
    model: ScoreModel,
    solver: Solver,
    x_T: Tensor,
    grid: str | Grid | Tensor | Sequence[float],
    noise: NoiseSource,
    *,
    steps: int | None = None,
    denoise: bool = True,
    per_sample: bool = False,
) -> Iterator[State[Any]]:
    """The film of a run: its states from the noisiest to the last, one a level of the grid.

    ``x_T``: the start, (B, *event), at the grid's first time. ``grid`` and ``denoise``: as :func:`sdekit.grids.levels`
    reads them; ``steps`` goes with a named grid. Each step runs in evaluation mode, and leaves the model as it was;
    gradients flow where the caller lets them. ``per_sample=True`` takes a keyed source, and chunks of fixed shape: a
    row of every state is the same bits alone, and in any split; the states then show no memory.

    Raises named errors at the call, before the first network evaluation.

    Example: ``frames = [state.x for state in trajectory(model, DDIM(), x_T, "log_snr", Noise(0), steps=50)]``.
    """
    check_model("trajectory", model)
    check_solver("trajectory", solver).check(model)
    check_noise("trajectory", noise)
    run = levels(model.sde, grid, steps, denoise=denoise)
    x_T = errors.batch("trajectory", "x_T", x_T)
    check_noise("trajectory", noise, len(x_T))
    check_condition("trajectory", model, len(x_T))
    if errors.flag("trajectory", "per_sample", per_sample):
        return _evaluated(model, _steps_in_chunks(model, solver, x_T, run, keyed("trajectory", noise)))
    return _evaluated(model, _steps(model, solver, x_T, run, noise))


def _evaluated(model: ScoreModel, states: Iterator[State[Any]]) -> Iterator[State[Any]]:
    while True:
        with evaluating(model):
            state = next(states, None)
        if state is None:
            return
        yield state


def _steps(
    model: ScoreModel, solver: Solver, x: Tensor, run: Sequence[Level], noise: NoiseSource
) -> Iterator[State[Any]]:
    state: State[Any] = State(x, run[0])
    yield state
    for s in run[1:]:
        state = solver.step(model, state, s, noise)
        yield state


def _steps_in_chunks(
    model: ScoreModel, solver: Solver, x: Tensor, run: Sequence[Level], noise: Keyed
) -> Iterator[State[Any]]:
    chunks = Chunks(len(x), noise.ids)
    films = [_steps(c.model(model), solver, c.spread(x), run, c.noise(noise)) for c in chunks]
    for level in run:
        parts = []
        for chunk, film in zip(chunks, films, strict=True):
            with chunk.named():
                parts.append(next(film).x)
        yield State(chunks.gather(parts) if parts else x, level)


@dataclass(frozen=True)
class Samples:
    """What a run knows: the samples x, the network evaluations a sample cost, and, where known, error and log_prob."""

    x: Tensor
    """(B, *event)."""
    nfe: int | Tensor
    """Network evaluations per sample: one number, or (B,) where rows differ."""
    error: Tensor | None = None
    """(B,), the solver's own estimate of its error in x, and with log_prob of that, in nats; None where it has none."""
    log_prob: Tensor | None = None
    """(B,) nats; None where it was not asked for."""
    trace_se: Tensor | None = None
    """(B,): the standard error of log_prob where its trace is estimated, above 128 coordinates; 0 where it is exact."""


@overload
def sample(
    model: ScoreModel,
    shape: Sequence[int] | None = ...,
    *,
    solver: Solver | None = ...,
    steps: int | None = ...,
    grid: str | Grid | Tensor | Sequence[float] | None = ...,
    nfe: int | None = ...,
    tol: float | None = ...,
    x_T: Tensor | None = ...,
    seed: int | Sequence[int] = ...,
    noise: NoiseSource | None = ...,
    denoise: bool | None = ...,
    per_sample: bool = ...,
    ids: Tensor | Sequence[int] | None = ...,
    dtype: torch.dtype | None = ...,
    device: Device = ...,
    progress: bool = ...,
    cuda_graph: bool = ...,
    full: Literal[True],
) -> Samples: ...
@overload
def sample(
    model: ScoreModel,
    shape: Sequence[int] | None = ...,
    *,
    solver: Solver | None = ...,
    steps: int | None = ...,
    grid: str | Grid | Tensor | Sequence[float] | None = ...,
    nfe: int | None = ...,
    tol: float | None = ...,
    x_T: Tensor | None = ...,
    seed: int | Sequence[int] = ...,
    noise: NoiseSource | None = ...,
    denoise: bool | None = ...,
    per_sample: bool = ...,
    ids: Tensor | Sequence[int] | None = ...,
    dtype: torch.dtype | None = ...,
    device: Device = ...,
    progress: bool = ...,
    cuda_graph: bool = ...,
    with_log_prob: Literal[True],
    full: bool = ...,
) -> Samples: ...
@overload
def sample(
    model: ScoreModel,
    shape: Sequence[int] | None = ...,
    *,
    solver: Solver | None = ...,
    steps: int | None = ...,
    grid: str | Grid | Tensor | Sequence[float] | None = ...,
    nfe: int | None = ...,
    tol: float | None = ...,
    x_T: Tensor | None = ...,
    seed: int | Sequence[int] = ...,
    noise: NoiseSource | None = ...,
    denoise: bool | None = ...,
    per_sample: bool = ...,
    ids: Tensor | Sequence[int] | None = ...,
    dtype: torch.dtype | None = ...,
    device: Device = ...,
    progress: bool = ...,
    cuda_graph: bool = ...,
    with_log_prob: Literal[False] = ...,
    full: Literal[False] = ...,
) -> Tensor: ...
def sample(
    model: ScoreModel,
    shape: Sequence[int] | None = None,
    *,
    solver: Solver | None = None,
    steps: int | None = None,
    grid: str | Grid | Tensor | Sequence[float] | None = None,
    nfe: int | None = None,
    tol: float | None = None,
    x_T: Tensor | None = None,
    seed: int | Sequence[int] = 0,
    noise: NoiseSource | None = None,
    denoise: bool | None = None,
    per_sample: bool = False,
    ids: Tensor | Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
    device: Device = None,
    progress: bool = False,
    cuda_graph: bool = False,
    with_log_prob: bool = False,
    full: bool = False,
) -> Tensor | Samples:
    """Samples from a model: noise at t_max, taken by a solver to the data.

    ``shape``: (B, *event); or ``x_T``, given starts of that shape at the grid's first time.
    ``solver``: DPMSolver(2) on a Gaussian process, EulerMaruyama() on any other, unless given.
    ``steps``: intervals of the grid, the one to the clean level among them: 50, or 2 for an adaptive method, unless
    given. ``grid``: a name of ``grids.NAMES``, such as ``"log_snr"``, ``"karras"`` or ``"uniform"``, or, on a table,
    of ``grids.TABLE_NAMES``, such as ``"leading"``; a function (sde, steps) -> times; or times.
    ``nfe``: in place of steps, the most network evaluations that a sample may cost; solver and grid are then chosen by
    :func:`sdekit.choice.for_budget`, unless given. ``tol``: in place of solver, steps, grid and nfe, the error that a
    sample may have, in the units of the data: the root mean square of a coordinate at the end of the probability flow,
    to about a factor of 3. Dopri5 in the angle, each row with its own steps; ``full=True`` gives a row's evaluations
    and error.
    ``denoise``: whether the run ends at the clean level (the default where the process has one) or at t_min, with the
    law p at t_min.
    ``seed``: of :class:`sdekit.Noise`, or ``noise``, any source. ``per_sample=True`` takes :class:`sdekit.KeyedNoise`
    with ``ids`` (0, 1, ... unless given), or a keyed ``noise`` with ids of its own, and chunks of fixed shape: a row is
    the same bits alone, and in any split.
    ``dtype``, ``device``: of the samples; the model's own unless given. ``progress``: a bar over the steps.
    ``cuda_graph=True``, on a CUDA device: the whole loop is one CUDA graph, captured by a first call and replayed by
    every call that differs from it in x_T and noise alone; the samples are the same. For a fixed grid, not in chunks.
    ``with_log_prob=True``: the log-density of each sample beside it, in nats, under the law of these samples: the prior
    carried by the probability flow to t_min. With solver=ProbabilityFlow(...), tol, or neither: Dopri8 at 1e-5.
    Tolerances are in nats then, and the run has no clean end. Above 128 coordinates it is an estimate by four probes,
    whose standard error is ``trace_se``.
    ``full=True``, or with_log_prob, returns a :class:`Samples`. Runs in evaluation mode without gradients, and leaves
    the model as it was.

    Raises named errors at the door, before the first network call; NonFiniteError, naming the rows, where samples are
    not finite. An empty batch returns an empty batch.

    Example: ``x = sample(model, (64, 1, 28, 28), solver=DDIM(), steps=50, seed=0)``.
    """
    check_model("sample", model)
    if errors.flag("sample", "with_log_prob", with_log_prob):
        if denoise:
            raise InvalidArgument("sample: denoise must be left out where with_log_prob is asked for, got True")
        denoise = False
    denoise = model.sde.clean() is not None if denoise is None else errors.flag("sample", "denoise", denoise)
    if tol is not None:
        solver = for_tolerance(tol, solver=solver, steps=steps, grid=grid, nfe=nfe)
    if nfe is not None:
        nfe = errors.whole("sample", "nfe", nfe, at_least=1, at_most=errors.MOST)
        if steps is not None:
            raise InvalidArgument(
                f"sample: steps must be left out where nfe is given, got {errors.describe(steps)} and nfe={nfe}"
            )
        solver, steps, grid = for_budget(model, nfe, solver, grid, denoise=denoise)
    if with_log_prob:
        solver = for_density(model, solver)
    elif solver is None:
        solver = DPMSolver() if isinstance(model.sde, GaussianSDE) else EulerMaruyama()
    check_solver("sample", solver).check(model)
    if grid is None:
        grid = "log_snr"
    for name, value in (
        ("per_sample", per_sample),
        ("progress", progress),
        ("cuda_graph", cuda_graph),
        ("full", full),
    ):
        errors.flag("sample", name, value)
    if steps is None and (isinstance(grid, str) or callable(grid)):
        steps = 1 + denoise if solver.adaptive else 50
    if isinstance(grid, str) and grid == "log_snr" and not isinstance(model.sde, GaussianSDE):
        grid = "uniform"
    run = levels(model.sde, grid, steps, denoise=denoise)
    place = _check_device(model, device, x_T)
    if cuda_graph and with_log_prob:
        raise InvalidArgument("sample: cuda_graph must be left out where with_log_prob is asked for, got True")
    if cuda_graph:
        graphs.check("sample", solver, place, per_sample)
    if per_sample and noise is not None:
        keyed("sample", noise)
    check_ids_used("sample", ids, noise, per_sample)
    if x_T is None:
        shape = _check_shape(shape)
        prior = model.sde.prior_at(float(run[0].t))
        dtype = model.dtype if dtype is None else errors.floating("sample", "dtype", dtype)
    else:
        x_T = errors.batch("sample", "x_T", x_T)
        if shape is not None and _check_shape(shape) != tuple(x_T.shape):
            raise InvalidArgument(f"sample: shape must be left out where x_T is given, got {tuple(shape)}")
        x_T = x_T.to(device=place, dtype=x_T.dtype if dtype is None else errors.floating("sample", "dtype", dtype))
        shape, dtype, prior = tuple(x_T.shape), x_T.dtype, model.sde.prior
    check_condition("sample", model, shape[0])
    if noise is None:
        noise = KeyedNoise(seed, ids) if per_sample else Noise(seed)
    check_noise("sample", noise, shape[0])
    with torch.no_grad(), evaluating(model):
        if shape[0] == 0:
            none = torch.empty(0, dtype=torch.float64, device=place) if with_log_prob else None
            result = Samples(torch.empty(shape, dtype=dtype, device=place), 0, log_prob=none, trace_se=none)
        elif per_sample:
            result = _chunked(model, solver, run, keyed("sample", noise), shape, prior, x_T, dtype, place, progress)
        else:
            x = prior.sample(shape, noise, dtype=dtype, device=place) if x_T is None else x_T
            result = (_graphed if cuda_graph else _run)(model, solver, x, run, noise, progress)
    errors.finite_rows("sample", "the samples", result.x)
    return result if full or with_log_prob else result.x


def _run(
    model: ScoreModel, solver: Solver, x: Tensor, run: Sequence[Level], noise: NoiseSource, progress: bool
) -> Samples:
    counted = Counted(model, len(x))
    states = _steps(counted, solver, x, run, noise)
    if progress:
        from tqdm import tqdm

        states = iter(tqdm(states, total=len(run), desc=str(solver), unit="level", leave=False))
    state = State(x, run[0])
    for state in states:  # noqa: B007
        pass
    samples = Samples(state.x, counted.nfe, solver.error(state))
    change = solver.log_change(state)
    if change is None:
        return samples
    by, se = change
    log_prob = model.sde.prior_at(float(run[0].t)).log_prob(x.double()) + by
    return replace(samples, log_prob=log_prob, trace_se=se)


def _graphed(
    model: ScoreModel, solver: Solver, x: Tensor, run: Sequence[Level], noise: NoiseSource, progress: bool
) -> Samples:
    def loop(model: ScoreModel, x: Tensor, noise: NoiseSource) -> tuple[Tensor, int | Tensor]:
        result = _run(model, solver, x, run, noise, progress=False)
        return result.x, result.nfe

    return Samples(*graphs.run(model, solver, run, x, noise, loop))


def _chunked(
    model: ScoreModel,
    solver: Solver,
    run: Sequence[Level],
    noise: Keyed,
    shape: tuple[int, ...],
    prior: Prior,
    x_T: Tensor | None,
    dtype: torch.dtype,
    device: torch.device,
    progress: bool,
) -> Samples:
    def part(chunk: Chunk) -> tuple[Tensor | None, ...]:
        own = chunk.noise(noise)
        if x_T is None:
            start = prior.sample((CHUNK, *shape[1:]), own, dtype=dtype, device=device)
        else:
            start = chunk.spread(x_T)
        result = _run(chunk.model(model), solver, start, run, own, progress)
        nfe = torch.as_tensor(result.nfe).cpu().expand(CHUNK)
        return result.x, nfe, result.error, result.log_prob, result.trace_se

    x, nfe, *known = Chunks(shape[0], noise.ids).map(part)
    assert x is not None
    assert nfe is not None
    return Samples(x, int(nfe[0]) if bool((nfe == nfe[0]).all()) else nfe, *known)


def _check_shape(shape: Any) -> tuple[int, ...]:
    if shape is None:
        raise InvalidArgument("sample: shape (B, *event) or x_T must be given, got neither")
    return errors.sizes("sample", "shape", shape)


def _check_device(model: ScoreModel, device: Device, x_T: Tensor | None) -> torch.device:
    try:
        wanted = None if device is None else torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InvalidArgument(f"sample: device must be one such as 'cpu' or 'cuda', got {device!r}") from error
    if wanted is not None and wanted.type == "cuda" and not torch.cuda.is_available():
        raise InvalidArgument(f"sample: device must be one that torch sees, got {device!r}: there is no CUDA device")
    there = model.device
    if wanted is None:
        return there or (x_T.device if isinstance(x_T, Tensor) else torch.device("cpu"))
    if there is not None and (there.type != wanted.type or (wanted.index not in (None, there.index))):
        raise InvalidArgument(
            f"sample: device must be the model's, {there}, got {wanted}; move it first: model.to({str(wanted)!r})"
        )
    return there or wanted
