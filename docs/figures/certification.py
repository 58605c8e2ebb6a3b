"""The picture of docs/certification.md: one certificate."""

from pathlib import Path

import sdekit as sk

IMAGES = Path(__file__).parents[1] / "images"


def main() -> None:
    """Draws it."""
    sk.certify(sk.solvers.DPMSolver(), sde=sk.VPSDE()).plot(IMAGES / "certificate.png")


if __name__ == "__main__":
    main()
