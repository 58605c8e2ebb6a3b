"""Training with a condition that is dropped from a share of the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from ..errors import InvalidArgument, InvalidType, batch, check_source, describe, number
from ..models.base import ScoreModel, check_model
from ..types import NoiseSource


@dataclass(frozen=True)
class ConditionDropout:
    """A loss in which a row loses its condition with a given probability: one network learns to do with and without.

    y is replaced by null where u < probability, with one u uniform on (0, 1) a row. Ho & Salimans 2022, algorithm 1
    (arXiv:2207.12598): what classifier-free guidance needs of its training.

    ``loss``: any loss, which is asked with the conditions that are left. ``probability``: of a row to lose all the
    conditions that ``null`` names, at once. ``null``: the number that means "none", by the condition's name: of the
    networks of ``sdekit.networks`` that is ``{"y": classes}``. A condition that it does not name is left alone.

    The draws are of the stream ``"condition"``. Raises InvalidType or InvalidArgument for settings out of range, and
    at the call InvalidArgument where a condition that ``null`` names is no tensor of one entry a row.

    Example: ``train(model, data, settings, loss=ConditionDropout(loss, 0.1, {"y": 10}), condition={"y": labels})``.
    """

    loss: Callable[..., Tensor]
    probability: float
    null: Mapping[str, float]

    def __post_init__(self) -> None:
        if not callable(self.loss):
            raise InvalidType(
                f"ConditionDropout: loss must be a callable (model, x0, noise), got {describe(self.loss)}"
            )
        number("ConditionDropout", "probability", self.probability, at_least=0.0, at_most=1.0)
        if not isinstance(self.null, Mapping) or not self.null:
            raise InvalidType(
                f'ConditionDropout: null must be numbers by name, such as {{"y": 10}}, got {describe(self.null)}'
            )
        for name, value in self.null.items():
            number("ConditionDropout", f"null[{name!r}]", value)

    def __call__(self, model: ScoreModel, x0: Tensor, noise: NoiseSource, **condition: Any) -> Tensor:
        """The loss of a batch x0, (B, *event), as a scalar tensor."""
        check_model("ConditionDropout", model)
        check_source("ConditionDropout", noise)
        if not len(batch("ConditionDropout", "x0", x0)):
            raise InvalidArgument("ConditionDropout: x0 must hold at least one row, got none")
        return self.loss(model, x0, noise, **self.dropped(x0, noise, condition))

    @property
    def per_sample(self) -> Callable[..., Tensor] | None:
        """(model, x0, noise, **condition) -> the loss of each row, (B,), where the loss has it, else None."""
        rows = getattr(self.loss, "per_sample", None)
        return None if rows is None else partial(self._per_sample, rows)

    def _per_sample(
        self, rows: Callable[..., Tensor], model: ScoreModel, x0: Tensor, noise: NoiseSource, **condition: Any
    ) -> Tensor:
        return rows(model, x0, noise, **self.dropped(x0, noise, condition))

    def dropped(self, x0: Tensor, noise: NoiseSource, condition: Mapping[str, Any]) -> dict[str, Any]:
        """The conditions of a batch, each a tensor (B, ...), with null where a row has lost them."""
        lost = noise.uniform(len(x0), stream="condition", device=x0.device) < self.probability
        left = dict(condition)
        for name, null in self.null.items():
            value = left.get(name)
            if not isinstance(value, Tensor) or value.shape[:1] != x0.shape[:1]:
                raise InvalidArgument(
                    f"ConditionDropout: the condition {name} must hold one entry for each of {len(x0)} rows, "
                    f"got {describe(value)}"
                )
            left[name] = value.masked_fill(lost.reshape(-1, *(1,) * (value.ndim - 1)), null)
        return left
