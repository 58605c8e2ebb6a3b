"""Models and data from what a user types."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

DATA = ("digits", "swissroll")
"""Data sets by name."""


def model_of(text: str) -> Any:
    """The model that a text names: a law, a file, or one's own."""
    from ..comparison.oracles import NAMES, oracle
    from ..errors import InvalidArgument, SDEKitError
    from ..models import ScoreModel
    from .objects import read

    if text in NAMES:
        return oracle(text)
    path = Path(text)
    if path.exists():
        from ..training import load_model

        try:
            return load_model(path)
        except SDEKitError as error:
            raise InvalidArgument(f"MODEL: {error}") from error
    if ":" not in text:
        raise InvalidArgument(
            f"MODEL: must be one of {', '.join(NAMES)}, a file that is there, or module:name, got {text!r}"
        )
    model = read("MODEL", text)
    if not isinstance(model, ScoreModel):
        raise InvalidArgument(f"MODEL: {text!r} must be a model, got {type(model).__name__}")
    return model


def data_of(flag: str, text: str) -> Tensor:
    """Data by name, or from a file; errors name the flag."""
    import numpy as np
    import torch

    from ..data import digits, swiss_roll
    from ..errors import InvalidArgument

    if text == "digits":
        known = digits()
        return torch.cat([known.train, known.test])
    if text == "swissroll":
        return swiss_roll(10_000)
    path = Path(text)
    if path.suffix != ".npy" or not path.is_file():
        raise InvalidArgument(f"{flag}: must be one of {', '.join(DATA)} or an .npy file that is there, got {text!r}")
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidArgument(f"{flag}: {path} must be an array as numpy.save writes it: {error}") from error
    if array.dtype.kind not in "fiu":
        raise InvalidArgument(f"{flag}: {path} must hold real numbers, (M, *event), got {array.dtype}")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64))
