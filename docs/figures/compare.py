"""The picture of docs/compare.md: the default samplers on a ring of modes."""

from pathlib import Path

import sdekit as sk

IMAGES = Path(__file__).parents[1] / "images"


def main() -> None:
    """Draws it."""
    model = sk.comparison.oracle("ring")
    sk.compare(model, (1000, 2), nfe=(5, 10, 20, 50), repeats=100).plot(IMAGES / "compare.png")


if __name__ == "__main__":
    main()
