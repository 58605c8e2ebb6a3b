"""Options and fixtures that every test shares."""

import os
import random
from contextlib import nullcontext

# before torch and NumPy are loaded. Tests are small: a second thread costs them more than it brings, and two workers of
# two threads each far more
os.environ["OMP_NUM_THREADS"] = "1"

import audit
import guards
import numpy as np
import pytest
import torch


def pytest_addoption(parser):
    there = "cuda" if torch.cuda.is_available() else "cpu"
    parser.addoption("--device", default=there, help="the device of the gpu tests, cuda or cuda:N; cpu leaves them out")
    parser.addoption("--guards", action="store_true", help="watch every operation of every test, not of some suites")
    audit.options(parser)


def pytest_configure(config):
    torch.set_num_threads(1)
    config.pluginmanager.register(audit)


@pytest.fixture
def device(request):
    """The device under test."""
    return torch.device(request.config.getoption("--device"))


def pytest_collection_modifyitems(config, items):
    if config.getoption("--device") == "cpu":
        reason = pytest.mark.skip(reason="needs a CUDA device")
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(reason)


GUARDED = {"test_sampling", "test_simulation"}
"""Suites whose every operation is watched; ``--guards`` watches all, for two or three times the time."""


@pytest.fixture(autouse=True)
def _guarded(request):
    """No test draws from a global generator without lending it a seed, nor broadcasts one rank over another."""
    torch.manual_seed(guards.UNSEEDED)
    before = torch.get_rng_state(), np.random.get_state()[1:3], random.getstate()  # noqa: NPY002
    watched = request.config.getoption("--guards") or request.module.__name__ in GUARDED
    with guards.Guards() if watched else nullcontext():
        yield
    assert torch.equal(before[0], torch.get_rng_state()), "the test moved torch's global generator"
    keys, position = np.random.get_state()[1:3]  # noqa: NPY002
    assert (keys == before[1][0]).all(), "the test moved NumPy's global generator"
    assert position == before[1][1], "the test moved NumPy's global generator"
    assert torch.get_num_threads() == 1, "the test moved torch's number of threads"
    assert before[2] == random.getstate(), "the test moved Python's global generator"
