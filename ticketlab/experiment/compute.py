"""Compute what a store lacks of some steps, telling how it goes, and read what was asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from ticketlab.experiment.context import Context
from ticketlab.experiment.run import runner
from ticketlab.experiment.step import Step
from ticketlab.experiment.store import DamagedResult, Store

Found = TypeVar("Found")


class Progress(Protocol):
    """Told how a study advances."""

    def start(self, total: int, done: int) -> None:
        """``total`` steps, ``done`` of them finished before."""

    def advance(self, kind: str, label: str, seconds: float, linked: bool) -> None:
        """One more step is finished."""

    def finish(self) -> None:
        """No more steps."""


def compute(
    steps: Sequence[Step],
    context: Context,
    store: Store,
    read: Callable[[], Found],
    *,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Found:
    """Bring the steps, inputs first, to the store; what ``read`` then gets from there."""
    if progress:
        progress.start(len(steps), sum(step.id in store for step in steps))

    def tell(step: Step, seconds: float, linked: bool) -> None:
        if progress:
            progress.advance(step.kind, step.label, seconds, linked)

    try:
        while True:
            if any(step.id not in store for step in steps):
                runner(context, jobs).run(steps, store, tell)
            # Reading may find a damaged result, which is put aside then, so that the next pass computes it.
            with contextlib.suppress(DamagedResult):
                return read()
    finally:
        if progress:
            progress.finish()
