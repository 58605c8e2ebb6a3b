"""Models around a model: one that counts what it is asked, and one that is asked for its whole batch alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..sdes.base import Level
from ..types import Time
from .base import Prediction, ScoreModel


class Counted(ScoreModel):
    """A model that counts the network evaluations a row has cost."""

    def __init__(self, model: ScoreModel, rows: int, index: Tensor | None = None, tally: Tally | None = None):
        super().__init__()
        self._model = (model,)  # in a tuple, not a submodule: nothing of the model is registered twice
        self.sde = model.sde
        self.evaluations = model.evaluations
        self.divisible = model.divisible
        self.has_variance = model.has_variance
        self.estimates_noise = model.estimates_noise
        self.count = rows
        self.index = index
        self.tally = Tally() if tally is None else tally

    def __call__(self, x: Tensor, t: Time | Level, **condition: Any) -> Prediction:
        """The model's prediction, counted."""
        if self.index is None:
            self.tally.whole += self.evaluations
        else:
            if self.tally.rows is None:
                with torch.inference_mode(False):  # it is added to in either mode
                    self.tally.rows = torch.zeros(self.count, dtype=torch.int64, device=x.device)
            self.tally.rows[self.index] += self.evaluations
        prediction: Prediction = self._model[0](x, t, **condition)
        return prediction

    forward = __call__

    def rows(self, index: Tensor) -> Counted:
        """The model of some rows, whose evaluations count for these rows."""
        return self._for(self._model[0].rows(index), index)

    def on_behalf(self, index: Tensor) -> Counted:
        """The same model, whose evaluations count for these rows."""
        return self._for(self._model[0], index)

    def _for(self, model: ScoreModel, index: Tensor) -> Counted:
        return Counted(model, self.count, index if self.index is None else self.index[index], self.tally)

    @property
    def condition(self) -> dict[str, Any]:
        """The model's."""
        return self._model[0].condition

    @property
    def dtype(self) -> torch.dtype:
        """The model's."""
        return self._model[0].dtype

    @property
    def device(self) -> torch.device | None:
        """The model's."""
        return self._model[0].device

    @property
    def nfe(self) -> int | Tensor:
        """Network evaluations a row: one number, or (B,) where rows were asked apart."""
        return self.tally.whole if self.tally.rows is None else self.tally.whole + self.tally.rows


class Whole(ScoreModel):
    """A model that is asked for all rows of its batch or for none: what it computes with never changes its shape."""

    divisible = False

    def __init__(self, model: ScoreModel):
        super().__init__()
        self.model = model
        self.sde = model.sde
        self.evaluations = model.evaluations
        self.has_variance = model.has_variance
        self.estimates_noise = model.estimates_noise

    def forward(self, x: Tensor, t: Time | Level, **condition: Any) -> Prediction:
        """The model's prediction."""
        prediction: Prediction = self.model(x, t, **condition)
        return prediction

    @property
    def condition(self) -> dict[str, Any]:
        """The model's."""
        return self.model.condition


@dataclass
class Tally:
    """Network evaluations: of the whole batch, and of single rows."""

    whole: int = 0
    rows: Tensor | None = None
