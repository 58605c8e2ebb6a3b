"""The contracts of a model: Prediction and ScoreModel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, TypeAlias

import torch
from torch import Tensor, nn

from ..errors import InvalidArgument, InvalidType, UnsupportedCombination, describe
from ..sdes.base import SDE, Level
from ..sdes.gaussian import GaussianLevel, GaussianSDE
from ..sdes.table import table
from ..types import Scalar, Time, lincomb, scale

Spread: TypeAlias = Callable[[GaussianLevel], Tensor]


class Prediction(ABC):
    """What a model believes of x_t = x: one belief, readable in every convention.

    ``x`` is the noisy data, (B, *event), and ``level`` where it stands. Each view has the shape and dtype of x.
    """

    x: Tensor
    level: Level
    spread: Spread | None = None
    """The learned log-variance of the reverse step to a level, where the model has one."""

    @property
    def log_var(self) -> Tensor | None:
        """The learned log-variance of the reverse step to the table's level before; None where there is none.

        Raises UnsupportedCombination for a learned variance on a process without a table: ask ``spread`` for a level.
        """
        if self.spread is None:
            return None
        process = table("log_var", self.level.sde)
        return self.spread(process.previous(self.level))  # type: ignore[arg-type]

    @property
    @abstractmethod
    def score(self) -> Tensor:
        """grad_x log p_t(x)."""

    @property
    @abstractmethod
    def velocity(self) -> Tensor:
        """dx/dt of the probability flow: f(x, t) - g(t)^2 score / 2.  (Song et al. 2021, eq. 13, arXiv:2011.13456.)"""

    @property
    def x0(self) -> Tensor:
        """E[x_0 | x_t = x]."""
        raise _no_kernel("x0", self.level)

    @property
    def eps(self) -> Tensor:
        """E[eps | x_t = x], the noise in x = alpha x0 + sigma eps."""
        raise _no_kernel("eps", self.level)

    def mix(self, a: Scalar, b: Scalar) -> Tensor:
        """a x0 + b eps, its coefficients formed before they meet a tensor."""
        raise _no_kernel("a x0 + b eps", self.level)


class GaussianPrediction(Prediction):
    """A belief ``value = p x0 + q eps`` on a Gaussian process, with scalar p and q.

    Together with x = alpha x0 + sigma eps it is a linear system of two unknowns, whose solution is every view:

        a x0 + b eps = ((a q - b p) x + (b alpha - a sigma) value) / D,    D = alpha q - sigma p.

    (p, q) = (0, 1) is an eps-network: its eps is the network's output itself, never (x - alpha x0) / sigma, which
    cancels where sigma is small.
    """

    __slots__ = ("level", "p", "q", "spread", "value", "x")

    level: GaussianLevel

    def __init__(
        self, x: Tensor, level: GaussianLevel, value: Tensor, p: Scalar, q: Scalar, spread: Spread | None = None
    ):
        self.x = x
        self.level = level
        self.value = value
        self.p = p
        self.q = q
        self.spread = spread

    def mix(self, a: Scalar, b: Scalar) -> Tensor:
        """a x0 + b eps, its coefficients formed before they meet a tensor."""
        c, d = self.coefficients(a, b)
        return lincomb(c, self.x, d, self.value)

    def coefficients(self, a: Scalar, b: Scalar) -> tuple[Scalar, Scalar]:
        """(c, d) of a x0 + b eps = c x + d value."""
        level, p, q = self.level, self.p, self.q
        det = level.alpha * q - level.sigma * p
        return (a * q - b * p) / det, (b * level.alpha - a * level.sigma) / det

    @property
    def x0(self) -> Tensor:
        """E[x_0 | x_t = x]: Tweedie's formula, (x + sigma^2 score) / alpha."""
        return self.mix(1.0, 0.0)

    @property
    def eps(self) -> Tensor:
        """E[eps | x_t = x] = (x - alpha x0) / sigma."""
        return self.mix(0.0, 1.0)

    @property
    def score(self) -> Tensor:
        """grad_x log p_t(x) = -eps / sigma."""
        return self.mix(0.0, -1.0 / self.level.sigma)

    @property
    def velocity(self) -> Tensor:
        """dx/dt of the probability flow: f x + g^2 eps / (2 sigma)."""
        c, d = self.velocity_coefficients
        return lincomb(c, self.x, d, self.value)

    @property
    def velocity_coefficients(self) -> tuple[Scalar, Scalar]:
        """(c, d) of the velocity c x + d value."""
        c, d = self.coefficients(0.0, 0.5 * self.level.g2 / self.level.sigma)
        return self.level.f + c, d

    def with_x0(self, x0: Tensor) -> GaussianPrediction:
        """The prediction of another x0 at the same x; eps, score and velocity follow."""
        return GaussianPrediction(self.x, self.level, x0, 1.0, 0.0, self.spread)

    def with_eps(self, eps: Tensor) -> GaussianPrediction:
        """The prediction of another eps at the same x; x0, score and velocity follow."""
        return GaussianPrediction(self.x, self.level, eps, 0.0, 1.0, self.spread)

    def with_score(self, score: Tensor) -> GaussianPrediction:
        """The prediction of another score at the same x; x0, eps and velocity follow."""
        return GaussianPrediction(self.x, self.level, score, 0.0, -1.0 / self.level.sigma, self.spread)


