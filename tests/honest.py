"""Statistical tests with both error rates stated.

A test of this file is a ``Verdict``: a statistic, the bound that it exceeds with a probability of at most ``alarm``
where the law is right, and ``detects``, the smallest defect for which it exceeds the bound with a probability of at
least ``POWER``. Bounds are exact quantiles or inequalities that hold for every n, never limits: a rate of 1e-6 lies far
out in a tail, where a limit theorem says little. A test function shares one ``ALARM`` among all that it compares:
``dkw(values, cdf, of=3)`` spends a third of it.

    verdict.holds(detects=0.02)    the statistic is within the bound, and a defect of 0.02 would have been seen
    verdict.fails()                the negative control: the same check of defective draws is out of the bound

A test marked ``statistical`` takes its ``seed`` as a fixture and is held to that account by tests/audit.py: its alarms
add up to ALARM at most, and something in it fails.
"""

import math
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from scipy import special, stats

ALARM = 1e-6  # the probability that a test function fails where nothing is wrong
POWER = 0.999  # the probability that it fails where the stated defect is there


class FalseAlarmOrDefect(AssertionError):
    """The statistic is out of its bound."""


class Missed(AssertionError):
    """The negative control is within the bound."""


LEDGER = []
"""What the running test has asked: (kind, alarm, detects) of every verdict."""


@dataclass(frozen=True)
class Verdict:
    """A statistic, its bound at the rate ``alarm``, and the least defect that exceeds it with probability POWER."""

    test: str
    statistic: float
    bound: float
    detects: float
    alarm: float

    def __bool__(self):
        return bool(self.statistic <= self.bound)

    def holds(self, *, detects):
        """The law is right, as far as this can see: to the stated defect at least."""
        assert self.detects <= detects, f"{self.test} sees no defect below {self.detects:.4g}, {detects} was stated"
        LEDGER.append(("holds", self.alarm, self.detects))
        if not self:
            raise FalseAlarmOrDefect(
                f"{self.test}: {self.statistic:.6g} exceeds {self.bound:.6g} (alarm {self.alarm:.1g})"
            )

    def fails(self):
        """The negative control: this law is wrong, and it is seen."""
        LEDGER.append(("fails", self.alarm, self.detects))
        if self:
            raise Missed(f"{self.test}: {self.statistic:.6g} is within {self.bound:.6g}, of draws with a defect")


def flat(values):
    """The values as one array of doubles."""
    return np.asarray(values, dtype=np.float64).ravel()


def mean(values, expected, sd, *, of=1, alarm=ALARM):
    """Normal draws of known deviation have the mean ``expected``: exact.

    Detects a shift of (z_(a/2) + z_b) sd / sqrt(n), that is n = (z_(a/2) + z_b)^2 sd^2 / shift^2."""
    v, a = flat(values), alarm / of
    error, z = sd / math.sqrt(v.size), float(stats.norm.isf(a / 2))
    return Verdict("mean", abs(v.mean() - expected), z * error, (z + float(stats.norm.ppf(POWER))) * error, a)


def variance(values, expected, *, of=1, alarm=ALARM):
    """Normal draws of mean 0 have the variance ``expected``: exact, the sum of their squares being chi-squared.

    Detects a relative error of the variance, of either sign. The statistic is the sum over its upper limit, or its
    lower limit over the sum, whichever is larger."""
    v, a = flat(values), alarm / of
    n, total = v.size, float(v @ v) / expected
    low, high = (float(q) for q in (stats.chi2.ppf(a / 2, n), stats.chi2.isf(a / 2, n)))
    more, less = high / stats.chi2.isf(POWER, n) - 1, 1 - low / stats.chi2.ppf(POWER, n)
    return Verdict("variance", max(total / high, low / total if total else math.inf), 1.0, float(max(more, less)), a)


def correlation(a, b, *, of=1, alarm=ALARM):
    """Independent pairs of mean 0, one of them normal, are uncorrelated: (ab)^2 / (aa)(bb) is Beta(1/2, (n - 1) / 2).

    Exact. Detects a correlation of normals, by Fisher's transform: tanh(artanh r + z_b / sqrt(n - 2))."""
    a, b, rate = flat(a), flat(b), alarm / of
    n = a.size
    bound = math.sqrt(float(stats.beta.isf(rate, 0.5, (n - 1) / 2)))
    detects = math.tanh(math.atanh(bound) + float(stats.norm.ppf(POWER)) / math.sqrt(n - 2))
    return Verdict("correlation", abs(float(a @ b)) / math.sqrt(float(a @ a) * float(b @ b)), bound, detects, rate)


