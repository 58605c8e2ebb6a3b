"""Randomness: one source, passed in. No function of sdekit touches torch's global generator.

A draw belongs to an interval of time and to a stream. ``noise(x, t, s)`` is the Brownian increment between the levels
s and t, scaled to a standard normal; corrector, churn, prior, loss and probe draws have streams of their own.

- :class:`Noise`: fast, batch-wide, independent draws from one torch generator a device.
- :class:`KeyedNoise`: counter-based; what a row receives depends on (seed, id, interval, stream) and on nothing else.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .errors import InvalidArgument, InvalidType, describe, whole
from .types import Device, Stream

Seed = int | Sequence[int]
"""A seed: an integer, or several, such as (seed, step), folded into one."""


class Noise:
    """Independent draws from torch generators of its own, one a device: fast, and the same for the same calls.

    The numbers that a row receives depend on the batch around it; :class:`KeyedNoise` is the source that does not.

    Example: ``z = Noise(seed=0).normal((64, 2), stream="prior")``.
    """

    def __init__(self, seed: Seed = 0):
        self.seed = seed
        self._seed = fold(seed)
        self._generators: dict[torch.device, torch.Generator] = {}

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(_word(self._seed))
        return self._generators[device]

    def __call__(self, x: Tensor, t: Any, s: Any, stream: Stream = "path") -> Tensor:
        """A standard normal like x; every call draws afresh, whatever the interval and the stream."""
        return torch.randn(x.shape, generator=self._generator(x.device), dtype=x.dtype, device=x.device)

    def normal(
        self, shape: Sequence[int], *, stream: Stream, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """Standard normals of the given shape (B, *event)."""
        device = torch.device(device or "cpu")
        return torch.randn(tuple(shape), generator=self._generator(device), dtype=dtype, device=device)

    def uniform(self, n: int, *, stream: Stream, device: Device = None) -> Tensor:
        """Numbers uniform on [0, 1), (n,) in float64."""
        device = torch.device(device or "cpu")
        return torch.rand(n, generator=self._generator(device), dtype=torch.float64, device=device)

    def rademacher(self, like: Tensor, *, stream: Stream) -> Tensor:
        """Independent signs, +1 or -1."""
        bits = torch.randint(0, 2, like.shape, generator=self._generator(like.device), device=like.device)
        return (2 * bits - 1).to(like.dtype)

    def __repr__(self) -> str:
        return f"Noise(seed={self.seed})"


class KeyedNoise:
    """Counter-based draws: row i receives the same numbers alone, in a batch of 512, and in any split or order.

    Every draw is Philox 4x32-10 of (seed; id, interval and stream, coordinate), turned into normals by Wichura's
    rational approximation of the inverse normal distribution function, in additions, multiplications, divisions and
    square roots of float64 alone. These are rounded alike everywhere: the same bits on every device, for every shape.
    A call is a pure function: to draw twice in one interval, name two streams.

    Salmon et al. 2011 (Random123, doi 10.1145/2063384.2063405); Wichura 1988 (AS 241, doi 10.2307/2347330).

    ``ids`` names the rows of the batch, one distinct whole number in [0, 2^32) each; without it they count from 0.
    Raises InvalidArgument where the batch has another number of rows than ids.
    """

    def __init__(self, seed: Seed = 0, ids: Tensor | Sequence[int] | None = None):
        self.seed = seed
        self._seed = fold(seed)
        self.ids = None if ids is None else _check_ids(ids)

    def rows(self, index: Tensor) -> KeyedNoise:
        """The noise of some rows of the batch."""
        if self.ids is None:
            return KeyedNoise(self.seed, index.cpu())
        return KeyedNoise(self.seed, self.ids[index.cpu()])

    def __call__(self, x: Tensor, t: Any, s: Any, stream: Stream = "path") -> Tensor:
        """The standard normal of the interval between the levels s and t: the same for the same ids and interval."""
        return self._normal(x.shape, self._draw(stream, t.t, s.t), x.dtype, x.device)

    def normal(
        self, shape: Sequence[int], *, stream: Stream, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """Standard normals of the given shape (B, *event)."""
        kind = dtype or torch.get_default_dtype()
        return self._normal(tuple(shape), self._draw(stream), kind, torch.device(device or "cpu"))

    def uniform(self, n: int, *, stream: Stream, device: Device = None) -> Tensor:
        """Numbers uniform on (0, 1), (n,) in float64: one a row."""
        return _open_uniform(*self._words(n, 1, self._draw(stream), torch.device(device or "cpu")))[:, 0]

    def rademacher(self, like: Tensor, *, stream: Stream) -> Tensor:
        """Independent signs, +1 or -1."""
        rows, width = like.shape[0], like[:1].numel() if like.shape[0] else 0
        high, _ = self._words(rows, width, self._draw(stream), like.device)
        return (2 * (high >> 31) - 1).to(like.dtype).reshape(like.shape)

    def _normal(self, shape: Sequence[int], draw: _Draw, dtype: torch.dtype, device: torch.device) -> Tensor:
        width = math.prod(shape[1:])
        u = _open_uniform(*self._words(shape[0], width, draw, device))
        return inverse_normal_cdf(u).to(dtype).reshape(tuple(shape))

    def _words(self, rows: int, width: int, draw: _Draw, device: torch.device) -> tuple[Tensor, Tensor]:
        """Two 32-bit words a coordinate, each (rows, width) in int64."""
        if self.ids is not None and len(self.ids) != rows:
            raise InvalidArgument(f"KeyedNoise: ids must name every row, got {len(self.ids)} ids for {rows} rows")
        ids = torch.arange(rows, device=device) if self.ids is None else self.ids.to(device)
        blocks = torch.arange((width + 1) // 2, device=device)
        low, high = (w.to(device).reshape(-1, 1) if isinstance(w, Tensor) else w for w in draw)
        key = (self._seed & MASK, self._seed >> 32)
        shape = (rows, len(blocks))
        w0, w1, w2, w3 = philox((blocks.expand(shape), ids[:, None].expand(shape), low, high), key)
        size = (rows, 2 * len(blocks))
        first, second = (torch.stack(pair, -1).reshape(size)[:, :width] for pair in ([w0, w2], [w1, w3]))
        return first, second

    def _draw(self, stream: Stream, t: float | Tensor = 0.0, s: float | Tensor = 0.0) -> _Draw:
        """64 bits that name a draw: Philox of the bits of t and s under the hash of the stream."""
        name = int.from_bytes(hashlib.blake2b(repr(stream).encode(), digest_size=8).digest(), "little")
        w = philox((*_bits(t), *_bits(s)), (name & MASK, name >> 32))
        return w[0], w[1]

    def __repr__(self) -> str:
        return f"KeyedNoise(seed={self.seed}{'' if self.ids is None else f', ids={len(self.ids)} rows'})"


Word = int | Tensor
_Draw = tuple[Word, Word]

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
        c0, c1, c2, c3 = ((p1 >> 32) & MASK) ^ c1 ^ k0, p1 & MASK, ((p0 >> 32) & MASK) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def inverse_normal_cdf(u: Tensor) -> Tensor:
    """The standard normal's quantile at u in (0, 1), float64, relative error about 1e-16 (Wichura 1988, PPND16)."""
    q = u - 0.5
    r = 0.180625 - q * q
    centre = q * _horner(r, CENTRE[0]) / _horner(r, CENTRE[1])
    tail = torch.sqrt(-_log(torch.minimum(u, 1.0 - u)))
    near = _horner(tail - 1.6, NEAR[0]) / _horner(tail - 1.6, NEAR[1])
    far = _horner(tail - 5.0, FAR[0]) / _horner(tail - 5.0, FAR[1])
    outer = torch.where(tail <= 5.0, near, far)
    return torch.where(q.abs() <= 0.425, centre, torch.where(q < 0, -outer, outer))


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
        value = value * x + c
    return value


