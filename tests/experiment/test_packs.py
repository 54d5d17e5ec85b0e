"""Studies whose engine trains several tickets side by side: the same results, packed in any way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from ticketlab.experiment import execute, work
from ticketlab.experiment.agenda import Agenda, Linked, Pack, alike, content_key
from ticketlab.experiment.prepared import Prepared
from ticketlab.experiment.step import Step

ASKED: dict[str, Any] = {"methods": ["snip", "lottery,rewind=0.5"], "checks": ["corrupted", "half-data", "rearrange"]}


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)


def contents(found: Prepared) -> dict[str, dict[str, str]]:
    """What every step left; ids hold the engine, so that arms name the steps."""
    return {step.label + step.kind: found.store.digests(step.id) for step in found.plan.steps.values()}


def one_by_one(_: Agenda, step: Step, key: str) -> Pack:
    return Pack([step], [key])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The study trained one ticket a pack, by an engine three tickets wide."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", lambda function, **_: function)
        patch.setattr(Agenda, "_filled", one_by_one)
        found = tiny.prepared(tmp_path_factory.mktemp("alone"), engine="stacked:3", **ASKED)
        found.run()
        return contents(found)


def test_packs_change_nothing(tmp_path: Path, alone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    execute_pack = execute.execute_pack

    def seen(steps: list[Step], *arguments: Any) -> Any:
        sizes.append(len(steps))
        assert all(alike(steps[0], step) for step in steps[1:])
        return execute_pack(steps, *arguments)

    monkeypatch.setattr(work, "execute_pack", seen)
    found = tiny.prepared(tmp_path / "s", engine="stacked:3", **ASKED)
    results = found.run()
    assert contents(found) == alone
    assert max(sizes) == 3 and results["complete"]
    assert all(control["passed"] for control in results["controls"])


def test_a_stopped_pack_goes_on_packed_in_another_way(
    tmp_path: Path, alone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ticketlab.engine.stacked import Stacked

    step, calls = Stacked.step, []

    def stopped(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) % 21 == 0:
            raise KeyboardInterrupt
        return step(*arguments)

    asked = {"engine": "stacked:3", "checkpoint_every": 0.0, **ASKED}
    unfinished, kept = tmp_path / "s" / "store" / "unfinished", 0
    with monkeypatch.context() as patch:
        patch.setattr(Stacked, "step", stopped)
        for attempt in range(4):
            with pytest.raises(KeyboardInterrupt):
                tiny.prepared(tmp_path / "s", **asked).run()
            if attempt % 2:
                patch.setattr(Agenda, "_filled", one_by_one)
            kept += len(list(unfinished.iterdir()))
    found = tiny.prepared(tmp_path / "s", **asked)
    found.run()
    assert contents(found) == alone and kept
    assert not any(unfinished.iterdir())


def test_steps_of_the_same_contents_are_not_trained_twice_in_a_pack(tmp_path: Path) -> None:
    """Tampered data cost a data-free method no training: equal masks, equal contents, one training."""
    found = tiny.prepared(tmp_path / "s", ["magnitude"], checks=["corrupted", "random-labels"], engine="stacked:8")
    progress = tiny.Counter()
    found.run(1, progress)
    assert progress.computed.count("train") == 6
    keys = [content_key(s, found.store) for s in found.plan.steps.values() if s.kind == "train"]
    assert len(set(keys)) == 6


def test_a_pack_takes_what_is_ready_alike_and_not_under_way(tmp_path: Path) -> None:
    found = tiny.prepared(tmp_path / "s", ["snip"], checks=["half-data"], engine="stacked:2", seeds=4)
    steps = list(found.plan.steps.values())
    with pytest.raises(KeyboardInterrupt):
        found.run(1, tiny.Counter(stop_after=sum(s.kind != "train" for s in steps) - 8))
    trainings = [
        s
        for s in steps
        if s.kind == "train" and s.id not in found.store and all(i in found.store for i in s.inputs.values())
    ]
    agenda = Agenda(trainings, found.store, 2)
    pack = taken(agenda)
    assert pack.steps == trainings[:2]
    # The other one is still under way.
    agenda.again(trainings[0].id, pack.keys[0])
    assert taken(agenda).steps == [trainings[0], trainings[2]]
    other = next(s for s in steps if s.kind == "prune" and s.id in found.store)
    found.store.discard(other.id)
    assert taken(Agenda([other, *trainings], found.store, 2)).steps == [other]


def taken(agenda: Agenda) -> Pack:
    pack = agenda.take()
    assert pack is not None and not isinstance(pack, Linked)
    assert pack.keys == [content_key(step, agenda._store) for step in pack.steps]
    return pack


_DRIVER = """
import sys
import tiny
if __name__ == "__main__":
    found = tiny.prepared(__import__("pathlib").Path(sys.argv[1]), ["snip"], checks=["rearrange"], engine="stacked:3")
    found.run(int(sys.argv[2]))
"""


@pytest.mark.slow
def test_compiled_packs_of_two_processes_give_the_same_bits(tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(_DRIVER)
    for jobs in ("1", "2"):
        command = [sys.executable, str(tmp_path / "driver.py"), str(tmp_path / jobs), jobs]
        subprocess.run(command, check=True, cwd=Path(tiny.__file__).parent, env=_environment())
    one, two = (tiny.prepared(tmp_path / jobs, ["snip"], checks=["rearrange"], engine="stacked:3") for jobs in "12")
    assert contents(one) == contents(two)


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(Path(tiny.__file__).parent)}
