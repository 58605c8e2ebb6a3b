"""Grids: the times that a solver visits, noisiest first.

A grid is a function (sde, steps) -> (steps + 1,) float64 times that fall from t_max to t_min. ``levels`` turns a grid,
its name, or a tensor of times into the levels of a run. With ``denoise=True`` the run ends at the clean level, alpha =
1 and sigma = 0, one interval behind the grid's last time: ``steps`` intervals then hold ``steps`` times and the clean
level, and count the evaluations of a solver that evaluates once a step, as in DDPM's 1000 and EDM's 18 steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from .errors import MOST, InvalidType, ScheduleError, UnsupportedCombination, describe, flag, number, one_of, whole
from .sdes.base import EDGE, SDE, Level
from .sdes.gaussian import GaussianSDE
from .sdes.table import table
from .sdes.tables import SPACINGS, spaced
from .sdes.vp import solve_linear_beta

Grid: TypeAlias = Callable[[SDE, int], Tensor]


def uniform(sde: SDE, steps: int) -> Tensor:
    """Times evenly spaced from t_max to t_min, (steps + 1,) in float64.

    t_i = t_max + i / steps (t_min - t_max).  (Song et al. 2021, appendix D, arXiv:2011.13456.)
    """
    n = whole("uniform", "steps", steps, at_least=0, at_most=MOST)
    _process("uniform", sde)
    i = torch.arange(n + 1, dtype=torch.float64)
    # one rounding, of the quotient: times that are whole numbers come out whole
    return _ended(sde, (sde.t_max * (n - i) + sde.t_min * i) / max(n, 1))


def log_snr(sde: SDE, steps: int, rho: float = 1.0) -> Tensor:
    """Times at which log(alpha^2 / sigma^2) is evenly spaced from its value at t_max to that at t_min.

    (Lu et al. 2022, section 3.2 and appendix D.4, arXiv:2206.00927.)  It is k-diffusion's "exponential"; with another
    ``rho`` the rest of the way is (1 - i / steps)^rho of it, its "polyexponential". Raises UnsupportedCombination for
    a process with no alpha and sigma.
    """
    process = _gaussian("log_snr", sde)
    rho = number("log_snr", "rho", rho, above=0.0)
    first, last = process.log_snr(torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64))
    return _ended(sde, process.time_at(last + (1.0 - _fractions("log_snr", steps)) ** rho * (first - last)))


def karras(sde: SDE, steps: int, rho: float = 7.0) -> Tensor:
    """Times at which (sigma / alpha)^(1 / rho) is evenly spaced from its value at t_max to that at t_min.

    (Karras et al. 2022, eq. 5, arXiv:2206.00364.)  Another rho: ``functools.partial(karras, rho=3.0)``. Raises
    UnsupportedCombination for a process with no alpha and sigma.
    """
    process = _gaussian("karras", sde)
    ends = process.log_snr(torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64))
    return _ended(sde, process.time_at(karras_between(float(ends[0]), float(ends[1]), steps, rho)))


def karras_between(first: float, last: float, steps: int, rho: float = 7.0) -> Tensor:
    """The log-SNRs of Karras' grid between two of them, (steps + 1,) in float64; steps = 0 gives the first."""
    rho = number("karras", "rho", rho, above=0.0)
    ends = (number("karras", name, v) for name, v in (("first", first), ("last", last)))
    begin, end = (math.exp(-0.5 / rho * v) for v in ends)
    return -2 * rho * torch.log(begin + _fractions("karras", steps) * (end - begin))


def quadratic(sde: SDE, steps: int) -> Tensor:
    """Times whose square roots are evenly spaced: more of them near the data.

    sqrt(t_i) = sqrt(t_max) + i / steps (sqrt(t_min) - sqrt(t_max)).  (Song et al. 2021 (DDIM), appendix D.2,
    arXiv:2010.02502; Lu et al. 2022, appendix E.)  On a table, DDIM's own is ``"quadratic_leading"``.
    """
    _process("quadratic", sde)
    high, low = sde.t_max**0.5, sde.t_min**0.5
    return _ended(sde, (high + _fractions("quadratic", steps) * (low - high)) ** 2)


