"""Metrics: the energy distance against its definition and closed forms, and the band of its noise floor."""

import math
from itertools import combinations, product

import numpy as np
import pytest
import torch
from honest import bounded, order
from scipy import stats
from scipy.spatial.distance import cdist

import sdekit as sk
from sdekit.errors import InvalidArgument, InvalidType
from sdekit.metrics import energy_distance, noise_floor

F64 = torch.float64


def normals(n, shape=(2,), seed=0, dtype=F64):
    return sk.Noise(seed).normal((n, *shape), stream="data", dtype=dtype)


def by_the_definition(x, y):
    """2 E|x - y| - E|x - x'| - E|y - y'| over pairs of different rows, one pair at a time."""
    x, y = (v.reshape(len(v), -1).double().numpy() for v in (x, y))

    def mean(a, b, same):
        pairs = [math.dist(p, q) for i, p in enumerate(a) for j, q in enumerate(b) if not (same and i == j)]
        return math.fsum(pairs) / len(pairs)

    return 2 * mean(x, y, False) - mean(x, x, True) - mean(y, y, True)


# The distance


@pytest.mark.parametrize(("n", "m"), [(2, 2), (2, 9), (17, 5), (40, 41)])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 2, 2)])
def test_the_distance_is_its_definition_pair_by_pair(n, m, shape):
    x, y = normals(n, shape, 1), 0.3 + 1.7 * normals(m, shape, 2)
    distance = energy_distance(x, y)
    assert distance.shape == ()
    assert distance.dtype == F64
    assert float(distance) == pytest.approx(by_the_definition(x, y), rel=1e-13, abs=1e-14)


def test_the_distance_of_many_rows_is_that_of_all_their_pairs():
    """More rows than are taken at a time, in both samples, and no multiple of it."""
    x, y = normals(2500, (2,), 1), 0.1 + normals(1030, (2,), 2)
    wanted = 2 * cdist(x, y).mean() - cdist(x, x).sum() / (2500 * 2499) - cdist(y, y).sum() / (1030 * 1029)
    assert float(energy_distance(x, y)) == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_two_point_masses_are_twice_their_distance_apart(dtype):
    x = torch.tensor([[3.0, 0.0]], dtype=dtype).repeat(4, 1)
    y = torch.tensor([[0.0, 4.0]], dtype=dtype).repeat(7, 1)
    assert float(energy_distance(x, y)) == 10.0
    assert float(energy_distance(x, x)) == 0.0


def test_a_coin_and_a_point():
    """Half of 2n rows at +1 and half at -1, against 0: 2 - 2 n / (2n - 1), that is 1 less the pairs with oneself."""
    for n in (1, 5, 50):
        x = torch.tensor([[1.0], [-1.0]], dtype=F64).repeat(n, 1)
        assert float(energy_distance(x, torch.zeros(3, 1))) == pytest.approx(2 - 2 * n / (2 * n - 1), abs=1e-13)


def test_the_distance_is_symmetric_and_does_not_know_the_order_of_rows():
    x, y = normals(30, seed=1), normals(20, seed=2)
    assert float(energy_distance(x, y)) == pytest.approx(float(energy_distance(y, x)), abs=1e-14)
    assert float(energy_distance(x.flip(0), y)) == pytest.approx(float(energy_distance(x, y)), abs=1e-14)


def test_the_distance_keeps_under_motions_and_grows_with_the_scale():
    """E(Rx + c, Ry + c) = E(x, y), E(k x, k y) = k E(x, y)."""
    x, y = normals(30, seed=1), 0.5 + normals(20, seed=2)
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=F64)
    wanted = float(energy_distance(x, y))
    assert float(energy_distance(x @ turn + 5, y @ turn + 5)) == pytest.approx(wanted, rel=1e-12)
    assert float(energy_distance(8 * x, 8 * y)) == pytest.approx(8 * wanted, rel=1e-14)


def test_close_rows_far_from_the_origin_do_not_cancel():
    """Distances of 1e-3 at 1e6, where |x|^2 - 2 x y + |y|^2 has no digit left."""
    x, y = torch.zeros(5, 2, dtype=F64) + 1e6, torch.zeros(5, 2, dtype=F64) + 1e6
    y[:, 0] += 2.0**-10
    assert float(energy_distance(x, y)) == 2.0**-9


def mean_distance(m, s):
    """E|Z| of Z from N(m, s^2)."""
    return s * math.sqrt(2 / math.pi) * math.exp(-((m / s) ** 2) / 2) + m * math.erf(m / (s * math.sqrt(2)))


