"""Randomness: the published bits, the law of every draw, and what a draw may and may not depend on."""

import ast
import hashlib
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from honest import correlation, dkw, proportion, sizes, uniform
from scipy import special, stats

import sdekit as sk
from sdekit.errors import InvalidArgument, InvalidType
from sdekit.noise import inverse_normal_cdf, philox

F32, F64 = torch.float32, torch.float64

KNOWN = [  # Random123 1.14, tests/kat_vectors, philox4x32 10: counter, key, answer
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]

LEVELS = sk.VPSDE().levels(torch.tensor([0.9, 0.5, 0.4], dtype=F64))
SOURCES = pytest.mark.parametrize("source", [sk.Noise, sk.KeyedNoise, sk.BrownianPath])


def path(noise, n, d=4, dtype=F64, t=LEVELS[0], s=LEVELS[1], stream="path"):
    """A draw of the interval between two levels."""
    return noise(torch.empty(n, d, dtype=dtype), t, s, stream=stream)


# Philox and the normal quantile


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_gives_the_published_answers(counter, key, answer):
    """Salmon et al. 2011 (doi 10.1145/2063384.2063405): its authors' known-answer vectors, by ints and by tensors."""
    assert philox(counter, key) == answer
    words = philox(tuple(torch.full((2, 3), c) for c in counter), key)
    for word, known in zip(words, answer, strict=True):
        assert torch.equal(word, torch.full((2, 3), known))


def test_philox_of_tensors_is_philox_of_ints():
    """In int64, whose products overflow, as in python's own integers: 300 counters with high bits set."""
    rng = np.random.default_rng(0)
    counters = rng.integers(0, 2**32, size=(4, 300), dtype=np.int64)
    key = (0xDEADBEEF, 0x9E3779B9)
    words = torch.stack(philox(tuple(torch.from_numpy(counters)), key))
    for i, counter in enumerate(counters.T.tolist()):
        assert tuple(words[:, i].tolist()) == philox(tuple(counter), key)


def test_the_normal_quantile_is_scipys():
    """scipy.special.ndtri to 1e-14 relative, from 1e-16 to 1 - 2^-53, tails and seams of the approximation included."""
    u = np.concatenate(
        [
            np.logspace(-16, np.log10(0.5), 4001),
            1 - np.logspace(-15.95, np.log10(0.5), 4001),
            np.linspace(1e-4, 1 - 1e-4, 4001),
            [2.0**-53, 1 - 2.0**-53, 0.075, 0.925, np.exp(-25), 0.5 - 1e-9, 0.5 + 1e-9],
        ]
    )
    # where u is within a bit of 1/2 the quantile is a bit: absolute there
    np.testing.assert_allclose(
        inverse_normal_cdf(torch.from_numpy(u)).numpy(), special.ndtri(u), rtol=1e-14, atol=1e-16
    )
    assert float(inverse_normal_cdf(torch.tensor([0.5], dtype=F64))) == 0.0


def test_the_normal_quantile_is_odd_and_increasing():
    u = torch.arange(1, 2**12, dtype=F64) / 2**12
    z = inverse_normal_cdf(u)
    assert torch.equal(z, -z.flip(0))
    assert bool((z.diff() > 0).all())


# Laws


@pytest.mark.statistical
@SOURCES
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_normals_are_normal(source, dtype, seed):
    """1e5 draws, by their distribution function and by the share of their tails; a shift of 0.05 is seen, and a tail
    that is cut off."""
    z = source((seed, 11)).normal((25_000, 4), stream="s", dtype=dtype).double().flatten().numpy()
    tail = 2 * stats.norm.sf(3)
    dkw(z, stats.norm.cdf, of=2).holds(detects=0.015)
    proportion(int((np.abs(z) > 3).sum()), z.size, tail, of=2).holds(detects=0.0015)
    dkw(z + 0.05, stats.norm.cdf, of=2).fails()
    proportion(int((np.abs(z) > 3.3).sum()), z.size, tail, of=2).fails()


@pytest.mark.statistical
@SOURCES
def test_path_increments_are_normal(source, seed):
    """1e5 draws; a deviation that is 7 % off is seen."""
    z = path(source((seed, 12)), 25_000).flatten().numpy()
    dkw(z, stats.norm.cdf).holds(detects=0.015)
    dkw(1.07 * z, stats.norm.cdf).fails()


@pytest.mark.statistical
@SOURCES
def test_uniforms_are_uniform_within_0_and_1(source, seed):
    """1e5 draws; their power 1.05 is seen."""
    u = source((seed, 13)).uniform(100_000, stream="s")
    assert u.shape == (100_000,)
    assert u.dtype == F64
    assert float(u.min()) > 0
    assert float(u.max()) < 1
    dkw(u, uniform).holds(detects=0.015)
    dkw(u**1.05, uniform).fails()