def _open_uniform(high: Tensor, low: Tensor) -> Tensor:
    """52 bits as a number in (0, 1): never an end, so that its normal quantile is finite."""
    return (((high << 20) | (low >> 12)).to(torch.float64) + 0.5) * 2.0**-52


def _bits(t: float | Tensor) -> tuple[Word, Word]:
    if isinstance(t, Tensor):
        bits = t.to(torch.float64).reshape(-1).view(torch.int64)
        return bits & MASK, (bits >> 32) & MASK
    word = int.from_bytes(struct.pack("<d", t), "little")
    return word & MASK, word >> 32


def check_noise(owner: str, noise: object) -> None:
    """Raises InvalidType unless the value can be asked for draws, ``noise(x, t, s)``."""
    if not callable(noise) or isinstance(noise, type):
        raise InvalidType(f"{owner}: noise must be a source such as Noise(seed=0), got {describe(noise)}")


def fold(seed: Seed) -> int:
    """A seed in [0, 2^63): a non-negative int as it is, several ints by a hash."""
    if isinstance(seed, (tuple, list)):
        text = ",".join(str(whole("Noise", "seed", part, at_least=0)) for part in seed)
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
    value = whole("Noise", "seed", seed, at_least=0)
    if value >= 2**63:
        raise InvalidArgument(f"Noise: seed must be below 2^63, got {value}")
    return value


def _word(seed: int) -> int:
    """A seed as 32 bits, which is all that torch's generator on the CPU reads of it."""
    return (
        seed if seed <= MASK else int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=4).digest(), "little")
    )


def _check_ids(ids: Tensor | Sequence[int]) -> Tensor:
    try:
        # an empty list would be a tensor of floats
        ids = ids if isinstance(ids, Tensor) else torch.as_tensor(ids, dtype=None if len(ids) else torch.int64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidType(f"KeyedNoise: ids must be whole numbers of shape (B,), got {describe(ids)}") from error
    if ids.ndim != 1 or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise InvalidType(f"KeyedNoise: ids must be whole numbers of shape (B,), got {describe(ids)}")
    ids = ids.to(device="cpu", dtype=torch.int64)
    if len(ids) and (int(ids.min()) < 0 or int(ids.max()) > MASK):
        raise InvalidArgument(f"KeyedNoise: ids must lie in [0, 2^32), got {int(ids.min())} to {int(ids.max())}")
    if len(set(ids.tolist())) != len(ids):
        raise InvalidArgument("KeyedNoise: ids must be distinct, got one twice: rows of one id would be equal")
    return ids


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
