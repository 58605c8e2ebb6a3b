"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from ..errors import CheckpointError, InvalidType, NonFiniteError, describe, flag, function
from ..losses import DenoisingScoreMatching
from ..models.base import ScoreModel, check_model
from ..noise import Noise, fold
from . import checkpoint, checks
from .averaging import Average
from .batches import Batches
from .generators import seeded
from .interrupts import Interrupts
from .record import differences, mismatches, record
from .settings import Settings

Loss = Callable[..., Tensor]
"""(model, x0, noise, **condition) -> a scalar tensor."""

FETCH = 32
"""Steps between two looks at the losses on a device that is not the host."""


@dataclass
class Trained:
    """A run: what it trained, and how far it came."""

    model: ScoreModel
    """The model that was passed in, with the weights of the last step."""
    ema: ScoreModel
    """A copy with the averaged weights, in evaluation mode: the one to sample from."""
    losses: list[float] = field(default_factory=list, repr=False)
    """The loss of each step; while a run goes on, on a device that is not the host, up to 31 steps behind."""
    steps_done: int = 0
    """Finished steps."""


def train(
    model: ScoreModel,
    data: Tensor,
    settings: Settings,
    *,
    loss: Loss | None = None,
    condition: Mapping[str, Tensor] | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool = False,
    callback: Callable[[Trained], object] | None = None,
) -> Trained:
    """Trains a model in place, and returns it together with the average of its weights.

    ``data``: (n, *event), finite floats, on any device; ``condition``: tensors of n rows each, which reach the network
    as keywords. ``loss``: DenoisingScoreMatching() unless given. One with ``per_sample`` is asked for that and averaged
    here: its own checks would wait for the device at every step.

    ``out``: a directory for checkpoints, every ``settings.checkpoint_every`` steps, at the end, and where Ctrl-C or
    SIGTERM ends the run. It must be empty, or ``resume=True`` (goes on from the newest checkpoint that is whole) or
    ``force=True`` (removes the checkpoints in it). ``progress``: a bar with the loss. ``callback``: is shown the run
    after every step, and never changes it.

    All that is random is a function of (seed, step) or (seed, epoch): a resumed run ends with the same bits as one that
    was never stopped, whatever is saved or shown on the way, and torch's global generators are left as they were. With
    ``decay="constant"`` that holds for a run resumed with more steps, too; the cosine is that of the new number.

    Ctrl-C and SIGTERM end a run after the step under way: a checkpoint is written where there is ``out``, and
    KeyboardInterrupt raised, its argument the signal; a second one ends it at once. The model is left with the weights
    of the last finished step, in the mode it was in, without gradients.

    Raises named errors before the first step. NonFiniteError, naming the step, for a loss or a gradient that is not
    finite: the weights are those of the step before, of which a checkpoint is written where there is ``out``.
    CheckpointNotFound where there is nothing to resume; CheckpointError, listing what differs, where the checkpoint is
    of another run; CheckpointWriteError.

    Example: ``trained = train(model, data, Settings(steps=2000)); x = sample(trained.ema, (64, 2))``.
    """
    check_model("train", model)
    if not isinstance(settings, Settings):
        raise InvalidType(f"train: settings must be Settings(steps=...), got {describe(settings)}")
    for name, value in (("resume", resume), ("force", force), ("progress", progress)):
        flag("train", name, value)
    if loss is not None:
        function("train", "loss", loss, "(model, x0, noise)")
    if callback is not None:
        function("train", "callback", callback, "(trained)")
    data, rows = checks.data_and_condition(data, condition)
    out = checks.directory(out, settings, resume, force)
    run = _Run(model, data, rows, settings, DenoisingScoreMatching() if loss is None else loss, out)
    if out is not None:
        if resume:
            run.restore(checkpoint.load(out))
        elif force:
            checkpoint.clear(out)
    trained = run.trained
    with _training(model), _bar(progress, settings.steps, trained) as show, Interrupts() as interrupts:
        try:
            for step in range(trained.steps_done + 1, settings.steps + 1):
                with interrupts.held():
                    run.step(step)
                show(trained)
                if settings.checkpoint_every is not None and step % settings.checkpoint_every == 0:
                    run.save()
                if callback is not None:
                    callback(trained)
            run.save()
        except (KeyboardInterrupt, NonFiniteError):
            if not interrupts.forced:
                run.save()
            raise
        finally:
            run.optimizer.zero_grad()
    return trained


