"""The account of the statistical tests: their seeds, their alarms, and the table of docs/statistics.md.

pytest -m statistical                                        one fixed seed, as in every run of the suite
pytest -m statistical --fresh-seeds 1000                     as many new ones, of an entropy that is printed
pytest -m statistical --fresh-seeds 1000 --entropy 123       the same ones again
pytest -m statistical --fresh-seeds 1000 --audit docs/statistics.md    and the table is written there
"""

from collections import defaultdict
from pathlib import Path

import honest
import numpy as np
import pytest

FIXED = 0
START, END = "<!-- audit: written by tests/audit.py -->", "<!-- end of audit -->"
HEAD = (
    "| test | alarm rate | detects, at power 0.999 | seeds | runs | alarms | controls missed |\n"
    "|---|---|---|---|---|---|---|\n"
)


def options(parser):
    """The options of an audit."""
    parser.addoption("--fresh-seeds", type=int, default=0, metavar="N", help="statistical tests: on N new seeds each")
    parser.addoption("--entropy", type=int, default=None, help="what the new seeds are made of, to repeat an audit")
    parser.addoption("--audit", type=Path, default=None, metavar="FILE", help="the page whose table is written")


def pytest_configure(config):
    if config.option.fresh_seeds and config.option.entropy is None:
        config.option.entropy = np.random.SeedSequence().entropy  # the workers of xdist are told it


def pytest_report_header(config):
    if config.option.fresh_seeds:
        return f"statistical tests: --fresh-seeds {config.option.fresh_seeds} --entropy {config.option.entropy}"
    return None


def pytest_generate_tests(metafunc):
    n = metafunc.config.option.fresh_seeds
    if n and metafunc.definition.get_closest_marker("statistical"):
        seeds = np.random.SeedSequence(metafunc.config.option.entropy).generate_state(n).tolist()
        metafunc.parametrize("seed", seeds, indirect=True)


@pytest.fixture
def seed(request):
    """The seed of a statistical test: a fixed one, or each of the fresh ones of an audit."""
    return getattr(request, "param", FIXED)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    if not pyfuncitem.get_closest_marker("statistical"):
        return (yield)
    assert "seed" in pyfuncitem.fixturenames, "a statistical test takes its seed from the fixture"
    pyfuncitem.user_properties.append(("seed", pyfuncitem.funcargs["seed"]))
    honest.LEDGER.clear()
    try:
        result = yield
    except Exception as error:
        pyfuncitem.user_properties.append(("failure", type(error).__name__))
        raise
    asked = list(honest.LEDGER)
    spent = sum(alarm for kind, alarm, _ in asked if kind == "holds")
    assert 0 < spent <= honest.ALARM * (1 + 1e-9), f"the test's alarms add up to {spent:.3g}"
    assert any(kind == "fails" for kind, *_ in asked), "a statistical test has a negative control"
    detects = [found for kind, _, found in asked if kind == "holds"]
    pyfuncitem.user_properties.append(("honest", [float(spent), float(min(detects)), float(max(detects))]))
    return result


RUNS = defaultdict(lambda: {"seeds": set(), "runs": 0, "alarms": 0, "missed": 0, "rate": 0.0, "detects": []})


def pytest_runtest_logreport(report):
    properties = dict(report.user_properties)
    if report.when != "call" or "seed" not in properties:
        return
    path, _, rest = report.nodeid.partition("::")
    name = rest.partition("[")[0]
    row = RUNS[f"{Path(path).stem.removeprefix('test_')}: {name.removeprefix('test_').replace('_', ' ')}"]
    row["runs"] += 1
    row["seeds"].add(properties["seed"])
    row["missed"] += properties.get("failure") == "Missed"
    row["alarms"] += "failure" in properties and properties["failure"] != "Missed"
    if "honest" in properties:
        spent, least, most = properties["honest"]
        row["rate"] = max(row["rate"], spent)
        row["detects"] = [min([least, *row["detects"]]), max([most, *row["detects"]])]


def line(name, row):
    """A row of the table."""
    low, high = (f"{v:.2g}" for v in (row["detects"] or [float("nan")] * 2))
    seen = low if low == high else f"{low} to {high}"
    counted = f"{len(row['seeds'])} | {row['runs']} | {row['alarms']} | {row['missed']}"
    return f"| {name} | {row['rate']:.1g} | {seen} | {counted} |"


def pytest_terminal_summary(terminalreporter, config):
    if not RUNS or not config.option.fresh_seeds:
        return
    runs, alarms, missed = (sum(row[k] for row in RUNS.values()) for k in ("runs", "alarms", "missed"))
    terminalreporter.write_line(
        f"{runs} runs of {len(RUNS)} statistical tests: {alarms} alarms, {missed} controls missed"
    )
    for name, row in sorted(RUNS.items()):
        terminalreporter.write_line(line(name, row))
    if config.option.audit:
        write(config.option.audit, {name: line(name, row) for name, row in RUNS.items()})


def write(page, rows):
    """The page with these rows in its table; those of tests that were not run stay."""
    before, _, rest = page.read_text("utf-8").partition(START)
    table, _, after = rest.partition(END)
    old = {row.split("|")[1].strip(): row for row in table.strip().splitlines()[2:]}
    body = "\n".join(row for _, row in sorted({**old, **rows}.items()))
    page.write_text(f"{before}{START}\n\n{HEAD}{body}\n\n{END}{after}", "utf-8")