def sizes(values):
    """Standard normals by the sizes of standard normals: Phi^-1 of the law of |z|. Exact, so that ``correlation`` of
    these sees a dependence of the spreads."""
    return special.ndtri(np.clip(special.erf(np.abs(flat(values)) / math.sqrt(2)), 1e-300, 1 - 2.0**-53))


def uniform(u):
    """The distribution function of the uniform law on (0, 1)."""
    return np.clip(u, 0.0, 1.0)


def dkw(values, cdf, *, of=1, slack=0.0, alarm=ALARM):
    """The draws have the distribution function ``cdf``, or one that is within ``slack`` of it everywhere.

    sup |F_n - F| exceeds sqrt(log(2 / a) / (2 n)) with a probability of at most a, for every n (Massart 1990, doi
    10.1214/aop/1176990746). Detects a difference of distribution functions: Hoeffding's inequality where it is
    largest."""
    v, a = flat(values), alarm / of
    bound = slack + math.sqrt(math.log(2 / a) / (2 * v.size))
    detects = bound + math.sqrt(math.log(1 / (1 - POWER)) / (2 * v.size))
    share, steps = cdf(np.sort(v)), np.arange(v.size + 1) / v.size
    distance = max(float((steps[1:] - share).max()), float((share - steps[:-1]).max()))
    return Verdict("Kolmogorov-Smirnov", distance, bound, detects, a)


@cache
def binomial(n, p, alarm):
    """The least and the largest count that are accepted, and the difference of p, of either sign, that is seen."""
    low, high = stats.binom.ppf(alarm / 2, n, p), stats.binom.isf(alarm / 2, n, p)
    # P(X > high), P(X < low) = POWER, by the beta function that is the binomial's distribution function
    more = stats.beta.ppf(POWER, high + 1, n - high) - p if high < n else math.inf
    less = p - stats.beta.isf(POWER, low, n - low + 1) if low > 0 else math.inf
    return float(low), float(high), float(max(more, less))


def proportion(count, n, p, *, of=1, alarm=ALARM):
    """``count`` of n independent draws is binomial with probability p: exact. Detects a difference of the probability.

    The statistic is the distance to n p, the half of the accepted counts on that side being 1."""
    low, high, detects = binomial(n, p, alarm / of)
    side = high - n * p if count > n * p else n * p - low
    statistic = abs(count - n * p) / side if side > 0 else math.inf
    return Verdict("proportion", float(statistic), 1.0, detects, alarm / of)


def order(count, n, ranks, m, *, of=1, alarm=ALARM):
    """``count`` of n draws lie below a value between the k-th and the (k + 1)-th smallest, ``ranks``, of m others of
    their law: beta-binomial, exactly, at either end. Detects a difference of the probability to lie there."""
    a, miss = alarm / of, (1 - POWER) / 2
    low = stats.betabinom.ppf(a / 2, n, ranks[0], m - ranks[0] + 1)
    high = stats.betabinom.isf(a / 2, n, ranks[1], m - ranks[1] + 1)
    # half of what may be missed for the place of the value, and half for the count
    more = stats.beta.isf(miss, high + 1, n - high) - stats.beta.ppf(miss, ranks[0], m - ranks[0] + 1)
    less = stats.beta.isf(miss, ranks[1], m - ranks[1] + 1) - stats.beta.ppf(miss, low, n - low + 1) if low > 0 else 0.0
    centre = n * sum(ranks) / 2 / (m + 1)
    side = high - centre if count > centre else centre - low
    statistic = abs(count - centre) / side if side > 0 else math.inf
    return Verdict("order", float(statistic), 1.0, float(max(more, less)), a)


