"""What every class promises: contracts are abstract, settings are frozen, and defaults are the papers'."""

import dataclasses
import importlib
import inspect
import pkgutil

import pytest
from subjects import ode_methods, parametrisations, sdes, solvers

import sdekit as sk


def classes():
    """Every class that the package defines, each once."""
    for module in pkgutil.walk_packages(sk.__path__, "sdekit."):
        if module.name.endswith("__main__"):
            continue
        for _, value in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if value.__module__ == module.name:
                yield value


CONTRACTS = {
    "SDE": {"drift", "diffusion", "prior"},
    "GaussianSDE": {"alpha", "sigma"},
    "Prior": {"sample", "log_prob"},
    "Prediction": {"score", "velocity"},
    "ScoreModel": {"forward"},
    "Parametrisation": {"target"},
    "Variance": {"log_var"},
    "Solver": {"step"},
    "ODEMethod": {"advance"},
    "Distance": {"values", "size"},
}


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_contract_cannot_be_made_without_what_it_asks_for(name):
    """Each of the names is asked for, and a class without it is none."""
    (contract,) = [c for c in classes() if c.__name__ == name and c.__module__.startswith("sdekit.")]
    assert CONTRACTS[name] <= set(contract.__abstractmethods__)
    for missing in CONTRACTS[name]:
        given = dict.fromkeys(contract.__abstractmethods__ - {missing})
        with pytest.raises(TypeError, match=missing):
            type("Partial", (contract,), given)()


@pytest.mark.parametrize("subject", [*solvers(), *ode_methods(), *parametrisations(), *sdes()])
def test_settings_are_frozen(subject):
    """The object is the configuration: a setting is never assigned."""
    assert dataclasses.is_dataclass(subject)
    for field in dataclasses.fields(subject):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(subject, field.name, getattr(subject, field.name))
    assert subject == type(subject)(**{f.name: getattr(subject, f.name) for f in dataclasses.fields(subject) if f.init})
