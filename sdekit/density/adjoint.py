"""The adjoint of an integration's own steps: evaluations that are made again when gradients are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import UnsupportedCombination
from ..types import Time

if TYPE_CHECKING:
    from .flow import FlowWithDensity


def evaluate(field: FlowWithDensity, x: Tensor, t: Time, probes: Tensor | None) -> Tensor:
    """The derivative that the field has at x, of which x alone is kept for the gradients by x and by parameters.

    A gradient flows back through the steps as they were taken, so it is that of the number that was returned; the
    adjoint ODE of Chen et al. 2018 (section 2, arXiv:1806.07366), solved anew, has an error of its own. Memory is that
    of one evaluation of the network, and of the states.
    """
    known = [p for p in field.flow.model.parameters() if p.requires_grad]
    result: Tensor = _Again.apply(field, t, probes, x, *known)  # type: ignore[no-untyped-call]
    return result


class _Again(torch.autograd.Function):
    """The field, evaluated without a graph, and once more, with one, for the gradient."""

    @staticmethod
    def forward(ctx: Any, field: FlowWithDensity, t: Time, probes: Tensor | None, x: Tensor, *known: Tensor) -> Tensor:
        ctx.field, ctx.t, ctx.probes, ctx.known = field, t, probes, known
        ctx.save_for_backward(x)
        return field.derivative(x, t, probes, graph=False)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            value = ctx.field.derivative(x, ctx.t, ctx.probes, graph=True)
        _check_leaves(value, (x, *ctx.known))
        return (None, None, None, *torch.autograd.grad(value, (x, *ctx.known), gradient, allow_unused=True))


def _check_leaves(value: Tensor, known: tuple[Tensor, ...]) -> None:
    """Raises UnsupportedCombination where the value depends on leaves that the adjoint has no gradient for."""
    names = {id(leaf) for leaf in known}
    seen, waiting = set(), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in names:
            raise UnsupportedCombination(
                'log_likelihood: gradient must be "direct" where the network depends on tensors with gradients that '
                f'are not its parameters, got "adjoint" and one of shape {tuple(leaf.shape)}'
            )
        waiting += [after for after, _ in node.next_functions]