def angle(
    sde: SDE,
    steps: int,
    end: float | None = None,
    middle: float = 0.5,
    width: float = 1.2,
    floor: float = 0.05,
) -> Tensor:
    """Times that are dense where sigma / alpha is near half the data's standard deviation, and sparse beyond.

    With m = log(sigma / alpha) they are evenly spaced in the integral of

        floor + 1 / cosh((m - log(middle std)) / width),

    which is floor m + 2 width atan(tanh((m - log(middle std)) / (2 width))): with floor = 0 and width = 1 the angle
    atan(sigma / (alpha middle std)). ``std`` is the data's, as ``sde.with_prior`` knows it, else 1. ``end`` is the
    sigma / alpha at which the grid ends, that at t_min unless given.
    ``sample(..., nfe=N)`` takes it, from end = std / 5N to the clean level.

    Raises UnsupportedCombination for a process with no alpha and sigma, and where the data's std is 0.
    """
    process = _gaussian("angle", sde)
    std = process.centre[1]
    if not std > 0:
        raise UnsupportedCombination(f"grid: 'angle' needs data of a std > 0, got {sde}")
    middle, width = number("angle", "middle", middle, above=0.0), number("angle", "width", width, above=0.0)
    floor = number("angle", "floor", floor, at_least=0.0)
    high, low = (-0.5 * process.log_snr(torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64))).tolist()
    last = low if end is None else math.log(number("angle", "end", end, above=0.0))
    whole_way = last <= low
    low = min(max(low, last), high)

    def spent(m: Tensor) -> Tensor:
        return floor * m + 2 * width * torch.atan(torch.tanh((m - math.log(middle * std)) / (2 * width)))

    ends = spent(torch.tensor([high, low], dtype=torch.float64))
    wanted = ends[0] + _fractions("angle", steps) * (ends[1] - ends[0])
    above, below = torch.full_like(wanted, high), torch.full_like(wanted, low)
    for _ in range(60):
        m = 0.5 * (above + below)
        noisy = spent(m) > wanted
        above, below = torch.where(noisy, m, above), torch.where(noisy, below, m)
    times = process.time_at(-(above + below))
    times[0] = sde.t_max
    return _ended(sde, times) if whole_way else times


def vp(sde: SDE, steps: int, beta_min: float = 0.1, beta_max: float = 20.0) -> Tensor:
    """Times whose sigma / alpha is VP's at evenly spaced times of VP: on VPSDE itself the uniform grid.

    1 + (sigma / alpha)^2 = exp(beta_min u + (beta_max - beta_min) u^2 / 2), u evenly spaced.  (Karras et al. 2022,
    table 1, arXiv:2206.00364; k-diffusion's ``get_sigmas_vp``.)  Raises UnsupportedCombination for a process with no
    alpha and sigma.
    """
    process = _gaussian("vp", sde)
    low = number("vp", "beta_min", beta_min, at_least=0.0)
    rise = number("vp", "beta_max", beta_max, above=0.0, at_least=low) - low
    ends = process.log_snr(torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64))
    first, last = solve_linear_beta(torch.nn.functional.softplus(-ends, threshold=700), low, low + rise)
    u = first + _fractions("vp", steps) * (last - first)
    integral = low * u + 0.5 * rise * u * u
    return _ended(sde, process.time_at(-integral - torch.log(-torch.expm1(-integral))))


def beta(sde: SDE, steps: int, a: float = 0.6, b: float = 0.6) -> Tensor:
    """Times at evenly spaced quantiles of the Beta(a, b) distribution on [t_min, t_max]: denser at both ends.

    (Lee et al. 2024, arXiv:2407.12173.)  By SciPy. diffusers' ``use_beta_sigmas`` spaces sigma so, in place of t.
    """
    from scipy.special import betaincinv

    _process("beta", sde)
    a, b = number("beta", "a", a, above=0.0), number("beta", "b", b, above=0.0)
    rest = torch.from_numpy(betaincinv(a, b, (1.0 - _fractions("beta", steps)).numpy()))
    return _ended(sde, sde.t_min + (sde.t_max - sde.t_min) * rest)


