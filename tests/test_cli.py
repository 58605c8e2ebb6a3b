"""The command line: exit codes, one line for bad input, and demos that leave whole files however they end."""

import csv
import errno
import inspect
import io
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from problems import mixture
from scipy import stats
from tqdm import tqdm

import sdekit as sk
from sdekit import plots
from sdekit.cli import demo, demo_digits, demo_swissroll, info, recognise, study, watch
from sdekit.cli.folder import MARK, Folder
from sdekit.cli.main import main
from sdekit.cli.report import Report, cards, code, paragraph, size, table
from sdekit.cli.study import DDPM, NCSN, Lab, Run, runs
from sdekit.errors import CheckpointWriteError, InvalidArgument, NonFiniteError
from sdekit.metrics import NoiseFloor, energy_distance
from sdekit.training import Settings, load_model

F64 = torch.float64
FLOOR = NoiseFloor(0.001, 0.002, -0.003, 0.004)


@pytest.fixture(autouse=True)
def _at_home(tmp_path, monkeypatch):
    """Every test runs in its own directory, leaves SIGTERM as it was, and lets the demo choose no thread count."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) is before


def tree(path):
    """Every file below a directory, and what is in it."""
    return {str(p.relative_to(path)): p.read_bytes() if p.is_file() else None for p in sorted(path.rglob("*"))}


class Page(HTMLParser):
    """A page whose every tag is closed, in order: its links, pictures and text."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.pictures, self.words, self.headings = [], [], [], [], []
        assert text.startswith("<!doctype html>")
        assert text.endswith("</html>\n")
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        attrs = dict(attrs)
        if tag == "a":
            self.links.append(attrs["href"])
        if tag == "img":
            self.pictures.append(attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def page(folder):
    """The page of a folder; every link and every picture of it is there."""
    found = Page((folder / "index.html").read_text(encoding="utf-8"))
    for name in (*found.links, *(picture["src"] for picture in found.pictures)):
        assert (folder / name).is_file(), name
    for picture in found.pictures:
        with Image.open(folder / picture["src"]) as image:
            assert (int(picture["width"]), int(picture["height"])) == image.size
        assert picture["alt"]
    return found


# The command


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--help"], ["demo", "info", "--version"]),
        (
            ["demo", "--help"],
            ["digits", "swissroll", "--objective", "--quick", "--device", "--out", "--seed", "--force"],
        ),
        (["info", "--help"], ["--json"]),
        (["--version"], [f"sdekit {sk.__version__}"]),
    ],
)
def test_help_is_on_standard_output_with_code_0(capsys, argv, said):
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert not err
    assert all(word in out for word in said)


BAD = [
    ([], "COMMAND"),
    (["dmeo"], "'dmeo'"),
    (["--seed", "3"], "'3'"),
    (["info", "--yaml"], "--yaml"),
    (["info", "everything"], "everything"),
    (["demo", "cats"], "'cats'"),
    (["demo", "--fast"], "--fast"),
    (["demo", "--seed"], "--seed"),
    (["demo", "--seed", "one"], "'one'"),
    (["demo", "--seed", "1.5"], "'1.5'"),
    (["demo", "--seed", "-1"], "--seed must be at least 0, got --seed=-1"),
    (["demo", "--seed", str(2**63)], "seed must be below 2^63"),
    (["demo", "--device", "cuda"], "--device: cuda is not there: torch sees 0 CUDA devices"),
    (["demo", "--device", "cuda:3"], "--device: cuda:3 is not there"),
    (["demo", "--device", "cuda:-1"], "--device: must be cpu, cuda or cuda:N, got 'cuda:-1'"),
    (["demo", "--device", "meta"], "--device: must be cpu, cuda or cuda:N, got 'meta'"),
    (["demo", "--device", "gpu"], "--device: must be cpu, cuda or cuda:N, got 'gpu'"),
    (["demo", "--device", ""], "--device: must be cpu, cuda or cuda:N, got ''"),
    (["demo", "digits", "--objective", "sliced"], "--objective: must be denoising for digits, got 'sliced'"),
    (["demo", "--objective", "implicit"], "--objective: must be denoising for digits, got 'implicit'"),
    (["demo", "swissroll", "--objective", "contrastive"], "--objective: invalid choice: 'contrastive'"),
    (["demo", "--out", "notes.txt"], "--out: must be a directory, got the file notes.txt"),
    (["demo", "--out", "notes.txt/below"], "notes.txt"),
    (["demo", "--out", "full"], "--out: full must be empty or made by this demo"),
    (["demo", "swissroll", "--out", "full"], "--force to write among them"),
]


