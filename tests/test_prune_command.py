"""ticketlab prune: a mask in a file, and what every layer keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from commands import FEW, SMALL, help_imports_nothing_heavy, kinds, refused, run
from safetensors.torch import save_file

import ticketlab
from ticketlab.data.load import load

ASKED = ["prune", *SMALL, "--out", "mask.safetensors"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test starts in an empty folder of its own, with the tests' modules on the import path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(tiny.__file__).parent))
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def pruned(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[ticketlab.Mask, dict[str, Any]]:
    """The mask that a command writes, and what it prints as JSON."""
    assert run(*ASKED, *arguments, "--json") == 0
    return ticketlab.Mask.load("mask.safetensors"), json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("method", ["snip", "lottery", "random", "tiny:score"])
def test_the_mask_is_that_of_find(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    mask, printed = pruned(capsys, "--method", method, "--sparsity", "0.8", "--seed", "2")
    recipe = ticketlab.Recipe(**{**printed["recipe"], "drops": tuple(printed["recipe"]["drops"])})
    data = load("digits", None, 60, 40)
    assert ticketlab.find("tiny:net", method, 0.8, data=data, recipe=recipe, seed=2).mask == mask
    assert (printed["kept"], printed["total"], printed["seed"]) == (mask.kept, 644, 2)
    assert {n: (c["kept"], c["total"]) for n, c in printed["layers"].items()} == mask.counts()
    found = ticketlab.diagnose(tiny.Net(10), mask, (1, 8, 8))
    assert printed["dead_units"] == found.dead_units and printed["empty_layers"] == list(found.empty_layers)


def test_the_last_training_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    for method, count in (("snip", 0), ("lottery", 1), ("imp,rounds=3", 3)):
        pruned(capsys, "--method", method, "--sparsity", "0.5", "--work", method)
        assert kinds(method)["train"] == count, method


def test_train_goes_on_from_what_prune_did(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--method", "lottery", "--sparsity", "0.5"]
    mask, _ = pruned(capsys, *asked)
    assert kinds() == {"init": 1, "train": 1, "prune": 1}
    assert run("train", *SMALL, *asked, "--out", "ticket.safetensors") == 0
    assert kinds() == {"init": 1, "train": 2, "prune": 1}
    assert ticketlab.load_ticket("ticket.safetensors").ticket.mask == mask


def test_table_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*ASKED, "--method", "magnitude", "--sparsity", "0.99") == 0
    out, err = capsys.readouterr()
    mask = ticketlab.Mask.load("mask.safetensors")
    rows = {line.split()[0]: line.split()[1:3] for line in out.splitlines() if line}
    for name, (kept, total) in mask.counts().items():
        assert rows[name] == [str(kept), str(total)]
    assert rows["all"] == ["6", "644"]
    found = ticketlab.diagnose(tiny.Net(10), mask, (1, 8, 8))
    assert found.empty_layers and f"no weight is left in {', '.join(found.empty_layers)}" in out
    assert f"{found.dead_units} dead units" in out
    assert "mask: mask.safetensors" in err


@pytest.mark.parametrize("kind", ["state dict", "ticket"])
def test_given_weights(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    if kind == "ticket":
        assert run("train", *SMALL, "--method", "dense", "--seed", "5", "--out", "given.safetensors") == 0
        capsys.readouterr()
        weights = dict(ticketlab.load_ticket("given.safetensors").ticket.weights)
    else:
        torch.manual_seed(5)
        weights = tiny.Net(10).state_dict()
        save_file(weights, "given.safetensors")
    model = tiny.Net(10)
    model.load_state_dict(weights)
    mask, printed = pruned(capsys, "--method", "magnitude", "--sparsity", "0.7", "--weights", "given.safetensors")
    assert mask == ticketlab.prune(model, "magnitude", 0.7)
    assert mask != pruned(capsys, "--method", "magnitude", "--sparsity", "0.7")[0]
    assert printed["model"]["name"] == "tiny:net"


def test_weights_of_lower_precision_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny.Net(10).bfloat16()
    save_file(model.state_dict(), "given.safetensors")
    mask, _ = pruned(capsys, "--method", "magnitude", "--sparsity", "0.7", "--weights", "given.safetensors")
    # Numbers of few digits are often equal: which of the equal ones stay is drawn, as find draws it.
    assert mask == ticketlab.find(model.float(), "magnitude", 0.7, data=load("digits", None, 60, 40)).mask


def test_weights_that_do_not_fit(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [*ASKED, "--method", "magnitude", "--sparsity", "0.7", "--weights", "given.safetensors"]
    start = "asked to start 'tiny:net' from the weights in given.safetensors, got"
    whole = tiny.Net(10).state_dict()

    def message(weights: dict[str, torch.Tensor]) -> str:
        save_file(weights, "given.safetensors")
        return refused(capsys, *asked)

    assert "asked for the weights in given.safetensors, got no such file" in refused(capsys, *asked)
    lacking = {n: w for n, w in whole.items() if n != "last.bias"}
    assert f"{start} a file without 'last.bias'; it has 'first.bias'" in message(lacking)
    assert f"{start} a file with 'more', which the model lacks" in message({**whole, "more": torch.ones(1)})
    shapes = "'last.weight' of shape (11, 32); the model's is (10, 32)"
    assert f"{start} {shapes}" in message({**whole, "last.weight": torch.ones(11, 32)})
    kinds = "'last.bias' of type torch.int64; the model's is torch.float32"
    assert f"{start} {kinds}" in message({**whole, "last.bias": torch.ones(10, dtype=torch.int64)})
    assert "NaN or infinite" in message({**whole, "last.bias": torch.full((10,), float("nan"))})
    (here / "given.safetensors").write_bytes(b"no tensors")
    assert "got a file that is no safetensors state dict" in refused(capsys, *asked)


BAD: list[tuple[list[str], list[str]]] = [
    (["--method", "snpi", "--sparsity", "0.9"], ["asked for method 'snpi'", "Did you mean 'snip'?"]),
    (["--method", "snip"], ["asked for a ticket of snip, got no sparsity"]),
    (["--method", "dense"], ["asked for a mask", "'dense', which prunes nothing"]),
    (["--method", "snip", "--sparsity", "-1"], ["outside [0, 1)"]),
    (["--method", "snip", "--sparsity", "0.9", "--out", "file/mask"], ["write the mask", "is not a folder"]),
    (["--method", "snip", "--sparsity", "0.9", "--out", "."], ["got a folder: name a file, mask.safetensors"]),
    (["--method", "snip", "--sparsity", "0.9", "--model", "tiny:nte"], ["'nte'"]),
]


@pytest.mark.parametrize(("arguments", "both"), BAD, ids=["_".join(a) for a, _ in BAD])
def test_bad_input(arguments: list[str], both: list[str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "file").write_text("")
    message = refused(capsys, *ASKED, *arguments)
    for part in both:
        assert part in message


def test_a_training_that_diverges_leaves_no_mask(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*ASKED, "--method", "lottery", "--sparsity", "0.5", "--lr", "1e25") == 2
    assert "diverged in epoch 1 before the pruning" in capsys.readouterr().err
    assert not (here / "mask.safetensors").exists()


def test_a_registered_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prune", *FEW, "--method", "synflow", "--sparsity", "0.9", "--out", "mask.safetensors") == 0
    assert ticketlab.Mask.load("mask.safetensors").kept == 2382
    assert "conv1.weight" in capsys.readouterr().out


def test_help() -> None:
    help_imports_nothing_heavy("prune")
