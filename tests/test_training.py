"""Training: averages and resumed runs to the last bit, checkpoints under faults, and models in files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import sdekit as sk
from sdekit import errors
from sdekit.losses import DenoisingScoreMatching
from sdekit.training import Settings, Trained, checkpoint, load_model, save_model, train, trainer
from sdekit.training.batches import Batches
from sdekit.training.config import from_config, to_config
from sdekit.training.generators import seeded
from sdekit.training.trainer import _Run


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """These networks are so small that threads wait for one another longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def mlp(seed: int = 0, **settings) -> nn.Module:
    """A small network with weights of its own: the head does not start at zero."""
    with seeded(seed):
        network = sk.networks.MLP(**{"event_shape": [2], "width": 8, "depth": 1, "embedding": 8, **settings})
        nn.init.normal_(network.head.weight, std=0.3)
    return network


def small(seed: int = 0, dtype: torch.dtype = torch.float32) -> sk.models.Parametrised:
    return sk.ddpm(mlp(seed)).to(dtype)


def points(n: int = 50, dtype: torch.dtype = torch.float32) -> Tensor:
    return sk.Noise(5).normal((n, 2), stream="data", dtype=dtype)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def hashes(path: Path) -> dict[str, str]:
    """SHA-256 of the tensor files of a checkpoint."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(path.glob("*.safetensors"))}


def stop_after(step: int):
    """A callback that presses Ctrl-C after a step."""

    def callback(trained: Trained) -> None:
        if trained.steps_done == step:
            raise KeyboardInterrupt

    return callback


def interrupted_and_resumed(build, data: Tensor, settings: Settings, out: Path, stops: list[int], **options) -> Trained:
    """A run stopped after each of the steps and taken up by a model of other initial weights."""
    for i, stop in enumerate(stops):
        with pytest.raises(KeyboardInterrupt):
            train(
                build(10 + i if i else 0), data, settings, out=out, resume=i > 0, callback=stop_after(stop), **options
            )
    return train(build(99), data, settings, out=out, resume=True, **options)


# the average


@pytest.mark.parametrize("stops", [[], [7], [1, 12]])
def test_average_is_its_closed_form_sum(tmp_path, stops):
    settings = Settings(steps=20, batch_size=16, ema=0.6, lr=1e-2)
    build = lambda seed: small(seed, torch.float64)  # noqa: E731
    path = [weights(build(0))]
    record = lambda trained: path.append(weights(trained.model))  # noqa: E731
    train(build(0), points(dtype=torch.float64), settings, callback=record)
    trained = interrupted_and_resumed(build, points(dtype=torch.float64), settings, tmp_path / "run", stops or [3])
    d = [None] + [min(0.6, (1 + n) / (10 + n)) for n in range(1, 21)]
    for name, value in trained.ema.state_dict().items():
        closed = torch.zeros_like(value)
        for i, w in enumerate(path):
            share = 1.0 if i == 0 else 1 - d[i]
            for n in range(i + 1, 21):
                share *= d[n]
            closed += share * w[name]
        assert (value - closed).abs().max() <= 1e-12
    assert not same(weights(trained.ema), weights(trained.model))


def test_average_is_a_copy_in_evaluation_mode_and_the_model_keeps_its_own():
    model = small()
    model.network.condition.eval()
    modes = [module.training for module in model.modules()]
    trained = train(model, points(), Settings(steps=3, batch_size=8))
    assert trained.model is model
    assert [module.training for module in model.modules()] == modes
    assert not any(module.training for module in trained.ema.modules())
    assert not any(p.requires_grad for p in trained.ema.parameters())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    shared = {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in trained.ema.parameters()}
    assert not shared


class Stateful(nn.Linear):
    """A layer with a state that is no tensor."""

    def get_extra_state(self) -> dict:
        return {"calls": 0}


class Normed(nn.Module):
    """A network with buffers, and with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear, self.dropout = nn.BatchNorm1d(2), nn.Linear(2, 2), nn.Dropout(0.3)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.dropout(self.linear(self.norm(x)))


def normed(seed: int) -> sk.models.Parametrised:
    with seeded(seed):
        return sk.ddpm(Normed())


def test_buffers_of_the_average_are_those_of_the_model():
    trained = train(normed(0), points(), Settings(steps=5, batch_size=8))
    assert int(trained.ema.network.norm.num_batches_tracked) == 5
    assert torch.equal(trained.ema.network.norm.running_var, trained.model.network.norm.running_var)
    assert not torch.equal(trained.ema.network.linear.weight, trained.model.network.linear.weight)


# one run, however it is cut


@pytest.mark.parametrize("stops", [[1], [9], [4, 5, 11]])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, stops):
    # 50 rows in batches of 16: every stop but none falls within an epoch; dropout and buffers take part
    settings = Settings(steps=14, batch_size=16, seed=3, warmup=4, checkpoint_every=6)
    whole = train(normed(0), points(), settings, out=tmp_path / "whole")
    cut = interrupted_and_resumed(normed, points(), settings, tmp_path / "cut", stops)
    final = hashes(tmp_path / "whole" / "step-00000014")
    assert sorted(final) == ["ema.safetensors", "history.safetensors", "model.safetensors", "optimizer.safetensors"]
    assert hashes(tmp_path / "cut" / "step-00000014") == final
    assert cut.losses == whole.losses
    assert len(cut.losses) == cut.steps_done == 14
    assert same(weights(cut.ema), weights(whole.ema))


