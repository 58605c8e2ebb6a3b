"""What every data set needs: scikit-learn where it is installed, and uniform dequantisation."""

from __future__ import annotations

import random
from types import ModuleType

import torch
from torch import Tensor

from ..errors import SDEKitError, batch, check_source, number
from ..types import NoiseSource


class MissingExtra(SDEKitError, ImportError):
    """An optional dependency that is not installed; the message names the extra that brings it."""


def sklearn_datasets(owner: str) -> ModuleType:
    """The module ``sklearn.datasets``; raises MissingExtra where scikit-learn is not installed."""
    state = random.getstate()  # what scikit-learn imports may draw from Python's global generator
    try:
        import sklearn.datasets
    except ImportError as error:
        raise MissingExtra(
            f"{owner}: needs scikit-learn, which is not installed: pip install 'sdekit[demo]'"
        ) from error
    finally:
        random.setstate(state)
    module: ModuleType = sklearn.datasets
    return module


def dequantise(x: Tensor, bin_width: float, noise: NoiseSource) -> Tensor:
    """x + bin_width (u - 1/2) with u uniform on (0, 1): levels become a density whose bits per dimension count.

    The mean of log2(p bin_width^D) over u is a lower bound on the log-probability of the levels themselves. (Theis et
    al. 2016, section 3.1, arXiv:1511.01844.)

    ``x``: (B, *event), on levels that stand ``bin_width`` apart. Draws from the stream ``"dequantise"``, one number a
    coordinate: a normal, through its distribution function.
    """
    x = batch("dequantise", "x", x)
    check_source("dequantise", noise)
    return spread(x, number("dequantise", "bin_width", bin_width, above=0.0), noise)


def spread(x: Tensor, bin_width: float, noise: NoiseSource) -> Tensor:
    """``dequantise`` without its checks."""
    u = torch.special.ndtr(noise.normal(x.shape, stream="dequantise", dtype=x.dtype, device=x.device))
    return torch.add(x, u - 0.5, alpha=bin_width)
