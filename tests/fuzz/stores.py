"""Stores as folders and as archives, the lists of what studies need, and studies."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from hypothesis import strategies as st

from ticketlab.errors import InputError
from ticketlab.experiment.archive import FORMAT, export, unpacked
from ticketlab.experiment.merge import import_store
from ticketlab.experiment.step import Result, Step
from ticketlab.experiment.store import MASK, RESULT, DamagedResult, Store, path_of, written
from ticketlab.experiment.study import Study
from ticketlab.experiment.upkeep import register, sweep, verify
from ticketlab.mask import Mask

from . import zip_files
from .damage import TEXTS, Pairs, altered, as_json, damaged, in_bytes, pairs, plain
from .reader import Reader, file
from .tables import a_record

Tree = dict[str, bytes]
_ARCHIVE = "x.zip"


@functools.cache
def _tree() -> Tree:
    """A small store with all that may be in one, beside a record: contents by path."""
    init, prune = (
        Step("init", {"seed": 0}, {}, "init"),
        Step("prune", {"method": "snip"}, {"start.weights": "0" * 32}, "snip"),
    )
    twin = Step("prune", {"method": "snip", "seed": 1}, {}, "snip again")
    with TemporaryDirectory() as scratch:
        store = Store(Path(scratch) / "store")
        store.put(init, Result({"facts": {}}, tensors={"weights": {"a": torch.ones(3)}}), 1.0, "a" * 32)
        mask = Mask({"a": torch.tensor([True, False, True])}, {"method": "snip"})
        store.put(prune, Result({"kept": {"a": 2}}, mask), 1.0, "b" * 32, {"commit": "x", "machine": "y"})
        store.link(twin, prune.id, "c" * 32)
        for step in (init, prune, twin):
            path = Path(scratch) / "store" / path_of(step.id) / RESULT
            record = json.loads(path.read_bytes())
            del record["checksum"]
            path.write_bytes(written({**record, "finished": 1_700_000_000.0}))
        register(store, Path("/study"), "study", [init.id, prune.id, twin.id])
        files = sorted(p for p in Path(scratch).rglob("*") if p.is_file())
        found = {p.relative_to(scratch).as_posix(): p.read_bytes() for p in files}
    return {**found, "records/su2020/made.json": json.dumps(a_record()).encode()}


def _exported(tree: Tree) -> Tree:
    """What an export of it holds."""
    return {"format": FORMAT.encode(), **{n: c for n, c in tree.items() if not n.startswith("store/studies")}}


def _zipped(tree: Tree) -> bytes:
    return zip_files.packed([zip_files.Entry(n.encode(), c) for n, c in _exported(tree).items()])


def _whole_archive() -> bytes:
    return _zipped(_tree())


@st.composite
def _lying_tree(draw: st.DrawFn) -> Tree:
    """A store by someone who knows how the checksums are made."""
    tree = dict(_tree())
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from([n for n in sorted(_tree()) if n in tree]))
        parts = name.split("/")
        how = draw(st.integers(0, 9))
        if how == 0:
            del tree[name]
        elif how == 1:
            tree[name] = draw(damaged(tree[name]))
        elif how == 2:
            put = draw(st.sampled_from(["model.pth", "x.pkl", "fuzz_sentinel.py", ".new-x", "0" * 32, "x"]))
            tree["/".join([*parts[:-1], put])] = draw(st.sampled_from([b"", b"cos\nsystem\n(S'true'\ntR.", tree[name]]))
        elif name.endswith(".json"):
            tree[name] = draw(_rewritten(tree[name]))
        elif "contents" in parts:
            texts = [
                b"",
                b"../../../etc/passwd",
                b"\xff",
                b"0" * 32,
                *(n.split("/")[3].encode() for n in tree if "/steps/" in n),
            ]
            tree[name] = draw(st.sampled_from(texts))
        else:
            tree[name] = draw(damaged(tree[name]))
    return tree


@st.composite
def _rewritten(draw: st.DrawFn, content: bytes) -> bytes:
    """Other values, mostly with the checksum that belongs to them."""
    try:
        values = json.loads(content)
        checked = values.pop("checksum", None) is not None
    except (ValueError, AttributeError, RecursionError):
        return content
    if checked and "id" in values and draw(st.booleans()):
        # Who and what it is stay true.
        key = draw(
            st.sampled_from(
                ["facts", "digests", "files", "linked", "seconds", "content", "provenance", "finished", "label"]
            )
        )
        steps = [n.split("/")[3] for n in _tree() if n.startswith("store/steps")]
        others = st.one_of(
            altered(values.get(key), most=2), st.sampled_from(steps), st.sampled_from([{t: "0" * 64} for t in TEXTS])
        )
        lie: Any = Pairs((*((k, pairs(v)) for k, v in values.items() if k != key), (key, pairs(draw(others)))))
    else:
        lie = draw(altered(values, most=2))
    made = plain(lie)
    if isinstance(made, dict) and draw(st.integers(0, 7)):
        if "id" in made and draw(st.booleans()):
            made["id"] = values["id"]
        try:
            return written(made) if checked else json.dumps(made).encode()
        except RecursionError:
            pass
    return in_bytes(as_json(lie))


def _write_tree(tree: Mapping[str, bytes], folder: Path) -> None:
    for name, content in tree.items():
        path = folder / "from" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _read_archive(folder: Path) -> None:
    with unpacked(folder / _ARCHIVE) as found:
        import_store(found, folder / "into")
    assert not verify(Store(folder / "into" / "store")).findings


def _read_lying_archive(folder: Path) -> bool:
    with unpacked(folder / _ARCHIVE) as found:
        imported = import_store(found, folder / "into")
    store = Store(folder / "into" / "store")
    verify(store)
    _read_all(store)
    return not (imported.damaged or imported.differing)


def _read_all(store: Store) -> None:
    for step_id in list(store.ids()):
        for ask in (store.facts, store.digests, store.linked, store.seconds, partial(_held, store)):
            # What is not finished, or was put aside, is said so.
            with suppress(KeyError, DamagedResult, InputError):
                ask(step_id)


def _held(store: Store, step_id: str) -> None:
    """A step's files: what it says that it has."""
    for name in store.record(step_id)["files"]:
        if name == MASK:
            store.mask(step_id)
        else:
            store.tensors(step_id, "weights")


