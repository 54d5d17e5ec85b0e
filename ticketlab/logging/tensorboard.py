"""Curves for TensorBoard: a run for each training, with a name that can be read and filtered by."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ticketlab.errors import InputError
from ticketlab.experiment.files import LocalFiles
from ticketlab.logging.logger import Training
from ticketlab.report.words import percent

# Beside the events: which step a run is of.
TICKET = "ticket.json"


class TensorBoard:
    """Writes ``accuracy`` (test, percent) and ``loss`` (of the training) by epoch, in one run for each training.

    A run is a folder such as "digits/conv/snip/rearrange/90%/seed 2". It appears whole or not at all, and one that is
    there is not written again: any number of runs, resumed or side by side, may log into one folder.

    Args:
        folder: what ``tensorboard --logdir`` gets.

    Raises:
        InputError: TensorBoard is not installed, or nothing can be written there.
    """

    def __init__(self, folder: str | Path) -> None:
        self._open = _writer()
        # Made when there is something to write: it may lie in the folder of a study that has not begun.
        self._files = LocalFiles(Path(folder))
        root = Path(folder).absolute()
        there = next(path for path in (root, *root.parents) if path.exists())
        if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            raise InputError(f"asked to log into {folder}, got {there}, where nothing may be written.")

    def training(self, record: Training) -> None:
        """Write a training's curves, unless they are there."""
        for name in _names(record):
            if self._step(name) is None:
                # Of two writers of one run the first wins.
                self._files.put_folder(name, {TICKET: _ticket(record), **self._events(record)})
            if self._step(name) == record.step:
                return

    def close(self) -> None:
        """Nothing is left open."""

    def _step(self, name: str) -> str | None:
        """The step that a run is of; None if there is no such run."""
        try:
            return str(json.loads(self._files.get(name, TICKET))["step"])
        except (OSError, ValueError, KeyError, TypeError):
            # A folder of somebody else's is left alone.
            return "" if self._files.has_folder(name) else None

    def _events(self, record: Training) -> dict[str, bytes]:
        # Elsewhere first: TensorBoard, which may be running, reads every file that it finds below its folder.
        with tempfile.TemporaryDirectory(prefix="ticketlab-") as scratch:
            writer = self._open(scratch)
            writer.add_text("ticket", record.label)
            for entry in record.history:
                for name in ("accuracy", "loss"):
                    value = entry.get(name)
                    if isinstance(value, (int, float)):
                        # Epochs may be fractions, of which there is at most one, the last.
                        writer.add_scalar(name, value, math.ceil(entry["epoch"]))
            writer.close()
            return {path.name: path.read_bytes() for path in Path(scratch).iterdir()}


def _writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "asked to log for TensorBoard, got no such package: pip install 'ticketlab[tensorboard]'"
        ) from error
    return SummaryWriter


def _names(record: Training) -> Iterator[str]:
    """Names for a training's run: the first that is free. The last one is its own, whatever others are called."""
    if record.method is None or record.check is None:
        parts = ["found on the way", record.label]
    else:
        sparse = [] if record.sparsity is None else [percent(record.sparsity)]
        parts = [record.method, record.check, *sparse, f"seed {record.seed}"]
    name = "/".join(_safe(part) for part in (*record.where.split("/"), *parts) if part)
    yield name
    yield f"{name} {record.step[:8]}"
    yield f"{name} {record.step}"


def _safe(part: str) -> str:
    """A part of a path on any system, that stays where it is put."""
    return re.sub(r"[^\w .,=%+()-]+", "-", part).strip(" .")[:120] or "-"


def _ticket(record: Training) -> bytes:
    plain = {k: v for k, v in vars(record).items() if k != "history"}
    return json.dumps(plain, indent=1).encode()
