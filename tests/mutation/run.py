"""Mutation testing of the package's mathematics: does a test fail when the code is changed?

cosmic-ray finds the mutants and keeps the session, an SQLite file from which a stopped run goes on. In place of a new
process a mutant, this script forks: the parent has torch and pytest loaded and never sdekit, the child imports sdekit
with the mutant in place of its module, which is changed in memory and never on disk. Mutants of annotations and of
docstrings are none.

    python tests/mutation/run.py session.sqlite --trace                       # once: which test executes which line
    python tests/mutation/run.py session.sqlite --sample 300 --seed 0         # start, or go on
    python tests/mutation/run.py session.sqlite --sample 300 --shard 2/4      # a part of the same sample
    python tests/mutation/run.py session.sqlite --report                      # the score, and the survivors
    python tests/mutation/run.py session.sqlite --again                       # ask new tests about the survivors

A mutant is killed by a test that fails, by an import that does, or by running for ever. Short tests are asked first;
after a trace, those alone that execute the mutant's lines.
The exit status is 1 where the score is below ``--at-least``.
"""

from __future__ import annotations

import argparse
import ast
import functools
import importlib.abc
import importlib.util
import json
import os
import random
import re
import resource
import sys
import time
import traceback
import uuid
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import coverage
import hypothesis
import mpmath
import numpy as np
import pytest
import safetensors.torch
import scipy.integrate
import scipy.interpolate
import scipy.stats
import torch
import torchdiffeq
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.ast.ast_query import ASTQuery
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkItem, WorkResult

LOADED = hypothesis, mpmath, np, safetensors, scipy, torch, torchdiffeq
"""What a child finds already imported."""

ROOT = Path(__file__).parents[2]

TESTS = {
    "sdes": ("sdes", "tables", "classics", "losses", "numerics", "simulation", "contracts"),
    "models": ("models", "losses", "guidance", "sampling", "convert", "variational", "contracts"),
    "losses": ("losses", "score_matching", "variational", "guidance", "contracts"),
    "solvers": ("solvers", "classics", "multistep", "sampling", "certification", "contracts"),
    "ode": ("ode", "likelihood", "sampling", "contracts"),
    "density": ("gradients", "likelihood", "error_budget", "independence"),
    "likelihood": ("bound", "likelihood", "gradients", "error_budget", "independence"),
    "noise": ("noise", "brownian_path", "sampling"),
    "grids": ("grids", "tables", "sampling", "multistep", "numerics"),
}
"""The packages under test, and the files of tests that are asked, in this order."""

LONG, BUDGET, HANGS = (0.3, 1.0), (10.0, 20.0, 35.0), 240
"""Seconds of CPU: above which a test is put off by one pass or by two; after which no more tests are asked in a pass;
and after which a mutant runs for ever. See ``Watch``."""

TRACE = Path(__file__).with_name("trace.sqlite")
"""Which test executes which line: coverage's file, as ``--trace`` writes it."""

DURATIONS = Path(__file__).with_name("durations.json")
"""What takes long: written as the tests are asked."""

PATIENCE = [1.0]
"""By which the budgets are multiplied: ``--patience``."""


def modules(of: Iterable[str] = TESTS) -> list[Path]:
    """The files that are mutated: of all packages, or of some."""
    found = [ROOT / "sdekit" / f"{name}.py" for name in of] + [
        path for name in of for path in (ROOT / "sdekit" / name).rglob("*.py")
    ]
    return sorted(path for path in found if path.is_file() and path.name != "__init__.py")


def meaning(source: str) -> str:
    """What runs of a source: its tree without annotations and docstrings; of what is no Python, itself.

    Identity in place of equality is no change: whether two equal numbers or names are one object is the interpreter's.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.Compare):
            same = {ast.Is: ast.Eq, ast.IsNot: ast.NotEq}
            node.ops = [same.get(type(op), type(op))() for op in node.ops]
    return ast.dump(tree)


COST = re.compile(r"^(CHUNK|CELLS|KEPT) = ")
"""How much is computed at a time, or remembered: lines that change what a result costs and no result."""


CRASHES = re.compile(r"_(Add|Sub|Mul|Div|FloorDiv|Mod|Pow)_(BitOr|BitAnd|BitXor|LShift|RShift)$")
"""Bits of floats are a TypeError: mutants that any test kills say nothing, and are left out."""


@functools.cache
def mutants(of: tuple[str, ...]) -> list[MutationSpec]:
    """Every place where an operator of cosmic-ray changes the source."""
    found = []
    operators = [(name, get_operator(name)) for name in sorted(operator_names()) if not CRASHES.search(name)]
    for path in modules(of):
        lines = path.read_text("utf-8").splitlines()
        nodes = list(ast_nodes(get_ast(path.read_text("utf-8"))))
        for name, operator in operators:
            if operator.arguments():
                continue
            places = ((node, *place) for node in nodes for place in operator().mutation_positions(node))
            for i, (node, start, end) in enumerate(places):
                if COST.match(lines[start[0] - 1]):
                    continue
                where = ASTQuery(node).get_definition_name()
                found.append(MutationSpec(str(path.relative_to(ROOT)), name, i, start, end, {}, where))
    return found


def mutated(mutation: MutationSpec) -> str | None:
    """The module's source with the mutant; None where nothing that runs has changed."""
    source = (ROOT / mutation.module_path).read_text("utf-8")
    changed = mutate_code(source, get_operator(mutation.operator_name)(), mutation.occurrence)
    return None if changed is None or meaning(changed) == meaning(source) else changed


