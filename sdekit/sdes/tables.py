"""The literature's tables: DDPM's betas, NCSN's sigmas, and which of their levels a shorter run visits.

Betas and sigmas are float64 tensors of shape (N,), from the least noise to the most. A spacing gives the indices of the
levels that a run of fewer steps visits, rising from 0 to N - 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ..errors import MOST, InvalidArgument, InvalidType, ScheduleError, describe, number, one_of, whole

F64 = torch.float64


def linear(n: int = 1000, beta_min: float = 1e-4, beta_max: float = 0.02) -> Tensor:
    """DDPM's own: evenly spaced from beta_min to beta_max.  (Ho et al. 2020, section 4, arXiv:2006.11239.)"""
    return torch.linspace(*_ends("linear", n, beta_min, beta_max), dtype=F64)


def quadratic(n: int = 1000, beta_min: float = 1e-4, beta_max: float = 0.02) -> Tensor:
    """Square roots evenly spaced from sqrt(beta_min) to sqrt(beta_max).

    In Ho et al.'s code, and in latent diffusion with the ends 0.00085 and 0.012 (Rombach et al. 2022,
    arXiv:2112.10752).
    """
    low, high, n = _ends("quadratic", n, beta_min, beta_max)
    return torch.linspace(math.sqrt(low), math.sqrt(high), n, dtype=F64) ** 2


def sigmoid(n: int = 1000, beta_min: float = 1e-4, beta_max: float = 0.02, width: float = 6.0) -> Tensor:
    """beta_min + (beta_max - beta_min) / (1 + exp(-u)) with u evenly spaced from -width to width.

    (Xu et al. 2022, GeoDiff, arXiv:2203.02923, with width 6.)
    """
    low, high, n = _ends("sigmoid", n, beta_min, beta_max)
    width = number("sigmoid", "width", width, above=0.0, kind=ScheduleError)
    return low + (high - low) * torch.sigmoid(torch.linspace(-width, width, n, dtype=F64))


def constant(n: int = 1000, beta: float = 0.01) -> Tensor:
    """One beta for all steps.  (Sohl-Dickstein et al. 2015, arXiv:1503.03585; Ho et al. 2020, section 4.)"""
    n = whole("constant", "n", n, at_least=2, at_most=MOST)
    beta = number("constant", "beta", beta, above=0.0, below=1.0, kind=ScheduleError)
    return torch.full((n,), beta, dtype=F64)


