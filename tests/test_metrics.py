"""Metrics: every distance against its definition and closed forms, its interval, and the band of its noise floor."""

import math
from itertools import combinations, product

import numpy as np
import pytest
import torch
from honest import bounded, order
from scipy import linalg, stats
from scipy.spatial.distance import cdist
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

import sdekit as sk
from sdekit.errors import InvalidArgument, InvalidType
from sdekit.metrics import (
    MMD,
    CovarianceError,
    EnergyDistance,
    GaussianWasserstein,
    MeanError,
    NearestNeighbours,
    SlicedWasserstein,
    energy_distance,
    noise_floor,
)
from sdekit.metrics.base import bootstrap

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


# The same, with one side that stays


def flat(x):
    return x.reshape(len(x), -1).double().numpy()


def every_distance(reference):
    """Each distance to a reference, by its name."""
    kinds = (EnergyDistance, MMD, SlicedWasserstein, NearestNeighbours)
    moments = (GaussianWasserstein, MeanError, CovarianceError)
    return {d.name: d for d in [*(kind(reference) for kind in kinds), *(kind.of(reference) for kind in moments)]}


PAIRS = {"energy distance", "squared MMD", "classifier"}
"""Distances for which a row that counts twice is not two rows: no pair of a row and itself is compared."""

each_distance = pytest.mark.parametrize("name", every_distance(normals(9)))
repeating = pytest.mark.parametrize("name", [n for n in every_distance(normals(9)) if n not in PAIRS])


@pytest.mark.parametrize("shape", [(), (3,), (1, 2, 2)])
def test_the_energy_distance_is_the_function_whatever_the_chunks(shape):
    x, y = normals(30, shape, 1), 0.3 + 1.7 * normals(1100, shape, 2)
    assert float(EnergyDistance(y)(x)) == float(energy_distance(x, y))
    assert float(EnergyDistance(y[:20])(x)) == pytest.approx(by_the_definition(x, y[:20]), rel=1e-13)


@pytest.mark.parametrize("widths", [(0.25, 0.5, 1.0, 2.0, 4.0), (0.7,)])
@pytest.mark.parametrize("shape", [(), (3,), (1, 2, 2)])
def test_mmd_is_its_definition_pair_by_pair(shape, widths):
    """E k(x, x') + E k(y, y') - 2 E k(x, y), each kernel by its own exponential, with the median of all distances."""
    x, y = 0.4 + normals(11, shape, 1), 1.3 * normals(8, shape, 2)
    a, b = flat(x), flat(y)
    apart = sorted(math.dist(p, q) for p, q in combinations(b, 2))
    median = apart[(len(apart) - 1) // 2]

    def kernel(p, q):
        return sum(math.exp(-sum((p - q) ** 2) / (2 * (w * median) ** 2)) for w in widths) / len(widths)

    def own(v):
        return 2 * sum(kernel(p, q) for p, q in combinations(v, 2)) / (len(v) * (len(v) - 1))

    cross = sum(kernel(p, q) for p, q in product(a, b)) / (len(a) * len(b))
    distance = MMD(y, widths)
    assert distance.median == pytest.approx(median, rel=1e-14)
    assert float(distance(x)) == pytest.approx(own(a) + own(b) - 2 * cross, rel=1e-12, abs=1e-14)


def test_mmd_of_distant_points_is_two_less_the_kernels_of_copies():
    """Every row of x far from every row of y: k(x, y) = 0, so what is left is E k(x, x') + E k(y, y')."""
    y = torch.tensor([[0.0], [1.0], [2.0]], dtype=F64)
    x = torch.full((4, 1), 1e6, dtype=F64)
    own = (2 * math.exp(-0.5) + math.exp(-2.0)) / 3
    assert float(MMD(y, [1.0])(x)) == pytest.approx(1 + own, rel=1e-14)


def brute_sliced(x, y, axes):
    """Each side repeated until both are equally many, sorted, and subtracted."""
    total = 0.0
    for axis in axes:
        u, v = np.sort(np.repeat(x @ axis, len(y))), np.sort(np.repeat(y @ axis, len(x)))
        total += np.mean((u - v) ** 2)
    return math.sqrt(total / len(axes))


@pytest.mark.parametrize(("n", "m"), [(2, 2), (7, 7), (6, 4), (5, 13), (12, 3)])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 2, 2)])
def test_the_sliced_distance_is_that_of_repeated_rows(n, m, shape):
    x, y = normals(n, shape, 1), 0.3 + 1.7 * normals(m, shape, 2)
    distance = SlicedWasserstein(y, projections=9)
    axes = distance.axes.numpy()
    assert axes.shape == (9 if math.prod(shape) > 1 else 1, max(1, math.prod(shape)))
    assert np.allclose((axes**2).sum(1), 1.0, atol=1e-15)
    assert float(distance(x)) == pytest.approx(brute_sliced(flat(x), flat(y), axes), rel=1e-12)


