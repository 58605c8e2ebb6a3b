"""The digits: both views of one U-Net, eight solvers from one noise, bits per dimension."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import plots
from ..data import Dequantised, Digits, dequantise, digits
from ..data.base import sklearn_datasets
from ..likelihood import Hutchinson, log_likelihood
from ..metrics import noise_floor
from ..models import Epsilon, Parametrised, ScaledScore
from ..networks import UNet
from ..noise import Noise
from ..plots import Mark, style
from ..sdes import VESDE, VPSDE, GaussianSDE
from ..solvers import Ancestral
from ..training import Settings
from ..training.generators import seeded
from .folder import Folder
from .report import Report, cards, code, paragraph, table
from .study import DDPM, NCSN, NOISY, TWO_VIEWS, Lab, Run, View, runs, views_table
from .watch import travelling

VIEWS = (DDPM, NCSN)


@dataclass(frozen=True)
class DigitsSettings:
    """What a run of the demo is told."""

    training: Settings
    width: int = 24
    """Channels of the U-Net."""
    samples: int = 256
    """Digits that each solver draws."""
    solvers: tuple[Run, ...] = field(default_factory=lambda: runs(100, 50, 20, 1e-3))
    film_steps: int = 100
    held_out: int = 360
    """Digits of which the likelihood is taken."""
    probes: int = 1
    """Of Hutchinson's estimate, a digit."""
    tol: float = 1e-3
    """Of the likelihood's integration."""


FULL = DigitsSettings(Settings(steps=1100, lr=6e-3, warmup=100, ema=0.99, betas=(0.9, 0.99)))
QUICK = DigitsSettings(
    Settings(steps=150, lr=6e-3, warmup=20, ema=0.98, betas=(0.9, 0.99)),
    width=16, samples=64, solvers=runs(40, 25, 12, 1e-3), film_steps=40, held_out=64,
)  # fmt: skip

SHOWN = 64
"""Digits in a solver's grid."""

FILM = 24
"""Digits in the moving film."""

HEADINGS = {
    "samples": "Digits from noise",
    "views": "Two views of one model",
    "same": "One noise, eight solvers",
    "table": "What a solver costs, and what it gives",
    "film": "The film of one trajectory",
    "forward": "The forward process",
    "bits": "How many bits a digit costs",
    "grids": "Every solver's digits",
    "training": "Training",
    "use": "Take a model with you",
}


FORWARD = (
    "The forward process adds noise until nothing of the digit is left; a model is trained to see the noise at every "
    "level, and a solver walks the way back. The VP process of DDPM fades the digit out while the noise comes in; the "
    "VE process of NCSN leaves the digit as it is and buries it. At equal log-SNR both show the same picture."
)

USE = """import sdekit as sk
from sdekit.training import load_model

model = load_model("ddpm.safetensors")
x = sk.sample(model, (64, 1, 8, 8), solver=sk.solvers.DPMSolver(), steps=20, seed=0)
r = sk.log_likelihood(model, x)
r.log_prob, r.bits_per_dim(bin_width=2 / 16)
"""


def load() -> None:
    """Raises MissingExtra where the data cannot be had."""
    sklearn_datasets("sdekit demo")


def build(view: View, data: Digits, settings: DigitsSettings, seed: int) -> Parametrised:
    """The untrained model of a view: the same network, on another process, with another meaning of its output."""
    with seeded(seed):
        network = UNet(1, 8, width=settings.width, multipliers=(1, 2), attention=(1,))
    if view is DDPM:
        return Parametrised(network, VPSDE(t_min=1e-3), Epsilon())
    mean, std = data.train.mean(0), data.train.std(0)
    return Parametrised(network, VESDE(sigma_min=0.01, sigma_max=10.0).with_prior(mean, std), ScaledScore(inp="unit"))


def demo(folder: Folder, settings: DigitsSettings, *, device: torch.device, seed: int) -> None:
    """Runs the demo and writes its page, part by part."""
    study = _Study(folder, settings, device, seed)
    with study.page.running():
        study.forward()
        for view in VIEWS:
            study.train(view)
            study.sample(view)
            study.film(view)
            study.likelihood(view)


