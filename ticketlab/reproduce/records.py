"""Records: one finished training of a cell of a table each, in plain values, as files and as lines of a file."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
import types
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args, get_origin, get_type_hints, is_typeddict

from ticketlab.errors import InputError
from ticketlab.packing import write_atomically

# A table's name is a path below the folder of records: no part of it may lead elsewhere, nor be more than a disk takes.
TABLE_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}(/[A-Za-z0-9][\w.-]{0,99}){0,7}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|\+00:00)", re.ASCII)

Key = tuple[str, str, str, str, str, float | None, int, str]


class Control(TypedDict):
    """What the check's control said."""

    passed: bool
    summary: str


class DataFacts(TypedDict):
    """The data that were trained on, with the numbers of examples."""

    name: str
    train: int
    test: int
    fingerprint: str


class ModelFacts(TypedDict):
    """The network that was trained, with its number of prunable weights."""

    name: str
    identity: str
    prunable: int


@dataclass(frozen=True)
class Record:
    """One finished training. Everything is checked when a record is made, whoever makes it.

    Attributes:
        table: such as "su2020/random-tickets".
        sparsity: as the table asks for it; None for a dense net.
        method: the spec of the method.
        check: what was tampered with, if anything.
        accuracy: percent after the last epoch; None if the training diverged.
        best: percent after the best epoch, only to compare with published figures.
        epochs_seen: all epochs that the weights were trained for, whichever training they were part of.
        seconds: how long the last training took.
        exact_sparsity: what the mask removes.
        finished: UTC, in whole seconds ("2025-01-31T12:00:00Z" or with "+00:00").
        step: the id of the last training's step.
        per_class: how many images of each class scores were computed on; None if there were none, or it is not known.

    Raises:
        InputError: a value of the wrong type or out of its range, naming the key.
    """

    table: str
    protocol: Literal["paper", "quick"]
    dataset: str
    network: str
    row: str
    sparsity: float | None
    seed: int
    method: str
    check: str | None
    accuracy: float | None
    best: float | None
    epochs_seen: float
    seconds: float
    exact_sparsity: float
    control: Control | None
    data: DataFacts
    model: ModelFacts
    recipe: dict[str, Any]
    numerics: dict[str, Any]
    provenance: dict[str, Any]
    finished: str
    step: str
    per_class: int | None = None

    def __post_init__(self) -> None:
        for name, hint in _hints(Record).items():
            value = getattr(self, name)
            if not _fits(value, hint):
                raise _wrong(name, value, _words(hint))
            if type(value) is int and hint in (float, float | None):
                # 90 and 90.0 are one number, with one identity.
                object.__setattr__(self, name, float(value))
        for name, good, wanted in (
            ("table", TABLE_NAME.fullmatch(self.table), 'a few names with "/" between them'),
            ("finished", _TIME.fullmatch(self.finished), 'a UTC time such as "2025-01-31T12:00:00Z"'),
            ("sparsity", _within(self.sparsity, 1), "a fraction"),
            ("exact_sparsity", _within(self.exact_sparsity, 1), "a fraction"),
            ("accuracy", _within(self.accuracy, 100), "percent"),
            ("best", _within(self.best, 100), "percent"),
            ("epochs_seen", self.epochs_seen >= 0, "a number of at least 0"),
            ("seconds", self.seconds >= 0, "a number of at least 0"),
        ):
            if not good:
                raise _wrong(name, getattr(self, name), wanted)

    @property
    def cell(self) -> tuple[str, str, str, str, str, float | None]:
        """The place in the table."""
        return self.table, self.protocol, self.dataset, self.network, self.row, self.sparsity

    @property
    def key(self) -> Key:
        """What it is a result of. Records with one key come from one step, whatever machines they come from."""
        return (*self.cell, self.seed, self.step)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any, source: str | Path) -> Record:
        """The record that ``to_json`` wrote down.

        Args:
            source: where the values come from, for messages: a file, or a line of one.

        Raises:
            InputError: keys are missing or unknown, or a value is wrong; names the source and the key.
        """
        if not isinstance(values, dict):
            raise InputError(f"asked for a record in {source}, got no object.")
        known = {field.name for field in fields(cls)}
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        for keys, what in ((needed - {*values}, "no"), ({*values} - known, "the unknown")):
            if keys:
                raise InputError(f"asked for a record in {source}, got {what} {sorted(map(repr, keys))[0]}.")
        try:
            return cls(**values)
        except InputError as error:
            raise InputError(f"in {source}: {error}") from error
        except RecursionError as error:
            raise InputError(f"asked for a record in {source}, got values nested too deep.") from error


def write(folder: Path, record: Record) -> Path:
    """Write a record to its file below ``folder/records``; of records with one key, the first that is whole stays.

    Raises:
        InputError: it cannot be written.
    """
    path = place(folder, record)
    if not there(folder, record.key):
        write_atomically(path, json.dumps(record.to_json(), sort_keys=True, indent=1, allow_nan=False).encode() + b"\n")
    return path


def there(folder: Path, key: Key) -> bool:
    """Whether there is a record of this key, undamaged: a power cut may leave an empty file."""
    path = _place(folder, key)
    try:
        return path.exists() and read_file(path).key == key
    except InputError:
        return False


def place(folder: Path, record: Record) -> Path:
    """The file of a record: a name to read, and a part of the key's hash, which alone decides."""
    return _place(folder, record.key)


