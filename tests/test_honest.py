"""The statistical tests' own tests: their bounds against closed forms, and both their error rates by simulation."""

import math
import subprocess
import sys

import audit
import honest
import numpy as np
import pytest
from scipy import stats

OFTEN, RUNS = 1e-2, 2000  # a rate that a simulation sees

SOME, SWAP = np.array([0.2, 0.2, 0.6]), np.array([0.0, 1.0, -1.0])


def beta(rng, n):
    return rng.beta(2.0, 5.0, n)


CASES = {  # n, a verdict of n draws that are right, or have the defect that it says it detects (of either sign)
    "mean": (50, lambda rng, n, d: honest.mean(3 + 2 * rng.normal(size=n) + d, 3, 2, alarm=OFTEN)),
    "variance": (200, lambda rng, n, d: honest.variance(rng.normal(size=n) * math.sqrt(2 * (1 + d)), 2, alarm=OFTEN)),
    "correlation": (100, lambda rng, n, d: honest.correlation(*correlated(rng, n, d), alarm=OFTEN)),
    "sizes": (100, lambda rng, n, d: honest.correlation(*map(honest.sizes, correlated(rng, n, 0)), alarm=OFTEN)),
    "dkw": (100, lambda rng, n, d: honest.dkw(stepped(rng, n, d), honest.uniform, alarm=OFTEN)),
    "proportion": (300, lambda rng, n, d: honest.proportion(rng.binomial(n, 0.3 + d), n, 0.3, alarm=OFTEN)),
    "counts": (500, lambda rng, n, d: honest.counts(rng.multinomial(n, SOME + d * SWAP), SOME, alarm=OFTEN)),
    "bounded": (400, lambda rng, n, d: honest.bounded(beta(rng, n).mean() + d, n, 2 / 7, 0, 1, alarm=OFTEN)),
    "bernstein": (
        400,
        lambda rng, n, d: honest.bounded(beta(rng, n).mean() + d, n, 2 / 7, 0, 1, sd=stats.beta.std(2, 5), alarm=OFTEN),
    ),
    "smooth": (400, lambda rng, n, d: honest.smooth(waved(rng, n, d), alarm=OFTEN)),
}  # fmt: skip


def correlated(rng, n, d):
    a, b = rng.normal(size=(2, n))
    return a, d * a + math.sqrt(1 - d * d) * b


def stepped(rng, n, d):
    """Uniforms, a share d of which below 1/2 is moved above: distribution functions differ by d at 1/2."""
    u = rng.uniform(size=n)
    return np.where(u < d, u + 0.5, u) if d >= 0 else 1 - stepped(rng, n, -d)


def waved(rng, n, d):
    """Pairs, the first of the density 1 + sqrt(2) d cos(pi u): its mean of sqrt(2) cos(pi u) is d."""
    grid = np.linspace(0, 1, 2001)
    u = rng.uniform(size=(n, 2))
    u[:, 0] = np.interp(u[:, 0], grid + math.sqrt(2) * d * np.sin(np.pi * grid) / np.pi, grid)
    return u


@pytest.mark.parametrize("case", CASES)
def test_the_rate_of_false_alarms_is_at_most_the_stated_one(case):
    """2000 runs at the rate 1e-2: more alarms than a binomial of that rate once in 1e6; exact bounds have as many."""
    n, verdict = CASES[case]
    rng = np.random.default_rng(7)
    alarms = sum(not verdict(rng, n, 0.0) for _ in range(RUNS))
    assert alarms <= stats.binom.isf(honest.ALARM, RUNS, OFTEN)
    if case in {"mean", "variance", "correlation", "sizes"}:
        assert alarms >= stats.binom.ppf(honest.ALARM, RUNS, OFTEN)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("case", sorted(set(CASES) - {"sizes"}))
def test_the_stated_defect_is_detected_with_the_stated_power(case, sign):
    """500 runs: less than 0.999 of them once in 1e6. Half of the defect is not detected so often by exact bounds."""
    n, verdict = CASES[case]
    rng = np.random.default_rng(8)
    defect = verdict(rng, n, 0.0).detects
    missed = sum(bool(verdict(rng, n, sign * defect)) for _ in range(500))
    assert missed <= stats.binom.isf(honest.ALARM, 500, 1 - honest.POWER)
    if case in {"mean", "variance", "correlation", "proportion", "counts"} and sign > 0:
        half = sum(bool(verdict(rng, n, sign * defect / 2)) for _ in range(500))
        assert half > 50


