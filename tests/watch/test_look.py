"""The look: it says how a study stands, reads every record once, and changes nothing."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest
import tiny
from commands import run

from ticketlab.errors import InputError
from ticketlab.experiment.files import LocalFiles
from ticketlab.experiment.prepared import Prepared
from ticketlab.experiment.results import collect
from ticketlab.experiment.store import Store, path_of
from ticketlab.experiment.upkeep import register
from ticketlab.watch.look import Watch
from ticketlab.watch.status import Status

from .folders import claim, copied, everything, trainings, without


def seen(folder: Path) -> Status:
    found = Watch(folder).look()
    assert found is not None
    return found


def test_a_finished_study(study: Prepared) -> None:
    found = seen(study.folder)
    results = json.loads((study.folder / "results.json").read_text())
    kinds = Counter(step.kind for step in study.plan.steps.values())
    assert found.complete and found.over and found.done == found.total == len(study.plan.steps)
    assert found.kinds == {kind: (n, n) for kind, n in kinds.items()}
    assert found.answer == results["answer"] and found.title == results["title"] and found.left == 0.0
    by_step = {r["step"]: r["accuracy"] for r in results["runs"]}
    assert len(found.latest) == 9 and all(f.accuracy == by_step[f.step] for f in found.latest)
    assert [f.finished for f in found.latest] == sorted((f.finished for f in found.latest), reverse=True)
    assert found.seconds == pytest.approx(sum(study.store.seconds(step) for step in study.plan.steps))
    assert found.began is not None and 0 <= found.at - found.began < 3600
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["kinds"]["train"] == {"done": 9, "total": 9}


def test_what_is_missing_what_runs_and_what_died(study: Prepared, tmp_path: Path) -> None:
    folder = copied(study, tmp_path / "s")
    missing = trainings(study)[-3:]
    without(folder, *missing)
    store = Store(folder / "store")
    claim(store, missing[0], age=20, epoch=1.5, epochs=2.0, accuracy=55.5, loss=float("nan"))
    claim(store, missing[1], age=100, silent=40)
    # Of a step that is finished, and of somebody else's.
    claim(store, trainings(study)[0])
    store.files.write("claims/odd", b'{"step": 3}')
    found = seen(folder)
    assert (found.done, found.total, found.kinds["train"]) == (len(study.plan.steps) - 3, len(study.plan.steps), (6, 9))
    assert not found.over and found.workers == 1
    assert [c.step for c in found.running] == [missing[0].id]
    assert found.running[0].progress == {"epoch": 1.5, "epochs": 2.0, "accuracy": 55.5}
    assert [c.step for c in found.lost] == [missing[1].id] and 40 <= found.at - found.lost[0].beat < 60
    assert found.answer == collect(study.study, study.plan, store)["answer"] != "", "of two seeds out of three"
    mean = sum(study.store.seconds(s.id) for s in trainings(study)[:6]) / 6
    assert found.left == pytest.approx(max(0.0, 3 * mean - 20), abs=0.01)


def test_nothing_is_touched(study: Prepared, tmp_path: Path) -> None:
    """Damaged records, damaged tensors, a folder without a record: what a run would put aside stays where it is."""
    folder = copied(study, tmp_path / "s")
    without(folder)
    one, two, three = (folder / "store" / path_of(step.id) for step in trainings(study)[:3])
    (one / "result.json").write_bytes((one / "result.json").read_bytes()[:-9])
    (two / "tensors.safetensors").write_bytes(b"damaged")
    (three / "result.json").unlink()
    before = everything(tmp_path)
    watch = Watch(folder)
    found = [watch.look(), watch.look()]
    assert all(f is not None and f.damaged == 2 and f.done == len(study.plan.steps) - 2 for f in found)
    assert everything(tmp_path) == before
    assert Store(folder / "store").facts(trainings(study)[0].id) is None and everything(tmp_path) != before, (
        "a run does"
    )


def test_records_are_read_once(study: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copied(study, tmp_path / "s")
    last = trainings(study)[-1]
    kept = tmp_path / "kept"
    shutil.copytree(folder / "store" / path_of(last.id), kept)
    without(folder, last)
    read: list[str] = []
    get = LocalFiles.get

    def counted(self: LocalFiles, name: str, file: str) -> bytes:
        if file == "result.json":
            read.append(name)
        return get(self, name, file)

    monkeypatch.setattr(LocalFiles, "get", counted)
    watch = Watch(folder)
    watch.look()
    assert len(read) == len(set(read)) == len(study.plan.steps) - 1
    watch.look()
    assert len(read) == len(study.plan.steps) - 1
    shutil.copytree(kept, folder / "store" / path_of(last.id))
    found = watch.look()
    assert found is not None and found.complete and len(read) == len(study.plan.steps)
    # What was collected as garbage, or put aside by a run, is missing again.
    without(folder, last)
    again = watch.look()
    assert again is not None and again.done == again.total - 1


def test_nothing_has_begun(tmp_path: Path) -> None:
    assert Watch(tmp_path / "none").look() is None
    (tmp_path / "a" / "store" / "steps").mkdir(parents=True)
    watch = Watch(tmp_path / "a")
    assert watch.look() is None
    tiny.prepared(tmp_path / "b", checks=["rearrange"]).study.save(tmp_path / "a")
    found = watch.look()
    assert found is not None and (found.done, found.answer, found.left) == (0, "", None) and not found.over


def test_a_shared_store(study: Prepared, tmp_path: Path) -> None:
    """Steps and claims of other studies in it are not counted; a store that is named late is found."""
    folder, shared = tmp_path / "s", tmp_path / "shared"
    folder.mkdir()
    study.study.save(folder)
    watch = Watch(folder)
    before = watch.look()
    assert before is not None and before.done == 0
    shutil.copytree(study.folder / "store", shared)
    (folder / "store.txt").write_text(f"{shared}\n")
    other = tiny.prepared(tmp_path / "o", ["snip"], checks=["rearrange"], store=shared)
    claim(Store(shared), trainings(other)[-1])
    register(Store(shared), tmp_path / "o", "study", other.plan.steps)
    found = watch.look()
    assert found is not None and found.complete and not found.running and found.total == len(study.plan.steps)


def test_a_store_at_a_url(tmp_path: Path) -> None:
    place = f"memory://{tmp_path.name}"
    study = tiny.prepared(tmp_path / "s", ["magnitude"], checks=["rearrange"], store=place)
    watch = Watch(study.folder)
    assert watch.look() is None
    results = study.run()
    found = watch.look()
    assert found is not None and found.complete and found.answer == results["answer"]


def test_a_study_that_grows(study: Prepared, tmp_path: Path) -> None:
    folder = copied(study, tmp_path / "s")
    watch = Watch(folder)
    first = watch.look()
    tiny.prepared(folder, ["magnitude"], checks=["rearrange"], seeds=5).study.save(folder)
    second = watch.look()
    assert first is not None and first.complete
    assert second is not None and second.done == first.total < second.total and not second.over


def test_methods_that_cannot_be_found_from_here(study: Prepared, tmp_path: Path) -> None:
    """The list of steps that the run left says how many there are."""
    folder = copied(study, tmp_path / "s")
    text = (folder / "study.json").read_text()
    (folder / "study.json").write_text(text.replace('"magnitude"', '"nowhere:score"'))
    found = seen(folder)
    assert found.complete and found.total == len(study.plan.steps) and found.kinds["train"] == (9, None)
    shutil.rmtree(folder / "store" / "studies")
    with pytest.raises(InputError, match="nowhere"):
        Watch(folder).look()


def test_a_score_that_was_edited_since(study: Prepared, tmp_path: Path) -> None:
    """The plan has other steps then; what was run is on the list."""
    folder = copied(study, tmp_path / "s")
    (entry,) = (folder / "store" / "studies").iterdir()
    listed = json.loads(entry.read_text())
    listed["steps"] = [trainings(study)[0].id, "0" * 32]
    entry.write_text(json.dumps(listed))
    found = seen(folder)
    assert (found.done, found.total) == (1, 2)


def test_what_failed(study: Prepared, tmp_path: Path) -> None:
    """What builds on a failed step will not come: the study is over when all else is done."""
    folder = copied(study, tmp_path / "s")
    # The mask of the last seed, and what is made of it.
    failed = [s for s in study.plan.steps.values() if s.kind == "prune"][-1]
    gone, plan = {failed.id}, study.plan.steps
    for step in plan.values():
        if gone & set(step.inputs.values()):
            gone.add(step.id)
    without(folder, *(plan[i] for i in gone))
    entry = {"step": failed.id, "label": failed.label, "kind": "prune", "error": "scores are NaN"}
    (folder / "failed.json").write_text(json.dumps({"failed": [entry]}))
    found = seen(folder)
    assert [(f.label, f.error) for f in found.failed] == [(failed.label, "scores are NaN")]
    assert len(gone) > 2 and found.blocked == len(gone) and found.over and not found.complete
    # Somebody runs it again.
    claim(Store(folder / "store"), failed)
    again = seen(folder)
    assert not again.failed and again.blocked == 0 and not again.over
    (folder / "failed.json").write_text('{"failed": [{"step": 1}]}')
    assert not seen(folder).failed


def test_a_study_until_decided(tmp_path: Path) -> None:
    """Its plan grows look by look; the end of a look is not the end."""
    study = tiny.prepared(tmp_path / "s", ["magnitude"], checks=["rearrange"], seeds=None, until_decided=True)
    results = study.run()
    found = seen(study.folder)
    assert found.complete and found.total == results["steps_total"] and found.answer == results["answer"]
    late = [s for s in results["runs"] if s["seed"] >= 3]
    assert late, "one look was not enough"
    folder = copied(study, tmp_path / "t")
    for run_ in late:
        shutil.rmtree(folder / "store" / path_of(run_["step"]))
    (folder / "results.json").unlink()
    assert not seen(folder).over


def test_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(tiny.__file__).parent))
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "small.toml").write_text(TABLE)
    assert run("reproduce", "small", "--quick", "--jobs", "1", "--out", "t") == 0
    capsys.readouterr()
    before = everything(tmp_path)
    found = seen(Path("t"))
    assert everything(tmp_path) == before
    assert found.complete and found.title == "small quick" and found.kinds["train"] == (6, None)
    assert found.answer == "small quick: of 1 claims 0 hold, 0 do not, 1 are open."
    assert found.began is not None and 0 <= time.time() - found.began < 3600
    shutil.rmtree(next(Path("t/store/steps").glob("*/*")))
    assert seen(Path("t")).done == found.total - 1


TABLE = """
title = "A small table"
paper = "Nobody, 2020"
about = "Tests."
datasets = ["digits"]
sparsities = [0.75]
seeds = 2
per_class = 4

[networks]
tiny = "tiny:net"

[training]
epochs = 2
batch_size = 200
lr = 0.1
augment = false

[[rows]]
name = "smart-ratio"
method = "smart-ratio"

[[rows]]
name = "magnitude"
method = "magnitude"

[[claims]]
text = "magnitude beats random"
higher = "magnitude"
lower = "smart-ratio"
expect = "higher"

[quick]
note = "It shows nothing."
train = 60
test = 40

[quick.training]
epochs = 2
batch_size = 15
augment = false
"""
