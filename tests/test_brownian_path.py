"""The Brownian path: increments that add up, their law, and what a row's path depends on."""

import math
from itertools import combinations, pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from honest import correlation, dkw, sizes, variance
from problems import F64, gaussians, last
from scipy import stats
from subjects import solvers

import sdekit as sk
from sdekit.errors import InvalidArgument
from sdekit.noise.path import DEPTH, _nodes
from sdekit.solvers import Ancestral, EulerMaruyama

LEAF = 2.0**-DEPTH


def at(clock):
    """A level of nothing but a clock."""
    return SimpleNamespace(clock=clock, t=clock)


def z(noise, a, b, rows=2, width=3, dtype=F64):
    """The draw of the clock's interval [a, b]."""
    return noise(torch.empty(rows, width, dtype=dtype), at(b), at(a))


def increment(noise, a, b, rows=2, width=3):
    """W(b) - W(a)."""
    return math.sqrt(b - a) * z(noise, a, b, rows, width)


TRIPLES = [
    (1.25, 1.5, 1.75),  # within an octave
    (0.7, 1.3, 1.9),  # across one boundary
    (0.3, 1.0, 77.0),  # from a boundary, and over many
    (1e-12, 1e-3, 1e10),
    (0.0, 1e-9, 1.0),  # from the clean level's clock
    (0.0, 1e-60, 1e-45),  # below the lowest octave
    (1.0, 1.0 + 2**-40, 1.0 + 2**-39),  # below the tree's own resolution
    (math.pi, math.pi * (1 + 2**-20), math.pi * (1 + 2**-10)),
    (4.0 - 1e-9, 4.0, 4.0 + 1e-9),
]


@pytest.mark.parametrize(("a", "b", "c"), TRIPLES)
def test_increments_add_up(a, b, c):
    """W(a, c) = W(a, b) + W(b, c) to 4e-15 sqrt(c), whichever interval is asked for first."""
    noise = sk.BrownianPath(3)
    whole = increment(noise, a, c, 400)
    parts = increment(noise, a, b, 400) + increment(noise, b, c, 400)
    bound = 4e-15 * math.sqrt(c)
    assert float((whole - parts).abs().max()) < bound
    assert float((increment(sk.BrownianPath(4), a, c, 400) - parts).abs().max()) > 100 * bound  # another path
    apart = sk.KeyedNoise(3)
    parts = increment(apart, a, b, 400) + increment(apart, b, c, 400)
    assert float((increment(apart, a, c, 400) - parts).abs().max()) > 100 * bound  # draws that are no path


def test_a_path_of_a_grid_is_the_path_of_every_coarser_grid():
    """640 increments of the VP process's own clock, in tens and in all."""
    sde, noise = sk.VPSDE(), sk.BrownianPath((1, 2))
    run = sk.grids.levels(sde, "log_snr", 640, denoise=False)
    x = torch.empty(2, 3, dtype=F64)

    def walk(levels):
        steps = [noise(x, t, s) * math.sqrt(t.clock - s.clock) for t, s in pairwise(levels)]
        return torch.stack(steps)

    fine, coarse = walk(run), walk(run[::10])
    for i, step in enumerate(coarse):
        bound = 40 * 2**-52 * math.sqrt(run[10 * i].clock)
        assert float((fine[10 * i : 10 * i + 10].sum(0) - step).abs().max()) < bound
    assert float((fine.sum(0) - walk(run[::640])[0]).abs().max()) < 640 * 2**-52 * math.sqrt(run[0].clock)


INTERVALS = [
    (1.25, 1.5), (1.0, 2.0), (0.9, 1.1), (1e-3, 1e3), (0.0, 1.0), (1e-12, 1e10), (1.3, 1.3 + 2e-6), (5.0, 5.0 + 2**-17),
    (1e-45, 1e-40), (1e9, 1.001e9), (math.pi, 3.3),
]  # fmt: skip


def weights(clock):
    """W(clock) as a sum over nodes: {node: its coefficient}, from the octave that holds the clock down."""
    octave, nodes, values = _nodes(torch.tensor([clock], dtype=F64))
    return {(int(octave), int(n)): float(w) for n, w in zip(nodes[:, 0], values[:, 0], strict=True)}


