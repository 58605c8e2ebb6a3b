"""Bars over runs of a model, whatever runs it: each call of the model moves the bar."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from tqdm import tqdm

from ..models.base import Prediction, ScoreModel
from ..sdes.base import Level
from ..types import Time


class Watched(ScoreModel):
    """A model that tells a function of every call: how many rows were asked, and at what time on average."""

    def __init__(self, model: ScoreModel, tell: Callable[[int, float], object]):
        super().__init__()
        self.model = model
        self.sde = model.sde
        self.evaluations = model.evaluations
        self.divisible = model.divisible
        self.has_variance = model.has_variance
        self.estimates_noise = model.estimates_noise
        self.tell = tell

    def forward(self, x: Tensor, t: Time | Level, **condition: Any) -> Prediction:
        """The model's prediction."""
        time = t.t if isinstance(t, Level) else t
        self.tell(len(x), float(time.mean()) if isinstance(time, Tensor) else time)
        prediction: Prediction = self.model(x, t, **condition)
        return prediction

    def rows(self, index: Tensor) -> Watched:
        """The model of some rows."""
        return Watched(self.model.rows(index), self.tell)

    def on_behalf(self, index: Tensor) -> Watched:
        """The same model, asked for some rows."""
        return Watched(self.model.on_behalf(index), self.tell)

    @property
    def condition(self) -> dict[str, Any]:
        """The model's."""
        return self.model.condition


@contextmanager
def counting(model: ScoreModel, name: str, calls: int) -> Iterator[ScoreModel]:
    """The model under a bar of a known number of calls."""
    with tqdm(total=calls, desc=f"  {name}", unit="NFE", leave=False) as bar:
        yield Watched(model, lambda rows, time: bar.update(min(1, calls - bar.n)))


@contextmanager
def travelling(
    model: ScoreModel, name: str, rows: int, start: float, end: float, runs: int = 1
) -> Iterator[ScoreModel]:
    """The model under a bar of the share of the way that all rows have gone from one time to another, in log(t).

    For methods that choose the steps of every row, and drop a row where it has arrived; and for several such runs, of
    as many rows each, one after another: a call at the start after one at the end is the next one's first.
    """
    low = 1e-6 * max(start, end)  # a process may begin at 0
    first, last = (math.log(max(t, low)) for t in (start, end))
    form = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}{postfix}]"
    done, within = 0, 0.0
    with tqdm(total=100.0, desc=f"  {name}", leave=False, bar_format=form) as bar:

        def tell(left: int, time: float) -> None:
            nonlocal done, within
            ahead = (last - math.log(max(time, low))) / (last - first)
            gone = 1.0 - left / rows * min(max(ahead, 0.0), 1.0)
            if gone < 0.1 and within > 0.99:
                done, within = done + 1, 0.0
            within = max(within, gone)
            share = min(1.0, (done + within) / runs)
            bar.set_postfix_str(f"t {time:.3f}", refresh=False)
            bar.update(max(0.0, round(100 * share, 1) - bar.n))

        yield Watched(model, tell)
