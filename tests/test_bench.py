"""``ticketlab bench``: every field is there, reasons are told, nothing is measured for bad input."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest

from ticketlab.commands.bench import run_bench
from ticketlab.engine.choose import Speed, Work
from ticketlab.engine.choose import measure as really
from ticketlab.errors import InputError


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits are those of a machine that needs no measuring; engines are measured for a moment."""
    monkeypatch.setattr("ticketlab.commands.bench.matmul_peak", lambda *_: 1e11)
    monkeypatch.setattr("ticketlab.commands.bench.copy_bandwidth", lambda *_: 1e10)
    monkeypatch.setattr("ticketlab.commands.bench.candidates", lambda *_: ["plain", "tuned", "graph:2"])
    monkeypatch.setattr("ticketlab.commands.bench.measure", lambda *a, **k: really(*a, **k, seconds=0.01))


def options(**changes: Any) -> argparse.Namespace:
    asked = {
        "data": "digits",
        "data_dir": None,
        "model": "conv",
        "precision": "fp32",
        "device": "cpu",
        "tickets": 60,
        "sparsity": 0.9,
        "epochs": 2,
        "batch_size": 16,
        "jobs": 2,
        "json": True,
    }
    return argparse.Namespace(**{**asked, **changes})


def test_json_has_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_bench(options()) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"machine", "limits", "work", "engines", "unavailable", "estimate"}
    assert set(found["limits"][0]) == {"threads", "fp32_flops", "bf16_flops", "copy_bytes_s"}
    assert found["limits"][0]["threads"] == 1
    assert [row["engine"] for row in found["engines"]] == ["plain", "tuned"]
    for row in found["engines"]:
        numbers = {name: value for name, value in row.items() if name != "engine"}
        assert set(numbers) == {"train_images_s", "test_images_s", "share_of_peak", "ratio", "setup_s", "plan_s"}
        assert all(value >= 0 for value in numbers.values())
        rate, flops = row["train_images_s"], found["work"]["flops_per_image"]
        assert row["share_of_peak"] == pytest.approx(rate * flops / 1e11)
    assert found["engines"][0]["ratio"] == 1
    estimate = found["estimate"]
    assert (estimate["tickets"], estimate["jobs"]) == (60, 2)
    assert estimate["seconds"] in [row["plan_s"] for row in found["engines"] if row["engine"] == estimate["engine"]]


def test_an_engine_that_is_not_to_be_had_is_listed_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    run_bench(options())
    (row,) = json.loads(capsys.readouterr().out)["unavailable"]
    assert row["engine"] == "graph:2" and "cuda" in row["why"]
    run_bench(options(json=False))
    assert "not available: graph:2: " in capsys.readouterr().out


def test_the_table_ends_with_the_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_bench(options(json=False, jobs=1, tickets=3)) == 0
    said = " ".join(capsys.readouterr().out.split())
    for part in ("1 thread: fp32 100 GFLOP/s", "copy 10 GB/s", "conv on digits", "images/s", "plain", "1.00x"):
        assert part in said
    assert "3 trainings of 2 epochs with one worker: about " in said


def test_a_wide_engine_pays_for_free_places() -> None:
    """9 tickets in packs of 8 take as long as 16."""
    one, wide = Speed("tuned", 100.0, 1000.0, 1.0), Speed("stacked:8", 100.0, 1000.0, 5.0)
    work = Work(train_images=9 * 200, test_images=9 * 100, tickets=9)
    assert one.plan(work) == pytest.approx(1 + 18 + 0.9)
    assert wide.plan(work) == pytest.approx(5 + 32 + 1.6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tickets": 0}, "0 tickets"),
        ({"jobs": 0}, "0 jobs"),
        ({"sparsity": 90}, "sparsity 90"),
        ({"precision": "fp8"}, "fp8"),
        ({"data": "digist"}, "'digits'"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_input_measures_nothing(changes: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ticketlab.commands.bench.matmul_peak", None)
    with pytest.raises(InputError, match=said):
        run_bench(options(**changes))


def test_a_machine_without_bf16_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("ticketlab.engine.precision._has_bf16", lambda _: False)
    run_bench(options(json=False))
    assert "no bf16" in capsys.readouterr().out
    with pytest.raises(InputError, match="bf16"):
        run_bench(options(precision="bf16"))


def test_no_engine_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ticketlab.commands.bench.candidates", lambda *_: ["graph:2"])
    with pytest.raises(InputError, match="cuda"):
        run_bench(options())
