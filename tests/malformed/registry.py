"""Every public callable: a valid call of it, and what each of its parameters must refuse."""

# ruff: noqa: PLW0108 - the lambdas make a new object for each call

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from matplotlib.figure import Figure

import sdekit as sk

from . import values as v
from .values import Free, Wrong, but, by

F64 = torch.float64
INNER = Path(tempfile.gettempdir())


class Spy(torch.nn.Module):
    """A network that counts how often it is asked."""

    asked = 0

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x, label, y=None):
        """A half of x, once more asked."""
        Spy.asked += 1
        return self.scale * x


class Wide(Spy):
    """A network with a variance: twice the channels."""

    def forward(self, x, label):
        """x, and zeros."""
        return torch.cat([super().forward(x, label), torch.zeros_like(x)], 1)


def spy(sde=None):
    """A DDPM with a network that counts."""
    return sk.ddpm(Spy(), sde)


def labelled():
    """A DDPM with three labels bound."""
    return spy().given(y=torch.arange(3))


def learned():
    """A model with a variance, on a table."""
    return sk.models.Parametrised(Wide(), TABLE, sk.models.Epsilon(label="index"), sk.models.LearnedRange())


@dataclass(frozen=True)
class Entry:
    """A callable, the arguments of a valid call, and the wrong values of each parameter.

    ``like``: the public thing that it stands for, where it is not the callable itself; its signature names the
    parameters. ``owner``: the name that its messages bear, where it is not the callable's. ``together``: arguments
    that are wrong beside each other, by a name, with the parameter that the message must name. ``plain``: whether its
    errors are Python's own, because its layer imports nothing of sdekit. ``given``: what is asked for as ``**name``.
    """

    call: Callable
    base: Callable[[], dict]
    wrong: dict[str, Wrong | Free]
    like: object = None
    owner: str | None = None
    together: dict[str, tuple] = field(default_factory=dict)
    plain: bool = False

    @property
    def public(self):
        """What it stands for."""
        return self.call if self.like is None else self.like

    @property
    def name(self):
        """Its name in ids."""
        module = self.public.__module__.removeprefix("sdekit.").split(".")[0]
        inherited = "" if self.owner in (None, self.public.__name__) else f"{self.owner}:"
        return f"{module}.{inherited}{self.public.__qualname__}"

    @property
    def says(self):
        """The name that its messages bear."""
        return self.owner or self.public.__qualname__.split(".")[-1]


def method(of, name, base, wrong, **more):
    """A public method, called on the object that ``of`` makes."""
    like = getattr(of if isinstance(of, type) else type(of()), name)
    more.setdefault("owner", name)
    return Entry(lambda **arguments: getattr(of(), name)(**arguments), base, wrong, like=like, **more)


VP, VE, TABLE = sk.VPSDE(), sk.VESDE(), sk.DiscreteVPSDE(sk.sdes.tables.linear(20, 1e-3, 0.5))
X = torch.zeros(3, 2)
BARE = v.Bare()


def fixed(**arguments):
    """The arguments of a valid call that nothing changes."""
    return lambda: dict(arguments)


NONE = fixed()
TUPLE = Wrong(
    {
        "none": None,
        "empty": (),
        "number": 0.5,
        "string": "0.5",
        "strings": ("a", "b"),
        "nan": (0.1, v.NAN),
        "inf": (0.1, v.INF),
        "booleans": (True, False),
        "tensor": torch.tensor([0.1, 0.9]),
    }
)
RESIDUAL = sk.models.NoiseResidual((-2.0, 3.0), (0.1, 0.9))
LOW_HIGH = {"t_min": v.number(above=0.0), "t_max": v.number(above=0.0)}
ENDS = {"ends swapped": ({"t_min": 0.9, "t_max": 0.1}, "t_max")}
BETAS = {"beta_min": v.number(at_least=0.0), "beta_max": v.number(above=0.0), **LOW_HIGH}
BETA_PAIRS = {
    **ENDS,
    "betas swapped": ({"beta_min": 30.0}, "beta_max"),
    "time counted in steps": ({"t_max": 1000.0}, "t_max"),
}
SDES = [
    Entry(sk.VPSDE, NONE, BETAS, together=BETA_PAIRS),
    Entry(sk.SubVPSDE, NONE, BETAS, together=BETA_PAIRS),
    Entry(
        sk.VESDE,
        NONE,
        {"sigma_min": v.number(above=0.0), "sigma_max": v.number(above=0.0), **LOW_HIGH},
        together={**ENDS, "sigmas swapped": ({"sigma_min": 1.0, "sigma_max": 0.5}, "sigma_max")},
    ),
    Entry(sk.EDMSDE, NONE, LOW_HIGH, together={"ends swapped": ({"t_min": 80.0, "t_max": 1.0}, "t_max")}),
    Entry(
        sk.CosineSDE,
        NONE,
        {
            "offset": v.number(at_least=0.0, below=1.0),
            "t_min": v.number(above=0.0),
            "t_max": v.number(above=0.0, below=1.0),
        },
        together=ENDS,
    ),
    Entry(sk.FlowSDE, NONE, {"t_min": v.number(above=0.0), "t_max": v.number(above=0.0, below=1.0)}, together=ENDS),
    Entry(
        sk.LinearSDE,
        fixed(f=-0.5, g=1.0),
        {
            "f": but(
                v.number(),
                "class",
                another_shape=lambda t: torch.ones(3),
                nan_in_it=lambda t: t * v.NAN,
                a_name=lambda t: "f",
                of_nothing=lambda t: None,
            ),
            "g": but(
                v.number(),
                "class",
                another_shape=lambda t: torch.ones(3),
                inf_in_it=lambda t: t * v.INF,
                a_name=lambda t: "g",
                nothing=0.0,
            ),
            "sigma_0": v.number(at_least=0.0),
            **LOW_HIGH,
        },
        together=ENDS,
    ),
    Entry(
        sk.DiscreteVPSDE,
        fixed(betas=[0.1, 0.2, 0.3]),
        {
            "betas": v.table(zero=[0.0, 0.1], one_in_it=[0.5, 1.0], below=[-0.1, 0.2]),
            "times": v.table(
                optional=True,
                too_few=[1.0, 2.0],
                halves=[1.0, 1.5, 2.0],
                falling=[3.0, 2.0, 1.0],
                from_zero=[0.0, 1.0, 2.0],
            ),
        },
    ),
    Entry(
        sk.DiscreteVESDE,
        fixed(sigmas=[0.1, 0.2, 0.3]),
        {
            "sigmas": v.table(zero=[0.0, 0.1], below=[-0.1, 0.2], turning=[0.1, 0.3, 0.2], equal=[0.1, 0.1]),
            "times": v.table(
                optional=True,
                too_few=[1.0, 2.0],
                halves=[1.0, 1.5, 2.0],
                falling=[3.0, 2.0, 1.0],
                from_zero=[0.0, 1.0, 2.0],
            ),
        },
    ),
    Entry(
        sk.sdes.NormalPrior,
        NONE,
        {
            "mean": but(
                v.number(),
                "tensor",
                one_nan=torch.tensor([0.0, v.NAN]),
                booleans=torch.tensor([True]),
                complexes=torch.ones(2) * 1j,
            ),
            "std": but(
                v.number(above=0.0),
                "tensor",
                one_nan=torch.tensor([1.0, v.NAN]),
                one_zero=torch.tensor([1.0, 0.0]),
                booleans=torch.tensor([True]),
            ),
        },
    ),
    Entry(
        sk.sdes.FittedPrior,
        lambda: {"sde": VP, "data": X},
        {"sde": v.gaussian_process(), "data": but(v.batch(rows=1), one_row=X[:1])},
    ),
    method(
        lambda: sk.sdes.FittedPrior(VP, X),
        "log_prob",
        fixed(x=X),
        {"x": but(v.tensor(), integers=torch.zeros(3, 2, dtype=torch.int64), other_event=torch.zeros(3, 3))},
        owner="FittedPrior",
    ),
    method(
        lambda: sk.sdes.FittedPrior(VP, X),
        "sample",
        lambda: {"shape": (3, 2), "noise": sk.Noise(0)},
        {"shape": v.shape(), "noise": v.noise(), "dtype": v.dtype(optional=True), "device": Free("torch names it")},
        owner="FittedPrior",
    ),
    method(
        sk.sdes.NormalPrior,
        "log_prob",
        fixed(x=X),
        {"x": but(v.tensor(), integers=torch.zeros(3, 2, dtype=torch.int64), no_batch=torch.tensor(0.5))},
        owner="NormalPrior",
    ),
    method(
        sk.sdes.NormalPrior,
        "sample",
        lambda: {"shape": (3, 2), "noise": sk.Noise(0)},
        {"shape": v.shape(), "noise": v.noise(), "dtype": v.dtype(optional=True), "device": Free("torch names it")},
        owner="NormalPrior",
    ),
]
T = but(
    v.time(VP),
    "too few",
    "matrix",
    "before",
    "below",
    "beyond",
    "inf",
    "nan",
    "one beyond",
    "one nan",
    "booleans",
    "huge",
    "complexes",
)
for name in ("alpha", "sigma", "diffusion", "log_snr", "time_at"):
    argument = "log_snr" if name == "time_at" else "t"
    SDES.append(method(sk.VPSDE, name, fixed(**{argument: 0.5}), {argument: T}, owner="VPSDE", plain=True))
