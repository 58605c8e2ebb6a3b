"""The ``sdekit`` command.

Exit codes: 0; 2 for bad input, with one line and no traceback; 1 for a run that failed, with one line, such as a loss
that is not finite; 130 after Ctrl-C; 143 after SIGTERM; 141 where the reader of the output has gone.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

from .. import __version__
from ..errors import SDEKitError
from . import certify, compare, demo, info, likelihood

COMMANDS = {"demo": demo, "compare": compare, "likelihood": likelihood, "certify": certify, "info": info}
"""The commands: modules with HELP, configure(parser) and run(args); they import what is heavy when they run."""


class Parser(argparse.ArgumentParser):
    """argparse's parser, whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Ends with code 2."""
        message = message if len(message) <= 300 else f"{message[:297]}..."
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser() -> Parser:
    """The parser of the whole command line."""
    top = Parser(prog="sdekit", description="Score-based generative modelling: DDPM and NCSN as one thing.")
    top.add_argument("--version", action="version", version=f"sdekit {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for name, module in COMMANDS.items():
        module.configure(commands.add_parser(name, help=module.HELP, description=module.HELP))
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code."""
    try:
        args = parser().parse_args(argv)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    before = _on_sigterm(_interrupt)
    try:
        COMMANDS[args.command].run(args)
        sys.stdout.flush()
    except KeyboardInterrupt as stop:
        # the argument is the signal, where it was not Ctrl-C
        return 128 + int(stop.args[0] if stop.args and isinstance(stop.args[0], int) else signal.SIGINT)
    except BrokenPipeError:
        # the reader of our output has gone: say nothing more, not even when python closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE if hasattr(signal, "SIGPIPE") else 1
    except (SDEKitError, OSError) as error:
        command = f"sdekit {args.command}: "
        print(command + str(error).removeprefix(command), file=sys.stderr)
        return 2 if isinstance(error, (ValueError, TypeError, ImportError, OSError)) else 1
    finally:
        _on_sigterm(before)
    return 0


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(signal.Signals(number))


def _on_sigterm(handler: Any) -> Any:
    if threading.current_thread() is threading.main_thread() and handler is not None:
        return signal.signal(signal.SIGTERM, handler)
    return None