@pytest.mark.parametrize(
    ("a", "b"), [(1.25, 1.5), (1.0, 1.75), (0.5625, 0.8125), (1e-3, 1.5e-3), (math.pi, 3.3), (5.0, 7.9)]
)
def test_the_variance_of_an_increment_is_its_length(a, b):
    """Within an octave W is linear in the normals of its nodes: the squares of the coefficients' differences add up to
    b - a, and the products of a clock's and an increment's to 0, to the tree's last leaf and without a draw."""
    early, late = weights(a), weights(b)
    gap = [late.get(k, 0.0) - early.get(k, 0.0) for k in early | late]
    assert math.fsum(v * v for v in gap) == pytest.approx(b - a, rel=4 * LEAF * b / (b - a))
    begun = 2.0 ** math.floor(math.log2(a))
    assert math.fsum(v * v for v in early.values()) == pytest.approx(a - begun, rel=4 * LEAF, abs=4 * LEAF * a)
    shared = math.fsum(early[k] * (late[k] - early[k]) for k in early.keys() & late.keys())
    apart = -math.fsum(v * v for k, v in early.items() if k not in late)
    assert shared + apart == pytest.approx(0.0, abs=4 * LEAF * b)


@pytest.mark.statistical
@pytest.mark.parametrize(("a", "b"), INTERVALS)
def test_a_draw_is_standard_normal(a, b, seed):
    """4000 draws, by their distribution function and by their variance, on intervals down to 1e-6 of their place; a
    fifth of the variance is seen. The variance itself is exact above, within an octave."""
    v = z(sk.BrownianPath((seed, 7)), a, b, 1000, 4).flatten().numpy()
    dkw(v, stats.norm.cdf, of=2).holds(detects=0.08)
    variance(v, 1.0, of=2).holds(detects=0.2)
    variance(v, 1.25, of=2).fails()
    dkw(v + 0.25, stats.norm.cdf, of=2).fails()


@pytest.mark.statistical
def test_the_law_is_linear_below_the_tree(seed):
    """Beneath 2^-32 of an octave the variance is the interval over 2^-32, at most: to a fifth on 4000 draws."""
    inside = 1.0 + LEAF * 1000.25  # the interval keeps within one leaf
    for share in (0.5, 2.0**-8):
        v = z(sk.BrownianPath((seed, 8)), inside, inside + share * LEAF, 1000, 4)
        variance(v, share, of=2).holds(detects=0.2)
        variance(v, 1.25 * share, of=2).fails()


DISJOINT = [
    ((1.0, 1.5), (1.5, 2.0)), ((1.25, 1.3), (1.3, 1.9)), ((0.5, 1.0), (1.0, 2.0)), ((0.3, 0.7), (0.7, 5.0)),
    ((1.1, 1.2), (1.8, 1.9)), ((1e-6, 1e-3), (1e-3, 1.0)), ((0.0, 1e-3), (2.0, 3.0)), ((1.0, 2.0), (4.0, 8.0)),
    ((3.0, 3.0 + 1e-6), (3.0 + 1e-6, 3.0 + 2e-6)), ((0.1, 0.2), (0.4, 0.8)),
]  # fmt: skip


@pytest.mark.statistical
@pytest.mark.parametrize(("first", "second"), DISJOINT)
def test_disjoint_increments_are_independent(first, second, seed):
    """No correlation of the values nor of their sizes on 4000 pairs; one of 0.15 is seen."""
    noise = sk.BrownianPath((seed, 9))
    a, b = z(noise, *first, 1000, 4), z(noise, *second, 1000, 4)
    correlation(a, b, of=2).holds(detects=0.15)
    correlation(sizes(a), sizes(b), of=2).holds(detects=0.15)
    correlation(a, 0.2 * a + math.sqrt(1 - 0.2**2) * b, of=2).fails()


CLOCKS = [0.11, 0.25, 0.3, 0.5, 0.77, 1.0, 1.01, 1.5, 1.875, 2.0, 2.6, 3.9]