def _place(folder: Path, key: Key) -> Path:
    table, protocol, dataset, network, row, sparsity, seed, _ = key
    words = (dataset, network, row, "dense" if sparsity is None else f"{sparsity:g}", f"seed{seed}", protocol)
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(words)).strip("-.")[:120]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:8]
    return folder / "records" / table / f"{readable}-{digest}.json"


def read(folder: Path, table: str, protocol: str) -> list[Record]:
    """The records of a table and protocol below ``folder/records``, in a fixed order.

    Raises:
        InputError: a file is damaged, or lies in another table's folder.
    """
    found = []
    for path in (folder / "records" / table).glob("[!.]*.json"):
        try:
            record = read_file(path)
        except InputError as error:
            raise InputError(
                f"{error} Delete the file: if its training is in the store, it is written again."
            ) from error
        if record.table != table:
            raise InputError(f"asked for a record of {table!r} in {path}, got one of {record.table!r}.")
        if record.protocol == protocol:
            found.append(record)
    return _ordered(found)


def read_file(path: Path) -> Record:
    """One record, from a file of its own.

    Raises:
        InputError: there is none, or it is damaged.
    """
    return Record.from_json(_parsed(_content(path), path), path)


def save(path: Path, records: Iterable[Record]) -> None:
    """Write records as JSON lines, for keeping in a repository: the same records give the same bytes.

    Raises:
        InputError: the file cannot be written.
    """
    write_atomically(path, "".join(f"{_line(record)}\n" for record in _ordered(records)).encode())


def load(path: Path) -> list[Record]:
    """The records that ``save`` wrote.

    Raises:
        InputError: the file cannot be read, or a line of it is no record; names the line.
    """
    places = ((f"{path}, line {number}", line) for number, line in enumerate(_content(path).splitlines(), 1))
    return _ordered(Record.from_json(_parsed(line, place), place) for place, line in places)


def merged(*lists: Iterable[Record]) -> list[Record]:
    """The union of several lists; of records with one key, that of the first list stays."""
    found: dict[Key, Record] = {}
    for records in lists:
        for record in records:
            found.setdefault(record.key, record)
    return _ordered(found.values())


def one_per_seed(records: Sequence[Record]) -> list[Record]:
    """One record for each cell and seed.

    A seed that was run on two kinds of machine has two. That of the numerics which most of the table's records have
    is kept, so that what is compared in pairs was computed alike wherever that is possible.
    """
    ordered = _ordered(records)
    having = Counter(_numerics(record) for record in ordered)
    ordered.sort(key=lambda record: (-having[_numerics(record)], _numerics(record)))
    chosen: dict[tuple[Any, ...], Record] = {}
    for record in ordered:
        chosen.setdefault((record.cell, record.seed), record)
    return _ordered(chosen.values())


def numerics(record: Record) -> str:
    """What two records must share to be compared as a pair: which of several like GPUs it was does not count."""
    device = str(record.numerics.get("device")).split(":")[0]
    return json.dumps({**record.numerics, "device": device}, sort_keys=True)


def _numerics(record: Record) -> tuple[str, str, str]:
    return record.table, record.protocol, numerics(record)


def _ordered(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=_order)


def _order(record: Record) -> tuple[Any, ...]:
    *place, sparsity = record.cell
    # The dense net comes first; of records with one key, only the whole line tells which is which.
    return (*place, -1.0 if sparsity is None else sparsity, record.seed, record.step, _line(record))


def _line(record: Record) -> str:
    return json.dumps(record.to_json(), sort_keys=True, allow_nan=False)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"asked for the records in {path}, got {error.strerror or error}.") from error


def _parsed(content: bytes, source: str | Path) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"asked for a record in {source}, got what is no JSON: {error}.") from error


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is what an annotation says, in plain JSON values without NaN and infinities."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is types.UnionType:
        return any(_fits(value, choice) for choice in get_args(hint))
    if is_typeddict(hint):
        inner = _hints(hint)
        return isinstance(value, dict) and {*value} == {*inner} and all(_fits(value[n], h) for n, h in inner.items())
    if get_origin(hint) is dict:
        return isinstance(value, dict) and _plain(value)
    if hint is float:
        return _finite(value) or (type(value) is int and abs(value) <= 2**53)
    return type(value) is hint


def _plain(value: Any) -> bool:
    """Whether JSON gives the value back as it is."""
    if isinstance(value, dict):
        return all(type(name) is str and _plain(v) for name, v in value.items())
    if isinstance(value, list):
        return all(map(_plain, value))
    return value is None or type(value) in (str, int, bool) or _finite(value)


def _finite(value: Any) -> bool:
    return type(value) is float and math.isfinite(value)


def _words(hint: Any) -> str:
    """An annotation, for people."""
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if get_origin(hint) is types.UnionType:
        return " or ".join(map(_words, get_args(hint)))
    if is_typeddict(hint):
        return "an object of " + ", ".join(f"{n} ({_words(h)})" for n, h in _hints(hint).items())
    names: dict[Any, str] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(hint, "null" if hint is type(None) else "an object of plain values")


def _within(value: float | None, most: float) -> bool:
    return value is None or 0 <= value <= most


def _wrong(name: str, value: Any, wanted: str) -> InputError:
    return InputError(f"asked for {name!r} as {wanted}, got {value!r:.80}.")