TWO_TIMES = but(v.time(VP), "list", "too few", "matrix")
SDES += [
    method(sk.VPSDE, "level", fixed(t=0.5, x=X), {"t": v.time(VP), "x": v.tensor()}, owner="VPSDE"),
    method(
        sk.VPSDE,
        "check_time",
        fixed(t=0.5, x=X),
        {"t": v.time(VP), "x": v.tensor(), "label": Free("a word for messages")},
        owner="VPSDE",
    ),
    method(sk.VPSDE, "drift", fixed(t=0.5, x=X), {"t": v.time(VP), "x": v.tensor()}, owner="VPSDE"),
    method(
        sk.VPSDE,
        "prior_at",
        fixed(t=1.0),
        {"t": but(v.time(VP), "too few", "matrix", "one beyond", "one nan", half_way=0.5)},
        owner="VPSDE",
    ),
    method(
        sk.VPSDE,
        "transition",
        fixed(s=0.2, t=0.5),
        {"s": TWO_TIMES, "t": TWO_TIMES},
        owner="VPSDE",
        together={"swapped": ({"s": 0.6}, "s")},
    ),
    method(
        sk.VPSDE,
        "posterior",
        fixed(x=X, x0=X, t=0.5, s=0.2),
        {
            "x": by("VPSDE", v.tensor()),
            "x0": but(v.tensor(), other=torch.zeros(3, 1)),
            "t": by("VPSDE", v.time(VP)),
            "s": by("VPSDE", v.time(VP)),
        },
        together={"swapped": ({"s": 0.6}, "s", "VPSDE")},
    ),
    method(
        sk.VPSDE,
        "perturb",
        fixed(x0=X, t=0.5, eps=X),
        {"x0": v.tensor(), "t": by("VPSDE", v.time(VP)), "eps": but(v.tensor(), other=torch.zeros(3, 1))},
    ),
    method(
        sk.VPSDE,
        "with_prior",
        fixed(mean=0.0, std=1.0),
        {
            "mean": but(
                v.number(),
                "tensor",
                one_nan=torch.tensor([0.0, v.NAN]),
                booleans=torch.tensor([True]),
                complexes=torch.ones(2) * 1j,
            ),
            "std": but(
                v.number(at_least=0.0),
                "tensor",
                one_nan=torch.tensor([1.0, v.NAN]),
                one_below=torch.tensor([1.0, -1.0]),
            ),
        },
    ),
    method(
        sk.VPSDE,
        "restricted",
        fixed(t_min=0.1, t_max=0.9),
        {"t_min": v.number(at_least=1e-4, below=0.9), "t_max": v.number(above=0.1, at_most=1.0)},
        owner="VPSDE.restricted",
    ),
    method(
        lambda: TABLE,
        "respaced",
        fixed(steps=5),
        {
            "steps": by(
                None,
                but(
                    v.whole(2, 20),
                    "tensor",
                    "array",
                    "list",
                    falling=[3, 2, 1],
                    beyond=[1, 30],
                    one=[3],
                    names=["a", "b"],
                    empty=[],
                    fractions=[0.5, 1.5],
                ),
            ),
            "spacing": v.choice(),
        },
    ),
]
N = {"n": v.whole(2, 10_000_000)}
ENDS_OF_BETA = {"beta_min": v.number(above=0.0, below=1.0), "beta_max": v.number(above=0.0, below=1.0)}
SWAPPED = {"betas swapped": ({"beta_min": 0.5, "beta_max": 0.1}, "beta_max")}
tables = sk.sdes.tables
STEPS = {"n": v.whole(1, 10_000_000), "steps": v.whole(1, 10)}
TABLES = [
    Entry(tables.linear, NONE, {**N, **ENDS_OF_BETA}, together=SWAPPED),
    Entry(tables.quadratic, NONE, {**N, **ENDS_OF_BETA}, together=SWAPPED),
    Entry(tables.sigmoid, NONE, {**N, **ENDS_OF_BETA, "width": v.number(above=0.0)}, together=SWAPPED),
    Entry(tables.constant, NONE, {**N, "beta": v.number(above=0.0, below=1.0)}),
    Entry(tables.cosine, NONE, {**N, "offset": v.number(at_least=0.0), "max_beta": v.number(above=0.0, below=1.0)}),
    Entry(
        tables.geometric,
        NONE,
        {**N, "sigma_min": v.number(above=0.0), "sigma_max": v.number(above=0.0)},
        together={"swapped": ({"sigma_min": 2.0}, "sigma_max")},
    ),
    Entry(
        tables.zero_terminal_snr,
        fixed(betas=tables.linear(20)),
        {
            "betas": v.table(zero=[0.0, 0.1], one_in_it=[0.5, 1.0]),
            "terminal": but(v.number(above=0.0, below=1.0), too_much=0.99),
        },
    ),
    Entry(tables.leading, fixed(n=10, steps=5), STEPS),
    Entry(tables.linspace, fixed(n=10, steps=5), STEPS),
    Entry(tables.trailing, fixed(n=10, steps=5), STEPS),
    Entry(tables.quadratic_spacing, fixed(n=10, steps=5), STEPS),
    Entry(
        tables.spaced,
        fixed(n=10, steps=5, spacing="leading"),
        {"n": by("leading", STEPS["n"]), "steps": by("leading", STEPS["steps"]), "spacing": by("spacing", v.choice())},
    ),
    Entry(
        tables.check_betas,
        fixed(owner="mine", betas=[0.1, 0.2]),
        {"owner": Free("a word for messages"), "betas": by("mine", v.table(zero=[0.0, 0.1]))},
    ),
    Entry(
        tables.check_table,
        fixed(owner="mine", name="its", values=[0.1, 0.2]),
        {
            "owner": Free("a word for messages"),
            "name": Free("a word for messages"),
            "values": by("mine", but(v.table(), "nan", "inf"), "its"),
        },
    ),
]
COUNT = v.whole(0, 10_000_000)
GRIDS = [
    *(
        Entry(grid, lambda: {"sde": VP, "steps": 5}, {"sde": kind, "steps": by(owner, COUNT)}, owner=owner)
        for grid, owner, kind in [
            (sk.grids.uniform, "uniform", v.process()),
            (sk.grids.quadratic, "quadratic", v.process()),
        ]
    ),
    *(
        Entry(grid, lambda: {"sde": VP, "steps": 5}, {"sde": kind, "steps": COUNT, **settings})
        for grid, kind, settings in [
            (sk.grids.log_snr, v.gaussian_process(), {"rho": v.number(above=0.0)}),
            (sk.grids.karras, v.gaussian_process(), {"rho": v.number(above=0.0)}),
            (sk.grids.flow_shift, v.gaussian_process(), {"shift": v.number(above=0.0)}),
            (sk.grids.beta, v.process(), {"a": v.number(above=0.0), "b": v.number(above=0.0)}),
            (
                sk.grids.vp,
                v.gaussian_process(),
                {"beta_min": v.number(at_least=0.0), "beta_max": v.number(above=0.0)},
            ),
        ]
    ),
    Entry(
        sk.grids.align_your_steps,
        lambda: {"sde": sk.EDMSDE(), "steps": 5},
        {"sde": v.gaussian_process(), "steps": COUNT, "of": v.choice()},
        together={"a model of another range": ({"of": "svd"}, "sigma / alpha")},
    ),
    Entry(
        sk.grids.angle,
        lambda: {"sde": VP, "steps": 5},
        {
            "sde": v.gaussian_process(),
            "steps": COUNT,
            "end": v.number(above=0.0, optional=True),
            "middle": v.number(above=0.0),
            "width": v.number(above=0.0),
            "floor": v.number(at_least=0.0),
        },
        together={"data of one value": ({"sde": VP.with_prior(0.0, 0.0)}, "std")},
    ),
    *(
        Entry(
            grid,
            lambda: {"sde": TABLE, "steps": 5},
            {"sde": by(None, v.instance(sk.DiscreteVPSDE, without_a_table=VP), "process"), "steps": v.whole(0, 19)},
            like=grid,
            owner=name,
        )
        for name, grid in sk.grids.TABLE_NAMES.items()
    ),
    Entry(
        sk.grids.levels,
        lambda: {"sde": VP, "grid": "log_snr", "steps": 5},
        {"sde": v.process(), "grid": v.times_of_a_grid(VP), "steps": v.whole(1, 10_000_000), "denoise": v.flag()},
        owner="grid",
        together={
            "clean, on a process without": ({"sde": BARE, "grid": "uniform"}, "denoise", "Bare"),
            "steps that the times contradict": ({"grid": [1.0, 0.5]}, "steps"),
            "one time and no clean level": ({"grid": [1.0], "steps": None, "denoise": False}, "denoise"),
        },
    ),
    Entry(
        sk.grids.karras_between,
        fixed(first=-5.0, last=5.0, steps=3),
        {
            "first": by("karras", v.number()),
            "last": by("karras", v.number()),
            "steps": by("karras", COUNT),
            "rho": by("karras", v.number(above=0.0)),
        },
    ),
    Entry(
        sk.grids.check_times,
        lambda: {"sde": VP, "times": [1.0, 0.5]},
        {
            "sde": by("grid", v.process()),
            "times": by("grid", but(v.times_of_a_grid(VP), "function of nothing", "function of too many", none=None)),
        },
    ),
]

