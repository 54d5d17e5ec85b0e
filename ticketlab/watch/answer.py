"""What a study or a table says so far, worked out now and then: it must not cost more than the looking is worth."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ticketlab.errors import InputError
from ticketlab.experiment.prepared import RESULTS
from ticketlab.experiment.results import collect
from ticketlab.experiment.store import DamagedResult
from ticketlab.watch.readonly import ReadOnly
from ticketlab.watch.wanted import Wanted

# An answer that took a second is worked out again after so many.
_REST = 20


class Answers:
    """The last answer, and when another one may be worked out.

    Args:
        clock: seconds, for tests.
    """

    def __init__(self, folder: Path, store: ReadOnly, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._store = store
        self._clock = clock
        self._said, self._of, self._next = "", -1, 0.0

    def __call__(self, wanted: Wanted, done: int, ended: bool) -> str:
        """In words, or "" if there is none. ``ended``: the last answer, which is never an old one."""
        if done != self._of and (ended or self._clock() >= self._next):
            began = self._clock()
            self._said, self._of = self._work_out(wanted, done), done
            self._next = self._clock() + _REST * (self._clock() - began)
        return self._said

    def _work_out(self, wanted: Wanted, done: int) -> str:
        if wanted.tables:
            return "\n".join(filter(None, (_claims(self._folder, name) for name in wanted.tables)))
        if done == len(wanted.steps) and (said := self._written(done)):
            return said
        if wanted.plan is None or wanted.study is None:
            return ""
        try:
            found = collect(wanted.study, wanted.plan, self._store)
            return str(found["answer"]) if any(row["n"] for row in found["verdicts"]) else ""
        except (DamagedResult, InputError):
            # What is damaged is computed again; until then there is no answer.
            return self._said

    def _written(self, steps: int) -> str:
        """The answer of the run itself, if it has written one on so many steps."""
        try:
            found = json.loads((self._folder / RESULTS).read_text())
            return str(found["answer"]) if found["complete"] and found["steps_total"] == steps else ""
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return ""


def _claims(folder: Path, name: str) -> str:
    """How many of a table's claims hold; "" if the table or its records cannot be read."""
    from ticketlab.reproduce import records
    from ticketlab.reproduce.compare import findings
    from ticketlab.reproduce.protocol import sift
    from ticketlab.reproduce.published import Figures
    from ticketlab.reproduce.table import load

    title, _, protocol = name.rpartition(" ")
    try:
        table = load(title, protocol == "quick")
        kept = sift(table, records.read(folder, table.name, protocol)).kept
        found = Counter(finding.holds for finding in findings(table, Figures.load(table), kept))
    except InputError:
        return ""
    if not found:
        return ""
    return f"{name}: of {sum(found.values())} claims {found[True]} hold, {found[False]} do not, {found[None]} are open."
