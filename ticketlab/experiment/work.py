"""What one process does with a pack of steps: claim, compute, store; and what became of each."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from ticketlab.errors import InputError
from ticketlab.experiment.claims import Claims
from ticketlab.experiment.context import Context
from ticketlab.experiment.execute import execute, execute_pack, forget_unfinished
from ticketlab.experiment.provenance import provenance
from ticketlab.experiment.step import Step
from ticketlab.experiment.store import DamagedResult, Store, Unstorable

# Errors of the surroundings, not of the step: a network file system that hiccups, memory that another process takes.
PASSING = (OSError, MemoryError)
TRIES = 3


@dataclass(frozen=True)
class Outcome:
    """What became of a step.

    Attributes:
        state: "computed"; "linked" to a step of the same contents; "there": another run has finished it; "busy":
            another run computes it now; "damaged": an input was, and is put aside; "failed"; or "unstorable".
        seconds: the step's share of the time.
        text: of an error, or the id of a damaged input.
        traceback: of a step that failed.
        input_error: whether it failed by an :class:`InputError`.
        error: the exception itself, in the process where it was raised.
    """

    state: Literal["computed", "linked", "there", "busy", "damaged", "failed", "unstorable"]
    seconds: float = 0.0
    text: str = ""
    traceback: str = ""
    input_error: bool = False
    error: Exception | None = field(default=None, compare=False)


def perform(
    pack: Sequence[Step], keys: Sequence[str], context: Context, store: Store, claims: Claims, tries: int = TRIES
) -> list[Outcome]:
    """Compute a pack of steps whose inputs are finished, but for those that are there or under way elsewhere.

    Args:
        keys: the steps' identities by the contents of their inputs.
        tries: how often an error of the surroundings is met before the step counts as failed.

    Raises:
        OSError, MemoryError: with ``tries`` of 0, for who tries again elsewhere.
    """
    found: dict[str, Outcome] = {}
    taken = []
    try:
        for step, key in zip(pack, keys, strict=True):
            if not claims.take(key, step):
                found[step.id] = Outcome("busy")
                continue
            taken.append(key)
            # Looked at after the claim: another run may have finished it just before.
            if step.id in store:
                found[step.id] = Outcome("there")
            elif other := store.same_content(key):
                store.link(step, other, key)
                found[step.id] = Outcome("linked")
        rest = [(step, key) for step, key in zip(pack, keys, strict=True) if step.id not in found]
        if rest:
            found |= _outcomes(rest, context, store, claims, tries)
    except Unstorable as error:
        found |= {step.id: Outcome("unstorable", text=str(error)) for step in pack if step.id not in found}
    finally:
        claims.release(taken)
    return [found[step.id] for step in pack]


def _outcomes(
    rest: Sequence[tuple[Step, str]], context: Context, store: Store, claims: Claims, tries: int
) -> dict[str, Outcome]:
    outcome = _tried(rest, context, store, claims, tries)
    if outcome.state == "failed" and len(rest) > 1:
        # One of them may be the cause: the others must not suffer.
        return {one[0].id: _tried([one], context, store, claims, tries) for one in rest}
    return {step.id: outcome for step, _ in rest}


def _tried(rest: Sequence[tuple[Step, str]], context: Context, store: Store, claims: Claims, tries: int) -> Outcome:
    while True:
        started = time.perf_counter()
        try:
            with _telling(context, claims):
                _compute(rest, context, store, started)
            return Outcome("computed", (time.perf_counter() - started) / len(rest))
        except DamagedResult as damaged:
            return Outcome("damaged", text=str(damaged))
        except Unstorable:
            raise
        except PASSING as error:
            tries -= 1
            if tries < 0:
                raise
            if tries == 0:
                return failed(error)
        except Exception as error:
            return failed(error)


def failed(error: Exception) -> Outcome:
    """A step that failed, as this exception says."""
    told = "".join(traceback.format_exception(error))
    return Outcome("failed", 0.0, f"{error}" or type(error).__name__, told, isinstance(error, InputError), error)


@contextmanager
def _telling(context: Context, claims: Claims) -> Iterator[None]:
    context.tell = claims.note
    try:
        yield
    finally:
        context.tell = None


def _compute(rest: Sequence[tuple[Step, str]], context: Context, store: Store, started: float) -> None:
    steps = [step for step, _ in rest]
    results = execute_pack(steps, context, store) if len(steps) > 1 else [execute(steps[0], context, store)]
    seconds = (time.perf_counter() - started) / len(steps)
    for (step, key), result in zip(rest, results, strict=True):
        store.put(step, result, seconds, key, provenance(context.device))
    forget_unfinished(steps, store)
