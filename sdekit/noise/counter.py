"""Counter-based numbers: Philox 4x32-10, and the normal quantile that turns its words into normals.

All of it is additions, multiplications, divisions and square roots, which are rounded alike on every device.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import real

Word = int | Tensor
"""32 bits: a python int, or an int64 tensor."""

MASK = 0xFFFFFFFF


def philox(counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """Philox 4x32-10: four 32-bit words from a counter of four and a key of two; python ints, or int64 tensors.

    Salmon et al. 2011, section 3.3 (doi 10.1145/2063384.2063405).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # the product's 64 bits are right whether or not int64 reads the top one as a sign
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        h0, h1 = p0 >> 32, p1 >> 32
        # in place, where a tensor is this round's own
        h0 &= MASK
        h1 &= MASK
        p0 &= MASK
        p1 &= MASK
        h0, h1 = h0 ^ c3, h1 ^ c1
        h0 ^= k1
        h1 ^= k0
        c0, c1, c2, c3 = h1, p1, h0, p0
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def inverse_normal_cdf(u: Tensor) -> Tensor:
    """The standard normal's quantile at u in (0, 1), float64, relative error about 1e-16 (Wichura 1988, PPND16)."""
    u = real("inverse_normal_cdf", "u", u, "(...)")
    q = u - 0.5
    r = 0.180625 - q * q
    centre = q * _horner(r, CENTRE[0]) / _horner(r, CENTRE[1])
    if u.device.type != "cpu":
        return torch.where(q.abs() <= 0.425, centre, _tail(u, q))
    # the same numbers: on the host, where asking costs nothing, the tails alone go on
    outer = q.abs() > 0.425
    return centre.masked_scatter_(outer, _tail(u[outer], q[outer])) if bool(outer.any()) else centre


def _tail(u: Tensor, q: Tensor) -> Tensor:
    root = torch.sqrt(-_log(torch.minimum(u, 1.0 - u)))
    near = _horner(root - 1.6, NEAR[0]) / _horner(root - 1.6, NEAR[1])
    far = _horner(root - 5.0, FAR[0]) / _horner(root - 5.0, FAR[1])
    z = torch.where(root <= 5.0, near, far)
    return torch.where(q < 0, -z, z)


def _log(x: Tensor) -> Tensor:
    # not torch.log: libraries differ in its last bit between devices and between positions in a vector
    m, e = torch.frexp(x)
    small = m < math.sqrt(0.5)
    m = torch.where(small, 2 * m, m)
    e = e.to(torch.float64) - small.to(torch.float64)
    z = (m - 1.0) / (m + 1.0)
    return e * math.log(2) + 2 * z * _horner(z * z, [1 / (2 * k + 1) for k in range(13)])


def _horner(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    value = torch.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value.mul_(x).add_(c)
    return value


def open_uniform(high: Tensor, low: Tensor) -> Tensor:
    """52 bits as a number in (0, 1): never an end, so that its normal quantile is finite."""
    return (((high << 20) | (low >> 12)).to(torch.float64) + 0.5) * 2.0**-52


def bits(t: float | Tensor) -> tuple[Word, Word]:
    """The 64 bits of a float64 as two words, the low one first."""
    if isinstance(t, Tensor):
        words = t.to(torch.float64).reshape(-1).view(torch.int64)
        return words & MASK, (words >> 32) & MASK
    word = int.from_bytes(struct.pack("<d", t), "little")
    return word & MASK, word >> 32


# Wichura 1988, AS 241, PPND16: (numerator, denominator), lowest power first
CENTRE = (
    [
        3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
        4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3,
    ],
    [
        1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
        2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3,
    ],
)  # fmt: skip
NEAR = (
    [
        1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
        1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4,
    ],
    [
        1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
        1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9,
    ],
)  # fmt: skip
FAR = (
    [
        6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
        2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7,
    ],
    [
        1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
        7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15,
    ],
)  # fmt: skip