@pytest.mark.statistical
@SOURCES
def test_signs_are_fair_and_independent(source, seed):
    """+-1 with probability 1/2, and so are the products of two coordinates and of two rows: binomial. 0.51 is seen in
    the signs, 0.53 in the products."""
    like = torch.empty(20_000, 2, 2, dtype=F32)
    signs = source((seed, 14)).rademacher(like, stream="probe")
    assert signs.shape == like.shape
    assert signs.dtype == F32
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    v = signs.reshape(-1, 4)
    products = [v[:, i] * v[:, j] for i in range(4) for j in range(i)] + [v[1:, 0] * v[:-1, 0]]

    def fair(signs):
        return proportion(int((signs > 0).sum()), signs.numel(), 0.5, of=8)

    fair(signs).holds(detects=0.016)
    for product in products:
        fair(product).holds(detects=0.032)
    fair(torch.where(torch.arange(20_000) % 12 > 0, products[0], 1.0)).fails()  # one pair in twelve is one sign


def independent(a, b, of):
    """Two verdicts: no correlation of the values, nor of their sizes."""
    return correlation(a, b, of=2 * of), correlation(sizes(a), sizes(b), of=2 * of)


def holds(verdicts, detects):
    for verdict in verdicts:
        verdict.holds(detects=detects)


@pytest.mark.statistical
def test_draws_of_other_names_are_independent(seed):
    """Of another seed, stream, interval, direction of names, or end of an interval: 2e4 pairs each; a correlation of
    0.08 is seen."""
    t, s, r = LEVELS
    noise = sk.KeyedNoise(seed)
    draws = {
        "path": path(noise, 5000),
        "seed": path(sk.KeyedNoise(seed + 1), 5000),
        "seed's high bits": path(sk.KeyedNoise(seed + 2**40), 5000),
        "seed of two": path(sk.KeyedNoise((seed, 1)), 5000),
        "stream": path(noise, 5000, stream="corrector"),
        "stream 0": path(noise, 5000, stream=("corrector", 0)),
        "stream 1": path(noise, 5000, stream=("corrector", 1)),
        "interval": path(noise, 5000, t=s, s=r),
        "end": path(noise, 5000, t=t, s=r),
        "start": path(noise, 5000, t=s, s=t),
        "prior": noise.normal((5000, 4), stream="prior", dtype=F64),
        "data": noise.normal((5000, 4), stream="data", dtype=F64),
        "ids": path(sk.KeyedNoise(seed, torch.arange(5000, 10000)), 5000),
        "next ids": path(sk.KeyedNoise(seed, torch.arange(1, 5001)), 5000),
    }
    assert torch.equal(draws["next ids"][:-1], draws["path"][1:])  # the same ids, the same rows
    size = {name: sizes(draw) for name, draw in draws.items()}
    pairs = list(combinations(draws, 2))
    for a, b in pairs:
        correlation(draws[a], draws[b], of=2 * len(pairs)).holds(detects=0.07)
        correlation(size[a], size[b], of=2 * len(pairs)).holds(detects=0.07)
    mixed = 0.08 * draws["path"] + math.sqrt(1 - 0.08**2) * draws["seed"]
    correlation(draws["path"], mixed, of=2 * len(pairs)).fails()
    correlation(size["path"], sizes(-draws["path"]), of=2 * len(pairs)).fails()


@pytest.mark.statistical
def test_coordinates_of_a_row_are_independent(seed):
    """Among them those that come of one block of Philox: 2e4 pairs; a correlation of 0.08 is seen."""
    z = sk.KeyedNoise((seed, 8)).normal((20_000, 4), stream="s", dtype=F64)
    for i, j in combinations(range(4), 2):
        holds(independent(z[:, i], z[:, j], 6), 0.07)
    independent(z[:, 0], 0.08 * z[:, 0] + math.sqrt(1 - 0.08**2) * z[:, 1], 6)[0].fails()


@pytest.mark.parametrize("seeds", [(0, 1), ((0, 1), (1, 0)), (1, (1,)), ((1, 23), (12, 3)), (5, 5 + 2**32)], ids=str)
@SOURCES
def test_other_seeds_give_other_numbers(source, seeds):
    a, b = (source(seed).normal((4, 4), stream="s", dtype=F64) for seed in seeds)
    assert not bool((a == b).any())


# What a keyed draw depends on


