"""Linear multistep methods of the flow and of the reverse SDE, their coefficients integrated exactly on any grid."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from ..errors import UnsupportedCombination, flag, one_of, whole
from ..models.base import GaussianPrediction, ScoreModel
from ..sdes.base import SDE, Level
from ..sdes.gaussian import GaussianLevel, GaussianSDE
from ..types import NoiseSource, Scalar, atan, combine, cos, exp, scale, sin
from .base import GaussianSolver, State, predict
from .exponential import deviation, kept

VIEWS = ("x0", "eps", "velocity")
COORDINATES = ("log_snr", "sigma", "angle", "t")


class Node(NamedTuple):
    """One evaluation: its level, and the view of the model there."""

    level: GaussianLevel
    value: Tensor


class Memory(NamedTuple):
    """The last evaluations, and what they counted for, the last ones a weight each, in the step to the present."""

    nodes: tuple[Node, ...]
    weights: Sequence[Scalar]


class LinearMultistep(GaussianSolver, ABC):
    """A view of the model is a polynomial in a coordinate, whose integral over the step is exact.

    With y = x / alpha, n = sigma / alpha and l = log(alpha / sigma), the probability flow from t to s is in each view

        "x0":        x_s = (sigma_s / sigma_t) x_t + sigma_s int x0 d(e^l),
        "eps":       x_s = (alpha_s / alpha_t) x_t + alpha_s int eps dn,
        "velocity":  w_s = w_t + int dw:  w = x in t, w = y in n ("sigma"), and in the angle u = atan(n / std) and in l
                     w = cos(u) (y - mean), with dw/du = std cos(u) eps - sin(u) (x0 - mean).

    The view, or dw by the coordinate, is the polynomial in the coordinate through its last ``points`` values. ``mean``
    and ``std`` are the data's, as ``sde.with_prior`` knows them (the root mean square of std over coordinates), and 0
    and 1 where it does not: for data of that mean and variance, and no more structure, dw is 0, and any step exact.

    Where ``corrector``, a state that has been evaluated is corrected before the next step: the step that led to it is
    taken once more, with the new value among those of the polynomial, and with its own noise. That costs no evaluation,
    and moves the state by what the weights of the values have changed by: correction and next step are one sum. The
    last state of a run is not corrected. More points than the order says make the error smaller, not its order higher:
    the first steps of a run are taken by fewer.

    A member with noise follows the reverse SDE of a strength tau, constant over a step (Xue et al. 2023, section 4,
    arXiv:2309.05019): the flow is tau = 0, the reverse SDE tau = 1, and any tau has their marginals. With h = l_s - l_t
    and z ~ N(0, I),

        "x0":   x_s = (sigma_s / sigma_t) e^(-tau^2 h) x_t + sigma_s int x0 e^(-tau^2 l_s) d(e^((1 + tau^2) l))
                      + sigma_s sqrt(1 - e^(-2 tau^2 h)) z,
        "eps":  x_s = (alpha_s / alpha_t) x_t + alpha_s int eps (1 + tau^2) dn + sigma_s tau sqrt(e^(2 h) - 1) z.

    The weak order is min(points, 2) then, although no value lies within the step: the noise of the last step stands in
    for that of this one, with the same covariance with the sum to the first order in h. The strong order is 1.

    The step to the clean level ends at the model's x0; in "sigma" and the angle, which are 0 there, at the
    polynomial's own end once there are two values.
    """

    view: str
    coordinate: str
    corrector: int

    stochastic = False
    evaluations = 1

    @property
    @abstractmethod
    def points(self) -> int:
        """How many values the polynomial passes through: 1 to 4."""

    def __post_init__(self) -> None:
        whole(type(self).__name__, "points", self.points, at_least=1, at_most=4)

    @property
    def turning(self) -> bool:
        """Whether the state that is integrated is cos(u) (y - mean)."""
        return self.view == "velocity" and self.coordinate in ("angle", "log_snr")

    @property
    def order(self) -> float | None:  # type: ignore[override]
        """min(points, 2), or min(points + 1, 3) with the corrector: what the first steps, by fewer values, allow. With
        noise 2 at most."""
        return min(self.points + 1, 2 if self.stochastic else 3) if self.corrector else min(self.points, 2)

    def check(self, model: ScoreModel) -> None:
        """Raises UnsupportedCombination for a process with no alpha and sigma, and for an angle where the std is 0."""
        super().check(model)
        if self.coordinate == "angle":
            check_angle(self, model.sde)

    def step(self, model: ScoreModel, state: State[Memory], s: Level, noise: NoiseSource) -> State[Memory]:
        """The state at the level s."""
        p, t, s = predict(model, state, s)
        x, memory = state.x, state.memory
        past = () if memory is None else memory.nodes
        if s.clean and (not past or self.coordinate in ("log_snr", "t")):
            return State(p.x0, s)
        nodes = (*past, Node(t, self.of(p)))
        levels = [node.level for node in nodes]
        keep, weights = self.predicted(t, s, levels[-self.points :])
        used = weights
        if memory is not None and self.corrects(len(past)):
            _, corrected = self.corrected(past[-1].level, t, levels)
            used = _moved(keep, weights, corrected, memory.weights)
        values = [node.value for node in nodes[-len(used) :]]
        tau = self.strength(t)
        if isinstance(tau, Tensor) or tau > 0:
            used, values = [*used, deviation(self.view, t, s, tau)], [*values, noise(x, t, s)]
        end = combine((keep, *used), (x, *values))
        if self.turning:
            end = shifted(end, s.alpha - keep * t.alpha, t.sde.centre[0])
        return State(end, s, Memory(nodes[-self.points :], weights))

    def strength(self, t: GaussianLevel) -> Scalar:
        """tau of the step that begins at t: 0 of the probability flow, 1 of the reverse SDE."""
        return 0.0

    def corrects(self, values: int) -> bool:
        """Whether a state is corrected that a step by so many values has led to."""
        return bool(self.corrector)

    def of(self, p: GaussianPrediction) -> Tensor:
        """The view of a prediction; the velocity is w's by the coordinate."""
        if self.view == "x0":
            return p.x0
        if self.view == "eps" or self.coordinate == "sigma":
            return p.eps
        if self.coordinate == "t":
            return p.velocity
        u = position("angle", p.level, p.level.sde.centre[1])
        return turn(p, 1.0 if self.coordinate == "angle" else -sin(u) * cos(u))  # du/dl

    def predicted(
        self, t: GaussianLevel, s: GaussianLevel, levels: Sequence[GaussianLevel]
    ) -> tuple[Scalar, Sequence[Scalar]]:
        """(keep, weights) of a step whose end has not been evaluated: x_s = keep x_t + sum of weights times the last
        values, one a weight."""
        return self.exact(t, s, levels)

    def corrected(
        self, t: GaussianLevel, s: GaussianLevel, levels: Sequence[GaussianLevel]
    ) -> tuple[Scalar, Sequence[Scalar]]:
        """The same of a step whose end s is the last of the levels: keep is that of the step as predicted."""
        return self.exact(t, s, levels)

    def exact(
        self, t: GaussianLevel, s: GaussianLevel, levels: Sequence[GaussianLevel]
    ) -> tuple[Scalar, Sequence[Scalar]]:
        """The same, by the integral of the polynomial through the values at the levels."""
        tau, std, in_t = self.strength(t), t.sde.centre[1], self.coordinate == "t"
        rate = 1.0 + tau**2
        begin, end, *at = [level.t if in_t else level.log_snr for level in (t, s, *levels)]
        if self.view == "velocity" or (self.view, self.coordinate) == ("eps", "sigma"):
            straight = _straight if isinstance(begin, float) else _straight.__wrapped__
            return straight(self.turning, self.coordinate, std, rate, t.alpha, s.alpha, begin, end, tuple(at))
        sde = t.sde if in_t else None
        weighted = _weighted if isinstance(begin, float) else _weighted.__wrapped__
        weights = weighted(self.view, self.coordinate, std, rate, sde, t.log_snr, s.log_snr, tuple(at))
        return kept(self.view, t, s, tau), [s.alpha * w for w in weights]