@pytest.mark.parametrize(("argv", "said"), BAD, ids=[" ".join(argv) or "nothing" for argv, _ in BAD])
def test_bad_input_is_one_line_and_code_2_and_writes_nothing(tmp_path, capsys, monkeypatch, argv, said):
    """The line begins with the command, once, and says what was given."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    (tmp_path / "notes.txt").write_text("notes")
    before = tree(tmp_path)
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert err.startswith("sdekit")
    assert said in err
    assert tree(tmp_path) == before
    assert err.count("sdekit demo: ") <= 1, "the command is named twice"


def test_missing_scikit_learn_is_one_line_and_code_2_and_writes_nothing(tmp_path, capsys, monkeypatch):
    for name in ["sklearn", *(name for name in sys.modules if name.startswith("sklearn."))]:
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["demo", "--quick"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "pip install 'sdekit[demo]'" in err
    assert not tree(tmp_path)
    assert err.count("sdekit demo: ") == 1, "the command is named twice"


def ended_by(error, monkeypatch):
    """The exit code of a command that raises."""

    def run(args):
        raise error

    monkeypatch.setattr(info, "run", run)
    return main(["info"])


@pytest.mark.parametrize(
    ("error", "wanted", "said"),
    [
        (KeyboardInterrupt(), 130, ""),
        (KeyboardInterrupt(signal.SIGINT), 130, ""),
        (KeyboardInterrupt(signal.SIGTERM), 143, ""),
        (KeyboardInterrupt("not a signal"), 130, ""),
        (InvalidArgument("x: must be 1"), 2, "sdekit info: x: must be 1\n"),
        (sk.data.MissingExtra("y: needs z"), 2, "sdekit info: y: needs z\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "sdekit info: [Errno 28] No space left on device\n"),
        (NonFiniteError("loss: NaN"), 1, "sdekit info: loss: NaN\n"),
        (CheckpointWriteError("disk full"), 1, "sdekit info: disk full\n"),
    ],
    ids=repr,
)
def test_every_end_has_its_exit_code(capsys, monkeypatch, error, wanted, said):
    """No traceback for what can go wrong: at most one line, on standard error."""
    assert ended_by(error, monkeypatch) == wanted
    assert capsys.readouterr() == ("", said)


def test_a_defect_of_the_package_is_not_hidden(monkeypatch):
    """An error that nobody raises on purpose keeps its traceback."""
    with pytest.raises(ZeroDivisionError):
        ended_by(ZeroDivisionError("a bug"), monkeypatch)


@pytest.mark.parametrize(("number", "wanted"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_with_its_code(monkeypatch, number, wanted):
    def run(args):
        signal.raise_signal(number)
        time.sleep(60)

    monkeypatch.setattr(info, "run", run)
    assert main(["info"]) == wanted


def test_certificates_of_several_processes_stop_at_once(tmp_path):
    """A signal to the whole group, as Ctrl-C in a terminal: what is done is on disk, and there is no traceback."""
    argv = [
        sys.executable,
        "-m",
        "sdekit.cli",
        "certify",
        "--sde",
        "VPSDE",
        "--jobs",
        "2",
        "--out",
        str(tmp_path / "a"),
    ]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        deadline = time.monotonic() + 100
        while not (tmp_path / "a" / "certificates.json").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert json.loads((tmp_path / "a" / "certificates.json").read_text())


def test_a_demo_takes_the_cores_there_are_and_gives_them_back(monkeypatch):
    """Also where it fails."""
    seen = []

    def demo_of(*args, **kwargs):
        seen.append(torch.get_num_threads())
        raise NonFiniteError("a loss: NaN")

    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(demo, "cores", lambda: before + 2)
    monkeypatch.setattr(demo_swissroll, "demo", demo_of)
    assert main(["demo", "swissroll", "--quick"]) == 1
    assert (seen, torch.get_num_threads()) == ([before + 2], before)


def test_a_command_runs_outside_the_main_thread(capsys):
    """Where no signal handler may be set."""
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(["info"])))
    thread.start()
    thread.join(60)
    assert codes == [0]


def test_the_module_ends_the_process_with_the_commands_code(capsys, monkeypatch):
    """``python -m sdekit.cli``: the code is the process's, and there is no traceback."""
    monkeypatch.setattr(sys, "argv", ["sdekit", "demo", "--device", "gpu"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("sdekit.cli", run_name="__main__")
    assert stop.value.code == 2
    assert capsys.readouterr() == ("", "sdekit demo: --device: must be cpu, cuda or cuda:N, got 'gpu'\n")


def test_a_reader_who_has_gone_is_told_nothing():
    """As in ``sdekit info | head -0``: 128 + SIGPIPE, as of any command, and nothing on standard error."""
    read, write = os.pipe()
    os.close(read)
    argv = [sys.executable, "-m", "sdekit.cli", "info"]
    with subprocess.Popen(argv, stdout=write, stderr=subprocess.PIPE, text=True) as process:
        os.close(write)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, "")


# info


def family(base, package):
    """The classes of a kind that a package defines, wherever in it they stand."""
    found, left = set(), [base]
    while left:
        kind = left.pop()
        left += kind.__subclasses__()
        if kind.__module__.startswith(package.__name__ + "."):
            found.add(kind)
    return found


def concrete(base, package):
    """The names of those that are public and not abstract."""
    kinds = family(base, package)
    exported = {kind for kind in kinds if kind.__name__ in package.__all__ and not inspect.isabstract(kind)}
    # what nothing is derived from is there to be used, and must be public; wrappers are the sampler's own
    leaves = {
        kind for kind in kinds if not family(kind, package) - {kind} and not kind.__module__.endswith(".wrappers")
    }
    assert leaves <= exported
    return {kind.__name__ for kind in exported}


def test_info_as_json_names_every_class_there_is(capsys):
    """Found here by their bases, and not by what the package lists."""
    assert main(["info", "--json"]) == 0
    out, err = capsys.readouterr()
    assert not err
    known = json.loads(out)
    kinds = {
        "processes": concrete(sk.SDE, sk.sdes),
        "models": concrete(sk.models.ScoreModel, sk.models),
        "parametrisations": concrete(sk.models.Parametrisation, sk.models),
        "guidance": concrete(sk.guidance.Guidance, sk.guidance),
        "solvers": concrete(sk.solvers.Solver, sk.solvers),
        "ODE methods": concrete(sk.ode.ODEMethod, sk.ode),
    }
    for name, wanted in kinds.items():
        assert set(known[name]) == wanted
        assert len(known[name]) == len(wanted)
    assert {"VPSDE", "VESDE", "SubVPSDE", "EDMSDE"} <= set(known["processes"])
    assert set(known["grids"]) == {
        "uniform", "log_snr", "karras", "quadratic", "angle", "vp", "beta", "flow_shift", "linspace", "leading",
        "trailing", "quadratic_leading",
    }  # fmt: skip
    assert set(known["losses"]) == {
        "ConditionDropout", "DenoisingScoreMatching", "Hybrid", "ImplicitScoreMatching", "SlicedScoreMatching",
        "VariationalBound",
    }  # fmt: skip
    assert set(known["weights"]) == {"simple", "likelihood", "edm", "flow", "min_snr"}
    assert set(known["time densities"]) == {"uniform", "stratified", "importance", "log_normal", "logit_normal"}
    assert set(known["networks"]) == {n for n in sk.networks.__all__ if isinstance(getattr(sk.networks, n), type)}
    assert known["versions"]["sdekit"] == sk.__version__
    assert known["versions"]["torch"] == torch.__version__
    assert known["devices"]["cpu"] == f"{torch.get_num_threads()} threads"


def test_info_as_text_says_the_same(capsys):
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    for title, value in info.collect().items():
        assert f"{title}:" in text
        for entry in value.items() if isinstance(value, dict) else ((name, "") for name in value):
            assert all(word in text for word in entry)


def test_info_says_what_is_not_installed(capsys, monkeypatch):
    monkeypatch.setattr(info, "PACKAGES", ("torch", "no-such-package-as-this"))
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["versions"]["no-such-package-as-this"] == "not installed"


# The demo's arguments


@pytest.mark.parametrize(
    ("argv", "where", "settings", "seed"),
    [
        ([], "sdekit-demo", demo_digits.FULL, 0),
        (["digits", "--quick"], "sdekit-demo", demo_digits.QUICK, 0),
        (["swissroll"], "sdekit-demo/swissroll", demo_swissroll.FULL, 0),
        (["swissroll", "--quick", "--seed", "7", "--out", "a/b"], "a/b", demo_swissroll.QUICK, 7),
        (["--device", "cpu", "--seed", str(2**63 - 1)], "sdekit-demo", demo_digits.FULL, 2**63 - 1),
        (["--out", "full", "--force"], "full", demo_digits.FULL, 0),
    ],
)
def test_a_demo_is_told_what_the_command_line_says(tmp_path, monkeypatch, argv, where, settings, seed):
    calls = []
    for module in (demo_digits, demo_swissroll):
        monkeypatch.setattr(module, "demo", lambda *args, **told: calls.append((*args, told)))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    assert main(["demo", *argv]) == 0
    ((folder, made, told),) = calls
    assert folder.path == Path(where)
    assert (tmp_path / where / MARK).is_file()
    assert made is settings
    assert told == {"device": torch.device("cpu"), "seed": seed}


@pytest.mark.parametrize("objective", demo.OBJECTIVES)
def test_the_swiss_roll_is_trained_with_what_the_command_line_says(monkeypatch, objective):
    """Each name is its objective; without a target there are fewer steps of larger batches, and no other change."""
    calls = []
    monkeypatch.setattr(demo_swissroll, "demo", lambda folder, made, **told: calls.append(made))
    assert main(["demo", "swissroll", "--objective", objective]) == 0
    made = demo_swissroll.FULL.training
    larger = made if objective == "denoising" else replace(made, steps=1000, batch_size=2048)
    assert calls == [replace(demo_swissroll.FULL, objective=objective, training=larger)]
    kind = {
        "denoising": sk.losses.DenoisingScoreMatching,
        "sliced": sk.losses.SlicedScoreMatching,
        "implicit": sk.losses.ImplicitScoreMatching,
    }[objective]
    assert isinstance(demo_swissroll.OBJECTIVES[objective], kind)


def test_a_device_is_there_or_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("cpu", "cuda", "cuda:0", "cuda:1"):
        assert demo.check_device(name) == torch.device(name)
    with pytest.raises(InvalidArgument, match="--device: cuda:2 is not there: torch sees 2 CUDA devices"):
        demo.check_device("cuda:2")


@pytest.mark.parametrize(
    ("share", "wanted"),
    [("max 100000\n", 6), ("200000 100000\n", 2), ("50000 100000\n", 1), ("9900000 100000\n", 6), (None, 6)],
)
def test_the_cores_are_those_that_the_process_may_use(monkeypatch, share, wanted):
    """Six by affinity, and a container's share where that is less."""

    def read_text(path):
        if share is None:
            raise FileNotFoundError(path)
        return share

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    monkeypatch.setattr(Path, "read_text", read_text)
    assert demo.cores() == wanted


# The folder


def test_a_folder_is_made_where_there_is_none(tmp_path):
    folder = Folder(tmp_path / "a" / "b")
    folder.text("note.txt", "grün ∂x")
    folder.json("data.json", {"a": [1.5, "ε"]})
    assert (tmp_path / "a" / "b" / "note.txt").read_text(encoding="utf-8") == "grün ∂x"
    assert json.loads((tmp_path / "a" / "b" / "data.json").read_text(encoding="utf-8")) == {"a": [1.5, "ε"]}
    assert folder.files == ["note.txt", "data.json"]
    assert (tmp_path / "a" / "b" / MARK).read_text() == "note.txt\ndata.json\n"


def test_a_folder_takes_an_empty_directory_and_one_that_holds_a_demo(tmp_path):
    Folder(tmp_path / "roll")
    folder = Folder(tmp_path)
    folder.text("a.txt", "a")
    assert sorted(tree(tmp_path)) == [MARK, "a.txt", "roll", f"roll/{MARK}"]


def test_a_second_demo_removes_the_firsts_files_and_nothing_else(tmp_path):
    """Also in directories below, which go where they are left empty."""
    folder = Folder(tmp_path / "out")
    for name in ("index.html", "old.png", "films/a.gif", "tables/a.csv"):
        folder.text(name, "first")
    (tmp_path / "out" / "mine.txt").write_text("mine")
    (tmp_path / "out" / "films" / "mine.gif").write_text("mine")
    again = Folder(tmp_path / "out")
    assert again.files == []
    assert tree(tmp_path / "out") == {MARK: b"", "films": None, "films/mine.gif": b"mine", "mine.txt": b"mine"}
    again.text("index.html", "second")
    assert (tmp_path / "out" / MARK).read_text() == "index.html\n"


@pytest.mark.parametrize("force", [False, True])
def test_force_writes_among_other_files_and_leaves_them(tmp_path, force):
    (tmp_path / "thesis.tex").write_text("years of work")
    if not force:
        with pytest.raises(InvalidArgument, match="must be empty or made by this demo"):
            Folder(tmp_path)
        assert tree(tmp_path) == {"thesis.tex": b"years of work"}
        return
    Folder(tmp_path, force=True).text("index.html", "page")
    Folder(tmp_path)
    assert tree(tmp_path) == {MARK: b"", "thesis.tex": b"years of work"}


@pytest.mark.parametrize(
    "name", ["../victim", "{outside}/victim", "sub/../../victim", "link", "linked/victim", ".", ""]
)
def test_a_folder_never_removes_what_stands_outside(tmp_path, name):
    """Whatever the list of its files says: names with .. in them, absolute ones, links to files and directories."""
    outside, out = tmp_path / "outside", tmp_path / "outside" / "out"
    out.mkdir(parents=True)
    (outside / "victim").write_text("dear")
    (out / "sub").mkdir()
    (out / "link").symlink_to(outside / "victim")
    (out / "linked").symlink_to(outside)
    (out / MARK).write_text(name.format(outside=outside) + "\n")
    Folder(out)
    assert (outside / "victim").read_text() == "dear"
    assert (out / "sub").is_dir()


def test_a_link_among_its_files_is_no_reason_to_remove_another_file(tmp_path):
    """The link may go; what it points to was not written by the demo."""
    Folder(tmp_path).text("a.txt", "a")
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "a.txt").unlink()
    (tmp_path / "a.txt").symlink_to(tmp_path / "mine.txt")
    Folder(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


class Fault(Exception):
    """What goes wrong while a file is written."""


@pytest.mark.parametrize("error", [Fault, KeyboardInterrupt])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path, error, old):
    """No half of it, no temporary file, and no entry in the list for a file that was never there."""
    folder = Folder(tmp_path)
    if old:
        folder.text("a.txt", old)
    before = tree(tmp_path)

    def write():
        with folder.writing("a.txt") as path:
            path.write_text("half of the n")
            raise error

    with pytest.raises(error):
        write()
    assert tree(tmp_path) == before
    assert folder.files == (["a.txt"] if old else [])