def flow_shift(sde: SDE, steps: int, shift: float = 3.0) -> Tensor:
    """Times t' = shift t / (1 + (shift - 1) t) of flow matching, t evenly spaced: sigma / alpha is ``shift`` times t's.

    On any process n = sigma / alpha takes the place of t' / (1 - t'), so that n / (n + shift) is evenly spaced from its
    value at t_max to that at t_min; with shift = 1 on FlowSDE it is the uniform grid.  (Esser et al. 2024, eq. 23,
    arXiv:2403.03206.)  Raises UnsupportedCombination for a process with no alpha and sigma.
    """
    process = _gaussian("flow_shift", sde)
    move = 2 * math.log(number("flow_shift", "shift", shift, above=0.0))
    ends = torch.sigmoid(-0.5 * (process.log_snr(torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64)) + move))
    t = ends[0] + _fractions("flow_shift", steps) * (ends[1] - ends[0])
    return _ended(sde, process.time_at(-2 * torch.logit(t) - move))


ALIGNED = {
    "sd15": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
    "svd": (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}
"""sigma / alpha at the eleven levels of ten steps, by model."""


def align_your_steps(sde: SDE, steps: int, of: str = "sd15") -> Tensor:
    """Times at the levels published for one model: Stable Diffusion 1.5, "sdxl", or Stable Video Diffusion, "svd".

    Eleven values of sigma / alpha are ten steps; other counts by straight lines through their logarithms.  (Sabour et
    al. 2024, arXiv:2404.14507, and its page of quick starts.)  Raises UnsupportedCombination for a process with no
    alpha and sigma, and for one whose range does not hold the values: they are the model's own.
    """
    process = _gaussian("align_your_steps", sde)
    known = torch.tensor(ALIGNED[one_of("align_your_steps", "of", of, ALIGNED)], dtype=torch.float64).log()
    ends = -0.5 * process.log_snr(torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64))
    if known[0] > ends[0] + ROUNDED or known[-1] < ends[1] - ROUNDED:
        low, high = ends.exp().flip(0).tolist()
        raise UnsupportedCombination(
            f"grid: align_your_steps of {of!r} needs sigma / alpha from {ALIGNED[of][-1]:g} to {ALIGNED[of][0]:g}, "
            f"got {type(sde).__name__} with {low:.4g} to {high:.4g}"
        )
    known = known.clamp(ends[1], ends[0])
    place = _fractions("align_your_steps", steps) * (len(known) - 1)
    left = place.floor().clamp(max=len(known) - 2)
    k = left.long()
    return process.time_at(-2 * torch.lerp(known[k], known[k + 1], place - left))


ROUNDED = 0.01
"""What the ends of a published table may lie outside of a process's range, in log(sigma / alpha)."""

NAMES: dict[str, Grid] = {
    "uniform": uniform,
    "log_snr": log_snr,
    "karras": karras,
    "quadratic": quadratic,
    "angle": angle,
    "vp": vp,
    "beta": beta,
    "flow_shift": flow_shift,
}
"""Grids of any process, from t_max to t_min."""


def _of_table(spacing: str) -> Grid:
    def grid(sde: SDE, steps: int) -> Tensor:
        process = table(f"grid: {spacing!r}", sde)
        steps = whole(spacing, "steps", steps, at_least=0, at_most=len(process.times) - 1)
        return process.times[spaced(len(process.times), steps + 1, spacing)].flip(0)

    grid.__name__ = grid.__qualname__ = spacing
    grid.__doc__ = f"The times of a table that ``sdekit.sdes.tables`` spaces so: {SPACINGS[spacing].__doc__}"
    return grid


leading, linspace, trailing, quadratic_leading = map(
    _of_table, ("leading", "linspace", "trailing", "quadratic_leading")
)

TABLE_NAMES: dict[str, Grid] = {
    "linspace": linspace,
    "leading": leading,
    "trailing": trailing,
    "quadratic_leading": quadratic_leading,
}
"""Grids of a process on a table: of the times of its levels, noisiest first, not always from t_max or to t_min."""


