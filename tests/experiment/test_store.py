"""The store: whole results or none, damage is seen and mended, the first writer wins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tiny
import torch

from ticketlab.errors import InputError
from ticketlab.experiment.agenda import content_key
from ticketlab.experiment.run import InProcess
from ticketlab.experiment.step import Result, Step
from ticketlab.experiment.store import DamagedResult, Store
from ticketlab.mask import Mask

STEP = Step("prune", {"seed": 1}, {}, "label")


def result(value: float = 1.0) -> Result:
    tensors = {"weights": {"a/b.c": torch.full((3,), value), "n": torch.tensor(4)}, "empty": {}}
    return Result({"kept": 2, "facts": {"x": value}}, Mask({"a": torch.tensor([True, False, True])}), tensors)


def stored(folder: Path, step: Step = STEP, value: float = 1.0) -> Store:
    store = Store(folder)
    store.put(step, result(value), 0.5, "key")
    return store


def place(store: Store, step: Step = STEP) -> Path:
    return store.folder / "steps" / step.id[:2] / step.id


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    stored(tmp_path)
    store = Store(tmp_path)
    assert STEP.id in store and store.facts(STEP.id) == {"kept": 2, "facts": {"x": 1.0}}
    assert store.mask(STEP.id) == result().mask
    found = store.tensors(STEP.id, "weights")
    assert torch.equal(found["a/b.c"], torch.ones(3)) and found["n"].dtype == torch.int64
    assert store.tensors(STEP.id, "empty") == {}
    assert store.seconds(STEP.id) == 0.5 and store.linked(STEP.id) is None
    assert store.digests(STEP.id) == result().digests()
    assert store.facts("0" * 32) is None


@pytest.mark.parametrize("call", ["rename", "fsync"])
def test_a_kill_before_the_rename_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, call, killed)
        with pytest.raises(KeyboardInterrupt):
            stored(tmp_path)
    store = Store(tmp_path)
    assert STEP.id not in store and store.same_content("key") is None
    # A killed process cannot even tidy up: what it leaves under another name is never read.
    leftover = place(store).with_name(".new-left")
    leftover.mkdir(parents=True)
    (leftover / "result.json").write_text("{}")
    assert STEP.id not in Store(tmp_path)
    stored(tmp_path)
    assert STEP.id in Store(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff\xfe not json"),
        lambda path: path.write_text("[1, 2]"),
        lambda path: path.write_text(path.read_text().replace('"kept": 2', '"kept": 3')),
        lambda path: path.write_text(path.read_text()[:-40]),
        flip,
    ],
)
def test_a_damaged_record_is_put_aside(tmp_path: Path, damage: object) -> None:
    store = stored(tmp_path)
    damage(place(store) / "result.json")  # type: ignore[operator]
    fresh = Store(tmp_path)
    assert STEP.id not in fresh and not place(store).exists()
    assert list((tmp_path / "damaged").glob(f"{STEP.id}-*"))
    stored(tmp_path)
    assert STEP.id in fresh


@pytest.mark.parametrize("name", ["mask.safetensors", "tensors.safetensors"])
@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_damaged_tensors_are_never_read(tmp_path: Path, name: str, damage: object) -> None:
    store = stored(tmp_path)
    damage(place(store) / name)  # type: ignore[operator]
    with pytest.raises(DamagedResult):
        _ = store.mask(STEP.id) if name.startswith("mask") else store.tensors(STEP.id, "weights")
    assert STEP.id not in store and not place(store).exists()


def test_the_first_writer_wins(tmp_path: Path) -> None:
    stored(tmp_path, value=1.0)
    stored(tmp_path, value=2.0)
    assert float(Store(tmp_path).tensors(STEP.id, "weights")["a/b.c"][0]) == 1.0
    assert not list(place(Store(tmp_path)).parent.glob(".new-*"))


def test_links_share_a_result_and_fall_with_it(tmp_path: Path) -> None:
    store = stored(tmp_path)
    second, third = Step("prune", {"seed": 2}), Step("prune", {"seed": 3})
    store.link(second, STEP.id, "key")
    store.link(third, second.id, "key")
    assert store.linked(third.id) == STEP.id and store.mask(third.id) == store.mask(STEP.id)
    assert store.digests(third.id) == store.digests(STEP.id) and store.seconds(third.id) == 0
    flip(place(store) / "mask.safetensors")
    with pytest.raises(DamagedResult):
        store.mask(third.id)
    # Nothing is left that points to nowhere, in this process or another.
    assert not {STEP.id, second.id, third.id} & {i for i in (STEP.id, second.id, third.id) if i in store}
    assert third.id not in Store(tmp_path)


def test_contents_that_point_nowhere_count_for_nothing(tmp_path: Path) -> None:
    store = stored(tmp_path)
    assert store.same_content("key") == STEP.id
    (tmp_path / "contents" / "key").write_text("../../etc")
    assert store.same_content("key") is None


def test_contents_that_lead_elsewhere_count_for_nothing(tmp_path: Path) -> None:
    store, elsewhere = stored(tmp_path / "store"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("")
    (store.folder / "contents" / "key").write_text("../elsewhere")
    assert store.same_content("key") is None
    assert [path.name for path in elsewhere.iterdir()] == ["file"]


def test_a_place_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"asked to store a result under .*, got "):
        stored(tmp_path / "file")


def test_equal_contents_have_equal_keys_whatever_made_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one, two, other = (Step("data", {"variant": v}) for v in ("a", "b", "c"))
    for step, value in ((one, 1.0), (two, 1.0), (other, 2.0)):
        store.put(step, result(value), 0, step.id)
    keys = [content_key(Step("train", {"p": 1}, {"x.weights": s.id}), store) for s in (one, two, other)]
    assert keys[0] == keys[1] != keys[2]
    assert len({Step("train", {"p": 1}, {"x.weights": s.id}).id for s in (one, two, other)}) == 3


def test_every_kind_of_damage_in_a_study_is_mended(tmp_path: Path) -> None:
    """Flip one bit in one file after another of a finished study: the same results come back."""
    folder = tmp_path / "s"
    wanted = tiny.prepared(folder, ["magnitude"], checks=["rearrange", "corrupted"]).run()
    files = sorted(p for p in (folder / "store" / "steps").rglob("*") if p.is_file())
    # One of each kind of step, and both kinds of files.
    chosen: dict[tuple[str, str], Path] = {}
    study = tiny.prepared(folder, ["magnitude"], checks=["rearrange", "corrupted"])
    for path in files:
        chosen.setdefault((study.plan.steps[path.parent.name].kind, path.name), path)
    assert len(chosen) >= 9
    for path in chosen.values():
        flip(path)
    again = tiny.prepared(folder, ["magnitude"], checks=["rearrange", "corrupted"]).run()
    seconds = [r.pop("seconds") for results in (wanted, again) for r in results["runs"]]
    assert len(seconds) == 2 * len(again["runs"])
    assert again == wanted


def test_damage_found_while_collecting_is_mended(tmp_path: Path) -> None:
    """Nothing is left to compute, and then a file turns out to be damaged."""
    folder = tmp_path / "s"
    study = tiny.prepared(folder, checks=["rearrange"])
    wanted = study.run()
    final = next(t.final for a, t in study.plan.arms.items() if a.check == "rearrange")
    flip(folder / "store" / "steps" / final[:2] / final / "tensors.safetensors")
    progress = tiny.Counter()
    again = tiny.prepared(folder, checks=["rearrange"]).run(1, progress)
    assert again["verdicts"] == wanted["verdicts"] and progress.computed == ["train"]


def test_runner_computes_damaged_inputs_again(tmp_path: Path) -> None:
    study = tiny.prepared(tmp_path / "s", checks=["rearrange"])
    init = next(s for s in study.plan.steps.values() if s.kind == "init")
    run = InProcess(study.context)
    run.run([init], study.store, tiny.Deaf())
    flip(study.store.folder / "steps" / init.id[:2] / init.id / "tensors.safetensors")
    told = tiny.Deaf()
    run.run(study.plan.ordered(), study.store, told)
    assert init.id in told.computed and {*told.computed, *told.linked} == set(study.plan.steps)