@pytest.mark.parametrize(("m", "s"), [(0.0, 1.0), (0.4, 1.0), (0.0, 1.5), (-1.0, 0.3)])
def test_the_distance_of_normals_is_the_closed_form(m, s):
    """N(0, 1) against N(m, s^2): 2 E|x - y| - 2 / sqrt(pi) - 2 s / sqrt(pi), for the 2000 quantiles at midpoints.

    Of n such rows the mean over pairs of different ones exceeds that of the law by its n - 1st part.
    """
    n = 2000
    x = torch.from_numpy(stats.norm.ppf((np.arange(n) + 0.5) / n))[:, None]
    own = 2 * (1 + s) / math.sqrt(math.pi)
    closed = 2 * mean_distance(m, math.hypot(1, s)) - own * n / (n - 1)
    assert float(energy_distance(x, m + s * x)) == pytest.approx(closed, abs=2e-4)


@pytest.mark.parametrize("shape", [(), (2,), (1, 3, 3)])
def test_the_estimate_has_no_bias(shape):
    """The mean over all samples, of 3 and of 2 rows, of two laws on three points each is the distance of the laws. Of a
    law and itself it is 0, so that some estimates are below. The sum over all pairs divided by n^2 is far off."""
    atoms, others = normals(3, shape, 1), normals(3, shape, 2)
    p = [0.2, 0.3, 0.5]

    def between(a, b):
        rows = a.reshape(3, -1), b.reshape(3, -1)
        return float(torch.tensor(p, dtype=F64) @ torch.cdist(*rows) @ torch.tensor(p, dtype=F64))

    for b in (others, atoms):
        wanted = 2 * between(atoms, b) - between(atoms, atoms) - between(b, b)
        mean = over_all_pairs = 0.0
        estimates = []
        for i, j in product(product(range(3), repeat=3), product(range(3), repeat=2)):
            weight = math.prod(p[k] for k in i + j)
            x, y = atoms[list(i)], b[list(j)]
            estimates.append(float(energy_distance(x, y)))
            mean += weight * estimates[-1]
            own = [float(torch.cdist(v.reshape(len(v), -1), v.reshape(len(v), -1)).mean()) for v in (x, y)]
            cross = float(torch.cdist(x.reshape(3, -1), y.reshape(2, -1)).mean())
            over_all_pairs += weight * (2 * cross - sum(own))
        assert mean == pytest.approx(wanted, abs=1e-13)
        bias = between(atoms, atoms) / 3 + between(b, b) / 2
        assert over_all_pairs == pytest.approx(wanted + bias, abs=1e-13)
        assert bias > 0.1
        assert b is others or min(estimates) < 0 < max(estimates)


def test_the_distance_is_taken_in_double_and_keeps_no_gradient():
    x, y = normals(50, dtype=torch.float32).requires_grad_(), normals(60, seed=1, dtype=torch.float32)
    distance = energy_distance(x, y)
    assert not distance.requires_grad
    assert float(distance) == float(energy_distance(x.detach().double(), y.double()))


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda x: energy_distance(x, [1.0]), InvalidType, "energy_distance: y must be a tensor"),
        (lambda x: energy_distance(x.long(), x), InvalidType, "energy_distance: x must be of a floating-point dtype"),
        (lambda x: energy_distance(x, x / 0), InvalidArgument, "energy_distance: y must be finite"),
        (lambda x: energy_distance(x[:1], x), InvalidArgument, "energy_distance: x must hold at least 2 rows, got 1"),
        (lambda x: energy_distance(x, x[:0]), InvalidArgument, "energy_distance: y must hold at least 2 rows, got 0"),
        (lambda x: energy_distance(x, x[:, :1]), InvalidArgument, "must have events of one size, got 2 and 1"),
        (lambda x: energy_distance(x, x[0, 0]), InvalidArgument, r"y must be of shape \(B, \*event\)"),
        (lambda x: noise_floor(x[:1], x, 1), InvalidArgument, "noise_floor: real must hold at least 2 rows, got 1"),
        (lambda x: noise_floor(x, x[:1], 2), InvalidArgument, "noise_floor: reference must hold at least 2 rows"),
        (lambda x: noise_floor(x, x[:, :1], 2), InvalidArgument, "noise_floor: real and reference must have events"),
        (lambda x: noise_floor(x, x, 1), InvalidArgument, "noise_floor: n must be at least 2, got n=1"),
        (lambda x: noise_floor(x, x, 5), InvalidArgument, "n must be at most the 4 rows of real, got n=5"),
        (lambda x: noise_floor(x, x, 2.0), InvalidType, "noise_floor: n must be a whole number"),
        (lambda x: noise_floor(x, x, 2, repeats=1), InvalidArgument, "noise_floor: repeats must be at least 2"),
        (lambda x: noise_floor(x, x, 2, seed=-1), InvalidArgument, "seed must be at least 0, got seed=-1"),
    ],
)
def test_samples_that_are_none_are_named(call, kind, said):
    with pytest.raises(kind, match=said):
        call(torch.ones(4, 2))