def counts(found, probabilities, *, of=1, alarm=ALARM):
    """The counts are multinomial: each is binomial, exactly, where chi-squared is a limit. Detects a difference of a
    cell's probability. The worst cell speaks for all."""
    p = flat(probabilities) / flat(probabilities).sum()
    found = np.asarray(found)
    n = int(found.sum())
    cells = [proportion(int(k), n, float(q), of=of * len(p), alarm=alarm) for k, q in zip(found, p, strict=True)]
    worst = max(cells, key=lambda v: v.statistic)
    return Verdict("counts", worst.statistic, 1.0, max(v.detects for v in cells), alarm / of)


def bounded(found, n, expected, low, high, *, of=1, sd=None, alarm=ALARM):
    """``found``, the mean of n independent values in [low, high], is that of a law with mean ``expected`` (and the
    deviation ``sd``). Hoeffding 1963, theorem 2, or Bernstein's inequality; detects a shift of the mean, of any law in
    [low, high]."""
    a, width = alarm / of, high - low
    bound = width * math.sqrt(math.log(2 / a) / (2 * n))
    if sd is not None:  # n t^2 / 2 = (sd^2 + reach t / 3) log(2 / a)
        spend, reach = math.log(2 / a) / n, max(expected - low, high - expected)
        bound = min(bound, spend * reach / 3 + math.sqrt((spend * reach / 3) ** 2 + 2 * spend * sd * sd))
    detects = bound + width * math.sqrt(math.log(1 / (1 - POWER)) / (2 * n))
    return Verdict("mean in bounds", abs(float(found) - expected), bound, detects, a)


def smooth(u, *, degree=4, slack=0.0, of=1, alarm=ALARM):
    """The rows of u (n, d) are uniform on the unit cube: Neyman's smooth test in cosines.

    Each coordinate's means of sqrt(2) cos(pi k u), k up to ``degree``, and each pair's of sqrt(2) cos and sin of
    2 pi (u_i +- u_j). All of these have the arcsine law, whose moment-generating function I_0(sqrt(2) s) is below
    exp(s^2 / 2): the mean of n exceeds sqrt(2 log(2 / a) / n) with a probability of at most a. ``slack`` is what a mean
    may be off by. Detects a mean of ``detects`` in one of them, by Hoeffding's inequality."""
    u = np.asarray(u, dtype=np.float64).reshape(len(u), -1)
    n, d = u.shape
    features = [np.cos(np.pi * k * u[:, i]) for i in range(d) for k in range(1, degree + 1)]
    for i, j, sign in product(range(d), range(d), (1, -1)):
        if i < j:
            angle = 2 * np.pi * (u[:, i] + sign * u[:, j])
            features += [np.cos(angle), np.sin(angle)]
    means = math.sqrt(2) * np.mean(features, axis=1)
    bound = slack + math.sqrt(2 * math.log(2 * len(features) * of / alarm) / n)
    detects = bound + 2 * math.sqrt(math.log(1 / (1 - POWER)) / n)
    return Verdict("smooth", float(np.abs(means).max()), bound, detects, alarm / of)


def rosenblatt(x, weights, means, covariances):
    """Uniforms (n, d) by draws (n, d) of a mixture of normals, each coordinate given those before it: F(x_i | x_<i).

    Rosenblatt 1952 (doi 10.1214/aoms/1177729394). ``means`` (K, d), ``covariances`` (K, d, d)."""
    x, means, covariances = (np.asarray(v, dtype=np.float64) for v in (x, means, covariances))
    weights = np.log(flat(weights))
    log_w = np.tile(weights, (len(x), 1))
    uniforms = []
    for i in range(x.shape[1]):
        # of each component: the law of x_i given those before it
        gains = np.linalg.solve(covariances[:, :i, :i], covariances[:, :i, i, None])[..., 0]  # (K, i)
        centre = means[:, i] + np.einsum("nki,ki->nk", x[:, None, :i] - means[:, :i], gains)
        spread = np.sqrt(covariances[:, i, i] - np.einsum("ki,ki->k", gains, covariances[:, :i, i]))
        z = (x[:, i, None] - centre) / spread
        share = np.exp(log_w - log_w.max(1, keepdims=True))
        uniforms.append((share * special.ndtr(z)).sum(1) / share.sum(1))
        log_w = log_w - 0.5 * z * z - np.log(spread)
    return np.clip(np.stack(uniforms, 1), 0.0, 1.0)
