"""What both demos do: train a view, run the solvers from one noise, keep the table."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import ode, solvers
from ..metrics import NoiseFloor, energy_distance
from ..models.base import ScoreModel, evaluating
from ..models.parametrised import Parametrised
from ..noise import Noise
from ..plots import SolverRow, loss_curves, save, solver_table
from ..sampling import sample, trajectory
from ..sdes import GaussianSDE
from ..solvers.base import Solver
from ..training import Settings, Trained, save_model, train
from .folder import Folder
from .report import Report, paragraph, table
from .watch import counting, travelling

START, PATH = 1, 2
"""Beside the seed, what the draws are for: the start of a run and its path are never the same numbers."""


class View(NamedTuple):
    """One of the two views: its short name, what it is called on the page, and in a sentence."""

    key: str
    name: str
    gist: str


DDPM = View("ddpm", "DDPM view", "VP process, the network estimates the noise ε")
NCSN = View("ncsn", "NCSN view", "VE process, the network estimates σ times the score")


class Run(NamedTuple):
    """A solver and its grid, by the name that the page gives it."""

    name: str
    solver: Solver
    steps: int
    grid: str = "log_snr"

    @property
    def slug(self) -> str:
        """The name of its files."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


NOISY = "karras"
"""The grid of stochastic solvers: most of its steps are where noise still changes what the sample will be."""


