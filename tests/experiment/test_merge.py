"""Importing stores: what is whole is copied once, what is damaged never, and the source stays as it is."""

from __future__ import annotations

import argparse
import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from ticketlab.commands.store import run_store
from ticketlab.errors import InputError
from ticketlab.experiment.files import LocalFiles
from ticketlab.experiment.merge import import_store
from ticketlab.experiment.step import Result, Step
from ticketlab.experiment.store import Store, _checksum
from ticketlab.reproduce import records

CHECKS = ["rearrange"]
ONE, TWO, THREE = (Step("prune", {"seed": seed}) for seed in (1, 2, 3))


def stored(folder: Path, step: Step = ONE, value: float = 1.0) -> Store:
    store = Store(folder / "store")
    store.put(step, Result({"value": value}, tensors={"weights": {"a": torch.full((9,), value)}}), 0.5, f"k{step.id}")
    return store


def place(folder: Path, step_id: str) -> Path:
    return folder / "store" / "steps" / step_id[:2] / step_id


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def tree(folder: Path) -> dict[str, Any]:
    """Everything in a folder, with the times of its changes."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in [folder, *folder.rglob("*")]
    }


def finished(folder: Path, methods: list[str]) -> tiny.Counter:
    progress = tiny.Counter()
    tiny.prepared(folder, methods, checks=CHECKS).run(1, progress)
    return progress


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two studies made apart, which share the dense net."""
    folders = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for folder, method in zip(folders, ("snip", "magnitude"), strict=True):
        finished(folder, [method])
    return folders


def test_two_studies_become_one(machines: tuple[Path, Path], tmp_path: Path) -> None:
    into = tmp_path / "not" / "there" / "yet"
    before = [tree(folder) for folder in machines]
    first, second = (import_store(folder, into) for folder in machines)
    assert first.new and not first.known and second.new and second.known
    assert not any((first.damaged, first.differing, second.damaged, second.differing))
    progress = finished(into, ["snip", "magnitude"])
    assert not progress.computed and not progress.linked and progress.done == len(first.new) + len(second.new)
    # Without the import, all of it is computed; what comes out is the same.
    assert finished(tmp_path / "alone", ["snip", "magnitude"]).computed
    alone, together = (
        tiny.prepared(folder, ["snip", "magnitude"], checks=CHECKS).run() for folder in (tmp_path / "alone", into)
    )
    assert alone["verdicts"] == together["verdicts"]
    assert [tree(folder) for folder in machines] == before


def test_a_second_import_changes_nothing(machines: tuple[Path, Path], tmp_path: Path) -> None:
    first = import_store(machines[0], tmp_path / "into")
    before = tree(tmp_path)
    again = import_store(machines[0], tmp_path / "into")
    assert again.known == tuple(sorted(first.new)) and not again.new and tree(tmp_path) == before
    copied = Store(tmp_path / "into" / "store")
    assert all(copied.facts(step) == Store(machines[0] / "store").facts(step) for step in first.new)


def test_stores_themselves_can_be_named(tmp_path: Path) -> None:
    stored(tmp_path / "a")
    assert len(import_store(tmp_path / "a" / "store", tmp_path / "b" / "store").new) == 1
    assert ONE.id in Store(tmp_path / "b" / "store")
    (tmp_path / "a" / "store").rename(tmp_path / "bare")
    assert import_store(tmp_path / "bare", tmp_path / "b").known == (ONE.id,)


