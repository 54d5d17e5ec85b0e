"""Between a run and its loggers: every finished training is told once, by name, with its curves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny

from ticketlab.errors import InputError
from ticketlab.experiment.prepared import Prepared
from ticketlab.experiment.store import Store, path_of
from ticketlab.logging import Training, listener


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """With trainings that are no arm's last one, and a rival whose tickets are another method's own."""
    folder = tmp_path_factory.mktemp("logged") / "s"
    found = tiny.prepared(folder, ["imp,rounds=2", "magnitude"], checks=["rearrange", "versus:magnitude"])
    found.run()
    return found


class Kept:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Training] = []
        self.closed = 0

    def training(self, record: Training) -> None:
        self.told.append(record)

    def close(self) -> None:
        self.closed += 1


def plans(study: Prepared) -> dict[str, Any]:
    return {"tiny/net": study.plan}


def test_everything_that_is_finished_is_told_at_once(study: Prepared) -> None:
    kept = Kept()
    heard = listener([kept], plans(study), study.store)
    trainings = [s for s in study.plan.steps.values() if s.kind == "train"]
    assert [t.step for t in kept.told] == [s.id for s in trainings]
    for arm, trained in study.plan.arms.items():
        (found,) = (t for t in kept.told if t.step == trained.final)
        assert (found.sparsity, found.seed, found.where) == (arm.sparsity, arm.seed, "tiny/net")
        if arm.check.startswith("versus:"):
            assert (found.method, found.check) == ("magnitude", "original"), "a rival's ticket is one of its own"
        else:
            assert (found.method, found.check) == (arm.method, arm.check)
        facts = study.store.facts(trained.final)
        assert facts is not None and list(found.history) == facts["history"] and found.accuracy == facts["accuracy"]
        assert found.seconds == study.store.seconds(trained.final) and found.finished > 1e9
    on_the_way = [t for t in kept.told if t.method is None]
    assert on_the_way and all((t.check, t.sparsity) == (None, None) and t.label for t in on_the_way)
    heard.close()
    assert kept.closed == 1


def test_what_finishes_is_told_once(study: Prepared, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    kept, called = Kept(), []
    heard = listener([kept, called.append], plans(study), store)
    assert kept.told == []
    trained = [s for s in study.plan.steps.values() if s.kind == "train"][:2]
    other = next(s for s in study.plan.steps.values() if s.kind == "init")
    for step in (trained[0], other, trained[1], trained[1]):
        shutil.copytree(
            study.folder / "store" / path_of(step.id), store.files.root / path_of(step.id), dirs_exist_ok=True
        )
        heard.finished(step, 1.0, False)
    assert [t.step for t in kept.told] == [s.id for s in trained] and called == kept.told
    # The next look of a study that goes on until decided: what was told is not told again.
    heard.add("tiny/net", study.plan)
    assert len(kept.told) == 2


def test_the_listener_changes_nothing(study: Prepared, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    shutil.copytree(study.folder / "store", folder)
    step = next(s for s in study.plan.steps.values() if s.kind == "train")
    (folder / path_of(step.id) / "result.json").write_text("{")
    before = sorted(folder.rglob("*"))
    kept = Kept()
    listener([kept], plans(study), Store(folder))
    assert step.id not in [t.step for t in kept.told] and sorted(folder.rglob("*")) == before


def test_a_logger_that_fails_is_left_alone(study: Prepared) -> None:
    """The others and the run go on."""
    calls = []

    def broken(record: Training) -> None:
        calls.append(record)
        raise OSError("no network")

    kept = Kept()
    with pytest.warns(RuntimeWarning, match="hears no more of this run .OSError: no network."):
        heard = listener([broken, kept], plans(study), study.store)
    heard.close()
    assert len(calls) == 1 and len(kept.told) > 5 and kept.closed == 1


@pytest.mark.parametrize("thing", [3, "tensorboard", Kept])
def test_what_is_no_logger(study: Prepared, thing: Any) -> None:
    with pytest.raises(InputError, match=r"asked for a logger, got .*training.record. and close"):
        listener([thing], plans(study), study.store)