s = sk.solvers
CHURN = {
    "churn": v.number(at_least=0.0, at_most=0.4143),
    "churn_min": v.number(at_least=0.0),
    "churn_max": but(v.number(at_least=0.0), "inf"),
    "churn_noise": v.number(above=0.0),
}
CHURN_SWAPPED = {"bounds swapped": ({"churn_min": 2.0, "churn_max": 1.0}, "churn_max")}
SOLVERS = [
    Entry(s.Ancestral, NONE, {"variance": v.choice()}),
    Entry(s.DDIM, NONE, {"eta": v.number(at_least=0.0, at_most=1.0)}),
    Entry(s.DPMSolver, NONE, {"order": v.whole(1, 3), "view": v.choice()}),
    Entry(s.DPMSolverSinglestep, NONE, {"order": v.whole(1, 3), "view": v.choice()}),
    Entry(
        s.AncestralStep,
        NONE,
        {
            "solver": v.instance(s.DDIM, one_that_draws=s.Ancestral(), one_that_remembers=s.DPMSolver()),
            "eta": v.number(above=0.0, at_most=1.0),
        },
    ),
    Entry(
        s.DPMSolverSDE,
        NONE,
        {"points": v.whole(1, 3), "eta": v.number(at_least=0.0), "view": v.choice(), "variant": v.choice()},
    ),
    Entry(
        s.SASolver,
        NONE,
        {
            "predictor": v.whole(1, 4),
            "corrector": v.whole(0, 4),
            "tau": v.number(at_least=0.0),
            "tau_min": v.number(at_least=0.0),
            "tau_max": but(v.number(at_least=0.0), "inf"),
            "few_steps": v.flag(),
        },
        together={"window swapped": ({"tau_min": 2.0, "tau_max": 1.0}, "tau_max")},
    ),
    Entry(
        s.SEEDS, NONE, {"stages": v.whole(1, 3), "eta": v.number(at_least=0.0), "view": v.choice(), "noise": v.choice()}
    ),
    Entry(s.UniPC, NONE, {"order": v.whole(1, 3), "variant": v.choice()}),
    Entry(s.DEIS, NONE, {"points": v.whole(1, 4), "coordinate": v.choice()}),
    Entry(s.LMS, NONE, {"points": v.whole(1, 4)}),
    Entry(s.PLMS, NONE, {"points": v.whole(1, 4), "runge_kutta": v.flag()}),
    Entry(s.Adams, NONE, {"points": v.whole(1, 4)}),
    Entry(
        s.Multistep,
        NONE,
        {"points": v.whole(1, 4), "view": v.choice(), "coordinate": v.choice(), "corrector": v.flag()},
    ),
    Entry(s.EulerMaruyama, NONE, {}),
    Entry(s.StochasticRungeKutta, NONE, {}),
    Entry(s.AdaptiveSDE, NONE, {"tol": v.number(at_least=1e-6, at_most=1.0), "max_steps": v.whole(1)}),
    Entry(s.ReverseDiffusion, NONE, {}),
    Entry(
        s.Heun,
        NONE,
        CHURN,
        together=CHURN_SWAPPED,
    ),
    Entry(
        s.Churn,
        NONE,
        {
            "solver": but(v.instance(s.DDIM), another=s.Ancestral()),
            **CHURN,
        },
        together=CHURN_SWAPPED,
    ),
    Entry(
        s.Restart,
        NONE,
        {
            "solver": but(v.instance(s.DDIM), another=s.Ancestral()),
            "intervals": Wrong(
                {
                    "none": None,
                    "empty": (),
                    "a number": 0.1,
                    "string": "0.1",
                    "one interval, bare": (0.1, 1.0, 2, 2),
                    "three": ((0.1, 1.0, 2),),
                    "swapped": ((1.0, 0.1, 2, 2),),
                    "no repeats": ((0.1, 1.0, 0, 2),),
                    "half a step": ((0.1, 1.0, 1, 0.5),),
                    "nan": ((v.NAN, 1.0, 1, 1),),
                    "string in it": (("0.1", 1.0, 1, 1),),
                    "tensor": torch.ones(1, 4),
                }
            ),
        },
    ),
    Entry(
        s.Langevin,
        NONE,
        {"snr": v.number(above=0.0, below=1.0), "steps": v.whole(1), "step_size": v.choice(function=True)},
    ),
    Entry(s.AnnealedLangevin, NONE, {"rate": v.number(above=0.0, below=2.0), "steps": v.whole(1)}),
    Entry(
        s.AnnealedLangevin.ncsn,
        NONE,
        {"epsilon": v.number(above=0.0), "sigma_min": v.number(above=0.0), "steps": by("AnnealedLangevin", v.whole(1))},
    ),
    Entry(
        s.AnnealedLangevin.ncsnv2,
        NONE,
        {"sigma_min": v.number(above=0.0), "sigma_max": v.number(above=0.0), "levels": v.whole(2), "steps": v.whole(1)},
        together={"swapped": ({"sigma_min": 60.0}, "sigma_max")},
    ),
    Entry(
        s.PredictorCorrector,
        NONE,
        {
            "predictor": v.instance(s.DDIM, one_that_corrects=s.PredictorCorrector()),
            "corrector": v.instance(s.Langevin),
        },
    ),
    Entry(s.ProbabilityFlow, NONE, {"method": v.instance(sk.ode.RK4), "coordinate": v.choice()}),
]

m = sk.models
LABEL = {"label": v.choice(function=True), "inp": v.choice(function=True)}
WEIGHTS = {"weights": [0.5, 0.5], "means": torch.eye(2, dtype=F64), "covariances": 0.1}
NUMBERS = {
    "string": "ab",
    "none": None,
    "nan": [0.5, v.NAN],
    "complex": [0.5, 1j],
    "booleans": torch.tensor([True, False]),
    "ragged": [[0.5], 1],
    "class": dict,
}


VIEWS = ("eps", "score", "x0", "velocity")


def mixture():
    """A mixture of two Gaussians."""
    return m.GaussianMixture(VP, **WEIGHTS)


def empirical():
    """The exact model of three data."""
    return m.Empirical(VP, torch.eye(3, 2))


ASKED = {"x": but(v.batch(), "nan", "-inf", other=torch.zeros(3, 5)), "t": by("VPSDE", v.time(VP))}
CLEAN = ({"t": VP.clean()}, "t")
MODELS = [
    *(Entry(row, NONE, LABEL) for row in (m.Epsilon, m.X0, m.Score, m.ScaledScore, m.VPrediction, m.FlowVelocity)),
    Entry(m.PosteriorMean, NONE, {**LABEL, "residual": v.flag()}),
    Entry(m.Karras, NONE, {**LABEL, "sigma_data": v.number(above=0.0)}),
    Entry(m.LearnedRange, NONE, {}),
    Entry(m.LearnedLogit, NONE, {}),
    Entry(
        m.NoiseResidual,
        fixed(log_snr=(-2.0, 3.0), share=(0.1, 0.9)),
        {
            "log_snr": but(TUPLE, falling=(3.0, -2.0), equal=(1.0, 1.0)),
            "share": but(TUPLE, none_left=(0.0, 0.5), too_much=(0.5, 1.5), below=(-0.1, 0.5), too_many=(0.1, 0.5, 0.9)),
        },
    ),
    method(lambda: RESIDUAL, "at", fixed(log_snr=0.5), {"log_snr": Free("a level's own")}),
    Entry(
        m.AnalyticVariance,
        lambda: {"model": spy(), "residual": RESIDUAL},
        {"model": v.model(), "residual": v.instance(m.NoiseResidual, tensor=torch.ones(2))},
    ),
    Entry(
        m.noise_residual,
        lambda: {"model": spy(), "x0": X, "levels": sk.grids.levels(VP, "log_snr", 2), "noise": sk.Noise(0)},
        {
            "model": v.model(),
            "x0": but(v.tensor(), empty=X[:0], integers=X.long(), no_batch=torch.tensor(0.5)),
            "levels": Wrong({"none": None, "time": 0.5, "times": [0.5], "tensor": torch.ones(2), "string": "log_snr"}),
            "noise": v.noise(),
        },
    ),
    Entry(
        m.Parametrised,
        lambda: {"network": Spy(), "sde": VP, "parametrisation": m.Epsilon()},
        {
            "network": v.function(),
            "sde": v.gaussian_process(),
            "parametrisation": v.instance(m.Epsilon),
            "variance": v.instance(m.LearnedRange, optional=True),
        },
    ),
    *(
        Entry(
            m.FromFunction,
            lambda view=view: {"sde": VP, view: Spy()},
            {"sde": v.process(), **dict.fromkeys(VIEWS, Free("another view")), view: v.maybe_function()},
        )
        for view in VIEWS[1:]
    ),
    Entry(
        m.FromFunction,
        lambda: {"sde": VP, "eps": Spy()},
        {"sde": v.process(), **dict.fromkeys(VIEWS, Free("another view")), "eps": v.maybe_function()},
        together={
            "none": ({"eps": None}, "eps"),
            "two": ({"score": v.math_sin}, "score"),
            "eps, on a process without": ({"sde": BARE}, "sde"),
        },
    ),
    Entry(
        m.GaussianMixture,
        lambda: {"sde": VP, **WEIGHTS},
        {
            "sde": v.gaussian_process(),
            "weights": Wrong(
                {
                    **NUMBERS,
                    "zero": [0.0, 1.0],
                    "below": [-0.5, 1.5],
                    "empty": [],
                    "matrix": [[0.5, 0.5]],
                    "number": 1.0,
                }
            ),
            "means": Wrong({**NUMBERS, "number": 0.5, "too few": [[0.0, 1.0]]}),
            "covariances": Wrong(
                {
                    **NUMBERS,
                    "below": -0.1,
                    "other": torch.ones(2, 3),
                    "lopsided": torch.tensor([[[1.0, 0.5], [0.0, 1.0]]] * 2),
                    "indefinite": torch.tensor([[[1.0, 2.0], [2.0, 1.0]]] * 2),
                }
            ),
        },
    ),
    method(
        mixture,
        "forward",
        fixed(x=X, t=0.5),
        {**ASKED, "condition": Free("no parameter: see together")},
        owner="GaussianMixture",
        together={"a label": ({"y": X}, "condition"), "clean": CLEAN},
    ),
    method(mixture, "log_prob", fixed(x=X, t=0.5), ASKED, owner="GaussianMixture"),
    method(
        mixture,
        "sample",
        lambda: {"n": 3, "noise": sk.Noise(0), "t": 0.5},
        {"n": v.whole(0, 10_000_000), "noise": v.noise(), "t": by("VPSDE", but(v.time(VP), "none"))},
        owner="GaussianMixture",
    ),
    Entry(
        m.Empirical,
        lambda: {"sde": VP, "data": torch.eye(3, 2)},
        {"sde": v.gaussian_process(), "data": v.batch(rows=1)},
    ),
    method(
        empirical,
        "forward",
        fixed(x=X, t=0.5),
        {**ASKED, "condition": Free("no parameter: see together")},
        owner="Empirical",
        together={"a label": ({"y": X}, "condition"), "clean": CLEAN},
    ),
    method(empirical, "log_prob", fixed(x=X, t=0.5), ASKED, owner="Empirical"),
    method(
        empirical,
        "sample",
        lambda: {"n": 3, "noise": sk.Noise(0), "t": 0.5},
        {"n": v.whole(0, 10_000_000), "noise": v.noise(), "t": by("VPSDE", but(v.time(VP), "none"))},
        owner="Empirical",
    ),
    method(
        spy,
        "forward",
        lambda: {"x": X, "t": 0.5},
        {"x": but(v.batch(), "nan", "-inf"), "t": ASKED["t"], "condition": Free("the network's own")},
        owner="Parametrised",
    ),
    method(
        lambda: m.FromFunction(VP, eps=lambda x, t: x),
        "forward",
        lambda: {"x": X, "t": 0.5},
        {"x": but(v.batch(), "nan", "-inf"), "t": ASKED["t"], "condition": Free("the function's own")},
        owner="FromFunction",
    ),
    Entry(
        m.Given,
        lambda: {"model": spy(), "condition": {"y": torch.arange(3)}},
        {"model": v.model(), "condition": v.mapping()},
    ),
    Entry(sk.convert, lambda: {"model": spy(), "sde": VE}, {"model": v.model(), "sde": v.gaussian_process()}),
    Entry(
        m.Converted,
        lambda: {"model": spy(), "sde": VE},
        {"model": v.model(), "sde": v.gaussian_process(), "change": Free("made by the class itself")},
    ),
    method(
        lambda: sk.convert(spy(), sde=VE),
        "forward",
        lambda: {"x": X, "t": 0.5},
        {"x": but(v.batch(), "nan", "-inf"), "t": by("VESDE", v.time(VE)), "condition": Free("the network's own")},
        owner="Converted",
        together={"clean": CLEAN},
    ),
    method(
        labelled,
        "forward",
        lambda: {"x": X, "t": 0.5},
        {
            "x": by(None, Wrong({"rows": torch.zeros(4, 2)}), "y"),
            "t": Free("the model's own"),
            "condition": Free("the network's own"),
        },
        owner="given",
    ),
]

