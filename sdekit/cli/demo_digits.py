"""The digits: both views of one U-Net, eight solvers from one noise, digits by their labels, bits per dimension."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import plots
from ..data import Dequantised, Digits, dequantise, digits
from ..data.base import sklearn_datasets
from ..guidance import ClassifierFree
from ..likelihood import Hutchinson, log_likelihood
from ..losses import ConditionDropout
from ..metrics import energy_distance, noise_floor
from ..models import Epsilon, Parametrised, ScaledScore
from ..networks import UNet
from ..noise import Noise
from ..plots import Mark, style
from ..sampling import sample
from ..sdes import VESDE, VPSDE, GaussianSDE
from ..solvers import Ancestral, DPMSolver
from ..training import Settings, save_model, train
from ..training.generators import seeded
from .folder import Folder
from .recognise import Share, reader, share
from .report import Report, cards, code, paragraph, table
from .study import DDPM, NCSN, NOISY, TWO_VIEWS, Lab, Run, View, runs, views_table
from .watch import counting, travelling

VIEWS = (DDPM, NCSN)

CLASSES = 10


def tuned(steps: int) -> Settings:
    """How a trained model is trained on."""
    return Settings(steps=steps, lr=4e-3, warmup=20, ema=0.98, betas=(0.9, 0.99))


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
    tol: float = 0.03
    """Of the likelihood's integration."""
    labels: Settings = field(default_factory=lambda: tuned(300))
    """Of the training that adds the labels."""
    dropout: float = 0.2
    """Of the labels, in that training."""
    weights: tuple[float, ...] = (1.0, 2.0, 4.0)
    """Of the guidance."""
    weight: float = 2.0
    """Of the guidance of the digits that are shown: one of these."""
    each: int = 50
    """Digits drawn for each label."""
    guided_steps: int = 20


FULL = DigitsSettings(Settings(steps=1100, lr=6e-3, warmup=100, ema=0.99, betas=(0.9, 0.99)))
QUICK = DigitsSettings(
    Settings(steps=150, lr=6e-3, warmup=20, ema=0.98, betas=(0.9, 0.99)),
    width=16, samples=64, solvers=runs(40, 25, 12, 1e-3), film_steps=40, held_out=64,
    labels=tuned(40), each=10, guided_steps=12,
)  # fmt: skip

SHOWN = 64
"""Digits in a solver's grid."""

FILM = 24
"""Digits in the moving film."""

