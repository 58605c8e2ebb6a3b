"""Conversion: one score function on every Gaussian process, against exact models, and whatever the schedule."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import MEANS, VARIANCES, Impulses, last, mixture
from subjects import parametrisations, sdes
from torch import nn

import sdekit as sk
from sdekit.errors import InvalidArgument, InvalidType, UnsupportedCombination
from sdekit.models import Empirical, Epsilon, FromFunction, LearnedRange, Parametrised, PosteriorMean
from sdekit.models.convert import Change, Converted

F32, F64 = torch.float32, torch.float64
PROCESSES = [p.values[0] for p in sdes()]
VIEWS = ("x0", "eps", "score", "velocity")

each_source = pytest.mark.parametrize("source", sdes())


class Wave(nn.Module):
    """A network of its input and of its label, linear in neither."""

    def __init__(self, dtype=F64, halves=1):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.02, dtype=dtype))
        self.halves = halves
        self.labels = []
        self.dropout = nn.Dropout(0.0)

    def forward(self, x, label, shift=0.0):
        self.labels.append(label)
        shift = shift.to(x)[:, None] if isinstance(shift, torch.Tensor) else shift
        label = label.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
        out = torch.sin(self.weight * x + 0.1 * label) + shift
        return torch.cat([out] * self.halves, 1)


def randn(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def even(sde, n=7):
    """Times from t_max to t_min, evenly in log-SNR, or levels of a table."""
    if isinstance(sde, sk.TableSDE):
        return sde.times[torch.linspace(0, len(sde.times) - 1, n, dtype=F64).long()].flip(0)
    return sk.grids.log_snr(sde, n - 1)


def noisy(sde, t, event=(3,), seed=0):
    """Rows of the size that x has at the times."""
    z = randn(len(t), *event, seed=seed)
    return sde.perturb(0.5 * z, t, randn(len(t), *event, seed=seed + 1))


def error(one, other):
    """The largest difference of the views of two predictions at the same x, in their own units: |x| / sigma of eps."""
    with torch.no_grad():
        level = one.level
        size = one.x.abs().amax(tuple(range(1, one.x.ndim)), keepdim=True)
        flow = 1.0 / (abs(level.f) + level.g2 / level.sigma**2)
        units = (level.alpha, level.sigma, level.sigma**2, flow)
        gaps = (getattr(one, v) - getattr(other, v) for v in VIEWS)
        return max(float((gap.abs() * unit / size).max()) for gap, unit in zip(gaps, units, strict=True))


class Wrong(Converted):
    """Conversion with a slip: a wrong scale, or a wrong time."""

    def __init__(self, slip, model, sde):
        super().__init__(model, sde)
        self.slip = slip
        self.right = self.change
        self.change = lambda level: slip(level, *self.right(level))


SLIPS = {
    "no scale": lambda here, there, k: (there, 1.0),
    "the scale's inverse": lambda here, there, k: (there, 1.0 / k),
    "the target's time": lambda here, there, k: (_at(there, here.t), k),
    "half a percent of log-SNR": lambda here, there, k: (
        _at(there, there.sde.time_at(torch.as_tensor(here.log_snr + 0.005))),
        k,
    ),
}


def _at(there, t):
    sde = there.sde
    t = torch.as_tensor(t).clamp(sde.t_min, sde.t_max)
    shape = t.shape
    return sde._level(t.reshape(shape))


# The round trip, and the truth


@each_source
@pytest.mark.parametrize("row", parametrisations())
def test_a_model_taken_to_any_process_and_back_is_the_same_model(source, row):
    """Every view, on every target, to 1e-12 of |x| / sigma, where both are defined; with times a row and in common."""
    if isinstance(row, PosteriorMean) and not isinstance(source, sk.TableSDE):
        with pytest.raises(UnsupportedCombination):
            sk.convert(Parametrised(Wave(), source, row), sk.VPSDE())(noisy(sk.VPSDE(), even(sk.VPSDE())), 0.5)
        return
    model = Parametrised(Wave(), source, row)
    for target in PROCESSES:
        back = sk.convert(sk.convert(model, target), source)
        t = even(back.sde)
        x = noisy(source, t)
        assert error(model(x, t), back(x, t)) < 1e-12, target
        middle = float(t[3])
        assert error(model(x, middle), back(x, middle)) < 1e-12, target


@each_source
@pytest.mark.parametrize("exact", ["mixture", "empirical", "function"])
def test_the_converted_score_is_the_exact_score_of_the_target(source, exact):
    """A mixture, a finite data set, and affine scores in time alone, made on the source and made on the target."""
    make = {
        "mixture": lambda sde: mixture(sde, event=(3,)),
        "empirical": lambda sde: Empirical(sde, randn(20, 3, seed=5)),
        "function": lambda sde: FromFunction(
            sde,
            eps=lambda x, t: x * sde.sigma(t) / (0.25 * sde.alpha(t) ** 2 + sde.sigma(t) ** 2),
        ),
    }[exact]
    for target in PROCESSES:
        converted = sk.convert(make(source), target)
        truth = make(converted.sde)
        t = even(converted.sde)
        x = noisy(converted.sde, t)
        assert error(truth(x, t), converted(x, t)) < 1e-11, target
        assert error(truth(x, float(t[2])), converted(x, float(t[2]))) < 1e-11, target