@dataclass(frozen=True)
class Multistep(LinearMultistep):
    """Any member of the family of linear multistep methods: ``Multistep(points=4, view="x0", coordinate="log_snr")``.

    ``points``: 1 to 4 values of the ``view`` ("x0", "eps" or "velocity") make a polynomial in the ``coordinate``
    ("log_snr", "sigma" for sigma / alpha, "angle", or "t"), whose integral over the step is exact on any grid; with
    ``corrector`` a state that has been evaluated is corrected at no cost. See :class:`LinearMultistep`.

    The default, the velocity in the angle, knows the data's mean and deviation where the process does: give it them,
    ``sde.with_prior(mean, std)``. ``sample(..., nfe=N)`` takes it.

    Adams' methods on an uneven grid: Hairer, Norsett & Wanner 1993, section III.5. The views and their integrals: Lu et
    al. 2022 (arXiv:2206.00927, eq. 3.4; arXiv:2211.01095, eq. 9), Zhang & Chen 2023 (arXiv:2204.13902, eq. 11). The
    corrector: Zhao et al. 2023, section 3.2 (arXiv:2302.04867). Raises InvalidArgument unless 1 <= points <= 4.
    """

    points: int = 4
    view: str = "velocity"
    coordinate: str = "angle"
    corrector: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("Multistep", "view", self.view, VIEWS)
        one_of("Multistep", "coordinate", self.coordinate, COORDINATES)
        flag("Multistep", "corrector", self.corrector)


