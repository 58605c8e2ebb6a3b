"""Every public callable refuses every wrong value: by name, before a network is asked, saying what was given."""

import inspect
import typing

import pytest
import torch

import sdekit as sk
from sdekit import errors

from .registry import ENTRIES, RECORDS, Spy
from .values import Wrong, names, shows

NAMESPACES = [sk, *(getattr(sk, name) for name in sk.__all__ if inspect.ismodule(getattr(sk, name)))]
NAMESPACES = [module for module in [*NAMESPACES, sk.sdes.tables] if module not in (sk.errors, sk.types)]
NAMED = tuple(kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.SDEKitError))


def public(module):
    """What a module offers: its ``__all__``, or what it defines under a name without an underscore."""
    own = [
        k for k, x in vars(module).items() if not k.startswith("_") and getattr(x, "__module__", "") == module.__name__
    ]
    return {name: getattr(module, name) for name in getattr(module, "__all__", own)}


def callables():
    """Every public thing that can be called with arguments of a user's."""
    found = {}
    for module in NAMESPACES:
        for name, thing in public(module).items():
            concrete = not inspect.isabstract(thing) and not getattr(thing, "_is_protocol", False)
            if callable(thing) and concrete and typing.get_origin(thing) is None:
                found[f"{module.__name__}.{name}"] = thing
    return found


def cases(entry):
    """(label, the parameter that the message must name, the owner, the arguments, whether one alone is wrong)."""
    for parameter, wrong in entry.wrong.items():
        if isinstance(wrong, Wrong):
            for label, value in wrong.values.items():
                yield f"{parameter}-{label}", wrong.said or parameter, wrong.by or entry.says, {parameter: value}, True
    for label, (arguments, parameter, *by) in entry.together.items():
        yield label, parameter, by[0] if by else entry.says, arguments, False


each = pytest.mark.parametrize("entry", ENTRIES, ids=[f"{i}-{e.name}" for i, e in enumerate(ENTRIES)])


def refusal(entry, arguments):
    """The error with which a call ends, or None; and how often a network was asked."""
    state = torch.get_rng_state()  # a network's first weights are torch's own
    base = entry.base()
    Spy.asked = 0
    try:
        result = entry.call(**{**base, **arguments})
        if inspect.isgenerator(result):
            next(result)
    except Exception as error:
        return error, Spy.asked
    finally:
        torch.set_rng_state(state)
    return None, Spy.asked


def faults(entry, parameter, owner, arguments, alone):
    """What is wrong with the refusal of a wrong value: nothing, where it is as it should be."""
    error, asked = refusal(entry, arguments)
    if not isinstance(error, (ValueError, TypeError) if entry.plain else NAMED):
        yield f"got {type(error).__name__}: {error}"
        return
    message = str(error)
    if not isinstance(error, (ValueError, TypeError, RuntimeError)):
        yield f"{type(error).__name__} is none of python's"
    if not names(message, owner):
        yield f"{owner} is not in {message!r}"
    if not names(message, parameter):
        yield f"{parameter} is not in {message!r}"
    if not (names(message, "must") or names(message, "needs")):
        yield f"what must be is not in {message!r}"
    if "\n" in message or len(message) >= 400:
        yield f"more than a line: {message!r}"
    if alone and not shows(message, *arguments.values()):
        yield f"{arguments} is not in {message!r}"
    if asked:
        yield "a network was asked first"


@each
def test_wrong_values_are_named_errors_before_the_network_is_asked(entry):
    """The message names the owner and the parameter, says what must be, and shows what was given."""
    assert [f"{label}: {fault}" for label, *case in cases(entry) for fault in faults(entry, *case)] == []


def test_there_are_as_many_cases_as_the_page_says():
    """Thousands, of every module; each case of an entry has a name of its own."""
    labels = [[label for label, *_ in cases(entry)] for entry in ENTRIES]
    assert all(len(set(own)) == len(own) for own in labels)
    assert sum(map(len, labels)) > 5000


@each
def test_the_call_that_each_case_spoils_is_a_good_one(entry):
    """So that what is refused is the wrong value and nothing else."""
    error, _ = refusal(entry, {})
    assert error is None, f"{type(error).__name__}: {error}"


def test_every_public_callable_is_covered():
    """A new public name without an entry, or a reason, fails."""
    known = {id(entry.public) for entry in ENTRIES} | {id(thing) for thing in RECORDS}
    assert {name for name, thing in callables().items() if id(thing) not in known} == set()


@each
def test_every_parameter_is_covered(entry):
    """A new parameter without wrong values, or a reason, fails."""
    wanted = set(inspect.signature(entry.public).parameters) - {"self"}
    assert wanted == set(entry.wrong)
