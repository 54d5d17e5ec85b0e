"""Ctrl-C: once, the steps that run are finished; twice, they are stopped where they are."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

MESSAGE = "finishing what runs now; Ctrl-C again stops at once (a training then goes on from its last checkpoint)"


class Interrupt:
    """While it is open, the first Ctrl-C only sets ``asked``; the second raises KeyboardInterrupt.

    Outside of the main thread, where no signal arrives, it does nothing.
    """

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self.asked = False
        self._say = say or _to_stderr
        self._before: Any = None

    def __enter__(self) -> Interrupt:
        # Whoever has a handler of their own, or ignores the signal, keeps it.
        ordinary = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if ordinary and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._asked)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._say(MESSAGE)

    def check(self) -> None:
        """Stop here if it was asked for.

        Raises:
            KeyboardInterrupt: it was.
        """
        if self.asked:
            raise KeyboardInterrupt


def _to_stderr(text: str) -> None:
    # A handler may run in the middle of another write.
    with suppress(OSError, ValueError, RuntimeError):
        sys.stderr.write(f"\n{text}\n")
        sys.stderr.flush()