@pytest.mark.parametrize("name", ["result.json", "tensors.safetensors"])
@pytest.mark.parametrize("damage", [flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_damage_is_found_and_left_where_it_is(tmp_path: Path, name: str, damage: Any) -> None:
    stored(tmp_path / "a")
    stored(tmp_path / "a", TWO)
    damage(place(tmp_path / "a", ONE.id) / name)
    before = tree(tmp_path / "a")
    imported = import_store(tmp_path / "a", tmp_path / "b")
    assert (imported.new, imported.damaged) == ((TWO.id,), (ONE.id,))
    assert tree(tmp_path / "a") == before and not place(tmp_path / "b", ONE.id).exists()
    assert Store(tmp_path / "b" / "store").same_content(f"k{ONE.id}") is None
    assert import_store(tmp_path / "a", tmp_path / "b").damaged == (ONE.id,)


def test_bit_flips_in_a_study_are_mended_by_the_next_run(machines: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(machines[0], tmp_path / "a")
    hit = sorted((tmp_path / "a" / "store" / "steps").rglob("tensors.safetensors"))[::3]
    for path in hit:
        flip(path)
    imported = import_store(tmp_path / "a", tmp_path / "b")
    assert {*imported.damaged} >= {path.parent.name for path in hit}
    progress = finished(tmp_path / "b", ["snip"])
    assert len(progress.computed) + len(progress.linked) == len(imported.damaged)


def test_what_differs_stays_and_is_told(tmp_path: Path) -> None:
    stored(tmp_path / "a", value=1.0).link(TWO, ONE.id, "k")
    stored(tmp_path / "b", value=2.0)
    before = tree(place(tmp_path / "b", ONE.id))
    imported = import_store(tmp_path / "a", tmp_path / "b")
    # What shares the source's result cannot share another one here.
    assert imported.differing == (ONE.id, TWO.id) and not imported.new and not imported.known
    assert tree(place(tmp_path / "b", ONE.id)) == before and not place(tmp_path / "b", TWO.id).exists()


def test_shared_results_stay_valid(tmp_path: Path) -> None:
    # Ids are hashes: whichever comes first by name, what shares comes after what it shares.
    for origin, sharing in ((ONE, TWO), (TWO, ONE), (THREE, ONE)):
        folder = tmp_path / f"{origin.id}-{sharing.id}"
        stored(folder / "a", origin).link(sharing, origin.id, "other")
        imported = import_store(folder / "a", folder / "b")
        into = Store(folder / "b" / "store")
        assert imported.new == (origin.id, sharing.id) and into.linked(sharing.id) == origin.id
        assert torch.equal(into.tensors(sharing.id, "weights")["a"], torch.ones(9))
        assert into.same_content(f"k{origin.id}") == origin.id


@pytest.mark.parametrize("name", ["result.json", "tensors.safetensors"])
def test_what_shares_a_damaged_result_is_not_copied(tmp_path: Path, name: str) -> None:
    stored(tmp_path / "a").link(TWO, ONE.id, "k")
    flip(place(tmp_path / "a", ONE.id) / name)
    imported = import_store(tmp_path / "a", tmp_path / "b")
    assert not imported.new and {*imported.damaged} == {ONE.id, TWO.id}
    assert not {ONE.id, TWO.id} & {i for i in (ONE.id, TWO.id) if i in Store(tmp_path / "b" / "store")}


def forged(folder: Path, step: Step, **changes: Any) -> None:
    """A result that says other things of itself, with a checksum that agrees."""
    path = place(folder, step.id) / "result.json"
    value = {**json.loads(path.read_text()), **changes}
    del value["checksum"]
    path.write_text(json.dumps({**value, "checksum": _checksum(value)}))


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {"../../../../../evil": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}},
        {"files": {"result.json": "0"}},
        {"files": {"..": "0"}},
        {"linked": "../../../elsewhere"},
        {"linked": ONE.id},
    ],
)
def test_names_that_lead_elsewhere_are_damage(tmp_path: Path, changes: dict[str, Any]) -> None:
    stored(tmp_path / "a")
    (tmp_path / "evil").write_bytes(b"")
    (tmp_path / "elsewhere").mkdir()
    forged(tmp_path / "a", ONE, **changes)
    outside = {path.name for path in tmp_path.iterdir()}
    imported = import_store(tmp_path / "a", tmp_path / "b")
    assert imported.damaged == (ONE.id,) and not imported.new
    assert {path.name for path in tmp_path.iterdir()} - {"b"} == outside


def test_what_is_not_finished_is_not_copied(tmp_path: Path) -> None:
    store = stored(tmp_path / "a")
    for name in (f"steps/{ONE.id[:2]}/.new-x", f"steps/{ONE.id[:2]}/.damaged-{ONE.id}-1", "unfinished", "contents"):
        (store.folder / name).mkdir(exist_ok=True)
        (store.folder / name / ".some").write_text(ONE.id)
    (store.folder / "unfinished" / "checkpoint").write_text("x")
    (store.folder / "contents" / "binary").write_bytes(b"\xff")
    import_store(tmp_path / "a", tmp_path / "b")
    copied = {str(p.relative_to(tmp_path / "b")) for p in (tmp_path / "b").rglob("*") if p.is_file()}
    step = f"store/steps/{ONE.id[:2]}/{ONE.id}"
    assert copied == {f"{step}/result.json", f"{step}/tensors.safetensors", f"store/contents/k{ONE.id}"}


@pytest.mark.parametrize("call", ["rename", "fsync"])
def test_a_kill_in_the_middle_leaves_no_half_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    for step in (ONE, TWO, THREE):
        stored(tmp_path / "a", step)
    real, calls = getattr(os, call), []

    def killed(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, killed)
        with pytest.raises(KeyboardInterrupt):
            import_store(tmp_path / "a", tmp_path / "b")
    whole = list((tmp_path / "b" / "store" / "steps").glob("*/*"))
    assert len(whole) == (1 if call == "rename" else 0) and not any(path.name.startswith(".") for path in whole)
    again = import_store(tmp_path / "a", tmp_path / "b")
    assert len(again.new) == 3 - len(whole) and {*again.new, *again.known} == {ONE.id, TWO.id, THREE.id}


def test_a_place_that_cannot_be_written_is_no_damage_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(tmp_path / "a")

    def full(*_: Any) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(LocalFiles, "put_folder", full)
        with pytest.raises(InputError, match=r"asked to store a result under .*, got No space left on device"):
            import_store(tmp_path / "a", tmp_path / "b")
    assert import_store(tmp_path / "a", tmp_path / "b").new == (ONE.id,)


