"""Bringing results of several machines together: one store takes in what another one has, after checking all of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ticketlab.errors import InputError
from ticketlab.experiment.place import OWN, place_of
from ticketlab.experiment.store import CONTENTS, STEPS, LookingStore, Store, path_of
from ticketlab.experiment.upkeep import whole_step
from ticketlab.reproduce import records


@dataclass(frozen=True)
class Imported:
    """What became of a source's results; steps by their ids, damaged records by their files.

    Attributes:
        new: steps that were copied.
        known: steps that were there, with equal contents.
        damaged: what does not have the hashes that were written with it. It was not copied, and nothing was mended.
        differing: steps that were there with other contents, and stayed, and those that share the result of such a
            one. Between machines of equal numerics that is a finding. Steps that build on it were copied as they are.
        records: how many finished trainings were copied, as records of a table.
    """

    new: tuple[str, ...]
    known: tuple[str, ...]
    damaged: tuple[str, ...]
    differing: tuple[str, ...]
    records: int


def import_store(source: Path, into: Path) -> Imported:
    """Copy every finished step and every record that ``into`` lacks. Nothing in ``source`` is changed.

    Args:
        source: a folder with a ``store`` in it (a study's or a table's), or a store itself, which has no records.
        into: the same; a folder that is not there yet becomes one with a ``store``.

    Raises:
        InputError: no store is in ``source``, both are one, there is no place for the records, or ``into`` cannot be
            written. Each step that was copied before is whole, and asking again goes on from there.
    """
    theirs, ours = check_import(source, into)
    imported = _Import(_Source(theirs.store), Store(ours.store))
    imported.steps()
    imported.contents()
    copied = 0
    for path in theirs.records_there():
        try:
            record = records.read_file(path)
        except InputError:
            imported.damaged.append(str(path.relative_to(theirs.folder)))
            continue
        if not records.there(ours.folder, record.key):
            records.write(ours.folder, record)
            copied += 1
        elif records.read_file(records.place(ours.folder, record)).accuracy != record.accuracy:
            imported.differing.append(str(path.relative_to(theirs.folder)))
    return Imported(
        new=tuple(imported.new),
        known=tuple(imported.known),
        damaged=tuple(imported.damaged),
        differing=tuple(imported.differing),
        records=copied,
    )


@dataclass(frozen=True)
class Place:
    """Where a folder has its store and its records; a store itself has no place for records."""

    folder: Path
    store: Path

    def records_there(self) -> list[Path]:
        """The files of all records."""
        if self.folder == self.store:
            return []
        return sorted(self.folder.glob("records/**/[!.]*.json"))


def check_import(source: Path, into: Path) -> tuple[Place, Place]:
    """Where everything is, after checking that an import could begin; nothing is written.

    Raises:
        InputError: as for ``import_store``.
    """
    theirs, ours = _place(source), _place(into)
    asked = f"asked to import {source} into {into}, got"
    if not theirs.store.is_dir():
        raise InputError(f"{asked} no store in {source}: name the folder of a study or a table.")
    for place in (ours.folder, ours.store):
        if place.exists() and not place.is_dir():
            raise InputError(f"{asked} {place}, which is not a folder.")
    one, other = theirs.store.resolve(), ours.store.resolve()
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise InputError(f"{asked} one and the same store. Use another --into.")
    if ours.folder == ours.store and theirs.records_there():
        raise InputError(f"{asked} a store alone, where records have no place: name the folder that holds it.")
    return theirs, ours


def _place(folder: Path) -> Place:
    found = place_of(folder)
    if "://" in str(found):
        raise InputError(
            f"asked for the store of {folder}, got one at {found}. Export it first, and import the archive."
        )
    inner = Path(found)
    itself = not inner.exists() and (folder.name == OWN or (folder / STEPS).is_dir())
    return Place(folder, folder if itself else inner)


class _Source(LookingStore):
    """Where steps come from; nothing in it is changed."""

    def contents(self) -> Iterator[tuple[str, str]]:
        """Which contents were computed by which step."""
        for name in self.files.files(CONTENTS):
            with suppress(OSError, ValueError):
                yield name.rpartition("/")[2], self.files.read(name).decode().strip()


class _Import:
    """One source on its way into one store."""

    def __init__(self, source: _Source, into: Store) -> None:
        self._source = source
        self._into = into
        self.new: list[str] = []
        self.known: list[str] = []
        self.damaged: list[str] = []
        self.differing: list[str] = []

    def steps(self) -> None:
        """All steps; those that share another one's result after that one, without which they are nothing."""
        for step_id in sorted(self._source.ids(), key=self._shares):
            try:
                self._take(step_id)
            except InputError:
                # A ValueError too, but of the place that takes the steps in: the source is not to blame.
                raise
            # A chain of shared results that never ends is damage too.
            except (KeyError, OSError, ValueError, RecursionError):
                self.damaged.append(step_id)

    def _shares(self, step_id: str) -> bool:
        with suppress(KeyError, RecursionError):
            return self._source.linked(step_id) is not None
        return False

    def _take(self, step_id: str) -> None:
        """Copy a step, or find out why not; KeyError, OSError, ValueError or RecursionError if it is damaged."""
        digests, origin = self._source.digests(step_id), self._source.linked(step_id)
        if step_id in self._into:
            (self.known if self._into.digests(step_id) == digests else self.differing).append(step_id)
        elif origin and self._into.digests(origin) != digests:
            # What it shares is not what is there: alone it would be the source's, joined it would be another's.
            self.differing.append(step_id)
        else:
            # What is checked is what is written: nothing is read twice.
            files = whole_step(self._source, path_of(step_id))
            with self._writing():
                self._into.files.put_folder(path_of(step_id), files)
            self.new.append(step_id)

    def contents(self) -> None:
        """What tells a run that another step has computed the same already."""
        taken = {*self.new, *self.known}
        for key, step_id in self._source.contents():
            if step_id in taken and self._into.same_content(key) is None:
                with self._writing():
                    self._into.files.write(f"{CONTENTS}/{key}", step_id.encode())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            text = f"asked to store a result under {self._into.place}, got {error.strerror or error}."
            raise InputError(text) from error