def levels(
    sde: SDE, grid: str | Grid | Tensor | Sequence[float], steps: int | None = None, *, denoise: bool = True
) -> list[Level]:
    """The levels of a run, noisiest first: ``steps + 1`` of them, the last one clean where ``denoise``.

    ``grid`` is a name, a function (sde, steps) -> times, or the times themselves, (N,) and strictly decreasing within
    [t_min, t_max]. N times are N steps where ``denoise`` (the clean level follows them) and N - 1 where not.

    Raises ScheduleError for times that do not decrease or leave the domain, and InvalidArgument for ``steps`` below 1
    or one that the times contradict.
    """
    _process("grid", sde)
    clean = sde.clean() if flag("grid", "denoise", denoise) else None
    if denoise and clean is None:
        raise UnsupportedCombination(
            f"{type(sde).__name__}: denoise=True needs a process with alpha and sigma (a GaussianSDE), else False"
        )
    if steps is not None:
        steps = whole("grid", "steps", steps, at_least=1, at_most=MOST)
    if isinstance(grid, str) or callable(grid):
        if steps is None:
            raise InvalidType("grid: steps must be given with a named grid or a grid function, got steps=None")
        names = {**NAMES, **TABLE_NAMES}
        function = names[one_of("grid", "grid", grid, names)] if isinstance(grid, str) else grid
        if function in TABLE_NAMES.values():
            # the caller's own count: the grid's is one below where the clean level follows
            most = len(table(f"grid: {grid!r}" if isinstance(grid, str) else "grid", sde).times) - (not denoise)
            whole("grid", "steps", steps, at_least=1, at_most=most)
        times = check_times(sde, function(sde, steps - 1 if denoise else steps))
    else:
        times = check_times(sde, grid)
    count = len(times) if denoise else len(times) - 1
    if count < 1:
        raise ScheduleError("grid: with denoise=False a grid needs at least 2 times, got 1")
    if steps is not None and steps != count:
        raise ScheduleError(
            f"grid: steps must be {count} for {len(times)} times with denoise={denoise}"
            f"{' (the clean level follows them)' if denoise else ''}, got steps={steps}"
        )
    result = sde.levels(times)
    return result if clean is None else [*result, clean]


def check_times(sde: SDE, times: Tensor | Sequence[float]) -> Tensor:
    """The times as (N,) float64 where they are finite, strictly decreasing and within the domain; else an error."""
    _process("grid", sde)
    given = times
    if not isinstance(times, Tensor):
        try:
            times = torch.tensor(times, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise InvalidType(
                f"grid: grid must be a name ({', '.join(NAMES)}), a function (sde, steps) -> times, or times, "
                f"got {describe(times)}"
            ) from error
    if times.ndim != 1 or len(times) == 0 or times.dtype == torch.bool or times.is_complex():
        raise InvalidType(f"grid: times must be real, of shape (N,) with N >= 1, got {describe(given)}")
    t = times.detach().to(device="cpu", dtype=torch.float64)
    if not bool(torch.isfinite(t).all()):
        raise ScheduleError(f"grid: times must be finite, got {t.tolist()[:8]}")
    slack = EDGE * sde.t_max
    if float(t.max()) > sde.t_max + slack or float(t.min()) < sde.t_min - slack:
        raise ScheduleError(
            f"grid: times must lie within {type(sde).__name__}'s [{sde.t_min:g}, {sde.t_max:g}], "
            f"got {float(t.max()):g} to {float(t.min()):g}"
        )
    t = t.clamp(sde.t_min, sde.t_max)
    # the ends of the domain in float32 are the ends
    for i, end in ((0, sde.t_max), (-1, sde.t_min)):
        if abs(float(t[i]) - end) <= EDGE * end:
            t[i] = end
    if bool((t[1:] >= t[:-1]).any()):
        i = int((t[1:] >= t[:-1]).nonzero()[0])
        raise ScheduleError(
            f"grid: times must decrease strictly, noisiest first, got {float(t[i]):g}, {float(t[i + 1]):g} at index {i}"
        )
    return t


def _fractions(owner: str, steps: int) -> Tensor:
    steps = whole(owner, "steps", steps, at_least=0, at_most=MOST)
    return torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64) if steps else torch.zeros(1, dtype=torch.float64)


def _process(owner: str, sde: SDE) -> None:
    if not isinstance(sde, SDE):
        raise InvalidType(f"{owner}: sde must be a process such as VPSDE(), got {describe(sde)}")


def _gaussian(name: str, sde: SDE) -> GaussianSDE:
    if not isinstance(sde, GaussianSDE):
        raise UnsupportedCombination(
            f"grid: {name!r} needs a GaussianSDE (an sde with alpha and sigma), "
            f"got {type(sde).__name__ if isinstance(sde, SDE) else describe(sde)}; try 'uniform'"
        )
    return sde


def _ended(sde: SDE, t: Tensor) -> Tensor:
    """The times with t_max and t_min at their ends, to the bit."""
    t[0] = sde.t_max
    if len(t) > 1:
        t[-1] = sde.t_min
    return t