def test_another_writer_may_be_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(tmp_path / "a", value=1.0)
    real = os.rename

    def late(old: Any, new: Any) -> None:
        monkeypatch.setattr(os, "rename", real)
        stored(tmp_path / "b", value=2.0)
        real(old, new)

    monkeypatch.setattr(os, "rename", late)
    import_store(tmp_path / "a", tmp_path / "b")
    assert Store(tmp_path / "b" / "store").facts(ONE.id) == {"value": 2.0}
    assert not list((tmp_path / "b").rglob(".new-*"))


def test_a_read_only_source_is_enough(tmp_path: Path) -> None:
    stored(tmp_path / "a")
    records.write(tmp_path / "a", record())
    paths = [tmp_path / "a", *(tmp_path / "a").rglob("*")]
    try:
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)
        imported = import_store(tmp_path / "a", tmp_path / "b")
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert imported.new == (ONE.id,) and imported.records == 1


def record(**changes: Any) -> records.Record:
    values: dict[str, Any] = {
        "table": "su2020/random-tickets",
        "protocol": "quick",
        "dataset": "digits",
        "network": "conv",
        "row": "random",
        "sparsity": 0.9,
        "seed": 0,
        "method": "random",
        "check": None,
        "accuracy": 90.0,
        "best": 90.0,
        "epochs_seen": 2.0,
        "seconds": 1.0,
        "exact_sparsity": 0.9,
        "control": None,
        "data": {"name": "digits", "train": 1, "test": 1, "fingerprint": "a"},
        "model": {"name": "conv", "identity": "a", "prunable": 1},
        "recipe": {},
        "numerics": {},
        "provenance": {},
        "finished": "2025-01-31T12:00:00Z",
        "step": ONE.id,
    }
    return records.Record(**{**values, **changes})


def test_records_come_along(tmp_path: Path) -> None:
    stored(tmp_path / "a")
    for seed in range(3):
        path = records.write(tmp_path / "a", record(seed=seed))
    path.write_text("{}")
    (path.parent / f".{path.name}.tmp").write_text("half")
    records.write(tmp_path / "b", record(seed=0, accuracy=1.0))
    imported = import_store(tmp_path / "a", tmp_path / "b")
    assert imported.records == 1 and imported.damaged == (str(path.relative_to(tmp_path / "a")),)
    found = records.read(tmp_path / "b", "su2020/random-tickets", "quick")
    assert [(r.seed, r.accuracy) for r in found] == [(0, 1.0), (1, 90.0)]
    assert import_store(tmp_path / "a", tmp_path / "b").records == 0


def test_refused_before_anything_is_written(tmp_path: Path) -> None:
    stored(tmp_path / "a")
    records.write(tmp_path / "a", record())
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    a = tmp_path / "a"
    before = tree(tmp_path)
    for source, into, why in (
        (a, a, "one and the same store"),
        (a, a / "store", "one and the same store"),
        (a / "store", a, "one and the same store"),
        (a, tmp_path / "link", "one and the same store"),
        (a, a / "store" / "deeper", "one and the same store"),
        (tmp_path / "empty", tmp_path / "b", "no store in"),
        (tmp_path / "none", tmp_path / "b", "no store in"),
        (tmp_path / "file", tmp_path / "b", "no store in"),
        (a, tmp_path / "file", "not a folder"),
        (a, tmp_path / "b" / "store", "records have no place"),
    ):
        with pytest.raises(InputError, match=rf"asked to import .* into .*, got .*{why}"):
            import_store(source, into)
    assert tree(tmp_path) == before


def command(into: Path, *sources: Path) -> int:
    return run_store(argparse.Namespace(action="import", sources=[str(s) for s in sources], into=str(into)))


def test_the_command_tells_of_every_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b, into = tmp_path / "a", tmp_path / "b", tmp_path / "into"
    stored(a)
    records.write(a, record())
    stored(b)
    stored(b, TWO)
    assert command(into, a, b) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"from {a}: 1 new, 0 known, 0 damaged, 0 differing; 1 records",
        f"from {b}: 1 new, 1 known, 0 damaged, 0 differing; 0 records",
    ]
    stored(tmp_path / "c", value=3.0)
    stored(tmp_path / "c", THREE)
    flip(place(tmp_path / "c", THREE.id) / "tensors.safetensors")
    assert command(into, tmp_path / "c", a) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"from {tmp_path / 'c'}: 0 new, 0 known, 1 damaged, 1 differing; 0 records",
        f"  damaged: {THREE.id}",
        f"  differing: {ONE.id}",
        f"from {a}: 0 new, 1 known, 0 damaged, 0 differing; 0 records",
    ]


def test_the_command_checks_all_sources_first(tmp_path: Path) -> None:
    stored(tmp_path / "a")
    with pytest.raises(InputError, match="no store in"):
        command(tmp_path / "into", tmp_path / "a", tmp_path / "missing")
    assert not (tmp_path / "into").exists()
