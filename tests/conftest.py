"""Options and fixtures that every test shares."""

import pytest
import torch


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="the device of the tests that take one: cpu or cuda")


@pytest.fixture
def device(request):
    """The device under test."""
    return torch.device(request.config.getoption("--device"))


def pytest_collection_modifyitems(config, items):
    if not torch.cuda.is_available():
        reason = pytest.mark.skip(reason="needs a CUDA device")
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(reason)


@pytest.fixture(autouse=True)
def _global_generator_untouched():
    """No test of the package's sampling or losses may move torch's global generator without saying so."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(before, torch.get_rng_state()), "the test moved torch's global generator"
