"""Every exhibit's law holds in the healthy package, and fails with its slip in it."""

from __future__ import annotations

import dataclasses
import inspect
import random

import numpy as np
import page
import pytest
import torch
from exhibits import EXHIBITS, OUT_OF_SCOPE, ROWS

LAWS = {}
for exhibit in EXHIBITS:  # several exhibits may have one law, which is then asked once
    law = exhibit.law
    LAWS.setdefault((law.func, repr(law.args), repr(law.keywords)), []).append(exhibit)

each_exhibit = pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda exhibit: exhibit.id)


@pytest.fixture
def hold(request):
    """Asserts a law, with the fixtures that it asks for."""

    def hold(law):
        asked = [p.name for p in inspect.signature(law).parameters.values() if p.default is p.empty]
        law(**{name: request.getfixturevalue({"path": "tmp_path"}.get(name, name)) for name in asked})

    return hold


@pytest.mark.parametrize("exhibits", LAWS.values(), ids=lambda exhibits: " ".join(e.id for e in exhibits))
def test_the_law_holds(exhibits, hold):
    """The package as it is."""
    hold(exhibits[0].law)


@each_exhibit
def test_the_slip_is_caught(exhibit, hold):
    """The package with one wrong line in it; what a slip does to global generators is undone."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]), exhibit.slip.injected(), pytest.raises(exhibit.fails):
        hold(exhibit.law)
    np.random.set_state(numpy_state)  # noqa: NPY002
    random.setstate(python_state)


def test_every_row_of_the_catalogue_is_on_show_or_excused():
    shown = [exhibit.id for exhibit in EXHIBITS]
    assert len(set(shown)) == len(shown)
    assert sorted(shown + list(OUT_OF_SCOPE)) == sorted(ROWS)
    assert shown == [row for row in ROWS if row in shown]


def test_the_page_is_written_from_the_exhibits():
    """``python tests/museum/page.py`` writes it."""
    assert page.PAGE.read_text(encoding="utf-8") == page.render()


def test_a_slip_is_gone_after_its_exhibit():
    """The code is exchanged and put back, also when the law fails; a right line that is not there is an error."""
    slip = EXHIBITS[0].slip
    healthy = slip.function.__code__

    def fails():
        assert slip.function.__code__ is not healthy
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), slip.injected():
        fails()
    assert slip.function.__code__ is healthy
    with pytest.raises(AssertionError, match="has 0 times: no such line"):
        dataclasses.replace(slip, right="no such line").injected().__enter__()
