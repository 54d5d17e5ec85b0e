"""Looking after a store: every altered byte is found, and nothing that a study needs is removed."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest
import tiny

from ticketlab.errors import InputError
from ticketlab.experiment.files import UNFINISHED
from ticketlab.experiment.store import Store
from ticketlab.experiment.upkeep import STUDIES, register, sweep, verify

CHECKS = ["rearrange"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study."""
    folder = tmp_path_factory.mktemp("study")
    tiny.prepared(folder, ["snip"], checks=CHECKS).run()
    return folder


@pytest.fixture
def copied(study: Path, tmp_path: Path) -> Path:
    shutil.copytree(study, tmp_path / "study")
    return tmp_path / "study"


def of(folder: Path) -> Store:
    return Store(folder / "store")


def everything(folder: Path) -> list[Path]:
    return sorted(p for p in (folder / "store").rglob("*") if p.is_file())


def test_a_whole_store(study: Path) -> None:
    found = verify(of(study))
    assert not found.findings and found.steps == len(list(of(study).ids()))
    written = [p for p in everything(study) if "steps" in p.parts]
    assert found.bytes == sum(p.stat().st_size for p in written)


def test_a_step_says_where_it_comes_from(study: Path) -> None:
    store = of(study)
    for step_id in store.ids():
        made = store.record(step_id)["provenance"]
        assert {"commit", "torch", "machine", "ticketlab"} <= set(made) and store.record(step_id)["finished"] > 0


def test_every_altered_byte_is_found(copied: Path) -> None:
    """One bit of each file in turn, at the start, the end and somewhere."""
    draw = random.Random(0)
    files = everything(copied)
    assert {p.parent.name for p in files} >= {"contents", STUDIES} and len(files) > 20
    for path in files:
        whole = path.read_bytes()
        for at in {0, len(whole) - 1, draw.randrange(len(whole))}:
            changed = bytearray(whole)
            changed[at] ^= 1 << draw.randrange(8)
            path.write_bytes(changed)
            assert verify(of(copied)).findings, (path, at)
        path.write_bytes(whole + b"\n")
        assert verify(of(copied)).findings, path
        path.write_bytes(whole[:-1])
        assert verify(of(copied)).findings, path
        path.write_bytes(whole)
    assert not verify(of(copied)).findings


def test_every_missing_and_every_foreign_file_is_found(copied: Path) -> None:
    for path in everything(copied):
        if "steps" in path.parts:
            path.rename(path.with_name("foreign"))
            assert len(verify(of(copied)).findings) >= 1, path
            path.with_name("foreign").rename(path)
    step = next(of(copied).ids())
    folder = copied / "store" / "steps" / step[:2] / step
    shutil.copytree(folder, folder.with_name("0" * 32))
    findings = verify(of(copied)).findings
    assert [f.name for f in findings] == [f"steps/{step[:2]}/{'0' * 32}"]


def test_a_step_under_another_name_is_found(copied: Path) -> None:
    """A record that is whole and lies about what it computed."""
    from ticketlab.experiment.store import written

    step = next(of(copied).ids())
    path = copied / "store" / "steps" / step[:2] / step / "result.json"
    record = json.loads(path.read_bytes())
    record.pop("checksum")
    record["params"] = {**record["params"], "seed": 99}
    path.write_bytes(written(record))
    assert "not the hash" in verify(of(copied)).findings[0].why


def test_gc_keeps_what_a_study_needs(copied: Path, tmp_path: Path) -> None:
    before = sorted(of(copied).ids())
    swept = sweep(of(copied))
    assert swept.studies == 1 and not swept.steps and sorted(of(copied).ids()) == before
    # Steps of a study that has been taken off the list are what goes, and only they.
    other = tiny.prepared(copied.with_name("other"), ["magnitude"], checks=CHECKS, store=copied / "store")
    other.run()
    more = sorted(of(copied).ids())
    assert len(more) > len(before)
    lists = [p for p in (copied / "store" / STUDIES).iterdir() if json.loads(p.read_text())["folder"] == "other"]
    lists[0].unlink()
    dry = sweep(of(copied), dry=True)
    assert sorted(of(copied).ids()) == more
    assert sorted(dry.steps) == sorted(set(more) - set(before))
    assert sweep(of(copied)) == dry and sorted(of(copied).ids()) == before
    assert not verify(of(copied)).findings
    progress = tiny.Counter()
    tiny.prepared(copied, ["snip"], checks=CHECKS).run(1, progress)
    assert not progress.computed