# The noise floor


def test_the_floor_of_all_real_rows_is_their_own_distance():
    """n rows of n without replacement are all of them: one value, however often it is drawn."""
    real, reference = normals(60, seed=1), 0.2 + normals(90, seed=2)
    floor = noise_floor(real, reference, 60, repeats=20)
    own = float(energy_distance(real, reference))
    assert floor.mean == pytest.approx(own, abs=1e-13)
    assert floor.std < 1e-13
    assert (floor.low, floor.high) == pytest.approx((own, own), abs=1e-13)


@pytest.mark.statistical
@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_floor_is_the_law_of_subsets_by_enumeration(n, seed):
    """All subsets of 2, 3 or 5 of 6 rows against 5,000 draws: the mean to 0.4 of the deviation, the variance to 0.6 of
    itself. That of subsets of 4 is seen."""
    real, reference = normals(6, seed=1), normals(5, seed=2)

    def subsets(n):
        return np.sort([float(energy_distance(real[list(rows)], reference)) for rows in combinations(range(6), n)])

    all_of_them, draws = subsets(n), 5000
    centre, spread = all_of_them.mean(), all_of_them.std()
    floor = noise_floor(real, reference, n, repeats=draws, seed=seed)

    def verdicts(law):
        squares = (law - centre) ** 2
        second = floor.std**2 * (draws - 1) / draws + (floor.mean - centre) ** 2
        ends = law.min(), law.max()
        yield bounded(floor.mean, draws, law.mean(), *ends, sd=law.std(), of=2)
        yield bounded(second, draws, squares.mean(), 0.0, squares.max(), sd=squares.std(), of=2)

    mean, variance = verdicts(all_of_them)
    mean.holds(detects=0.4 * spread)
    variance.holds(detects=0.6 * spread**2)
    list(verdicts(subsets(4)))[1].fails()
    if n == 3:
        # one of twenty equally likely values ends below the 5th percentile: the ends are the first two and the last two
        assert all_of_them[0] - 1e-12 <= floor.low <= all_of_them[1] + 1e-12
        assert all_of_them[-2] - 1e-12 <= floor.high <= all_of_them[-1] + 1e-12


WRONG = {
    "shifted": lambda x: x + torch.tensor([0.6, 0.0]),
    "too narrow": lambda x: 0.6 * x,
    "no middle": lambda x: x.sign() * x.abs().clamp(min=1.0),
}


@pytest.mark.statistical
def test_a_sampler_as_good_as_the_data_falls_into_the_band_nine_times_in_ten(seed):
    """1,000 samples of 60 of the real rows: 0.05 below the band and 0.05 above it, to 0.1. Wrong samplers are above."""
    pool, reference = normals(2400, seed=(seed, 1)), normals(300, seed=(seed, 2))
    floor = noise_floor(pool, reference, 60, repeats=1000, seed=(seed, 3))
    rng = np.random.default_rng(seed)

    def samples(n):
        return [pool[rng.permutation(2400)[:60]] for _ in range(n)]

    def distances(rows):
        return np.array([float(energy_distance(x, reference)) for x in rows])

    fresh = distances(samples(1000))
    # the percentiles of 1000 lie between the 50th and the 51st from either end
    order(int((fresh < floor.low).sum()), 1000, (50, 51), 1000, of=2).holds(detects=0.13)
    order(int((fresh > floor.high).sum()), 1000, (50, 51), 1000, of=2).holds(detects=0.13)
    for wrong in WRONG.values():
        above = distances(wrong(x) for x in samples(100)) > floor.high
        order(int(above.sum()), 100, (50, 51), 1000, of=2).fails()


def test_the_references_own_luck_is_in_the_floor():
    """A reference that is off by 0.5 lifts the whole band: to real data it *is* that far."""
    pool = normals(1000, seed=1)
    straight, lifted = (noise_floor(pool, at + normals(300, seed=2), 100) for at in (0.0, 0.5))
    assert lifted.low > straight.high


def test_one_seed_is_one_floor():
    real, reference = normals(50, seed=1), normals(40, seed=2)
    floors = [noise_floor(real, reference, 20, repeats=30, seed=seed) for seed in (0, 0, 1, (0, 1))]
    assert floors[0] == floors[1]
    assert len({floor.mean for floor in floors}) == 3
