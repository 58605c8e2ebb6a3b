"""Every Python block of the README and of the docs runs, and every link in them leads somewhere."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import textwrap
import types
import warnings
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)``` *$", re.M | re.S)
LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?P<target>[^)\s]+)\)")
REFERENCE = re.compile(r"^::: (?P<name>[\w.]+)", re.M)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[tuple[int, str]]:
    """The Python blocks of a page, each with the number of lines above it."""
    text = page.read_text(encoding="utf-8")
    return [
        (text[: match.start("code")].count("\n"), textwrap.dedent(match["code"]))
        for match in FENCE.finditer(text)
        if match["language"] == "python"
    ]


def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"`[^`\n]+`", "", FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Python-Markdown makes them, and of the names that it documents."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+?) *$", text, re.M)
    slugs = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[-\s]+", "-", slug) for slug in slugs} | set(REFERENCE.findall(text))


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """An empty directory to run in, no window, one thread, and warnings as errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("error")
        torch.manual_seed(0)  # networks draw their first weights from torch's global generator
        yield
    torch.set_num_threads(threads)


def run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the Python blocks of a page in order, in one namespace."""
    module = types.ModuleType("page_" + re.sub(r"\W", "_", page.name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for lines_above, code in blocks(page):
        # the newlines make a traceback name the line of the page
        exec(compile("\n" * lines_above + code, str(page), "exec"), module.__dict__)


def lost(page: Path) -> list[str]:
    """The links of a page that lead to no file or to no heading of it."""
    wrong = []
    for target in (match["target"] for match in LINK.finditer(prose(page))):
        path, _, anchor = target.partition("#")
        there = page if not path else (page.parent / path).resolve()
        if not re.match(r"[a-z]+:", target) and (not there.is_file() or (anchor and anchor not in anchors(there))):
            wrong.append(target)
    return wrong


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name)
def test_python_blocks_run(page: Path, quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    run(page, monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_resolve(page: Path) -> None:
    assert not lost(page)


@pytest.mark.parametrize("page", [page for page in PAGES if REFERENCE.search(page.read_text("utf-8"))], ids=name)
def test_documented_names_exist(page: Path) -> None:
    for target in REFERENCE.findall(page.read_text(encoding="utf-8")):
        parts = target.split(".")
        for i in range(len(parts), 0, -1):
            try:
                value = importlib.import_module(".".join(parts[:i]))
            except ModuleNotFoundError:
                continue
            for part in parts[i:]:
                assert hasattr(value, part), f"{name(page)}: {target} does not exist"
                value = getattr(value, part)
            break
        assert value.__doc__, f"{name(page)}: {target} has no docstring"


def test_the_navigation_names_every_page() -> None:
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert listed == {page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.name != "README.md"}


def test_what_is_wrong_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One page\n\n[a](#one-page) [b](#another) [c](page.md) [d](none.md) [e](https://example.org)\n\n"
        "```bash\nfalse\n```\n\n```python\nx = 1\n```\n\n1. item\n\n    ```python\n    assert x == 2\n    ```\n"
    )
    assert lost(page) == ["#another", "none.md"]
    assert blocks(page) == [(9, "x = 1\n"), (15, "assert x == 2\n")]
    with pytest.raises(AssertionError) as caught:
        run(page, monkeypatch)
    assert caught.traceback[-1].lineno == 15


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert (tmp_path / "index.html").is_file()