def test_gc_keeps_the_step_that_a_needed_one_shares(copied: Path) -> None:
    store = of(copied)
    shared = [i for i in store.ids() if store.linked(i)]
    if not shared:
        step = next(store.ids())
        record = store.record(step)
        from ticketlab.experiment.step import Step

        twin = Step(record["kind"], {**record["params"], "seed": 77}, {}, "twin")
        store.link(twin, step, "0" * 32)
        shared = [twin.id]
    (copied / "store" / STUDIES).joinpath(next(iter(os.listdir(copied / "store" / STUDIES)))).unlink()
    register(store, copied, "study", [shared[0]])
    sweep(store)
    left = set(Store(copied / "store").ids())
    assert left == {shared[0], Store(copied / "store").linked(shared[0])}


def test_gc_of_a_store_that_nobody_registered_keeps_every_step(copied: Path) -> None:
    shutil.rmtree(copied / "store" / STUDIES)
    before = sorted(of(copied).ids())
    assert not sweep(of(copied)).steps and sorted(of(copied).ids()) == before


def test_gc_stops_at_a_damaged_list(copied: Path) -> None:
    path = next((copied / "store" / STUDIES).iterdir())
    path.write_bytes(path.read_bytes().replace(b"study", b"stody"))
    before = sorted(of(copied).ids())
    with pytest.raises(InputError, match="damaged studies/"):
        sweep(of(copied))
    assert sorted(of(copied).ids()) == before


def test_gc_removes_what_killed_writers_left(copied: Path) -> None:
    steps = copied / "store" / "steps"
    old, young = steps / "aa" / f"{UNFINISHED}old", steps / "aa" / f"{UNFINISHED}young"
    for folder in (old, young, copied / "store" / "damaged" / "x-1"):
        folder.mkdir(parents=True)
        (folder / "tensors.safetensors").write_bytes(b"12345")
    (copied / "store" / "unfinished").mkdir(exist_ok=True)
    finished = next(of(copied).ids())
    (copied / "store" / "unfinished" / f"{finished}.safetensors").write_bytes(b"1")
    (copied / "store" / "unfinished" / f"{'1' * 32}.safetensors").write_bytes(b"1")
    long_ago = time.time() - 3 * 24 * 3600
    os.utime(old, (long_ago, long_ago))
    swept = sweep(of(copied))
    assert swept.leftovers == 3 and swept.bytes == 11 and not swept.steps
    assert not old.exists() and young.exists() and not list((copied / "store" / "damaged").iterdir())
    assert [p.name for p in (copied / "store" / "unfinished").iterdir()] == [f"{'1' * 32}.safetensors"]


def test_a_study_that_grows_needs_more(tmp_path: Path) -> None:
    tiny.prepared(tmp_path, ["snip"], checks=CHECKS).run()
    before = needed(tmp_path)
    tiny.prepared(tmp_path, ["snip"], checks=CHECKS, seeds=4).run()
    assert len(before) == 1 and len(needed(tmp_path)) == 1 and needed(tmp_path)[0] > before[0]
    assert not sweep(of(tmp_path)).steps


def needed(folder: Path) -> list[set[str]]:
    """What each list of a store says."""
    return [set(json.loads(p.read_text())["steps"]) for p in (folder / "store" / STUDIES).iterdir()]


def test_remote_stores_are_looked_after_too(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    place = f"memory://{request.node.name}"
    tiny.prepared(tmp_path / "a", ["snip"], checks=CHECKS, store=place).run()
    store = Store(place)
    assert not verify(store).findings and verify(store).steps > 5 and not sweep(store).steps
    name = next(store.files.folders("steps"))
    store.files.remove_folder(name)
    store.files.put_folder(name, {"result.json": b"{}"})
    assert verify(store).findings
