"""The look itself: what a folder needs, what its store has of it by now, and what runs."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from ticketlab.experiment.arms import Plan
from ticketlab.experiment.claims import Claim, read_claims
from ticketlab.experiment.place import place_of
from ticketlab.experiment.prepared import FAILED
from ticketlab.experiment.step import REVISIONS
from ticketlab.watch.answer import Answers
from ticketlab.watch.left import Records, at_once, left
from ticketlab.watch.readonly import ReadOnly
from ticketlab.watch.status import Failed, Finished, Status
from ticketlab.watch.wanted import Wanted, Wants

# Of the trainings that were finished last, as many as anybody can read at once.
_LATEST = 10


class Watch:
    """Looks at a folder again and again; what was seen once is not read again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._place: str | Path | None = None

    def look(self) -> Status | None:
        """How it stands now; None if nothing has begun in the folder.

        Raises:
            InputError: the study cannot be read.
            OSError: the store cannot be reached.
        """
        place = place_of(self._folder)
        if place != self._place:
            # A study that is given a store says so when it begins.
            self._place, self._store = place, ReadOnly(place)
            self._wants, self._answers = Wants(self._folder, self._store), Answers(self._folder, self._store)
        # What runs is read first: what ends in between is then seen as finished, never as neither.
        claims = [_sane(c) for c in read_claims(self._store) if math.isfinite(c.began) and math.isfinite(c.beat)]
        self._store.look()
        wanted = self._wants.read()
        return None if wanted is None else self._status(self._store, wanted, claims)

    def _status(self, store: ReadOnly, wanted: Wanted, claims: list[Claim]) -> Status:
        now = time.time()
        done = {step: store.record(step) for step in wanted.steps if step in store}
        todo = wanted.steps - done.keys()
        claims = sorted((c for c in claims if c.step in todo), key=lambda c: (c.began, c.label))
        running = tuple(claim for claim in claims if claim.alive)
        again = {claim.step for claim in running}
        failed = tuple(f for f in _failed(self._folder) if f.step in todo and f.step not in again)
        blocked = _blocked(wanted.plan, {f.step for f in failed}, todo)
        planned = wanted.plan.steps if wanted.plan else None
        ended = len(todo) <= blocked and not running
        return Status(
            title=wanted.title,
            at=now,
            began=wanted.began if wanted.began is not None else _first(done),
            done=len(done),
            total=len(wanted.steps),
            blocked=blocked,
            damaged=sum(map(store.damaged, todo)),
            kinds=_kinds(wanted.plan, done),
            running=running,
            lost=tuple(claim for claim in claims if not claim.alive and claim.step not in again),
            latest=_latest(done),
            failed=failed,
            seconds=sum(float(record["seconds"]) for record in done.values()),
            left=left(todo, planned, done, running, now),
            workers=at_once(running, done),
            command=wanted.study.commands[-1] if wanted.study and wanted.study.commands else "",
            answer=self._answers(wanted, len(done), ended),
        )


def _sane(claim: Claim) -> Claim:
    """A claim with what it says in numbers that can be shown: others write it, too."""
    said = claim.progress or {}
    return replace(claim, progress={k: v for k, v in said.items() if isinstance(v, (int, float)) and abs(v) < 1e15})


def _kinds(plan: Plan | None, done: Records) -> dict[str, tuple[int, int | None]]:
    have = Counter(record["kind"] for record in done.values())
    if plan is None:
        return {kind: (have[kind], None) for kind in REVISIONS if have[kind]}
    will = Counter(step.kind for step in plan.steps.values())
    return {kind: (have[kind], will[kind]) for kind in REVISIONS if will[kind]}


def _first(done: Records) -> float | None:
    """When the first of the finished steps began."""
    return min((float(r["finished"]) - float(r["seconds"]) for r in done.values()), default=None)


def _latest(done: Records) -> tuple[Finished, ...]:
    trained = sorted((r for r in done.values() if r["kind"] == "train"), key=lambda r: -float(r["finished"]))
    return tuple(
        Finished(str(r["id"]), str(r["label"]), r["facts"].get("accuracy"), float(r["seconds"]), float(r["finished"]))
        for r in trained[:_LATEST]
    )


def _failed(folder: Path) -> list[Failed]:
    """What failed in the last run; nothing if that cannot be read."""
    try:
        entries = json.loads((folder / FAILED).read_text())["failed"]
        return [Failed(*(str(entry[key]) for key in ("step", "label", "kind", "error"))) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def _blocked(plan: Plan | None, failed: Collection[str], todo: Collection[str]) -> int:
    """How many of the missing steps failed or build on one that did."""
    if plan is None or not failed:
        return len(failed)
    stuck: set[str] = set()
    # In an order in which they can run: inputs first.
    for step_id, step in plan.steps.items():
        if step_id in failed or any(i in stuck for i in step.inputs.values()):
            stuck.add(step_id)
    return len(stuck & set(todo))
