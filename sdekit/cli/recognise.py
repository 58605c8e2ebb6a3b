"""Who says which digit it is: a classifier that has seen real digits and nothing of the models."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import Digits

Reader = Callable[[Tensor], Tensor]
"""Images in [-1, 1], (N, 1, 8, 8), to the digits that it sees in them, (N,)."""


class Share(NamedTuple):
    """A share of a count, with the interval that holds the probability behind it 95 times in 100."""

    right: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """right / of."""
        return self.right / self.of

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"


def share(right: Tensor) -> Share:
    """How many of (N,) booleans hold, with Clopper and Pearson's interval.  (1934, doi 10.1093/biomet/26.4.404.)"""
    from scipy.stats import binomtest

    count, n = int(right.sum()), len(right)
    low, high = binomtest(count, n).proportion_ci(0.95)
    return Share(count, n, float(low), float(high))


def reader(data: Digits) -> Reader:
    """scikit-learn's support vector machine, a Gaussian kernel on grey levels 0..16, fitted to the training digits.

    (Cortes & Vapnik 1995, doi 10.1007/BF00994018; gamma is that of scikit-learn's own example on these data.)
    """
    from sklearn.svm import SVC

    machine = SVC(gamma=0.001, random_state=0).fit(_levels(data.train), data.train_labels.numpy())
    return lambda x: torch.from_numpy(machine.predict(_levels(x)))


def _levels(x: Tensor) -> NDArray[np.float64]:
    """Rows of 64 grey levels in [0, 16]."""
    levels: NDArray[np.float64] = ((x.cpu().double().reshape(len(x), -1) + 1) * 8).clamp(0, 16).numpy()
    return levels
