"""ticketlab train: one finished ticket in a file, however often the command was stopped."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from commands import SMALL, help_imports_nothing_heavy, in_a_process, killed_after, kinds, refused, run

import ticketlab
from ticketlab.data.batches import prepare
from ticketlab.data.load import load
from ticketlab.experiment.store import Store

ASKED = ["train", *SMALL, "--out", "ticket.safetensors"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test starts in an empty folder of its own, with the tests' modules on the import path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(tiny.__file__).parent))
    return tmp_path


def trained(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[ticketlab.TicketFile, dict[str, Any]]:
    """The ticket that a command writes, and what it prints as JSON."""
    assert run(*ASKED, *arguments, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    return ticketlab.load_ticket("ticket.safetensors"), printed


def accuracy(weights: Any) -> float:
    """Of the tiny net with these weights on the test set, in percent."""
    data = load("digits", None, 60, 40)
    model = tiny.Net(10)
    model.load_state_dict(weights)
    with torch.no_grad():
        answers = model.eval()(prepare(data, data.test.inputs)).argmax(1)
    return 100 * int((answers == data.test.targets).sum()) / len(data.test)


@pytest.mark.parametrize(
    ("method", "sparsity"), [("snip", 0.95), ("lottery,rewind=1", 0.5), ("imp,rounds=2", 0.5), ("tiny:score", 0.5)]
)
def test_a_finished_ticket(method: str, sparsity: float, capsys: pytest.CaptureFixture[str]) -> None:
    found, printed = trained(capsys, "--method", method, "--sparsity", str(sparsity), "--seed", "3")
    ticket, facts = found.ticket, found.facts
    assert facts == printed
    assert ticket.at == 2 and ticket.mask.total == 644 and ticket.mask.kept == round((1 - sparsity) * 644)
    for name, kept in ticket.mask.items():
        weights = ticket.weights[name]
        assert torch.count_nonzero(weights[~kept]) == 0 and torch.count_nonzero(weights[kept]) == kept.sum(), name
    assert facts["accuracy"] == accuracy(ticket.weights)
    assert (facts["method"], facts["sparsity"], facts["seed"]) == (method, sparsity, 3)
    assert (facts["kept"], facts["total"]) == (ticket.mask.kept, 644)
    assert facts["exact_sparsity"] == ticket.mask.sparsity
    assert facts["model"]["name"] == "tiny:net" and facts["data"]["name"] == "digits"
    assert facts["data"]["fingerprint"] == load("digits", None, 60, 40).fingerprint
    assert facts["recipe"]["epochs"] == 2 and facts["numerics"]["device"] == "cpu"
    assert (facts["ticketlab"], facts["torch"]) == (ticketlab.__version__, torch.__version__)


def test_it_is_the_ticket_that_find_finds(capsys: pytest.CaptureFixture[str]) -> None:
    """The same mask; and its training ends where that of the same ticket in a check ends."""
    found, _ = trained(capsys, "--method", "snip", "--sparsity", "0.5", "--work", "study")
    data = load("digits", None, 60, 40)
    recipe = ticketlab.Recipe(**{**found.facts["recipe"], "drops": tuple(found.facts["recipe"]["drops"])})
    assert ticketlab.find("tiny:net", "snip", 0.5, data=data, recipe=recipe).mask == found.ticket.mask
    # A check may go on in the same folder, on the steps that are there.
    study = ["check", "snip", *SMALL, "--sparsity", "0.5", "--seeds", "3", "--margin", "20", "--checks", "rearrange"]
    assert run(*study, "--jobs", "1", "--out", "study", "--json") == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    (mine,) = (r for r in runs if r["check"] == "original" and r["seed"] == 0)
    assert mine["accuracy"] == found.facts["accuracy"]


def test_dense(capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = trained(capsys, "--method", "dense")
    assert found.ticket.mask.kept == found.ticket.mask.total == 644
    assert found.facts["sparsity"] is None and found.facts["exact_sparsity"] == 0
    assert found.facts["accuracy"] == accuracy(found.ticket.weights)


def test_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*ASKED, "--method", "snip", "--sparsity", "0.5") == 0
    out, err = capsys.readouterr()
    wanted = ticketlab.load_ticket("ticket.safetensors").facts["accuracy"]
    assert "322 of 644 weights kept" in out and f"{wanted:.2f}%" in out
    assert "ticket: ticket.safetensors" in err and "3 of 3 steps" in err


def test_a_second_run_only_writes_the_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    asked = ["--method", "snip", "--sparsity", "0.5"]
    trained(capsys, *asked)
    content = (here / "ticket.safetensors").read_bytes()
    (here / "ticket.safetensors").unlink()

    def no(*arguments: Any) -> Any:
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", no)
        trained(capsys, *asked)
    assert (here / "ticket.safetensors").read_bytes() == content
    # Another request in the same folder is another ticket; nothing of the first is lost.
    assert len(list((here / "runs").iterdir())) == 1
    other, _ = trained(capsys, *asked, "--seed", "1")
    assert other.facts["seed"] == 1 and len(list((here / "runs").iterdir())) == 1
    trained(capsys, *asked)
    assert (here / "ticket.safetensors").read_bytes() == content


def test_killed_and_started_again(here: Path) -> None:
    """imp with two rounds: initialisation, training, mask, training, mask, training. The bytes are those of one go."""
    asked = ["train", *SMALL, "--method", "imp,rounds=2", "--sparsity", "0.75"]
    for steps in (2, 3):
        assert killed_after(steps, *asked, "--work", "a", "--out", "a.safetensors") == -signal.SIGKILL
        assert not (here / "a.safetensors").exists()
    assert killed_after(0, *asked, "--work", "a", "--out", "a.safetensors") == 0
    assert run(*asked, "--work", "b", "--out", "b.safetensors") == 0
    assert (here / "a.safetensors").read_bytes() == (here / "b.safetensors").read_bytes()
    assert kinds("a") == kinds("b") == {"init": 1, "train": 3, "prune": 2}


_KILLED_STEP = """
import os, signal, sys
from ticketlab.cli import main
from ticketlab.engine.eager import Eager
step, steps = Eager.step, []
def last(*arguments):
    steps.append(1)
    if len(steps) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*arguments)