def _read_store(folder: Path) -> bool:
    store = Store(folder / "from" / "store")
    whole = not verify(store).findings
    imported = import_store(folder / "from", folder / "into")
    export(Store(folder / "into" / "store"), folder / "into" / "x.zip", folder / "into" / "records")
    return whole and not imported.damaged


def _use_store(folder: Path) -> bool:
    store = Store(folder / "from" / "store")
    before = len(list(store.ids()))
    _read_all(store)
    sweep(Store(folder / "from" / "store"), dry=True)
    try:
        export(Store(folder / "from" / "store"), folder / "into" / "x.zip")
    except InputError:
        return False
    return len(list(store.ids())) == before


def _study() -> bytes:
    part = {"name": "digits", "classes": 10, "in_shape": [1, 8, 8], "train": 1437, "test": 360, "chance": 10.2}
    value = {
        "format": 1,
        "data": {**part, "fingerprint": "x"},
        "model": {"name": "conv", "identity": "x", "drawn": True, "prunable": 9, "layers": {"a": 9}},
        "recipe": {"epochs": 15, "batch_size": 64, "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False}
        | {"schedule": "step", "drops": [0.5, 0.75], "warmup": 0.0, "augment": True},
        "numerics": {"device": "cpu", "threads_per_ticket": 1, "engine": "tuned", "precision": "fp32"},
        "scoring": {"per_class": 10},
        "statistics": {"alpha": 0.05, "margin": "2%", "looks": [3, 5], "weights": [0.5, 0.5], "multiplicity": "holm"}
        | {"family": "report", "test": "paired"},
        "methods": ["snip"],
        "checks": ["rearrange"],
        "sparsities": [0.9],
        "seeds": 5,
        "created": "2025-01-31",
        "commands": ["ticketlab check snip"],
    }
    return json.dumps(value).encode()


@st.composite
def _lying_study(draw: st.DrawFn) -> bytes:
    return in_bytes(as_json(draw(altered(json.loads(_study())))))


def _read_study(folder: Path) -> None:
    study = Study.load(folder)
    assert study.seeds >= 1 and study.training and isinstance(study.grown(study), Study)


READERS = [
    Reader(
        "archive",
        _whole_archive,
        lambda: st.one_of(
            zip_files.lying(_exported(_tree())), zip_files.lying(_exported(_tree())), damaged(_whole_archive())
        ),
        file(_ARCHIVE),
        _read_archive,
        10,
    ),
    Reader(
        "archive, consistent lies",
        _whole_archive,
        lambda: _lying_tree().map(_zipped),
        file(_ARCHIVE),
        _read_lying_archive,
        2,
    ),
    Reader("store, taken in", _tree, _lying_tree, _write_tree, _read_store, 1.5),
    Reader("store, used", _tree, _lying_tree, _write_tree, _use_store, 1.5),
    Reader(
        "study",
        _study,
        lambda: st.one_of(_lying_study(), damaged(_study())),
        file("study.json"),
        _read_study,
        4,
    ),
]