class ScorePrediction(Prediction):
    """A score on a process with no closed-form kernel: it has a velocity, but no x0 and no eps."""

    __slots__ = ("_score", "level", "x")

    def __init__(self, x: Tensor, level: Level, score: Tensor):
        self.x = x
        self.level = level
        self._score = score

    @property
    def score(self) -> Tensor:
        """grad_x log p_t(x)."""
        return self._score

    @property
    def velocity(self) -> Tensor:
        """f(x, t) - g(t)^2 score / 2."""
        return self.level.drift(self.x) - scale(0.5 * self.level.g2, self._score)

    def with_score(self, score: Tensor) -> ScorePrediction:
        """The prediction of another score at the same x."""
        return ScorePrediction(self.x, self.level, score)


class ScoreModel(nn.Module, ABC):
    """A model of a process: model(x, t) answers with a Prediction.

    ``sde`` is the process; t is a float, a tensor () or (B,), or a Level; keyword conditions go to the network. The
    class attribute ``evaluations`` counts the network evaluations of one call.
    """

    sde: SDE
    evaluations: int = 1
    divisible: bool = True
    """Whether it may be asked for some rows of its batch alone, by ``rows``."""
    has_variance: bool = False
    """Whether its predictions have a learned variance of the reverse step."""
    estimates_noise: bool = False
    """Whether what its network estimates at t_max is noise: an error of its x0 is sigma / alpha times one of the
    network's own then, and grows without bound to the noisy end."""

    @abstractmethod
    def forward(self, x: Tensor, t: Time | Level, **condition: Any) -> Prediction:
        """The prediction at x of shape (B, *event)."""

    def given(self, **condition: Any) -> Given:
        """The same model with a condition bound: ``model.given(y=labels)(x, t)`` is ``model(x, t, y=labels)``."""
        return Given(self, condition)

    def rows(self, index: Tensor) -> ScoreModel:
        """The model of some rows of the batch, (n,) indices: bound conditions follow their rows."""
        return self

    def on_behalf(self, index: Tensor) -> ScoreModel:
        """The model of the whole batch, asked for the sake of some rows, (n,) indices: itself, unless it counts."""
        return self

    @property
    def condition(self) -> dict[str, Any]:
        """The condition bound by ``given``, by name; empty where there is none."""
        return {}

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first floating-point parameter or buffer; torch's default where there is none."""
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.is_floating_point():
                return tensor.dtype
        return torch.get_default_dtype()

    @property
    def device(self) -> torch.device | None:
        """The device of the first parameter or buffer; None where there is none."""
        for tensor in (*self.parameters(), *self.buffers()):
            return tensor.device
        return None


