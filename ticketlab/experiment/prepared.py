"""A study that is ready to run: it runs, resumes, and writes what it found; and reading that again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ticketlab.errors import InputError
from ticketlab.experiment import study as studies
from ticketlab.experiment.arms import DENSE, ORIGINAL, Plan
from ticketlab.experiment.compute import Progress, compute
from ticketlab.experiment.context import Context
from ticketlab.experiment.estimate import Estimate, check_room, estimate, memory_of
from ticketlab.experiment.looks import current, following, most
from ticketlab.experiment.place import keep_place, place_of
from ticketlab.experiment.results import as_json, collect
from ticketlab.experiment.run import Failure, Listener, StepError
from ticketlab.experiment.store import DamagedResult, Store
from ticketlab.experiment.study import Study
from ticketlab.experiment.upkeep import register
from ticketlab.experiment.where import Where, Workers, check_portable, workers
from ticketlab.logging.listener import listener
from ticketlab.methods import Method
from ticketlab.packing import write_atomically
from ticketlab.spec import no_code

RESULTS, FAILED = "results.json", "failed.json"


@dataclass
class Prepared:
    """A study that could start: everything is checked, nothing has run."""

    study: Study
    plan: Plan
    context: Context
    folder: Path
    methods: dict[str, Method]
    before: Study | None = None
    place: str | Path | None = None

    @property
    def store(self) -> Store:
        """The study's store."""
        return Store(self.place if self.place is not None else place_of(self.folder))

    def estimate(self, jobs: int) -> Estimate:
        """What it will take; until decided, what the first look will."""
        return estimate(self.plan.steps.values(), self.study, self.context, self.store, jobs)

    def estimate_of_most(self, jobs: int) -> Estimate:
        """What it will take at most: every comparison taken to the last look."""
        steps = most(self.study, self.plan, self.methods).steps.values()
        return estimate(steps, self.study, self.context, self.store, jobs)

    def run(
        self, jobs: int | Where = 1, progress: Progress | None = None, loggers: Iterable[Any] = ()
    ) -> dict[str, Any]:
        """Compute what is missing, and the results document.

        Args:
            jobs: worker processes of this machine, or where else it is computed.
            loggers: told of every finished training; see ``ticketlab.logging``.
        """
        where, store = Where.of(jobs), self.store
        check_portable(self.context, where)
        steps = self.plan.steps.values()
        if not where.elsewhere:
            check_room(steps, self.study, self.context, where.jobs)
        self._check_comparisons()
        heard = listener(loggers, {}, store)
        self.study.save(self.folder)
        keep_place(self.folder, store.place)
        untrained = self._untrained(store)
        planned = current(self.study, store, self.methods, first=self.plan)
        failures: list[Failure] = []
        try:
            with workers(where, memory_of(steps, self.study, self.context).total(self.context.width)) as crew:
                while True:
                    register(store, self.folder, "study", planned.steps)
                    heard.add(f"{self.study.data['name']}/{self.study.model['name']}", planned)
                    found = self._look(planned, store, crew, progress, failures, heard)
                    if not isinstance(found, Plan):
                        break
                    planned = found
            found["failed"] = _told(self.folder, failures)
            self._withdraw_what_cannot_be(planned, failures)
            write_atomically(self.folder / RESULTS, as_json(found).encode())
            return found
        except (InputError, StepError):
            # A method that fails before anything was trained for it has no place in the study: it would fail for ever.
            if self._untrained(store) == untrained:
                self._withdraw()
            raise
        finally:
            heard.close()

    def _look(
        self,
        planned: Plan,
        store: Store,
        crew: Workers,
        progress: Progress | None,
        failures: list[Failure],
        heard: Listener,
    ) -> dict[str, Any] | Plan:
        """Compute what one look lacks: the results, or the plan of the next look if any comparison goes on."""

        def read() -> dict[str, Any] | Plan:
            after = following(self.study, planned, store, self.methods, lost_to(failures))
            return collect(self.study, planned, store, self.methods) if after is None else after

        before = planned.finished(store)

        def failed(failure: Failure) -> None:
            failures.append(failure)
            if not planned.comparable(lost_to(failures)) - before:
                # Nothing is left to find out: what failed is said at once.
                raise failures[0].error()

        return compute(
            list(planned.ordered()),
            self.context,
            store,
            read,
            workers=crew,
            progress=progress,
            failed=failed,
            but=lost_to(failures),
            heard=heard,
        )

    def _check_comparisons(self) -> None:
        if all(arm.check in (ORIGINAL, DENSE) for arm in self.plan.arms):
            reasons = "; ".join(f"{e['method']}, {e['check']}: {e['why']}" for e in self.plan.not_applicable[:5])
            raise InputError(f"asked for a study, got nothing to compare. Not applicable: {reasons}.")

    def _untrained(self, store: Store) -> int:
        return sum(step.kind == "train" and step.id not in store for step in self.plan.steps.values())

    def _withdraw_what_cannot_be(self, planned: Plan, failures: Sequence[Failure]) -> None:
        """Take new methods of which nothing can come out of the study again: they would fail in it for ever."""
        had = {method for method, _, _ in planned.comparable(())}
        left = {method for method, _, _ in planned.comparable(lost_to(failures))}
        kept = {*left, *(self.before.methods if self.before else ())}
        methods = tuple(m for m in self.study.methods if m in kept or m not in had)
        if failures and methods:
            replace(self.study, methods=methods).save(self.folder)

    def _withdraw(self) -> None:
        if self.before is not None:
            self.before.save(self.folder)
        else:
            studies.forget(self.folder)


