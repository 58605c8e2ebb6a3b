"""Slips: one wrong line in place of a right one, within a function of the running package."""

from __future__ import annotations
import __future__

import ast
import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any


@dataclass(frozen=True)
class Slip:
    """A piece of a function's source, which must occur in it once, and what is wrongly written in its place.

    ``where`` is a function, a method or a property. Its code is exchanged, not its name: whoever has imported, bound or
    listed the function runs the slip.
    """

    where: Any
    right: str
    wrong: str

    @property
    def function(self) -> FunctionType:
        """The innermost function: of a property, and under decorators that keep their ``__wrapped__``."""
        return inspect.unwrap(self.where.fget if isinstance(self.where, property) else self.where)

    @property
    def name(self) -> str:
        """Where it lies, as in ``sdes.vp: VPSDE.sigma``."""
        return f"{self.function.__module__.removeprefix('sdekit.')}: {self.function.__qualname__}"

    @property
    def code(self) -> CodeType:
        """The function's code with the slip in it."""
        source = textwrap.dedent(inspect.getsource(self.function))
        assert source.count(self.right) == 1, f"{self.name} has {source.count(self.right)} times: {self.right}"
        tree = ast.parse(source.replace(self.right, self.wrong))
        (definition,) = tree.body
        definition.decorator_list = []
        # a local name __class__ around it is what super() without arguments looks for
        around = ast.parse("def around(__class__): pass").body[0]
        around.body = [definition, *ast.parse(f"return {definition.name}.__code__").body]
        flags = __future__.annotations.compiler_flag
        scope: dict[str, Any] = {}
        exec(compile(ast.Module([around], []), f"slip in {self.name}", "exec", flags), self.function.__globals__, scope)
        return scope["around"](None)

    @contextmanager
    def injected(self) -> Iterator[None]:
        """The package with the slip in it."""
        function, healthy = self.function, self.function.__code__
        function.__code__ = self.code
        try:
            yield
        finally:
            function.__code__ = healthy