@pytest.mark.statistical
def test_the_covariance_of_a_path_is_the_earlier_time(seed):
    """E W(a) W(b) = min(a, b), at 12 clocks over five octaves: what is left of W(b) without W(a), W(b) - W(a), has the
    variance b - a and no correlation with W(a), on 2000 paths, to 0.35 and 0.25."""
    noise = sk.BrownianPath((seed, 10))
    w = {c: increment(noise, 0.0, c, 500, 4) for c in CLOCKS}
    pairs = list(combinations(CLOCKS, 2))
    of = len(CLOCKS) + 2 * len(pairs)
    for c in CLOCKS:
        variance(w[c], c, of=of).holds(detects=0.35)
    for a, b in pairs:
        variance(w[b] - w[a], b - a, of=of).holds(detects=0.35)
        correlation(w[b] - w[a], w[a], of=of).holds(detects=0.25)
        variance(w[b] - w[a], 1.5 * (b - a), of=of).fails()
    correlation(w[2.0] - w[1.0], w[1.5], of=of).fails()


@pytest.mark.statistical
def test_coordinates_rows_and_seeds_have_paths_of_their_own(seed):
    """Uncorrelated on 2000 pairs, to 0.2; among them the coordinates of one block of Philox."""
    noise, n = sk.BrownianPath(seed), 2000
    w = z(noise, 0.7, 2.3, n, 4)
    others = (
        sk.BrownianPath(seed + 1),
        sk.BrownianPath(seed + 2**40),
        sk.BrownianPath((seed, 0)),
        sk.BrownianPath(seed, torch.arange(n, 2 * n)),
        sk.KeyedNoise(seed),
    )
    of = 6 + 1 + len(others)
    for i, j in combinations(range(4), 2):
        correlation(w[:, i], w[:, j], of=of).holds(detects=0.2)
    correlation(w[1:], w[:-1], of=of).holds(detects=0.2)
    for other in others:
        correlation(w, z(other, 0.7, 2.3, n, 4), of=of).holds(detects=0.2)
    correlation(w[:, 0], 0.25 * w[:, 0] + math.sqrt(1 - 0.25**2) * w[:, 1], of=of).fails()


# What a row depends on


def test_a_row_is_the_same_alone_in_a_batch_and_in_any_order():
    """Bit for bit, for one time and for a time a row."""
    n = 37
    noise = sk.BrownianPath(1)
    order = torch.from_numpy(np.random.default_rng(0).permutation(n))
    b = torch.linspace(0.4, 9.0, n, dtype=F64)[:, None]
    a = b * torch.linspace(0.01, 0.9, n, dtype=F64)[:, None]
    for early, late in ((lambda i: 0.3, lambda i: 5.7), (lambda i: a[i], lambda i: b[i])):

        def draw(noise, i, early=early, late=late):
            return z(noise, early(i), late(i), len(i), 5)

        everyone = torch.arange(n)
        whole = draw(noise, everyone)
        assert torch.equal(draw(sk.BrownianPath(1, order), order), whole[order])
        assert torch.equal(draw(noise.rows(order[:9]), order[:9]), whole[order[:9]])
        for i in (0, 17, 36):
            assert torch.equal(draw(sk.BrownianPath(1, [i]), torch.tensor([i]))[0], whole[i])
        assert torch.equal(draw(noise, everyone[:7]), whole[:7])  # without ids, rows count from 0


def test_a_large_batch_is_small_ones():
    """A draw made in many chunks: the same bits, coordinate by coordinate."""
    noise = sk.BrownianPath(2)
    large = z(noise, 0.3, 5.7, 70, 101)
    assert torch.equal(large[:, :7], z(noise, 0.3, 5.7, 70, 7))
    assert torch.equal(large[66:], z(sk.BrownianPath(2, [66, 67, 68, 69]), 0.3, 5.7, 4, 101))
    x = torch.empty(70, 101)
    assert torch.equal(noise(x, at(5.7), at(0.3)), large.float())
    image = noise(torch.empty(70, 1, 101, 1, dtype=F64), at(5.7), at(0.3))
    assert torch.equal(image.reshape(70, 101), large)


