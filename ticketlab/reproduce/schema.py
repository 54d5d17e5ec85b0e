"""What a file may hold, declared as data, and the function that holds a file against it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

from ticketlab.engine.recipe import Recipe
from ticketlab.errors import InputError, unknown


@dataclass(frozen=True)
class Keys:
    """A table with these keys and no others."""

    needed: Mapping[str, Kind]
    optional: Mapping[str, Kind] = field(default_factory=dict)


@dataclass(frozen=True)
class Named:
    """A table whose keys are names of the file's own; at least one."""

    of: Kind


@dataclass(frozen=True)
class Many:
    """A list; `least` is how short it may be."""

    of: Kind
    least: int = 1


@dataclass(frozen=True)
class Either:
    """A value of the one kind or the other."""

    one: Kind
    other: Kind


@dataclass(frozen=True)
class Count:
    """A whole number of at least one."""


Kind: TypeAlias = type | Keys | Named | Many | Either | Count


@dataclass(frozen=True)
class Place:
    """A place in a file, for messages: "recipes/x.toml, rows[2]"; entries count from 0."""

    file: str
    keys: str = ""

    def __str__(self) -> str:
        return f"{self.file}, {self.keys}" if self.keys else self.file

    def at(self, key: str | int) -> Place:
        """The value of a key in this table, or the entry of a number in this list."""
        if isinstance(key, int):
            return Place(self.file, f"{self.keys}[{key}]")
        return Place(self.file, f"{self.keys}.{key}" if self.keys else key)

    def error(self, text: str) -> InputError:
        """An error that names this place."""
        return InputError(f"{self}: {text}")

    @contextmanager
    def named(self) -> Iterator[None]:
        """Lets every InputError inside name this place."""
        try:
            yield
        except InputError as error:
            raise self.error(str(error)) from error


def hold(value: object, kind: Kind, place: Place) -> None:
    """Raise unless a value is of its declared kind, with everything in it.

    Raises:
        InputError: what was needed, what was there, and where.
    """
    if not _plain(value, kind):
        raise place.error(f"asked for {_words(kind)}, got {_shown(value)}.")
    if isinstance(kind, Either):
        kind = kind.one if _plain(value, kind.one) else kind.other
    if isinstance(value, Mapping):
        _hold_table(value, kind, place)
    elif isinstance(value, list) and isinstance(kind, Many):
        if len(value) < kind.least:
            raise place.error("asked for a list of at least one, got an empty one.")
        for index, entry in enumerate(value):
            hold(entry, kind.of, place.at(index))


def _hold_table(value: Mapping[str, object], kind: Kind, place: Place) -> None:
    if isinstance(kind, Named):
        if not value:
            raise place.error("asked for at least one entry, got an empty table.")
        for key, entry in value.items():
            hold(entry, kind.of, place.at(key))
    if isinstance(kind, Keys):
        known = {**kind.needed, **kind.optional}
        for key in value:
            if key not in known:
                with place.named():
                    raise unknown("key", key, known)
        for key in kind.needed:
            if key not in value:
                raise place.error(f"asked for the key {key!r}, got a table without it.")
        for key, entry in value.items():
            hold(entry, known[key], place.at(key))


def _plain(value: object, kind: Kind) -> bool:
    """Whether a value is of a kind, whatever is in it. A bool is no number."""
    if isinstance(kind, Either):
        return _plain(value, kind.one) or _plain(value, kind.other)
    if isinstance(kind, Keys | Named):
        return isinstance(value, Mapping)
    if isinstance(kind, Many):
        return isinstance(value, list)
    if isinstance(value, bool):
        return kind is bool
    if isinstance(kind, Count):
        return isinstance(value, int) and value >= 1
    if kind is float:
        return isinstance(value, (int, float)) and math.isfinite(value)
    return isinstance(value, kind)


_WORDS: dict[object, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _words(kind: Kind) -> str:
    if isinstance(kind, Either):
        return f"{_words(kind.one)} or {_words(kind.other)}"
    if isinstance(kind, Keys | Named):
        return "a table"
    if isinstance(kind, Many):
        return "a list"
    return "a whole number of at least 1" if isinstance(kind, Count) else _WORDS[kind]


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


# The types of a recipe's fields, as its source spells them.
_OF_RECIPE: dict[str, Kind] = {
    "float": float,
    "int": int,
    "bool": bool,
    "str": str,
    "tuple[float, ...]": Many(float, 0),
}

TRAINING = Keys({}, {f.name: _OF_RECIPE[str(f.type)] for f in fields(Recipe)})
_METHOD = Either(str, Named(str))
_ROW = Keys({"name": str, "method": _METHOD}, {"check": str})
_CLAIM = Keys({"text": str, "higher": str, "lower": str}, {"expect": str})
QUICK = Keys(
    {},
    {
        "note": str,
        "datasets": Many(str),
        "sparsities": Many(float),
        "seeds": Count(),
        "per_class": Count(),
        "train": Count(),
        "test": Count(),
        "networks": Named(str),
        "training": TRAINING,
    },
)
TABLE = Keys(
    {
        "title": str,
        "paper": str,
        "about": str,
        "datasets": Many(str),
        "sparsities": Many(float),
        "seeds": Count(),
        "per_class": Count(),
        "networks": Named(str),
        "rows": Many(_ROW),
    },
    {"training": TRAINING, "claims": Many(_CLAIM, 0), "quick": QUICK},
)


def recipe(values: Mapping[str, Any], place: Place) -> Recipe:
    """The training that a table's file describes; fields that it leaves out are the recipe's own defaults."""
    values = dict(values)
    drops = values.pop("drops", None)
    for index, share in enumerate(drops or []):
        if not 0 <= share <= 1:
            raise place.at("drops").at(index).error(f"asked for a drop at {share:g}, got no share of the training.")
    with place.named():
        return Recipe(**values) if drops is None else Recipe(**values, drops=tuple(float(share) for share in drops))


def once(values: list[Any], kind: str, place: Place, of: Callable[[Any], Any] = lambda value: value) -> None:
    """Raise if two entries of a list are the same."""
    seen: set[Any] = set()
    for index, value in enumerate(values):
        if of(value) in seen:
            raise place.at(index).error(f"asked for {kind} {of(value)!r} twice, got a list that takes each once.")
        seen.add(of(value))