def test_the_sliced_distance_of_a_shift_is_the_shifts_own_projection():
    """Quantiles move by u.c: SW^2 = mean (u.c)^2, about |c|^2 / D. In one dimension W of normals is closed."""
    x, shift = normals(40, (3,)), torch.tensor([1.0, -2.0, 2.0], dtype=F64)
    distance = SlicedWasserstein(x, projections=4000)
    moved = float(distance(x + shift))
    assert moved == pytest.approx(float((distance.axes @ shift).square().mean().sqrt()), rel=1e-12)
    assert moved == pytest.approx(math.sqrt(9 / 3), rel=0.05)
    quantiles = torch.from_numpy(stats.norm.ppf((np.arange(4000) + 0.5) / 4000))
    for m, s in ((0.4, 1.0), (0.0, 1.5), (-1.0, 0.3)):
        found = float(SlicedWasserstein(quantiles)(m + s * quantiles))
        assert found == pytest.approx(math.hypot(m, s - 1), rel=2e-3)


def test_directions_come_from_the_seed():
    y = normals(5, (4,))
    a, b, c = (SlicedWasserstein(y, 6, seed=seed).axes for seed in (0, 0, (0, 1)))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def gaussians(d, seed):
    """Moments of a law in d dimensions."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(d, d))
    return rng.normal(size=d), root @ root.T + 0.1 * np.eye(d)


def with_moments(mean, covariance, n=50, seed=3):
    """Rows whose own moments, the covariance without bias, are exactly these."""
    z = normals(n, mean.shape, seed).numpy()
    z = z - z.mean(0)
    z = z @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T).reshape(len(mean), -1))).T
    return torch.from_numpy(mean + z @ np.linalg.cholesky(covariance).T)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_gaussian_distance_is_that_of_scipys_roots(d):
    (m, c), (n, e) = gaussians(d, 1), gaussians(d, 2)
    root = linalg.sqrtm(c)
    square = np.sum((m - n) ** 2) + np.trace(c + e - 2 * linalg.sqrtm(root @ e @ root)).real
    assert float(GaussianWasserstein(m, c)(with_moments(n, e))) == pytest.approx(math.sqrt(square), rel=1e-9)
    fid = np.sum((m - n) ** 2) + np.trace(c + e - 2 * linalg.sqrtm(c @ e)).real
    assert fid == pytest.approx(square, rel=1e-9)


def test_the_gaussian_distance_of_covariances_that_commute_is_that_of_their_roots():
    """C = Q diag(a^2) Q^T and diag(b^2): |m - n|^2 + |a - b|^2, also where some of them are 0."""
    turn, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    a, b, m = np.array([2.0, 0.5, 0.0]), np.array([1.0, 1.5, 0.25]), np.array([3.0, 0.0, 4.0])
    x = with_moments(m, turn * b**2 @ turn.T)
    found = float(GaussianWasserstein(np.zeros(3), turn * a**2 @ turn.T)(x))
    assert found == pytest.approx(math.sqrt(25 + ((a - b) ** 2).sum()), rel=1e-9)
    assert float(GaussianWasserstein(m, turn * b**2 @ turn.T)(x)) < 1e-6


def test_errors_of_moments_are_their_definitions():
    (m, c), (n, e) = gaussians(3, 1), gaussians(3, 2)
    x = with_moments(n, e)
    assert float(MeanError(m, c)(x)) == pytest.approx(np.linalg.norm(m - n) / math.sqrt(np.trace(c)), rel=1e-12)
    assert float(CovarianceError(m, c)(x)) == pytest.approx(np.linalg.norm(c - e) / np.linalg.norm(c), rel=1e-9)
    # numbers of Python's are taken in double
    assert float(MeanError([0.1] * 3, (0.01 * np.eye(3)).tolist())(torch.full((2, 3), 0.1, dtype=F64))) < 1e-15


@pytest.mark.parametrize("kind", [GaussianWasserstein, MeanError, CovarianceError])
def test_moments_of_a_reference_are_numpys(kind):
    y, x = normals(30, (1, 2, 2), 1), 0.2 + normals(20, (1, 2, 2), 2)
    rows = flat(y)
    own = kind(rows.mean(0).reshape(1, 2, 2), np.cov(rows.T))
    assert float(kind.of(y)(x)) == pytest.approx(float(own(x)), rel=1e-10)


@pytest.mark.parametrize("neighbours", [1, 3, 5])
@pytest.mark.parametrize("shape", [(), (2,), (1, 2, 2)])
def test_the_classifier_is_scikit_learns_with_one_row_left_out(neighbours, shape):
    x, y = 0.7 + normals(24, shape, 1), normals(30, shape, 2)
    both, labels = np.concatenate([flat(x), flat(y)[:24]]), np.repeat([0, 1], 24)
    right = 0
    for i in range(48):
        others = np.arange(48) != i
        asked = KNeighborsClassifier(neighbours, algorithm="brute").fit(both[others], labels[others])
        right += int(asked.predict(both[i : i + 1])[0] == labels[i])
    assert float(NearestNeighbours(y, neighbours)(x)) == pytest.approx(right / 48, abs=1e-15)


def test_the_classifier_of_many_rows_is_that_of_all_their_neighbours():
    """More rows than are taken at a time."""
    x, y = 0.5 + normals(600, (2,), 1), normals(700, (2,), 2)
    both = np.concatenate([flat(x), flat(y)[:600]])
    near = NearestNeighbors(n_neighbors=6).fit(both).kneighbors(both, return_distance=False)[:, 1:]
    says_real = (near >= 600).sum(1) >= 3
    assert float(NearestNeighbours(y)(x)) == pytest.approx(np.mean(says_real == np.repeat([False, True], 600)))


def test_samples_far_from_the_data_are_all_told_and_copies_of_the_data_are_not():
    y = normals(40, (2,))
    assert float(NearestNeighbours(y)(y + 100)) == 1.0
    # each row and its copy are each other's nearest: none is told
    assert float(NearestNeighbours(y, 1)(y)) == 0.0


@pytest.mark.parametrize("n", [3, 40])
@each_distance
def test_a_distance_of_counts_of_one_is_the_distance(name, n):
    """And the order of the rows is nothing to it."""
    x, y = 0.3 + normals(n, seed=1), normals(50, seed=2)
    distance = every_distance(y)[name]
    value = distance(x)
    assert value.shape == ()
    assert value.dtype == F64
    assert float(distance.values(x, torch.ones(3, n, dtype=F64))[2]) == pytest.approx(float(value), rel=1e-12)
    assert float(distance(x.flip(0))) == pytest.approx(float(value), rel=1e-9, abs=1e-12)


@repeating
def test_a_row_that_counts_three_times_is_three_rows(name):
    x, y = 0.3 + normals(6, seed=1), normals(10, seed=2)
    distance = every_distance(y)[name]
    counts = torch.tensor([[3.0, 0.0, 1.0, 1.0, 2.0, 0.0], [1.0, 1.0, 0.0, 5.0, 0.0, 1.0]], dtype=F64)
    wanted = [float(distance(x.repeat_interleave(line.long(), 0))) for line in counts]
    assert distance.values(x, counts).tolist() == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("kind", [EnergyDistance, MMD])
def test_counts_weigh_the_pairs_of_different_rows(kind):
    """sum w_i w_j d_ij over i != j: a row and its copy, which are 0 apart, are no pair."""
    x, y = 0.3 + normals(5, seed=1), normals(6, seed=2)
    distance = kind(y)
    w = [3.0, 0.0, 1.0, 2.0, 1.0]

    def d(p, q):
        return float(distance.between(torch.tensor(math.dist(p, q), dtype=F64)))

    a, b = flat(x), flat(y)
    cross = sum(w[i] * d(a[i], q) for i in range(5) for q in b) / (sum(w) * 6)
    pairs = [(w[i] * w[j], d(a[i], a[j])) for i in range(5) for j in range(5) if i != j]
    own = sum(v * e for v, e in pairs) / sum(v for v, _ in pairs)
    of_b = sum(d(p, q) for p, q in combinations(b, 2)) / 15
    found = float(distance.values(x, torch.tensor([w], dtype=F64))[0])
    assert found == pytest.approx(2 * cross - own - of_b, rel=1e-12)


def test_a_sampled_rows_answer_counts_as_often_as_the_row():
    y = torch.arange(10.0, dtype=F64)[:, None]
    x = torch.cat([y[:5] + 100, y[5:] + 0.25])  # the first five are told, of the others none
    distance = NearestNeighbours(y, 1)
    told, not_told = (torch.tensor([line], dtype=F64) for line in ([1.0] * 5 + [0.0] * 5, [0.0] * 5 + [1.0] * 5))
    of_reference = float(distance.values(x, told)[0]) - 0.5
    assert float(distance.values(x, not_told)[0]) == pytest.approx(of_reference, abs=1e-15)
    mixed = torch.tensor([[3.0] + [0.0] * 8 + [1.0]], dtype=F64)
    assert float(distance.values(x, mixed)[0]) == pytest.approx(of_reference + 0.5 * 0.75, abs=1e-15)


@each_distance
def test_the_floor_is_the_distance_of_subsets_one_at_a_time(name):
    """Also where each pair of rows is compared once for all of them."""
    real, reference = normals(25, seed=1), 0.2 + normals(20, seed=2)
    distance = every_distance(reference)[name]
    noise = sk.Noise(3)
    subsets = [real[noise.uniform(25, stream="rows").argsort()[:10]] for _ in range(12)]
    values = np.array([float(distance(x)) for x in subsets])
    floor = distance.floor(real, 10, repeats=12, seed=3)
    assert floor.mean == pytest.approx(values.mean(), abs=1e-12)
    assert floor.std == pytest.approx(values.std(ddof=1), abs=1e-12)
    assert (floor.low, floor.high) == pytest.approx(tuple(np.quantile(values, [0.05, 0.95])), abs=1e-12)
    assert len(set(values)) > 3


@each_distance
def test_a_wrong_law_is_far_above_the_floor(name):
    """Twice as wide and off by the deviation: every distance sees it."""
    real, reference = normals(600, seed=1), normals(200, seed=2)
    distance = every_distance(reference)[name]
    floor = distance.floor(real, 100, repeats=40)
    wrong = 1 + 2 * normals(100, seed=3)
    assert float(distance(wrong)) > floor.high + 4 * floor.std
    assert distance.interval(wrong, repeats=40).low > floor.high


@each_distance
def test_distances_are_taken_in_double_and_keep_no_gradient(name):
    x, y = normals(30, dtype=torch.float32).requires_grad_(), normals(40, seed=1, dtype=torch.float32)
    value = every_distance(y)[name](x)
    assert not value.requires_grad
    assert float(value) == pytest.approx(float(every_distance(y.double())[name](x.detach().double())), rel=1e-12)


# Intervals


def test_the_interval_is_the_basic_bootstrap():
    """2 v - q_high to 2 v - q_low of the same draws, by NumPy's quantiles; a level of 0.5 lies within one of 0.9."""
    x = normals(15)[:, 0]
    noise = sk.Noise(7)
    draws = []
    for _ in range(60):
        rows = (noise.uniform(15, stream="rows") * 15).long()
        draws.append(float(x[rows].mean()))
    found = bootstrap("mean", lambda counts: counts @ x / counts.sum(1), 15, repeats=60, level=0.9, seed=7)
    low, high = np.quantile(draws, [0.05, 0.95])
    value = float(x.mean())
    assert found == pytest.approx((value, 2 * value - high, 2 * value - low), abs=1e-13)
    inner = bootstrap("mean", lambda counts: counts @ x / counts.sum(1), 15, repeats=60, level=0.5, seed=7)
    assert found.low < inner.low < inner.high < found.high


