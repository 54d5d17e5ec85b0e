"""TensorBoard reads back what was logged: every value of every ticket, once."""

from __future__ import annotations

import builtins
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ticketlab.errors import InputError
from ticketlab.logging import TensorBoard, Training, listener

HISTORY = (
    {"epoch": 1, "lr": 0.1, "loss": 2.5, "accuracy": 40.0},
    {"epoch": 2, "lr": 0.1, "loss": 1.25, "accuracy": 62.5},
    {"epoch": 2.5, "lr": 0.01, "loss": 1.0, "accuracy": 75.0},
)
RECORD = Training(
    "ab" * 16, "snip · rearrange, 98%, seed 2", "digits/conv", "snip", "rearrange", 0.98, 2, 75.0, HISTORY, 3.0, 1.7e9
)


def runs(folder: Path) -> list[str]:
    """The runs that TensorBoard would show."""
    return sorted(str(path.parent.relative_to(folder)) for path in folder.rglob("*tfevents*"))


def curve(folder: Path, run: str, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / run))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["accuracy", "loss"]
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_curves(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path / "board")
    board.training(RECORD)
    board.close()
    (run,) = runs(tmp_path / "board")
    assert run == "digits/conv/snip/rearrange/98%/seed 2"
    assert curve(tmp_path / "board", run, "accuracy") == [(1, 40.0), (2, 62.5), (3, 75.0)]
    assert curve(tmp_path / "board", run, "loss") == [(1, 2.5), (2, 1.25), (3, 1.0)]
    ticket = json.loads((tmp_path / "board" / run / "ticket.json").read_text())
    assert (ticket["step"], ticket["method"], ticket["accuracy"]) == (RECORD.step, "snip", 75.0)


def test_once_in_a_folder_whoever_logs(tmp_path: Path) -> None:
    for _ in range(2):
        TensorBoard(tmp_path).training(RECORD)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    TensorBoard(tmp_path).training(RECORD)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert len(runs(tmp_path)) == 1


def test_other_tickets_of_one_name(tmp_path: Path) -> None:
    """Such as those of a study with another recipe: they stay apart, and are told apart by their steps."""
    board = TensorBoard(tmp_path)
    name = "digits/conv/snip/rearrange/98%/seed 2"
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / "mine").write_text("somebody else's")
    for step in ("cd" * 16, "ef" * 16, "cdcdcdcd" + "00" * 12, "cd" * 16):
        board.training(replace(RECORD, step=step))
    assert runs(tmp_path) == [f"{name} cdcdcdcd", f"{name} cdcdcdcd{'00' * 12}", f"{name} efefefef"]


@pytest.mark.parametrize(
    ("changes", "run"),
    [
        ({"method": "", "check": "dense", "sparsity": None}, "digits/conv/dense/seed 2"),
        ({"method": None, "check": None, "sparsity": None, "label": "dense, seed 0 (finding)"},
         "digits/conv/found on the way/dense, seed 0 (finding)"),
        ({"method": "../../../mine:score,power=2"}, "digits/conv/-..-..-mine-score,power=2/rearrange/98%/seed 2"),
        ({"where": "digits/../my:net", "method": ".."}, "digits/-/my-net/-/rearrange/98%/seed 2"),
    ],
)  # fmt: skip
def test_names_stay_in_the_folder(tmp_path: Path, changes: dict[str, Any], run: str) -> None:
    board = TensorBoard(tmp_path / "a" / "b" / "c")
    board.training(replace(RECORD, **changes))
    (found,) = runs(tmp_path)
    assert found == f"a/b/c/{run}"


def test_what_has_no_number_is_left_out(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.training(replace(RECORD, accuracy=None, history=({**HISTORY[0], "accuracy": None}, HISTORY[1])))
    (run,) = runs(tmp_path)
    assert curve(tmp_path, run, "accuracy") == [(2, 62.5)]
    board.training(replace(RECORD, step="0" * 32, seed=3, accuracy=None, history=()))
    assert len(runs(tmp_path)) == 2, "a ticket that diverged in its first epoch has a run too"


def test_a_study_and_its_next_run(tmp_path: Path) -> None:
    """What an earlier run finished is logged when logging starts, and nothing twice."""
    study = tiny.prepared(tmp_path / "s", ["magnitude"], checks=["rearrange"])
    study.run()
    board = tmp_path / "board"
    for _ in range(2):
        listener([TensorBoard(board)], {"tiny/net": study.plan}, study.store).close()
    names = [f"magnitude/{check}/80%/seed {seed}" for check in ("original", "rearrange") for seed in range(3)]
    names += [f"dense/seed {seed}" for seed in range(3)]
    assert runs(board) == sorted(f"tiny/net/{name}" for name in names)
    for arm, trained in study.plan.arms.items():
        part = "dense" if arm.sparsity is None else f"magnitude/{arm.check}/80%"
        facts = study.store.facts(trained.final)
        assert facts is not None
        found = curve(board, f"tiny/net/{part}/seed {arm.seed}", "accuracy")
        assert found == [(e["epoch"], pytest.approx(e["accuracy"])) for e in facts["history"]] and len(found) == 2


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"asked to log into .*board, got "):
        TensorBoard(tmp_path / "file" / "board")


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def none(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", none)
    with pytest.raises(InputError, match=r"pip install 'ticketlab\[tensorboard\]'"):
        TensorBoard(tmp_path / "board")
    assert not (tmp_path / "board").exists()
