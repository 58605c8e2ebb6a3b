"""Errors: one hierarchy whose members are also Python's own, and the checks at the door."""

import inspect
import math

import numpy as np
import pytest
import torch

from sdekit import errors
from sdekit.errors import (
    InvalidArgument,
    InvalidType,
    NonFiniteError,
    ScheduleError,
    batch,
    describe,
    finite_rows,
    number,
    one_of,
    whole,
)

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if kind.__module__ == errors.__name__ and not issubclass(kind, Warning)
]


def test_every_error_is_also_one_of_pythons():
    """Caught by ``except SDEKitError``, and by whoever knows only ValueError, TypeError and RuntimeError."""
    assert len(KINDS) > 8
    for kind in KINDS:
        assert issubclass(kind, errors.SDEKitError)
        if kind is not errors.SDEKitError:
            parents = [base for base in (ValueError, TypeError, RuntimeError) if issubclass(kind, base)]
            assert len(parents) == 1, kind
        assert kind.__doc__


@pytest.mark.parametrize(
    ("name", "parent"),
    [
        ("InvalidArgument", ValueError),
        ("ScheduleError", ValueError),
        ("InvalidType", TypeError),
        ("UnsupportedCombination", TypeError),
        ("NonFiniteError", RuntimeError),
        ("IntegrationError", RuntimeError),
        ("CheckpointError", RuntimeError),
    ],
)
def test_each_kind_has_its_parent(name, parent):
    assert issubclass(getattr(errors, name), parent)


def test_kinds_that_are_cases_of_others_are_caught_with_them():
    assert issubclass(ScheduleError, InvalidArgument)
    for name in ("CheckpointNotFound", "CheckpointCorrupt", "CheckpointWriteError", "CheckpointTooNew"):
        assert issubclass(getattr(errors, name), errors.CheckpointError)


@pytest.mark.parametrize("given", [2, 2.0, np.float32(2), np.int64(2), torch.tensor(2), torch.tensor(2.0)], ids=repr)
def test_a_number_is_anything_that_is_one(given):
    value = number("Owner", "name", given, above=1.0, at_least=2.0, below=3.0, at_most=2.0)
    assert isinstance(value, float)
    assert value == 2.0


@pytest.mark.parametrize(
    "given", ["2", b"2", None, True, [2.0], 2j, torch.ones(1), torch.tensor(2j), np.ones(1)], ids=repr
)
def test_what_is_no_number_is_named(given):
    with pytest.raises(InvalidType, match="Owner: name must be a number, got "):
        number("Owner", "name", given)


@pytest.mark.parametrize(
    ("bounds", "bad", "said"),
    [
        ({"above": 1.0}, 1.0, "finite and > 1, got name=1"),
        ({"at_least": 1.0}, 0.5, "finite and >= 1, got name=0.5"),
        ({"below": 1.0}, 1.0, "finite and < 1, got name=1"),
        ({"at_most": 1.0}, 1.5, "finite and <= 1, got name=1.5"),
        ({"above": 0.0, "at_most": 1.0}, -1.0, "finite and > 0 and <= 1, got name=-1"),
        ({}, math.nan, "finite, got name=nan"),
        ({"above": 0.0}, math.inf, "finite and > 0, got name=inf"),
        ({"at_most": 0.0}, -math.inf, "finite and <= 0, got name=-inf"),
    ],
)
def test_a_number_out_of_bounds_is_named(bounds, bad, said):
    with pytest.raises(InvalidArgument) as caught:
        number("Owner", "name", bad, **bounds)
    assert str(caught.value) == f"Owner: name must be {said}"
    with pytest.raises(ScheduleError):
        number("Owner", "name", bad, kind=ScheduleError, **bounds)


def test_bounds_are_inclusive_where_they_say_so():
    assert number("o", "n", 1.0, at_least=1.0, at_most=1.0) == 1.0
    assert number("o", "n", 0.0) == 0.0


