"""Runners: they take a plan's steps to the store, in this process or on a cluster."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from ticketlab.errors import FailedStep
from ticketlab.experiment.agenda import Agenda, Linked, Pack
from ticketlab.experiment.claims import Claims
from ticketlab.experiment.context import Context
from ticketlab.experiment.interrupt import Interrupt
from ticketlab.experiment.step import Step
from ticketlab.experiment.store import DamagedResult, Store, Unstorable
from ticketlab.experiment.work import Outcome, perform

# Seconds between two looks when all that is left runs elsewhere.
PATIENCE = 0.2


class StepError(Exception):
    """A step failed in another process; the message holds the traceback from there."""


@dataclass(frozen=True)
class Failure:
    """A step that failed, and the steps that cannot be computed for that (itself among them)."""

    step: Step
    text: str
    dropped: tuple[str, ...]
    outcome: Outcome = field(compare=False)

    def error(self) -> Exception:
        """The failure as an exception to raise: the one that was raised, where that is possible."""
        if self.outcome.input_error:
            error = FailedStep(self.text)
            error.__cause__ = self.outcome.error
            return error
        if self.outcome.error is not None:
            return self.outcome.error
        return StepError(f"{self.step.label} failed.\n{self.outcome.traceback or self.text}")


class Listener(Protocol):
    """Hears what a runner does."""

    def finished(self, step: Step, seconds: float, linked: bool) -> None:
        """A step is in the store; ``linked``: another step's result served for it, or another run stored it."""

    def failed(self, failure: Failure) -> None:
        """A step failed. The run goes on with what does not build on it, unless this raises."""


class Runner(Protocol):
    """Brings steps to the store. Results do not depend on the runner."""

    def run(self, steps: Iterable[Step], store: Store, listener: Listener) -> None:
        """Compute every step that the store lacks, inputs first.

        Raises:
            KeyboardInterrupt: it was asked to stop; what ran then is finished, or stopped if it was asked twice.
            Unstorable: results cannot be written.
        """


class InProcess:
    """One step after another, here."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def run(self, steps: Iterable[Step], store: Store, listener: Listener) -> None:
        planned, desk = list(steps), Desk(store, listener)
        claims = Claims(store, uuid.uuid4().hex)
        with Interrupt() as interrupt:
            while True:
                try:
                    self._pass(desk.agenda(planned, self._context.width), desk, store, claims, interrupt)
                    return
                except DamagedResult as damaged:
                    # It was put aside: the next pass computes it again.
                    store.forget(str(damaged))

    def _pass(self, agenda: Agenda, desk: Desk, store: Store, claims: Claims, interrupt: Interrupt) -> None:
        while agenda.left:
            interrupt.check()
            found = agenda.take()
            if found is None:
                time.sleep(PATIENCE)
            elif isinstance(found, Linked):
                desk.link(found)
            else:
                desk.settle(found, perform(*found, self._context, store, claims))
        interrupt.check()


class Desk:
    """What a driver does with what comes back, the same for every runner."""

    def __init__(self, store: Store, listener: Listener) -> None:
        self._store = store
        self._listener = listener
        self._failed: list[str] = []
        self._agenda = Agenda((), store)

    def agenda(self, steps: Iterable[Step], width: int) -> Agenda:
        """What is left to do, without what failed before."""
        self._agenda = Agenda(steps, self._store, width, self._failed)
        return self._agenda

    def link(self, found: Linked) -> None:
        """Write down that a step shares another one's result, unless it has one by now."""
        if found.other != found.step.id:
            self._store.link(found.step, found.other, found.key)
        self._agenda.finished(found.step.id, found.key)
        self._listener.finished(found.step, 0.0, True)

    def settle(self, pack: Pack, outcomes: list[Outcome]) -> None:
        """Take note of what became of a pack.

        Raises:
            DamagedResult: of an input; all else of the pack is settled.
            Unstorable: a result could not be written.
        """
        damaged = ""
        for step, key, outcome in zip(pack.steps, pack.keys, outcomes, strict=True):
            if outcome.state in ("computed", "linked", "there"):
                self._agenda.finished(step.id, key)
                self._listener.finished(step, outcome.seconds, outcome.state != "computed")
            elif outcome.state == "busy":
                self._agenda.postpone(step.id, key)
            elif outcome.state == "failed":
                self._failed.append(step.id)
                dropped = self._agenda.failed(step.id, key)
                self._listener.failed(Failure(step, outcome.text, tuple(dropped), outcome))
            elif outcome.state == "unstorable":
                raise Unstorable(outcome.text)
            else:
                damaged = outcome.text
        if damaged:
            raise DamagedResult(damaged)
