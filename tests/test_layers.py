"""The architecture: imports go down only, nothing heavy is loaded unasked, and every exported name exists."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import sdekit

ROOT = Path(sdekit.__file__).parent
ORDER = [
    {"types", "errors", "networks"},
    {"sdes", "ode", "noise"},
    {"models", "grids"},
    {"losses", "solvers", "chunks"},
    {"choice", "graphs", "density"},
    {"sampling", "simulation", "likelihood", "guidance", "presets"},
    {"tuning", "metrics", "data", "plots"},
    {"certification", "comparison", "training"},
    {"cli"},
]
LAYER = {name: i for i, names in enumerate(ORDER) for name in names}
FILES = sorted(ROOT.rglob("*.py"))


def module(path, root=ROOT):
    """The dotted name of a file, without the package's: "" for its __init__, "sdes.vp" for sdes/vp.py."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def exists(name, root=ROOT):
    return (root / Path(*name.split("."))).with_suffix(".py").is_file() or (root / Path(*name.split("."))).is_dir()


def imports(path, root=ROOT):
    """The modules of the package that a file imports, as dotted names without the package's."""
    here = module(path, root).split(".") if module(path, root) else []
    package = here if path.name == "__init__.py" else here[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            yield from (".".join(parts[1:]) for parts in names if parts[0] == "sdekit")
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            elif node.module and node.module.split(".")[0] == "sdekit":
                base = node.module.split(".")[1:]
            else:
                continue
            for alias in node.names:  # "from . import vp" names a module, "from .vp import VPSDE" a thing in one
                inner = ".".join([*base, alias.name])
                yield inner if exists(inner, root) else ".".join(base)


def fault(importer, imported):
    """Why an arrow may not be, or None."""
    a, b = importer.split(".")[0], imported.split(".")[0]
    if a == b:
        return None
    if not b:
        return None if a == "cli" else "imports the package itself"
    if a not in LAYER or b not in LAYER:
        return f"{a if a not in LAYER else b} is in no layer"
    if LAYER[b] > LAYER[a]:
        return "goes up"
    if LAYER[b] == LAYER[a] and not imported.endswith(".base"):
        return "goes sideways"
    return None


@pytest.mark.parametrize("path", FILES, ids=lambda p: module(p) or "sdekit")
def test_imports_go_down_only(path):
    """And never sideways, except to a base.py; within a sub-package as they like."""
    if not module(path):
        return  # the package's own __init__ gathers all of them
    faults = {name: fault(module(path), name) for name in imports(path)}
    assert {name: why for name, why in faults.items() if why} == {}


def test_the_walk_sees_every_kind_of_arrow(tmp_path):
    """Its own negative controls: each way of writing an import, and each way of being wrong."""
    for name in ("solvers", "sdes", "cli", "models"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "base.py").touch()
    (tmp_path / "errors.py").touch()
    path = tmp_path / "sdes" / "vp.py"
    path.write_text(
        "from ..errors import describe\nfrom .. import solvers, __version__\nfrom ..models.base import X\n"
        "import sdekit.cli.base\nfrom sdekit import models\nfrom . import base\nimport torch\n"
        "def f():\n    from ..cli import main\n"
    )
    found = list(imports(path, tmp_path))
    assert found == ["errors", "solvers", "", "models.base", "cli.base", "models", "sdes.base", "cli"]
    assert [fault("sdes.vp", name) for name in found] == [
        None, "goes up", "imports the package itself", "goes up", "goes up", "goes up", None, "goes up",
    ]  # fmt: skip
    assert fault("likelihood", "sampling") == "goes sideways"
    assert fault("solvers.heun", "losses.base") is None
    assert fault("extras", "errors") == "extras is in no layer"


def test_networks_import_nothing_of_the_package():
    """They are plain torch modules."""
    files = [path for path in FILES if path.parent == ROOT / "networks"]
    assert len(files) >= 3
    for path in files:
        assert {name.split(".")[0] for name in imports(path)} <= {"networks"}, path.name


def test_ode_methods_know_nothing_of_diffusion():
    """They import types and errors alone."""
    for path in FILES:
        if path.parent == ROOT / "ode":
            assert {name.split(".")[0] for name in imports(path)} <= {"ode", "types", "errors"}, path.name


PROBE = """
import json, sys, warnings, torch
before = set(sys.modules)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import sdekit
    added = sorted(set(sys.modules) - before)
    sdekit.VPSDE().diffusion(0.5)
print(json.dumps([added, [str(w.message) for w in caught]]))
"""


@pytest.fixture(scope="module")
def fresh():
    """What ``import sdekit`` adds to torch's own modules in a new interpreter, and the warnings of a first drift."""
    run = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, cwd=ROOT.parent, check=True)
    added, warned = json.loads(run.stdout)
    assert "sdekit.sdes.vp" in added
    return added, warned


def test_neither_the_import_nor_a_first_derivative_warns(fresh):
    assert fresh[1] == []


@pytest.mark.parametrize("heavy", ["matplotlib", "scipy", "torchdiffeq", "sklearn", "tqdm", "sdekit.cli"])
def test_importing_the_package_loads_nothing_heavy(fresh, heavy):
    assert heavy not in fresh[0]


@pytest.mark.parametrize("lazy", sdekit.LAZY)
def test_importing_the_package_leaves_lazy_modules_alone(fresh, lazy):
    assert f"sdekit.{lazy}" not in fresh[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: module(p) or "sdekit")
def test_every_exported_name_exists_once(path):
    if path.stem == "__main__":
        return
    loaded = importlib.import_module(".".join(filter(None, ["sdekit", module(path)])))
    names = getattr(loaded, "__all__", [])
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(loaded, name)] == []
    if path.name == "__init__.py" and path.parent != ROOT / "cli":
        assert names, f"{loaded.__name__} exports nothing"


def test_every_lazy_module_is_exported():
    assert set(sdekit.LAZY) <= set(sdekit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sdekit.nothing  # noqa: B018