class _Run:
    """What a step needs, and what a checkpoint holds."""

    def __init__(
        self,
        model: ScoreModel,
        data: Tensor,
        condition: dict[str, Tensor],
        settings: Settings,
        loss: Loss,
        out: Path | None,
    ):
        self.model = model
        self.settings = settings
        self.out = out
        self.names, self.parameters = checks.parameters(model)
        self.device = self.parameters[0].device
        self.optimizer, fused = _adam(self.parameters, settings)
        # only the fused kernel can be told, on the device, to leave the weights alone
        self.fetch_every = FETCH if fused and self.device.type != "cpu" else 1
        self.average = Average(model, settings.average_decay)
        self.batches = Batches(data, condition, settings.batch_size, settings.seed, model.dtype, self.device)
        self.per_sample = getattr(loss, "per_sample", None)
        self.loss = loss
        self.clip = math.inf if settings.clip is None else settings.clip
        self.trained = Trained(model, self.average.model)
        self.pending: list[tuple[Tensor, Tensor]] = []
        self.stopped = torch.zeros((), device=self.device)
        self.saved: int | None = None
        if out is not None:
            checks.savable(model)
            self.record, self.config_tensors = record(model, settings, loss, data, condition)

    def step(self, step: int) -> None:
        """One step of the optimiser, counted from 1."""
        self.optimizer.zero_grad()
        x0, condition = self.batches(step)
        with self._seeded(step):
            value = self._objective(x0, step, condition)
            value.backward()  # type: ignore[no-untyped-call]
        norm = clip_grad_norm_(self.parameters, self.clip)
        self.pending.append((value.detach(), norm))
        if len(self.pending) >= self.fetch_every:
            self.fetch()
        elif self.fetch_every > 1:
            # no word from the device is waited for: from the first bad step on, the kernel itself changes nothing
            self.stopped = torch.maximum(self.stopped, (~torch.isfinite(value.detach() + norm)).float())
            self.optimizer.found_inf = self.stopped  # type: ignore[attr-defined]
        rate = self.settings.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.average.update(step, self.stopped if self.fetch_every > 1 else None)
        self.trained.steps_done = step

    def fetch(self) -> None:
        """Brings the losses of the last steps to the host. Raises NonFiniteError for the first that is not finite."""
        if not self.pending:
            return
        values, norms = (torch.stack(column).tolist() for column in zip(*self.pending, strict=True))
        self.pending.clear()
        for value, norm in zip(values, norms, strict=True):
            step = len(self.trained.losses) + 1
            if not math.isfinite(value) or not math.isfinite(norm):
                what = f"the gradient's norm must be finite, got {norm}"
                if not math.isfinite(value):
                    what = f"the loss must be finite, got {value}"
                self.trained.steps_done = step - 1
                raise NonFiniteError(
                    f"train: {what} at step {step}{self._culprits(step)}; the weights are those of step {step - 1}"
                )
            self.trained.losses.append(value)

    def save(self) -> None:
        """Fetches the losses, and writes a checkpoint of the last step where there is a directory that lacks it."""
        self.fetch()
        if self.out is None or self.saved == self.trained.steps_done:
            return
        state = self.optimizer.state_dict()["state"]
        tensors = {
            "model": self.model.state_dict(),
            "ema": self.average.model.state_dict(),
            "optimizer": {f"{self.names[i]}.{k}": v for i, entry in state.items() for k, v in entry.items()},
            "history": {"losses": torch.tensor(self.trained.losses, dtype=torch.float64)},
        }
        if self.config_tensors:
            tensors["config"] = self.config_tensors
        checkpoint.save(self.out, tensors, {"step": self.trained.steps_done, **self.record})
        self.saved = self.trained.steps_done

    def restore(self, saved: checkpoint.Checkpoint) -> None:
        """Takes up the run of a checkpoint. Raises CheckpointError, listing what differs, for one of another run."""
        step = saved.record["step"]
        differs = differences(saved.record, self.record)
        for group, module in (("model", self.model), ("ema", self.average.model)):
            differs += mismatches(group, saved.tensors[group], module.state_dict())
        entries: dict[int, dict[str, Tensor]] = {}
        for key, value in saved.tensors["optimizer"].items():
            name, _, entry = key.rpartition(".")
            if name in self.names:
                entries.setdefault(self.names.index(name), {})[entry] = value
            else:
                differs.append(f"optimizer: {name} is no parameter of the model")
        if differs:
            raise CheckpointError(f"train: {saved.path} must be of the same run, got one where {'; '.join(differs)}")
        self.model.load_state_dict(saved.tensors["model"])
        self.average.model.load_state_dict(saved.tensors["ema"])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": entries})
        self.trained.losses.extend(saved.tensors["history"]["losses"].tolist())
        self.trained.steps_done = self.saved = step

    def _objective(self, x0: Tensor, step: int, condition: dict[str, Tensor]) -> Tensor:
        noise = Noise((self.settings.seed, step))
        if self.per_sample is not None:
            value = self.per_sample(self.model, x0, noise, **condition).mean()
        else:
            try:
                value = self.loss(self.model, x0, noise, **condition)
            except NonFiniteError as error:
                raise NonFiniteError(
                    f"train: step {step}: {error}; the weights are those of step {step - 1}"
                ) from error
        if not isinstance(value, Tensor) or value.ndim or not value.requires_grad:
            raise InvalidType(f"train: loss must return a scalar tensor with a gradient, got {describe(value)}")
        return value

    def _seeded(self, step: int) -> Any:
        return seeded(fold((self.settings.seed, step, 1)), self.device)

    def _culprits(self, step: int) -> str:
        """The rows of the data whose loss is not finite, for a message, where the loss can be asked for them."""
        if self.per_sample is None:
            return ""
        x0, condition = self.batches(step)
        with torch.no_grad(), self._seeded(step):
            values = self.per_sample(self.model, x0, Noise((self.settings.seed, step)), **condition)
        rows = self.batches.rows(step).cpu()[~torch.isfinite(values).cpu()].tolist()
        return f", in {len(rows)} rows of the batch (rows {rows[:8]} of data)" if rows else ""


def _adam(parameters: list[nn.Parameter], settings: Settings) -> tuple[torch.optim.Adam, bool]:
    """Adam, and whether it is fused into one kernel: it is where the device has one."""
    try:
        return torch.optim.Adam(parameters, lr=settings.lr, betas=settings.betas, fused=True), True
    except RuntimeError:
        return torch.optim.Adam(parameters, lr=settings.lr, betas=settings.betas), False


@contextmanager
def _training(model: nn.Module) -> Iterator[None]:
    """The model in training mode; on leaving, also by an exception, every module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.train()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _bar(progress: bool, steps: int, trained: Trained) -> Iterator[Callable[[Trained], None]]:
    """A function that shows a finished step, on a bar where one is wanted."""
    if not progress:
        yield lambda trained: None
        return
    from tqdm import tqdm

    with tqdm(total=steps, initial=trained.steps_done, desc="train", unit="step") as bar:

        def show(trained: Trained) -> None:
            if trained.losses:
                bar.set_postfix_str(f"loss {trained.losses[-1]:.4g}", refresh=False)
            bar.update()

        yield show