def test_a_resumed_run_with_conditions_ends_with_the_same_bits(tmp_path):
    build = lambda seed: sk.edm(mlp(seed, classes=3))  # noqa: E731
    settings, y = Settings(steps=9, batch_size=7), {"y": torch.arange(50) % 3}
    train(build(0), points(), settings, condition=y, out=tmp_path / "whole")
    interrupted_and_resumed(build, points(), settings, tmp_path / "cut", [5], condition=y)
    assert hashes(tmp_path / "cut" / "step-00000009") == hashes(tmp_path / "whole" / "step-00000009")


def test_a_run_may_be_resumed_with_more_steps(tmp_path):
    short, long = (Settings(steps=n, batch_size=16, decay="constant") for n in (6, 11))
    train(small(), points(), long, out=tmp_path / "long")
    train(small(), points(), short, out=tmp_path / "short")
    train(small(8), points(), long, out=tmp_path / "short", resume=True)
    assert hashes(tmp_path / "short" / "step-00000011") == hashes(tmp_path / "long" / "step-00000011")
    again = train(small(8), points(), long, out=tmp_path / "short", resume=True)  # nothing left to do
    assert again.steps_done == 11


def test_weights_do_not_depend_on_what_is_saved_or_shown(tmp_path, capsys):
    settings = Settings(steps=12, batch_size=16)
    expected = weights(train(normed(0), points(), settings).ema)

    def preview(trained: Trained) -> None:
        torch.default_generator.manual_seed(trained.steps_done)
        sk.sample(trained.ema, (4, 2), steps=2, seed=1)
        sk.sample(trained.model, (4, 2), steps=2, seed=1)

    for i, (every, progress, callback) in enumerate([(3, False, None), (5, True, None), (None, True, preview)]):
        again = Settings(steps=12, batch_size=16, checkpoint_every=every)
        model, out = normed(0), tmp_path / str(i)
        with seeded(0):  # the callback moves torch's own generator, and is free to
            trained = train(model, points(), again, out=out, progress=progress, callback=callback)
        assert same(weights(trained.ema), expected)
    assert "12/12" in capsys.readouterr().err