ls = sk.losses
WEIGH = {"weight": v.choice(function=True), "times": v.choice(function=True, number=True), "reduction": v.choice()}
WEIGH["times"] = but(WEIGH["times"], nan=v.NAN, inf=v.INF, bool=True, complex=1j)
UNWEIGHED = {**WEIGH, "times": but(WEIGH["times"], "none")}
DECODER = {
    "decoder_bin": v.number(above=0.0, optional=True),
    "decoder_ends": Wrong(
        {
            "number": 1.0,
            "none": None,
            "string": "ab",
            "one": (1.0,),
            "three": (0.0, 1.0, 2.0),
            "swapped": (1.0, -1.0),
            "equal": (1.0, 1.0),
            "nan": (v.NAN, 1.0),
            "names": ("a", "b"),
            "set": {0.0, 1.0},
            "tensor": torch.zeros(3),
        }
    ),
}
BOUND = {"times": v.choice(function=True), **DECODER}


def loss_call(make, model=spy, *, owner=None, **more):
    """A loss asked for a batch."""
    wrong = {"model": v.model(), "x0": v.batch(rows=1), "noise": v.noise(), "condition": Free("the network's own")}
    return Entry(
        lambda **arguments: make()(**arguments),
        lambda: {"model": model(), "x0": X, "noise": sk.Noise(0)},
        wrong,
        like=type(make()).__call__,
        owner=owner or type(make()).__name__,
        **more,
    )


TIMES = {"n": v.whole(0, 10_000_000), "noise": v.noise(), "device": Free("torch names it")}
DRAWN = {"n": 5, "noise": sk.Noise(0)}
LOSSES = [
    Entry(ls.DenoisingScoreMatching, NONE, WEIGH),
    Entry(
        ls.ImplicitScoreMatching,
        NONE,
        UNWEIGHED,
        together={"a weight and one level": ({"times": None, "weight": "likelihood"}, "weight")},
    ),
    Entry(
        ls.SlicedScoreMatching,
        NONE,
        {**UNWEIGHED, "projections": v.whole(1), "variance_reduced": v.flag(), "distribution": v.choice()},
    ),
    Entry(
        ls.VariationalBound, NONE, {"variance": v.choice(), **BOUND, "detach_mean": v.flag(), "reduction": v.choice()}
    ),
    Entry(
        ls.Hybrid,
        NONE,
        {"scale": v.number(at_least=0.0), **{name: by("VariationalBound", wrong) for name, wrong in BOUND.items()}},
    ),
    Entry(ls.EDM, NONE, {"sigma_data": v.number(above=0.0)}),
    Entry(ls.MinSNR, NONE, {"gamma": v.number(above=0.0)}),
    Entry(ls.LogNormal, NONE, {"mean": v.number(), "std": v.number(above=0.0)}),
    Entry(ls.LogitNormal, NONE, {"mean": v.number(), "std": v.number(above=0.0)}),
    Entry(
        ls.ConditionDropout,
        lambda: {"loss": ls.DenoisingScoreMatching(), "probability": 0.1, "null": {"y": 3}},
        {
            "loss": v.function(),
            "probability": v.number(at_least=0.0, at_most=1.0),
            "null": but(v.mapping(), empty={}, a_name={"y": "none"}, a_nan={"y": v.NAN}, a_hole={"y": None}),
        },
    ),
    Entry(
        ls.ConditionDropout(ls.DenoisingScoreMatching(), 0.5, {"y": 3}),
        lambda: {"model": spy(), "x0": X, "noise": sk.Noise(0), "y": torch.arange(3)},
        {"model": v.model(), "x0": v.batch(rows=1), "noise": v.noise(), "condition": Free("the network's own")},
        like=ls.ConditionDropout.__call__,
        owner="ConditionDropout",
        together={
            "a label too few": ({"y": torch.arange(2)}, "y"),
            "a label that is none": ({"y": None}, "y"),
            "a list of labels": ({"y": [0, 1, 2]}, "y"),
        },
    ),
    loss_call(
        ls.DenoisingScoreMatching,
        together={"a process without a kernel": ({"model": m.FromFunction(BARE, score=lambda x, t: -x)}, "process")},
    ),
    loss_call(ls.ImplicitScoreMatching),
    loss_call(ls.SlicedScoreMatching),
    loss_call(ls.VariationalBound, lambda: spy(TABLE)),
    loss_call(
        lambda: ls.VariationalBound(decoder_bin=0.25),
        lambda: spy(TABLE),
        together={"data between the levels": ({"x0": X + 0.1}, "x0")},
    ),
    loss_call(
        ls.Hybrid,
        learned,
        together={
            "a model without a variance": ({"model": spy(TABLE)}, "variance"),
            "no table": ({"model": spy()}, "process"),
        },
    ),
    *(
        Entry(draw, fixed(sde=VP, **DRAWN), {"sde": kind, **TIMES})
        for draw, kind in (
            (ls.uniform, v.process()),
            (ls.stratified, v.process()),
            (ls.importance, v.gaussian_process()),
        )
    ),
    Entry(
        ls.noise_levels, fixed(sde=TABLE, **DRAWN), {"sde": v.instance(sk.DiscreteVPSDE, without_a_table=VP), **TIMES}
    ),
    *(
        Entry(draw(), fixed(sde=VP, **DRAWN), {"sde": kind, **TIMES}, like=draw.__call__, owner=draw.__name__)
        for draw, kind in ((ls.LogNormal, v.gaussian_process()), (ls.LogitNormal, v.process()))
    ),
    *(
        Entry(w, lambda: {"level": VP.levels(torch.tensor([0.5]))[0]}, {"level": Free("a level that the loss made")})
        for w in (ls.simple, ls.likelihood, ls.flow)
    ),
]

g = sk.guidance
GUIDANCE = [
    Entry(
        g.ClassifierFree,
        lambda: {"cond": spy(), "uncond": spy(), "weight": 2.0},
        {"cond": v.model(), "uncond": v.model(), "weight": v.weight()},
        together={"two processes": ({"uncond": spy(VE)}, "uncond")},
    ),
    Entry(
        g.Classifier,
        lambda: {"model": spy(), "log_prob": lambda x, t: -(x**2).sum(1)},
        {"model": v.model(), "log_prob": v.function(), "weight": v.weight()},
    ),
]

o = sk.ode
TOL = {"rtol": v.number(at_least=0.0), "atol": v.number(above=0.0)}


def decay(x, t):
    """-x."""
    return -x


def advance(make):
    """An ODE method asked for the end of an interval."""
    wrong = {"field": v.function(), "x": but(v.batch(), "nan", "-inf"), "t": v.number(), "s": v.number()}
    return Entry(
        lambda **arguments: make().advance(**arguments),
        fixed(field=decay, x=X + 1, t=0.0, s=1.0),
        wrong,
        like=type(make()).advance,
        owner=type(make()).__name__,
        together={
            "a field of another shape": ({"field": lambda x, t: x[:, :1]}, "field"),
            "a field of nothing": ({"field": lambda x, t: None}, "field"),
        },
    )


ODE = [
    *(Entry(kind, NONE, {"steps": v.whole(1)}) for kind in (o.Euler, o.Heun, o.RK4)),
    *(Entry(method, NONE, {**TOL, "max_steps": v.whole(1)}) for method in (o.Dopri5, o.Dopri8)),
    Entry(o.SciPy, NONE, {"name": v.choice(), **TOL}, together={"below SciPy's floor": ({"rtol": 1e-15}, "rtol")}),
    Entry(o.TorchDiffEq, NONE, {"name": v.choice(), **TOL, "options": v.mapping()}),
    *map(advance, (o.Euler, o.Heun, o.RK4, o.Dopri5, o.Dopri8, o.SciPy, o.TorchDiffEq)),
]