def test_the_mean_needs_as_many_draws_as_the_textbook_says():
    """n = (z_(a/2) + z_b)^2 sd^2 / shift^2: 1.6e5 draws see a fiftieth of a deviation at 1e-6 and 0.999."""
    z = stats.norm.isf(5e-7) + stats.norm.isf(1e-3)
    n = math.ceil(z * z / 0.02**2)
    assert n == 159_276
    assert honest.mean(np.zeros(n), 0.0, 1.0).detects == pytest.approx(0.02, rel=1e-5)
    assert honest.mean(np.zeros(n), 0.0, 1.0).bound == pytest.approx(stats.norm.isf(5e-7) / math.sqrt(n), rel=1e-12)


def test_massarts_bound_is_the_published_one():
    """Massart 1990 (doi 10.1214/aop/1176990746): 2 exp(-2 n e^2); 1e6 draws are within 2.7e-3."""
    verdict = honest.dkw(stats.norm.ppf((np.arange(10**6) + 0.5) / 10**6), stats.norm.cdf)
    assert 2 * math.exp(-2 * 10**6 * verdict.bound**2) == pytest.approx(honest.ALARM)
    assert verdict.bound == pytest.approx(2.7e-3, rel=0.01)
    assert verdict.statistic == pytest.approx(5e-7, rel=1e-3)
    v = np.random.default_rng(0).normal(size=500)
    assert honest.dkw(v, stats.norm.cdf).statistic == pytest.approx(stats.kstest(v, "norm").statistic, rel=1e-12)


def test_the_exact_bounds_are_scipys_p_values():
    """At the bound, the p-value of the t, the binomial and the chi-squared test is the alarm rate."""
    r = honest.correlation(np.arange(9.0), np.arange(9.0)[::-1]).bound
    t = r * math.sqrt(8 / (1 - r * r))  # the means are known: one degree of freedom more than Student's
    assert 2 * stats.t.sf(t, 8) == pytest.approx(honest.ALARM, rel=1e-6)
    for count in range(201):
        alarm = not honest.proportion(count, 200, 0.3)
        assert alarm == (min(stats.binom.cdf(count, 200, 0.3), stats.binom.sf(count - 1, 200, 0.3)) <= honest.ALARM / 2)
    for scale in (0.1, 0.4, 0.9, 1.0, 1.2, 2.5):
        total = 30 * scale**2
        alarm = not honest.variance(np.full(30, scale), 1.0)
        assert alarm == (min(stats.chi2.cdf(total, 30), stats.chi2.sf(total, 30)) <= honest.ALARM / 2)


def test_comparisons_share_one_alarm():
    """Bonferroni: ``of`` divides the rate, and a verdict says its part."""
    v = np.zeros(100)
    for verdict in (
        honest.mean(v, 0, 1, of=4),
        honest.dkw(v, stats.norm.cdf, of=4),
        honest.counts([50, 50], [1, 1], of=4),
    ):
        assert verdict.alarm == honest.ALARM / 4
    assert honest.mean(v, 0, 1, of=4).bound == pytest.approx(stats.norm.isf(honest.ALARM / 8) / 10)


def test_rosenblatts_transform_is_the_law_by_quadrature():
    """F(x_1) and F(x_2 | x_1) of a mixture of two normals in two dimensions, from its density on a fine grid."""
    w, m = np.array([0.3, 0.7]), np.array([[0.5, -1.0], [-0.6, 0.4]])
    c = np.array([[[0.5, 0.2], [0.2, 0.3]], [[0.2, -0.1], [-0.1, 0.6]]])
    point = np.array([[0.1, -0.3]])
    y = np.linspace(-8, 8, 3201)
    h = y[1] - y[0]

    def density(a, b):
        return sum(
            q * stats.multivariate_normal(v, s).pdf(np.stack([a, b], -1)) for q, v, s in zip(w, m, c, strict=True)
        )

    line = density(np.full_like(y, 0.1), y)
    given = np.interp(-0.3, y + h / 2, np.cumsum(line) / line.sum())
    first = sum(q * stats.norm.cdf(0.1, v[0], math.sqrt(s[0, 0])) for q, v, s in zip(w, m, c, strict=True))
    np.testing.assert_allclose(honest.rosenblatt(point, w, m, c), [[first, given]], atol=1e-5)
    far = honest.rosenblatt(np.array([[1e3, -1e3], [-1e3, 1e3]]), w, m, c)
    assert np.isfinite(far).all()


