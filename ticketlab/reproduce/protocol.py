"""Which records are of a table as it is now. What was trained otherwise is left out, and it is said why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

from ticketlab.checks import resolve as resolve_check
from ticketlab.data.names import DATASETS
from ticketlab.engine.recipe import Recipe, default_for
from ticketlab.errors import InputError
from ticketlab.experiment.factory import Factory
from ticketlab.experiment.plan import method_of
from ticketlab.reproduce.cells import Cell, cells
from ticketlab.reproduce.prepare import Group
from ticketlab.reproduce.records import Record
from ticketlab.reproduce.table import DENSE, Table


@dataclass(frozen=True)
class Sifted:
    """The records of a table as it is now, and how many were left out, by the reason."""

    kept: list[Record]
    left_out: Mapping[str, int] = field(default_factory=dict)


def sift(table: Table, found: Iterable[Record], precision: str | None = None, groups: Sequence[Group] = ()) -> Sifted:
    """Keep the records that were made as the table says: cell, method, check, model, data, recipe and precision.

    A table's file may be edited, a name used twice, a record come from another version: what is averaged in one cell
    must be repetitions of one thing. Devices, engines and versions of torch may differ; they are shown.

    Args:
        precision: that of the trainings; the one that most records have if None.
        groups: what is prepared to run here, if anything. Without it, the data's contents are those of most records.
    """
    protocol, there = "quick" if table.quick else "paper", set(cells(table))
    left: Counter[str] = Counter()
    kept = []
    for record in found:
        if (record.table, record.protocol) != (table.name, protocol):
            reason = f"of {record.table}, {'quick' if record.protocol == 'quick' else 'in full'}"
        elif Cell(record.dataset, record.network, record.row, record.sparsity) not in there:
            reason = "cells that the table does not have"
        else:
            reason = _otherwise(table, record)
        if reason:
            left[reason] += 1
        else:
            kept.append(record)
    for keep in (_by_precision(precision), _by_model(table, groups), _by_data(groups)):
        kept = keep(kept, left)
    return Sifted(kept, dict(sorted(left.items())))


_Rule = Callable[[list[Record], "Counter[str]"], list[Record]]


def _otherwise(table: Table, record: Record) -> str:
    """What the table's file says of a record's cell and the record does not have; empty if there is nothing."""
    row = next((row for row in table.rows if row.name == record.row), None)
    method, check = (row.methods[record.network], row.check) if row else (DENSE, None)
    if not _same_method(record.method, method) or not _same_check(record.check, check):
        got = record.method if record.check is None else f"{record.method} under {record.check}"
        return f"{record.row} as {got}"
    if record.model["name"] != table.networks[record.network]:
        return f"model {record.model['name']}, not {table.networks[record.network]}"
    for name, wanted in (("train", table.train), ("test", table.test)):
        got_images = record.data["train"] if name == "train" else record.data["test"]
        if wanted is not None and got_images != wanted:
            return f"{got_images} images to {name}, not {wanted}"
    if record.per_class not in (None, table.per_class):
        return f"{record.per_class} scoring images per class, not {table.per_class}"
    return _other_recipe(record, table.training or default_for(record.dataset))


def _other_recipe(record: Record, wanted: Recipe) -> str:
    try:
        got = Recipe.from_json(record.recipe)
    except (KeyError, TypeError, ValueError):
        return "a recipe of another version"
    differ = [f.name for f in fields(Recipe) if getattr(got, f.name) != getattr(wanted, f.name)]
    return ", ".join(f"{name} {_plain(getattr(got, name))}, not {_plain(getattr(wanted, name))}" for name in differ)


def _plain(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _same_method(one: str, other: str) -> bool:
    """Whether a record's spec means that of the table: neither the order of options nor a spelled-out default counts.

    A record may come from anywhere: code that the table does not name is not imported for it.
    """
    if one == other:
        return True
    if _code(one) - _code(other):
        return False
    try:
        return method_of(one) == method_of(other)
    except InputError:
        return False


def _code(text: str) -> set[str]:
    """What of a method's spec names code: "package:function", as its name or as the value of an option."""
    name, *options = text.split(",")
    values = (option.partition("=")[2].strip().removeprefix("ratios:") for option in options)
    return {value for value in (name.strip(), *values) if ":" in value}


def _same_check(one: str | None, other: str | None) -> bool:
    if one is None or other is None or one == other:
        return one == other
    if _code(one.removeprefix("versus:")) - _code(other.removeprefix("versus:")):
        return False
    try:
        return resolve_check(one).name == resolve_check(other).name
    except InputError:
        return False


def _by_precision(asked: str | None) -> _Rule:
    def keep(found: list[Record], left: Counter[str]) -> list[Record]:
        having = Counter(_precision(record) for record in found)
        wanted = asked or max(having, key=lambda name: (having[name], name), default="")
        for other, number in having.items():
            if other != wanted:
                left[f"in {other}, which --precision {other} shows"] += number
        return [record for record in found if _precision(record) == wanted]

    return keep


def _precision(record: Record) -> str:
    return str(record.numerics.get("precision"))


def _by_model(table: Table, groups: Sequence[Group]) -> _Rule:
    """A model of one name may have another architecture in another version, or in another folder."""
    here = {(g.dataset, g.network): str(g.ground.conditions.model["identity"]) for g in groups}

    def identity(place: tuple[str, str]) -> str | None:
        dataset, network = place
        if place not in here:
            info = DATASETS[dataset]
            try:
                here[place] = Factory(table.networks[network], info.classes, info.shape).identity()
            except InputError:
                # A model of one's own that cannot be imported here.
                return None
        return here[place]

    def keep(found: list[Record], left: Counter[str]) -> list[Record]:
        return _most(
            found, left, lambda r: (r.dataset, r.network), lambda r: r.model["identity"], identity,
            "another version of the model",
        )  # fmt: skip

    return keep


def _by_data(groups: Sequence[Group]) -> _Rule:
    here = {(g.dataset,): str(g.ground.conditions.data["fingerprint"]) for g in groups}

    def keep(found: list[Record], left: Counter[str]) -> list[Record]:
        return _most(
            found, left, lambda r: (r.dataset,), lambda r: r.data["fingerprint"], here.get, "other images"
        )  # fmt: skip

    return keep


def _most(
    found: list[Record],
    left: Counter[str],
    place: Callable[[Record], tuple[str, ...]],
    value: Callable[[Record], str],
    known: Callable[..., str | None],
    reason: str,
) -> list[Record]:
    """Those of the value that is known for their place, or else of the one that most of the place have."""
    having: dict[tuple[str, ...], Counter[str]] = {}
    for record in found:
        having.setdefault(place(record), Counter())[value(record)] += 1
    wanted = {p: known(p) or max(counts, key=lambda v, c=counts: (c[v], v)) for p, counts in having.items()}  # type: ignore[misc]
    kept = [record for record in found if value(record) == wanted[place(record)]]
    if len(found) > len(kept):
        left[reason] += len(found) - len(kept)
    return kept
