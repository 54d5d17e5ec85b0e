"""Seeds for the undecided only: who gets more, that stopping and growing change nothing, and what the report says."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import tiny
from rich.console import Console

from ticketlab.errors import InputError
from ticketlab.experiment import pairs
from ticketlab.experiment.arms import DENSE, ORIGINAL, Arm, Trained
from ticketlab.experiment.looks import current, most
from ticketlab.experiment.prepared import Prepared, reopen
from ticketlab.experiment.store import Store
from ticketlab.experiment.study import Study
from ticketlab.report.html import page
from ticketlab.report.terminal import render

CHECKS = ["rearrange", "corrupted", "reinit"]
# What tampering costs, by seed: plain at three seeds, a difference at eight, and nothing that twenty could tell.
DROPS = {
    "rearrange": [25.0, 25.5, 24.5] * 7,
    "corrupted": [5.0, 13.0, 9.0] * 7,
    "reinit": [-15.0, -15.0, 15.0, -15.0, 15.0] * 4,
    "weight-shuffle": [25.0, 25.5, 24.5] * 7,
}
SEEDS = {"rearrange": 3, "corrupted": 8, "reinit": 5}


@pytest.fixture(autouse=True)
def arranged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tickets are found and trained as always; their accuracies are as above."""

    def accuracy(store: Store, trained: Trained) -> float | None:
        if trained.final not in store:
            return None
        name, _, seed = store.record(trained.final)["label"].rpartition(", seed ")
        check = name.partition(" · ")[2].partition(",")[0]
        return 100.0 if name == "dense" else 85.0 - DROPS.get(check, [0.0] * 20)[int(seed)]

    monkeypatch.setattr(pairs, "accuracy", accuracy)


def study(folder: Path, methods: Any = ("snip",), **changes: Any) -> Prepared:
    return tiny.prepared(folder, methods, **{"checks": CHECKS, "seeds": None, "until_decided": True, **changes})


def timeless(results: dict[str, Any]) -> dict[str, Any]:
    runs = [{**r, "seconds": None, "status": r["status"].replace("linked", "ok")} for r in results["runs"]]
    return {**results, "runs": runs, "created": None, "failed": None}


def seeds_of(results: dict[str, Any]) -> dict[str, list[int]]:
    return {
        arm: sorted(r["seed"] for r in results["runs"] if r["check"] == arm)
        for arm in {r["check"] for r in results["runs"]}
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], int]:
    """The study in one go: its folder, what it found, and how many steps it computed."""
    with pytest.MonkeyPatch.context() as patch:
        arranged.__wrapped__(patch)  # type: ignore[attr-defined]
        progress = tiny.Counter()
        folder = tmp_path_factory.mktemp("alone") / "s"
        return folder, study(folder).run(1, progress), len(progress.computed) + len(progress.linked)


def test_only_the_undecided_get_more_seeds(alone: tuple[Path, dict[str, Any], int]) -> None:
    folder, results, computed = alone
    found = {v["check"]: v for v in results["verdicts"]}
    assert {check: v["verdict"] for check, v in found.items()} == {
        "rearrange": "uses", "corrupted": "uses", "reinit": "undecided"
    }  # fmt: skip
    assert {check: v["n"] for check, v in found.items()} == SEEDS
    assert {row["check"]: row["seeds"] for row in results["granted"]} == SEEDS
    assert all(row["finished"] == row["seeds"] for row in results["granted"])
    # The originals of the later seeds serve whoever still needs them; the dense runs fix margin and lines at the start.
    of = {check: list(range(n)) for check, n in {**SEEDS, ORIGINAL: 8, DENSE: 3}.items()}
    assert seeds_of(results) == of
    assert results["complete"] and results["steps_done"] == results["steps_total"] == computed
    assert len(list(Store(folder / "store").ids())) == computed, "a step that no comparison was granted"
    statistics = results["statistics"]
    assert statistics["until_decided"] is True and statistics["looks_done"] == [3, 5, 8] and statistics["seeds"] == 8
    assert [control["seeds"] for control in results["controls"]] == list(SEEDS.values())


def test_the_report_says_who_was_given_up(alone: tuple[Path, dict[str, Any], int]) -> None:
    _, results, _ = alone
    given_up = next(v for v in results["verdicts"] if v["check"] == "reinit")
    assert "stopped at 5 seeds: the chance of a verdict by 20 was below 10%" in given_up["reason"]
    assert "stopped at 5 seeds" in given_up["sentence"]
    written = StringIO()
    render(results, Console(width=200, file=written))
    for text in (written.getvalue(), page(results)):
        assert "3 to 8, added until decided" in text and "stopped at 5 seeds" in text
        assert "Only comparisons that a look leaves undecided get the seeds of the next one." in text
        assert "5 planned looks, at 3, 5, 8, 12, 20 seeds; taken: 3, 5, 8." in text


