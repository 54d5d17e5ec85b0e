"""A published table as a recipe: a TOML file that says what is trained, and what the paper says will come out."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ticketlab import checks, methods, spec
from ticketlab.budget import check_sparsity
from ticketlab.data.names import DATASETS
from ticketlab.engine.recipe import Recipe
from ticketlab.errors import InputError, unknown
from ticketlab.models.registry import MODELS
from ticketlab.reproduce import schema
from ticketlab.reproduce.records import TABLE_NAME
from ticketlab.reproduce.schema import Place

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DENSE = "dense"
EXPECTATIONS = ("higher", "equal")


@dataclass(frozen=True)
class Row:
    """A row: the tickets of one method, or what a check makes of them.

    Attributes:
        methods: the method's spec, by network.
    """

    name: str
    methods: Mapping[str, str]
    check: str | None


@dataclass(frozen=True)
class Claim:
    """What the paper says of two rows at the same data set, network and sparsity.

    Attributes:
        expect: "higher" if the row `higher` is said to be more accurate than `lower`, "equal" if no different.
    """

    text: str
    higher: str
    lower: str
    expect: str


@dataclass(frozen=True)
class Table:
    """A table to be filled. Data sets, networks, sparsities and rows are in order of priority.

    Attributes:
        name: "su2020/random-tickets", or a file's name without ".toml".
        path: the file it was read from.
        networks: the table's name for a network -> the model.
        training: None for each data set's own default.
        quick: whether this is the file's small stand-in; `note` says what that can show, and `train` and `test` are
            how many examples it reads, None for all.
    """

    name: str
    path: Path
    title: str
    paper: str
    about: str
    datasets: tuple[str, ...]
    sparsities: tuple[float, ...]
    seeds: int
    per_class: int
    networks: dict[str, str]
    training: Recipe | None
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]
    quick: bool
    note: str
    train: int | None
    test: int | None


def names() -> list[str]:
    """The tables there are, as `load` takes them."""
    return sorted(_found())


def load(ref: str, quick: bool = False) -> Table:
    """A table by name, or from a file whose name ends in ".toml". Both forms are checked, whichever is asked for.

    Raises:
        InputError: no such table; a file that is damaged, or names what does not exist; no quick form.
    """
    path = Path(ref).expanduser() if ref.endswith(".toml") else _found().get(ref)
    if path is None:
        raise unknown("table", ref, names())
    place = Place(str(path))
    raw = _read(path)
    schema.hold(raw, schema.TABLE, place)
    short = raw.pop("quick", None)
    name = path.stem if ref.endswith(".toml") else ref
    if not TABLE_NAME.fullmatch(name):
        # It becomes a part of paths, and of every record.
        raise place.error(f"asked for a table of the name {name!r}, got more than letters, digits, . _ - in it.")
    full = _table(name, path, raw, place)
    if short is None:
        if quick:
            raise place.error("asked for the quick form, got a table without one: it has no [quick].")
        return full
    reduced = _quick(full, short, place.at("quick"))
    return reduced if quick else full


def _found() -> dict[str, Path]:
    """Every shipped or local table; a folder that comes earlier hides the same name in a later one."""
    beside = Path(__file__).resolve().parents[2]
    folders = [
        Path("recipes"),
        # Only in a source checkout: what lies beside an installed package is not ours.
        *([beside / "recipes"] if (beside / "pyproject.toml").is_file() else []),
        *_installed(),
    ]
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.toml")):
            found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
    return found


def _installed() -> list[Path]:
    """The folder that the installed package's recipes lie in, wherever it was installed."""
    try:
        files = importlib.metadata.files("ticketlab") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    paths = (Path(str(file.locate())).resolve() for file in files if file.suffix == ".toml" and "recipes" in file.parts)
    return list(dict.fromkeys(next(up for up in path.parents if up.name == "recipes") for path in paths))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"asked for the table in {path}, got no such file.") from error
    except OSError as error:
        raise InputError(f"asked for the table in {path}, got no file that can be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"asked for the table in {path}, got no valid TOML: {error}.") from error


def _table(name: str, path: Path, raw: Mapping[str, Any], place: Place) -> Table:
    networks: dict[str, str] = raw["networks"]
    for network in networks:
        _check_name("network", network, place.at("networks"))
    given = _conditions(raw, place)
    rows = tuple(_row(row, networks, place.at("rows").at(index)) for index, row in enumerate(raw["rows"]))
    schema.once(raw["rows"], "row", place.at("rows"), of=lambda row: row["name"])
    known = [row.name for row in rows]
    return Table(
        name=name,
        path=path,
        title=raw["title"],
        paper=raw["paper"],
        about=raw["about"].strip(),
        **{"training": None, **given},
        rows=rows,
        claims=tuple(_claim(c, known, place.at("claims").at(i)) for i, c in enumerate(raw.get("claims", []))),
        quick=False,
        note="",
        train=None,
        test=None,
    )


def _quick(full: Table, raw: Mapping[str, Any], place: Place) -> Table:
    """The table with what [quick] gives in place of its own, each key as a whole."""
    given = _conditions(raw, place)
    networks = given.get("networks", full.networks)
    for network in networks:
        if network not in full.networks:
            with place.at("networks").named():
                raise unknown("network", network, full.networks)
    rows = tuple(Row(r.name, {n: m for n, m in r.methods.items() if n in networks}, r.check) for r in full.rows)
    sizes = {key: raw.get(key) for key in ("train", "test")}
    values: dict[str, Any] = {**vars(full), **given, **sizes}
    return Table(**{**values, "rows": rows, "quick": True, "note": raw.get("note", "").strip()})


def _conditions(raw: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """Those of a table's conditions that are given, after checking that what they name exists."""
    given: dict[str, Any] = {key: raw[key] for key in ("seeds", "per_class") if key in raw}
    if "datasets" in raw:
        schema.once(raw["datasets"], "data set", place.at("datasets"))
        for index, dataset in enumerate(raw["datasets"]):
            if dataset not in DATASETS:
                with place.at("datasets").at(index).named():
                    raise unknown("data set", dataset, DATASETS)
        given["datasets"] = tuple(raw["datasets"])
    if "sparsities" in raw:
        for index, sparsity in enumerate(raw["sparsities"]):
            with place.at("sparsities").at(index).named():
                check_sparsity(sparsity)
        given["sparsities"] = tuple(float(sparsity) for sparsity in raw["sparsities"])
        schema.once(list(given["sparsities"]), "sparsity", place.at("sparsities"))
    if "networks" in raw:
        for network, model in raw["networks"].items():
            if ":" not in model and model not in MODELS:
                with place.at("networks").at(network).named():
                    raise unknown("model", model, MODELS)
        given["networks"] = dict(raw["networks"])
    if "training" in raw:
        given["training"] = schema.recipe(raw["training"], place.at("training"))
    return given


def _row(raw: Mapping[str, Any], networks: Mapping[str, str], place: Place) -> Row:
    _check_name("row", raw["name"], place.at("name"))
    method = raw["method"]
    by_network: dict[str, str] = method if isinstance(method, dict) else dict.fromkeys(networks, method)
    for network in by_network:
        if network not in networks:
            with place.at("method").named():
                raise unknown("network", network, networks)
    if missing := [network for network in networks if network not in by_network]:
        raise place.at("method").error(f"asked for a method for every network, got none for {', '.join(missing)}.")
    for text in dict.fromkeys(by_network.values()):
        with place.at("method").named():
            methods.configured(*spec.resolve(text))
    check = raw.get("check")
    if check is not None:
        with place.at("check").named():
            if other := checks.resolve(check).versus:
                raise InputError(f"asked for check {check!r}, got one that makes no ticket. Give {other!r} a row.")
    return Row(raw["name"], {network: by_network[network] for network in networks}, check)


def _claim(raw: Mapping[str, Any], known: list[str], place: Place) -> Claim:
    for side in ("higher", "lower"):
        if raw[side] not in known:
            with place.at(side).named():
                raise unknown("row", raw[side], known)
    if raw["higher"] == raw["lower"]:
        raise place.error(f"asked to compare {raw['higher']!r} with itself, got no claim.")
    expect = raw.get("expect", "higher")
    if expect not in EXPECTATIONS:
        with place.at("expect").named():
            raise unknown("expectation", expect, EXPECTATIONS)
    return Claim(raw["text"], raw["higher"], raw["lower"], expect)


def _check_name(kind: str, name: str, place: Place) -> None:
    """Refuse names that would make a cell's id ambiguous: they are parts of paths and of patterns."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", name):
        raise place.error(f"asked for {kind} {name!r}, got a name that is not a letter and then letters, digits, . _ -")
    if name == DENSE:
        raise place.error(f"asked for {kind} {name!r}, got the name of the unpruned net, which every table has.")
