"""The command line: every flag given wrongly ends with code 2, one line and no traceback, and nothing is lost."""

import argparse

import pytest
import torch

from sdekit.cli.main import COMMANDS, main, parser

SAMPLERS = ["Nope", "DDIM(eta=3)", "DDIM(", "VPSDE", "DDIM@", "DDIM@cats", "ProbabilityFlow", "nfe=5", ""]
WRONG = {
    ("demo", "data"): ["cats", "Digits", "digits,swissroll", "../digits", " "],
    ("demo", "--objective"): ["contrastive", "", "Denoising", "1"],
    ("demo", "--device"): ["gpu", "", "cuda", "cuda:99", "cuda:-1", "meta", "cpu:x", "0"],
    ("demo", "--out"): ["notes.txt", "notes.txt/below", "full", "full/thesis.tex"],
    ("demo", "--seed"): ["one", "1.5", "-1", "", "nan", "1e3", str(2**63), "9" * 5000, "0x10"],
    ("demo", "--quick"): ["=yes"],
    ("demo", "--force"): ["=no"],
    ("info", "--json"): ["=true"],
    ("certify", "solvers"): [
        "Nope",
        "DDIM(eta=3)",
        "DDIM(",
        "1",
        "DDIM(eta=x)",
        "Solver",
        "os:nothing",
        "no_module:x",
        "VPSDE",
    ],
    ("certify", "--sde"): ["Nope", "VPSDE(beta_min=-1)", "DDIM", "", "SDE"],
    ("certify", "--order"): ["one", "-1", "nan", "", "1"],
    ("certify", "--reference"): ["Nope", "VPSDE", ""],
    ("certify", "--jobs"): ["0", "-1", "two", "1.5"],
    ("certify", "--out"): ["notes.txt", "notes.txt/below", "full"],
    ("certify", "--all"): ["=yes"],
    ("certify", "--force"): ["=no"],
    ("likelihood", "model"): ["Nope", "no.safetensors", "notes.txt", "os:nothing", "no_module:x", "os:path", ""],
    ("likelihood", "data"): ["cats", "notes.txt", "no.npy", "", "digits"],
    ("likelihood", "--tol"): ["0", "1", "-1", "nan", "small"],
    ("likelihood", "--trace"): ["exactly", ""],
    ("likelihood", "--bin-width"): ["0", "-1", "nan", "wide", "0.1"],
    ("likelihood", "--origin"): ["nan", "low", "0"],
    ("likelihood", "--draws"): ["0", "-1", "many", "1.5", "10000001"],
    ("likelihood", "--limit"): ["0", "-1", "many", "1.5"],
    ("likelihood", "--map"): ["0", "1", "-1", "many", "1.5", "1001"],
    ("likelihood", "--batch"): ["0", "-1", "many", "1.5", "10000001"],
    ("likelihood", "--seed"): ["one", "1.5", "-1", ""],
    ("likelihood", "--out"): ["notes.txt", "notes.txt/below", "full"],
    ("likelihood", "--force"): ["=no"],
    ("compare", "model"): ["Nope", "no.safetensors", "notes.txt", "os:nothing", "no_module:x", "os:path", ""],
    ("compare", "--nfe"): ["0", "-1", "two", "2.5", "1e3", "10000001"],
    ("compare", "--samples"): ["3", "-1", "many", "2.5", "10000001"],
    ("compare", "--event"): ["-1", "0", "two", "2.5"],
    ("compare", "--data"): ["cats", "notes.txt", "no.npy", ""],
    ("compare", "--seed"): ["one", "1.5", "-1", "", str(2**63)],
    ("compare", "--repeats"): ["1", "-1", "many", "1.5", "10000001"],
    ("compare", "--out"): ["notes.txt", "notes.txt/below", "full"],
    ("compare", "--force"): ["=no"],
    ("compare", "samplers"): SAMPLERS,
}
"""Wrong values by command and flag; a value that begins with "=" is glued to a flag that takes none."""

FREE = {"-h", "--help"}
FIRST = {"compare": ["ring"], "likelihood": ["ring", "swissroll"]}
"""What a command needs before its flags."""


def subparsers():
    """The commands' own parsers, by name."""
    (found,) = (a.choices for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return found


def flags():
    """Every (command, flag) there is; a positional argument by its name."""
    return {
        (name, action.option_strings[-1] if action.option_strings else action.dest)
        for name, sub in subparsers().items()
        for action in sub._actions
        if not FREE & set(action.option_strings)
    }


def lines():
    """Command lines, each with one thing wrong."""
    for (command, flag), values in WRONG.items():
        for value in values:
            if value.startswith("="):
                yield [command, *FIRST.get(command, []), f"{flag}{value}"]
            elif flag.startswith("-"):
                yield [command, *FIRST.get(command, []), f"{flag}={value}"]
            else:
                before = FIRST.get(command, [])[: flag in ("samplers", "data")]
                yield [command, *before, value, *(["swissroll"] if (command, flag) == ("likelihood", "model") else [])]
    for command, flag in sorted(flags()):
        if flag.startswith("-") and not any(v.startswith("=") for v in WRONG.get((command, flag), [])):
            yield [command, *FIRST.get(command, []), flag]  # a value is missing
    for command in COMMANDS:
        yield [command, "--unknown"]
        yield [command, "digits", "extra"]
    yield from ([], ["dmeo"], [""], ["--seed", "1"], ["--json"], ["DEMO"])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with things that must not be lost."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    (tmp_path / "notes.txt").write_text("notes")
    return tmp_path


def contents(path):
    """Every file below a directory, and what is in it."""
    return {str(p.relative_to(path)): p.is_file() and p.read_bytes() for p in sorted(path.rglob("*"))}


def test_every_flag_has_wrong_values():
    """A new command or flag without them fails."""
    assert flags() == set(WRONG)


@pytest.mark.parametrize("argv", list(lines()), ids=lambda argv: " ".join(argv)[:60] or "nothing")
def test_a_wrong_command_line_is_one_line_and_code_2_and_nothing_is_lost(here, capsys, argv):
    """Nothing is printed on standard output, and no file is written or changed."""
    before = contents(here)
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert err.startswith("sdekit")
    assert len(err) < 1000
    if argv and argv[-1].startswith("-") and "=" in argv[-1] and not argv[-1].endswith("="):
        flag, _, value = argv[-1].partition("=")
        assert flag in err
        assert value[:40] in err or "bits" in err or "2^63" in err, err
    assert contents(here) == before