def sampled(n: int, seed: int, shard: tuple[int, int], of: Iterable[str]) -> Iterator[MutationSpec]:
    """n mutants of the packages, by the seed, or a shard's part of them; those that change nothing are passed over."""
    everyone = list(mutants(tuple(of)))
    random.Random(seed).shuffle(everyone)
    taken = 0
    for mutation in everyone:
        if taken == n:
            return
        if mutated(mutation) is not None:
            taken += 1
            if taken % shard[1] == shard[0] % shard[1]:
                yield mutation


class Mutant(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a changed source."""

    def __init__(self, path: str, source: str):
        self.name = path.removesuffix(".py").replace("/", ".")
        self.path, self.source = path, source

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        return importlib.util.spec_from_loader(name, self) if name == self.name else None

    def exec_module(self, module: Any) -> None:
        module.__file__ = str(ROOT / self.path)
        with warnings.catch_warnings(action="ignore"):  # "is" with a number is no error
            code = compile(self.source, module.__file__, "exec")
        exec(code, module.__dict__)


class Watch:
    """A pytest plugin: chooses what is asked in a pass, and remembers what failed and what took long.

    The passes: of each test the cases that name a class of the mutated file, or the first one; the other cases; and
    those that are known to be long, the shortest first. Nothing is interrupted: a test takes an interruption for a
    failure.
    """

    def __init__(self, source: str, known: dict[str, float], executing: set[str] | None):
        self.executing = executing
        names = re.findall(r"^class (\w+)", source, re.MULTILINE)
        self.named = re.compile("|".join(names) or "$^")
        self.known, self.long = known, dict[str, float]()
        self.step, self.failed, self.started = 0, "", 0.0
        self.ran: set[str] = set()
        self.left: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        if self.executing is not None:
            items[:] = [item for item in items if item.nodeid in self.executing]
        first = {item.originalname or item.name: item for item in reversed(items)}
        named: Counter[str] = Counter()
        chosen = set()
        for item in items:
            function = item.originalname or item.name
            if self.named.search(item.name):
                named[function] += 1
            if (
                self.executing is not None
                or first[function] is item
                or (self.named.search(item.name) and named[function] <= 2)
            ):
                chosen.add(item.nodeid)

        def step(item: Any) -> int:
            seconds = self.known.get(item.nodeid, 0.0)
            return (
                2
                if seconds > LONG[1] or item.nodeid in self.left
                else int(seconds > LONG[0] or item.nodeid not in chosen)
            )

        items[:] = [item for item in items if step(item) == self.step]
        if self.step == 2:
            items.sort(key=lambda item: self.known.get(item.nodeid, 0.0))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: Any) -> bool | None:
        self.started = time.process_time()
        if self.started <= BUDGET[self.step] * PATIENCE[0]:
            return None
        self.left.add(item.nodeid)
        return True  # as if it had been run

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.left.discard(nodeid)
        seconds = time.process_time() - self.started
        if seconds > LONG[0]:
            self.long[nodeid] = round(seconds, 2)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.failed = self.failed or (report.nodeid if report.failed else "")
        if report.when == "call":
            self.ran.add(report.nodeid)


def child(mutation: MutationSpec, source: str, pipe: int) -> None:
    """Runs the tests against the mutant, and says what failed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    resource.setrlimit(resource.RLIMIT_CPU, (HANGS, HANGS))
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    sys.meta_path.insert(0, Mutant(str(mutation.module_path), source))
    tests = executing(mutation)
    watch = Watch(source, known(), tests)
    options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--no-header", "--tb=no"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what the parent has loaded
    for watch.step in range(3):
        for file in asked_files(mutation, tests):
            if not watch.failed:
                code = pytest.main([*options, file], plugins=[watch])
                if not watch.failed and code not in {0, 5}:
                    assert code != pytest.ExitCode.INTERNAL_ERROR, f"pytest itself failed on {file}"
                    watch.failed = f"the import of {file}"
    with os.fdopen(pipe, "w") as out:
        json.dump([watch.failed, len(watch.ran), len(watch.left), watch.long], out)


class Tracer:
    """A pytest plugin: coverage with a context for each test, added to what is there, and the tests that take long."""

    def __init__(self) -> None:
        self.coverage = coverage.Coverage(data_file=TRACE, source=[str(ROOT / "sdekit")], config_file=False)
        self.long = dict[str, float]()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Any:
        forget()
        started = time.process_time()
        self.coverage.switch_context(item.nodeid)
        done = yield
        self.coverage.switch_context("")
        seconds = time.process_time() - started
        if seconds > LONG[0]:
            self.long[item.nodeid] = round(seconds, 2)
        return done


def forget() -> None:
    """Empties the package's caches: what a test finds there, another has executed."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "sdekit":
            for value in vars(module).values():
                getattr(value, "cache_clear", lambda: None)()


def trace(files: list[str]) -> int:
    """Runs tests, all that mutants may be asked by unless some are named, and keeps which lines each one executes."""
    every = dict.fromkeys(file for name in TESTS for file in suites(name))
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    tracer = Tracer()
    tracer.coverage.load()
    tracer.coverage.start()
    options = ["-q", "-n", "0", "-p", "no:cacheprovider", "--no-header", "--tb=short"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning", "-W", "ignore::coverage.exceptions.CoverageWarning"]
    code = int(pytest.main([*options, *(files or every)], plugins=[tracer]))
    tracer.coverage.stop()
    tracer.coverage.save()
    DURATIONS.write_text(json.dumps(dict(sorted({**known(), **tracer.long}.items())), indent=0) + "\n", "utf-8")
    return code


def executing(mutation: MutationSpec) -> set[str] | None:
    """The tests that execute the lines of a mutant; None without a trace.

    Where these lines run at import: those that execute any of its module, those of the package's first file, which may
    read what was made there and execute nothing, and those of contracts and defaults.
    """
    if not TRACE.exists():
        return None
    data = coverage.CoverageData(TRACE)
    data.read()
    found = data.contexts_by_lineno(str(ROOT / mutation.module_path))
    lines = range(mutation.start_pos[0], mutation.end_pos[0] + 1)
    tests = {context for line in lines for context in found.get(line, ())} - {""}
    if tests:
        return tests
    files = ("tests/test_contracts.py", suites(package(mutation))[0])
    readers = (context for context in data.measured_contexts() if context.startswith(files))
    return {*readers, *(context for line in found for context in found[line])} - {""} or None


def asked_files(mutation: MutationSpec, tests: set[str] | None) -> list[str]:
    """The files of the tests that execute a mutant's lines, its package's own first; all of these without a trace."""
    own = suites(package(mutation))
    if tests is None:
        return own
    found = {test.partition("::")[0] for test in tests}
    return [*(file for file in own if file in found), *sorted(found.difference(own))]


def suites(name: str) -> list[str]:
    """The files of tests for a package, in the order in which they are asked."""
    return [*(f"tests/test_{suite}.py" for suite in TESTS[name]), "tests/malformed/test_calls.py"]


def known() -> dict[str, float]:
    """The tests that take long, in seconds of CPU, as earlier children have found them."""
    return json.loads(DURATIONS.read_text("utf-8")) if DURATIONS.exists() else {}


def asked(mutation: MutationSpec, source: str) -> tuple[str, int, int]:
    """(what failed or "", tests that ran, tests that were left out), from a child of this process."""
    read, write = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        try:
            child(mutation, source, write)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}, as of running for ever", 0, 0
    failed, ran, left_out, long = json.loads(said)  # an error of this script is not a test that fails
    if long.keys() - known().keys():
        everyone = {**long, **known()}
        DURATIONS.write_text(json.dumps(dict(sorted(everyone.items())), indent=0) + "\n", "utf-8")
    return failed, ran, left_out


def judge(mutation: MutationSpec) -> WorkResult:
    """Asks the tests of the mutant's package."""
    source = mutated(mutation)
    assert source is not None
    failed, ran, left_out = asked(mutation, source)
    outcome = TestOutcome.KILLED if failed else TestOutcome.SURVIVED
    said = f"killed by {failed}" if failed else f"survived {ran} tests, {left_out} left out"
    old = (ROOT / mutation.module_path).read_text("utf-8").splitlines()
    new = source.splitlines()
    changed = [(a, b) for a, b in zip(old, new, strict=False) if a != b][:1] or [("", "a line more or less")]
    diff = f"- {changed[0][0].strip()}\n+ {changed[0][1].strip()}"
    return WorkResult(WorkerOutcome.NORMAL, said, outcome, diff)


def baseline() -> int:
    """Asks the tests of each package about a module of it as it is: none may fail."""
    wrong = 0
    firsts = {path.relative_to(ROOT).parts[1].removesuffix(".py"): path for path in modules()}
    for name, path in firsts.items():
        spec = MutationSpec(str(path.relative_to(ROOT)), "core/NoOp", 0, (1, 0), (1, 1))
        failed, ran, left_out = asked(spec, path.read_text("utf-8"))
        wrong += bool(failed)
        print(f"{name:12} {failed or 'healthy'}: {ran} tests ran, {left_out} left out", flush=True)
    return int(wrong > 0)


def run(db: WorkDB) -> None:
    """Judges what is pending."""
    for item in db.pending_work_items:
        started = time.monotonic()
        (mutation,) = item.mutations
        result = judge(mutation)
        db.set_result(item.job_id, result)
        print(f"{time.monotonic() - started:6.1f} s  {place(mutation)}: {result.output}", flush=True)


def place(mutation: MutationSpec) -> str:
    """File, line and operator."""
    return f"{mutation.module_path}:{mutation.start_pos[0]} {mutation.operator_name.removeprefix('core/')}"


def package(mutation: MutationSpec) -> str:
    """The package of TESTS that a mutant lies in."""
    return Path(mutation.module_path).parts[1].removesuffix(".py")


def interval(killed: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a share."""
    low = scipy.stats.beta.ppf(0.025, killed, n - killed + 1) if killed else 0.0
    high = scipy.stats.beta.ppf(0.975, killed + 1, n - killed) if killed < n else 1.0
    return float(low), float(high)


def report(db: WorkDB) -> float:
    """Prints the score of each package and of all, and every survivor; returns the score."""
    results = dict(db.results)
    killed, total = Counter(), Counter()
    for item in db.work_items:
        if item.job_id in results:
            (mutation,) = item.mutations
            survived = results[item.job_id].test_outcome == TestOutcome.SURVIVED
            total[package(mutation)] += 1
            killed[package(mutation)] += not survived
            if survived:
                print(f"{place(mutation)}\n{results[item.job_id].diff}\n{results[item.job_id].output}\n")
    for name in sorted(total):
        print(f"{name:12} {killed[name]:4} of {total[name]:4} killed")
    n, k = sum(total.values()), sum(killed.values())
    low, high = interval(k, n) if n else (0.0, 1.0)
    print(f"{len(db.work_items) - n} pending")
    print(f"{k} of {n} killed: {100 * k / max(n, 1):.1f} %, 95 % interval {100 * low:.1f} to {100 * high:.1f} %")
    return k / max(n, 1)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("session", type=Path, help="the SQLite file of the session, made where there is none")
    parser.add_argument("--sample", type=int, default=20, help="mutants of a new session")
    parser.add_argument("--seed", type=int, default=0, help="of the sample of a new session")
    parser.add_argument("--of", nargs="+", choices=TESTS, default=list(TESTS), help="the packages; all unless given")
    parser.add_argument("--shard", default="1/1", help="i/k: every k-th mutant of the sample, from the i-th")
    parser.add_argument("--trace", nargs="*", metavar="FILE", help="find out which test executes which line")
    parser.add_argument("--report", action="store_true", help="print what the session knows, and run nothing")
    parser.add_argument("--baseline", action="store_true", help="ask the tests about each module without a mutant")
    parser.add_argument("--patience", type=float, default=1.0, help="multiplies the time that tests have for a mutant")
    parser.add_argument("--again", action="store_true", help="judge the survivors anew")
    parser.add_argument("--at-least", type=float, default=0.0, help="the score below which the exit status is 1")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    PATIENCE[0] = arguments.patience
    if arguments.trace is not None:
        return trace(arguments.trace)
    if arguments.baseline:
        return baseline()
    new = not arguments.session.exists()
    db = WorkDB(arguments.session, WorkDB.Mode.create)
    if new:
        i, k = map(int, arguments.shard.split("/"))
        chosen = sampled(arguments.sample, arguments.seed, (i, k), arguments.of)
        db.add_work_items(WorkItem.single(job_id=uuid.uuid4().hex, mutation=m) for m in chosen)
    if arguments.again:
        items = {item.job_id: item for item in db.work_items}
        for job_id, result in list(db.results):
            if result.test_outcome == TestOutcome.SURVIVED:
                fresh = judge(items[job_id].mutations[0])
                db.set_result(job_id, fresh)
                print(f"{place(items[job_id].mutations[0])}: {fresh.output}", flush=True)
    elif not arguments.report:
        run(db)
    return int(report(db) < arguments.at_least)


if __name__ == "__main__":
    sys.exit(main())