def _moved(
    keep: Scalar, weights: Sequence[Scalar], corrected: Sequence[Scalar], before: Sequence[Scalar]
) -> list[Scalar]:
    """The weights of a step from x_t + sum (corrected - before) values; ``before`` has none for the newest value."""
    newest_first = (reversed(weights), reversed(corrected), (0.0, *reversed(before)))
    return [a + keep * (b - c) for a, b, c in zip_longest(*newest_first, fillvalue=0.0)][::-1]


def check_angle(solver: object, sde: SDE) -> None:
    """Raises UnsupportedCombination for a process that has no angle: without alpha and sigma, or with data of std 0."""
    if not isinstance(sde, GaussianSDE):
        raise UnsupportedCombination(
            f"{solver}: the angle needs a process with alpha and sigma (a GaussianSDE), got {type(sde).__name__}"
        )
    if not sde.centre[1] > 0:
        raise UnsupportedCombination(f"{solver}: the angle needs data of a std > 0, got {sde}")


def shifted(x: Tensor, a: Scalar, mean: float | Tensor) -> Tensor:
    """x + a mean."""
    if isinstance(mean, float) and mean == 0.0:
        return x
    if isinstance(mean, Tensor):
        mean = mean.to(x)
        return x + scale(a, mean.expand_as(x)) if isinstance(a, Tensor) else torch.add(x, mean, alpha=a)
    by = a * mean
    return x + (by.to(x.dtype) if isinstance(by, Tensor) else by)


def position(coordinate: str, level: GaussianLevel, std: float) -> Scalar:
    """The coordinate of a level."""
    return _place(coordinate, level.t if coordinate == "t" else level.log_snr, std)


def _place(coordinate: str, at: Scalar, std: float) -> Scalar:
    """The coordinate of a time, where it is t, and else of a log-SNR."""
    if coordinate == "t":
        return at
    if coordinate == "log_snr":
        return 0.5 * at
    n = exp(-0.5 * at)
    return n if coordinate == "sigma" else atan(n / std)


def turn(p: GaussianPrediction, by: Scalar = 1.0) -> Tensor:
    """``by`` times dw/du in the angle u: std cos(u) eps - sin(u) (x0 - mean)."""
    mean, std = p.level.sde.centre
    u = position("angle", p.level, std)
    return shifted(p.mix(-by * sin(u), by * std * cos(u)), by * sin(u), mean)


WIDEST = 3.0
"""The widest interval in log(alpha / sigma), times 1 + tau^2, that one rule is asked for."""

RULES = {n: list(zip(*(v.tolist() for v in leggauss(n)), strict=True)) for n in (3, 24)}
"""Gauss and Legendre's nodes and weights on [-1, 1]: of 3 nodes exact for a polynomial of degree 5, of 24 to the last
bits for what is integrated in log(alpha / sigma)."""