n = sk.noise
NOISE = [
    Entry(n.Noise, NONE, {"seed": v.seed()}),
    Entry(n.KeyedNoise, NONE, {"seed": by("Noise", v.seed()), "ids": v.ids()}),
    Entry(n.BrownianPath, NONE, {"seed": by("Noise", v.seed()), "ids": v.ids("BrownianPath")}),
    *(
        entry
        for kind, owner in ((n.Noise, "Noise"), (n.KeyedNoise, "KeyedNoise"), (n.BrownianPath, "KeyedNoise"))
        for entry in (
            method(
                kind,
                "normal",
                fixed(shape=(3, 2), stream="mine"),
                {
                    "shape": v.shape(),
                    "stream": Free("a name"),
                    "dtype": v.dtype(optional=True),
                    "device": Free("torch names it"),
                },
                owner=owner,
            ),
            method(
                kind,
                "uniform",
                fixed(n=3, stream="mine"),
                {"n": v.whole(0), "stream": Free("a name"), "device": Free("torch names it")},
                owner=owner,
            ),
            method(
                kind,
                "rademacher",
                fixed(like=X, stream="mine"),
                {"like": v.tensor(), "stream": Free("a name")},
                owner=owner,
            ),
        )
    ),
    Entry(n.fold, fixed(seed=3), {"seed": by("Noise", v.seed())}),
    Entry(
        n.check_noise,
        lambda: {"owner": "mine", "noise": sk.Noise(0)},
        {"owner": Free("a word for messages"), "noise": by("mine", v.noise()), "rows": Free("made by the caller")},
    ),
    Entry(
        n.inverse_normal_cdf,
        fixed(u=torch.full((3,), 0.5, dtype=F64)),
        {"u": but(v.tensor(), integers=torch.arange(3))},
    ),
    Entry(
        n.philox,
        fixed(counter=(0, 0, 0, 0), key=(0, 0)),
        {"counter": Free("the generator's own arithmetic"), "key": Free("the generator's own arithmetic")},
    ),
]

LINE = torch.arange(8.0).reshape(4, 2)
MEAN = Wrong({"none": None, "string": "ab", "nan": [0.0, v.NAN], "complex": [1j, 0.0], "booleans": [True, False]})
COVARIANCE = Wrong({**MEAN.values, "number": 1.0, "variances": [1.0, 2.0]})
SKEW = {"not symmetric": [[1.0, 0.5], [0.0, 1.0]], "zero": torch.zeros(2, 2), "below 0": [[1.0, 2.0], [2.0, 1.0]]}
METRICS = [
    Entry(
        sk.metrics.energy_distance,
        fixed(x=X, y=X),
        {"x": v.batch(rows=2), "y": v.batch(rows=2)},
        together={"events of two sizes": ({"y": torch.zeros(3, 5)}, "y")},
    ),
    Entry(
        sk.metrics.noise_floor,
        fixed(real=X, reference=X, n=2, repeats=2),
        {
            "real": v.batch(rows=2),
            "reference": v.batch(rows=2),
            "n": v.whole(2, 3),
            "repeats": v.whole(2, 10_000_000),
            "seed": by("Noise", v.seed()),
        },
        together={"events of two sizes": ({"reference": torch.zeros(3, 5)}, "reference")},
    ),
    Entry(sk.metrics.EnergyDistance, fixed(reference=LINE), {"reference": v.batch(rows=2)}),
    Entry(
        sk.metrics.MMD,
        fixed(reference=LINE),
        {
            "reference": v.batch(rows=2),
            "widths": Wrong(
                {"none": None, "number": 1.0, "string": "ab", "empty": [], "zero": [1.0, 0.0], "nan": [v.NAN]}
            ),
        },
    ),
    Entry(
        sk.metrics.SlicedWasserstein,
        fixed(reference=LINE),
        {"reference": v.batch(rows=2), "projections": v.whole(1, 10_000_000), "seed": by("Noise", v.seed())},
    ),
    Entry(
        sk.metrics.NearestNeighbours,
        fixed(reference=LINE),
        {"reference": v.batch(rows=2), "neighbours": v.whole(1)},
        together={"an even number": ({"neighbours": 4}, "neighbours")},
    ),
    *(
        Entry(
            kind,
            lambda: {"mean": torch.zeros(2), "covariance": torch.eye(2)},
            {"mean": MEAN, "covariance": but(COVARIANCE, **SKEW)},
            together={"of two sizes": ({"mean": torch.zeros(3)}, "covariance")},
        )
        for kind in (sk.metrics.GaussianWasserstein, sk.metrics.MeanError, sk.metrics.CovarianceError)
    ),
    method(
        lambda: sk.metrics.EnergyDistance(LINE),
        "interval",
        fixed(x=X, repeats=2),
        {
            "x": v.batch(rows=2),
            "repeats": v.whole(2, 10_000_000),
            "level": v.number(above=0.0, below=1.0),
            "seed": by("Noise", v.seed()),
        },
        owner="EnergyDistance",
        together={"another size": ({"x": torch.zeros(3, 5)}, "x")},
    ),
    method(
        lambda: sk.metrics.SlicedWasserstein(LINE),
        "floor",
        fixed(real=X, n=2, repeats=2),
        {
            "real": v.batch(rows=2),
            "n": v.whole(2, 3),
            "repeats": v.whole(2, 10_000_000),
            "seed": by("Noise", v.seed()),
        },
        owner="SlicedWasserstein",
        together={"another size": ({"real": torch.zeros(3, 5)}, "real")},
    ),
]

d = sk.data
DATA = [
    Entry(d.digits, NONE, {}),
    Entry(
        d.dequantise,
        lambda: {"x": X, "bin_width": 0.1, "noise": sk.Noise(0)},
        {"x": v.batch(), "bin_width": v.number(above=0.0), "noise": v.noise()},
    ),
    Entry(
        d.Dequantised,
        fixed(bin_width=0.1),
        {
            "bin_width": v.number(above=0.0),
            "loss": v.instance(ls.DenoisingScoreMatching),
            "transform": v.instance(d.Logit, optional=True),
        },
    ),
    loss_call(lambda: d.Dequantised(0.1)),
    Entry(
        d.Logit,
        fixed(low=-1.0, high=1.0),
        {"low": v.number(), "high": v.number(above=-1.0), "margin": v.number(above=0.0, below=0.5)},
        together={"ends in turn": ({"low": 1.0, "high": -1.0}, "high")},
    ),
    Entry(
        d.swiss_roll,
        fixed(n=5),
        {"n": v.whole(1, 10_000_000), "seed": v.whole(0, 2**32 - 1), "noise": v.number(at_least=0.0)},
    ),
    Entry(
        d.swiss_roll_density,
        fixed(sde=VP, components=5),
        {"sde": v.gaussian_process(), "noise": v.number(above=0.0), "components": v.whole(1, 10_000_000)},
    ),
    Entry(
        d.roll_position,
        fixed(x=X),
        {
            "x": but(v.batch(), another_plane=torch.zeros(3, 5), no_plane=torch.zeros(3)),
            "noise": v.number(at_least=0.0),
        },
    ),
]

t = sk.training
SETTINGS = t.Settings(steps=1, batch_size=2)
TRAINING = [
    Entry(
        t.Settings,
        fixed(steps=10),
        {
            "steps": v.whole(1),
            "batch_size": v.whole(1),
            "lr": v.number(above=0.0),
            "warmup": v.whole(0),
            "decay": v.choice(),
            "ema": v.number(at_least=0.0, below=1.0),
            "clip": v.number(above=0.0, optional=True),
            "seed": by(None, v.whole(0)),
            "checkpoint_every": v.whole(1, optional=True),
            "betas": Wrong(
                {
                    "number": 0.9,
                    "one": (0.9,),
                    "three": (0.9, 0.9, 0.9),
                    "string": "ab",
                    "names": ("a", "b"),
                    "one and more": (0.9, 1.0),
                    "below": (-0.1, 0.9),
                    "nan": (0.9, v.NAN),
                    "none": None,
                }
            ),
        },
        together={"all of it warm-up": ({"warmup": 10}, "warmup")},
    ),
    Entry(
        t.train,
        lambda: {"model": spy(), "data": X, "settings": SETTINGS},
        {
            "model": v.model(),
            "data": v.batch(rows=1),
            "settings": v.instance(t.Settings, by_name={"steps": 1}),
            "loss": v.maybe_function(),
            "condition": but(
                v.mapping(optional=True), too_few={"y": torch.arange(2)}, a_list={"y": [0, 1, 2]}, a_number={"y": 1}
            ),
            "out": but(v.path(), "none"),
            "resume": v.flag(),
            "force": v.flag(),
            "progress": v.flag(),
            "callback": v.maybe_function(),
        },
        together={
            "resume and force": ({"resume": True, "force": True}, "resume"),
            "resume from nowhere": ({"resume": True}, "resume"),
            "force nowhere": ({"force": True}, "force"),
            "checkpoints nowhere": ({"settings": t.Settings(steps=1, checkpoint_every=1)}, "checkpoint_every"),
            "a file for a directory": ({"out": __file__}, "out"),
            "below a file": ({"out": f"{__file__}/below"}, "out"),
            "among other files": ({"out": str(Path(__file__).parent)}, "out"),
            "nothing to train": ({"model": mixture()}, "model"),
            "half precision": ({"model": spy().to(torch.bfloat16)}, "model"),
        },
    ),
    Entry(
        t.save_model,
        lambda: {
            "path": INNER / "sdekit-malformed.safetensors",
            "model": sk.ddpm(sk.networks.MLP((2,), width=4, depth=1, embedding=4)),
        },
        {"path": v.path(), "model": by("to_config", v.model())},
        together={"a network of one's own": ({"model": spy()}, "network", "to_config")},
        owner="save_model",
    ),
    Entry(
        t.load_model,
        lambda: {"path": INNER / "sdekit-malformed.safetensors"},
        {"path": but(v.path(), nowhere="nowhere.safetensors")},
    ),
]

