"""Solvers and processes from what a user types: ``DDIM(eta=0.5)``, ``VPSDE``, or ``module:name`` for one's own."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from types import ModuleType
from typing import Any

from .. import ode, sdes, solvers
from ..errors import InvalidArgument, SDEKitError

KNOWN: tuple[ModuleType, ...] = (solvers, sdes, ode)


def read(flag: str, text: str) -> Any:
    """The object that a text names; raises InvalidArgument where it names none.

    A name alone is called with its defaults. Settings are literals or objects, as in ``ProbabilityFlow(method=RK4())``.
    """
    if ":" in text and "(" not in text:
        return _imported(flag, text)
    try:
        return _built(flag, ast.parse(text.strip(), mode="eval").body, text)
    except SyntaxError as error:
        raise InvalidArgument(f"{flag}: must be a name such as DDIM(eta=0.5), or module:name, got {text!r}") from error


def _built(flag: str, node: ast.expr, text: str) -> Any:
    call = node if isinstance(node, ast.Call) else None
    name = call.func if call is not None else node
    if not isinstance(name, ast.Name):
        raise InvalidArgument(f"{flag}: must be a name such as DDIM(eta=0.5), or module:name, got {text!r}")
    for module in KNOWN:
        if name.id in module.__all__ and isinstance(getattr(module, name.id), type):
            found: Any = getattr(module, name.id)
            break
    else:
        known = [n for module in KNOWN for n in module.__all__ if isinstance(getattr(module, n), type)]
        raise InvalidArgument(f"{flag}: must be module:name or one of {', '.join(known)}, got {name.id!r}")
    arguments = [] if call is None else [_value(flag, v, text) for v in call.args]
    settings = {} if call is None else {str(k.arg): _value(flag, k.value, text) for k in call.keywords}
    try:
        return found(*arguments, **settings)
    except (SDEKitError, TypeError, ValueError) as error:
        raise InvalidArgument(f"{flag}: {text!r} cannot be made: {error}") from error


def _value(flag: str, node: ast.expr, text: str) -> Any:
    if isinstance(node, (ast.Call, ast.Name)):
        return _built(flag, node, text)
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise InvalidArgument(f"{flag}: settings must be literals or objects of sdekit, got {text!r}") from error


def _imported(flag: str, text: str) -> Any:
    module, _, name = text.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidArgument(f"{flag}: {text!r} cannot be imported: {error}") from error
    return found() if isinstance(found, type) else found
