"""Runners: the same bits from any number of processes, and a study that goes on where it stopped."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from ticketlab.engine.eager import Eager
from ticketlab.errors import InputError
from ticketlab.experiment import execute
from ticketlab.experiment.prepared import Prepared
from ticketlab.experiment.store import Store
from ticketlab.methods import Method
from ticketlab.program import Rewind, Train, retrained

METHODS = (
    "snip",
    "lottery,rewind=1",
    tiny.score,
    Method("own-lottery", tiny.score, reads_data=False, needs_trained=True),
)
ASKED: dict[str, Any] = {"checks": ["corrupted", "rearrange", "reinit"], "sparsity": [0.6]}


def study(folder: Path) -> Prepared:
    return tiny.prepared(folder, METHODS, **ASKED)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Prepared, dict[str, Any]]:
    found = study(tmp_path_factory.mktemp("alone") / "s")
    return found, found.run()


def timeless(results: dict[str, Any]) -> dict[str, Any]:
    runs = [{k: v for k, v in r.items() if k != "seconds"} for r in results["runs"]]
    return {**results, "runs": runs, "created": None}


def digests(found: Prepared) -> dict[str, dict[str, str]]:
    store = Store(found.folder / "store")
    return {step: store.digests(step) for step in found.plan.steps}


def test_two_processes_give_the_same_bits(tmp_path: Path, alone: tuple[Prepared, dict[str, Any]]) -> None:
    found = study(tmp_path / "s")
    progress = tiny.Counter()
    results = found.run(2, progress)
    assert digests(found) == digests(alone[0])
    # Which of two equal steps was computed and which linked may differ; nothing else does.
    for both in (results, alone[1]):
        for run in both["runs"]:
            run["status"] = "ok" if run["status"] == "linked" else run["status"]
    assert timeless(results) == timeless(alone[1])
    assert len(progress.computed) + len(progress.linked) == len(found.plan.steps)


@pytest.mark.parametrize("after", [1, 7, 30])
def test_an_interrupted_run_goes_on_where_it_stopped(
    tmp_path: Path, alone: tuple[Prepared, dict[str, Any]], after: int
) -> None:
    stopped, rest = tiny.Counter(stop_after=after), tiny.Counter()
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "s").run(1, stopped)
    results = study(tmp_path / "s").run(1, rest)
    assert rest.done == after + len(stopped.linked)
    assert rest.done + len(rest.computed) + len(rest.linked) == results["steps_total"]
    assert results["complete"] and results["verdicts"] == alone[1]["verdicts"]
    assert digests(study(tmp_path / "s")) == digests(alone[0])


def test_an_interrupted_run_of_two_processes_goes_on(tmp_path: Path, alone: tuple[Prepared, dict[str, Any]]) -> None:
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "s").run(2, tiny.Counter(stop_after=5))
    rest = tiny.Counter()
    results = study(tmp_path / "s").run(1, rest)
    assert rest.done >= 5 and results["verdicts"] == alone[1]["verdicts"]


def test_a_kill_inside_a_training_leaves_no_trace(
    tmp_path: Path, alone: tuple[Prepared, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    step = Eager.step

    def killed(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 100:
            raise KeyboardInterrupt
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Eager, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            study(tmp_path / "s").run()
    assert study(tmp_path / "s").run()["verdicts"] == alone[1]["verdicts"]


def test_a_second_run_trains_nothing(alone: tuple[Prepared, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*arguments: Any) -> Any:
        raise AssertionError("computed again")

    monkeypatch.setattr("ticketlab.experiment.work.execute", no)
    progress = tiny.Counter()
    results = study(alone[0].folder).run(1, progress)
    assert progress.done == results["steps_total"] and not progress.computed + progress.linked
    assert results["verdicts"] == alone[1]["verdicts"]


def test_growing_computes_only_what_is_new(tmp_path: Path) -> None:
    first, more = tiny.Counter(), tiny.Counter()
    tiny.prepared(tmp_path / "s", checks=["rearrange"]).run(1, first)
    results = tiny.prepared(tmp_path / "s", ["magnitude"], checks=["reinit"], seeds=4).run(1, more)
    assert more.done == len(first.computed) + len(first.linked)
    assert {(r["method"], r["seed"]) for r in results["runs"]} >= {("snip", 3), ("magnitude", 0)}
    # Dense: one seed. Originals: snip one, magnitude four. Checks: snip one and four, magnitude four and four.
    assert (more.computed + more.linked).count("train") == 1 + 5 + 5 + 8


def test_damage_is_mended_by_workers_too(tmp_path: Path) -> None:
    found = tiny.prepared(tmp_path / "s", checks=["rearrange"])
    wanted = found.run()
    init = next(i for i, s in found.plan.steps.items() if s.kind == "init")
    place = found.folder / "store" / "steps"
    tensors = place / init[:2] / init / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-3] + b"abc")
    final = next(t.final for a, t in found.plan.arms.items() if a.check == "dense" and a.seed == 0)
    (place / final[:2] / final / "result.json").unlink()
    again = tiny.prepared(tmp_path / "s", checks=["rearrange"]).run(2)
    assert again["verdicts"] == wanted["verdicts"]


def test_what_cannot_be_sent_needs_one_process(tmp_path: Path) -> None:
    lock = threading.Lock()

    def score(model: Any, batches: Any, loss: Any) -> Any:
        with lock:
            return tiny.score(model, batches, loss)

    def net(num_classes: int) -> Any:
        with lock:
            return tiny.Net(num_classes)

    for changes in ({"methods": [score]}, {"model": net}):
        found = tiny.prepared(tmp_path / "s", **changes)
        with pytest.raises(InputError, match=r"asked for 2 jobs, got a (model|method score) that cannot be sent"):
            found.run(2)
        assert not (tmp_path / "s").exists()


def test_lambdas_can_be_sent(tmp_path: Path) -> None:
    by_lambda: Any = lambda model, batches, loss: tiny.score(model, batches, loss)  # noqa: E731
    changes: dict[str, Any] = {"methods": [by_lambda], "model": lambda num_classes: tiny.Net(num_classes)}
    assert timeless(tiny.prepared(tmp_path / "s", **changes).run(2)) == timeless(
        tiny.prepared(tmp_path / "t", **changes).run()
    )


@pytest.mark.parametrize("jobs", [0, -1])
def test_no_process_at_all_is_refused_before_anything_is_written(tmp_path: Path, jobs: int) -> None:
    with pytest.raises(InputError, match=f"asked for {jobs} jobs"):
        tiny.prepared(tmp_path / "s").run(jobs)
    assert not (tmp_path / "s").exists()


def test_global_randomness_and_threads_stay(tmp_path: Path) -> None:
    torch.manual_seed(5)
    wanted, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(5)
    tiny.prepared(tmp_path / "s", checks=["corrupted"]).run()
    assert torch.equal(torch.rand(3), wanted) and torch.get_num_threads() == threads


def _unlucky(*arguments: Any, **options: Any) -> Any:
    raise AssertionError("a ticket of a training that diverged was trained")


@pytest.mark.parametrize("rewind", [0, 1])
def test_what_comes_from_a_diverged_training_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rewind: int
) -> None:
    """The mask of a training that diverged is no mask: its ticket must not be trained as a dense net instead."""
    train_jobs = execute.train_jobs

    def diverging(engine: Any, jobs: Any, *arguments: Any, **options: Any) -> Any:
        (job,) = jobs
        assert job.mask is None or job.mask.sparsity > 0, "a dense net was trained in place of a ticket"
        (result,) = train_jobs(engine, jobs, *arguments, **options)
        if job.mask is None and job.split is not None:
            result.diverged_at = 1
        return [result]

    monkeypatch.setattr(execute, "train_jobs", diverging)
    results = tiny.prepared(tmp_path / "s", [f"lottery,rewind={rewind}"], checks=["corrupted"]).run()
    tampered = [r for r in results["runs"] if r["check"] == "corrupted"]
    assert [(r["accuracy"], r["status"]) for r in tampered] == [(None, "diverged")] * 3
    (verdict,) = results["verdicts"]
    assert verdict["dead"] == [0, 3] and verdict["drop"] > 0
    assert results["controls"][0]["passed"]


def test_every_check_survives_a_recipe_that_diverges(tmp_path: Path) -> None:
    import json

    recipe = tiny.Recipe(epochs=2, batch_size=10, lr=1e25, augment=False)
    results = tiny.prepared(
        tmp_path / "s", ["snip", "lottery,rewind=1", "imp,rounds=2"], checks=["all"], recipe=recipe
    ).run()
    assert {r["status"] for r in results["runs"]} <= {"diverged", "linked"}
    assert all(r["accuracy"] is None for r in results["runs"])
    assert not {v["verdict"] for v in results["verdicts"]} & {"uses", "better without"}
    assert "NaN" not in json.dumps(results, allow_nan=False)


def test_programs_of_the_users_own(tmp_path: Path) -> None:
    """A program may be a lambda, also with worker processes; its trainings end where it says."""
    own = Method(
        "early", tiny.score, reads_data=False, needs_trained=True,
        program=lambda sparsity, options: (Train(until=1), *retrained(Rewind())[1:]),
    )  # fmt: skip
    found = tiny.prepared(tmp_path / "s", [own], checks=["rearrange"])
    results = found.run(2)
    assert results["complete"]
    cut = [s for s in found.plan.steps.values() if s.kind == "train" and s.params["until"] == 1]
    assert len(cut) == 3 and all(s.params["start"] == 0 for s in cut)
