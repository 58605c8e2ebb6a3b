"""What every class promises: contracts are abstract, settings are frozen, and defaults are the papers'."""

import dataclasses
import importlib
import inspect
import math
import pkgutil

import pytest
from subjects import ode_methods, parametrisations, sdes, solvers

import sdekit as sk
import sdekit.density.trace


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


def test_a_kind_of_frozen_settings_is_frozen_itself():
    """No name can be given to an instance of a subclass either: it has no attribute beside its settings."""
    records = [c for c in classes() if dataclasses.is_dataclass(c)]
    kinds = [c for c in records if c.__dataclass_params__.frozen]
    assert {c.__name__ for c in records if c not in kinds} == {"Report", "Lab", "Tally", "Trained"}, "these change"
    for kind in kinds:
        if not inspect.isabstract(kind):
            with pytest.raises(dataclasses.FrozenInstanceError):
                object.__new__(kind).another = 1


DEFAULTS = {
    # Song et al. 2021, appendix C; Nichol & Dhariwal 2021, section 3.2; Karras et al. 2022, table 1
    sk.VPSDE: {"beta_min": 0.1, "beta_max": 20.0, "t_min": 1e-4, "t_max": 1.0},
    sk.SubVPSDE: {"beta_min": 0.1, "beta_max": 20.0, "t_min": 1e-3, "t_max": 1.0},
    sk.VESDE: {"sigma_min": 0.01, "sigma_max": 50.0, "t_min": 1e-5, "t_max": 1.0},
    sk.EDMSDE: {"t_min": 0.002, "t_max": 80.0},
    sk.CosineSDE: {"offset": 0.008, "t_min": 1e-4, "t_max": 0.995},
    sk.FlowSDE: {"t_min": 1e-3, "t_max": 0.999},
    sk.LinearSDE: {"sigma_0": 0.0, "t_min": 1e-4, "t_max": 1.0},
    sk.sdes.GaussianLevel: {"clean": False},
    sk.sdes.NormalPrior: {"mean": 0.0, "std": 1.0},
    # Ho et al. 2020, section 4; Xu et al. 2022; Song & Ermon 2019, section 4.2; Lin et al. 2024
    sk.sdes.tables.linear: {"n": 1000, "beta_min": 1e-4, "beta_max": 0.02},
    sk.sdes.tables.quadratic: {"n": 1000, "beta_min": 1e-4, "beta_max": 0.02},
    sk.sdes.tables.sigmoid: {"n": 1000, "beta_min": 1e-4, "beta_max": 0.02, "width": 6.0},
    sk.sdes.tables.constant: {"n": 1000, "beta": 0.01},
    sk.sdes.tables.cosine: {"n": 1000, "offset": 0.008, "max_beta": 0.999},
    sk.sdes.tables.geometric: {"n": 10, "sigma_min": 0.01, "sigma_max": 1.0},
    sk.sdes.tables.zero_terminal_snr: {"terminal": 2.0**-50},
    # Karras et al. 2022, eq. 5 and table 1; Esser et al. 2024; Hang et al. 2023
    sk.grids.karras: {"rho": 7.0},
    sk.grids.karras_between: {"rho": 7.0},
    sk.grids.log_snr: {"rho": 1.0},
    # Song et al. 2021, appendix C; Lee et al. 2024, as diffusers has it; Esser et al. 2024
    sk.grids.vp: {"beta_min": 0.1, "beta_max": 20.0},
    sk.grids.beta: {"a": 0.6, "b": 0.6},
    sk.grids.flow_shift: {"shift": 3.0},
    sk.grids.angle: {"middle": 0.5, "width": 1.2, "floor": 0.05},
    sk.grids.levels: {"denoise": True},
    sk.models.Karras: {"sigma_data": 0.5},
    sk.models.PosteriorMean: {"residual": False},
    sk.losses.EDM: {"sigma_data": 0.5},
    sk.losses.LogNormal: {"mean": -1.2, "std": 1.2},
    sk.losses.LogitNormal: {"mean": 0.0, "std": 1.0},
    sk.losses.MinSNR: {"gamma": 5.0},
    # Song et al. 2020 (sliced); Nichol & Dhariwal 2021, section 3.1
    sk.losses.SlicedScoreMatching: {"projections": 1, "variance_reduced": True},
    sk.losses.VariationalBound: {"detach_mean": False, "decoder_ends": (-1.0, 1.0)},
    sk.losses.Hybrid: {"scale": 0.001, "decoder_ends": (-1.0, 1.0)},
    # Song & Ermon 2019, algorithm 1; Song et al. 2021, appendix G; Karras et al. 2022, algorithms 1 and 2
    sk.solvers.AnnealedLangevin: {"rate": 0.1, "steps": 100},
    sk.solvers.Langevin: {"snr": 0.16, "steps": 1},
    sk.solvers.DDIM: {"eta": 0.0},
    sk.solvers.Heun: {"churn": 0.0, "churn_min": 0.0, "churn_max": math.inf, "churn_noise": 1.0},
    sk.solvers.Adams: {"points": 3},
    sk.solvers.DEIS: {"points": 3},
    sk.solvers.LMS: {"points": 4},
    sk.solvers.PLMS: {"points": 4, "runge_kutta": False},
    sk.solvers.Multistep: {"points": 4, "corrector": True},
    sk.solvers.DPMSolver: {"order": 2},
    sk.solvers.UniPC: {"order": 3},
    sk.solvers.DPMSolverSinglestep: {"order": 2},
    # Crowson, k-diffusion; Xue et al. 2023; Gonzalez et al. 2023; Xu et al. 2023, CIFAR-10
    sk.solvers.AncestralStep: {"eta": 1.0},
    sk.solvers.DPMSolverSDE: {"points": 2, "eta": 1.0},
    sk.solvers.SASolver: {
        "predictor": 3,
        "corrector": 4,
        "tau": 1.0,
        "tau_min": 0.0,
        "tau_max": math.inf,
        "few_steps": True,
    },
    sk.solvers.SEEDS: {"stages": 2, "eta": 1.0},
    sk.solvers.AdaptiveSDE: {"tol": 0.02, "max_steps": 100_000},
    sk.solvers.Churn: {"churn": 0.1, "churn_min": 0.0, "churn_max": math.inf, "churn_noise": 1.0},
    sk.solvers.Restart: {"intervals": ((0.06, 0.3, 2, 2),)},
    **{method: {"steps": 1} for method in (sk.ode.Euler, sk.ode.Heun, sk.ode.RK4)},
    **{pair: {"rtol": 1e-5, "atol": 1e-5, "max_steps": 100_000} for pair in (sk.ode.Dopri5, sk.ode.Dopri8)},
    **{method: {"rtol": 1e-5, "atol": 1e-5} for method in (sk.ode.SciPy, sk.ode.TorchDiffEq)},
    sk.likelihood.Exact: {"at_once": 16},
    sk.likelihood.Hutchinson: {"n": 4, "fresh": False, "at_once": 16},
    sk.likelihood.Likelihood: {"probes": 0},
    sk.discrete_log_likelihood: {"draws": 1, "seed": 0},
    sk.variational_bound: {"draws": 32, "decoder_ends": (-1.0, 1.0), "seed": 0, "per_sample": False},
    sk.progressive_coding: {"decoder_ends": (-1.0, 1.0), "seed": 0, "per_sample": False},
    sk.log_likelihood: {"budget": True, "seed": 0, "per_sample": False},
    **{flow: {"per_sample": False} for flow in (sk.encode, sk.decode)},
    **{source: {"seed": 0} for source in (sk.Noise, sk.KeyedNoise, sk.BrownianPath)},
}
"""Numbers that are there unless given: another one is another result, in silence."""


