"""The picture of docs/mathematics.md: progressive coding of a mixture on NCSN's levels, and of Gaussians by Shannon.

python docs/figures/bounds.py [PATH]
"""

import sys
from pathlib import Path

import torch

import sdekit as sk

F64 = torch.float64
STD = 0.05
"""Of each of the three modes."""


def main(path: Path) -> None:
    """Writes the picture."""
    sde = sk.DiscreteVESDE(sk.sdes.tables.geometric(100, 0.01, 50.0))
    means = torch.tensor([[1.2, 0.0], [-0.6, 1.0], [-0.6, -1.0]], dtype=F64)
    model = sk.models.GaussianMixture(sde, [1.0, 1.0, 1.0], means, STD**2)
    rate, distortion = sk.progressive_coding(model, model.sample(4000, sk.Noise(0)), seed=1).mean()
    std = distortion[0]
    shannon = torch.linspace(0.0, float(torch.log2(std / distortion[-1])), 200, dtype=F64)
    curves = {
        "three modes, 100 levels": (rate, distortion),
        "a Gaussian as wide, Shannon": (shannon, std * 2.0**-shannon),
    }
    sk.plots.save(sk.plots.rate_distortion(curves), path)


if __name__ == "__main__":
    default = Path(__file__).resolve().parents[1] / "images" / "bounds.png"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
