"""Compute what a store lacks of some steps, telling how it goes, and read what was asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

from ticketlab.experiment.context import Context
from ticketlab.experiment.run import Failure, Listener
from ticketlab.experiment.step import Step
from ticketlab.experiment.store import DamagedResult, Store
from ticketlab.experiment.where import Alone, Workers

Found = TypeVar("Found")
# What hears of a step that failed; it may raise to end the run.
Failed = Callable[[Failure], None]


class Progress(Protocol):
    """Told how a study advances."""

    def start(self, total: int, done: int) -> None:
        """``total`` steps, ``done`` of them finished before."""

    def advance(self, kind: str, label: str, seconds: float, linked: bool) -> None:
        """One more step is finished."""

    def finish(self) -> None:
        """No more steps."""


class _Told:
    """Passes what a runner does on to the progress, and failures to whoever wants to go on after one."""

    def __init__(self, progress: Progress | None, failed: Failed | None, heard: Listener | None) -> None:
        self._progress = progress
        self._failed = failed
        self._heard = heard

    def finished(self, step: Step, seconds: float, linked: bool) -> None:
        if self._heard:
            self._heard.finished(step, seconds, linked)
        if self._progress:
            self._progress.advance(step.kind, step.label, seconds, linked)

    def failed(self, failure: Failure) -> None:
        if self._failed is None:
            raise failure.error()
        self._failed(failure)


def compute(
    steps: Sequence[Step],
    context: Context,
    store: Store,
    read: Callable[[], Found],
    *,
    workers: Workers | None = None,
    progress: Progress | None = None,
    failed: Failed | None = None,
    but: Collection[str] = (),
    heard: Listener | None = None,
) -> Found:
    """Bring the steps, inputs first, to the store; what ``read`` then gets from there.

    Args:
        workers: who computes; this process without.
        failed: told of every step that fails; all that does not build on one is computed. Without it, the first
            failure is raised.
        but: steps that are not tried, as they failed before, or build on one that did.
        heard: told of every finished step, too.
    """
    if progress:
        progress.start(len(steps), sum(step.id in store for step in steps))
    lost = set(but)

    def noted(failure: Failure) -> None:
        lost.update(failure.dropped)
        assert failed is not None
        failed(failure)

    try:
        while True:
            if any(step.id not in store and step.id not in lost for step in steps):
                told = _Told(progress, noted if failed else None, heard)
                (workers or Alone()).runner(context).run([s for s in steps if s.id not in lost], store, told)
            # Reading may find a damaged result, which is put aside then, so that the next pass computes it.
            with contextlib.suppress(DamagedResult):
                return read()
    finally:
        if progress:
            progress.finish()