def test_torch_s_own_generator_is_left_alone(tmp_path):
    before = torch.get_rng_state()
    trained = train(normed(0), points(), Settings(steps=3, batch_size=8), out=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        train(normed(0), points(), Settings(steps=3, batch_size=8), callback=stop_after(2))
    save_model(tmp_path / "model.safetensors", small())
    load_model(tmp_path / "model.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
    assert trained.steps_done == 3


def test_every_epoch_is_a_permutation_and_no_two_are_alike():
    n, size = 10, 4
    batches = Batches(torch.arange(n).float()[:, None], {}, size, 7, torch.float32, torch.device("cpu"))
    drawn = torch.cat([batches.rows(step) for step in range(1, 11)]).reshape(4, n)
    assert all(row.sort().values.tolist() == list(range(n)) for row in drawn)
    assert len({tuple(row.tolist()) for row in drawn}) == 4
    again = Batches(torch.arange(n).float()[:, None], {}, size, 7, torch.float32, torch.device("cpu"))
    assert torch.equal(again.rows(6), batches.rows(6))  # whatever was asked before
    few = Batches(torch.zeros(3, 1), {"y": torch.arange(3)}, 8, 7, torch.float32, torch.device("cpu"))
    assert torch.bincount(few(3)[1]["y"]).tolist() in ([3, 3, 2], [3, 2, 3], [2, 3, 3])


def test_rates_follow_the_warm_up_and_the_cosine():
    settings = Settings(steps=10, warmup=4, lr=2.0)
    assert [settings.rate(n) for n in (1, 2, 4, 5)] == [0.5, 1.0, 2.0, 2.0]
    assert settings.rate(8) == pytest.approx(1.0, abs=1e-15)
    assert Settings(steps=10, decay="constant", lr=2.0).rate(10) == 2.0


def test_the_gradient_is_clipped_by_its_whole_norm():
    runs = {}
    for clip in (None, 1e9, 1e-3):
        run = _Run(small(), points(), {}, Settings(steps=2, batch_size=16, clip=clip), DenoisingScoreMatching(), None)
        run.step(1)
        runs[clip] = run, sum(p.grad.square().sum() for p in run.parameters).sqrt()
    assert same(weights(runs[None][0].model), weights(runs[1e9][0].model))
    assert runs[None][1] > 0.1
    assert runs[1e-3][1] == pytest.approx(1e-3, rel=1e-3)


# checkpoints under faults


def write_checkpoints(directory: Path, *steps: int) -> None:
    for step in steps:
        tensors = {"model": {"w": torch.full((40,), float(step))}, "ema": {"w": torch.full((40,), -float(step))}}
        checkpoint.save(directory, tensors, {"step": step, "note": "é"})


def check_whole(found: checkpoint.Checkpoint) -> int:
    step = found.record["step"]
    assert bool((found.tensors["model"]["w"] == step).all() and (found.tensors["ema"]["w"] == -step).all())
    return step


def test_two_checkpoints_are_kept_and_the_newest_is_loaded(tmp_path):
    write_checkpoints(tmp_path, 1, 2, 300)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000300"]
    assert check_whole(checkpoint.load(tmp_path)) == 300
    assert check_whole(checkpoint.load(tmp_path / "step-00000002")) == 2
    write_checkpoints(tmp_path, 300)  # the same step again
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000300"]


class PowerCut(BaseException):
    """What a test raises where the process would have died."""


@pytest.mark.parametrize("again", [False, True])
def test_a_crash_at_any_operation_leaves_a_whole_checkpoint(tmp_path, monkeypatch, again):
    """After the crash nothing runs any more, cleaning up neither. At every point the newest is the old or the new."""
    new = 2 if again else 3
    crashes, operations = 0, 1
    while crashes < operations:
        directory = tmp_path / f"{crashes}"
        write_checkpoints(directory, 1, 2)
        count = 0

        def dies(function, at=crashes):
            def call(*args, **kwargs):
                nonlocal count
                count += 1
                if count > at:
                    raise PowerCut
                return function(*args, **kwargs)

            return call

        with monkeypatch.context() as patched:
            for owner, name in [(os, "replace"), (os, "fsync"), (shutil, "rmtree"), (Path, "mkdir")]:
                patched.setattr(owner, name, dies(getattr(owner, name)))
            try:
                write_checkpoints(directory, new)
                done = True
            except PowerCut:
                done = False
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what is left is no damaged checkpoint either
            assert check_whole(checkpoint.load(directory)) in ({new} if done else {2, new})
        write_checkpoints(directory, 4)  # and the next one clears up
        assert not list(directory.glob(".step-*"))
        assert not list(directory.glob("*.old"))
        crashes += 1
        operations = crashes if done else crashes + 1
    assert crashes > 8


def test_files_reach_the_disk_before_their_names_do(tmp_path, monkeypatch):
    log = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (log.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (log.append(("rename", Path(b).name)), replace(a, b))[1])
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    write_checkpoints(tmp_path, 7)
    at = log.index(("rename", "step-00000007"))
    before, after = [Path(p).name for p in log[:at]], log[at + 1 :]
    temporary = ".step-00000007.tmp"
    assert before == ["model.safetensors", "ema.safetensors", "checkpoint.json", temporary]
    assert after == [str(tmp_path)]


KILLED = """
import os, signal, sys, time, warnings
import torch
from pathlib import Path
from sdekit.training import checkpoint
warnings.simplefilter("error")
root, failures, landed = Path(sys.argv[1]), 0, 0
delays = torch.rand(60, generator=torch.Generator().manual_seed(1)).tolist()
for i, delay in enumerate(delays):
    directory = root / str(i)
    tensors = lambda step: {g: {"w": torch.full((20000,), float(step))} for g in ("model", "ema")}
    checkpoint.save(directory, tensors(1), {"step": 1})
    child = os.fork()
    if not child:
        for step in range(2, 10**6):
            checkpoint.save(directory, tensors(step), {"step": step})
    time.sleep(0.002 + 0.03 * delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    landed += bool(list(directory.glob(".step-*")))
    found = checkpoint.load(directory)
    step = found.record["step"]
    failures += not all(bool((g["w"] == step).all()) for g in found.tensors.values())
print(failures, landed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_9_while_saving_never_leaves_neither(tmp_path):
    source = textwrap.dedent(KILLED)
    run = subprocess.run(
        [sys.executable, "-c", source, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(sk.__file__).parents[1])},
    )
    assert run.returncode == 0, run.stderr
    failures, landed = map(int, run.stdout.split())
    assert failures == 0
    assert landed > 0  # some kills fell within a save


def test_every_flipped_bit_and_every_truncation_is_detected(tmp_path):
    write_checkpoints(tmp_path, 1, 2)
    newest = tmp_path / "step-00000002"
    draws = torch.Generator().manual_seed(0)
    harmless = 0
    for file in sorted(newest.iterdir()):
        good = file.read_bytes()
        bits = torch.randperm(8 * len(good), generator=draws)[:150].tolist()
        faults = [good[: bit // 8] for bit in bits[:25]]
        for bit in bits:
            bad = bytearray(good)
            bad[bit // 8] ^= 1 << bit % 8
            faults.append(bytes(bad))
        for bad in faults:
            file.write_bytes(bad)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found = check_whole(checkpoint.load(tmp_path))
            if found == 2:  # a space of the manifest became another: it says the same
                assert file.name == "checkpoint.json"
                assert json.loads(bad) == json.loads(good)
                harmless += 1
                continue
            assert found == 1
            (warning,) = caught
            assert "step-00000002" in str(warning.message)
            assert "step-00000001" in str(warning.message)
        file.unlink()
        with pytest.warns(UserWarning, match="going back"):
            assert check_whole(checkpoint.load(tmp_path)) == 1
        file.write_bytes(good)
    assert harmless < 20
    for path in tmp_path.glob("step-*/model.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(errors.CheckpointCorrupt, match="must have"):
        checkpoint.load(tmp_path)


def test_nothing_to_load_and_formats_to_come(tmp_path, monkeypatch):
    with pytest.raises(errors.CheckpointNotFound):
        checkpoint.load(tmp_path / "absent")
    with pytest.raises(errors.CheckpointNotFound):
        checkpoint.load(tmp_path)
    write_checkpoints(tmp_path, 1)
    with monkeypatch.context() as later:
        later.setattr(checkpoint, "FORMAT", 2)
        write_checkpoints(tmp_path, 2)
        save_model(tmp_path / "model.safetensors", small())
    with pytest.raises(errors.CheckpointTooNew, match="format 2"):
        checkpoint.load(tmp_path)
    with pytest.raises(errors.CheckpointTooNew, match="format 2"):
        load_model(tmp_path / "model.safetensors")
    with pytest.raises(errors.InvalidType, match="record"):
        checkpoint.save(tmp_path, {}, {"step": 3, "what": object()})


@pytest.mark.parametrize("where", ["write", "space", "rename"])
def test_a_full_disk_keeps_what_is_there(tmp_path, monkeypatch, where):
    write_checkpoints(tmp_path, 1, 2)
    save_model(tmp_path / "model.safetensors", small(0))
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fails(*_):
        raise full

    with monkeypatch.context() as disk:
        if where == "space":
            usage = shutil.disk_usage(tmp_path)._replace(free=100)
            disk.setattr(shutil, "disk_usage", lambda _: usage)
        else:
            disk.setattr(os, {"write": "fsync", "rename": "replace"}[where], fails)
        with pytest.raises(errors.CheckpointWriteError, match="needs 0.0 MB" if where == "space" else "No space"):
            write_checkpoints(tmp_path, 3)
        with pytest.raises(errors.CheckpointWriteError):
            save_model(tmp_path / "model.safetensors", small(1))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors", "step-00000001", "step-00000002"]
    assert check_whole(checkpoint.load(tmp_path)) == 2
    assert same(weights(load_model(tmp_path / "model.safetensors")), weights(small(0)))


def test_a_damaged_newest_checkpoint_costs_only_the_steps_since(tmp_path):
    settings = Settings(steps=10, batch_size=8, checkpoint_every=4)
    train(small(), points(), settings, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(small(), points(), settings, out=tmp_path / "run", callback=stop_after(9))
    file = tmp_path / "run" / "step-00000009" / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"step-00000009.*going back to .*step-00000008"):
        train(small(4), points(), settings, out=tmp_path / "run", resume=True)
    assert hashes(tmp_path / "run" / "step-00000010") == hashes(tmp_path / "whole" / "step-00000010")


# how a run ends


class Breaks:
    """A loss that is not finite at one call."""

    def __init__(self, at: int, value: float, named: bool = False):
        self.calls, self.at, self.value, self.named = 0, at, value, named

    def __call__(self, model, x0, noise):
        self.calls += 1
        loss = DenoisingScoreMatching()(model, x0, noise)
        if self.calls != self.at:
            return loss
        if self.named:
            raise errors.NonFiniteError("mine")
        # value 0: a finite loss whose gradient is not
        return (loss * 0.0).sqrt() if self.value == 0 else loss * self.value

    def __repr__(self) -> str:
        return "Breaks"


@pytest.mark.parametrize(("value", "named"), [(float("nan"), False), (float("inf"), False), (0.0, False), (1.0, True)])
def test_what_is_not_finite_stops_the_run_before_the_weights_change(tmp_path, value, named):
    settings = Settings(steps=9, batch_size=8, checkpoint_every=2)
    seen = []
    model = small()
    with pytest.raises(errors.NonFiniteError, match="step 5"):
        train(
            model,
            points(),
            settings,
            loss=Breaks(5, value, named),
            out=tmp_path / "run",
            callback=lambda trained: seen.append(weights(trained.model)),
        )
    assert len(seen) == 4
    assert same(weights(model), seen[-1])
    assert all(p.grad is None for p in model.parameters())
    kept = checkpoint.load(tmp_path / "run")
    assert kept.record["step"] == 4
    assert same(kept.tensors["model"], weights(model))
    # and the run can be taken up from there
    assert train(small(3), points(), settings, loss=Breaks(99, 1.0), out=tmp_path / "run", resume=True).steps_done == 9


class NaNAt(nn.Module):
    """A network that answers NaN for the row 13 of the data."""

    def __init__(self, marked: Tensor):
        super().__init__()
        self.linear, self.marked = nn.Linear(2, 2), marked

    def forward(self, x: Tensor, label: Tensor, y: Tensor) -> Tensor:
        return torch.where((y == 13)[:, None], torch.nan, self.linear(x))


def test_the_rows_that_are_not_finite_are_named():
    with seeded(0):
        model = sk.ddpm(NaNAt(torch.tensor(13)))
    condition = {"y": torch.arange(50)}
    step = next(
        s
        for s in range(1, 5)
        if 13 in Batches(points(), {}, 16, 0, torch.float32, torch.device("cpu")).rows(s).tolist()
    )
    with pytest.raises(errors.NonFiniteError, match=rf"got nan at step {step}, in 1 rows of the batch \(rows \[13\]"):
        train(model, points(), Settings(steps=9, batch_size=16), condition=condition)


def test_a_device_that_is_not_asked_stops_by_itself():
    """With losses fetched every 4 steps the kernel is told to leave the weights alone from the bad step on."""
    seen = []
    run = _Run(small(), points(), {}, Settings(steps=9, batch_size=8), Breaks(2, float("nan")), None)
    run.fetch_every = 4
    sound = _Run(small(), points(), {}, Settings(steps=9, batch_size=8), Breaks(99, 1.0), None)
    for step in range(1, 4):
        run.step(step)
        seen.append(weights(run.model))
    sound.step(1)
    assert same(seen[0], weights(sound.model))
    assert same(seen[0], seen[2])
    with pytest.raises(errors.NonFiniteError, match="step 2"):
        run.step(4)
    assert same(weights(run.model), seen[0])
    for name, value in weights(run.average.model).items():
        torch.testing.assert_close(value, weights(sound.average.model)[name], rtol=1e-6, atol=1e-8)
    assert run.trained.steps_done == 1
    run = _Run(small(), points(), {}, Settings(steps=9, batch_size=8), DenoisingScoreMatching(), None)
    run.fetch_every = 4
    for step in range(1, 10):
        run.step(step)
    run.fetch()
    expected = train(small(), points(), Settings(steps=9, batch_size=8))
    assert run.trained.losses == expected.losses
    for name, value in weights(run.average.model).items():
        torch.testing.assert_close(value, weights(expected.ema)[name], rtol=1e-5, atol=1e-7)


def deferred(monkeypatch):
    """Runs that fetch their losses every 32 steps, as on a device that is not the host."""

    class Deferred(_Run):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.fetch_every = 32

    monkeypatch.setattr(trainer, "_Run", Deferred)


def test_a_device_is_asked_at_the_end(monkeypatch):
    """Also without a directory: every loss is there, and a bad one among the last is not passed over."""
    deferred(monkeypatch)
    trained = train(small(), points(), Settings(steps=40, batch_size=8))
    assert len(trained.losses) == trained.steps_done == 40
    model = small()
    with pytest.raises(errors.NonFiniteError, match="at step 35"):
        train(model, points(), Settings(steps=40, batch_size=8), loss=Breaks(35, float("nan")))


@pytest.mark.parametrize("late", [False, True])
def test_a_loss_that_is_not_finite_leaves_a_checkpoint_of_the_step_before(tmp_path, monkeypatch, late):
    if late:
        deferred(monkeypatch)
    model = small()
    with pytest.raises(errors.NonFiniteError, match="step 5"):
        train(model, points(), Settings(steps=9, batch_size=8), loss=Breaks(5, float("nan")), out=tmp_path / "run")
    kept = checkpoint.load(tmp_path / "run")
    assert kept.record["step"] == len(kept.tensors["history"]["losses"]) == 4
    assert same(kept.tensors["model"], weights(model))


def test_a_damaged_checkpoint_takes_no_place_of_a_whole_one(tmp_path):
    """Two whole ones are kept, where a run has gone back behind a damaged one."""
    for step in (100, 200):
        checkpoint.save(tmp_path, {"model": {"w": torch.zeros(2)}}, {"step": step})
    (tmp_path / "step-00000200" / "model.safetensors").write_bytes(b"")
    for step in (120, 140):
        checkpoint.save(tmp_path, {"model": {"w": torch.zeros(2)}}, {"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000120", "step-00000140"]


def test_ctrl_c_keeps_the_last_finished_step(tmp_path):
    model = small()
    with pytest.raises(KeyboardInterrupt):
        train(model, points(), Settings(steps=9, batch_size=8), out=tmp_path / "run", callback=stop_after(3))
    kept = checkpoint.load(tmp_path / "run")
    assert kept.record["step"] == 3
    assert same(kept.tensors["model"], weights(model))
    assert len(kept.tensors["history"]["losses"]) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_within_a_step_waits_for_its_end(tmp_path, number):
    class Signals(Breaks):
        def __call__(self, model, x0, noise):
            if self.calls + 1 == self.at:
                signal.raise_signal(number)
            return super().__call__(model, x0, noise)

    before = signal.getsignal(number)
    model = small()
    with pytest.raises(KeyboardInterrupt) as stopped:
        train(model, points(), Settings(steps=9, batch_size=8), loss=Signals(4, 1.0), out=tmp_path / "run")
    assert stopped.value.args == (number,)
    assert signal.getsignal(number) is before
    kept = checkpoint.load(tmp_path / "run")
    assert kept.record["step"] == 4
    assert same(kept.tensors["model"], weights(model))


def test_a_second_signal_ends_the_run_at_once(tmp_path):
    class Hangs(Breaks):
        def __call__(self, model, x0, noise):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("not reached")

    with pytest.raises(KeyboardInterrupt):
        train(small(), points(), Settings(steps=9, batch_size=8), loss=Hangs(1, 1.0), out=tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


# what is refused at the door


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 1.5}, "steps must be a whole number"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"lr": 0.0}, "lr must be finite and > 0"),
        ({"lr": float("nan")}, "lr must be finite"),
        ({"lr": "0.1"}, "lr must be a number"),
        ({"warmup": -1}, "warmup must be at least 0"),
        ({"warmup": 10}, "warmup must be below steps"),
        ({"decay": "linear"}, "decay must be one of cosine, constant"),
        ({"ema": 1.0}, "ema must be finite and >= 0 and < 1"),
        ({"clip": 0.0}, "clip must be finite and > 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1"),
        ({"betas": (0.9, 1.0)}, r"betas\[1\] must be"),
        ({"betas": 0.9}, "betas must be two numbers"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(errors.SDEKitError, match=f"Settings: {message}"):
        Settings(**{"steps": 10, **settings})


def test_bad_arguments_are_named(tmp_path):
    settings = Settings(steps=2, batch_size=4)
    model = small()
    before = weights(model)
    bad = points()
    bad[7, 1] = torch.nan
    exact = sk.models.GaussianMixture(sk.VPSDE(), [1.0], [[0.0, 0.0]], 1.0)
    with seeded(0):
        stateful = sk.ddpm(Stateful(2, 2))
    for arguments, options, message in [
        ((mlp(), points(), settings), {}, "model must be a ScoreModel"),
        ((stateful, points(), settings), {"out": tmp_path / "run"}, "model must have a state of tensors"),
        ((exact, points(), settings), {}, "model must have parameters"),
        ((small(dtype=torch.bfloat16), points(), settings), {}, "model must hold weights in float32"),
        ((model, bad, settings), {}, r"data must be finite.*rows 7"),
        ((model, points().to(torch.uint8), settings), {}, "data must be of a floating-point dtype"),
        ((model, points()[:0], settings), {}, "data must hold at least one row"),
        ((model, points(), {"steps": 3}), {}, "settings must be Settings"),
        ((model, points(), settings), {"condition": {"y": torch.arange(3)}}, r"condition\['y'\] must hold"),
        ((model, points(), settings), {"loss": lambda *_: 1.0}, "loss must return a scalar tensor"),
        ((model, points(), settings), {"resume": True}, "resume needs out"),
        ((model, points(), Settings(steps=2, checkpoint_every=1)), {}, "checkpoint_every needs out"),
        (
            (model, points(), settings),
            {"out": tmp_path, "resume": True, "force": True},
            "resume and force must not both be True",
        ),
        ((model, points(), settings), {"out": __file__}, "out must be a directory"),
        ((model, points(), settings), {"out": Path(__file__).parent}, "out must be empty"),
    ]:
        with pytest.raises(errors.SDEKitError, match=f"train: {message}"):
            train(*arguments, **options)
    assert same(weights(model), before)


def test_output_directories(tmp_path, monkeypatch):
    settings = Settings(steps=2, batch_size=4)
    with pytest.raises(errors.CheckpointNotFound):
        train(small(), points(), settings, out=tmp_path / "absent", resume=True)
    assert not (tmp_path / "absent").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.CheckpointNotFound):
        train(small(), points(), settings, out=tmp_path / "empty", resume=True)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "touch", lambda _: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        with pytest.raises(errors.CheckpointWriteError, match="one can write to"):
            train(small(), points(), settings, out=tmp_path / "locked")
    train(small(), points(), Settings(steps=5, batch_size=4), out=tmp_path / "run")
    with pytest.raises(errors.InvalidArgument, match="resume=True goes on, force=True starts anew"):
        train(small(), points(), settings, out=tmp_path / "run")
    assert checkpoint.load(tmp_path / "run").record["step"] == 5
    (tmp_path / "run" / "notes.txt").write_text("mine")
    train(small(), points(), settings, out=tmp_path / "run", force=True)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["notes.txt", "step-00000002"]


def test_another_run_is_not_resumed(tmp_path):
    settings = Settings(steps=3, batch_size=4)
    out = tmp_path / "run"
    train(small(), points(), settings, out=out)
    model = small(5)
    before = weights(model)
    for arguments, options, messages in [
        (
            (model, points(), Settings(steps=4, batch_size=4, lr=0.5, ema=0.9)),
            {},
            ["settings.ema", "settings.lr was 0.001"],
        ),
        ((model, points(), Settings(steps=2, batch_size=4)), {}, ["settings.steps was 3 and may only grow"]),
        ((model, points(51), settings), {}, ["data.data"]),
        ((model, points() + 1, settings), {}, ["data.data"]),
        ((model, points(), settings), {"loss": DenoisingScoreMatching("likelihood")}, ["loss was"]),
        (
            (sk.ddpm(mlp(width=9)), points(), settings),
            {},
            ["network.args.width was 8, not 9", "ema: network.stem"],
        ),
        ((sk.ncsn(mlp()), points(), settings), {}, ["model.sde.class was 'VPSDE', not 'VESDE'"]),
        ((small(dtype=torch.float64), points(), settings), {}, ["float32.*not.*float64"]),
    ]:
        for message in messages:
            with pytest.raises(errors.CheckpointError, match=message):
                train(*arguments, out=out, resume=True, **options)
    assert same(weights(model), before)


# it learns


def test_training_finds_the_exact_score_of_a_gaussian():
    m, v, n = 0.7, 0.5, 4096
    quantiles = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    data = (m + v * quantiles).float()[:, None]
    with seeded(0):
        model = sk.ddpm(sk.networks.MLP([1], width=48, depth=2, embedding=16))
    trained = train(model, data, Settings(steps=900, batch_size=512, lr=4e-3, ema=0.99))
    exact = sk.models.GaussianMixture(model.sde, [1.0], [[m]], v * v)
    t = torch.linspace(1e-4, 1.0, 2000, dtype=torch.float64)
    alpha, sigma = model.sde.alpha(t), model.sde.sigma(t)
    floor = (alpha**2 * v**2 / (alpha**2 * v**2 + sigma**2)).mean()
    noise = sk.Noise(1)
    x0 = (m + v * noise.normal((2000, 1), stream="test", dtype=torch.float64)).float()
    x = model.sde.perturb(x0, t, noise.normal((2000, 1), stream="eps"))
    with torch.no_grad():
        excess = (trained.ema(x, t).eps - exact(x, t).eps).square().mean()
    assert excess < 0.01 * floor
    # the loss itself is the floor and the excess: E |eps_model - eps|^2 = E var(eps | x) + E |eps_model - eps*|^2
    last = sum(trained.losses[-200:]) / 200
    assert last == pytest.approx(float(floor), rel=0.03)
    assert trained.losses[0] > 2 * last


# models in files


@pytest.mark.parametrize(
    "build",
    [
        lambda: sk.ddpm(mlp()),
        lambda: sk.ncsn(mlp(), sk.VESDE(sigma_min=0.02, sigma_max=17)),
        lambda: sk.edm(mlp(), sigma_data=0.31),
        lambda: sk.ddpm(mlp(), sk.SubVPSDE().with_prior(0.1, 1 / 3)),
        lambda: sk.ddpm(mlp(), sk.VPSDE(beta_max=13.7).with_prior(torch.tensor([0.1, 0.2]), torch.tensor([1.0, 2.0]))),
        lambda: sk.models.Parametrised(mlp(classes=2), sk.VPSDE(), sk.models.VPrediction("log_snr", "unit")),
        lambda: sk.ddpm(mlp()).double(),
        lambda: sk.models.Parametrised(mlp(), sk.CosineSDE(offset=0.01), sk.models.X0()),
        lambda: sk.models.Parametrised(mlp(), sk.FlowSDE(), sk.models.FlowVelocity()),
        lambda: sk.models.Parametrised(mlp(), sk.LinearSDE(-1.0, 1.4, t_max=4.0), sk.models.Epsilon()),
        lambda: sk.models.Parametrised(mlp(), sk.DiscreteVPSDE(), sk.models.PosteriorMean(residual=True)),
        lambda: sk.ncsn(mlp(), sk.DiscreteVESDE().respaced([1, 4, 9]).with_prior(0.5, 1.0)),
        lambda: sk.models.Parametrised(
            mlp(outputs=2),
            sk.DiscreteVPSDE(sk.sdes.tables.cosine(50)).respaced(10, "trailing"),
            sk.models.Epsilon(label="index"),
            sk.models.LearnedRange(),
        ),
    ],
)
def test_a_model_in_a_file_is_the_same_model(tmp_path, build):
    model = build()
    save_model(tmp_path / "a.safetensors", model)
    loaded = load_model(tmp_path / "a.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    assert loaded.sde == model.sde
    assert loaded.parametrisation == model.parametrisation
    assert same(weights(loaded), weights(model))
    assert not loaded.training
    for module in (model, loaded):
        module.eval()
    x = points(6, model.dtype)
    for t in (model.sde.t_min, 0.5 * (model.sde.t_min + model.sde.t_max), model.sde.t_max):
        assert torch.equal(loaded(x, t).eps, model(x, t).eps)
    if model.has_variance:
        assert torch.equal(loaded(x, model.sde.t_max).log_var, model(x, model.sde.t_max).log_var)
    prior = sk.sample(model, (4, 2), steps=3, seed=2)
    assert torch.equal(sk.sample(loaded, (4, 2), steps=3, seed=2), prior)
    assert repr(loaded.sde.prior) == repr(model.sde.prior)
    assert json.loads(json.dumps(to_config(loaded))) == to_config(model)


def test_a_unet_in_a_file_is_the_same_model(tmp_path):
    with seeded(1):
        network = sk.networks.UNet(1, size=8, width=8, multipliers=(1, 2), attention=(1,), classes=3, dropout=0.1)
        nn.init.normal_(network.head[-1].weight, std=0.1)
    model = sk.ddpm(network).eval()
    save_model(tmp_path / "a.safetensors", model)
    x = sk.Noise(0).normal((2, 1, 8, 8), stream="x")
    y = torch.tensor([0, 2])
    assert torch.equal(load_model(tmp_path / "a.safetensors")(x, 0.3, y=y).x0, model(x, 0.3, y=y).x0)


def test_a_run_directory_gives_its_averaged_model(tmp_path):
    prior = torch.tensor([0.5, -0.5]), torch.tensor([1.0, 2.0])
    build = lambda seed: sk.ddpm(mlp(seed), sk.VPSDE().with_prior(*prior))  # noqa: E731
    trained = train(build(0), points(), Settings(steps=4, batch_size=8), out=tmp_path / "run")
    for path in (tmp_path / "run", tmp_path / "run" / "step-00000004"):
        loaded = load_model(path)
        assert same(weights(loaded), weights(trained.ema))
        assert torch.equal(loaded.sde.prior.std, trained.ema.sde.prior.std)
    other = sk.ddpm(mlp(), sk.VPSDE().with_prior(prior[0] + 1, prior[1]))
    with pytest.raises(errors.CheckpointError, match="prior"):
        train(other, points(), Settings(steps=4, batch_size=8), out=tmp_path / "run", resume=True)
    train(normed(0), points(), Settings(steps=1, batch_size=8), out=tmp_path / "own")
    with pytest.raises(errors.CheckpointError, match="not all sdekit's"):
        load_model(tmp_path / "own")


def test_a_damaged_model_file_is_detected(tmp_path):
    path = tmp_path / "a.safetensors"
    save_model(path, small())
    good = path.read_bytes()
    expected = weights(small())
    draws = torch.Generator().manual_seed(0)
    bits = torch.randperm(8 * len(good), generator=draws)[:300].tolist()
    head = torch.randint(0, 8 * 1500, (300,), generator=draws).tolist()
    for bit in bits + head:
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(bad))
        try:
            assert same(weights(load_model(path)), expected)  # white space, or the name under which the header is kept
        except errors.CheckpointError:
            continue
    path.write_bytes(good[:-3])
    with pytest.raises(errors.CheckpointCorrupt):
        load_model(path)
    with pytest.raises(errors.CheckpointNotFound):
        load_model(tmp_path / "b.safetensors")


def test_what_a_file_cannot_hold_is_named(tmp_path):
    exact = sk.models.GaussianMixture(sk.VPSDE(), [1.0], [[0.0, 0.0]], 1.0)

    class Mine(sk.VPSDE):
        pass

    for model, message in [
        (exact, "model must be a Parametrised"),
        (normed(0), "network must be one of MLP"),
        (sk.ddpm(lambda x, label: x), "network must be one of"),
        (sk.ddpm(mlp(), Mine()), "sde must be one of .*got .*Mine"),
        (sk.models.Parametrised(mlp(), sk.VPSDE(), sk.models.Epsilon(lambda level: level.t)), "label must be a name"),
        (sk.ddpm(mlp(), sk.LinearSDE(lambda t: -t, 1.0)), "sde.f must be a name, got a function"),
    ]:
        with pytest.raises(errors.InvalidType, match=message):
            save_model(tmp_path / "a.safetensors", model)
    assert not list(tmp_path.iterdir())
    config = to_config(small())
    for part, entry, message in [
        ("sde", {"class": "os.system", "args": {}}, r"sde.class must be one of EDMSDE.*got 'os.system'"),
        ("sde", {"class": "GaussianSDE", "args": {}}, "sde.class must be one of"),
        ("sde", {"class": "VPSDE", "args": {"gamma": 1}}, "sde.args must be arguments of VPSDE"),
        ("network", {"class": "MLP"}, "network must hold class and args"),
        ("sde", {**config["sde"], "prior": {"mean": 0.0}}, "prior must hold mean and std"),
        ("sde", {**config["sde"], "prior": {"mean": {"tensor": "a"}, "std": 1.0}}, "tensors must hold 'a'"),
    ]:
        with pytest.raises(errors.SDEKitError, match=message):
            from_config({**config, part: entry})
    with pytest.raises(errors.InvalidArgument, match="config must hold"):
        from_config({})
    assert same(weights(from_config(config, seed=1)), weights(from_config(config, seed=1)))
    assert not same(weights(from_config(config, seed=1)), weights(from_config(config, seed=2)))


UNPICKLED: list[str] = []
WATCHING = [False]


def watch(event: str, args: tuple) -> None:
    if WATCHING[0] and (event.startswith("pickle.") or event == "os.system"):
        UNPICKLED.append(event)


def test_no_path_unpickles(tmp_path):
    sys.addaudithook(watch)  # for good: a hook cannot be taken back
    settings = Settings(steps=4, batch_size=8)
    train(small(), points(), settings)
    WATCHING[0] = True
    try:
        with pytest.raises(KeyboardInterrupt):
            train(small(), points(), settings, out=tmp_path / "run", callback=stop_after(2))
        trained = train(small(1), points(), settings, out=tmp_path / "run", resume=True)
        save_model(tmp_path / "a.safetensors", trained.ema)
        load_model(tmp_path / "a.safetensors")
        load_model(tmp_path / "run")
    finally:
        WATCHING[0] = False
    assert not UNPICKLED