nets = sk.networks
SIZES = Wrong(
    {
        "number": 3,
        "string": "32",
        "half": (2.5,),
        "name": ("3",),
        "bool": (True,),
        "zero": (0,),
        "below": (-1, 2),
        "none": None,
        "huge": (v.HUGE,),
        "nested": ((3,),),
    }
)
SMALL = {"event_shape": (2,), "width": 4, "depth": 1, "embedding": 4}
UNET = {"channels": 1, "width": 4, "multipliers": (1,)}
LABELS = {
    "list": [0.0],
    "number": 0.5,
    "none": None,
    "too few": torch.zeros(2),
    "matrix": torch.zeros(3, 1),
    "complex": torch.zeros(3) * 1j,
}
CLASSES = {
    "list": [0, 1, 2],
    "number": 1,
    "floats": torch.zeros(3),
    "too few": torch.arange(2),
    "matrix": torch.zeros(3, 1, dtype=torch.int64),
    "beyond": torch.arange(3) + 5,
    "below": torch.arange(3) - 1,
    "booleans": torch.zeros(3) > 0,
}
NETWORKS = [
    Entry(
        nets.MLP,
        fixed(**SMALL),
        {
            "event_shape": SIZES,
            "width": v.whole(1),
            "depth": v.whole(1),
            "embedding": but(v.whole(4), odd=5),
            "classes": v.whole(0),
            "outputs": v.whole(1),
        },
        together={"channels of scalars": ({"event_shape": (), "outputs": 2}, "outputs")},
        plain=True,
    ),
    Entry(
        lambda **a: nets.MLP(**SMALL, classes=4)(**a),
        fixed(x=X, label=torch.zeros(3)),
        {"x": but(v.batch(), "nan", "-inf", other=torch.zeros(3, 5)), "label": Wrong(LABELS), "y": Wrong(CLASSES)},
        like=nets.MLP.forward,
        owner="MLP",
        plain=True,
    ),
    Entry(
        nets.UNet,
        fixed(**UNET),
        {
            "channels": v.whole(1),
            "size": but(SIZES, "number", "none", "nested", one=(3,), three=(3, 3, 3)),
            "width": v.whole(4),
            "multipliers": SIZES,
            "blocks": v.whole(1),
            "attention": but(SIZES, "zero", beyond=(3,)),
            "classes": v.whole(0),
            "dropout": v.number(at_least=0.0, below=1.0),
            "dims": v.whole(1, 3),
            "outputs": v.whole(1),
        },
        plain=True,
        together={"no level": ({"multipliers": ()}, "multipliers")},
    ),
    Entry(
        lambda **a: nets.UNet(**UNET, classes=4)(**a),
        fixed(x=torch.zeros(3, 1, 4, 4), label=torch.zeros(3)),
        {
            "x": but(v.batch(), "nan", "-inf", other=torch.zeros(3, 2, 4, 4)),
            "label": Wrong(LABELS),
            "y": Wrong(CLASSES),
        },
        like=nets.UNet.forward,
        owner="UNet",
        plain=True,
    ),
    Entry(
        nets.LevelEmbedding,
        fixed(dim=4),
        {"dim": but(v.whole(4), odd=5), "min_freq": v.number(above=0.0), "max_freq": v.number(above=0.0)},
        together={"swapped": ({"min_freq": 200.0}, "max_freq")},
        plain=True,
    ),
    Entry(
        lambda **a: nets.LevelEmbedding(4)(**a),
        fixed(label=torch.zeros(3)),
        {"label": but(Wrong(LABELS), "too few", "matrix")},
        like=nets.LevelEmbedding.forward,
        owner="LevelEmbedding",
        plain=True,
    ),
]

RUN = {
    "solver": v.instance(s.DDIM),
    "grid": v.times_of_a_grid(VP),
    "steps": by("grid", v.whole(1, 10_000_000)),
    "denoise": v.flag(),
}
OPTIONAL_RUN = {
    **RUN,
    "solver": v.instance(s.DDIM, optional=True),
    "steps": by("grid", v.whole(1, 10_000_000, optional=True)),
    "denoise": v.flag(optional=True),
}
TOLERANCE = Wrong(
    {
        "unknown": "tighter",
        "nan": v.NAN,
        "zero": 0.0,
        "one": 1.0,
        "below": -1e-3,
        "inf": v.INF,
        "bool": True,
        "complex": 1j,
        "list": [1e-3],
        "huge": v.HUGE,
    }
)
INTEGRATION = {
    "method": v.instance(o.RK4, optional=True),
    "tol": TOLERANCE,
    "coordinate": v.choice(optional=True),
}
BOTH = {"a method and a tolerance": ({"method": o.RK4()}, "tol")}
TOO_MANY_IDS = sk.KeyedNoise(0, [1, 2, 3, 4])


def wrong_density(x):
    """One number for the whole batch."""
    return x.sum()


WRONG_IDS = {
    **{f"ids {k}": ({"per_sample": True, "ids": wrong}, "ids", "KeyedNoise") for k, wrong in v.ids().values.items()},
    "too few ids": ({"per_sample": True, "ids": [0]}, "ids"),
}
WRONG_SOURCES = {
    "ids of the noise": ({"per_sample": True, "noise": TOO_MANY_IDS}, "ids"),
    "ids beside noise": ({"per_sample": True, "noise": sk.KeyedNoise(0), "ids": [0, 1, 2]}, "ids"),
    "noise that is not keyed": ({"per_sample": True, "noise": sk.Noise(0)}, "noise"),
}


def per_sample(owner):
    """Whether rows are independent of their batch, and the ids that they then have."""
    return {"per_sample": v.flag(), "ids": by(owner, Wrong({"without per_sample": [0, 1, 2]}))}