@pytest.mark.parametrize("after", [2, 20, 45, 60, 75])
def test_an_interrupted_study_takes_the_same_path(
    tmp_path: Path, alone: tuple[Path, dict[str, Any], int], after: int
) -> None:
    stopped = tiny.Counter(stop_after=after)
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "s").run(1, stopped)
    _, between = reopen(tmp_path / "s")
    json.dumps(between, allow_nan=False)
    assert not between["complete"] and 0 < between["steps_done"] < between["steps_total"]
    rest = tiny.Counter()
    results = study(tmp_path / "s").run(1, rest)
    assert timeless(results) == timeless(alone[1])
    new = len(stopped.computed) + len(stopped.linked) + len(rest.computed) + len(rest.linked)
    assert new == alone[2], "a step was computed twice, or for nobody"


def test_workers_take_the_same_path(tmp_path: Path, alone: tuple[Path, dict[str, Any], int]) -> None:
    assert timeless(study(tmp_path / "s").run(2)) == timeless(alone[1])


def test_show_needs_nothing_but_the_study_and_its_store(
    alone: tuple[Path, dict[str, Any], int], tmp_path: Path
) -> None:
    folder, results, _ = alone
    content = (folder / "results.json").read_bytes()
    (folder / "results.json").unlink()
    shown = reopen(folder)[1]
    assert timeless(shown) == timeless(results) and shown["created"] == results["created"]
    (folder / "results.json").write_bytes(content)


def test_a_second_run_computes_nothing(alone: tuple[Path, dict[str, Any], int]) -> None:
    progress = tiny.Counter()
    assert timeless(study(alone[0]).run(1, progress)) == timeless(alone[1])
    assert not progress.computed + progress.linked


@pytest.mark.parametrize("new", [{"checks": ["weight-shuffle"]}, {"methods": ["magnitude"]}])
def test_a_grown_study_is_one_that_began_so(tmp_path: Path, new: dict[str, Any]) -> None:
    first, second = tiny.Counter(), tiny.Counter()
    study(tmp_path / "s").run(1, first)
    grown = study(tmp_path / "s", **new).run(1, second)
    merged = {
        "methods": list(dict.fromkeys(["snip", *new.get("methods", [])])),
        "checks": list(dict.fromkeys([*CHECKS, *new.get("checks", [])])),
    }
    at_once = study(tmp_path / "t", **merged).run()
    assert timeless(grown) == timeless(at_once) and grown["complete"]
    assert len(first.computed) + len(first.linked) + len(second.computed) + len(second.linked) >= at_once["steps_total"]
    # A larger family asks for more: what was found before serves it.
    assert second.done > 0


def test_a_damaged_result_is_computed_again(tmp_path: Path, alone: tuple[Path, dict[str, Any], int]) -> None:
    found = study(tmp_path / "s")
    found.run()
    planned = current(found.study, found.store)
    final = planned.arms[Arm("snip", "corrupted", 0.8, 6)].final
    (found.folder / "store" / "steps" / final[:2] / final / "result.json").write_bytes(b"{}")
    again = tiny.Counter()
    assert timeless(study(tmp_path / "s").run(1, again)) == timeless(alone[1])
    assert len(again.computed) + len(again.linked) == 1


def test_the_most_that_it_can_take(tmp_path: Path) -> None:
    found = study(tmp_path / "s")
    whole = most(found.study, found.plan)
    assert {arm.seed for arm in whole.arms if arm.check == "reinit"} == set(range(20))
    assert set(found.plan.steps) < set(whole.steps)
    first, at_most = found.estimate(1), found.estimate_of_most(1)
    assert sum(first.steps.values()) == len(found.plan.steps) and sum(at_most.steps.values()) == len(whole.steps)
    assert at_most.seconds > first.seconds and at_most.disk > first.disk


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 5}, "asked for 5 seeds, got a study that goes on until decided"),
        ({"final": True}, "asked for a final look, got a study that goes on until decided"),
    ],
)
def test_seeds_are_chosen_in_one_way(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        study(tmp_path / "s", **changes)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 5}, "asked for 5 seeds, got a study that goes on until decided: add --until-decided"),
        ({"seeds": None}, "asked for the usual seeds, got a study that goes on until decided"),
        ({"seeds": 5, "final": True}, "asked for a final look, got a study that goes on until decided"),
    ],
)
def test_a_study_stays_one_that_goes_on_until_decided(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    begun = study(tmp_path / "s")
    begun.study.save(begun.folder)
    with pytest.raises(InputError, match=message):
        study(tmp_path / "s", until_decided=False, **changes)


def test_a_study_of_fixed_seeds_stays_one(tmp_path: Path) -> None:
    begun = tiny.prepared(tmp_path / "s", checks=CHECKS)
    begun.study.save(begun.folder)
    assert "until_decided" not in begun.study.statistics, "studies of before there was a choice would be others"
    with pytest.raises(InputError, match=r"asked to go on until decided, got a study with looks at 3, 6, 12 seeds"):
        study(tmp_path / "s")


def test_the_spec_survives_its_file_and_is_checked(tmp_path: Path) -> None:
    begun = study(tmp_path / "s")
    begun.study.save(begun.folder)
    assert Study.load(begun.folder) == begun.study and begun.study.until_decided
    path = begun.folder / "study.json"
    path.write_text(path.read_text().replace('"until_decided": true', '"until_decided": "yes"'))
    with pytest.raises(InputError, match="statistics until_decided is 'yes', of the wrong type"):
        Study.load(begun.folder)