def test_a_file_appears_whole_and_at_once(tmp_path):
    """While it is written the old one is there; the path to write to is of the same kind, beside it."""
    folder = Folder(tmp_path)
    folder.text("films/a.png", "old")
    for _ in range(2):
        with folder.writing("films/a.png") as path:
            path.write_text("new")
            assert (tmp_path / "films" / "a.png").read_text() == "old"
            assert (path.parent, path.suffix) == (tmp_path / "films", ".png")
            assert path.name != "a.png"
        assert (tmp_path / "films" / "a.png").read_text() == "new"
        folder.text("films/a.png", "old")
    assert folder.files == ["films/a.png"]
    assert (tmp_path / MARK).read_text() == "films/a.png\n"
    assert sorted(tree(tmp_path)) == [MARK, "films", "films/a.png"]


def test_a_number_that_is_none_never_reaches_a_json_file(tmp_path):
    folder = Folder(tmp_path)
    folder.json("a.json", [1.0])
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.json("a.json", [float("nan")])
    assert json.loads((tmp_path / "a.json").read_text()) == [1.0]


# The page


@pytest.fixture
def report(tmp_path):
    made = Report(
        Folder(tmp_path), "Title <&>", "A <b>lead</b>.", {"one": "First < all", "two": "Second", "three": "III"}
    )
    made.facts["rows & columns"] = "<7>"
    return made


def test_a_page_is_complete_after_every_change(tmp_path, report):
    """Sections stand in the order of their headings, whenever they were filled; empty ones are not shown."""
    report.set("two", paragraph("late"), paragraph("later"))
    assert page(tmp_path).headings == ["Second", "Files"]
    report.add("one", "a", paragraph("piece a"))
    report.add("one", "b", paragraph("piece b"))
    report.add("one", "a", paragraph("piece c"))
    found = page(tmp_path)
    assert found.headings == ["First < all", "Second", "Files"]
    assert "piece c piece b" in found.text
    assert "piece a" not in found.text
    assert "still running" in found.text
    report.set("two", paragraph("anew"))
    assert "late" not in page(tmp_path).text


def test_text_is_escaped_and_html_is_not(tmp_path, report):
    """Title, headings, facts, cells and code are text; leads and paragraphs are HTML."""
    cells = table("a <b>caption</b>", ["<x>", "&"], {"<group>": [["<script>alert(1)</script>", "1 < 2"]]})
    report.set("one", cells, code('if a < b & c > "d":'))
    raw = (tmp_path / "index.html").read_text()
    assert "<script" not in raw
    assert "<b>lead</b>" in raw
    found = page(tmp_path)
    for text in ("Title <&>", "First < all", "<7>", "rows & columns", "<x>", "<group>", "1 < 2", 'a < b & c > "d"'):
        assert text in found.text
    assert "<script>alert(1)</script>" in found.text


def test_a_table_has_its_cells_under_its_groups():
    html = table("", ["name", "value"], {"A": [["a", "1"], ["b", "2"]], "": [["c", "3"]]}, "text")
    assert html.count("<tr>") == 4
    assert html.count('<tr class="group">') == 1
    assert html.count('colspan="2"') == 1
    assert html.index(">A<") < html.index("<td>a</td><td>1</td>") < html.index("<td>c</td><td>3</td>")
    assert 'class="text"' in html


def test_a_run_that_ends_well_says_how_long_it_took(tmp_path, report, capsys):
    with report.running():
        report.set("one", paragraph("done"))
        assert "still running" in page(tmp_path).text
        report.begun -= 125
    found = page(tmp_path)
    assert "2 min 05 s on this machine" in found.text
    assert "still running" not in found.text
    assert 'role="status"' not in (tmp_path / "index.html").read_text()
    assert "done in 2 min 05 s: open" in capsys.readouterr().out