@pytest.mark.statistical
def test_an_interval_holds_the_mean_about_as_often_as_its_level(seed):
    """The mean of 100 uniforms, which is normal as its draws are: of 61 draws the 4th from either end bound the level
    0.9, and the mean lies between them in 1 - 8/62 of all cases. Intervals of half the width hold it less often."""
    trials, n, level = 1000, 100, 54 / 62
    held = halves = 0
    for i in range(trials):
        x = sk.Noise((seed, 1, i)).uniform(n, stream="data")
        found = bootstrap("mean", lambda counts, x=x: counts @ x / n, n, repeats=61, level=0.9, seed=(seed, 2, i))
        held += found.low <= 0.5 <= found.high
        halves += abs(found.value - 0.5) <= (found.high - found.low) / 4
    bounded(held / trials, trials, level, 0.0, 1.0).holds(detects=0.15)
    bounded(halves / trials, trials, level, 0.0, 1.0).fails()


@each_distance
def test_one_seed_is_one_interval_and_it_is_around_the_value(name):
    x, y = 0.5 + normals(40, seed=1), normals(60, seed=2)
    distance = every_distance(y)[name]
    a, b, c, d = (distance.interval(x, repeats=20, seed=seed) for seed in (0, 0, 1, (0, 1)))
    assert a == b
    assert len({a.low, c.low, d.low}) == 3
    assert a.value == c.value == pytest.approx(float(distance(x)), rel=1e-12)
    assert a.low < a.high