def test_a_time_a_row_is_that_rows_interval():
    """To the last bits of a clock that is computed in a tensor."""
    sde, noise = sk.VPSDE(), sk.BrownianPath(4)
    x = torch.empty(4, 5, dtype=F64)
    t = torch.tensor([0.9, 0.5, 0.9, 0.3], dtype=F64)
    s = torch.tensor([0.8, 0.4, 0.001, 0.3], dtype=F64)
    rows = noise(x, sde.level(t, x), sde.level(s, x))
    for i in range(3):
        alone = noise(x, sde.level(t[i].item(), x), sde.level(s[i].item(), x))[i]
        torch.testing.assert_close(rows[i], alone, rtol=0, atol=1e-9)
    assert torch.equal(rows[3], torch.zeros(5, dtype=F64))  # an empty interval
    shared = noise(x, sde.level(t, x), sde.level(0.001, x))
    torch.testing.assert_close(shared[2], rows[2], rtol=0, atol=1e-9)


def test_the_last_bit_of_a_clock_moves_a_path_no_more_than_stated():
    """2e-11 sqrt(c), root mean square: two ways to compute one level's clock may differ so far."""
    noise = sk.BrownianPath(5)
    for c in (1.7, 2.0, 1234.5, 1e-7):
        moved = increment(noise, 0.0, math.nextafter(c, math.inf), 2000) - increment(noise, 0.0, c, 2000)
        assert 0 < float((moved**2).mean().sqrt()) < 2e-11 * math.sqrt(c)


def test_what_is_remembered_changes_nothing():
    """A source that was asked for other intervals, shapes and grids before, and a new one: the same bits."""
    pairs = [(0.3, 0.9), (0.9, 4.0), (0.3, 4.0), (4.0, 0.9), (0.9, 0.95), (0.95, 1.0), (0.3, 0.9)]
    used = sk.BrownianPath(6)
    for a, b in pairs:
        z(used, a, b, 5, 2)
        z(used, a, b, 3, 4)
        assert torch.equal(z(used, a, b), z(sk.BrownianPath(6), a, b))
    assert torch.equal(z(used, 4.0, 0.9), -z(used, 0.9, 4.0))


def test_other_streams_and_draws_are_keyed_noises_own():
    """Corrector draws belong to no path."""
    t, s = sk.VPSDE().levels(torch.tensor([0.9, 0.5], dtype=F64))
    x = torch.empty(3, 2, dtype=F64)
    path, keyed = sk.BrownianPath(2, [5, 0, 9]), sk.KeyedNoise(2, [5, 0, 9])
    assert torch.equal(path(x, t, s, stream=("corrector", 0)), keyed(x, t, s, stream=("corrector", 0)))
    assert not torch.equal(path(x, t, s), keyed(x, t, s))
    assert torch.equal(path.normal((3, 2), stream="prior"), keyed.normal((3, 2), stream="prior"))
    assert torch.equal(path.uniform(3, stream="u"), keyed.uniform(3, stream="u"))
    assert torch.equal(path.rademacher(x, stream="probe"), keyed.rademacher(x, stream="probe"))


def test_the_path_of_a_seed_stays_the_same_between_versions():
    """A published seed keeps its meaning: the first coordinates of W(5) - W(0.3), to the bit."""
    w = z(sk.BrownianPath((2024, 7), [3, 4_294_967_295]), 0.3, 5.0, 2, 2)
    wanted = torch.tensor(
        [[-0.4223005438068015, 0.6991956586452562], [1.4822640941799445, 1.9624922077130726]], dtype=F64
    )
    torch.testing.assert_close(w, wanted, rtol=0, atol=0)


def test_its_repr_is_its_settings():
    assert repr(sk.BrownianPath(3)) == "BrownianPath(seed=3)"
    assert repr(sk.BrownianPath((3, 1), [7, 8])) == "BrownianPath(seed=(3, 1), ids=2 rows)"


def test_ids_of_another_batch_and_clocks_that_are_none_are_refused():
    noise = sk.BrownianPath(0, [1, 2, 3])
    with pytest.raises(InvalidArgument, match="BrownianPath: ids must name every row, got 3 ids for 2 rows"):
        z(noise, 0.5, 1.0)
    for clock in (-1.0, math.inf, math.nan):
        with pytest.raises(InvalidArgument, match="BrownianPath: a level's clock must be finite and >= 0, got"):
            z(sk.BrownianPath(0), 0.5, clock)
    clocks = torch.arange(10.0, dtype=F64).reshape(-1, 1) - 0.5
    with pytest.raises(InvalidArgument, match=r"got \[-0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5\]$"):
        sk.BrownianPath(0)(torch.empty(10, 3, dtype=F64), SimpleNamespace(clock=clocks), at(0.25))


