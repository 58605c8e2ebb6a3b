"""``certify``: what a sampler is, measured."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from ..errors import InvalidType, describe
from ..grids import log_snr
from ..sdes import SDE, VPSDE, GaussianSDE
from ..solvers import Solver
from . import exact
from .certificate import Certificate
from .checks import CHECKS, FULL, QUICK, Case, Effort, generators
from .problems import F64, Gaussians, Impulses
from .subject import Sampler, Subject, process
from .subject import subject as read


def certify(
    solver: Solver | Sampler,
    *,
    sde: SDE | None = None,
    order: float | None = None,
    stochastic: bool | None = None,
    evaluations: int | None = None,
    reference: Solver | Sampler | None = None,
    full: bool = False,
) -> Certificate:
    """Measures a sampler on a process, against closed forms, and says what holds.

    ``solver``: a solver, one's own class included, or a plain function ``sampler(model, x_T, levels, noise) -> x``
    that goes from the first level to the last and asks ``noise(x, t, s)`` for the draw of a step; each level has
    ``t``, ``alpha``, ``sigma`` and ``log_snr``. ``order``, ``stochastic`` and ``evaluations`` (a step) declare what a
    function is held to; a solver has its own. ``sde``: a Gaussian process, VPSDE() unless given. ``reference``: a
    sampler that must do the same in N steps; the package's own solvers are held to NumPy references written from the
    papers. ``full``: longer runs, and 20,000 samples of a mixture in the plane.

    Measured: the order on the probability flow, on eight Gaussians of 1 to 5 dimensions and on a mixture; the weak
    order of mean and variance and, by propagation, of a mixture's law; the strong order on one Brownian path; every
    coefficient of N steps, N = 1, 2, 5, 10, 50, 1000; convergence on other grids; the bias of the last step; network
    evaluations; a row's dependence on its mates; global generators; dtypes. On an affine score a sampler is affine, so
    that one run on unit impulses shows its exact moments, with no Monte Carlo. (See docs/certification.md.)

    Raises InvalidType for a solver that is none and UnsupportedCombination for a process without alpha and sigma, or
    one that the solver cannot serve.

    Example: ``print(certify(DDIM(), sde=VPSDE()))``.
    """
    sampler, target, other = check(
        solver, sde=sde, order=order, stochastic=stochastic, evaluations=evaluations, reference=reference, full=full
    )
    with _generators_kept():
        case = prepare(sampler, target, other, FULL if full else QUICK)
        found = tuple(check for measure in CHECKS for check in measure(case))
    return Certificate(sampler.name, repr(target), found)


def prepare(sampler: Subject, sde: GaussianSDE, reference: Subject | None = None, effort: Effort = QUICK) -> Case:
    """What the checks are asked about: the sampler, and what a first look at it tells."""
    draws = _draws(sampler, sde)
    return Case(sampler, sde, effort, reference, not sampler.adaptive and _is_affine(sampler, sde, draws), draws)


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Global generators as they were, whatever a sampler does to them."""
    torch_state, numpy_state, python_state = generators()
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def check(
    solver: object,
    *,
    sde: object = None,
    order: object = None,
    stochastic: object = None,
    evaluations: object = None,
    reference: object = None,
    full: object = False,
) -> tuple[Subject, GaussianSDE, Subject | None]:
    """What ``certify`` is about to measure; raises its named errors, and measures nothing."""
    sampler = read("solver", solver, order, stochastic, evaluations)
    target = VPSDE() if sde is None else process(sde)
    if not isinstance(full, bool):
        raise InvalidType(f"certify: full must be True or False, got {describe(full)}")
    other = None if reference is None else read("reference", reference, None, None, None)
    for subject in (sampler, other):
        if subject is not None and subject.solver is not None:
            subject.solver.check(Gaussians(target))
    return sampler, target, other


def _draws(sampler: Subject, sde: GaussianSDE) -> int:
    """The draws of one step from the middle of the process; one stands for those of an adaptive method."""
    if sampler.stochastic is False or sampler.adaptive:
        return int(bool(sampler.stochastic))
    noise = Impulses(exact.UNIT, 0)
    sampler.run(Gaussians(sde), torch.zeros(2, len(exact.UNIT), dtype=F64), log_snr(sde, 4)[1:3], noise)
    return noise.count


def _is_affine(sampler: Subject, sde: GaussianSDE, draws: int) -> bool:
    return exact.responses(sampler, sde, log_snr(sde, 6), draws=draws).affine < 1e-9