class _Study:
    """The parts of the demo: each computes, writes its files, and fills its section of the page."""

    def __init__(self, folder: Folder, settings: DigitsSettings, device: torch.device, seed: int):
        self.folder, self.settings, self.seed = folder, settings, seed
        self.data = digits()
        noise = Noise((seed, 0))
        self.real = dequantise(self.data.train, self.data.bin_width, noise)
        self.held_out = dequantise(self.data.test, self.data.bin_width, noise)
        self.untrained = {view: build(view, self.data, settings, seed) for view in VIEWS}
        self.page = Report(
            folder,
            "sdekit demo: digits",
            "Handwritten digits of 8 × 8 pixels, generated from noise by a small U-Net that was trained just now on "
            "this machine, once as DDPM and once as NCSN, and sampled by eight solvers that all start from the same "
            "noise.",
            HEADINGS,
            footer=f"Device {device}, seed {seed}. Data: scikit-learn's digits (Alpaydin &amp; Kaynak 1998).",
        )
        self.page.facts["digits to learn from"] = f"{len(self.data.train):,}"
        self.page.facts["parameters"] = f"{sum(p.numel() for p in self.untrained[DDPM].parameters()):,}"
        self.lab = Lab(
            folder, self.page, settings.training, settings.solvers, self.held_out,
            noise_floor(self.real, self.held_out, settings.samples, seed=seed),
            (settings.samples, 1, 8, 8), device, seed,
        )  # fmt: skip
        self.cards: dict[View, list[str]] = {}
        self.bits: dict[str, dict[str, float]] = {}

    def forward(self) -> None:
        """The forward process of both views, on the same digits with the same noise."""
        sdes = {view.name: _process(model) for view, model in self.untrained.items()}
        chosen = torch.stack([self.data.train[self.data.train_labels == label][0] for label in (3, 5, 8)])
        eps = Noise((self.seed, 3)).normal(chosen.shape, stream="forward")
        fractions = torch.linspace(0, 1, 10, dtype=torch.float64)
        rows, names, labels = [], [], [f"{float(f):.2f}" for f in fractions]
        for name, sde in sdes.items():
            times = (sde.t_min + fractions * (sde.t_max - sde.t_min)).tolist()
            for i, (digit, z) in enumerate(zip(chosen, eps, strict=True)):
                rows.append(torch.cat([_shown(sde, digit[None], t, z[None]) for t in times]))
                names.append(name if i == 1 else "")
        with self.folder.writing("forward.png") as path:
            plots.save(plots.image_rows(rows, names, labels, groups=[len(chosen)]), path)
        with self.folder.writing("schedules.png") as path:
            plots.save(plots.schedules(sdes), path)
        with self.folder.writing("real.png") as path:
            plots.save_grid(self.data.test[:SHOWN], path)
        self.page.set("views", paragraph(TWO_VIEWS), views_table(sdes), self.page.figure(
            "schedules.png", "alpha, sigma and log-SNR of both processes over time",
            "What both processes keep of the data, what they add in noise, and the ratio of the two. The levels of "
            "noise are the same; the two only pass them at different times and on different scales.", wide=True,
        ))  # fmt: skip
        self.page.set("forward", paragraph(FORWARD), self.page.figure(
            "forward.png", "three digits that dissolve into noise, in both views",
            "Three training digits at ten times from t = 0 (left) to t = 1 (right), with the same noise in every "
            "column and in both views. Each picture is x<sub>t</sub> divided by √(α² + σ²).", wide=True,
        ))  # fmt: skip

    def train(self, view: View) -> None:
        """Trains a view on digits that are dequantised afresh at every step."""
        self.lab.train(view, self.untrained[view], self.data.train, Dequantised(self.data.bin_width))

    def sample(self, view: View) -> None:
        """Runs the solvers from one start; each adds its grid and its line of the table."""
        kept: list[Tensor] = []
        self.cards[view] = []
        for run, x, line in self.lab.sample(view):
            kept.append(x)
            name = f"{view.key}-{run.slug}.png"
            with self.folder.writing(name) as path:
                plots.save_grid(x[:SHOWN], path)
            self.cards[view].append(self.page.figure(
                name, f"digits drawn by {run.name} in the {view.name}",
                f"<b>{run.name}</b>{line.nfe:.0f} NFE, {line.seconds:.1f} s, distance {line.energy_distance:.4f}",
            ))  # fmt: skip
            self._show_grids()
        name = f"{view.key}-same-noise.png"
        with self.folder.writing(name) as path:
            rows = [x[:14] for x in kept]
            names = [run.name for run in self.settings.solvers]
            groups = [i for i, run in enumerate(self.settings.solvers) if i and not run.solver.stochastic][:1]
            plots.save(plots.image_rows(rows, names, [""] * len(rows[0]), groups=groups), path)
        self.page.add("same", view.key, self.page.figure(
            name, f"the same columns of noise taken to digits by every solver, {view.name}",
            f"<b>{view.name}.</b> Every column starts from one noise x<sub>T</sub>. The solvers of the lower block "
            "follow the probability flow, an ordinary differential equation, and arrive at the same digit; those of "
            "the upper block add noise on the way and end where that noise took them.", wide=True,
        ))  # fmt: skip

    def _show_grids(self) -> None:
        shown = [
            self.page.figure(f"{view.key}-{self.settings.solvers[0].slug}.png", f"digits drawn in the {view.name}",
                             f"<b>{view.name}</b>{self.settings.solvers[0].name}, {self.settings.solvers[0].steps} "
                             "steps")
            for view in self.cards
        ]  # fmt: skip
        real = self.page.figure("real.png", "held-out digits", "<b>Real</b>Held-out digits, never trained on")
        self.page.set("samples", cards([real, *shown], "pair"))
        grids = []
        for view, figures in self.cards.items():
            grids += [f"<h3>{view.name}</h3>", cards(figures)]
        self.page.set("grids", paragraph(
            "The digit at a place of one grid starts from the same noise as the digit at that place of every other, "
            "and of the grids of the other view."
        ), *grids)  # fmt: skip

    def film(self, view: View) -> None:
        """The film of a run: in rows, and moving."""
        steps = self.settings.film_steps
        print(f"{view.name}: the film of {FILM} digits", flush=True)
        reel = self.lab.film(view, Run("Ancestral", Ancestral(), steps, NOISY), FILM)
        picked = [reel[round(i * (len(reel) - 1) / 11)] for i in range(12)]
        rows, names = [], []
        for i in range(2):
            rows += [torch.cat([x[i : i + 1] for _, x, _ in picked]), torch.cat([x0[i : i + 1] for _, _, x0 in picked])]
            names += ["where it is", "where it points"]
        with self.folder.writing(f"{view.key}-film.png") as path:
            labels = [f"t = {t:.2f}" if t else "end" for t, _, _ in picked]
            plots.save(plots.image_rows(rows, names, labels, groups=[2]), path)
        with self.folder.writing(f"{view.key}-film.gif") as path:
            plots.save_film([x for _, x, _ in reel[:: max(1, steps // 50)]] + [reel[-1][1]], path, columns=6)
        self.page.add("film", view.key, self.page.figure(
            f"{view.key}-film.png", f"two trajectories in the {view.name}",
            f"<b>{view.name}.</b> Two digits on their way from noise, by ancestral sampling in {steps} steps. The "
            "upper row of each is the state x<sub>t</sub>; the lower is the network's estimate of the digit at the "
            "end, E[x<sub>0</sub> | x<sub>t</sub>]: a blur of all digits at first, then one.", wide=True,
        ) + self.page.figure(f"{view.key}-film.gif", f"{FILM} digits forming, {view.name}"))  # fmt: skip

    def likelihood(self, view: View) -> None:
        """Bits per dimension of the held-out digits, through the probability flow."""
        made, model = self.settings, self.lab.models[view]
        x = self.held_out[: made.held_out].to(self.lab.device)
        print(f"{view.name}: the likelihood of {len(x)} held-out digits", flush=True)
        sde = model.sde
        with travelling(model, "log-likelihood", len(x), sde.t_min, sde.t_max) as shown:
            begin = time.perf_counter()
            result = log_likelihood(shown, x, tol=made.tol, trace=Hutchinson(made.probes), seed=(self.seed, 4))
            seconds = time.perf_counter() - begin
        bits = result.bits_per_dim(self.data.bin_width)
        self.bits[view.name] = {
            "bits_per_dim": float(bits.mean()),
            "two_standard_errors": 2 * float(bits.std()) / math.sqrt(len(bits)),
            "digits": len(x),
            "probes": made.probes,
            "tolerance": made.tol,
            "t_min": sde.t_min,
            "sigma_at_t_min": float(_process(model).sigma(sde.t_min)),
            "bin_width": self.data.bin_width,
            "nfe": float(result.nfe.double().mean()),
            "seconds": round(seconds, 2),
        }
        found = self.bits[view.name]
        print(f"  {found['bits_per_dim']:.3f} ± {found['two_standard_errors']:.3f} bits/dim", flush=True)
        self._show_bits()
        self.page.set("use", code(USE))

    def _show_bits(self) -> None:
        known = {
            "uniform guess over 17 levels": math.log2(self.data.levels),
            "one Gaussian": gaussian_bits(self.real, self.held_out, self.data.bin_width),
            "a histogram a pixel": histogram_bits(self.data),
        }
        self.folder.json("bits_per_dim.json", {"references": known, "views": self.bits})
        marks = [Mark(name, value) for name, value in known.items()]
        for i, (name, found) in enumerate(self.bits.items()):
            marks.append(Mark(name, found["bits_per_dim"], found["two_standard_errors"], style.CYCLE[i]))
            self.page.facts[f"bits a pixel, {name}"] = f"{found['bits_per_dim']:.2f}"
        with self.folder.writing("bits_per_dim.png") as path:
            plots.save(plots.mark_chart(marks, "bits per dimension of held-out digits"), path)
        lines = [
            [name, f"{found['bits_per_dim']:.3f} ± {found['two_standard_errors']:.3f}", f"{found['digits']:.0f}",
             f"{found['nfe']:.0f}", f"{found['t_min']:g}", f"{found['sigma_at_t_min']:.4f}", f"{found['seconds']:.1f}"]
            for name, found in self.bits.items()
        ]  # fmt: skip
        made = self.settings
        self.page.set("bits", paragraph(
            "The probability flow carries a digit to noise and keeps count of how it stretches space, which gives the "
            "model's exact density at that digit. Read as a code length, it says how many bits a pixel of a digit "
            "never seen in training costs to store; log₂ 17 = 4.09 would be no knowledge at all."
        ), self.page.figure("bits_per_dim.png", "bits per dimension of both views beside simple references"), table(
            "Mean over held-out digits ± twice its standard error. Weights: the running average. Digits are "
            "dequantised once, by uniform noise of one level; bin width 2/16 in units where pixels span [−1, 1]. "
            f"Density at t<sub>min</sub>, with the noise σ given there; Dopri5 at tolerance {made.tol:g}; Hutchinson's "
            f"trace with {made.probes} probe{'s' if made.probes > 1 else ''} a digit, whose error is in the ±.",
            ["view", "bits/dim", "digits", "NFE", "t_min", "σ(t_min)", "seconds"], {"": lines},
        ))  # fmt: skip


def gaussian_bits(train: Tensor, test: Tensor, bin_width: float) -> float:
    """Bits per dimension of test data under one Gaussian with the training data's mean and full covariance."""
    x, y = (v.reshape(len(v), -1).double() for v in (train, test))
    normal = torch.distributions.MultivariateNormal(x.mean(0), torch.cov(x.T))
    log_prob: Tensor = normal.log_prob(y)  # type: ignore[no-untyped-call]
    return float(-log_prob.mean()) / (x.shape[1] * math.log(2)) - math.log2(bin_width)


def histogram_bits(data: Digits) -> float:
    """Bits per dimension of the held-out levels under a histogram a pixel, one added to every count."""
    levels = torch.arange(data.levels)
    train, test = (((v.reshape(len(v), -1) + 1) / data.bin_width).round().long() for v in (data.train, data.test))
    counts = (train[:, :, None] == levels).sum(0).double() + 1.0
    log_p = torch.log2(counts / counts.sum(1, keepdim=True))
    return float(-log_p.gather(1, test.T).mean())


def _process(model: Parametrised) -> GaussianSDE:
    assert isinstance(model.sde, GaussianSDE)
    return model.sde


def _shown(sde: GaussianSDE, x0: Tensor, t: float, eps: Tensor) -> Tensor:
    """x_t as the page shows it: divided by sqrt(alpha^2 + sigma^2)."""
    return sde.perturb(x0, t, eps) / math.hypot(float(sde.alpha(t)), float(sde.sigma(t)))
