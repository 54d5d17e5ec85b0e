"""ticketlab speed: for tickets and for random masks, every field there, bad input refused before anything long."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from commands import FEW, in_a_process, refused, run

import ticketlab
from ticketlab.speed import measure
from ticketlab.speed.subject import random_subject

SHORT = ["--rounds", "3", "--seconds", "0.0001", "--batch-size", "4", "--runners", "torch", "torch-unpruned"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, the tests' modules on the import path, and a machine that needs no measuring."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(tiny.__file__).parent))
    monkeypatch.setattr(measure, "matmul_peak", lambda *_: 1e11)
    monkeypatch.setattr(measure, "copy_bandwidth", lambda *_: 1e10)
    return tmp_path


def test_a_ticket_that_train_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", *FEW, "--model", "conv", "--method", "snip", "--sparsity", "0.9", "--out", "t") == 0
    assert run("export", "t", "--to", "small") == 0
    capsys.readouterr()
    wanted = ticketlab.load_ticket("t")
    for path in ("t", "small"):
        assert run("speed", path, *SHORT, "--json", "--markdown", "speed.md") == 0
        found = json.loads(capsys.readouterr().out)
        subject = found["subject"]
        assert (subject["kept"], subject["model"]) == (wanted.ticket.mask.kept, "conv")
        assert subject["facts"]["accuracy"] == wanted.facts["accuracy"]
        assert subject["images"] == "test images of digits" and found["structure"] == "unstructured"
        assert found["files"]["dense_bytes"] == 97_152 and found["files"]["compact_bytes"] < 97_152 / 6
        assert [batch["batch"] for batch in found["batches"]] == [1, 4]
        for batch in found["batches"]:
            assert batch["best_dense_fp32"] == "torch"
            assert [row["runner"] for row in batch["rows"]] == ["torch-unpruned", "torch"]
            for row in batch["rows"]:
                seconds = row["seconds"]
                assert row["n"] == len(seconds["turns"]) == 3
                assert 0 < seconds["low"] <= seconds["median"] <= seconds["high"]
                assert row["images_s"] == pytest.approx(batch["batch"] / seconds["median"])
                assert row["error"] < 1e-5 and row["agreement"] == 1
        limits = found["limits"]
        assert 0.1 < limits["kept_share"] == limits["kept_flops_per_image"] / limits["dense_flops_per_image"] < 0.3
        arithmetic = found["batches"][1]["limit"]["arithmetic_s"]
        assert arithmetic == pytest.approx(4 * limits["kept_flops_per_image"] / 1e11)
    page = Path("speed.md").read_text()
    assert "## Latency, batch 1" in page and "## Throughput, batch 4" in page and "no speed-up to expect" in page


def test_a_random_mask_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["speed", "--model", "resnet14-slim", "--data", "cifar10", "--density", "0.1", "--ratios", "erk"]
    assert run(*asked, *SHORT) == 0
    out, err = capsys.readouterr()
    said = " ".join(out.split())
    for part in (
        "resnet14-slim, random weights and mask, erk ratios",
        "sparsity 0.9",
        "noise of shape 3 x 32 x 32",
        "Medians of n = 3 turns",
        "limit of the density",
        "Unstructured mask, on GPUs: no speed-up to expect",
        "times smaller",
        "fp32 100 GFLOP/s",
    ):
        assert part in said, part
    assert "batch 4: 2 runners in turns, 3 times" in err


@pytest.mark.parametrize("ratios", ["uniform", "smart", "erk"])
def test_random_masks(ratios: str) -> None:
    made = random_subject("vgg19-slim", "cifar10", None, 0.95, ratios, 1)
    again = random_subject("vgg19-slim", "cifar10", None, 0.95, ratios, 1)
    other = random_subject("vgg19-slim", "cifar10", None, 0.95, ratios, 2)
    assert made.mask == again.mask != other.mask
    assert made.mask.kept == round(0.05 * made.mask.total)
    densities = [kept / total for kept, total in made.mask.counts().values()]
    assert (max(densities) - min(densities) < 0.03) == (ratios == "uniform")
    # Statistics of its own keep the signal alive down to the last layer.
    assert made.model(made.batch(64)).std(0).mean() > 1e-3


def test_bad_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ticketlab.commands.speed.document", None)
    assert "neither --sparsity nor --density" in refused(capsys, "speed", "--model", "conv")
    assert "outside (0, 1]" in refused(capsys, "speed", "--density", "0")
    assert "outside [0, 1). Did you mean 0.9" in refused(capsys, "speed", "--sparsity", "90")
    assert "asked for runner 'tensorrt'" in refused(capsys, "speed", "--sparsity", "0.9", "--runners", "tensorrt")
    assert "asked for 2 rounds" in refused(capsys, "speed", "--sparsity", "0.9", "--rounds", "2")
    assert "turns of 0 s" in refused(capsys, "speed", "--sparsity", "0.9", "--seconds", "0")
    assert "batches of 0" in refused(capsys, "speed", "--sparsity", "0.9", "--batch-size", "0")
    assert "0 threads" in refused(capsys, "speed", "--sparsity", "0.9", "--threads", "0")
    assert "asked for model 'cnov'" in refused(capsys, "speed", "--sparsity", "0.9", "--model", "cnov")
    assert "asked for data set 'cifar'" in refused(capsys, "speed", "--sparsity", "0.9", "--data", "cifar")
    assert "got no such file" in refused(capsys, "speed", "nothing")
    assert "a ticket that has its own" in refused(capsys, "speed", "nothing", "--sparsity", "0.9")
    assert "got a folder" in refused(capsys, "speed", "--sparsity", "0.9", "--markdown", ".")
    assert "no such device" in refused(capsys, "speed", "--sparsity", "0.9", "--device", "tpu!")


@pytest.mark.parametrize("command", ["speed", "export"])
def test_help_imports_nothing_heavy(command: str) -> None:
    script = (
        "import sys\nfrom ticketlab.cli import main\n"
        "try:\n    main([sys.argv[1], '--help'])\nexcept SystemExit as e:\n    code = e.code\n"
        "sys.exit(bool(code or {'torch', 'numpy', 'onnx', 'zstandard'} & set(sys.modules)))"
    )
    found = in_a_process(script, command)
    assert found.returncode == 0 and "TICKET" in found.stdout and found.stderr == ""