# Solvers on one path

STEPS = (16, 32, 64, 128)


def strong_errors(solver, sde, grid, source):
    """Root mean squares of the difference to a run of 512 steps, from one start: 32 rows of eight Gaussians."""
    x_T = sde.prior.sample((32, 8), sk.Noise(3), dtype=F64)
    ends = [
        last(sk.trajectory(gaussians(sde), solver, x_T, grid, source(), steps=n, denoise=False)).x
        for n in (*STEPS, 512)
    ]
    return [float((x - ends[-1]).pow(2).mean().sqrt()) for x in ends[:-1]]


@pytest.mark.parametrize("solver", [EulerMaruyama(), Ancestral()], ids=repr)
@pytest.mark.parametrize(
    ("sde", "grid"), [(sk.VESDE(0.1, 10.0), "uniform"), (sk.VPSDE(t_min=1e-2), "log_snr")], ids=["VE", "VP"]
)
def test_coarse_and_fine_grids_converge_on_one_path(solver, sde, grid):
    """Strong order 1, the noise being additive: the fitted slope is at least 0.9 (and 1.25 at most: the fine run's own
    error, a quarter of the last, steepens it). With independent draws a grid, nothing converges.

    (Kloeden & Platen 1992, section 10.3.)
    """
    errors = strong_errors(solver, sde, grid, lambda: sk.BrownianPath(1))
    slope = -float(np.polyfit(np.log(STEPS), np.log(errors), 1)[0])
    assert 0.9 < slope < 1.25, (slope, errors)
    assert errors[-1] < 0.05


def test_nothing_converges_without_one_path():
    """The negative control: keyed draws of each grid's own intervals."""
    errors = strong_errors(EulerMaruyama(), sk.VESDE(0.1, 10.0), "uniform", lambda: sk.KeyedNoise(1))
    assert errors[-1] > 0.8 * errors[0] > 0.5


@pytest.mark.parametrize("solver", solvers())
def test_every_solver_samples_on_a_path_and_a_row_is_the_same_bits_in_any_split(solver):
    """``noise=BrownianPath(seed, ids)``, with ``per_sample=True`` in chunks of one shape."""
    model = sk.models.GaussianMixture(sk.VPSDE(), [0.4, 0.6], torch.tensor([[0.5, -1.0], [2.0, 0.3]]), 0.3)
    steps = 2 if solver.adaptive else 3
    settings = {"solver": solver, "steps": steps, "per_sample": True}
    everyone = sk.sample(model, (70, 2), noise=sk.BrownianPath(3), **settings)
    for ids in ([0], [69, 3, 64]):
        assert torch.equal(sk.sample(model, (len(ids), 2), noise=sk.BrownianPath(3, ids), **settings), everyone[ids])
    plain = sk.sample(model, (70, 2), solver=solver, steps=steps, noise=sk.BrownianPath(3))
    torch.testing.assert_close(plain, everyone, rtol=1e-3, atol=1e-3)


def test_two_processes_of_the_same_noise_levels_see_one_path():
    """Ancestral sampling on VP and on VE, times matched in log-SNR: x / alpha agree to 1e-8, where keyed draws, whose
    names are times, do not."""
    vp, ve = sk.VPSDE(t_min=1e-2), sk.VESDE(sigma_min=0.002, sigma_max=200.0)
    times = sk.grids.log_snr(vp, 12)
    start = vp.prior.sample((6, 8), sk.Noise(0), dtype=F64)
    for source, same in ((sk.BrownianPath, True), (sk.KeyedNoise, False)):
        a = last(sk.trajectory(gaussians(vp), Ancestral(), start, times, source(3), denoise=False))
        there = ve.time_at(vp.log_snr(times))
        b = last(sk.trajectory(gaussians(ve), Ancestral(), start / vp.alpha(vp.t_max), there, source(3), denoise=False))
        assert (float((a.x / a.level.alpha - b.x).abs().max()) < 1e-8) == same
