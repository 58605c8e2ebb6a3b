"""The Swiss roll: both views in the plane, where the exact score and the exact density are known."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from .. import plots
from ..data import roll_position, swiss_roll, swiss_roll_density
from ..data.base import sklearn_datasets
from ..likelihood import log_likelihood
from ..losses import DenoisingScoreMatching, ImplicitScoreMatching, SlicedScoreMatching
from ..losses.base import Objective
from ..metrics import energy_distance, noise_floor
from ..models import Epsilon, Parametrised, ScaledScore
from ..models.base import ScoreModel, evaluating
from ..networks import MLP
from ..noise import Noise
from ..plots import FieldPanel, PathPanel, PointPanel
from ..sdes import VESDE, VPSDE, GaussianSDE
from ..solvers import Langevin, State
from ..training import Settings
from ..training.generators import seeded
from .folder import Folder
from .report import Report, code, paragraph, table
from .study import DDPM, NCSN, SQUARE, TWO_VIEWS, Lab, Run, View, runs, views_table
from .watch import counting, travelling

VIEWS = (DDPM, NCSN)


@dataclass(frozen=True)
class RollSettings:
    """What a run of the demo is told."""

    training: Settings
    solvers: tuple[Run, ...]
    width: int = 128
    depth: int = 3
    samples: int = 1000
    pool: int = 4000
    """Points in the training set, in the held-out set, and in the one that gives the noise floor."""
    walkers: int = 1000
    """Particles of Langevin dynamics."""
    walk: int = 600
    """Their steps."""
    side: int = 60
    """Of the lattice on which densities are drawn."""
    held_out: int = 1000
    """Points of which the likelihood is taken."""
    tol: float = 1e-3
    """Of its integration."""
    objective: str = "denoising"
    """What the views are trained with: a name of OBJECTIVES."""


FULL = RollSettings(Settings(steps=1500, batch_size=512, lr=4e-3, warmup=50, ema=0.99), runs(100, 50, 20, 1e-4))
QUICK = RollSettings(
    Settings(steps=400, batch_size=256, lr=4e-3, warmup=20, ema=0.98), runs(40, 25, 12, 1e-4),
    width=64, samples=400, pool=1500, walkers=300, walk=300, side=40, held_out=200, tol=1e-3,
)  # fmt: skip

OBJECTIVES: dict[str, Objective] = {
    "denoising": DenoisingScoreMatching(),
    "sliced": SlicedScoreMatching("likelihood", times="importance"),
    "implicit": ImplicitScoreMatching("likelihood", times="importance"),
}
"""By name. Those without a target meet all log-SNRs alike: VP's uniform times would leave the least noise to chance."""

TARGETLESS = (
    "The loss has no target: it is half the mean square of ε less σ times the mean of ∂ε/∂x, the score's divergence "
    "in units of noise, {trace}. It is below zero where the model is right. The levels of noise are drawn evenly in "
    "the log-SNR and all weighed alike, by half its range."
)
LOSSES = {
    "denoising": SQUARE,
    "sliced": TARGETLESS.format(trace="estimated along one random direction a point"),
    "implicit": TARGETLESS.format(trace="exactly, a derivative for each coordinate"),
}
"""What the page says of each."""

EXTENT = 2.2
"""Half the width of the pictures."""

LEVELS = (1.5, 0.4, 0.12)
"""sigma / alpha at which score fields are drawn."""

COLD = 0.1
"""sigma / alpha at which Langevin dynamics walks without annealing."""

HEADINGS = {
    "samples": "A roll from noise",
    "views": "Two views of one model",
    "forward": "The forward process",
    "score": "The score field",
    "langevin": "Langevin dynamics, cold and annealed",
    "paths": "The ways of the solvers",
    "table": "What a solver costs, and what it gives",
    "density": "The exact log-density",
    "training": "Training",
    "use": "Take a model with you",
}