Eager.step = last
code = main(sys.argv[2:])
print("steps", len(steps), file=sys.stderr)
sys.exit(code)
"""


def test_killed_within_a_training(here: Path) -> None:
    """The last checkpoint is where it goes on, and the bytes are those of one go."""
    asked = ["train", *SMALL, "--epochs", "5.5", "--method", "snip", "--sparsity", "0.75", "--checkpoint-every", "0"]

    def killed(steps: int, work: str) -> Any:
        return in_a_process(_KILLED_STEP, str(steps), *asked, "--work", work, "--out", f"{work}.safetensors")

    assert killed(19, "a").returncode == -signal.SIGKILL
    resumed, whole = killed(0, "a"), killed(0, "b")
    assert resumed.returncode == whole.returncode == 0, resumed.stderr
    # 22 steps, a look at the clock every 8 of them.
    assert "steps 6" in resumed.stderr and "steps 22" in whole.stderr
    assert (here / "a.safetensors").read_bytes() == (here / "b.safetensors").read_bytes()


def test_a_damaged_step_is_computed_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--method", "snip", "--sparsity", "0.5", "--work", "w"]
    trained(capsys, *asked)
    content = (here / "ticket.safetensors").read_bytes()
    for file in (here / "w").glob("store/steps/*/*/*.safetensors"):
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    trained(capsys, *asked)
    assert (here / "ticket.safetensors").read_bytes() == content


@pytest.mark.parametrize("method", ["snip", "lottery", "dense"])
def test_a_training_that_diverges(method: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [*ASKED, "--lr", "1e25", "--method", method, *([] if method == "dense" else ["--sparsity", "0.5"])]
    for _ in range(2):
        assert run(*asked) == 2
        out, err = capsys.readouterr()
        assert out == "" and f"asked for a ticket of {method}, got a training that diverged in epoch" in err
        assert not (here / "ticket.safetensors").exists()


BAD: list[tuple[list[str], list[str]]] = [
    (["--method", "snpi", "--sparsity", "0.9"], ["asked for method 'snpi'", "Did you mean 'snip'?"]),
    (["--method", "snip"], ["asked for a ticket of snip, got no sparsity", "0.9"]),
    (["--method", "dense", "--sparsity", "0.5"], ["asked for sparsity 0.5", "'dense', which prunes nothing"]),
    (["--method", "snip", "--sparsity", "1"], ["asked for sparsity 1", "outside [0, 1)"]),
    (["--method", "snip", "--sparsity", "90"], ["Did you mean 0.9?"]),
    (["--method", "snip,mood=eval", "--sparsity", "0.9"], ["'mood'", "'mode'"]),
    (["--method", "smart-ratio", "--sparsity", "0.97"], ["asked the smart ratio to keep 19 of 644"]),
    (["--method", "lottery,rewind=9", "--sparsity", "0.9"], ["asked to rewind to epoch 9", "a recipe of 2 epochs"]),
    (["--method", "snip", "--sparsity", "0.9", "--model", "resnet19"], ["'resnet19'"]),
    (["--method", "snip", "--sparsity", "0.9", "--data", "digitz"], ["'digitz'", "'digits'"]),
    (["--method", "snip", "--sparsity", "0.9", "--epochs", "0"], ["asked for epochs 0"]),
    (["--method", "snip", "--sparsity", "0.9", "--per-class", "0"], ["asked for 0 scoring images per class"]),
    (["--method", "snip", "--sparsity", "0.9", "--device", "tpu"], ["asked for device 'tpu'"]),
    (["--method", "snip", "--sparsity", "0.9", "--out", "file/ticket"], ["write the ticket", "is not a folder"]),
    (["--method", "snip", "--sparsity", "0.9", "--out", "."], ["got a folder: name a file, ticket.safetensors"]),
    (["--method", "snip", "--sparsity", "0.9", "--work", "file"], ["finished steps in file", "is not a folder"]),
    (["--sparsity", "0.9"], ["--method"]),
]


@pytest.mark.parametrize(("arguments", "both"), BAD, ids=["_".join(a) for a, _ in BAD])
def test_bad_input(arguments: list[str], both: list[str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is computed: not one step is stored."""
    (here / "file").write_text("")
    message = refused(capsys, *ASKED, *arguments)
    for part in both:
        assert part in message


def test_help() -> None:
    help_imports_nothing_heavy("train")
