"""``ticketlab watch``: how a study or a table stands, from any process, while it runs or not."""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ticketlab.errors import InputError
from ticketlab.report.watch import fitting, lines
from ticketlab.watch.look import Watch
from ticketlab.watch.status import Status

# At most this share of the time is spent looking: a slow store is looked at less often.
_SHARE = 0.1


def run_watch(options: argparse.Namespace) -> int:
    """Show it once, or again and again until it is over.

    Raises:
        InputError: there is no such folder, or what is in it cannot be read.
    """
    if not (math.isfinite(options.every) and options.every > 0):
        raise InputError(f"asked to look every {options.every:g} seconds, got no positive number.")
    if "://" in options.folder or Path(options.folder).is_file():
        raise InputError(f"asked to watch {options.folder}, got no folder: name that of a study or a table (--out).")
    folder, console = Path(options.folder), Console()
    live = console.is_terminal and os.environ.get("TERM") not in ("dumb", "unknown")
    if options.once or options.json or not live:
        _once(folder, options.json, console)
    else:
        _follow(folder, options.every, console)
    return 0


def _once(folder: Path, as_json: bool, console: Console) -> None:
    if not folder.is_dir():
        raise InputError(f"asked to watch {folder}, got no such folder.")
    try:
        status = Watch(folder).look()
    except OSError as error:
        raise InputError(f"asked to watch {folder}, got a store that cannot be read: {error}.") from error
    if as_json:
        found = {"begun": status is not None, "folder": str(folder), **(status.to_json() if status else {})}
        print(json.dumps(found, indent=1, allow_nan=False))
    elif status is None:
        _say(console, _nothing(folder))
    else:
        _print(status, console)


def _follow(folder: Path, every: float, console: Console) -> None:
    """Look again and again, at most a tenth of the time, until nothing more will come or somebody stops it."""
    watch, status = Watch(folder), None
    live = Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop")
    with suppress(KeyboardInterrupt), live:
        # The first look reads all that is there.
        live.update(Text(f"looking at {folder} ..."), refresh=True)
        while status is None or not status.over:
            began = time.monotonic()
            try:
                status = watch.look()
                shown = Text(_nothing(folder)) if status is None else fitting(status, console)
            except OSError as error:
                # A network file system may be back at the next look.
                shown = Text(f"{folder} cannot be read right now: {error}")
            live.update(shown, refresh=True)
            if status is None or not status.over:
                time.sleep(max(every, (time.monotonic() - began) * (1 / _SHARE - 1)))
    if status is None:
        _say(console, _nothing(folder))
    else:
        _print(status, console)


def _nothing(folder: Path) -> str:
    return f"nothing has begun in {folder} yet: no study and no table is there"


def _print(status: Status, console: Console) -> None:
    for line in lines(status, console):
        console.print(line, highlight=False, soft_wrap=True)


def _say(console: Console, text: str) -> None:
    console.print(Text(text), highlight=False, soft_wrap=True)
