"""Running a table: cell after cell into one store, with a record of every training that is finished."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from ticketlab.experiment.arms import Trained
from ticketlab.experiment.compute import Progress, compute
from ticketlab.experiment.estimate import memory_of
from ticketlab.experiment.place import keep_place, place_of
from ticketlab.experiment.provenance import provenance
from ticketlab.experiment.run import Failure, Listener
from ticketlab.experiment.store import DamagedResult, Store
from ticketlab.experiment.upkeep import register
from ticketlab.experiment.where import Where, Workers, check_portable, workers
from ticketlab.logging.listener import listener
from ticketlab.reproduce import records
from ticketlab.reproduce.cells import Cell
from ticketlab.reproduce.prepare import Group
from ticketlab.reproduce.records import Control, DataFacts, ModelFacts, Record
from ticketlab.reproduce.table import DENSE, Table


def store_of(folder: Path, place: str | None = None) -> Store:
    """Where a table's steps are kept. Tables with one folder, or one store, share what they have in common."""
    return Store(place_of(folder, place))


def run(
    table: Table,
    groups: Sequence[Group],
    folder: Path,
    *,
    seeds: int,
    jobs: int | Where,
    progress: Progress | None = None,
    place: str | None = None,
    loggers: Iterable[Any] = (),
) -> list[Failure]:
    """Train what is missing: the first seed of every cell before the second of any, groups and cells in their order.

    Whenever it is stopped, the same call goes on from there: finished trainings are kept, and an unfinished one goes
    on from its last checkpoint. A record is written as soon as a training is finished, and at the start for those
    that an earlier call finished and did not write down. ``loggers`` are told of every training.

    Returns:
        The steps that failed. What does not build on them was computed.
    """
    where, store = Where.of(jobs), store_of(folder, place)
    for group in groups:
        check_portable(group.ground.context, where)
    keep_place(folder, store.place)
    every = {step.id for group in groups for seed in range(seeds) for step in group.steps(seed)}
    register(store, folder, f"{table.name} {_protocol(table)}", every)
    named = {f"{group.dataset}/{group.network}": group.plan for group in groups}
    heard, failures = listener(loggers, named, store), list[Failure]()
    if progress:
        progress.start(len(every), sum(step in store for step in every))
    try:
        for group in groups:
            _write_what_can_be(table, group, sorted(group.trained, key=_by_seed), folder, store)
        with workers(where, max((_memory(group, seeds) for group in groups), default=0)) as crew:
            for seed in range(seeds):
                for group in groups:
                    _compute(table, group, seed, folder, store, crew, progress, failures, heard)
    finally:
        heard.close()
        if progress:
            progress.finish()
    return failures


def _memory(group: Group, seeds: int) -> int:
    """Bytes that a process may need."""
    context = group.ground.context
    steps = [step for seed in range(seeds) for step in group.steps(seed)]
    return memory_of(steps, group.ground.conditions, context).total(context.width)


def _compute(
    table: Table,
    group: Group,
    seed: int,
    folder: Path,
    store: Store,
    crew: Workers,
    progress: Progress | None,
    failures: list[Failure],
    heard: Listener,
) -> None:
    """Train the cells of one group for one seed."""
    places = [(cell, seed) for cell in group.cells]

    def read() -> None:
        for place in places:
            _write(table, group, place, folder, store)

    shown = _Shown(table, group, places, folder, store, progress)
    lost = {step for failure in failures for step in failure.dropped}
    steps = [step for step in group.steps(seed) if step.id not in lost]
    compute(
        steps,
        group.ground.context,
        store,
        read,
        workers=crew,
        progress=shown,
        failed=failures.append,
        heard=heard,
    )


Place = tuple[Cell, int]


def _by_seed(place: Place) -> int:
    return place[1]


def _write_what_can_be(table: Table, group: Group, places: Iterable[Place], folder: Path, store: Store) -> None:
    for place in places:
        # What is damaged, and so put aside, is computed again in its turn.
        with suppress(DamagedResult, KeyError):
            _write(table, group, place, folder, store)


def _write(table: Table, group: Group, place: Place, folder: Path, store: Store) -> None:
    """Write a record of a training, if it is finished and there is none.

    Raises:
        DamagedResult: what it is made from is not as it was written.
    """
    cell, trained = place[0], group.trained[place]
    key = (table.name, _protocol(table), cell.dataset, cell.network, cell.row, cell.sparsity, place[1], trained.final)
    if records.there(folder, key):
        return
    if trained.final in store and (trained.control is None or trained.control in store):
        records.write(folder, _record(table, group, *place, trained, store))


def _protocol(table: Table) -> Literal["quick", "paper"]:
    return "quick" if table.quick else "paper"


def _record(table: Table, group: Group, cell: Cell, seed: int, trained: Trained, store: Store) -> Record:
    facts, made = store.facts(trained.final) or {}, store.record(store.linked(trained.final) or trained.final)
    row = next((row for row in table.rows if row.name == cell.row), None)
    conditions = group.ground.conditions
    data, model = conditions.data, conditions.model
    control = store.facts(trained.control) if trained.control else None
    return Record(
        table=table.name,
        protocol=_protocol(table),
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
        seconds=store.seconds(store.linked(trained.final) or trained.final),
        exact_sparsity=_removed(trained, store),
        control=Control(passed=control["passed"], summary=control["summary"]) if control else None,
        data=DataFacts(name=data["name"], train=data["train"], test=data["test"], fingerprint=data["fingerprint"]),
        model=ModelFacts(name=model["name"], identity=model["identity"], prunable=model["prunable"]),
        recipe=conditions.recipe,
        numerics=conditions.numerics,
        # Of the training, whenever and wherever it was; steps of earlier versions do not say.
        provenance=made.get("provenance") or provenance(conditions.numerics["device"]),
        finished=datetime.fromtimestamp(made["finished"], timezone.utc).isoformat(timespec="seconds"),
        step=trained.final,
        per_class=table.per_class if _scored(group, trained) else None,
    )


def _scored(group: Group, trained: Trained) -> bool:
    """Whether scores on images had a part in it."""
    return any("per_class" in step.params for step in group.plan.ancestors([trained.final]))


def _removed(trained: Trained, store: Store) -> float:
    """The fraction removed, counted; 0 without a mask."""
    mask = trained.start.mask
    return 0.0 if mask is None else store.mask(mask).sparsity


class _Shown:
    """One progress over many calls of ``compute``, each of which would begin and end its own; writes records too."""

    def __init__(
        self, table: Table, group: Group, places: list[Place], folder: Path, store: Store, progress: Progress | None
    ) -> None:
        self._written = table, group, folder, store
        self._progress = progress
        self._final = {place: group.plan.steps[group.trained[place].final].label for place in places}
        # The store must not be asked for what a worker may be writing at this moment.
        self._trained = {self._final[place] for place in places if group.trained[place].final in store}

    def start(self, total: int, done: int) -> None:
        """Begun already."""

    def advance(self, kind: str, label: str, seconds: float, linked: bool) -> None:
        """One more step is finished: whoever looks in from outside sees it now, not when the whole group is done."""
        if self._progress:
            self._progress.advance(kind, label, seconds, linked)
        if kind == "train":
            self._trained.add(label)
        if kind in ("train", "control"):
            table, group, folder, store = self._written
            ready = [place for place, final in self._final.items() if final in self._trained]
            _write_what_can_be(table, group, ready, folder, store)

    def finish(self) -> None:
        """Not before the last group's end."""