def runs(slow: int, middle: int, few: int, tol: float) -> tuple[Run, ...]:
    """The eight solvers: ``slow`` evaluations for the stochastic ones, ``middle`` for DDIM, ``few`` for order two."""
    return (
        Run("Ancestral", solvers.Ancestral(), slow, NOISY),
        Run("Euler-Maruyama", solvers.EulerMaruyama(), slow, NOISY),
        Run("Reverse diffusion", solvers.ReverseDiffusion(), slow, NOISY),
        Run("Predictor-corrector", solvers.PredictorCorrector(), (slow + 1) // 2, NOISY),
        Run("DDIM", solvers.DDIM(), middle),
        Run("Heun", solvers.Heun(), max(1, (few + 1) // 2)),
        Run("DPM-Solver++(2M)", solvers.DPMSolver(), few),
        Run("Probability flow", solvers.ProbabilityFlow(ode.Dopri5(rtol=tol, atol=tol)), 2),
    )


@dataclass(frozen=True)
class Result:
    """A line of the table."""

    view: str
    solver: str
    settings: str
    grid: str
    steps: int
    nfe: float
    seconds: float
    energy_distance: float
    floor_mean: float
    floor_low: float
    floor_high: float
    samples: int
    objective: str = "denoising"
    """What the view was trained with."""

    def row(self) -> SolverRow:
        """The line as the picture of the table takes it."""
        return SolverRow(
            self.view, self.solver, self.nfe, self.seconds, self.energy_distance, self.floor_low, self.floor_high
        )


def solve(
    view: View, model: ScoreModel, run: Run, x_T: Tensor, reference: Tensor, floor: NoiseFloor, seed: int
) -> tuple[Tensor, Result]:
    """The samples of a solver from a start, and its line of the table."""
    sde, each = model.sde, run.solver.evaluations
    if each is None:
        bar = travelling(model, run.name, len(x_T), sde.t_max, sde.t_min)
    else:
        bar = counting(model, run.name, each * run.steps)
    with bar as shown:
        begin = time.perf_counter()
        result = sample(shown, x_T=x_T, solver=run.solver, steps=run.steps, grid=run.grid, seed=(seed, PATH), full=True)
        seconds = time.perf_counter() - begin
    x = result.x.to("cpu")
    nfe = float(torch.as_tensor(result.nfe, dtype=torch.float64).mean())
    line = Result(
        view.name, run.name, repr(run.solver), run.grid, run.steps, round(nfe, 1), round(seconds, 3),
        float(energy_distance(x, reference)), floor.mean, floor.low, floor.high, len(x),
    )  # fmt: skip
    print(f"  {run.name:<22}{nfe:6.0f} NFE {seconds:7.1f} s   energy distance {line.energy_distance:.4f}", flush=True)
    return x, line


def write_table(folder: Folder, table: Sequence[Result]) -> None:
    """The table so far, as CSV and JSON."""
    lines = [asdict(line) for line in table]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    folder.text("table.csv", text.getvalue())
    folder.json("table.json", lines)


def results(lines: Sequence[Result]) -> str:
    """The table so far, for the page."""
    groups: dict[str, list[list[str]]] = {}
    for line in lines:
        floor = f"{line.floor_low:.4f} to {line.floor_high:.4f}"
        cells = [line.solver, f"{line.nfe:.0f}", f"{line.seconds:.1f}", f"{line.energy_distance:.4f}", floor]
        groups.setdefault(line.view, []).append(cells)
    return table("", ["solver", "NFE", "seconds", "energy distance", "noise floor (90 %)"], groups)


SQUARE = (
    "The loss is the mean square of the error in ε; the views meet the levels of noise in different proportions, and "
    "so their losses do not compare."
)
"""What the page says of denoising score matching."""


@dataclass
class Lab:
    """What the parts of a demo share: where they write, what they compare with, and what they have so far."""

    folder: Folder
    page: Report
    training: Settings
    solvers: tuple[Run, ...]
    reference: Tensor
    """Held-out data."""
    floor: NoiseFloor
    """Of the energy distance to them."""
    shape: tuple[int, ...]
    """Of the samples that each solver draws."""
    device: torch.device
    seed: int
    objective: str = "denoising"
    """What the views are trained with."""
    gist: str = SQUARE
    """What the page says of it."""
    models: dict[View, Parametrised] = field(default_factory=dict)
    losses: dict[str, list[float]] = field(default_factory=dict)
    table: list[Result] = field(default_factory=list)

    def train(self, view: View, model: Parametrised, data: Tensor, loss: Any) -> None:
        """Trains a view and saves the model with the averaged weights, also where Ctrl-C ends it before its time."""
        made, begun = self.training, list[Trained]()
        name = f"{view.key}.safetensors"
        size = f"{made.steps} steps of {made.batch_size}"
        print(f"{view.name}: training by {self.objective} score matching, {size}", flush=True)

        def keep(trained: Trained) -> None:
            if not begun:
                begun.append(trained)

        try:
            train(model.to(self.device), data, made, loss=loss, progress=True, callback=keep)
        finally:
            for trained in begun:
                self.models[view] = trained.ema  # type: ignore[assignment]
                self.losses[view.name] = trained.losses
                with self.folder.writing(name) as path:
                    save_model(path, self.models[view])
                with self.folder.writing("losses.png") as path:
                    save(loss_curves(self.losses), path)
                self._show_training()

    def start(self, view: View, n: int | None = None) -> Tensor:
        """The noise that every solver starts from: the same normals in every view, scaled as its prior is."""
        x = self.models[view].sde.prior.sample(self.shape, Noise((self.seed, START)))
        return x[:n].to(self.device)

    def sample(self, view: View) -> Iterator[tuple[Run, Tensor, Result]]:
        """Runs the solvers from one start; each adds its line to the table."""
        x_T = self.start(view)
        print(f"{view.name}: {len(self.solvers)} solvers, {len(x_T)} samples each, from the same noise", flush=True)
        for run in self.solvers:
            x, line = solve(view, self.models[view], run, x_T, self.reference, self.floor, self.seed)
            self.table.append(replace(line, objective=self.objective))
            write_table(self.folder, self.table)
            yield run, x, line
        with self.folder.writing("table.png") as path:
            save(solver_table([line.row() for line in self.table]), path)
        self._show_table()

    def film(self, view: View, run: Run, n: int, every: int = 1) -> list[tuple[float, Tensor, Tensor]]:
        """The film of the first n samples of a run."""
        return list(frames(self.models[view], run, self.start(view, n), self.seed, every))

    def _show_training(self) -> None:
        made = self.training
        self.page.set("training", paragraph(
            f"Each view takes {made.steps:,} steps of Adam, {made.batch_size} rows at a time, by {self.objective} "
            f"score matching. {self.gist} Everything on this page is drawn from the running average of the weights "
            f"(decay {made.ema:g})."
        ), self.page.figure(
            "losses.png", "loss over training steps", "The loss of each step, and its running mean."
        ))  # fmt: skip

    def _show_table(self) -> None:
        floor, n, m = self.floor, self.shape[0], len(self.reference)
        self.page.set("table", paragraph(
            f"NFE counts how often the network was asked for each sample. The energy distance compares the {n:,} "
            f"samples of a solver with {m:,} held-out data: it is 0 on average for a perfect sampler, and that of "
            f"{n:,} real data lies between {floor.low:.4f} and {floor.high:.4f} nine times in ten. That band is the "
            "noise floor: a distance within it cannot be told from a perfect sampler's."
        ), results(self.table), self.page.figure(
            "table.png", "the table as a picture", "The same as a picture, the bands in green. Also as "
            '<a href="table.csv">CSV</a> and <a href="table.json">JSON</a>.', wide=True,
        ))  # fmt: skip


def frames(
    model: ScoreModel, run: Run, x_T: Tensor, seed: int, every: int = 1
) -> Iterator[tuple[float, Tensor, Tensor]]:
    """The film of a run: (t, x_t / sqrt(alpha^2 + sigma^2), the model's x0 there), every few steps and at the end."""
    with torch.no_grad(), evaluating(model):
        states = trajectory(model, run.solver, x_T, run.grid, Noise((seed, PATH)), steps=run.steps)
        for i, state in enumerate(states):
            if state.level.clean:
                yield 0.0, state.x, state.x
            elif i % every == 0:
                level: Any = state.level
                unit = (level.alpha**2 + level.sigma**2) ** 0.5
                yield level.t, state.x / unit, model(state.x, level).x0


TWO_VIEWS = (
    "Both models are the same class around the same code for the network: a network F, a process x<sub>t</sub> = α(t) "
    "x<sub>0</sub> + σ(t) ε, and a statement of what F estimates. DDPM and NCSN differ in the rows of this table and "
    "in nothing else; every solver below runs on either without knowing which it is."
)


def views_table(sdes: dict[str, GaussianSDE]) -> str:
    """What differs between the views, a VPSDE and a VESDE, for the page."""
    ends = [[float(sde.sigma(t)) / float(sde.alpha(t)) for t in (sde.t_min, sde.t_max)] for sde in sdes.values()]
    rows = [
        ["process", "VP: dx = −½ β(t) x dt + √β(t) dw", "VE: dx = √(dσ²/dt) dw"],
        ["α(t)", "exp(−½ ∫β), from 1 to 0", "1"],
        ["σ(t)", "√(1 − α²), from 0 to 1", "a geometric sequence"],
        ["the network estimates", "ε", "σ · score = −ε"],
        ["it is told", "t", "ln(σ / 2)"],
        ["it sees", "x", "x / √(1 + σ²)"],
        ["σ / α, first to last", *(f"{low:.3f} to {high:.0f}" for low, high in ends)],
    ]
    return table("", ["", *sdes], {"": rows}, "text")