HEADINGS = {
    "samples": "Digits from noise",
    "asked": "Digits that were asked for",
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

USE = """import torch
import sdekit as sk
from sdekit.training import load_model

model = load_model("ddpm.safetensors")
x = sk.sample(model, (64, 1, 8, 8), solver=sk.solvers.DPMSolver(), steps=20, seed=0)
r = sk.log_likelihood(model, x)
r.log_prob, r.bits_per_dim(bin_width=2 / 16)

model = load_model("ddpm-labels.safetensors")
sevens = sk.guidance.ClassifierFree(model, model, 2.0).given(y=torch.full((64,), 7))
x = sk.sample(sevens, (64, 1, 8, 8), steps=20)
"""


def load() -> None:
    """Raises MissingExtra where the data cannot be had."""
    sklearn_datasets("sdekit demo")


def build(view: View, data: Digits, settings: DigitsSettings, seed: int, classes: int = 0) -> Parametrised:
    """The untrained model of a view: the same network, on another process, with another meaning of its output."""
    with seeded(seed):
        network = UNet(1, 8, width=settings.width, multipliers=(1, 2), attention=(1,), classes=classes)
    if view is DDPM:
        return Parametrised(network, VPSDE(t_min=1e-3), Epsilon())
    mean, std = data.train.mean(0), data.train.std(0)
    return Parametrised(network, VESDE(sigma_min=0.01, sigma_max=10.0).with_prior(mean, std), ScaledScore(inp="unit"))


def labelled(model: Parametrised, untrained: Parametrised) -> Parametrised:
    """A model whose network has labels, with the weights of one whose network has none: without one, the same model."""
    (name,) = untrained.load_state_dict(model.state_dict(), strict=False).missing_keys
    with torch.no_grad():
        # the labels' own rows stay as they were drawn: from zero they tell each other apart much more slowly
        untrained.get_parameter(name)[CLASSES] = 0.0
    return untrained


def demo(folder: Folder, settings: DigitsSettings, *, device: torch.device, seed: int) -> None:
    """Runs the demo and writes its page, part by part."""
    study = _Study(folder, settings, device, seed)
    with study.page.running():
        study.forward()
        for view in VIEWS:
            study.train(view)
            study.sample(view)
            study.film(view)
            if view is DDPM:
                study.asked(view)
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

    def asked(self, view: View) -> None:
        """Teaches a view's model the labels, and draws digits by theirs, judged by a classifier."""
        made, data = self.settings, self.data
        print(f"{view.name}: labels, {made.labels.steps} steps more", flush=True)
        loss = ConditionDropout(Dequantised(data.bin_width), made.dropout, {"y": CLASSES})
        model = labelled(self.lab.models[view], build(view, data, made, self.seed, CLASSES).to(self.lab.device))
        model = train(  # type: ignore[assignment]
            model, data.train, made.labels, loss=loss, condition={"y": data.train_labels}, progress=True
        ).ema
        with self.folder.writing(f"{view.key}-labels.safetensors") as path:
            save_model(path, model)
        read, wanted = reader(data), torch.arange(CLASSES).repeat_interleave(made.each)
        real = share(read(data.test) == data.test_labels)
        print(f"{view.name}: {len(wanted)} digits by their labels; real ones are recognised to {real}", flush=True)
        x_T = model.sde.prior.sample((len(wanted), *self.lab.shape[1:]), Noise((self.seed, 5))).to(self.lab.device)
        lines: list[dict[str, Any]] = []
        for w in made.weights:
            guided = ClassifierFree(model, model, w).given(y=wanted.to(self.lab.device))
            with counting(guided, f"guidance, weight {w:g}", made.guided_steps) as shown:
                run = sample(shown, x_T=x_T, solver=DPMSolver(), steps=made.guided_steps, full=True)
            x = run.x.to("cpu")
            right = read(x) == wanted
            found, distance = share(right), float(energy_distance(x, self.held_out))
            print(f"  weight {w:<15g}{run.nfe:6.0f} NFE   recognised {found}", flush=True)
            lines.append({
                "weight": w, "recognised": found._asdict(), "energy_distance": distance, "nfe": run.nfe,
                "by_digit": right.reshape(CLASSES, made.each).sum(1).tolist(),
            })  # fmt: skip
            if w == made.weight:
                self.page.facts["recognised as the digit asked for"] = f"{100 * found.value:.1f} %"
                with self.folder.writing("asked.png") as path:
                    rows = x.reshape(CLASSES, made.each, *x.shape[1:])[:, :CLASSES].unbind()
                    plots.save(plots.image_rows(rows, [str(k) for k in range(CLASSES)], [""] * len(rows[0])), path)
        self.folder.json("asked.json", {
            "classifier": "SVC(gamma=0.001), fitted to the training digits", "held_out": real._asdict(),
            "view": view.name, "training_steps": made.labels.steps, "dropout": made.dropout, "each": made.each,
            "solver": repr(DPMSolver()), "steps": made.guided_steps, "weights": lines,
        })  # fmt: skip
        self._show_asked(view, real, lines)

    def _show_asked(self, view: View, real: Share, lines: list[dict[str, Any]]) -> None:
        made = self.settings
        cells = []
        for line in lines:
            right, of, low, high = line["recognised"].values()
            interval = f"{100 * low:.1f} to {100 * high:.1f} %"
            distance, nfe = f"{line['energy_distance']:.4f}", f"{line['nfe']:.0f}"
            cells.append([f"{line['weight']:g}", f"{100 * right / of:.1f} %", interval, distance, nfe])
        self.page.set("asked", paragraph(
            f"The model of the {view.name}, trained for {made.labels.steps} steps more with the labels of the digits, "
            f"{100 * made.dropout:.0f} % of them hidden: one network that knows digits with a label and without. "
            "Classifier-free guidance takes its two estimates of ε to (1 − w) ε(x) + w ε(x, y). At w = 1 that is the "
            "label's own model; beyond, it goes further from the other digits."
        ), self.page.figure(
            "asked.png", "ten digits of each label from 0 to 9",
            f"Each row was asked for by its label, at weight {made.weight:g}, with {made.guided_steps} steps of "
            f"{DPMSolver()}.",
        ), table(
            f"{CLASSES * made.each} digits a line, {made.each} of each label. Whether a digit is the one asked for, a "
            "support vector machine says, which has seen the real training digits and nothing of the model; of "
            f"{real.of} held-out real digits it recognises {100 * real.value:.1f} %. The interval is Clopper and "
            "Pearson's. The energy distance to held-out digits grows where guidance costs variety. Also as "
            '<a href="asked.json">JSON</a>, digit by digit.',
            ["weight", "recognised", "95 % interval", "energy distance", "NFE"], {"": cells},
        ))  # fmt: skip

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
            trace = Hutchinson(made.probes, fresh=True)
            result = log_likelihood(shown, x, tol=made.tol, trace=trace, seed=(self.seed, 4), budget=False)
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
            f"Density at t<sub>min</sub>, with the noise σ given there; Dopri5, {made.tol:g} nats a step; Hutchinson's "
            f"trace with {made.probes} probe{'s' if made.probes > 1 else ''} a digit, fresh at every evaluation, whose "
            "error is in the ±.",
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