TOP = [
    Entry(
        sk.ddpm,
        lambda: {"network": Spy()},
        {"network": by("Parametrised", v.function()), "sde": by("Parametrised", v.gaussian_process(optional=True))},
    ),
    Entry(
        sk.ncsn,
        lambda: {"network": Spy()},
        {"network": by("Parametrised", v.function()), "sde": by("Parametrised", v.gaussian_process(optional=True))},
    ),
    Entry(
        sk.edm,
        lambda: {"network": Spy()},
        {
            "network": by("Parametrised", v.function()),
            "sde": by("Parametrised", v.gaussian_process(optional=True)),
            "sigma_data": by("Karras", v.number(above=0.0)),
        },
    ),
    Entry(
        sk.sample,
        lambda: {"model": spy(), "shape": (3, 2), "steps": 2},
        {
            "model": v.model(),
            "shape": but(v.shape(), "none"),
            **OPTIONAL_RUN,
            "nfe": v.whole(1, 10_000_000, optional=True),
            "tol": v.number(at_least=1e-12, at_most=1.0, optional=True),
            "x_T": but(v.batch(optional=True)),
            "seed": by("Noise", v.seed()),
            "noise": v.noise(optional=True),
            **per_sample("sample"),
            "dtype": v.dtype(optional=True),
            "device": v.device(),
            "progress": v.flag(),
            "cuda_graph": v.flag(),
            "with_log_prob": v.flag(),
            "full": v.flag(),
        },
        together={
            "a graph on the host": ({"cuda_graph": True}, "cuda_graph"),
            "a graph with log-densities": ({"cuda_graph": True, "with_log_prob": True}, "cuda_graph"),
            "a clean end with log-densities": ({"denoise": True, "with_log_prob": True}, "denoise"),
            "log-densities of DDIM": ({"solver": s.DDIM(), "with_log_prob": True}, "with_log_prob"),
            "no shape": ({"shape": None}, "shape"),
            "another shape than the start's": ({"x_T": torch.zeros(4, 2)}, "shape"),
            **WRONG_IDS,
            **WRONG_SOURCES,
            "labels for other rows": ({"model": labelled(), "shape": (4, 2)}, "y"),
            "a solver that the process lacks": (
                {"model": m.FromFunction(BARE, score=v.math_sin), "solver": s.DDIM()},
                "process",
                "DDIM",
            ),
            "a learned variance that is not": ({"solver": s.Ancestral("learned")}, "variance", "Ancestral"),
            "steps and a budget": ({"nfe": 4}, "steps"),
            "steps and a tolerance": ({"tol": 1e-3}, "steps"),
            "a tolerance without alpha and sigma": (
                {"model": m.FromFunction(BARE, score=v.math_sin), "tol": 1e-3, "steps": None},
                "alpha",
                "ProbabilityFlow",
            ),
            "a budget below one step": ({"nfe": 1, "steps": None, "solver": s.Heun(), "denoise": False}, "nfe"),
            "a budget for a solver that has its own": (
                {"nfe": 4, "steps": None, "solver": s.ProbabilityFlow()},
                "nfe",
            ),
            "times and a budget": ({"nfe": 4, "steps": None, "grid": [1.0, 0.5]}, "grid"),
            "a start below t_max": ({"grid": [0.2, 0.1], "steps": None}, "x_T", "VPSDE"),
            "steps that the times contradict": ({"grid": [1.0, 0.5, 0.2]}, "steps", "grid"),
        },
    ),
    Entry(
        sk.trajectory,
        lambda: {"model": spy(), "solver": s.DDIM(), "x_T": X, "grid": "log_snr", "noise": sk.Noise(0), "steps": 2},
        {
            "model": v.model(),
            **RUN,
            "x_T": v.batch(),
            "noise": v.noise(),
            "denoise": by("grid", v.flag()),
            "per_sample": v.flag(),
        },
        together={
            "noise that is not keyed": ({"per_sample": True}, "noise"),
            "labels for other rows": ({"model": labelled(), "x_T": torch.zeros(4, 2)}, "y"),
            "ids of the noise": ({"noise": TOO_MANY_IDS}, "ids"),
        },
    ),
    Entry(
        sk.tune_grid,
        lambda: {"model": spy(), "solver": s.DDIM(), "steps": 2, "shape": (4, 2), "rounds": 1},
        {
            "model": v.model(),
            "solver": v.instance(s.DDIM, optional=True),
            "steps": v.whole(1, 1000),
            "shape": v.shape(optional=True),
            "seed": by("Noise", v.seed()),
            "rounds": v.whole(1, 1000),
        },
        together={
            "too few rows": ({"shape": (3, 2)}, "shape"),
            "noise": ({"solver": s.Ancestral()}, "solver"),
            "steps of its own": ({"solver": s.ProbabilityFlow()}, "solver"),
        },
    ),
    Entry(
        sk.simulate,
        lambda: {"sde": VP, "x0": X, "noise": sk.Noise(0), "steps": 2},
        {
            "sde": v.process(),
            "x0": v.batch(),
            "noise": v.noise(),
            "steps": by("grid", v.whole(1, 10_000_000)),
            "grid": v.times_of_a_grid(VP),
            "clean": v.flag(optional=True),
        },
        together={"ids of the noise": ({"noise": TOO_MANY_IDS}, "ids")},
    ),
    Entry(
        sk.langevin,
        lambda: {"score": lambda x: -x, "x": X, "step_size": 0.1, "steps": 2},
        {
            "score": v.function(),
            "x": v.batch(),
            "step_size": v.number(above=0.0),
            "steps": v.whole(1),
            "noise": v.noise(optional=True),
            "seed": by("Noise", v.seed()),
        },
        together={
            "a score of another shape": ({"score": lambda x: x[:, :1]}, "score"),
            "a score of nothing": ({"score": lambda x: None}, "score"),
        },
    ),
    Entry(
        sk.log_likelihood,
        lambda: {"model": spy(), "x": X, "tol": "fast"},
        {
            "model": v.model(),
            "x": v.batch(),
            **INTEGRATION,
            "trace": v.choice(optional=True),
            "budget": v.flag(),
            "gradient": v.choice(optional=True),
            "prior": but(v.maybe_function(), one_number=wrong_density, nothing=lambda x: None),
            "seed": by("Noise", v.seed()),
            "noise": v.noise(optional=True),
            **per_sample("log_likelihood"),
            "dtype": v.dtype(),
        },
        together={
            **BOTH,
            **WRONG_IDS,
            **WRONG_SOURCES,
            "labels for other rows": ({"model": labelled(), "x": torch.zeros(4, 2)}, "y"),
        },
    ),
    *(
        Entry(
            way,
            lambda name=name: {"model": spy(), name: X, "tol": "fast"},
            {"model": v.model(), name: v.batch(), **INTEGRATION, **per_sample(way.__name__)},
            together={
                **BOTH,
                **WRONG_IDS,
                "labels for other rows": ({"model": labelled(), name: torch.zeros(4, 2)}, "y"),
            },
        )
        for way, name in ((sk.encode, "x"), (sk.decode, "z"))
    ),
    Entry(
        sk.discrete_log_likelihood,
        lambda: {"model": spy(), "x": torch.zeros(3, 2), "bin_width": 0.5, "origin": -1.0, "tol": "fast"},
        {
            "model": v.model(),
            "x": but(v.batch(), off=torch.full((3, 2), 0.1)),
            "bin_width": v.number(above=0.0),
            "origin": v.number(),
            "draws": v.whole(1),
            "transform": v.instance(d.Logit, optional=True),
            "seed": by("Noise", v.seed()),
            "settings": Free("those of log_likelihood, which checks them"),
        },
        together={
            "a source": ({"noise": sk.Noise(0)}, "noise"),
            "an unknown setting": ({"tol": "cats"}, "tol", "log_likelihood"),
        },
    ),
    Entry(
        sk.variational_bound,
        lambda: {"model": spy(), "x": X, "draws": 2},
        {
            "model": v.model(),
            "x": v.batch(),
            "draws": but(v.whole(2), odd=3),
            "times": v.choice(),
            **DECODER,
            "prior": but(v.maybe_function(), one_number=wrong_density, nothing=lambda x: None),
            "seed": by("Noise", v.seed()),
            "noise": v.noise(optional=True),
            **per_sample("variational_bound"),
            "dtype": v.dtype(),
        },
        together={
            **WRONG_IDS,
            **WRONG_SOURCES,
            "data between the levels": ({"x": X + 0.1, "decoder_bin": 0.5}, "x"),
            "a process without a kernel": ({"model": m.FromFunction(BARE, score=lambda x, t: -x)}, "sde"),
            "labels for other rows": ({"model": labelled(), "x": torch.zeros(4, 2)}, "y"),
        },
    ),
    method(
        lambda: sk.LikelihoodBound(*[torch.zeros(3)] * 5, dimension=2),
        "bits_per_dim",
        fixed(bin_width=0.1),
        {"bin_width": v.number(above=0.0)},
    ),
    method(
        lambda: sk.LikelihoodBound(*[torch.zeros(3)] * 5, dimension=2),
        "mean",
        fixed(bin_width=0.1),
        {"bin_width": by("bits_per_dim", v.number(above=0.0))},
    ),
    Entry(
        sk.progressive_coding,
        lambda: {"model": spy(TABLE), "x0": X},
        {
            "model": v.model(),
            "x0": v.batch(rows=1),
            "variance": by("VariationalBound", v.choice()),
            **{name: by("VariationalBound", wrong) for name, wrong in DECODER.items()},
            "seed": by("Noise", v.seed()),
            "noise": v.noise(optional=True),
            **per_sample("progressive_coding"),
            "dtype": v.dtype(),
        },
        together={
            **WRONG_IDS,
            **WRONG_SOURCES,
            "data between the levels": ({"x0": X + 0.1, "decoder_bin": 0.25}, "x0"),
            "no table": ({"model": spy()}, "process"),
            "no coordinates": ({"x0": torch.zeros(3, 0)}, "x0"),
            "a model without a variance": ({"variance": "learned"}, "variance"),
            "labels for other rows": ({"model": spy(TABLE).given(y=torch.arange(3)), "x0": torch.zeros(4, 2)}, "y"),
        },
    ),
    Entry(
        sk.interpolate,
        lambda: {"model": spy(), "a": X, "b": X + 1.0, "steps": 3, "tol": "fast"},
        {"model": v.model(), "a": v.batch(), "b": v.batch(), "steps": v.whole(2), **INTEGRATION},
        together={**BOTH, "fewer ends than starts": ({"b": torch.zeros(1, 2)}, "b")},
    ),
    Entry(sk.Hutchinson, NONE, {"n": v.whole(1), "distribution": v.choice(), "fresh": v.flag(), "at_once": v.whole(1)}),
    Entry(sk.Exact, NONE, {"at_once": v.whole(1)}),
    method(
        lambda: sk.Likelihood(torch.zeros(3), torch.zeros(3), torch.zeros(3), 2),
        "interval",
        NONE,
        {"level": v.number(above=0.0, below=1.0)},
    ),
    method(
        lambda: sk.Likelihood(torch.zeros(3), torch.zeros(3), torch.zeros(3), 2),
        "bits_per_dim",
        fixed(bin_width=0.1),
        {"bin_width": v.number(above=0.0)},
    ),
]

p = sk.plots
LATTICE = p.lattice(4, 1.0)
FLAT = torch.zeros(16, dtype=F64)
IMAGES = torch.zeros(3, 1, 4, 4)
PICTURE = but(v.batch(rows=1), "nan", "-inf", plane=torch.zeros(3, 2))
FIELD = p.FieldPanel("one", FLAT, 1.0, torch.rand(4, 2, generator=torch.Generator().manual_seed(0)), torch.ones(4, 2))
PATHS = p.PathPanel("one", torch.zeros(3, 2, 2))
POINTS = p.PointPanel("one", torch.zeros(3, 2), torch.zeros(3), 1.0)
NO_LIST = {"none": None, "number": 3, "string": "ab", "empty": []}
TITLES = Wrong({"none": None, "number": 3, "numbers": [1, 2]})
ROW = p.SolverRow("view", "DDIM", 10, 0.1, 0.01, -0.01, 0.01)
PLOTS = [
    Entry(p.lattice, fixed(side=4, extent=1.0), {"side": v.whole(1, 10_000), "extent": v.number(above=0.0)}),
    method(
        lambda: LATTICE,
        "square",
        fixed(values=FLAT),
        {"values": but(v.tensor(), too_few=torch.zeros(15))},
        owner="Lattice",
    ),
    Entry(
        p.loss_curves,
        lambda: {"curves": {"DDPM": [1.0, 0.5]}},
        {
            "curves": but(
                v.mapping(), empty={}, of_names={"DDPM": ["a"]}, of_nothing={"DDPM": None}, a_number={"DDPM": 1.0}
            )
        },
    ),
    Entry(
        p.schedules,
        lambda: {"processes": {"VP": VP}, "points": 3},
        {
            "processes": but(v.mapping(), empty={}, of_names={"VP": "VP"}, bare={"bare": BARE}),
            "points": v.whole(2, 10_000_000),
        },
    ),
    Entry(
        p.solver_table,
        lambda: {"rows": [ROW]},
        {
            "rows": Wrong({**NO_LIST, "of names": ["DDIM"], "a nan": [ROW._replace(distance=v.NAN)]}),
            "distance": Wrong({"none": None, "number": 3}),
        },
    ),
    Entry(
        p.histogram,
        lambda: {"sets": {"a": [1.0, 2.0]}, "label": "nats"},
        {
            "sets": but(v.mapping(), empty={}, of_nothing={"a": []}, a_nan={"a": [v.NAN]}),
            "label": Wrong({"none": None, "number": 3}),
        },
    ),
    Entry(
        p.rate_distortion,
        lambda: {"curves": {"DDPM": ([0.1, 1.0], [0.5, 0.2])}, "rate": "bits"},
        {
            "curves": but(
                v.mapping(),
                empty={},
                a_number={"a": 1.0},
                one_list={"a": [[1.0]]},
                three_lists={"a": [[1.0], [1.0], [1.0]]},
                of_names={"a": (["a"], ["b"])},
                of_nothing={"a": (None, None)},
                other_lengths={"a": ([1.0, 2.0], [1.0])},
                a_nan={"a": ([v.NAN], [1.0])},
            ),
            "rate": Wrong({"none": None, "number": 3}),
        },
    ),
    Entry(
        p.mark_chart,
        lambda: {"marks": [p.Mark("a", 1.0)], "label": "bits"},
        {
            "marks": Wrong({**NO_LIST, "of names": ["a"], "a nan": [p.Mark("a", v.NAN)]}),
            "label": Wrong({"none": None, "number": 3}),
        },
    ),
    Entry(p.image_grid, fixed(images=IMAGES), {"images": PICTURE, "columns": v.whole(1), "scale": v.whole(1)}),
    Entry(
        p.save_grid,
        lambda: {"images": IMAGES, "path": INNER / "sdekit-malformed.png"},
        {
            "images": by("image_grid", PICTURE),
            "path": v.path(),
            "columns": by("image_grid", v.whole(1)),
            "scale": by("image_grid", v.whole(1)),
        },
    ),
    Entry(
        p.save_film,
        lambda: {"frames": [IMAGES], "path": INNER / "sdekit-malformed.gif"},
        {
            "frames": Wrong({**NO_LIST, **{k: [x] for k, x in PICTURE.values.items()}}),
            "path": v.path(),
            "columns": v.whole(1),
            "scale": v.whole(1),
            "seconds": v.number(above=0.0),
        },
    ),
    Entry(
        p.image_rows,
        lambda: {"rows": [IMAGES], "names": ["a"], "columns": ["1", "2", "3"]},
        {
            "rows": Wrong({**NO_LIST, **{k: [x] for k, x in PICTURE.values.items()}}),
            "names": but(TITLES, too_many=["a", "b"]),
            "columns": but(TITLES, too_few=["a"]),
            "groups": Wrong({"none": None, "number": 3, "names": ["a"], "half": [0.5], "below": [-1]}),
            "height": v.number(above=0.0),
        },
    ),
    Entry(
        p.score_fields,
        lambda: {"panels": [[FIELD]], "background": LATTICE},
        {"panels": Wrong({**NO_LIST, "of names": [["a"]], "empty row": [[]]}), "background": v.instance(p.Lattice)},
    ),
    Entry(
        p.path_panels,
        lambda: {"panels": [PATHS], "background": LATTICE, "log_density": FLAT},
        {
            "panels": Wrong({**NO_LIST, "of names": ["a"]}),
            "background": v.instance(p.Lattice),
            "log_density": but(v.tensor(), too_few=torch.zeros(15)),
            "columns": v.whole(1),
        },
    ),
    Entry(
        p.point_panels,
        lambda: {"panels": [POINTS], "columns": 1},
        {"panels": Wrong({**NO_LIST, "of names": ["a"]}), "columns": v.whole(1), "names": TITLES},
    ),
    Entry(
        p.density_maps,
        lambda: {"titles": ["a"], "log_densities": [FLAT], "background": LATTICE},
        {
            "titles": but(TITLES, too_many=["a", "b"]),
            "log_densities": Wrong({**NO_LIST, "of names": ["a"], "too few": [torch.zeros(15)]}),
            "background": v.instance(p.Lattice),
            "depth": v.number(above=0.0),
        },
    ),
    Entry(
        p.save,
        lambda: {"fig": Figure(), "path": INNER / "sdekit-malformed.png"},
        {"fig": v.instance(Figure), "path": v.path(), "dpi": v.whole(1)},
    ),
    Entry(p.styled, NONE, {}),
]