def test_a_default_is_the_papers():
    """And none of a process, grid, model, objective, solver, method or source is there without being listed."""
    found = {}
    for module in (
        sk.sdes,
        sk.sdes.tables,
        sk.grids,
        sk.models,
        sk.losses,
        sk.solvers,
        sk.ode,
        sk.likelihood,
        sk.density.trace,
        sk.noise,
    ):
        for name, thing in inspect.getmembers(module, callable):
            if name.startswith("_") or inspect.isabstract(thing) or not thing.__module__.startswith(module.__name__):
                continue
            given = {k: p.default for k, p in inspect.signature(thing).parameters.items()}
            numbers = {k: v for k, v in given.items() if isinstance(v, (int, float, tuple))}
            if numbers:
                found[thing] = numbers
    assert found == DEFAULTS


SETTINGS = {
    sk.sample: "model shape", sk.log_likelihood: "model x", sk.encode: "model x", sk.decode: "model z",
    sk.variational_bound: "model x", sk.progressive_coding: "model x0",
    sk.grids.levels: "sde grid steps", sk.KeyedNoise.normal: "self shape", sk.KeyedNoise.uniform: "self n",
    sk.KeyedNoise.rademacher: "self like", sk.Noise.normal: "self shape", sk.Noise.uniform: "self n",
    sk.Noise.rademacher: "self like", sk.BrownianPath.normal: "self shape", sk.BrownianPath.uniform: "self n",
    sk.BrownianPath.rademacher: "self like", sk.sdes.NormalPrior.sample: "self shape noise",
    sk.models.FromFunction: "sde",
}  # fmt: skip
"""What may be given by place: everything else is given by name, so that a setting may be added anywhere."""


@pytest.mark.parametrize("function", SETTINGS, ids=lambda f: f.__qualname__)
def test_settings_are_given_by_name_and_anything_may_be(function):
    kinds = {k: p.kind for k, p in inspect.signature(function).parameters.items()}
    by_place = [k for k, kind in kinds.items() if kind is not inspect.Parameter.KEYWORD_ONLY]
    assert " ".join(by_place) == SETTINGS[function]
    assert inspect.Parameter.POSITIONAL_ONLY not in kinds.values()


ORDERS = {
    "DDIM()": 1, "DDIM(0.5)": 1, "Ancestral()": 1, "EulerMaruyama()": 1, "ReverseDiffusion()": 1, "Heun()": 2,
    "Heun(churn=0.1)": None, "Langevin()": None, "AnnealedLangevin()": None, "PredictorCorrector()": None,
    "DPMSolver(1)": 1, "DPMSolver(2)": 2, "DPMSolver(3)": 3, "ProbabilityFlow()": 5, "ProbabilityFlow(ode.RK4())": 4,
    "ProbabilityFlow(ode.Heun())": 2, "ProbabilityFlow(ode.Euler())": 1,
}  # fmt: skip


@pytest.mark.parametrize("solver", ORDERS)
def test_the_order_that_is_declared_is_the_one_that_is_had(solver):
    """The certificates see that a solver converges as declared at least; here that it declares no less."""
    assert eval(solver, {**vars(sk.solvers), "ode": sk.ode}).order == ORDERS[solver]


@pytest.mark.parametrize("subject", [*solvers(), *ode_methods(), *parametrisations(), *sdes()])
def test_settings_are_frozen(subject):
    """The object is the configuration: a setting is never assigned."""
    assert dataclasses.is_dataclass(subject)
    for field in dataclasses.fields(subject):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(subject, field.name, getattr(subject, field.name))
    assert subject == type(subject)(**{f.name: getattr(subject, f.name) for f in dataclasses.fields(subject) if f.init})
