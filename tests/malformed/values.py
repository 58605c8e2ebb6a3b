"""Wrong values by kind of parameter: what a parameter of that kind must refuse, by a short name for the test's id.

A kind leaves out what is legal for its parameter: None where it may be left out, infinity where it means "no bound".
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import sdekit as sk
from sdekit.errors import describe

NAN, INF = float("nan"), float("inf")
HUGE = 10**5000
"""More digits than Python prints, and more than a float holds."""


@dataclass(frozen=True)
class Wrong:
    """The wrong values of one parameter; ``by``: whose name the message bears, where it is not the callable's own;
    ``said``: the name that the message gives the parameter, where it is another."""

    values: dict
    by: str | None = None
    said: str | None = None


@dataclass(frozen=True)
class Free:
    """A parameter that takes anything, and why."""

    why: str


def by(owner, wrong, said=None):
    """The same values, refused by the part that the parameter is handed to."""
    return Wrong(wrong.values, owner, said or wrong.said)


def but(wrong, *labels, **more):
    """The same values without those that are legal here, and with some more."""
    assert set(labels) <= set(wrong.values), labels
    kept = {k: v for k, v in wrong.values.items() if k not in labels}
    return Wrong({**kept, **more}, wrong.by, wrong.said)


def number(above=None, at_least=None, below=None, at_most=None, *, optional=False):
    """A real number within bounds."""
    out = {}
    for name, bound, step in (
        ("above", above, -1),
        ("at_least", at_least, -1),
        ("below", below, 1),
        ("at_most", at_most, 1),
    ):
        if bound is not None:
            out[f"not {name}"] = bound if name in ("above", "below") else bound + step
            out[f"far from {name}"] = bound + 1000 * step
    out |= {"nan": NAN, "inf": INF, "-inf": -INF, "huge": HUGE, "string": "3", "bool": True, "complex": 1j}
    out |= {"tensor": torch.ones(2), "array": np.ones(3), "list": [1.0], "class": float}
    return Wrong(out if optional else {**out, "none": None})


def whole(at_least=None, at_most=None, *, optional=False):
    """A whole number within bounds."""
    out = {} if at_least is None else {"too few": at_least - 1, "far below": at_least - 1000}
    out |= {} if at_most is None else {"too many": at_most + 1}
    out |= {"half": 2.5, "float": 3.0, "nan": NAN, "huge": HUGE, "string": "3", "bool": True}
    out |= {"tensor": torch.arange(2), "array": np.arange(3), "list": [3], "class": int}
    return Wrong(out if optional else {**out, "none": None})


def choice(*, optional=False, number=False, function=False):
    """A name out of a list."""
    out = {
        "unknown": "cats",
        "empty": "",
        "capitals": "MEAN",
        "bytes": b"mean",
        "list": ["mean"],
        "tensor": torch.ones(2),
    }
    out |= {} if number else {"number": 3.5}
    out |= {} if function else {"function": math_sin, "class": dict}
    return Wrong(out if optional else {**out, "none": None})


def math_sin(x):
    """A function, where none is wanted."""
    return torch.sin(x)


def flag(*, optional=False):
    """True or False."""
    out = {"string": "no", "zero": 0, "one": 1, "float": 0.5, "list": [], "tensor": torch.zeros(2)}
    return Wrong(out if optional else {**out, "none": None})


def function():
    """Anything that can be called."""
    return Wrong({"none": None, "number": 3.5, "string": "score", "tensor": torch.ones(2), "list": [math_sin]})


def maybe_function():
    """A function, or nothing."""
    return but(function(), "none")


def mapping(*, optional=False):
    """Things by name."""
    out = {"string": "y", "number": 3.5, "list": [("y", 1)], "tensor": torch.ones(2)}
    return Wrong(out if optional else {**out, "none": None})


def batch(*, rows=0, optional=False):
    """A finite floating-point tensor of shape (B, *event)."""
    bad, low = torch.zeros(3, 2), torch.zeros(3, 2)
    bad[1, 0], low[2, 1] = NAN, -INF
    out = {
        "list": [[0.0, 1.0]],
        "array": np.zeros((3, 2)),
        "number": 0.5,
        "string": "x",
        "class": torch.Tensor,
        "integers": torch.zeros(3, 2, dtype=torch.int64),
        "booleans": torch.zeros(3, 2, dtype=torch.bool),
        "complex": torch.zeros(3, 2, dtype=torch.complex64),
        "no batch": torch.tensor(0.5),
        "nan": bad,
        "-inf": low,
    }
    out |= {f"{n} rows": torch.zeros(n, 2) for n in range(rows)}
    return Wrong(out if optional else {**out, "none": None})


def tensor(*, optional=False):
    """A tensor, whatever is in it."""
    out = {"list": [[0.0, 1.0]], "array": np.zeros((3, 2)), "number": 0.5, "string": "x", "class": torch.Tensor}
    return Wrong(out if optional else {**out, "none": None})


def instance(of, *, optional=False, **more):
    """An instance of a class: not the class itself, its name, or a number."""
    out = {"class": of, "string": of.__name__, "number": 3.5, "list": [], **more}
    return Wrong(out if optional else {**out, "none": None})


def model(*, optional=False):
    """A score model; a network is none."""
    return instance(sk.models.GaussianMixture, optional=optional, network=torch.nn.Linear(2, 2), function=math_sin)


def noise(*, optional=False):
    """A source of draws."""
    return instance(sk.Noise, optional=optional, seed=0, generator=torch.Generator(), tensor=torch.zeros(3, 2))


def seed():
    """A whole number, or several."""
    return by(
        None,
        but(
            whole(0, 2**63 - 1),
            "list",
            several_with_one_below=(1, -1),
            several_with_a_half=[1, 2.5],
            several_with_a_name=["1"],
        ),
    )


def ids(owner="KeyedNoise"):
    """Distinct whole numbers in [0, 2^32)."""
    values = {
        "string": "ab",
        "number": 3,
        "fractions": [0.5, 1.5, 2.5],
        "below": [-1, 0, 1],
        "above": [0, 1, 2**32],
        "twice": [0, 1, 1],
        "matrix": [[0, 1, 2]],
        "floats": torch.zeros(3),
        "booleans": torch.tensor([True, False, True]),
        "ragged": [[0], 1],
    }
    return Wrong(values, owner)


def shape(*, optional=False):
    """(B, *event), whole numbers."""
    values = {
        "number": 3,
        "string": "32",
        "empty": (),
        "half": (2.5, 2),
        "below": (-1, 2),
        "below in the event": (3, -2),
        "name": ("3", 2),
        "bool": (True, 2),
        "huge": (HUGE, 2),
        "nested": ((3, 2),),
        "hole": (3, None),
        "tensor": torch.zeros(3, 2),
        "set": {3, 2},
    }
    return Wrong(values if optional else {**values, "none": None})


def times_of_a_grid(sde):
    """A name, a function or decreasing times within the domain."""
    low, high = sde.t_min, sde.t_max
    middle = 0.5 * (low + high)
    values = {
        "unknown": "cats",
        "number": 3.5,
        "empty": [],
        "rising": [low, middle, high],
        "equal": [high, middle, middle],
        "nan": [high, NAN],
        "beyond": [2 * high, middle],
        "before": [high, 0.0],
        "matrix": [[high, middle]],
        "strings": ["a", "b"],
        "ragged": [[high], middle],
        "complex": torch.tensor([1j]),
        "booleans": torch.tensor([True]),
        "class": {"a": 1},
        "function of nothing": lambda sde, steps: None,
        "function of too many": lambda sde, steps: torch.linspace(high, low, steps + 5),
    }
    return Wrong(values, "grid")


def table(*, optional=False, **more):
    """Real numbers, (N,) with N >= 2."""
    values = {
        "string": "linear",
        "number": 0.1,
        "one": [0.1],
        "empty": [],
        "matrix": [[0.1, 0.2], [0.1, 0.2]],
        "nan": [0.1, NAN, 0.3],
        "inf": [0.1, INF, INF],
        "strings": ["a", "b"],
        "complex": [0.1, 1j],
        "booleans": torch.tensor([True, False]),
        "ragged": [[0.1], 0.2],
        "class": dict,
        **more,
    }
    return Wrong(values if optional else {**values, "none": None})


def gaussian_process(*, optional=False):
    """A process with alpha and sigma."""
    return instance(sk.VPSDE, optional=optional, drift_and_diffusion_alone=Bare())


def process(*, optional=False):
    """Any process."""
    return instance(sk.VPSDE, optional=optional)


def path():
    """Where a file lies."""
    return Wrong({"number": 3, "none": None, "list": ["a"], "bool": True, "class": Path, "tensor": torch.zeros(2)})


def dtype(*, optional=False):
    """A floating-point torch.dtype."""
    values = {
        "integers": torch.int64,
        "complex": torch.complex64,
        "bool": torch.bool,
        "name": "float32",
        "python": float,
        "number": 32,
    }
    return Wrong(values if optional else {**values, "none": None})


def device():
    """A device that is there."""
    return Wrong(
        {
            "unknown": "gpu",
            "empty": "",
            "not there": "cuda:7",
            "another": "meta",
            "number": 3.5,
            "list": ["cpu"],
            "below": -1,
        }
    )


def time(sde, *, rows=3):
    """A number or one a row, within the domain."""
    bad = torch.full((rows,), 0.5 * (sde.t_min + sde.t_max))
    late, hole = bad.clone(), bad.clone()
    late[1], hole[2] = 2 * sde.t_max, NAN
    values = {
        "nan": NAN,
        "inf": INF,
        "before": 0.5 * sde.t_min,
        "beyond": 2 * sde.t_max,
        "below": -0.5,
        "string": "0.5",
        "none": None,
        "bool": True,
        "complex": 0.5j,
        "list": [0.5] * rows,
        "too few": bad[1:],
        "matrix": bad[None],
        "one beyond": late,
        "one nan": hole,
        "booleans": bad > 0,
        "complexes": bad * 1j,
        "huge": HUGE,
        "class": float,
    }
    return Wrong(values)


def weight():
    """A number, one a row, or a function of the level."""
    values = {
        "nan": NAN,
        "inf": INF,
        "huge": HUGE,
        "string": "strong",
        "none": None,
        "bool": True,
        "complex": 1j,
        "list": [1.0, 2.0],
        "matrix": torch.ones(3, 2),
        "complexes": torch.ones(3) * 1j,
        "booleans": torch.ones(3) > 0,
        "one nan": torch.tensor([1.0, NAN]),
    }
    return Wrong(values)


class Bare(sk.SDE):
    """A process with drift and diffusion alone."""

    t_min, t_max = 0.01, 1.0

    def drift(self, x, t):
        """-x^3."""
        return -(x**3)

    def diffusion(self, t):
        """1."""
        return torch.ones_like(torch.as_tensor(t, dtype=torch.float64))

    @property
    def prior(self):
        """N(0, 1)."""
        return sk.sdes.NormalPrior()

    def __repr__(self):
        return "Bare()"


def forms(value):
    """Every way in which a message may show a value: in short, by its type, or by what is wrong within it."""
    if isinstance(value, int) and value.bit_length() > 64:
        return {describe(value)} | ({str(value)} if value < 2**128 else set())
    if isinstance(value, torch.Tensor):
        few = {"none", str(len(value)), f"{len(value)} rows"} if value.ndim and len(value) != 3 else set()
        return few | {
            describe(value),
            str(value.dtype),
            str(tuple(value.shape)),
            "NaN",
            *map(brief, value.reshape(-1).tolist()),
        }
    if isinstance(value, (list, tuple, set)):
        inner = set().union(*map(forms, value)) if value else set()
        hollow = "NaN" if any(part is NAN or part is INF for part in value) else describe(value)
        return inner | {describe(value), type(value).__name__, str(len(value)), hollow}
    if isinstance(value, dict):
        return {describe(value), *set().union(*map(forms, value.values()), set())}
    if callable(value) and not isinstance(value, type):
        return {""}  # what it returned is shown
    if isinstance(value, np.ndarray):
        return {describe(value), " ".join(repr(value).split())[:57]}
    out = {describe(value), brief(value)} | ({"tensor of shape ()"} if isinstance(value, float) else set())
    return out | ({type(value).__name__} if not isinstance(value, (str, float, int)) else set())


def brief(value):
    """A number in a few digits; anything else as it prints itself."""
    return f"{value:g}" if isinstance(value, float) else getattr(value, "__name__", None) or repr(value)


def shows(message, value):
    """Whether a message says what was given: what follows its last "got" shows the value."""
    given = message.rpartition("got")[2]
    return bool(given) and any(form in given for form in forms(value))


def names(message, word):
    """Whether a message has a word, as a word."""
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", message) is not None
