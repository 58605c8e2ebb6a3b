"""Forward in time: a process from data to noise, and Langevin dynamics on one density."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from . import errors
from .errors import InvalidType, describe, flag, number, whole
from .grids import Grid, levels
from .models.base import check_output
from .noise import Noise, check_noise
from .sdes.base import SDE, Level
from .sdes.gaussian import GaussianSDE
from .solvers.base import State
from .types import NoiseSource, lincomb


def simulate(
    sde: SDE,
    x0: Tensor,
    noise: NoiseSource,
    *,
    steps: int | None = None,
    grid: str | Grid | Tensor | Sequence[float] | None = None,
    clean: bool | None = None,
) -> Iterator[State[Any]]:
    """The film of the forward process dx = f(x, t) dt + g(t) dw: its states from x0 to t_max, one a level of the grid.

    A Gaussian process steps by its kernel, x_t = (alpha_t / alpha_s) x_s + std z: its law is exact at every level, for
    any number of steps, and on a :class:`sdekit.BrownianPath` the path itself is the same for every grid. Any other
    process takes Euler-Maruyama steps, x_t = x_s + f(x_s, s) (t - s) + g(s) sqrt(t - s) z, of strong order 1.
    (Song et al. 2021, eq. 5, arXiv:2011.13456.)

    ``x0``: (B, *event), data where the run begins at the clean level (``clean``, the default where the process has
    one), else states at the grid's least time. ``grid``, ``steps``: as in :func:`sdekit.trajectory`, whose levels are
    taken in the other direction: times are noisiest first here, too; ``"log_snr"`` unless given, ``"uniform"`` for a
    process with no alpha and sigma. Gradients flow.

    Raises named errors at the call.

    Example: ``film = [state.x for state in simulate(VPSDE(), x0, Noise(0), steps=50)]``.
    """
    if not isinstance(sde, SDE):
        raise InvalidType(f"simulate: sde must be a process such as VPSDE(), got {describe(sde)}")
    if grid is None:
        grid = "log_snr" if isinstance(sde, GaussianSDE) else "uniform"
    clean = sde.clean() is not None if clean is None else flag("simulate", "clean", clean)
    run = levels(sde, grid, steps, denoise=clean)[::-1]
    x0 = errors.batch("simulate", "x0", x0)
    check_noise("simulate", noise, len(x0))
    return _forward(sde, x0, noise, run)


def _forward(sde: SDE, x: Tensor, noise: NoiseSource, run: Sequence[Level]) -> Iterator[State[Any]]:
    s = run[0]
    yield State(x, s)
    for t in run[1:]:
        mean, std = sde.forward_step(x, s, t)
        x, s = lincomb(1.0, mean, std, noise(x, t, s)), t
        yield State(x, s)


def langevin(
    score: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    step_size: float,
    steps: int,
    noise: NoiseSource | None = None,
    seed: int | Sequence[int] = 0,
) -> Tensor:
    """The end of a chain of unadjusted Langevin dynamics on one density, from x.

    x <- x + h score(x) + sqrt(2 h) z, with h = ``step_size``, ``steps`` times. Every step draws, the last one too, so
    that the law of x is the chain's own; no step is accepted or rejected: on N(m, v) its stationary law is
    N(m, v / (1 - h / (2 v))).

    Welling & Teh 2011, eq. 3, and Song & Ermon 2019, eq. 4 (arXiv:1907.05600), both with their epsilon = 2 h.

    ``score``: any callable (B, *event) -> (B, *event), grad log p; it is called without gradients. ``noise``: any
    source, :class:`sdekit.Noise` of ``seed`` unless given; a keyed one gives a row the same draws in any batch.

    Raises named errors at the call; NonFiniteError, naming the rows, where the chain left the finite numbers.

    Example: ``x = langevin(lambda x: model(x, 0.1).score, x, step_size=1e-3, steps=1000)``.
    """
    if not callable(score):
        raise InvalidType(f"langevin: score must be a callable (B, *event) -> (B, *event), got {describe(score)}")
    x = errors.batch("langevin", "x", x).detach()
    h = number("langevin", "step_size", step_size, above=0.0)
    steps = whole("langevin", "steps", steps, at_least=1)
    noise = Noise(seed) if noise is None else noise
    check_noise("langevin", noise, len(x))
    with torch.no_grad():
        for k in range(steps):
            slope = check_output("langevin", score(x), x, "score").to(x.dtype)
            z = noise.normal(x.shape, stream=("langevin", k), dtype=x.dtype, device=x.device)
            x = lincomb(1.0, lincomb(1.0, x, h, slope), (2.0 * h) ** 0.5, z)
    errors.finite_rows("langevin", "the chain", x)
    return x