def lost_to(failures: Iterable[Failure]) -> set[str]:
    """The steps that failed, and all that build on them."""
    return {step for failure in failures for step in failure.dropped}


def _lost(folder: Path) -> set[str]:
    """The steps that the last run could not compute, as it wrote them down."""
    try:
        return {str(step) for step in json.loads((folder / FAILED).read_text())["lost"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def _told(folder: Path, failures: Sequence[Failure]) -> list[dict[str, str]]:
    """Failures as plain values, which are kept beside the study until a run has none."""
    told = [{"step": f.step.id, "kind": f.step.kind, "label": f.step.label, "error": f.text} for f in failures]
    if told:
        held = {"failed": told, "lost": sorted(lost_to(failures))}
        write_atomically(folder / FAILED, json.dumps(held, indent=1).encode())
    else:
        (folder / FAILED).unlink(missing_ok=True)
    return told


def reopen(folder: Path, own_code: bool = False) -> tuple[Study, dict[str, Any]]:
    """A study as its folder has it, and what its finished steps say. Needs neither the data nor the model.

    A complete run wrote its results, and those are shown: a score of the user's own may have been edited since, or may
    not be found from here.

    Args:
        own_code: import scores ("module:function") that the study names; it may be somebody else's.

    Raises:
        InputError: no study is there, or it never ran to its end and one of its methods cannot be found, or is code
            that may not be imported.
    """
    study = Study.load(folder)
    written = _written(folder)
    with contextlib.suppress(KeyError, TypeError, AttributeError):
        if (
            written.get("complete")
            and (study.until_decided or written["statistics"]["seeds"] == study.seeds)
            and all(_asked(written, part) == list(getattr(study, part)) for part in ("methods", "checks", "sparsities"))
        ):
            return study, written
    store = Store(place_of(folder))
    with contextlib.nullcontext() if own_code else no_code():
        while True:
            # A damaged result is put aside and counts as not finished.
            with contextlib.suppress(DamagedResult):
                return study, collect(study, current(study, store, lost=_lost(folder)), store)


def _asked(written: dict[str, Any], part: str) -> list[Any]:
    """The methods, checks or sparsities that a document is about, as the study names them."""
    names = {"methods": "label", "checks": "name"}
    return [entry[names[part]] if part in names else entry for entry in written[part]]


def _written(folder: Path) -> dict[str, Any]:
    """The results that the last run wrote; nothing if there are none, or none that can be read."""
    try:
        written = json.loads((folder / RESULTS).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return written if isinstance(written, dict) else {}
