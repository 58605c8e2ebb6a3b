"""Options and fixtures that every test shares."""

import audit
import pytest
import torch


def pytest_addoption(parser):
    there = "cuda" if torch.cuda.is_available() else "cpu"
    parser.addoption("--device", default=there, help="the device of the gpu tests, cuda or cuda:N; cpu leaves them out")
    audit.options(parser)


def pytest_configure(config):
    # tests are small: a second thread costs them more than it brings, and two runs at once far more
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


@pytest.fixture(autouse=True)
def _global_generator_untouched():
    """No test of the package's sampling or losses may move torch's global generator without saying so."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(before, torch.get_rng_state()), "the test moved torch's global generator"
