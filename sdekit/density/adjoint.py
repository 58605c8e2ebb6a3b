"""The adjoint of an integration's own steps: evaluations that are made again when gradients are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UnsupportedCombination
from ..models.base import evaluating

Function = Callable[[Tensor, bool], Tensor]
"""A function of x, and of whether its result is to have a graph."""


def evaluate(function: Function, x: Tensor, network: nn.Module) -> Tensor:
    """The function at x, of which x alone is kept for the gradients by x and by the network's parameters.

    A gradient flows back through the steps as they were taken, so it is that of the number that was returned; the
    adjoint ODE of Chen et al. 2018 (section 2, arXiv:1806.07366), solved anew, has an error of its own. Memory is that
    of one evaluation of the network, and of the states.
    """
    known = [p for p in network.parameters() if p.requires_grad]
    result: Tensor = _Again.apply(function, network, x, *known)  # type: ignore[no-untyped-call]
    return result


class _Again(torch.autograd.Function):
    """The function, evaluated without a graph, and once more, with one, for the gradient."""

    @staticmethod
    def forward(ctx: Any, function: Function, network: nn.Module, x: Tensor, *known: Tensor) -> Tensor:
        ctx.function, ctx.network, ctx.known = function, network, known
        kind = x.device.type
        ctx.cast = {"device_type": kind, "enabled": torch.is_autocast_enabled(kind)}
        ctx.cast["dtype"] = torch.get_autocast_dtype(kind)
        ctx.save_for_backward(x, *known)  # weights that have changed since are refused
        return function(x, False)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, known = ctx.saved_tensors[0], ctx.known
        # as it was asked before: backward is called when all that surrounded the evaluation is over
        with torch.enable_grad(), evaluating(ctx.network), torch.autocast(**ctx.cast):
            x = x.detach().requires_grad_()
            value = ctx.function(x, True)
        _check_leaves(value, (x, *known))
        return (None, None, *torch.autograd.grad(value, (x, *known), gradient, allow_unused=True))


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
