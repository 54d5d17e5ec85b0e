"""What a folder is about: the study or the tables in it, and the steps that they need."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ticketlab.errors import InputError
from ticketlab.experiment.arms import Plan
from ticketlab.experiment.looks import current
from ticketlab.experiment.place import OWN
from ticketlab.experiment.store import Store
from ticketlab.experiment.study import FILE, Study
from ticketlab.experiment.upkeep import STUDIES, list_of
from ticketlab.spec import no_code


@dataclass(frozen=True)
class Wanted:
    """What is to be computed for a folder.

    Attributes:
        steps: ids.
        began: when it was started, in seconds since 1970, if that is written down.
        study: None for tables.
        plan: of the study; None for tables, and for methods that cannot be found from here.
        tables: "su2020/random-tickets quick".
    """

    title: str
    steps: frozenset[str]
    began: float | None = None
    study: Study | None = None
    plan: Plan | None = None
    tables: tuple[str, ...] = ()


class Wants:
    """Reads what a folder is about again and again: a study may grow while it is looked at."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder = folder
        self._store = store
        self._planned: tuple[Study, Plan | None, InputError | None] | None = None
        # The content of each list and what it says; None for one of another folder, which it stays.
        self._lists: dict[str, tuple[bytes, str, frozenset[str]] | None] = {}

    def read(self) -> Wanted | None:
        """What is to be computed by now; None if nothing has begun there.

        Raises:
            InputError: the study cannot be read, or neither its methods nor the list of its steps can be found.
        """
        listed: dict[str, frozenset[str]] = {}
        for what, steps in self._listed():
            # A folder that was moved has lists of both places.
            listed[what] = listed.get(what, frozenset()) | steps
        if (self._folder / FILE).is_file():
            return self._study(listed.get("study", frozenset()))
        tables = tuple(sorted(what for what in listed if what != "study"))
        if not tables:
            return None
        return Wanted(", ".join(tables), frozenset().union(*(listed[what] for what in tables)), tables=tables)

    def _study(self, listed: frozenset[str]) -> Wanted:
        study = Study.load(self._folder)
        if self._planned is None or self._planned[0] != study or self._goes_on(study):
            self._planned = (study, *self._tried(study))
        _, planned, error = self._planned
        if error is not None and not listed:
            raise error
        if planned is not None and not (planned.steps.keys() <= listed or listed <= planned.steps.keys()):
            # A score of the user's own was edited since the run began: its list says what runs.
            planned = None
        steps = listed if planned is None else frozenset(planned.steps)
        return Wanted(study.title, steps, _seconds(study.created), study, planned)

    def _goes_on(self, study: Study) -> bool:
        """Whether the look that the study was at is taken, so that there may be another one."""
        planned = self._planned[1] if self._planned else None
        return study.until_decided and planned is not None and all(step in self._store for step in planned.steps)

    def _tried(self, study: Study) -> tuple[Plan | None, InputError | None]:
        try:
            # The folder may be somebody else's: then the list of its steps says enough.
            with no_code():
                return current(study, self._store), None
        except InputError as error:
            return None, error

    def _listed(self) -> Iterator[tuple[str, frozenset[str]]]:
        """The lists of steps that this folder's runs left in the store, by what they are about."""
        for name in self._store.files.files(STUDIES):
            before = self._lists.get(name)
            if before is None and name in self._lists:
                continue
            try:
                content = self._store.files.read(name)
                if before is None or before[0] != content:
                    self._lists[name] = self._parsed(name, content)
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                # Read again at the next look.
                continue
            if (found := self._lists[name]) is not None:
                yield found[1:]

    def _parsed(self, name: str, content: bytes) -> tuple[bytes, str, frozenset[str]] | None:
        entry = json.loads(content)
        what = str(entry["what"])
        own = self._store.place == str(self._folder / OWN)
        # A store of its own may have been moved with the folder.
        mine = own or name == list_of(self._folder, what)
        return (content, what, frozenset(map(str, entry["steps"]))) if mine else None


def _seconds(created: str) -> float | None:
    try:
        return datetime.fromisoformat(created).timestamp()
    except ValueError:
        return None
