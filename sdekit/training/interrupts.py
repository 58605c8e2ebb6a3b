"""Ctrl-C and SIGTERM, held back while a step is under way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupts:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt, and never in the middle of what runs under ``held``.

    Within ``held`` the first signal waits until the block has ended; a second raises at once and sets ``forced``.
    Elsewhere a signal raises at once. The exception's argument is the signal. On leaving, the handlers are as they
    were; a signal that was ignored stays ignored, and outside the main thread nothing is installed.
    """

    def __init__(self) -> None:
        self.forced = False
        self._held = False
        self._received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.getsignal(number)
                if before is not None and before is not signal.SIG_IGN:
                    self._before[number] = before
                    signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A block that a first signal does not cut short: it is raised after the block."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._received is not None:
            raise KeyboardInterrupt(self._received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._held and self._received is None:
            self._received = signal.Signals(number)
            return
        self.forced = self._held
        raise KeyboardInterrupt(signal.Signals(number))