@pytest.mark.parametrize("given", [3, np.int64(3), np.uint8(3), torch.tensor(3)], ids=repr)
def test_a_whole_number_is_any_integer(given):
    value = whole("Owner", "name", given, at_least=3)
    assert type(value) is int
    assert value == 3


@pytest.mark.parametrize("given", [3.0, "3", None, True, [3], torch.tensor(3.0), torch.tensor([3, 4]), np.ones(2, int)])
def test_what_is_no_whole_number_is_named(given):
    with pytest.raises(InvalidType, match="Owner: name must be a whole number, got "):
        whole("Owner", "name", given, at_least=0)


def test_a_whole_number_below_its_bound_is_named():
    with pytest.raises(InvalidArgument, match=r"^Owner: name must be at least 3, got name=2$"):
        whole("Owner", "name", 2, at_least=3)


def test_a_name_out_of_a_list_is_named_with_the_list():
    choices = {"a": 1, "b": 2}
    assert one_of("Owner", "name", "b", choices) == "b"
    assert one_of("Owner", "name", "b", iter(choices)) == "b"
    with pytest.raises(InvalidArgument, match=r"^Owner: name must be one of a, b, got 'c'$"):
        one_of("Owner", "name", "c", choices)
    for given in (3, None, ["a"], b"a"):
        with pytest.raises(InvalidType, match=r"^Owner: name must be one of a, b, got "):
            one_of("Owner", "name", given, choices)


def test_a_batch_is_a_finite_float_tensor_with_rows():
    for x in (torch.zeros(3), torch.zeros(0, 2), torch.zeros(2, 0), torch.zeros(1, 2, dtype=torch.bfloat16)):
        assert batch("Owner", "x", x) is x


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ([1.0], InvalidType, r"Owner: x must be a tensor of shape \(B, \*event\), got list"),
        (np.zeros(3), InvalidType, r"Owner: x must be a tensor of shape \(B, \*event\), got ndarray"),
        (torch.zeros(3, dtype=torch.uint8), InvalidType, "x must be of a floating-point dtype, got torch.uint8"),
        (
            torch.zeros(3, dtype=torch.complex64),
            InvalidType,
            "x must be of a floating-point dtype, got torch.complex64",
        ),
        (torch.tensor(1.0), InvalidArgument, r"x must be of shape \(B, \*event\), got a tensor of shape \(\)"),
        (
            torch.tensor([1.0, math.nan]),
            InvalidArgument,
            r"x must be finite, got NaN or infinity in 1 of 2 rows \(rows 1\)",
        ),
        (torch.tensor([[math.inf], [0.0]]), InvalidArgument, r"in 1 of 2 rows \(rows 0\)"),
    ],
)
def test_what_is_no_batch_is_named(given, kind, said):
    with pytest.raises(kind, match=said):
        batch("Owner", "x", given)


def test_rows_that_are_not_finite_are_counted_and_listed():
    x = torch.zeros(20, 2, 2)
    finite_rows("Owner", "x", x)
    x[3:15, 1, 0] = math.inf
    with pytest.raises(NonFiniteError, match=r"in 12 of 20 rows \(rows 3, 4, 5, 6, 7, 8, 9, 10, \.\.\.\)$"):
        finite_rows("Owner", "x", x)
    with pytest.raises(InvalidArgument):
        finite_rows("Owner", "x", x, InvalidArgument)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (torch.zeros(2, 3, dtype=torch.float64), "a float64 tensor of shape (2, 3)"),
        ("ab", "str 'ab'"),
        (None, "NoneType None"),
        (1.5, "float 1.5"),
    ],
)
def test_a_wrong_value_is_described_by_its_type(given, said):
    assert describe(given) == said


def test_a_description_is_short():
    assert len(describe("a" * 10_000)) < 80
    assert describe("a" * 10_000).endswith("...")
