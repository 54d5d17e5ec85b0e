"""Which engine serves a study: measured when it is planned, written into it, kept; and what memory it takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn

import ticketlab
from engine.engines import LONG, images, net
from ticketlab.engine import choose, memory
from ticketlab.engine.choose import Measurements, Speed, Work, candidates, chosen, measure
from ticketlab.errors import InputError
from ticketlab.experiment.study import Study

PLAIN, TUNED, WIDE = Speed("plain", 100, 200, 0), Speed("tuned", 150, 300, 0), Speed("stacked:8", 600, 900, 20)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TICKETLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


@pytest.mark.parametrize(
    ("speeds", "work", "best"),
    [
        ([PLAIN, TUNED], Work(1000, 0, 8), "tuned"),
        # A few percent are noise: the usual engine stays.
        ([Speed("plain", 155, 300, 0), TUNED], Work(1000, 0, 8), "tuned"),
        ([Speed("plain", 250, 300, 0), TUNED], Work(1000, 0, 8), "plain"),
        # Compilation pays for itself only in long work, a wide engine only with tickets to fill it.
        ([TUNED, WIDE], Work(1000, 0, 8), "tuned"),
        ([TUNED, WIDE], Work(100000, 0, 80), "stacked:8"),
        ([TUNED, WIDE], Work(100000, 0, 1), "tuned"),
        ([TUNED, WIDE], Work(0, 0, 0), "tuned"),
    ],
)
def test_the_engine_that_ends_first(speeds: list[Speed], work: Work, best: str) -> None:
    assert chosen(speeds, work).spec == best


def known(**changes: Any) -> Measurements:
    return Measurements(net(), images(), LONG, **{"identity": "net", **changes})


def test_measurements_are_kept_for_the_next_study(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = known().needed("tuned")
    assert first.train_images_s > 0 and first.test_images_s > 0 and first.setup_s >= 0
    monkeypatch.setattr(choose, "measure", _never)
    assert known().needed("tuned") == first
    for changes in ({"identity": "other"}, {"threads": 2}, {"precision": "bf16"}):
        with pytest.raises(AssertionError, match="measured again"):
            known(**changes).needed("tuned")


def _never(*arguments: Any, **options: Any) -> Any:
    raise AssertionError("measured again")


def entry(speed: str) -> str:
    return f'{{"tuned": {{"spec": "tuned", "train_images_s": {speed}, "test_images_s": 1.0, "setup_s": 0.0}}}}'


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"tuned": 3}', '{"tuned": {"spec": "tuned"}}', entry("NaN"), entry("0.0"), entry('"9"')]
)
def test_a_damaged_cache_costs_a_measurement(damage: str, cache: Path) -> None:
    known().needed("tuned")
    (file,) = cache.iterdir()
    file.write_text(damage)
    assert known().needed("tuned").train_images_s > 0
    assert json.loads(file.read_text())["tuned"]["train_images_s"] > 0


def test_a_cache_that_cannot_be_written_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TICKETLAB_CACHE", str(tmp_path / "file" / "cache"))
    assert known().needed("tuned").train_images_s > 0


def test_compilers_are_tried_only_where_they_could_pay(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def speed(spec: str, *arguments: Any, **options: Any) -> Speed:
        tried.append(spec)
        return Speed(spec, 100.0 if spec == "tuned" else 1000.0 if spec.startswith("stacked") else 90.0, 1e9, 10.0)

    monkeypatch.setattr(choose, "measure", speed)
    assert choose.choose(known(), Work(1000, 0, 8)).spec == "tuned"
    assert tried == ["plain", "tuned", "tuned+im2col"]
    assert choose.choose(known(), Work(100_000, 0, 80)).spec == "stacked:8"
    assert "stacked:8" in tried and "compiled" not in tried
    choose.choose(known(), Work(1_000_000, 0, 80))
    assert "compiled" in tried and len(tried) == len(set(tried))


def test_a_model_that_no_engine_can_train_is_refused_with_the_reason(cache: Path) -> None:
    with pytest.raises(InputError, match="asked for precision tf32, got a cpu"):
        choose.choose(known(precision="tf32"), Work(1, 1, 1))


def test_measuring_leaves_everything_as_it_was() -> None:
    model = net()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    measure("tuned", model, images(), LONG, threads=2, seconds=0.01)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state()) and threads == torch.get_num_threads()
    assert not any(p.grad is not None for p in model.parameters())


def test_candidates() -> None:
    assert candidates(net(), images(), "cpu") == [
        "plain", "tuned", "tuned+im2col", "sparse", "stacked:8", "compiled", "compiled+im2col",
    ]  # fmt: skip
    big = nn.Sequential(nn.Flatten(), nn.Linear(64, 20000))
    assert candidates(big, images(), "cpu") == ["plain", "tuned", "sparse", "compiled"]


def test_a_study_keeps_the_engine_that_was_measured(
    tmp_path: Path, measured_engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["plain"])
    monkeypatch.setattr("ticketlab.experiment.prepare.best_engine", lambda *_: next(answers))
    first = tiny.prepared(tmp_path / "s")
    assert first.study.numerics["engine"] == "plain" == first.context.engine
    results = first.run()
    assert Study.load(tmp_path / "s").numerics["engine"] == "plain" == results["numerics"]["engine"]
    # Nothing is measured again, and nothing computed again.
    again = tiny.prepared(tmp_path / "s", seeds=4)
    assert again.study.numerics["engine"] == "plain" == again.context.engine
    progress = tiny.Counter()
    again.run(1, progress)
    assert progress.done == results["steps_total"]
    with pytest.raises(InputError, match="numerics engine: the study has 'plain', asked for 'tuned'"):
        tiny.prepared(tmp_path / "s", engine="tuned")
    assert tiny.prepared(tmp_path / "t", engine="tuned+im2col").study.numerics["engine"] == "tuned+im2col"


def test_a_new_study_is_measured(tmp_path: Path, cache: Path, measured_engine: None) -> None:
    found = tiny.prepared(tmp_path / "s")
    assert found.study.numerics["engine"] in ("plain", "tuned", "tuned+im2col")
    (file,) = cache.iterdir()
    assert set(json.loads(file.read_text())) == {"plain", "tuned", "tuned+im2col"}
    assert found.estimate(1).seconds > 0 and found.estimate(1).memory > 0


# Memory.


def test_memory_of_a_linear_net_by_hand() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False), nn.ReLU(), nn.Linear(10, 3, bias=False))
    data = tiny.data(train=60, test=40)
    found = memory.estimated(model, data, ticketlab.Recipe(batch_size=20))
    assert found.data == 100 * 64 + 100 * 8
    # The inputs and the activations after ReLU are kept for the backward pass.
    activations = 20 * (64 + 10) * 4
    # Forty test images go through at once: the largest of their activations, and what is made of them.
    assert found.ticket == int(5 * (640 + 30) * 4 + max(1.5 * activations, 2 * 40 * 64 * 4))
    assert found.total(3) == found.data + 3 * found.ticket


def test_tickets_that_do_not_fit_are_refused_with_how_many_would(monkeypatch: pytest.MonkeyPatch) -> None:
    tickets = [ticketlab.Ticket(ticketlab.prune(net(n), "random", 0.5), net(n).state_dict()) for n in range(8)]
    need = memory.estimated(net(), images(), LONG)
    monkeypatch.setattr(memory, "available", lambda device: need.total(3) + 1)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    with pytest.raises(InputError, match=r"asked for 8 tickets side by side, .* got .* at most 3 would fit"):
        ticketlab.train(tickets, model=tiny.net, data=images(), recipe=LONG, engine="stacked:8")
    assert len(ticketlab.train(tickets, model=tiny.net, data=images(), recipe=LONG, engine="stacked:3")) == 8
    monkeypatch.setattr(memory, "available", lambda device: 10)
    with pytest.raises(InputError, match="not even one would fit"):
        ticketlab.train(tickets[:1], model=tiny.net, data=images(), recipe=LONG)


def test_a_study_whose_workers_do_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tiny.prepared(tmp_path / "s")
    need = found.estimate(1).memory
    monkeypatch.setattr(memory, "available", lambda device: 2 * need)
    with pytest.raises(InputError, match="1 tickets side by side in 4 processes"):
        found.run(4)
    assert not (tmp_path / "s" / "study.json").exists()
    monkeypatch.setattr(memory, "available", lambda device: None)
    found.run(1)


def test_data_are_there_once_and_tampered_versions_once_a_ticket(tmp_path: Path) -> None:
    clean = tiny.prepared(tmp_path / "a", ["lottery"], checks=["rearrange"])
    tampered = tiny.prepared(tmp_path / "b", ["lottery"], checks=["corrupted"])
    train = clean.context.data.train
    assert tampered.estimate(1).memory - clean.estimate(1).memory == train.inputs.numel() + 8 * len(train)
    assert clean.context.resident.train.inputs.data_ptr() == train.inputs.data_ptr(), "on a CPU nothing is copied"
    assert clean.context.resident is clean.context.resident


def test_free_memory_is_told() -> None:
    found = memory.available(torch.device("cpu"))
    assert found is None or found > 0