@functools.lru_cache(maxsize=4096)
def _straight(
    turning: bool,
    coordinate: str,
    std: float,
    rate: Scalar,
    alpha_t: Scalar,
    alpha_s: Scalar,
    begin: Scalar,
    end: Scalar,
    at: tuple[Scalar, ...],
) -> tuple[Scalar, Sequence[Scalar]]:
    """(keep, weights) of what is integrated in its own coordinate: w_s = w_t + int dw, w = by x.

    ``begin``, ``end`` and ``at``: the times, or log-SNRs, of t, of s and of the values.
    """
    u_t, u_s, *nodes = (_place(coordinate, v, std) for v in (begin, end, *at))
    by_t: Scalar = 1.0
    by_s: Scalar = 1.0
    if turning:
        by_t, by_s = cos(_place("angle", begin, std)) / alpha_t, cos(_place("angle", end, std)) / alpha_s
    elif coordinate == "sigma":
        by_t, by_s = 1.0 / alpha_t, 1.0 / alpha_s
    middle, half = 0.5 * (u_t + u_s), 0.5 * (u_s - u_t)
    weights = _summed(((half * w, middle + half * z) for z, w in RULES[3]), tuple(nodes))
    return by_t / by_s, [w * rate / by_s for w in weights]


@functools.lru_cache(maxsize=4096)
def _weighted(
    view: str,
    coordinate: str,
    std: float,
    rate: Scalar,
    sde: GaussianSDE | None,
    log_snr_t: Scalar,
    log_snr_s: Scalar,
    at: tuple[Scalar, ...],
) -> Sequence[Scalar]:
    """The same in the weight of a view, over alpha_s: rate dn for eps, e^(-rate l_s) d(e^(rate l)) for x0."""
    nodes = tuple(_place(coordinate, v, std) for v in at)
    if isinstance(log_snr_s, Tensor) or log_snr_s < math.inf:
        return _in_log_snr(view, coordinate, std, rate, sde, log_snr_t, log_snr_s, nodes)
    if view == "x0":
        return _basis(nodes, 0.0)
    # dn = std d(tan u)
    half = 0.5 * _place(coordinate, log_snr_t, std)
    points = [(-half * w, half - half * z) for z, w in RULES[24]]
    return _summed(((w * rate * std / cos(u) ** 2, u) for w, u in points), nodes)


def _in_log_snr(
    view: str,
    coordinate: str,
    std: float,
    rate: Scalar,
    sde: GaussianSDE | None,
    log_snr_t: Scalar,
    log_snr_s: Scalar,
    nodes: tuple[Scalar, ...],
) -> Sequence[Scalar]:
    """By quadrature in l, in which every coordinate and every weight is smooth."""
    begin, end = 0.5 * log_snr_t, 0.5 * log_snr_s
    length = end - begin
    widest = rate * length
    count = math.ceil(float(widest.max() if isinstance(widest, Tensor) else widest) / WIDEST)
    half = length / (2 * count)
    at = [begin + half * (2 * i + 1 + z) for i in range(count) for z, _ in RULES[24]]
    density = [-rate * exp(-v) if view == "eps" else rate * exp(rate * (v - end)) for v in at]
    weights = [half * w * d for (_, w), d in zip(RULES[24] * count, density, strict=True)]
    if coordinate == "log_snr":
        us = at
    elif sde is not None:
        times = sde.time_at(torch.stack([torch.as_tensor(2 * v, dtype=torch.float64) for v in at]))
        us = times.tolist() if times.ndim == 1 else list(times)
    else:
        us = [exp(-v) if coordinate == "sigma" else atan(exp(-v) / std) for v in at]
    return _summed(zip(weights, us, strict=True), nodes)


def _summed(rule: Iterable[tuple[Scalar, Scalar]], nodes: tuple[Scalar, ...]) -> list[Scalar]:
    """The sums over a rule's (weight, u) of the polynomials that are 1 at one node and 0 at the others."""
    parts = [[w * value for value in _basis(nodes, u)] for w, u in rule]
    return [functools.reduce(lambda a, b: a + b, column) for column in zip(*parts, strict=True)]


def _basis(nodes: tuple[Scalar, ...], u: Scalar) -> list[Scalar]:
    """Lagrange's polynomials of the nodes at u."""
    values: list[Scalar] = []
    for i, node in enumerate(nodes):
        value: Scalar = 1.0
        for j, other in enumerate(nodes):
            if j != i:
                value = value * ((u - other) / (node - other))
        values.append(value)
    return values