ENTRIES = [
    *SDES,
    *TABLES,
    *GRIDS,
    *SOLVERS,
    *MODELS,
    *LOSSES,
    *GUIDANCE,
    *ODE,
    *NOISE,
    *METRICS,
    *DATA,
    *TRAINING,
    *NETWORKS,
    *TOP,
    *PLOTS,
]


def plain_sampler(model, x, levels, noise):
    """A sampler that is a function: x0 at once."""
    return model(x, levels[0]).x0


SAMPLER = v.instance(sk.solvers.DDIM)
CERTIFY = {
    "solver": SAMPLER,
    "sde": v.gaussian_process(optional=True),
    "order": v.number(above=0.0, optional=True),
    "stochastic": v.flag(optional=True),
    "evaluations": v.whole(1, optional=True),
    "reference": v.instance(sk.solvers.DDIM, optional=True),
    "full": v.flag(),
}
DECLARED_TWICE = {
    f"a solver and its {name}": ({"solver": sk.solvers.DDIM(), name: value}, name)
    for name, value in {"order": 1.0, "stochastic": False, "evaluations": 1}.items()
}
CERTIFICATION = [
    Entry(sk.certify, lambda: {"solver": plain_sampler}, CERTIFY, together=DECLARED_TWICE),
    Entry(sk.certification.check, lambda: {"solver": plain_sampler}, CERTIFY, owner="certify", together=DECLARED_TWICE),
    Entry(
        p.certificate,
        lambda: {
            "title": "t",
            "curves": {"flow": p.Convergence([1, 2], [1.0, 0.5], 1.0)},
            "rows": [("a", "1", "", True)],
        },
        {
            "title": Wrong({"none": None, "number": 3}),
            "curves": but(v.mapping(), of_numbers={"flow": 1.0}, of_lists={"flow": [1.0]}),
            "rows": Wrong({**NO_LIST, "of names": ["a"]}),
        },
    ),
    Entry(
        p.verdicts,
        lambda: {"solvers": ["DDIM"], "processes": ["VP"], "cells": {("DDIM", "VP"): ("1.0", True)}},
        {
            "solvers": Wrong({**NO_LIST, "of numbers": [1]}),
            "processes": Wrong({**NO_LIST, "of numbers": [1]}),
            "cells": v.mapping(),
        },
        together={"a cell of a stranger": ({"cells": {("Heun", "VP"): ("1.0", True)}}, "cells")},
    ),
]


def compared():
    """Two samplers beside each other, by hand."""
    row = sk.comparison.Measured("a", "DDIM()", "log_snr", 5, 5, 0.1, None, {"energy distance": INTERVAL})
    return sk.comparison.Comparison("model", (8, 2), 0, (row,), {}, {})


INTERVAL = sk.metrics.Interval(1.0, 0.5, 1.5)
FIGURES = Wrong({"number": 3, "string": "energy distance", "empty": [], "unknown": ["cats"], "of numbers": [3]})
PANEL = p.Tradeoff("t", "seconds", {"a": [(1.0, 2.0, 1.0, 3.0)]}, [(1.0, 2.0)], 0.5)
COMPARISON = [
    Entry(
        sk.compare,
        lambda: {"model": spy(), "shape": (8, 2), "entries": [sk.solvers.DDIM()], "nfe": (2,), "repeats": 2},
        {
            "model": v.model(),
            "shape": but(v.shape(), few=(3, 2), hollow=(8, 0)),
            "entries": Wrong(
                {
                    "none": None,
                    "solver": sk.solvers.DDIM(),
                    "string": "ab",
                    "empty": [],
                    "class": [sk.solvers.DDIM],
                    "names": ["DDIM"],
                    "pair": [("a", sk.solvers.DDIM())],
                    "adaptive": [sk.solvers.ProbabilityFlow()],
                    "twice": [sk.solvers.DDIM(), sk.solvers.DDIM()],
                }
            ),
            "nfe": Wrong(
                {"none": None, "number": 5, "string": "5", "empty": [], "zero": [0], "half": [2.5], "set": {5}}
            ),
            "data": but(v.batch(optional=True), few=torch.zeros(31, 2), another=torch.zeros(90, 3)),
            "seed": by("Noise", v.seed()),
            "repeats": v.whole(2, 10_000_000),
            "progress": v.flag(),
        },
    ),
    Entry(
        sk.comparison.oracle,
        fixed(name="ring"),
        {"name": v.choice(), "sde": v.gaussian_process(optional=True)},
    ),
    method(compared, "front", NONE, {"figure": v.choice(), "cost": v.choice()}),
    method(compared, "table", NONE, {"figures": FIGURES}),
    method(
        compared,
        "plot",
        lambda: {"path": INNER / "sdekit-malformed.png"},
        {"path": v.path(), "figures": FIGURES},
    ),
    Entry(
        p.tradeoffs,
        lambda: {"panels": [PANEL]},
        {
            "panels": Wrong({**NO_LIST, "of names": ["a"]}),
            "columns": v.whole(1, 10_000_000),
        },
        together={
            "no curve": ({"panels": [PANEL._replace(curves={})]}, "curves"),
            "a curve of nothing": ({"panels": [PANEL._replace(curves={"a": []})]}, "curves"),
            "a curve of three numbers": ({"panels": [PANEL._replace(curves={"a": [(1.0, 2.0, 3.0)]})]}, "curves"),
            "a nan": ({"panels": [PANEL._replace(curves={"a": [(1.0, v.NAN, 1.0, 3.0)]})]}, "curves"),
            "no cost": ({"panels": [PANEL._replace(curves={"a": [(0.0, 2.0, 1.0, 3.0)]})]}, "curves"),
            "a front of names": ({"panels": [PANEL._replace(front=[("a", "b")])]}, "front"),
            "a floor of nan": ({"panels": [PANEL._replace(floor=v.NAN)]}, "floor"),
        },
    ),
]
ENTRIES = [*ENTRIES, *CERTIFICATION, *COMPARISON]

RECORDS = {
    sk.certification.Certificate: "certify makes it",
    sk.certification.Check: "certify makes it",
    sk.certification.table: "it prints what certify made",
    p.Convergence: "read by the function that draws it",
    p.Tradeoff: "read by the function that draws it",
    sk.comparison.Comparison: "compare makes it",
    sk.comparison.Measured: "compare makes it",
    sk.comparison.Entry: "read by compare",
    sk.metrics.Interval: "a distance makes it",
    sk.Level: "a process makes it",
    sk.GaussianLevel: "a process makes it",
    sk.Likelihood: "log_likelihood makes it",
    sk.DiscreteLikelihood: "discrete_log_likelihood makes it",
    sk.LikelihoodBound: "variational_bound makes it",
    sk.ProgressiveCoding: "progressive_coding makes it",
    sk.Samples: "sample makes it",
    sk.TunedGrid: "tune_grid makes it",
    sk.solvers.State: "a run makes it",
    sk.ode.Stats: "an integration makes it",
    sk.losses.Terms: "a bound makes it",
    sk.metrics.NoiseFloor: "noise_floor makes it",
    sk.models.Scaling: "a parametrisation makes it",
    sk.models.GaussianPrediction: "a model makes it",
    sk.models.ScorePrediction: "a model makes it",
    sk.training.Trained: "train makes it",
    sk.data.Digits: "digits makes it",
    sk.data.MissingExtra: "an error",
    tables.accumulated: "arithmetic on a checked table",
    **dict.fromkeys(
        (p.FieldPanel, p.Lattice, p.Mark, p.PathPanel, p.PointPanel, p.SolverRow), "read by the function that draws it"
    ),
}
"""Public things that take no arguments from a user, and why."""
