"""A study that is ready to run: it runs, resumes, and writes what it found; and reading that again."""

from __future__ import annotations

import contextlib
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ticketlab.errors import InputError
from ticketlab.experiment import study as studies
from ticketlab.experiment.arms import DENSE, ORIGINAL, Plan
from ticketlab.experiment.compute import Progress, compute
from ticketlab.experiment.context import Context
from ticketlab.experiment.estimate import Estimate, check_room, estimate
from ticketlab.experiment.place import keep_place, place_of
from ticketlab.experiment.plan import plan
from ticketlab.experiment.results import as_json, collect
from ticketlab.experiment.store import DamagedResult, Store
from ticketlab.experiment.study import Study
from ticketlab.experiment.upkeep import register
from ticketlab.methods import Method
from ticketlab.packing import write_atomically

RESULTS = "results.json"


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
        """What it will take."""
        return estimate(self.plan.steps.values(), self.study, self.context, self.store, jobs)

    def run(self, jobs: int = 1, progress: Progress | None = None) -> dict[str, Any]:
        """Compute what is missing, and the results document."""
        store = self.store
        check_jobs(jobs)
        _check_portable(self.context, jobs)
        check_room(self.plan.steps.values(), self.study, self.context, jobs)
        self._check_comparisons()
        self.study.save(self.folder)
        keep_place(self.folder, store.place)
        register(store, self.folder, "study", self.plan.steps)
        untrained = self._untrained(store)

        def results() -> dict[str, Any]:
            return collect(self.study, self.plan, store, self.methods)

        try:
            steps = list(self.plan.ordered())
            found = compute(steps, self.context, store, results, jobs=jobs, progress=progress)
            write_atomically(self.folder / RESULTS, as_json(found).encode())
            return found
        except InputError:
            # A method that fails before anything was trained for it has no place in the study: it would fail for ever.
            if self._untrained(store) == untrained:
                self._withdraw()
            raise

    def _check_comparisons(self) -> None:
        if all(arm.check in (ORIGINAL, DENSE) for arm in self.plan.arms):
            reasons = "; ".join(f"{e['method']}, {e['check']}: {e['why']}" for e in self.plan.not_applicable[:5])
            raise InputError(f"asked for a study, got nothing to compare. Not applicable: {reasons}.")

    def _untrained(self, store: Store) -> int:
        return sum(step.kind == "train" and step.id not in store for step in self.plan.steps.values())

    def _withdraw(self) -> None:
        if self.before is not None:
            self.before.save(self.folder)
        else:
            studies.forget(self.folder)


def reopen(folder: Path) -> tuple[Study, dict[str, Any]]:
    """A study as its folder has it, and what its finished steps say. Needs neither the data nor the model.

    A complete run wrote its results, and those are shown: a score of the user's own may have been edited since, or may
    not be found from here.

    Raises:
        InputError: no study is there, or one of its methods cannot be found and it never ran to its end.
    """
    study = Study.load(folder)
    written = _written(folder)
    if (
        written.get("complete")
        and written["statistics"]["seeds"] == study.seeds
        and all(_asked(written, part) == list(getattr(study, part)) for part in ("methods", "checks", "sparsities"))
    ):
        return study, written
    planned, store = plan(study), Store(place_of(folder))
    while True:
        # A damaged result is put aside and counts as not finished.
        with contextlib.suppress(DamagedResult):
            return study, collect(study, planned, store)


def _asked(written: dict[str, Any], part: str) -> list[Any]:
    """The methods, checks or sparsities that a document is about, as the study names them."""
    names = {"methods": "label", "checks": "name"}
    return [entry[names[part]] if part in names else entry for entry in written[part]]


def _written(folder: Path) -> dict[str, Any]:
    """The results that the last run wrote; nothing if there are none, or none that can be read."""
    try:
        written = json.loads((folder / RESULTS).read_text())
    except (OSError, ValueError):
        return {}
    return written if isinstance(written, dict) else {}


def _check_portable(context: Context, jobs: int) -> None:
    """With worker processes, the model's factory and the user's scores must be importable there."""
    if jobs == 1:
        return
    sent = context.__getstate__()
    for what, thing in [("model", context.build), *((f"method {n}", m) for n, m in sent["methods"].items())]:
        try:
            pickle.dumps(thing)
        except Exception as error:
            raise InputError(
                f"asked for {jobs} jobs, got a {what} that cannot be sent to other processes ({error}). "
                "Define it at the top level of a module, or use jobs=1."
            ) from error


def check_jobs(jobs: int) -> None:
    """Refuse a number of processes with which nothing could run."""
    if jobs < 1:
        raise InputError(f"asked for {jobs} jobs, got fewer than one.")