@pytest.mark.parametrize("n", [2, 3, 4])
@each_distance
def test_intervals_of_few_rows_are_finite(name, n):
    """Draws of one row alone, half of them where there are two, have no pair: they are drawn again."""
    y = normals(9, seed=2)
    distance = NearestNeighbours(y, 1) if name == "classifier" else every_distance(y)[name]
    found = distance.interval(normals(n, seed=1), repeats=50)
    assert all(map(math.isfinite, found))


# What is refused


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda x: MMD(x.flip(0).repeat(1, 1) * 0), InvalidArgument, "MMD: reference must have rows that differ"),
        (lambda x: MMD(x, []), InvalidType, "MMD: widths must be a list of numbers > 0"),
        (lambda x: MMD(x, [1.0, 0.0]), InvalidArgument, "MMD: widths must be finite and > 0, got widths=0"),
        (lambda x: NearestNeighbours(x, 2), InvalidArgument, "NearestNeighbours: neighbours must be odd"),
        (
            lambda x: NearestNeighbours(x)(normals(5)),
            InvalidArgument,
            "at most the 4 rows of the reference",
        ),
        (lambda x: NearestNeighbours(x, 5)(x[:2]), InvalidArgument, "x must have more than 2 rows for 5 neighbours"),
        (lambda x: SlicedWasserstein(x, 0), InvalidArgument, "SlicedWasserstein: projections must be at least 1"),
        (lambda x: MeanError([0.0, 0.0], torch.zeros(2, 2)), InvalidArgument, "covariance must be positive semi"),
        (lambda x: MeanError([0.0, 0.0], torch.diag(torch.tensor([1.0, -0.1]))), InvalidArgument, "positive semi"),
        (
            lambda x: MeanError([0.0, 0.0], torch.eye(3)),
            InvalidArgument,
            r"symmetric, of shape \(2, 2",
        ),
        (lambda x: MeanError([0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]]), InvalidArgument, "covariance must be symmetric"),
        (lambda x: MeanError([0.0, math.nan], torch.eye(2)), InvalidArgument, "MeanError: mean must be finite"),
        (lambda x: MeanError(["a", "b"], torch.eye(2)), InvalidType, "MeanError: mean must be numbers"),
        (lambda x: MeanError([1j, 0], torch.eye(2)), InvalidType, "MeanError: mean must be real numbers"),
        (lambda x: MeanError.of(x[:1]), InvalidArgument, "MeanError: reference must hold at least 2 rows"),
        (lambda x: EnergyDistance(x).interval(x, level=1.0), InvalidArgument, "EnergyDistance: level must be"),
        (
            lambda x: EnergyDistance(x).interval(x, repeats=1),
            InvalidArgument,
            "Distance: repeats must be at least",
        ),
        (
            lambda x: EnergyDistance(x).floor(x, 5),
            InvalidArgument,
            "Distance: n must be at most the 4 rows of real",
        ),
        (lambda x: EnergyDistance(x).floor(x[:, :1], 2), InvalidArgument, "EnergyDistance: real must have events of 2"),
    ],
)
def test_a_distance_that_is_none_is_named(call, kind, said):
    with pytest.raises(kind, match=said):
        call(normals(4))


@each_distance
def test_samples_of_another_size_are_named(name):
    with pytest.raises(InvalidArgument, match="x must have events of 2 numbers, as the reference has, got 3"):
        every_distance(normals(9))[name](normals(5, (3,)))