def cosine(n: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> Tensor:
    """beta_i = min(1 - alpha_bar_i / alpha_bar_(i-1), max_beta) with alpha_bar that of ``CosineSDE`` at i / n.

    (Nichol & Dhariwal 2021, eq. 17, arXiv:2102.09672.)
    """
    n = whole("cosine", "n", n, at_least=2, at_most=MOST)
    offset = number("cosine", "offset", offset, at_least=0.0, kind=ScheduleError)
    max_beta = number("cosine", "max_beta", max_beta, above=0.0, below=1.0, kind=ScheduleError)
    phi = 0.5 * math.pi * (torch.arange(n + 1, dtype=F64) / n + offset) / (1 + offset)
    before, after = phi[:-1], phi[1:]
    # 1 - cos^2(after) / cos^2(before), without cancellation
    betas = torch.sin(after - before) * torch.sin(after + before) / torch.cos(before) ** 2
    return betas.clamp(max=max_beta)


def zero_terminal_snr(betas: Tensor, terminal: float = 2.0**-50) -> Tensor:
    """Betas rescaled so that no signal is left at the last level, while the first level stays as it is.

    a_i -> a_1 (a_i - a_N) / (a_1 - a_N) with a = sqrt(alpha_bar).  (Lin et al. 2024, algorithm 1, arXiv:2305.08891.)

    The last alpha_bar is ``terminal`` in place of 0, for which eps and log-SNR have no meaning: with 2^-50 the data are
    below the last bit of a float32 x_T. An eps-network cannot say what x0 is there: use VPrediction or X0.
    """
    b = check_betas("zero_terminal_snr", betas)
    terminal = number("zero_terminal_snr", "terminal", terminal, above=0.0, below=1.0, kind=ScheduleError)
    a = torch.exp(0.5 * -accumulated(-torch.log1p(-b)))
    a = a[0] * (a - a[-1]) / (a[0] - a[-1])
    bar = a * a
    bar[-1] = terminal
    if not float(bar[-2]) > terminal:
        raise ScheduleError(
            f"zero_terminal_snr: terminal must lie below the alpha_bar before it, {float(bar[-2]):g}, got {terminal:g}"
        )
    return 1 - bar / torch.cat([torch.ones(1, dtype=F64), bar[:-1]])


def geometric(n: int = 10, sigma_min: float = 0.01, sigma_max: float = 1.0) -> Tensor:
    """NCSN's noise levels: a geometric sequence from sigma_min to sigma_max.

    (Song & Ermon 2019, section 4.2, arXiv:1907.05600: 10 levels from 0.01 to 1; Song & Ermon 2020, technique 2,
    arXiv:2006.09011.)
    """
    n = whole("geometric", "n", n, at_least=2, at_most=MOST)
    low = number("geometric", "sigma_min", sigma_min, above=0.0, kind=ScheduleError)
    high = number("geometric", "sigma_max", sigma_max, above=low, kind=ScheduleError)
    sigmas = low * (high / low) ** torch.linspace(0, 1, n, dtype=F64)
    sigmas[-1] = high
    return sigmas


Spacing: TypeAlias = Callable[[int, int], Tensor]


def leading(n: int, steps: int) -> Tensor:
    """0, c, 2 c, ... with c = n // steps: the first level of each stride.  (Song et al. 2021 (DDIM), arXiv:2010.02502.)

    It leaves the last levels out: a run starts below the end of the table.
    """
    n, steps = _counts("leading", n, steps)
    return torch.arange(steps) * (n // steps)


def linspace(n: int, steps: int) -> Tensor:
    """Evenly spaced from 0 to n - 1, rounded: both ends are visited.  (Nichol & Dhariwal 2021, section 4.)"""
    n, steps = _counts("linspace", n, steps)
    if steps == 1:
        return torch.tensor([n - 1])
    return torch.round(torch.arange(steps, dtype=F64) * (n - 1) / (steps - 1)).long()


def trailing(n: int, steps: int) -> Tensor:
    """n - 1, n - 1 - n / steps, ..., rounded: the last level of each stride.  (Lin et al. 2024, arXiv:2305.08891.)"""
    n, steps = _counts("trailing", n, steps)
    return (torch.round(n - torch.arange(steps, dtype=F64) * n / steps).long() - 1).flip(0)


def quadratic_spacing(n: int, steps: int) -> Tensor:
    """floor(c i^2) up to 0.8 n: more levels near the data.  (Song et al. 2021 (DDIM), appendix D.2.)

    Where two would coincide, the later one is moved up to the next level.
    """
    n, steps = _counts("quadratic_spacing", n, steps)
    last = math.sqrt(0.8 * n)
    found = (torch.linspace(0 if steps > 1 else last, last, steps, dtype=F64) ** 2).floor().long().tolist()
    for i in range(1, steps):
        found[i] = max(found[i], found[i - 1] + 1)
    return torch.tensor(found)


SPACINGS: dict[str, Spacing] = {
    "linspace": linspace,
    "leading": leading,
    "trailing": trailing,
    "quadratic_leading": quadratic_spacing,
}


def spaced(n: int, steps: int, spacing: str) -> Tensor:
    """The indices of a spacing by name."""
    return SPACINGS[one_of("spacing", "spacing", spacing, SPACINGS)](n, steps)


def check_betas(owner: str, betas: object) -> Tensor:
    """The betas as (N,) float64 where N >= 2 and each lies in (0, 1), else a named error."""
    b = check_table(owner, "betas", betas)
    bad = ~((b > 0) & (b < 1))
    if bool(bad.any()):
        i = int(bad.nonzero()[0])
        raise ScheduleError(f"{owner}: betas must lie in (0, 1), got {float(b[i]):g} at index {i}")
    return b


def check_table(owner: str, name: str, values: object) -> Tensor:
    """The values as a float64 tensor of shape (N,) with N >= 2, on the host, else a named error."""
    try:
        table = values if isinstance(values, Tensor) else torch.as_tensor(values, dtype=F64)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InvalidType(f"{owner}: {name} must be numbers of shape (N,), got {describe(values)}") from error
    if table.dtype == torch.bool or table.is_complex():
        raise InvalidType(f"{owner}: {name} must be real numbers, got {describe(values)}")
    if table.ndim != 1 or len(table) < 2:
        raise InvalidArgument(f"{owner}: {name} must be of shape (N,) with N >= 2, got {describe(values)}")
    return table.detach().to(device="cpu", dtype=F64).clone()


def accumulated(values: Tensor) -> Tensor:
    """Running sums of (N,) in float64, each right to its last bit: Neumaier's compensated summation."""
    total, rest, sums = 0.0, 0.0, []
    for v in values.tolist():
        new = total + v
        rest += (total - new) + v if abs(total) >= abs(v) else (v - new) + total
        total = new
        sums.append(total + rest)
    return torch.tensor(sums, dtype=F64)


def _ends(owner: str, n: int, low: float, high: float) -> tuple[float, float, int]:
    n = whole(owner, "n", n, at_least=2, at_most=MOST)
    low = number(owner, "beta_min", low, above=0.0, below=1.0, kind=ScheduleError)
    high = number(owner, "beta_max", high, at_least=low, below=1.0, kind=ScheduleError)
    return low, high, n


def _counts(owner: str, n: int, steps: int) -> tuple[int, int]:
    n = whole(owner, "n", n, at_least=1, at_most=MOST)
    steps = whole(owner, "steps", steps, at_least=1)
    if steps > n:
        raise InvalidArgument(f"{owner}: steps must be at most the {n} levels of the table, got steps={steps}")
    return n, steps
