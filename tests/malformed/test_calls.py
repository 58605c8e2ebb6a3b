"""Every public callable refuses every wrong value: by name, before a network is asked, saying what was given."""

import inspect
import typing
from collections import Counter

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


def cases():
    """(entry, the parameter that the message must name, the owner, the arguments, whether one alone is wrong)."""
    for i, entry in enumerate(ENTRIES):
        for parameter, wrong in entry.wrong.items():
            if isinstance(wrong, Wrong):
                by, said = wrong.by or entry.says, wrong.said or parameter
                for label, value in wrong.values.items():
                    yield pytest.param(
                        entry, said, by, {parameter: value}, True, id=f"{i}-{entry.name}-{parameter}-{label}"
                    )
        for label, (arguments, parameter, *by) in entry.together.items():
            yield pytest.param(
                entry, parameter, by[0] if by else entry.says, arguments, False, id=f"{i}-{entry.name}-{label}"
            )


CASES = list(cases())


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


@pytest.mark.parametrize(("entry", "parameter", "owner", "arguments", "alone"), CASES)
def test_a_wrong_value_is_a_named_error_before_the_network_is_asked(entry, parameter, owner, arguments, alone):
    """The message names the owner and the parameter, says what must be, and shows what was given."""
    error, asked = refusal(entry, arguments)
    kinds = (ValueError, TypeError) if entry.plain else NAMED
    assert isinstance(error, kinds), f"{type(error).__name__}: {error}"
    message = str(error)
    assert isinstance(error, (ValueError, TypeError, RuntimeError))
    assert names(message, owner), f"{owner} in {message!r}"
    assert names(message, parameter), f"{parameter} in {message!r}"
    assert names(message, "must") or names(message, "needs"), message
    assert "\n" not in message
    assert len(message) < 400, message
    if alone:
        assert shows(message, *arguments.values()), f"{arguments} in {message!r}"
    assert asked == 0, "a network was asked first"


@pytest.mark.parametrize("entry", ENTRIES, ids=[f"{i}-{e.name}" for i, e in enumerate(ENTRIES)])
def test_the_call_that_each_case_spoils_is_a_good_one(entry):
    """So that what is refused is the wrong value and nothing else."""
    error, _ = refusal(entry, {})
    assert error is None, f"{type(error).__name__}: {error}"


def test_every_public_callable_is_covered():
    """A new public name without an entry, or a reason, fails."""
    known = {id(entry.public) for entry in ENTRIES} | {id(thing) for thing in RECORDS}
    assert {name for name, thing in callables().items() if id(thing) not in known} == set()


@pytest.mark.parametrize("entry", ENTRIES, ids=[f"{i}-{e.name}" for i, e in enumerate(ENTRIES)])
def test_every_parameter_is_covered(entry):
    """A new parameter without wrong values, or a reason, fails."""
    wanted = set(inspect.signature(entry.public).parameters) - {"self"}
    assert wanted == set(entry.wrong)


def test_ids_are_distinct():
    """As the runner's processes need."""
    ids = Counter(case.id for case in CASES)
    assert [name for name, count in ids.items() if count > 1] == []
