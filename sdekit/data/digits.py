"""scikit-learn's digits: real handwriting, 8x8 pixels of 17 grey levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from .base import sklearn_datasets


@dataclass(frozen=True)
class Digits:
    """Handwritten digits, (N, 1, 8, 8) float32 in [-1, 1], split into a training and a test set, and their labels.

    The 17 grey levels v = 0..16 stand at v / 8 - 1, ``bin_width`` = 1/8 apart: that is the width to dequantise by and
    to count bits with. A uniform guess over the levels costs log2(17) = 4.087 bits a pixel.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor

    levels: ClassVar[int] = 17
    bin_width: ClassVar[float] = 2 / 16


def digits() -> Digits:
    """The digits that come with scikit-learn: 1,437 to train on and 360 held out.

    The split is the permutation of RandomState(0), the first 1,437 rows for training. Nothing is downloaded.
    (Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, doi 10.24432/C50P49.)

    Raises MissingExtra where scikit-learn is not installed.
    """
    bunch = sklearn_datasets("digits").load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.data))
    x = torch.from_numpy(bunch.data[order]).to(torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
    y = torch.from_numpy(bunch.target[order]).to(torch.int64)
    return Digits(x[:1437], y[:1437], x[1437:], y[1437:])