USE = """import sdekit as sk
from sdekit.training import load_model

model = load_model("ddpm.safetensors")
x = sk.sample(model, (1000, 2), solver=sk.solvers.DPMSolver(), steps=20, seed=0)
sk.log_likelihood(model, x).log_prob
"""


def trained_by(objective: str, settings: RollSettings) -> RollSettings:
    """The settings of a run whose views are trained with another objective.

    Without a target the gradient is far noisier where the noise is strong: two thirds of the steps, each of a batch
    four times as large, bring a model to where denoising has it.
    """
    if objective == "denoising":
        return settings
    made = settings.training
    training = replace(made, batch_size=4 * made.batch_size, steps=2 * made.steps // 3)
    return replace(settings, objective=objective, training=training)


def load() -> None:
    """Raises MissingExtra where the data cannot be had."""
    sklearn_datasets("sdekit demo")


def build(view: View, data: Tensor, settings: RollSettings, seed: int) -> Parametrised:
    """The untrained model of a view: the same network, on another process, with another meaning of its output."""
    with seeded(seed):
        network = MLP((2,), width=settings.width, depth=settings.depth)
    if view is DDPM:
        return Parametrised(network, VPSDE(t_min=1e-3), Epsilon())
    sde = VESDE(sigma_min=0.01, sigma_max=10.0).with_prior(data.mean(0), data.std(0))
    return Parametrised(network, sde, ScaledScore(inp="unit"))


def demo(folder: Folder, settings: RollSettings, *, device: torch.device, seed: int) -> None:
    """Runs the demo and writes its page, part by part."""
    study = _Study(folder, settings, device, seed)
    with study.page.running():
        study.forward()
        for view in VIEWS:
            study.train(view)
            study.score(view)
            study.sample(view)
            study.paths(view)
            study.density(view)
        study.langevin(NCSN)


class _Study:
    """The parts of the demo: each computes, writes its files, and fills its section of the page."""

    def __init__(self, folder: Folder, settings: RollSettings, device: torch.device, seed: int):
        self.folder, self.settings, self.seed = folder, settings, seed
        n = settings.pool
        self.data, self.held_out, other = swiss_roll(3 * n, seed=seed % 2**32).chunk(3)
        self.untrained = {view: build(view, self.data, settings, seed) for view in VIEWS}
        self.exact = {
            view: swiss_roll_density(_process(model), components=600) for view, model in self.untrained.items()
        }
        self.lattice = plots.lattice(settings.side, EXTENT)
        self.truth = self.exact[NCSN].log_prob(self.lattice.points, self.untrained[NCSN].sde.t_min)
        self.page = Report(
            folder,
            "sdekit demo: the Swiss roll",
            "Points of scikit-learn's Swiss roll, learned by a small network as DDPM and as NCSN. In the plane "
            "everything can be seen, and for this roll everything is known: the exact score and the exact density "
            "stand beside the learned.",
            HEADINGS,
            footer=f"Device {device}, seed {seed}. Data: scikit-learn's make_swiss_roll (Marsland 2009), noise 0.5.",
        )
        self.page.facts["points to learn from"] = f"{n:,}"
        self.page.facts["score matching"] = settings.objective
        self.page.facts["parameters"] = f"{sum(p.numel() for p in self.untrained[DDPM].parameters()):,}"
        floor = noise_floor(other, self.held_out, settings.samples, seed=seed)
        self.lab = Lab(
            folder,
            self.page,
            settings.training,
            settings.solvers,
            self.held_out,
            floor,
            (settings.samples, 2),
            device,
            seed,
            objective=settings.objective,
            gist=LOSSES[settings.objective],
        )
        self.clouds: dict[str, Tensor] = {}
        self.fields: list[list[FieldPanel]] = []
        self.maps: dict[str, Tensor] = {}
        self.fits: list[list[str]] = []

    def forward(self) -> None:
        """The forward process of both views, on the same points with the same noise."""
        x0 = self.held_out[:1200]
        along, eps = roll_position(x0), Noise((self.seed, 3)).normal(x0.shape, stream="forward")
        panels = []
        for model in self.untrained.values():
            sde = _process(model)
            for share in (0.0, 0.2, 0.4, 0.6, 1.0):
                t = sde.t_min + share * (sde.t_max - sde.t_min)
                x = sde.perturb(x0, t, eps) / _unit(sde, t)
                panels.append(PointPanel(f"t = {share:.1f},  σ/α = {_ratio(sde, t):.2g}", x, along, 3.0))
        with self.folder.writing("forward.png") as path:
            plots.save(plots.point_panels(panels, 5, [view.name for view in VIEWS]), path)
        sdes = {view.name: _process(model) for view, model in self.untrained.items()}
        with self.folder.writing("schedules.png") as path:
            plots.save(plots.schedules(sdes), path)
        self.page.set("views", paragraph(TWO_VIEWS), views_table(sdes), self.page.figure(
            "schedules.png", "alpha, sigma and log-SNR of both processes over time", wide=True
        ))  # fmt: skip
        self.page.set("forward", self.page.figure(
            "forward.png", "points of the roll that disperse into a Gaussian, in both views",
            "The same points with the same noise, coloured by their place along the roll, each divided by √(α² + σ²). "
            "The two processes pass the same clouds at different times.", wide=True,
        ))  # fmt: skip

    def train(self, view: View) -> None:
        """Trains a view."""
        self.lab.train(view, self.untrained[view], self.data, OBJECTIVES[self.settings.objective])

    def score(self, view: View) -> None:
        """The score field at three levels of noise, over the exact density, in the units of the data."""
        model, exact = self.lab.models[view], self.exact[view]
        sde, row = _process(model), []
        for ratio in LEVELS:
            t = float(sde.time_at(torch.tensor(-2 * math.log(ratio), dtype=torch.float64)))
            alpha = float(sde.alpha(t))
            extent = EXTENT * math.sqrt(1 + ratio**2) ** 0.5
            arrows = plots.lattice(19, extent).points
            learned, known = (alpha * _score(m, alpha * arrows, t) for m in (model, exact))
            x = alpha * self.held_out[:1000] + float(sde.sigma(t)) * Noise((self.seed, 5)).normal(
                (1000, 2), stream="score"
            )
            at_data, right = (_score(m, x, t) for m in (model, exact))
            error = float((at_data - right).square().sum() / right.square().sum()) ** 0.5
            back = plots.lattice(self.settings.side, extent)
            shade = exact.log_prob(alpha * back.points, t)
            title = f"{view.name}, σ/α = {ratio:g}: error {error:.0%}"
            row.append(FieldPanel(title, shade, extent, arrows, learned, known))
        self.fields.append(row)
        with self.folder.writing("score.png") as path:
            plots.save(plots.score_fields(self.fields, self.lattice), path)
        self.page.set("score", paragraph(
            "The score, the gradient of the log-density of the noisy data, points to where the data are: to their "
            "middle while the noise is strong, to the next turn of the roll once it is weak. It is all that a solver "
            "ever asks for."
        ), self.page.figure(
            "score.png", "arrows of the score over the density at three noise levels",
            "The learned score in dark arrows over the exact one in vermilion, which shows where the two differ; "
            "behind them the exact density of x<sub>t</sub>/α. Lengths are compressed by a logarithm. The error is "
            "the root mean square of the difference where noisy data lie, relative to the score itself.", wide=True,
        ))  # fmt: skip

    def sample(self, view: View) -> None:
        """Runs the solvers from one start."""
        self.clouds.setdefault("Held-out data", self.held_out[: self.settings.samples])
        for run, x, line in self.lab.sample(view):
            if run.name == HEADLINE:
                self.clouds[f"{view.name}, {line.nfe:.0f} NFE"] = x
        panels = [PointPanel(name, x, roll_position(x), EXTENT) for name, x in self.clouds.items()]
        with self.folder.writing("samples.png") as path:
            plots.save(plots.point_panels(panels, 3), path)
        self.page.set("samples", self.page.figure(
            "samples.png", "held-out points of the roll beside generated ones",
            f"Held-out data, and as many points drawn by {HEADLINE}; coloured by their place along the "
            "roll.", wide=True,
        ))  # fmt: skip

    def paths(self, view: View) -> None:
        """The ways of nine points under every solver, from the same noise."""
        print(f"{view.name}: the ways of {len(self.lab.solvers)} solvers", flush=True)
        panels = []
        for run in tqdm(self.lab.solvers, desc="  paths", leave=False):
            shown = run if run.solver.evaluations is not None else run._replace(steps=40)
            reel = self.lab.film(view, shown, 9)
            panels.append(
                PathPanel(
                    f"{run.name}, {run.steps if shown is run else 'Dopri5'}", torch.stack([x for _, x, _ in reel])
                )
            )
        with self.folder.writing(f"{view.key}-paths.png") as path:
            plots.save(plots.path_panels(panels, self.lattice, self.truth, columns=4), path)
        self.page.add("paths", view.key, self.page.figure(
            f"{view.key}-paths.png", f"paths from noise to the roll under every solver, {view.name}",
            f"<b>{view.name}.</b> From ring to dot: nine points, the same noise in every panel, drawn in units of √(α² "
            "+ σ²), with each solver's number of steps. The solvers of the first row draw noise on the way; those of "
            "the second follow the probability flow and end in the same places.", wide=True,
        ))  # fmt: skip

    def density(self, view: View) -> None:
        """The log-density on a lattice and on held-out points, through the probability flow with the exact trace."""
        model, made = self.lab.models[view], self.settings
        x = torch.cat([self.lattice.points, self.held_out[: made.held_out].double()]).to(self.lab.device)
        print(f"{view.name}: the log-density of {len(x):,} points", flush=True)
        sde = _process(model)
        with travelling(model, "log-likelihood", len(x), sde.t_min, sde.t_max) as shown:
            begin = time.perf_counter()
            result = log_likelihood(shown, x, tol=made.tol, budget=False)
            seconds = time.perf_counter() - begin
        log_prob = result.log_prob.to("cpu")
        cut = len(self.lattice.points)
        self.maps[view.name] = log_prob[:cut]
        right = self.exact[view].log_prob(self.held_out[: made.held_out].double(), sde.t_min)
        found = log_prob[cut:]
        self.fits.append([
            view.name, *(_with_error(v) for v in (found, right, right - found)),
            f"{float(result.nfe.double().mean()):.0f}", f"{seconds:.1f}",
        ])  # fmt: skip
        mass = float(self.maps[view.name].exp().mean()) * (2 * EXTENT) ** 2
        print(
            f"  held-out log-density {self.fits[-1][1]}, exact {self.fits[-1][2]}; mass on the map {mass:.3f}",
            flush=True,
        )
        with self.folder.writing("log_density.png") as path:
            maps = [self.truth, *self.maps.values()]
            plots.save(plots.density_maps(["exact", *self.maps], maps, self.lattice), path)
        self.folder.json("log_density.json", [
            dict(zip(("view", "log_density", "exact", "kl", "nfe", "seconds"), line, strict=True))
            | {"objective": made.objective}
            for line in self.fits
        ])  # fmt: skip
        self.page.facts[f"nats from the truth, {view.name}"] = f"{float((right - found).mean()):.3f}"
        self.page.set("density", paragraph(
            "The probability flow carries every point to the noise and keeps count of how it stretches the plane: the "
            "result is the model's own log-density at that point, exact up to the integrator's tolerance. The roll's "
            "true density is an integral along the curve, so that the two can be laid side by side."
        ), self.page.figure(
            "log_density.png", "maps of the exact and of the learned log-densities",
            "Log-density, down to 8 nats below its maximum, with a line every 2 nats.", wide=True,
        ), table(
            f"Mean log-density of {made.held_out:,} held-out points ± twice its standard error, in nats. The "
            "difference is the Kullback-Leibler divergence from the truth. Exact trace, Dopri8, "
            f"{made.tol:g} nats a step; the density at t<sub>min</sub>, where σ = 0.01.",
            ["view", "model", "truth", "difference", "NFE", "seconds"], {"": self.fits},
        ))  # fmt: skip
        self.page.set("use", code(USE))

    def langevin(self, view: View) -> None:
        """Langevin dynamics at one level and annealed through all of them, from the same start in as many steps."""
        model, made = self.lab.models[view], self.settings
        sde, n = _process(model), made.walkers
        noise = Noise((self.seed, 6))
        cold = float(sde.time_at(torch.tensor(-2 * math.log(COLD), dtype=torch.float64)))
        start = EXTENT * (2 * torch.stack([noise.uniform(n, stream="x"), noise.uniform(n, stream="y")], 1) - 1)
        start = start.to(device=self.lab.device, dtype=torch.float32)
        print(f"{view.name}: Langevin dynamics, {n:,} particles", flush=True)
        solver = Langevin()
        walks: dict[str, Tensor] = {}
        ladder = torch.linspace(math.log(2.0), math.log(sde.sigma_min), made.walk)  # type: ignore[attr-defined]
        times = {
            "cold": [cold] * made.walk,
            "annealed": sde.time_at(-2 * ladder.double()).tolist(),
        }
        with torch.no_grad(), evaluating(model):
            for name, levels in times.items():
                with counting(model, f"Langevin, {name}", len(levels)) as shown:
                    state = State(start, sde.at(levels[0], start))
                    states = [start]
                    for level in sde.levels(torch.tensor(levels, dtype=torch.float64)):
                        state = solver.step(shown, state, level, noise)
                        states.append(state.x)
                walks[name] = torch.stack(states).to("cpu")
        far = {name: float(energy_distance(walk[-1], self.held_out)) for name, walk in walks.items()}
        titles = {"cold": f"cold: σ = {COLD:g} throughout", "annealed": "annealed: σ from 2 to 0.01"}
        panels = []
        for name, walk in walks.items():
            panels.append(PathPanel(titles[name], walk[::2, :9]))
            panels.append(PathPanel(f"where {n:,} end: distance {far[name]:.4f}", walk[:, :0], walk[-1]))
        with self.folder.writing("langevin.png") as path:
            plots.save(plots.path_panels(panels, self.lattice, self.truth, columns=4), path)
        self.page.set("langevin", paragraph(
            "Langevin dynamics follows the score and adds noise at every step. At one low level of noise it runs to "
            "the nearest turn of the roll and stays there, whatever share of the data that turn holds. NCSN's answer "
            "is to anneal: to start where the noise is strong, and to lower it while the particles walk."
        ), self.page.figure(
            "langevin.png", "paths and end points of Langevin dynamics at one noise level and annealed",
            f"{made.walk} steps with the score of the {view.name}, from the same points scattered over the square: "
            f"nine paths from ring to dot, and where {n:,} particles end. The energy distance is to held-out "
            "data.", wide=True,
        ))  # fmt: skip


HEADLINE = "DPM-Solver++(2M)"
"""The solver whose points open the page."""


def _process(model: ScoreModel) -> GaussianSDE:
    assert isinstance(model.sde, GaussianSDE)
    return model.sde


def _score(model: ScoreModel, x: Tensor, t: float) -> Tensor:
    """The score at points of the plane, on the host."""
    own = x.to(device=model.device or "cpu", dtype=model.dtype)
    with torch.no_grad():
        score: Tensor = model(own, t).score
    return score.to(device="cpu", dtype=torch.float64)


def _unit(sde: GaussianSDE, t: float) -> float:
    """sqrt(alpha^2 + sigma^2)."""
    return math.hypot(float(sde.alpha(t)), float(sde.sigma(t)))


def _ratio(sde: GaussianSDE, t: float) -> float:
    return float(sde.sigma(t)) / float(sde.alpha(t))


def _with_error(values: Tensor) -> str:
    return f"{float(values.mean()):.3f} ± {2 * float(values.std()) / math.sqrt(len(values)):.3f}"