def test_a_verdict_that_does_not_see_what_is_stated_or_is_out_of_its_bound_raises():
    """A control that is not seen, an alarm, and a defect that is smaller than what can be seen: each by its name."""
    fine, off = honest.mean(np.zeros(100), 0.0, 1.0), honest.mean(np.ones(100), 0.0, 1.0)
    fine.holds(detects=0.9)
    off.fails()
    with pytest.raises(honest.Missed, match=r"mean: 0 is within 0\.489"):
        fine.fails()
    with pytest.raises(honest.FalseAlarmOrDefect, match=r"mean: 1 exceeds 0\.489"):
        off.holds(detects=0.9)
    with pytest.raises(AssertionError, match=r"sees no defect below 0\.7982, 0\.5 was stated"):
        fine.holds(detects=0.5)


ACCOUNTS = """
import pytest
from honest import mean

pytestmark = pytest.mark.statistical


def test_an_honest_one(seed):
    mean([0.0], 0, 1).holds(detects=9)
    mean([9.0], 0, 1).fails()


def test_one_that_spends_nothing(seed):
    mean([9.0], 0, 1).fails()


def test_one_that_spends_too_much(seed):
    mean([0.0], 0, 1).holds(detects=9)
    mean([0.0], 0, 1).holds(detects=9)
    mean([9.0], 0, 1).fails()


def test_one_without_a_control(seed):
    mean([0.0], 0, 1).holds(detects=9)


def test_one_that_alarms(seed):
    mean([9.0], 0, 1).holds(detects=9)


def test_one_that_misses(seed):
    mean([0.0], 0, 1).fails()
"""
"""A file of statistical tests, good and bad."""

PLUGIN = """
import audit


def pytest_addoption(parser):
    audit.options(parser)


def pytest_configure(config):
    config.addinivalue_line("markers", "statistical: drawn")
    config.pluginmanager.register(audit)
"""


def test_the_audit_holds_every_test_to_its_account(tmp_path, request):
    """In a run of its own, on three fresh seeds: what a test lacks is said, and the page's table counts its runs."""
    (tmp_path / "conftest.py").write_text(f"import sys\n\nsys.path.insert(0, {str(request.path.parent)!r})\n{PLUGIN}")
    (tmp_path / "test_some.py").write_text(ACCOUNTS)
    page = tmp_path / "page.md"
    page.write_text(f"Before\n{audit.START}\n\n| a |\n|-|\n| kept | 1 |\n\n{audit.END}\nAfter\n")
    command = f"-m pytest -p no:cacheprovider -W error --fresh-seeds 3 --entropy 5 --audit {page}".split()
    call = [sys.executable, *command, str(tmp_path)]
    run = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=100)
    assert "18 runs of 6 statistical tests: 3 alarms, 3 controls missed" in run.stdout, run.stdout
    assert "statistical tests: --fresh-seeds 3 --entropy 5" in run.stdout
    for said in ("alarms add up to 0", "alarms add up to 2e-06", "a statistical test has a negative control"):
        assert sum(line.startswith("E ") and line.endswith(said) for line in run.stdout.splitlines()) == 3
    before, table = page.read_text().split(audit.START)
    assert (before, table[-7:]) == ("Before\n", "\nAfter\n")
    rows = table.partition(audit.END)[0].strip().splitlines()[2:]
    assert rows[0] == "| kept | 1 |"
    assert rows[1] == "| some: an honest one | 1e-06 | 8 | 3 | 3 | 0 | 0 |"
    assert {row[-9:] for row in rows[1:]} == {"| 0 | 0 |", "| 3 | 0 |", "| 0 | 3 |"}
