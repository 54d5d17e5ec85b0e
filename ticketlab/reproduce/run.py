"""Running a table: cell after cell into one store, with a record of every training that is finished."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

from ticketlab.experiment.compute import Progress, compute
from ticketlab.experiment.plan import Trained
from ticketlab.experiment.provenance import provenance
from ticketlab.experiment.store import Store
from ticketlab.reproduce import records
from ticketlab.reproduce.cells import Cell
from ticketlab.reproduce.prepare import Group
from ticketlab.reproduce.records import Control, DataFacts, ModelFacts, Record
from ticketlab.reproduce.table import DENSE, Table


def store_of(folder: Path) -> Store:
    """Where a table's steps are kept. Tables with one folder share what they have in common."""
    return Store(folder / "store")


def run(
    table: Table, groups: Sequence[Group], folder: Path, *, seeds: int, jobs: int, progress: Progress | None = None
) -> None:
    """Train what is missing: the first seed of every cell before the second of any, groups and cells in their order.

    Whenever it is stopped, the same call goes on from there: finished trainings are kept, and an unfinished one goes
    on from its last checkpoint. Records are written as trainings are finished, and again for those of an earlier call.
    """
    store = store_of(folder)
    every = {step.id for group in groups for seed in range(seeds) for step in group.steps(seed)}
    shown = _Shown(progress)
    if progress:
        progress.start(len(every), sum(step in store for step in every))
    try:
        write_records(table, groups, folder)
        for seed in range(seeds):
            for group in groups:
                compute(group.steps(seed), group.ground.context, store, lambda: None, jobs=jobs, progress=shown)
                write_records(table, [group], folder)
    finally:
        # A stop from the keyboard comes in the middle of a group.
        write_records(table, groups, folder)
        if progress:
            progress.finish()


def write_records(table: Table, groups: Sequence[Group], folder: Path) -> None:
    """Write a record of every finished training that has none."""
    store = store_of(folder)
    for group in groups:
        for cell, seed, trained in _finished(group, store):
            records.write(folder, _record(table, group, cell, seed, trained, store))


def _finished(group: Group, store: Store) -> Iterator[tuple[Cell, int, Trained]]:
    for (cell, seed), trained in group.trained.items():
        if trained.final in store and (trained.control is None or trained.control in store):
            yield cell, seed, trained


def _record(table: Table, group: Group, cell: Cell, seed: int, trained: Trained, store: Store) -> Record:
    facts = store.facts(trained.final) or {}
    row = next((row for row in table.rows if row.name == cell.row), None)
    conditions = group.ground.conditions
    data, model = conditions.data, conditions.model
    control = store.facts(trained.control) if trained.control else None
    return Record(
        table=table.name,
        protocol="quick" if table.quick else "paper",
        dataset=cell.dataset,
        network=cell.network,
        row=cell.row,
        sparsity=cell.sparsity,
        seed=seed,
        method=row.methods[cell.network] if row else DENSE,
        check=row.check if row else None,
        accuracy=facts["accuracy"],
        best=facts["best"],
        epochs_seen=trained.seen,
        seconds=store.seconds(trained.final),
        exact_sparsity=_removed(trained, store),
        control=Control(passed=control["passed"], summary=control["summary"]) if control else None,
        data=DataFacts(name=data["name"], train=data["train"], test=data["test"], fingerprint=data["fingerprint"]),
        model=ModelFacts(name=model["name"], identity=model["identity"], prunable=model["prunable"]),
        recipe=conditions.recipe,
        numerics=conditions.numerics,
        provenance=provenance(conditions.numerics["device"]),
        finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        step=trained.final,
    )


def _removed(trained: Trained, store: Store) -> float:
    """The fraction removed, counted; 0 without a mask."""
    mask = trained.start.mask
    return 0.0 if mask is None else store.mask(mask).sparsity


class _Shown:
    """One progress over many calls of ``compute``, each of which would begin and end its own."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress

    def start(self, total: int, done: int) -> None:
        """Begun already."""

    def advance(self, kind: str, label: str, seconds: float, linked: bool) -> None:
        """One more step is finished."""
        if self._progress:
            self._progress.advance(kind, label, seconds, linked)

    def finish(self) -> None:
        """Not before the last group's end."""
