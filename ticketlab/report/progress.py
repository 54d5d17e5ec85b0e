"""Live progress of a whole study on stderr: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ticketlab.report.eta import Eta
from ticketlab.report.words import duration

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

EVERY = 10.0  # seconds between plain lines
BAR = 24


class Quiet:
    """A stream that may be missing, closed or broken: writing to it never raises."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                self._stream.write(text.encode("ascii", "replace").decode())
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def isatty(self) -> bool:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            return bool(self._stream.isatty())
        return False

    def fileno(self) -> int:
        try:
            return int(self._stream.fileno())
        except (ValueError, AttributeError) as gone:
            raise OSError("the stream is closed") from gone

    @property
    def encoding(self) -> str:
        return getattr(self._stream, "encoding", None) or "utf-8"


class Progress:
    """Told when steps are finished; shows the share done, the latest step, elapsed time and what is left.

    Args:
        stream: where to show it; stderr by default.
        kinds: how many steps of each kind there will be, if known: the remaining time is then added up by kind.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        stream: Any = None,
        kinds: dict[str, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = Quiet(sys.stderr if stream is None else stream)
        self._clock = clock
        self._eta = Eta(kinds)
        self._total = self._done = self._linked = 0
        self._now = ""
        self._began = self._spoke = clock()
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.finish()

    def start(self, total: int, done: int = 0) -> None:
        """`total` steps, `done` of them finished before."""
        self._close()
        self._total, self._done, self._linked = total, done, 0
        self._began = self._clock()
        self._spoke = self._began - EVERY
        self._eta.start()
        if self._stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
            self._live = _live(self._stream, self._text)
        else:
            self._speak()

    def now(self, label: str) -> None:
        """What runs at this moment, where the caller knows it before it is finished."""
        self._now = label

    def advance(
        self,
        kind: str,
        label: str,
        seconds: float,
        linked: bool = False,
        done: int | None = None,
        total: int | None = None,
    ) -> None:
        """One more step is finished; `linked` means that its result was there already."""
        self._done = self._done + 1 if done is None else done
        self._total = max(self._total if total is None else total, self._done)
        self._linked += linked
        self._now = label
        self._eta.add(kind, seconds, self._clock() - self._began)
        if self._live is None and self._clock() - self._spoke >= EVERY:
            self._speak()

    def finish(self) -> None:
        """No more steps: the last state stays on the screen."""
        was_live = self._live is not None
        self._close()
        if not was_live and self._total:
            self._speak()
        self._total = 0

    def line(self) -> str:
        """The state in one plain line."""
        elapsed = self._clock() - self._began
        parts = [f"{self._done} of {self._total} steps", f"{duration(elapsed)} elapsed"]
        if self._done < self._total:
            left = self._eta.left(self._total - self._done, elapsed)
            parts.append(f"about {duration(left)} left" if left is not None else "time left not known yet")
        if self._linked:
            parts.append(f"{self._linked} linked")
        if self._now:
            parts.append(self._now)
        return ", ".join(parts)

    def _speak(self) -> None:
        self._spoke = self._clock()
        self._stream.write(self.line().encode("ascii", "replace").decode() + "\n")
        self._stream.flush()

    def _text(self) -> Text:
        from rich.text import Text

        filled = round(BAR * self._done / self._total) if self._total else 0
        full, rest = "━─" if "utf" in self._stream.encoding.lower() else "#-"
        return Text.assemble((full * filled, "blue"), (rest * (BAR - filled), "dim"), "  " + self.line())

    def _close(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()


def _live(stream: Quiet, text: Callable[[], Text]) -> Live:
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream, highlight=False)  # type: ignore[arg-type]
    live = Live(console=console, get_renderable=text, redirect_stdout=False, redirect_stderr=False)
    live.start()
    return live
