"""A table that is ready to run: everything is checked and planned, network by network and data set by data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ticketlab.checks import resolve as resolve_check
from ticketlab.data.load import load
from ticketlab.data.types import Data
from ticketlab.errors import InputError
from ticketlab.experiment.arms import Arm, Plan, Trained
from ticketlab.experiment.estimate import check_room
from ticketlab.experiment.groundwork import Groundwork, check_spans, groundwork
from ticketlab.experiment.plan import Planner, method_of
from ticketlab.experiment.settings import asked_engine
from ticketlab.experiment.step import Step
from ticketlab.pruning import planned_budget
from ticketlab.reproduce.cells import Cell
from ticketlab.reproduce.table import Row, Table


@dataclass(frozen=True)
class Group:
    """The cells of one network on one data set: they share data, model and the dense trainings."""

    dataset: str
    network: str
    cells: tuple[Cell, ...]
    ground: Groundwork
    plan: Plan
    trained: dict[tuple[Cell, int], Trained] = field(default_factory=dict)

    def steps(self, seed: int) -> list[Step]:
        """What the cells need for one seed, in an order in which it can run."""
        return self.needed([self.trained[cell, seed] for cell in self.cells])

    def needed(self, trained: Sequence[Trained]) -> list[Step]:
        """What these trainings and the controls of their checks need."""
        return self.plan.ancestors([step for t in trained for step in (t.final, t.control) if step])


def prepare(
    table: Table,
    cells: Sequence[Cell],
    *,
    seeds: int,
    data_dir: str | Path | None,
    device: str = "cpu",
    precision: str = "fp32",
    engine: str | None = None,
    sparse: str = "auto",
    checkpoint_every: float = 60.0,
    jobs: int | None = 1,
) -> list[Group]:
    """Check everything that can be checked, and plan the cells for seeds 0 up to, not including, ``seeds``.

    ``jobs`` processes of this machine must fit into its memory; None: others compute.

    Raises:
        InputError: anything that is wrong with the input, before any training.
    """
    if seeds < 1:
        raise InputError(f"asked for {seeds} seeds, got fewer than one.")
    data: dict[str, Data] = {}
    groups = []
    for dataset, network in dict.fromkeys((cell.dataset, cell.network) for cell in cells):
        if dataset not in data:
            data[dataset] = _loaded(table, dataset, data_dir)
        ground = groundwork(
            table.networks[network],
            data[dataset],
            {},
            recipe=table.training,
            per_class=table.per_class,
            device=device,
            precision=precision,
            engine=asked_engine(engine, sparse),
            every=checkpoint_every,
        )
        chosen = tuple(c for c in cells if (c.dataset, c.network) == (dataset, network))
        groups.append(_planned(table, Group(dataset, network, chosen, ground, Plan()), seeds))
    for group in groups:
        conditions, train = group.ground.conditions, group.ground.context.data.train
        steps = [step for seed in range(seeds) for step in group.steps(seed)]
        check_spans(steps, conditions.training, train)
        if jobs is not None:
            check_room(steps, conditions, group.ground.context, jobs)
    return groups


def _loaded(table: Table, dataset: str, data_dir: str | Path | None) -> Data:
    found = load(dataset, data_dir, table.train, table.test)
    for name, asked, there in (("train", table.train, found.train), ("test", table.test, found.test)):
        if asked is not None and len(there) != asked:
            raise InputError(
                f"asked for {asked} images of {dataset} as {table.path} says ({name}), got a data set of {len(there)}."
            )
    return found


def _planned(table: Table, group: Group, seeds: int) -> Group:
    planner = Planner(group.ground.conditions, {})
    rows = {row.name: row for row in table.rows}
    trained: dict[tuple[Cell, int], Trained] = {}
    for cell in group.cells:
        if cell.sparsity is not None:
            # A budget that cannot be met fails here, not after the training that comes before the pruning.
            method = rows[cell.row].methods[cell.network]
            planned_budget(group.ground.built, *method_of(method), cell.sparsity)
        for seed in range(seeds):
            trained[cell, seed] = _arm(planner, cell, rows, seed)
    return Group(group.dataset, group.network, group.cells, group.ground, planner.plan, trained)


def _arm(planner: Planner, cell: Cell, rows: dict[str, Row], seed: int) -> Trained:
    if cell.sparsity is None:
        return planner.dense(seed)
    row = rows[cell.row]
    method = row.methods[cell.network]
    if row.check is None:
        return planner.original(method, cell.sparsity, seed)
    planner.tampered(method, resolve_check(row.check), cell.sparsity, seed)
    arm = Arm(method, resolve_check(row.check).name, cell.sparsity, seed)
    if arm not in planner.plan.arms:
        why = next(e["why"] for e in planner.plan.not_applicable if (e["method"], e["check"]) == (method, arm.check))
        raise InputError(f"asked for the row {cell.row!r}, got a check that says nothing about {method}: {why}.")
    return planner.plan.arms[arm]