def test_a_row_is_the_same_alone_in_a_batch_and_in_any_order():
    """Bit for bit, for every kind of draw."""
    n = 37
    noise = sk.KeyedNoise(1)
    order = torch.from_numpy(np.random.default_rng(0).permutation(n))
    like = torch.empty(n, 2, 3)
    for draw in (
        lambda noise, n: path(noise, n, 5),
        lambda noise, n: noise.normal((n, 2, 3), stream="s"),
        lambda noise, n: noise.uniform(n, stream="s"),
        lambda noise, n: noise.rademacher(like[:n], stream="s"),
    ):
        whole = draw(noise, n)
        assert torch.equal(draw(sk.KeyedNoise(1, order), n), whole[order])
        assert torch.equal(draw(noise.rows(order[:9]), 9), whole[order[:9]])
        for i in (0, 17, 36):
            assert torch.equal(draw(sk.KeyedNoise(1, [i]), 1)[0], whole[i])
        assert torch.equal(draw(noise, 7), whole[:7])  # without ids, rows count from 0


def test_rows_of_rows_are_the_rows():
    noise = sk.KeyedNoise(1, [10, 4, 7, 99]).rows(torch.tensor([3, 1, 0])).rows(torch.tensor([2, 1]))
    assert torch.equal(path(noise, 2), path(sk.KeyedNoise(1, [10, 4]), 2))


def test_an_event_is_its_coordinates_in_order_and_a_short_one_begins_a_long_one():
    """(B, 2, 3) is (B, 6) and begins (B, 9): coordinates are numbered, and a draw is stable under more of them."""
    noise = sk.KeyedNoise(2)
    long = noise.normal((5, 9), stream="s", dtype=F64)
    assert torch.equal(noise.normal((5, 2, 3), stream="s", dtype=F64).reshape(5, 6), long[:, :6])
    for d in range(10):
        assert torch.equal(noise.normal((5, d), stream="s", dtype=F64), long[:, :d])
    assert torch.equal(noise.normal((5,), stream="s", dtype=F64), long[:, 0])


@pytest.mark.parametrize("dtype", [F32, torch.float16, torch.bfloat16], ids=str)
def test_another_dtype_is_the_same_number_rounded(dtype):
    noise = sk.KeyedNoise(3)
    assert torch.equal(path(noise, 64, dtype=dtype), path(noise, 64).to(dtype))
    assert torch.equal(
        noise.normal((64, 3), stream="s", dtype=dtype), noise.normal((64, 3), stream="s", dtype=F64).to(dtype)
    )


def test_a_time_a_row_is_that_rows_interval():
    """A batch whose rows stand at different times draws, in each row, what a batch at that time draws there."""
    sde, noise = sk.VPSDE(), sk.KeyedNoise(4)
    x = torch.empty(3, 5, dtype=F64)
    t, s = torch.tensor([0.9, 0.5, 0.9], dtype=F64), torch.tensor([0.8, 0.4, 0.1], dtype=F64)
    rows = noise(x, sde.level(t, x), sde.level(s, x))
    for i in range(3):
        assert torch.equal(rows[i], noise(x, sde.level(t[i].item(), x), sde.level(s[i].item(), x))[i])
    shared = noise(x, sde.level(t, x), sde.level(0.1, x))
    assert torch.equal(shared[2], rows[2])


