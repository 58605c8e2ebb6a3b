"""The pictures of docs/likelihood.md: what ``sdekit likelihood`` draws of a model of the Swiss roll."""

import contextlib
import tempfile
from pathlib import Path

import numpy as np
import torch

import sdekit as sk
from sdekit.cli.main import main as sdekit
from sdekit.training import Settings, save_model, train

IMAGES = Path(__file__).resolve().parents[1] / "images"


def main() -> None:
    """Trains for a minute or two, and draws them."""
    data = sk.data.swiss_roll(20_000)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = sk.edm(sk.networks.MLP((2,)), sigma_data=float(data.std()), sde=sk.EDMSDE(t_min=0.02))
    trained = train(model, data, Settings(steps=8000, batch_size=256), progress=True)
    roll = sk.data.swiss_roll(1000, seed=1)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        save_model("roll.safetensors", trained.ema)
        np.save("held-out.npy", roll.numpy())
        np.save("mirrored.npy", (roll * torch.tensor([-1.0, 1.0])).numpy())
        files = ("roll.safetensors", "held-out.npy", "mirrored.npy")
        sdekit(["likelihood", *files, "--tol", "0.01", "--map", "100", "--out", "out"])
        for name in ("histogram", "density"):
            (IMAGES / f"likelihood-{name}.png").write_bytes(Path("out", f"{name}.png").read_bytes())


if __name__ == "__main__":
    main()