def ended(report, error, text):
    """A run that fills a section and ends by an error."""
    with report.running():
        report.set("two", paragraph(text))
        raise error


def test_an_interrupted_run_says_so_and_keeps_what_is_done(tmp_path, report, capsys):
    with pytest.raises(KeyboardInterrupt):
        ended(report, KeyboardInterrupt(), "what was done")
    found = page(tmp_path)
    assert "The demo was interrupted after 0 s; this page shows what was done by then." in found.text
    assert "what was done" in found.text.replace("what was done by then", "")
    assert "still running" not in found.text
    assert "what is done is in" in capsys.readouterr().out


def test_a_run_that_fails_says_what_went_wrong(tmp_path, report):
    with pytest.raises(Fault):
        ended(report, Fault("x < y & <b>z</b>"), "before")
    found = page(tmp_path)
    assert "ended after 0 s with an error: x < y & <b>z</b>" in found.text
    assert "before" in found.text
    assert "still running" not in found.text


def test_a_full_disk_leaves_the_page_that_was_there(tmp_path, report, monkeypatch):
    """Half of the new page is written when the disk is full."""
    report.set("one", paragraph("before"))
    write = Path.write_text

    def full(path, text, **options):
        write(path, text[: len(text) // 2], **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        report.set("one", paragraph("after"))
    monkeypatch.undo()
    assert "before" in page(tmp_path).text
    assert sorted(tree(tmp_path)) == [MARK, "index.html"]


def test_a_figure_states_its_size_and_links_to_its_file(tmp_path, report):
    with report.folder.writing("a & b.png") as path:
        Image.new("L", (31, 17)).save(path)
    with report.folder.writing("film.gif") as path:
        Image.new("L", (300, 5)).save(path)
    assert size(tmp_path / "a & b.png") == (31, 17)
    assert size(tmp_path / "film.gif") == (300, 5)
    wide = report.figure("film.gif", "alt", wide=True)
    report.set("one", cards([report.figure("a & b.png", 'say "a" < b', "caption"), wide], "pair"))
    found = page(tmp_path)
    assert [picture["alt"] for picture in found.pictures] == ['say "a" < b', "alt"]
    assert "caption" in found.text
    assert 'class="wide"' in wide
    assert found.links == ["a & b.png", "film.gif", "a & b.png", "film.gif"]


# Bars


class Bar(tqdm):
    """A bar that nobody sees, and that keeps where it has been."""

    made: list

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings, file=io.StringIO(), mininterval=0)
        self.seen = []
        Bar.made.append(self)

    def update(self, n=1):
        self.seen.append(self.n + n)
        return super().update(n)


@pytest.fixture
def bars(monkeypatch):
    Bar.made = []
    monkeypatch.setattr(watch, "tqdm", Bar)
    return Bar.made


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("solver", [sk.solvers.DDIM(), sk.solvers.ProbabilityFlow(sk.ode.Dopri5(1e-3, 1e-3))], ids=repr)
def test_a_watched_model_gives_the_same_bits_and_tells_every_call(solver, per_sample):
    model, calls = mixture(sk.VPSDE()), []
    settings = {"solver": solver, "steps": 4, "seed": 1, "per_sample": per_sample, "full": True}
    bare = sk.sample(model, (7, 2), **settings)
    watched = sk.sample(watch.Watched(model, lambda rows, time: calls.append((rows, time))), (7, 2), **settings)
    assert torch.equal(watched.x, bare.x)
    assert torch.equal(torch.as_tensor(watched.nfe), torch.as_tensor(bare.nfe))
    assert len(calls) >= int(torch.as_tensor(bare.nfe).max())
    assert all(rows >= 1 for rows, _ in calls)
    assert all(model.sde.t_min <= time <= model.sde.t_max for _, time in calls)


def test_a_watched_model_is_asked_as_the_model_itself():
    """All rows or none where it cannot be divided, and with what it knows."""
    sizes = []
    model = mixture(sk.VPSDE())
    model.divisible, model.has_variance = False, True
    watched = watch.Watched(model, lambda rows, time: sizes.append(rows)).given()
    assert watched.model.divisible is watched.divisible is False
    assert watched.has_variance is True
    x = torch.tensor([[0.0, 0.0], [50.0, 3.0], [1.0, 1.0]])
    sk.log_likelihood(watched, x, tol=1e-3, budget=False)
    assert set(sizes) == {3}
    assert watch.Watched(model.given(y=torch.zeros(3)), print).condition.keys() == {"y"}


def test_a_counting_bar_moves_once_a_call_and_never_past_its_end(bars):
    model = mixture(sk.VPSDE())
    with watch.counting(model, "Heun", 8) as shown:
        sk.sample(shown, (3, 2), solver=sk.solvers.Heun(), steps=4)
    with watch.counting(model, "DDIM", 4) as shown:
        sk.sample(shown, (3, 2), solver=sk.solvers.DDIM(), steps=4)
    with watch.counting(model, "DDIM", 2) as shown:
        sk.sample(shown, (3, 2), solver=sk.solvers.DDIM(), steps=4)
    assert [bar.seen for bar in bars] == [list(range(1, 8)), [1, 2, 3, 4], [1, 2, 2, 2]]
    assert [bar.desc.strip(": ") for bar in bars] == ["Heun", "DDIM", "DDIM"]


def test_a_travelling_bar_rises_to_its_end(bars):
    """The share of the way that all rows have gone: never back, and 100 % at the end of the last one."""
    model = mixture(sk.VPSDE())
    t_min, t_max = model.sde.t_min, model.sde.t_max
    with watch.travelling(model, "likelihood", 9, t_min, t_max) as shown:
        sk.log_likelihood(shown, model.sample(9, sk.Noise(0)), tol=1e-4)
    with watch.travelling(model, "flow", 9, t_max, t_min) as shown:
        sk.sample(shown, (9, 2), solver=sk.solvers.ProbabilityFlow(sk.ode.Dopri5(1e-4, 1e-4)), steps=2)
    for bar in bars:
        assert len(bar.seen) > 10
        assert bar.seen == sorted(bar.seen)
        assert 0 <= bar.seen[0] < 15
        assert bar.seen[-1] == pytest.approx(100, abs=1)
    assert len(bars) == 2


def test_a_travelling_bar_shares_its_way_among_runs(bars, monkeypatch, tmp_path, capsys):
    """Of ``sdekit likelihood``: chunks of rows, and draws of dequantisation, one after another."""
    monkeypatch.chdir(tmp_path)
    data = sk.Noise(0).normal((130, 2), stream="data").double()
    np.save("x.npy", data.numpy())
    np.save("levels.npy", (4 * data).round().numpy() / 4)
    assert main(["likelihood", "ring", "x.npy", "--tol", "0.1", "--out", "plain"]) == 0
    levels = ["--bin-width", "0.25", "--origin", "-8", "--draws", "2", "--batch", "100"]
    assert main(["likelihood", "ring", "levels.npy", "--tol", "0.1", "--out", "discrete", *levels]) == 0
    capsys.readouterr()
    model = mixture(sk.VESDE())
    with watch.travelling(model, "likelihood", 64, model.sde.t_min, model.sde.t_max, 3) as shown:
        sk.log_likelihood(shown, model.sample(130, sk.Noise(0)), tol=0.1, per_sample=True)
    assert len(bars) == 1 + 2 + 1  # 130 rows at once, and 100 and 30
    for bar, parts in zip(bars, (3, 4, 4, 3), strict=True):
        assert bar.seen == sorted(bar.seen)
        assert 0 <= bar.seen[0] < 15 / parts
        assert bar.seen[-1] == pytest.approx(100, abs=1)
        ends = [round(100 * (i + 1) / parts, 1) for i in range(parts)]
        assert all(any(abs(seen - end) < 0.2 for seen in bar.seen) for end in ends)


# What both demos do


def tiny(view, seed=0):
    """A model of the demo, untrained."""
    settings = SimpleNamespace(width=8, depth=1)
    data = torch.tensor([[1.0, -1.0], [2.0, 3.0], [0.0, 0.0]])
    return demo_swissroll.build(view, data, settings, seed)


def lab(path, shape=(6, 2)):
    folder = Folder(path / "out")
    made = Report(folder, "t", "", {"table": "Table", "training": "Training"})
    solvers = (Run("DDIM", sk.solvers.DDIM(), 3), Run("Heun", sk.solvers.Heun(), 2))
    reference = sk.Noise(9).normal((20, 2), stream="data")
    settings = Settings(steps=4, batch_size=4)
    return Lab(folder, made, settings, solvers, reference, FLOOR, shape, torch.device("cpu"), seed=3)


def test_eight_solvers_stay_within_their_evaluations():
    """40 for the stochastic ones, 25 for DDIM, 12 for order two; the two-stage ones save one at the clean level."""
    model = mixture(sk.VPSDE())
    made = runs(40, 25, 12, 1e-3)
    assert len({run.slug for run in made}) == len({run.name for run in made}) == 8
    for run in made:
        assert all(c.isalnum() or c == "-" for c in run.slug)
        nfe = torch.as_tensor(
            sk.sample(model, (2, 2), solver=run.solver, steps=run.steps, grid=run.grid, full=True).nfe
        ).double()
        if run.solver.evaluations is None:
            assert run.name == "Probability flow"
            continue
        allowed = 40 if run.solver.stochastic else 25 if run.name == "DDIM" else 12
        assert allowed - 1 <= float(nfe) <= allowed
        assert run.grid == (study.NOISY if run.solver.stochastic else "log_snr")
    assert [run.solver.stochastic for run in made] == [True] * 4 + [False] * 4


def test_a_line_of_the_table_says_what_was_run_and_how_far_it_came(capsys):
    """Its samples are those of ``sample``, and its distance is theirs."""
    model, x_T = mixture(sk.VPSDE()), sk.Noise(1).normal((8, 2), stream="x", dtype=F64)
    reference = model.sample(30, sk.Noise(2))
    run = Run("Some: solver (2)", sk.solvers.Ancestral(), 5, "karras")
    x, line = study.solve(DDPM, model, run, x_T, reference, FLOOR, 4)
    settings = {"x_T": x_T, "solver": run.solver, "steps": 5, "grid": "karras"}
    assert torch.equal(x, sk.sample(model, seed=(4, study.PATH), **settings))
    assert not torch.equal(x, sk.sample(model, seed=(4, study.START), **settings))
    assert line.energy_distance == float(energy_distance(x, reference))
    assert (line.view, line.solver, line.grid, line.steps, line.nfe) == (DDPM.name, run.name, "karras", 5, 5.0)
    assert (line.floor_mean, line.floor_low, line.floor_high, line.samples) == (0.001, -0.003, 0.004, 8)
    assert eval(line.settings, {"Ancestral": sk.solvers.Ancestral}) == run.solver
    assert line.row()[:3] == (DDPM.name, run.name, 5.0)
    assert line.row()[4:] == (line.energy_distance, -0.003, 0.004)
    assert f"{line.energy_distance:.4f}" in capsys.readouterr().out


def test_the_table_is_the_same_as_csv_as_json_and_on_the_page(tmp_path):
    folder = Folder(tmp_path)
    lines = [
        study.Result(view, solver, "S(a=1, b='x')", "log_snr", 3, 5.5, 0.25, d, 0.001, -0.003, 0.004, 7)
        for view, solver, d in (("A", "one, two", 0.0125), ("A", 'the "third"', -0.001), ("B", "four", 2.0))
    ]
    study.write_table(folder, lines[:1])
    study.write_table(folder, lines)
    as_json = json.loads((tmp_path / "table.json").read_text())
    with (tmp_path / "table.csv").open(newline="") as file:
        as_csv = list(csv.DictReader(file))
    assert len(as_csv) == len(as_json) == 3
    for entry, row, line in zip(as_json, as_csv, lines, strict=True):
        assert study.Result(**entry) == line
        assert {name: str(value) for name, value in entry.items()} == row
    html = study.results(lines)
    assert html.count('class="group"') == 2
    for cell in ("0.0125", "-0.0010", "2.0000", "-0.0030 to 0.0040", "the &quot;third&quot;"):
        assert f"<td>{cell}</td>" in html


def test_every_view_starts_from_the_same_normals(tmp_path):
    """(x_T - mean) / std of each prior; the first rows are the first rows however many are asked for."""
    made = lab(tmp_path, (200, 2))
    made.models = {view: tiny(view) for view in (DDPM, NCSN)}
    normals = {}
    for view, model in made.models.items():
        x = made.start(view)
        prior = sk.Noise((3, study.START))
        assert torch.equal(x, model.sde.prior.sample((200, 2), prior))
        assert torch.equal(made.start(view, 5), x[:5])
        normals[view] = (x - x.mean(0)) / x.std(0)
    torch.testing.assert_close(normals[DDPM], normals[NCSN], rtol=0, atol=1e-5)
    assert float(made.start(NCSN).std()) > 5 * float(made.start(DDPM).std())


@pytest.mark.parametrize("sde", [sk.VPSDE(), sk.VESDE()], ids=["VP", "VE"])
def test_a_film_shows_states_at_one_scale_and_ends_with_the_sample(sde):
    """x_t / sqrt(alpha^2 + sigma^2) every second step, the model's x0 beside it, and the clean end at t = 0."""
    model, x_T = mixture(sde), 4 * sk.Noise(1).normal((3, 2), stream="x", dtype=F64)
    run = Run("Ancestral", sk.solvers.Ancestral(), 5, "karras")
    film = list(study.frames(model, run, x_T, 4, every=2))
    states = list(sk.trajectory(model, run.solver, x_T, run.grid, sk.Noise((4, study.PATH)), steps=5))
    shown = [states[0], states[2], states[4]]
    assert [t for t, _, _ in film] == [*(state.level.t for state in shown), 0.0]
    for (_, x, x0), state in zip(film, shown, strict=False):
        unit = (state.level.alpha**2 + state.level.sigma**2) ** 0.5
        torch.testing.assert_close(x * unit, state.x)
        torch.testing.assert_close(x0, model(state.x, state.level.t).x0)
    wanted = sk.sample(model, x_T=x_T, solver=run.solver, steps=5, grid=run.grid, seed=(4, study.PATH))
    assert torch.equal(film[-1][1], wanted)
    assert torch.equal(film[-1][2], wanted)


def test_the_lab_keeps_models_losses_and_the_table(tmp_path):
    """A page section for each; the file holds the averaged weights."""
    made = lab(tmp_path)
    data = sk.Noise(0).normal((30, 2), stream="data")
    for view in (DDPM, NCSN):
        made.train(view, tiny(view), data, sk.losses.DenoisingScoreMatching())
        saved = load_model(tmp_path / "out" / f"{view.key}.safetensors")
        for name, value in made.models[view].state_dict().items():
            assert torch.equal(saved.state_dict()[name], value)
        assert not made.models[view].training
        assert len(made.losses[view.name]) == 4
        kept = [x for _, x, _ in made.sample(view)]
        assert len(kept) == 2
        assert kept[0].shape == (6, 2)
    assert [(line.view, line.solver) for line in made.table] == [
        (view.name, solver) for view in (DDPM, NCSN) for solver in ("DDIM", "Heun")
    ]
    found = page(tmp_path / "out")
    assert found.headings == ["Table", "Training", "Files"]
    assert sorted(made.folder.files) == [
        "ddpm.safetensors", "index.html", "losses.png", "ncsn.safetensors", "table.csv", "table.json", "table.png",
    ]  # fmt: skip


def test_views_differ_in_the_rows_that_the_page_shows():
    """sigma / alpha at both ends, in numbers."""
    html = study.views_table({"VP": sk.VPSDE(t_min=1e-3), "VE": sk.VESDE(sigma_min=0.01, sigma_max=10.0)})
    assert "<td>0.010 to 10</td>" in html
    sde = sk.VPSDE(t_min=1e-3)
    ends = [float(sde.sigma(t)) / float(sde.alpha(t)) for t in (sde.t_min, sde.t_max)]
    assert f"<td>{ends[0]:.3f} to {ends[1]:.0f}</td>" in html


# The classifier that says which digit it is


def test_a_share_has_the_interval_of_clopper_and_pearson():
    """Its ends are where 2.5 % of a binomial lie beyond the count."""
    found = recognise.share(torch.arange(20) < 18)
    assert (found.right, found.of, found.value) == (18, 20, 0.9)
    assert float(stats.binom.sf(17, 20, found.low)) == pytest.approx(0.025, abs=1e-6)
    assert float(stats.binom.cdf(18, 20, found.high)) == pytest.approx(0.025, abs=1e-6)
    assert str(found) == "90.0 % (68.3 to 98.8)"
    assert recognise.share(torch.ones(10)).high == 1.0


def test_the_classifier_reads_held_out_digits_and_not_noise():
    """Images outside the range are read as their nearest within it."""
    data = sk.data.digits()
    read = recognise.reader(data)
    assert recognise.share(read(data.test) == data.test_labels).value > 0.97
    assert torch.equal(read((5 * data.test).clamp(-1, 1)), read(5 * data.test))
    noise = sk.Noise(0).normal((200, 1, 8, 8), stream="x")
    assert recognise.share(read(noise) == torch.arange(200) % 10).value < 0.3


def test_a_model_learns_labels_from_where_it_stands():
    """Before its first step the labelled model is the plain one where there is no label, and another where there is."""
    data = sk.data.digits()
    plain, empty = (demo_digits.build(DDPM, data, DIGITS, seed, classes) for seed, classes in ((0, 0), (1, 10)))
    generator = torch.Generator().manual_seed(0)
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    model, x = demo_digits.labelled(plain, empty), data.test[:3]
    for y in (None, torch.full((3,), demo_digits.CLASSES)):
        assert torch.equal(model(x, 0.5, y=y).eps, plain(x, 0.5).eps)
    assert not torch.equal(model(x, 0.5, y=torch.tensor([0, 5, 9])).eps, plain(x, 0.5).eps)
    assert float(plain(x, 0.5).eps.detach().abs().max()) > 0.1
    assert all(parameter.requires_grad for parameter in model.parameters())


# Demos from end to end, in their smallest size

FOUR = tuple(run for run in runs(2, 2, 2, 0.1) if run.name.startswith(("A", "E", "DP", "Prob")))
"""Two solvers that draw noise on the way, the one that opens the page, and one that chooses its own steps."""

MINI = demo_swissroll.RollSettings(
    Settings(steps=6, batch_size=16), FOUR,
    width=8, depth=1, samples=20, pool=1000, walkers=20, walk=4, side=8, held_out=10, tol=0.3,
)  # fmt: skip
DIGITS = demo_digits.DigitsSettings(
    Settings(steps=3, batch_size=16), width=8, samples=16, solvers=FOUR, film_steps=12, held_out=4,
    probes=1, tol=0.3, labels=Settings(steps=3, batch_size=16), each=10, guided_steps=2,
)  # fmt: skip


@pytest.fixture
def small_demos(monkeypatch):
    """Few steps and points, and pictures of few dots."""

    def save(fig, path, dpi=25):
        return plots.style.save(fig, path, dpi=25)

    monkeypatch.setattr(demo_swissroll, "QUICK", MINI)
    monkeypatch.setattr(demo_digits, "QUICK", DIGITS)
    monkeypatch.setattr(plots, "save", save)
    monkeypatch.setattr(study, "save", save)


def whole(folder, files):
    """The folder holds these files, its page and its list, and nothing half-written."""
    names = {name for name, content in tree(folder).items() if content is not None}
    assert names == {*files, "index.html", MARK}
    assert set((folder / MARK).read_text().splitlines()) == names - {MARK}
    found = page(folder)
    assert set(files) <= set(found.links)
    return found


FORWARD = {"forward.png", "schedules.png"}
TRAINED = FORWARD | {"losses.png", "ddpm.safetensors"}


def test_a_demo_ends_with_every_file_and_every_section(tmp_path, small_demos, capsys):
    """The Swiss roll; twice into one directory, which the second run empties of the first's files."""
    Folder(tmp_path / "out").text("left-over.png", "of a run before")
    assert main(["demo", "swissroll", "--quick", "--out", "out"]) == 0
    out, err = capsys.readouterr()
    found = whole(
        tmp_path / "out",
        TRAINED | {
            "ncsn.safetensors", "score.png", "samples.png", "table.png", "table.csv", "table.json", "ddpm-paths.png",
            "ncsn-paths.png", "log_density.png", "log_density.json", "langevin.png",
        },
    )  # fmt: skip
    assert found.headings == [*demo_swissroll.HEADINGS.values(), "Files"]
    assert "still running" not in found.text
    assert "interrupted" not in found.text
    lines = json.loads((tmp_path / "out" / "table.json").read_text())
    assert [(line["view"], line["solver"]) for line in lines] == [
        (view.name, run.name) for view in demo_swissroll.VIEWS for run in MINI.solvers
    ]
    assert all(line["samples"] == 20 for line in lines)
    assert {line["view"] for line in json.loads((tmp_path / "out" / "log_density.json").read_text())} == {
        view.name for view in demo_swissroll.VIEWS
    }
    assert sk.sample(load_model(tmp_path / "out" / "ncsn.safetensors"), (3, 2), steps=2).shape == (3, 2)
    assert "done in" in out
    assert "Traceback" not in err


@pytest.mark.parametrize("objective", ["sliced", "implicit"])
def test_a_demo_without_a_target_says_so_on_its_page_and_in_its_tables(tmp_path, small_demos, capsys, objective):
    assert main(["demo", "swissroll", "--quick", "--out", "out", "--objective", objective]) == 0
    assert capsys.readouterr().out.count(f"training by {objective} score matching") == 2
    text = (tmp_path / "out" / "index.html").read_text()
    assert f"<b>{objective}</b>score matching" in text
    assert f"by {objective} score matching" in text
    assert "The loss has no target" in text
    assert "the mean square of the error" not in text
    for name in ("table.json", "log_density.json"):
        assert {line["objective"] for line in json.loads((tmp_path / "out" / name).read_text())} == {objective}


@pytest.mark.slow
def test_the_digits_demo_ends_with_every_file_and_every_section(tmp_path, small_demos):
    """Bits of both views beside three references that are the same in every run, and films that are one."""
    assert main(["demo", "digits", "--quick", "--out", "out"]) == 0
    grids = {f"{view.key}-{run.slug}.png" for view in demo_digits.VIEWS for run in FOUR}
    found = whole(
        tmp_path / "out",
        TRAINED | grids | {
            "ncsn.safetensors", "real.png", "table.png", "table.csv", "table.json", "ddpm-same-noise.png",
            "ncsn-same-noise.png", "ddpm-film.png", "ddpm-film.gif", "ncsn-film.png", "ncsn-film.gif",
            "bits_per_dim.json", "bits_per_dim.png", "ddpm-labels.safetensors", "asked.json", "asked.png",
        },
    )  # fmt: skip
    assert found.headings == [*demo_digits.HEADINGS.values(), "Files"]
    bits = json.loads((tmp_path / "out" / "bits_per_dim.json").read_text())
    assert bits["references"]["uniform guess over 17 levels"] == pytest.approx(4.087, abs=5e-4)
    assert 1 < bits["references"]["a histogram a pixel"] < bits["references"]["uniform guess over 17 levels"]
    assert set(bits["views"]) == {view.name for view in demo_digits.VIEWS}
    with Image.open(tmp_path / "out" / "ddpm-film.gif") as film:
        assert film.n_frames > 5
    asked = json.loads((tmp_path / "out" / "asked.json").read_text())
    assert asked["held_out"]["of"] == 360
    assert asked["held_out"]["right"] > 350
    assert [line["weight"] for line in asked["weights"]] == list(DIGITS.weights)
    for line in asked["weights"]:
        assert (line["nfe"], line["recognised"]["of"]) == (4, 100)
        assert sum(line["by_digit"]) == line["recognised"]["right"]
        assert line["recognised"]["low"] <= line["recognised"]["right"] / 100 <= line["recognised"]["high"]
    labelled, plain = (load_model(tmp_path / "out" / f"ddpm{name}.safetensors") for name in ("-labels", ""))
    guided = sk.guidance.ClassifierFree(labelled, labelled, 1.5).given(y=torch.arange(4))
    assert sk.sample(guided, (4, 1, 8, 8), steps=2).shape == (4, 1, 8, 8)
    assert not all(map(torch.equal, labelled.parameters(), plain.parameters()))


@pytest.mark.parametrize(("number", "wanted"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_training_keeps_the_model_so_far(tmp_path, small_demos, monkeypatch, capsys, number, wanted):
    """After the third step: the averaged weights of three steps are in the file, their losses on the page."""
    train, seen = study.train, []

    def interrupted(*args, callback, **settings):
        def after(trained):
            callback(trained)
            seen[:] = [trained]
            if trained.steps_done == 3:
                signal.raise_signal(number)

        return train(*args, callback=after, **settings)

    monkeypatch.setattr(study, "train", interrupted)
    assert main(["demo", "swissroll", "--quick", "--out", "out"]) == wanted
    found = whole(tmp_path / "out", TRAINED)
    assert "The demo was interrupted after" in found.text
    assert "still running" not in found.text
    assert "Training" in found.headings
    (trained,) = seen
    assert (trained.steps_done, len(trained.losses)) == (3, 3)
    saved = load_model(tmp_path / "out" / "ddpm.safetensors").state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in trained.ema.state_dict().items())
    out, err = capsys.readouterr()
    assert "what is done is in" in out
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("end", "wanted", "said"),
    [
        (lambda: signal.raise_signal(signal.SIGINT), 130, "The demo was interrupted after"),
        (lambda: signal.raise_signal(signal.SIGTERM), 143, "The demo was interrupted after"),
    ],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_a_signal_in_sampling_keeps_the_solvers_so_far(tmp_path, small_demos, monkeypatch, end, wanted, said):
    """In the middle of the third solver's run: the table holds two lines, and a later run takes the directory."""
    sample, calls = study.sample, []

    def interrupted(*args, **settings):
        calls.append(settings)
        if len(calls) == 3:
            end()
        return sample(*args, **settings)

    monkeypatch.setattr(study, "sample", interrupted)
    assert main(["demo", "swissroll", "--quick", "--out", "out"]) == wanted
    found = whole(tmp_path / "out", TRAINED | {"score.png", "table.csv", "table.json"})
    assert said in found.text
    assert "still running" not in found.text
    lines = json.loads((tmp_path / "out" / "table.json").read_text())
    assert [line["solver"] for line in lines] == ["Ancestral", "Euler-Maruyama"]
    assert Folder(tmp_path / "out").files == []


def test_an_error_in_a_demo_is_one_line_and_on_the_page(tmp_path, small_demos, monkeypatch, capsys):
    """What was done before stays; the digits' demo, whose first picture is of real digits."""

    def fails(*args, **settings):
        raise NonFiniteError("sample: x must be finite, got <NaN> in 3 rows")

    monkeypatch.setattr(study, "sample", fails)
    assert main(["demo", "digits", "--quick", "--out", "out"]) == 1
    found = whole(tmp_path / "out", TRAINED | {"real.png"})
    assert "with an error: sample: x must be finite, got <NaN> in 3 rows" in found.text
    err = capsys.readouterr().err
    assert err.rstrip("\n").endswith("sdekit demo: sample: x must be finite, got <NaN> in 3 rows")
    assert "Traceback" not in err


def test_a_process_that_is_terminated_leaves_a_page_and_code_143(tmp_path):
    """SIGTERM from outside, while a long training runs."""
    script = f"""
import sys
from sdekit.cli import demo_swissroll as roll, main
from sdekit.cli.study import runs
from sdekit.training import Settings
roll.QUICK = roll.RollSettings(
    Settings(steps=10**6, batch_size=16), runs(2, 2, 2, 0.1), width=8, depth=1, samples=20, pool=1000, side=8
)
roll._Study.forward = lambda self: None
sys.exit(main.main(["demo", "swissroll", "--quick", "--out", {str(tmp_path / "out")!r}]))
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            shown = b""
            while b"loss" not in shown and process.poll() is None:
                shown += process.stderr.read(1)
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 143
    assert b"Traceback" not in shown + err
    assert b"interrupted after" in out
    found = whole(tmp_path / "out", TRAINED - FORWARD)
    assert "The demo was interrupted after" in found.text


# compare


def compared(tmp_path, *more, out="a"):
    """A small comparison from the command line, and what it has written."""
    argv = ["compare", "ring", "DDIM", "Ancestral()@karras", "--samples", "8", "--nfe", "3", "5", "--repeats", "4"]
    assert main([*argv, "--out", str(tmp_path / out), *more]) == 0
    return tmp_path / out


def without_seconds(folder):
    """The rows of a table, as they were told."""
    rows = list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_compare_prints_a_table_and_writes_its_files(tmp_path, capsys):
    folder = compared(tmp_path)
    out, _ = capsys.readouterr()
    assert sorted(p.name for p in folder.iterdir()) == [
        MARK, "comparison.json", "comparison.png", "table.csv", "table.txt",
    ]  # fmt: skip
    lines = out.splitlines()
    assert lines[0].endswith(": 8 samples of shape (2,)")
    assert "flow error" in lines[1]
    assert "squared MMD" not in lines[1]
    assert [line.split()[1] for line in lines[2:6]] == ["DDIM", "Ancestral()@karras"] * 2
    assert lines[-1] == f"all figures are in {folder}"
    found = json.loads((folder / "comparison.json").read_text())
    assert [(row["sampler"], row["solver"], row["grid"], row["nfe"]) for row in found["rows"]] == [
        (name, solver, grid, n)
        for n in (3, 5)
        for name, solver, grid in (
            ("DDIM", repr(sk.solvers.DDIM()), "log_snr"),
            ("Ancestral()@karras", repr(sk.solvers.Ancestral()), "karras"),
        )
    ]
    assert "squared MMD" in (folder / "table.txt").read_text()
    with Image.open(folder / "comparison.png") as picture:
        assert picture.format == "PNG"


def test_compare_says_what_the_function_says_and_the_same_for_one_seed(tmp_path):
    wanted = sk.compare(
        sk.comparison.oracle("ring"), (8, 2), [sk.solvers.DDIM()], nfe=(3, 5), repeats=4, seed=2
    ).rows  # fmt: skip
    rows = [row for row in without_seconds(compared(tmp_path, "--seed", "2")) if row["sampler"] == "DDIM"]
    told = {(int(row["budget"]), row["figure"]): float(row["value"]) for row in rows}
    assert told == {(row.budget, name): value.value for row in wanted for name, value in row.figures.items()}
    again, other = (compared(tmp_path, "--seed", seed, out=seed) for seed in ("2", "3"))
    assert without_seconds(again) == without_seconds(tmp_path / "a") != without_seconds(other)


def test_compare_loads_a_saved_model_and_data(tmp_path, capsys):
    """The data tell the shape of a sample."""
    with torch.random.fork_rng(devices=[]):
        model = sk.edm(sk.networks.MLP((2,), width=4, depth=1))
    sk.training.save_model(tmp_path / "model.safetensors", model)
    np.save(tmp_path / "data.npy", sk.Noise(1).normal((40, 2), stream="data").numpy())
    argv = ["compare", str(tmp_path / "model.safetensors"), "DDIM", "--samples", "6", "--nfe", "4", "--repeats", "3"]
    assert main([*argv, "--data", str(tmp_path / "data.npy"), "--out", str(tmp_path / "a")]) == 0
    out, _ = capsys.readouterr()
    assert out.splitlines()[0] == "Parametrised: 6 samples of shape (2,)"
    assert "energy distance to data" in out
    found = json.loads((tmp_path / "a" / "comparison.json").read_text())
    assert set(found["model_error"]) == {name for name in found["floors"] if name.endswith(" to data")} != set()
    assert main([*argv, "--out", str(tmp_path / "b")]) == 0  # the network knows it, too


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["ring", "ProbabilityFlow"], "compare: entries must cost a number of evaluations a step"),
        (["ring", "DDIM", "DDIM"], "compare: entries must have names of their own, got 'DDIM' twice"),
        (["ring", "DDIM@"], "SAMPLER: the grid of 'DDIM@' must be one of"),
        (["ring", "DDIM@leading"], "needs a process on a table"),
        (
            ["ring", "--data", "swissroll", "--samples", "5000"],
            "compare: data must be of shape (M, *(2,)) with M at least",
        ),
        (["ring", "--data", "names.npy"], "--data: names.npy must hold real numbers, (M, *event), got <U1"),
        (["ring", "--data", "broken.npy"], "--data: broken.npy must be an array as numpy.save writes it"),
        (
            ["ring", "--data", "digits", "--samples", "8"],
            "compare: shape must be (N, *(2,)) for the model, got (8, 1, 8, 8)",
        ),
        (["broken.npy"], "MODEL: "),
        (["sdekit:compare"], "MODEL: 'sdekit:compare' must be a model, got function"),
    ],
)
def test_compare_refuses_before_it_writes(tmp_path, monkeypatch, capsys, argv, said):
    monkeypatch.chdir(tmp_path)
    np.save("names.npy", np.array(["a", "b"]))
    Path("broken.npy").write_bytes(b"nothing")
    assert main(["compare", *argv, "--out", "a"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert said in err
    assert not Path("a").exists()


def test_compare_must_be_told_the_shape_that_nobody_knows(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine_shapeless.py").write_text(
        "import sdekit as sk\nmodel = sk.models.FromFunction(sk.EDMSDE(), x0=lambda x, t: 0 * x)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    argv = ["compare", "mine_shapeless:model", "DDIM", "--samples", "6", "--nfe", "2", "--repeats", "2", "--out", "a"]
    assert main(argv) == 2
    assert "--event: must be given where neither the model nor --data tells" in capsys.readouterr().err
    assert not Path("a").exists()


def test_compare_takes_ones_own_model(tmp_path, monkeypatch):
    (tmp_path / "mine_compared.py").write_text("import sdekit as sk\nmodel = sk.comparison.oracle('ring')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    argv = ["--samples", "8", "--nfe", "3", "--repeats", "3"]
    for name, out in (("mine_compared:model", "a"), ("ring", "b")):
        assert main(["compare", name, "nfe=N", *argv, "--out", out]) == 0
    assert without_seconds(tmp_path / "a") == without_seconds(tmp_path / "b")


# likelihood


def test_likelihood_prints_the_mean_and_writes_rows(tmp_path, capsys):
    """The rows are the function's own, and the mean that of the exact density, within the error on the label."""
    model = sk.comparison.oracle("ring")
    x = model.sample(12, sk.Noise(1), t=model.sde.t_min)
    np.save(tmp_path / "x.npy", x.numpy())
    np.save(tmp_path / "far.npy", (0.99 * x).numpy())
    out = tmp_path / "a"
    argv = ["likelihood", "ring", str(tmp_path / "x.npy"), str(tmp_path / "far.npy"), "--batch", "7", "--tol", "0.03"]
    assert main([*argv, "--map", "5", "--out", str(out)]) == 0
    said, _ = capsys.readouterr()
    assert sorted(p.name for p in out.iterdir()) == [
        MARK, "density.png", "histogram.png", "likelihood.json", "rows.csv", "rows.npz",
    ]  # fmt: skip
    summary = json.loads((out / "likelihood.json").read_text())
    about = summary["sets"][str(tmp_path / "x.npy")]
    exact = model.log_prob(x, model.sde.t_min)
    assert about["rows"] == 12
    assert abs(about["mean"] - float(exact.mean())) <= about["most_solver"] + about["most_prior"]
    assert about["standard_error"] == pytest.approx(float(exact.std()) / 12**0.5, rel=1e-2)
    rows = list(csv.DictReader(io.StringIO((out / "rows.csv").read_text())))
    assert len(rows) == 24
    direct = sk.log_likelihood(model, x, tol=0.03, per_sample=True).log_prob.tolist()
    assert [float(row["log_prob"]) for row in rows[:12]] == direct
    with np.load(out / "rows.npz") as arrays:
        assert arrays["0_log_prob"].tolist() == direct
    pairs = (exact[:, None] > model.log_prob(0.99 * x, model.sde.t_min)[None]).double().mean()
    assert summary["separation"] == pytest.approx(float(pairs), abs=1e-2)
    assert f"{100 * summary['separation']:.1f} % of pairs" in said


def test_likelihood_of_levels_is_a_bound_in_bits(tmp_path, capsys):
    """Data with levels are refused without them, with the flags that would do, and dequantised with them."""
    x = 0.5 * sk.Noise(0).normal((40, 2), stream="data", dtype=torch.float64).round()
    np.save(tmp_path / "x.npy", x.numpy())
    argv = ["likelihood", "gaussian", str(tmp_path / "x.npy"), "--tol", "0.01", "--out", str(tmp_path / "a")]
    event = tuple(sk.comparison.oracle("gaussian").means.shape[1:])
    if event != (2,):
        np.save(tmp_path / "x.npy", x[:, :1].expand(-1, *event).numpy())
    assert main(argv) == 2
    _, err = capsys.readouterr()
    assert "levels, 0.5 apart from" in err
    assert "--bin-width 0.5 --origin -" in err
    assert not (tmp_path / "a").exists()
    low = float(x.min())
    assert main([*argv, "--bin-width", "0.5", "--origin", str(low), "--draws", "2", "--limit", "10"]) == 0
    assert "bits per dimension, at most" in capsys.readouterr()[0]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["ring", "digits"], "DATA: rows must be of shape (2,), got (1, 8, 8) in digits"),
        (["ring", "swissroll", "swissroll"], "DATA: must be one data set, or two that differ"),
        (["ring", "none.npy"], "DATA: must be one of digits, swissroll or an .npy file that is there"),
        (["ring", "swissroll", "--bin-width", "0.1"], "--bin-width: must be given with --origin"),
        (["ring", "swissroll", "--tol", "2"], "--tol"),
        (["ring", "swissroll", "--map", "1"], "--map"),
        (["gaussian", "flat.npy", "--map", "9"], "--map: needs events of shape (2,), got (16,) in flat.npy"),
        (["Nope", "swissroll"], "MODEL: must be one of"),
    ],
)
def test_likelihood_refuses_before_it_writes(tmp_path, monkeypatch, capsys, argv, said):
    monkeypatch.chdir(tmp_path)
    np.save("flat.npy", sk.Noise(0).normal((3, 16), stream="x").numpy())
    assert main(["likelihood", *argv, "--out", "a"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert said in err
    assert not Path("a").exists()