def test_a_keyed_draw_is_a_pure_function():
    """Neither earlier calls nor another object change it."""
    noise = sk.KeyedNoise(9)
    first = path(noise, 6), noise.uniform(6, stream="u"), noise.normal((6, 2), stream="s")
    noise.uniform(3, stream="between")
    again = path(noise, 6), noise.uniform(6, stream="u"), noise.normal((6, 2), stream="s")
    other = sk.KeyedNoise(9)
    fresh = path(other, 6), other.uniform(6, stream="u"), other.normal((6, 2), stream="s")
    for a, b, c in zip(first, again, fresh, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_the_numbers_of_a_seed_stay_the_same_between_versions():
    """A published seed keeps its meaning: SHA-256 of the bits of four draws."""
    noise = sk.KeyedNoise((2024, 7), [3, 0, 4_294_967_295])
    draws = [
        path(noise, 3, 5),
        noise.normal((3, 5), stream=("corrector", 1), dtype=F64),
        noise.uniform(3, stream="times"),
        noise.rademacher(torch.empty(3, 5, dtype=F64), stream="probe"),
    ]
    bits = b"".join(draw.numpy().astype("<f8").tobytes() for draw in draws)
    assert hashlib.sha256(bits).hexdigest()[:16] == "f39dbf3e2d7b1900"


@pytest.mark.parametrize("shape", [(0,), (0, 3), (4, 0), (0, 0)], ids=str)
@SOURCES
def test_nothing_is_drawn_for_nothing(source, shape):
    noise = source(0)
    assert noise.normal(shape, stream="s").shape == shape
    assert noise(torch.empty(shape), *LEVELS[:2]).shape == shape
    assert noise.rademacher(torch.empty(shape), stream="s").shape == shape
    assert noise.uniform(0, stream="s").shape == (0,)


# The fast source


def test_the_same_calls_give_the_same_numbers():
    a, b = ([path(noise, 5), noise.uniform(3, stream="u"), noise.normal((2, 2), stream="s")]
            for noise in (sk.Noise(3), sk.Noise(3)))  # fmt: skip
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    noise = sk.Noise(3)
    assert not bool((path(noise, 5) == path(noise, 5)).any())  # every call draws afresh


# One source, passed in


@SOURCES
def test_no_source_touches_torchs_generator_or_depends_on_it(source):
    model = sk.models.GaussianMixture(sk.VPSDE(), [1.0, 1.0], torch.zeros(2, 3), 1.0)

    def everything():
        noise = source(0)
        x0 = model.sample(5, noise, 0.5)
        loss = sk.losses.DenoisingScoreMatching()(model, x0, noise)
        prior = model.sde.prior.sample((5, 3), noise)
        return [x0, loss, prior, path(noise, 5), noise.uniform(4, stream="u"), noise.rademacher(x0, stream="p")]

    before = torch.get_rng_state()
    first = everything()
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(123)
        second = everything()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


DRAWS = {
    "normal_", "uniform_", "random_", "bernoulli_", "exponential_", "cauchy_", "log_normal_", "geometric_",
    "bernoulli", "multinomial", "poisson", "randperm",
}  # fmt: skip


def draws_in(source):
    """Names of random functions of torch that a file mentions."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if owner in {"np", "numpy"}:
                continue
            if node.attr.startswith("rand") or node.attr in DRAWS or (owner == "torch" and node.attr == "normal"):
                found.append(f"{owner}.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module == "torch":
            found += [alias.name for alias in node.names if alias.name.startswith("rand")]
    return found


def test_noise_alone_names_torchs_random_functions():
    """Every draw of the package comes from the source that it was given."""
    root = Path(sk.__file__).parent
    source = root / "noise" / "generator.py"
    assert {"torch.randn", "torch.rand", "torch.randint"} <= set(draws_in(source.read_text("utf-8")))
    others = {p: draws_in(p.read_text("utf-8")) for p in root.rglob("*.py") if p != source}
    assert len(others) > 20
    assert {str(p.relative_to(root)): found for p, found in others.items() if found} == {}


# What is refused


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        ([0, -1], InvalidArgument),
        ([2**32], InvalidArgument),
        ([3, 5, 3], InvalidArgument),
        ([0.0, 1.0], InvalidType),
        (torch.tensor([True, False]), InvalidType),
        (torch.tensor([1j]), InvalidType),
        (torch.tensor(3), InvalidType),
        (torch.tensor([[1], [2]]), InvalidType),
        (["a", "b"], InvalidType),
    ],
    ids=str,
)
def test_ids_that_name_no_rows_are_refused(ids, kind):
    with pytest.raises(kind, match="KeyedNoise: ids must"):
        sk.KeyedNoise(0, ids)


def test_no_ids_name_no_rows():
    """An empty batch has ids, too: an empty list."""
    assert path(sk.KeyedNoise(0, []), 0).shape == (0, 4)


@pytest.mark.parametrize("n", [1, 4])
def test_ids_of_another_batch_are_refused(n):
    noise = sk.KeyedNoise(0, [1, 2, 3])
    for draw in (
        lambda: path(noise, n),
        lambda: noise.normal((n,), stream="s"),
        lambda: noise.uniform(n, stream="s"),
        lambda: noise.rademacher(torch.empty(n, 2), stream="s"),
    ):
        with pytest.raises(InvalidArgument, match=f"ids must name every row, got 3 ids for {n} rows"):
            draw()


@pytest.mark.parametrize(
    ("seed", "kind"),
    [
        (-1, InvalidArgument),
        (2**63, InvalidArgument),
        ((1, -2), InvalidArgument),
        (0.5, InvalidType),
        ("0", InvalidType),
        (None, InvalidType),
        (True, InvalidType),
        ((1, 0.5), InvalidType),
    ],
    ids=str,
)
@SOURCES
def test_a_seed_that_is_none_is_refused(source, seed, kind):
    with pytest.raises(kind, match="seed must"):
        source(seed)