class Given(ScoreModel):
    """A model with a condition bound: tensors whose first dimension is the batch, or single values for all rows."""

    def __init__(self, model: ScoreModel, condition: dict[str, Any]):
        super().__init__()
        check_model("Given", model)
        if not isinstance(condition, Mapping):
            raise InvalidType(f"Given: condition must be values by name, got {describe(condition)}")
        self.model = model
        self.sde = model.sde
        self.evaluations = model.evaluations
        self.divisible = model.divisible
        self.has_variance = model.has_variance
        self.estimates_noise = model.estimates_noise
        self._condition = condition

    def forward(self, x: Tensor, t: Time | Level, **condition: Any) -> Prediction:
        """The model's prediction under the bound condition; names given here win."""
        bound = {name: value for name, value in self._condition.items() if name not in condition}
        for name, value in bound.items():
            if isinstance(value, Tensor) and value.ndim and len(value) != len(x):
                raise InvalidArgument(
                    f"given: {name} must hold one entry a row, got {len(value)} entries for {len(x)} rows of x"
                )
        prediction = self.model(x, t, **bound, **condition)
        assert isinstance(prediction, Prediction)
        return prediction

    def rows(self, index: Tensor) -> ScoreModel:
        """The model with the conditions of some rows of the batch."""
        chosen = {
            name: value[index.to(value.device)] if isinstance(value, Tensor) and value.ndim else value
            for name, value in self._condition.items()
        }
        return Given(self.model.rows(index), chosen)

    @property
    def condition(self) -> dict[str, Any]:
        """The bound condition, by name."""
        return {**self.model.condition, **self._condition}

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        # conditions move with the model, as buffers do
        self._condition = {k: fn(v) if isinstance(v, Tensor) else v for k, v in self._condition.items()}
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; on leaving, also by an exception, every module is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def check_condition(owner: str, model: ScoreModel, rows: int) -> None:
    """Raises InvalidArgument where a condition bound to the model holds another number of entries than rows."""
    for name, value in model.condition.items():
        if isinstance(value, Tensor) and value.ndim and len(value) != rows:
            raise InvalidArgument(
                f"{owner}: the condition {name} must hold one entry a row, got {len(value)} entries for {rows} rows"
            )


def check_model(owner: str, model: object) -> None:
    """Raises InvalidType unless the value is a ScoreModel."""
    if not isinstance(model, ScoreModel):
        hint = "; wrap a network, as in sdekit.ddpm(network)" if isinstance(model, nn.Module) or callable(model) else ""
        raise InvalidType(f"{owner}: model must be a ScoreModel, got {describe(model)}{hint}")


def of_noise(sde: GaussianSDE, target: Callable[[GaussianLevel], tuple[Scalar, Scalar]]) -> bool:
    """Whether the quantity p x0 + q eps, (p, q) of a level, tells of the noise more than of the data at t_max.

    With D = alpha q - sigma p, its error times -sigma / D is that of x0: it is noise where the larger part of D is that
    of q, and where the two cancel.
    """
    level = sde.levels(torch.tensor([sde.t_max], dtype=torch.float64))[0]
    p, q = (torch.as_tensor(v, dtype=torch.float64) for v in target(level))
    of_x0, of_eps = level.sigma * p, level.alpha * q
    size = of_x0.abs()
    return bool(((size < of_eps.abs()) | ((of_eps - of_x0).abs() < 0.5 * size)).any())


def gaussian_level(owner: str, sde: GaussianSDE, t: Time | Level, x: Tensor) -> GaussianLevel:
    """The level at which a model of a Gaussian process is asked, aligned with x; or a named error."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise InvalidType(f"{owner}: x must be a floating-point tensor of shape (B, *event), got {describe(x)}")
    if x.ndim == 0:
        raise InvalidArgument(f"{owner}: x must be of shape (B, *event), got a tensor of shape ()")
    level = sde.level(t, x)
    if level.clean:
        raise InvalidArgument(f"{owner}: t must be a time or a level with noise, got the clean level")
    return level


def gaussian(owner: str, sde: SDE) -> GaussianSDE:
    """The process where it has alpha and sigma, else a named error."""
    if not isinstance(sde, GaussianSDE):
        raise UnsupportedCombination(
            f"{owner}: sde must be a GaussianSDE (one with alpha and sigma), got {describe(sde)}"
        )
    return sde


def check_output(owner: str, output: Any, x: Tensor, name: str = "the network") -> Tensor:
    """The output where it is a tensor of the shape of x, else a named error: it never broadcasts."""
    if not isinstance(output, Tensor) or output.is_complex():
        raise InvalidType(f"{owner}: {name} must return a real tensor of the shape of x, got {describe(output)}")
    if output.shape != x.shape:
        raise InvalidArgument(
            f"{owner}: {name} must return the shape of x, {tuple(x.shape)}, got {tuple(output.shape)}"
        )
    return output


def _no_kernel(view: str, level: Level) -> UnsupportedCombination:
    return UnsupportedCombination(
        f"{view}: {type(level.sde).__name__} has no alpha and sigma; its predictions have a score and a velocity only"
    )
