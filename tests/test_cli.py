"""The command line: exit codes, where output goes, and that bad input costs nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from commands import run
from torch import nn

STUDY = ["--data", "digits", "--limit-train", "60", "--limit-test", "40", "--model", "tiny:net", "--epochs", "2"]
STUDY += ["--batch-size", "6", "--margin", "20", "--seeds", "3", "--sparsity", "0.5", "--jobs", "1"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test starts in an empty folder of its own, with the tests' modules on the import path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(tiny.__file__).parent))
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("a training was started")

    monkeypatch.setattr("ticketlab.experiment.execute.train_jobs", trained)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message of a command that must fail: exit 2, a few lines on stderr, nothing on stdout."""
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and 1 <= len(err.splitlines()) <= 12, err
    assert "Traceback" not in err
    return " ".join(err.split())


def plain(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64))


def nan(num_classes: int) -> nn.Module:
    model = tiny.Net(num_classes)
    nn.init.constant_(model.last.bias, float("nan"))
    return model


def wrong(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(99, num_classes))


def few(num_classes: int) -> nn.Module:
    return tiny.Net(num_classes - 1)


BAD: list[tuple[list[str], list[str]]] = [
    (["snpi"], ["asked for method 'snpi'", "got no such method", "'snip'"]),
    (["snip,mood=eval"], ["'mood'", "'mode'"]),
    (["snip,mode"], ["'mode'", "option=value"]),
    (["grasp,temperature=nan"], ["temperature=nan", "finite"]),
    (["tiny:scoer"], ["'scoer'", "'score'"]),
    (["nowhere:score"], ["'nowhere:score'", "got no module"]),
    (["tiny:CLASSES"], ["tiny:CLASSES", "not a function"]),
    (["tiny:score,force=2"], ["'force'", "power"]),
    (["snip", "--checks", "rearange"], ["'rearange'", "'rearrange'"]),
    (["snip", "--checks", "versus:smart"], ["'smart'", "'smart-ratio'"]),
    (["snip", "--model", "resnet19"], ["'resnet19'", "'resnet"]),
    (["snip", "--model", "test_cli:plain"], ["no prunable weights"]),
    (["snip", "--model", "test_cli:nan"], ["NaN or infinite outputs"]),
    (["snip", "--model", "test_cli:wrong"], ["cannot take a batch of shape (2, 1, 8, 8)"]),
    (["snip", "--model", "test_cli:few"], ["got outputs (2, 9)", "(2, 10) is needed"]),
    (["snip", "--model", "test_cli:BAD"], ["test_cli:BAD", "a function or class is needed"]),
    (["snip", "--data", "digitz"], ["asked for data set 'digitz'", "'digits'"]),
    (["snip", "--data", "cifar10", "--data-dir", "nowhere"], ["nowhere"]),
    (["snip", "--sparsity", "1"], ["asked for sparsity 1", "outside [0, 1)"]),
    (["snip", "--sparsity", "90"], ["asked for sparsity 90", "Did you mean 0.9?"]),
    (["snip", "--sparsity", "-0.5"], ["outside [0, 1)"]),
    (["snip", "--sparsity", "nan"], ["asked for sparsity nan", "outside [0, 1)"]),
    (["snip", "--sparsity", "much"], ["invalid float value: 'much'"]),
    (["snip", "--sparsity", "0.97"], ["asked the smart ratio to keep 19 of 644", "alone keeps 96"]),
    (["snip", "--seeds", "2"], ["got 2 seeds", "below 3"]),
    (["snip", "--seeds", "0"], ["asked for 0 seeds"]),
    (["snip", "--margin", "7"], ["asked for a margin of 7 points", "2.8 of your 40 test images"]),
    (["snip", "--margin", "0.1%"], ["asked for a margin of 0.1%", "of your 40 test images"]),
    (["snip", "--margin", "wide"], ["got 'wide'"]),
    (["snip", "--alpha", "0"], ["an alpha between 0 and 1, got 0"]),
    (["snip", "--alpha", "nan"], ["an alpha between 0 and 1, got nan"]),
    (["snip", "--epochs", "0"], ["asked for epochs 0"]),
    (["snip", "--epochs", "many"], ["invalid float value: 'many'"]),
    (["snip", "--epochs", "0.01"], ["0.01 epochs", "steps"]),
    (["snip", "--warmup", "2"], ["2 epochs of warm-up", "recipe of 2 epochs"]),
    (["snip", "--engine", "tunde"], ["'tunde'", "tuned"]),
    (["snip", "--engine", "stacked:0"], ["'stacked:0'", "1 to 256"]),
    (["snip", "--precision", "fp16"], ["'fp16'", "fp32"]),
    (["snip", "--precision", "tf32"], ["tf32", "cpu"]),
    (["snip", "--lr", "nan"], ["asked for lr nan"]),
    (["snip", "--schedule", "cosin"], ["'cosin'", "'cosine'"]),
    (["snip", "--limit-train", "0"], ["asked to keep 0"]),
    (["snip", "--per-class", "0"], ["asked for 0 scoring images per class"]),
    (["snip", "--jobs", "0"], ["asked for 0 jobs"]),
    (["snip", "--jobs", "0", "--dry-run"], ["asked for 0 jobs"]),
    (["snip", "--multiplicity", "bonferroni"], ["invalid choice: 'bonferroni'"]),
    (["snip", "--require", "snip=uses"], ["'snip=uses'", "METHOD:CHECK"]),
    (["snip", "--require", "snip:rearrange=loves"], ["'loves'"]),
    (["snip", "--require", "snip:rearange=uses"], ["rearange"]),
    (["snip", "--require", "snip:rearrange@0.7=uses"], ["0.7"]),
    (["snip", "--frobnicate"], ["--frobnicate"]),
    (["lottery,rewind=9"], ["asked to rewind to epoch 9", "a recipe of 2 epochs"]),
    ([], ["METHOD"]),
]
if not torch.cuda.is_available():
    BAD.append((["snip", "--device", "cuda"], ["asked for device 'cuda'", "--device cpu"]))


@pytest.mark.parametrize(("arguments", "both"), BAD, ids=["_".join(a) or "nothing" for a, _ in BAD])
def test_bad_input(
    arguments: list[str], both: list[str], capsys: pytest.CaptureFixture[str], no_training: None
) -> None:
    message = refused(capsys, "check", *_with_defaults(arguments), "--out", "study")
    for part in both:
        assert part in message
    assert not Path("study").exists()


@pytest.mark.parametrize("arguments", [["--alpha", "nan"], ["--lr", "inf"], ["--jobs", "0"], ["--data", "a/b"]])
def test_bad_input_without_a_folder(
    arguments: list[str], capsys: pytest.CaptureFixture[str], no_training: None
) -> None:
    """The default folder's name is made from the settings, good or bad."""
    assert "asked for" in refused(capsys, "check", *_with_defaults(["snip", *arguments]))
    assert not Path("runs").exists()


def test_the_default_folder_is_that_of_the_same_study(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    asked = [*_with_defaults(["magnitude"]), "--checks", "corrupted", "--json"]
    assert run("check", *asked) == 0 and run("check", *asked, "--sparsity", "0.6") == 0
    assert len(list((here / "runs").iterdir())) == 1
    assert run("check", *asked, "--epochs", "1") == 0
    assert len(list((here / "runs").iterdir())) == 2


def _with_defaults(arguments: list[str]) -> list[str]:
    """The study's settings, after those that the arguments give (the last one counts)."""
    split = next((i for i, a in enumerate(arguments) if a.startswith("--")), len(arguments))
    return [*arguments[:split], *STUDY, *arguments[split:]]


def test_folders_that_cannot_be_used(here: Path, capsys: pytest.CaptureFixture[str], no_training: None) -> None:
    (here / "thesis").mkdir()
    (here / "thesis" / "a.tex").write_text("")
    (here / "file").write_text("")
    (here / "broken").mkdir()
    (here / "broken" / "study.json").write_text("{")
    for folder, words in (
        ("thesis", "no study and not empty"),
        ("file", "got"),
        ("file/x", "got"),
        ("broken", "cannot be read"),
    ):
        message = refused(capsys, "check", *_with_defaults(["snip"]), "--out", folder)
        assert "asked" in message and folder in message and words in message
    for command in (["show"], ["report", "--csv", "t.csv"], ["show", "--json"]):
        for folder in ("nowhere", "thesis", "file", "broken"):
            assert folder in refused(capsys, command[0], folder, *command[1:])
    assert "add --html" in refused(capsys, "report", "thesis")
    assert not (here / "t.csv").exists()
    assert sorted(p.name for p in (here / "thesis").iterdir()) == ["a.tex"]


def test_nothing_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert "COMMAND" in refused(capsys)
    assert "invalid choice" in refused(capsys, "chekc", "snip")
    assert "invalid choice" in refused(capsys, "list", "moods")


def test_a_study_from_end_to_end(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = "ein Ördner/mit Leerzeichen"
    asked = ["check", *_with_defaults(["snip", "magnitude"]), "--checks", "corrupted", "rearrange", "--out", out]
    assert run(*asked, "--json") == 0
    first = capsys.readouterr()
    results = json.loads(first.out)
    assert results["complete"] and "Traceback" not in first.err
    folder = here / out
    assert json.loads((folder / "results.json").read_text()) == results and (folder / "report.html").stat().st_size > 0
    saved = {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()}

    def no(*arguments: Any) -> Any:
        raise AssertionError("computed again")

    monkeypatch.setattr("ticketlab.experiment.work.execute", no)
    assert run(*asked, "--json") == 0
    # A second run prints the same bytes and computes nothing, as many processes as it may use.
    assert capsys.readouterr().out == first.out
    assert run(*asked, "--json", "--jobs", "2") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["verdicts"] == results["verdicts"] and again["runs"] == results["runs"]
    assert {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()} == saved
    # Fewer seeds or methods than the study has: it keeps them all.
    smaller = ["check", *_with_defaults(["snip"]), "--checks", "corrupted", "--out", out, "--json"]
    assert run(*smaller) == 0
    assert json.loads(capsys.readouterr().out)["verdicts"] == results["verdicts"]

    # The same study with other settings is refused, naming both.
    message = refused(capsys, *asked, "--epochs", "3")
    assert "recipe epochs: the study has 2, asked for 3" in message
    assert "the folder holds another study" in refused(capsys, *asked, "--limit-test", "39")

    assert run("show", out, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["verdicts"] == results["verdicts"]
    assert run("show", out) == 0
    assert "magnitude" in capsys.readouterr().out
    files = {"--html": "a b.html", "--csv": "t.csv", "--runs-csv": "deep/r.csv", "--latex": "t.tex", "--json": "r.json"}
    assert run("report", out, *(x for pair in files.items() for x in pair)) == 0
    assert capsys.readouterr().out == ""
    assert all((here / name).stat().st_size > 0 for name in files.values())
    assert len((here / "deep" / "r.csv").read_text().splitlines()) == 1 + len(results["runs"])

    # Data-free under corruption: a sure verdict, for requirements of every outcome.
    sure = "magnitude:corrupted=does-not-use"
    for wanted, code in (
        ([sure], 0),
        (["magnitude:corrupted=decided", sure], 0),
        (["magnitude:corrupted=uses"], 1),
        ([sure, "magnitude:corrupted@0.5=better"], 1),
    ):
        assert run(*asked, "--json", "--require", *wanted) == code
        captured = capsys.readouterr()
        assert json.loads(captured.out)["verdicts"] == results["verdicts"]
        assert ("not met" in captured.err) == (code == 1)


def test_an_undecided_requirement_is_not_met(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(
        "check",
        *_with_defaults(["snip"]),
        "--checks",
        "random-labels",
        "--json",
        "--require",
        "snip:random-labels=decided",
    )
    out, err = capsys.readouterr()
    (verdict,) = json.loads(out)["verdicts"]
    assert (code, "not met" in err) == (
        (0, False) if verdict["verdict"] in ("uses", "does not use", "better without") else (1, True)
    )


def test_a_dry_run_runs_nothing(here: Path, capsys: pytest.CaptureFixture[str], no_training: None) -> None:
    asked = ["check", *_with_defaults(["snip", "smart-ratio"]), "--dry-run", "--out", "study"]
    assert run(*asked) == 0
    out = capsys.readouterr().out
    assert "steps" in out and "estimated time" in out and "not applicable: smart-ratio, rearrange" in out
    assert run(*asked, "--json") == 0
    assert capsys.readouterr().out == ""
    assert list(here.iterdir()) == []


def test_an_interrupted_study(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["check", *_with_defaults(["snip"]), "--checks", "rearrange", "--out", "study", "--json"]
    from ticketlab.experiment import execute

    train_jobs, calls = execute.train_jobs, []

    def stopped(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return train_jobs(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(execute, "train_jobs", stopped)
        assert run(*asked) == 130
    out, err = capsys.readouterr()
    assert out == "" and "goes on from there" in err
    assert run("show", "study") == 0
    assert "not complete" in " ".join(capsys.readouterr().out.split())
    assert run("report", "study", "--html", "r.html", "--csv", "r.csv", "--runs-csv", "x.csv", "--latex", "r.tex") == 0
    assert run("show", "study", "--json") == 0
    assert not json.loads(capsys.readouterr().out)["complete"]
    calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(execute, "train_jobs", lambda *a, **k: calls.append(1) or train_jobs(*a, **k))
        assert run(*asked) == 0
    assert json.loads(capsys.readouterr().out)["complete"] and len(calls) == 9 - 3


@pytest.mark.parametrize("what", ["methods", "checks", "models", "data", "engines"])
def test_list(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", what, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert run("list", what) == 0
    text = capsys.readouterr().out
    assert rows and all(row["name"] in text for row in rows)
    assert max(map(len, text.splitlines())) <= 100


def test_list_works_in_any_encoding() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "60"}
    found = subprocess.run([sys.executable, "-m", "ticketlab", "list", "methods"], env=environment, capture_output=True)
    assert found.returncode == 0 and "Erdős".encode() in found.stdout


@pytest.mark.parametrize("arguments", [[], ["check"], ["list"], ["show"], ["report"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom ticketlab.cli import main\n"
        f"try:\n    main({[*arguments, '--help']})\nexcept SystemExit as e:\n    code = e.code\n"
        "heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'matplotlib', 'jinja2'} & set(sys.modules)\n"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "usage" in found.stdout.lower() and found.stderr == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import ticketlab

    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == f"ticketlab {ticketlab.__version__}"


def test_a_score_of_ones_own_from_the_current_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Named on the command line, with an option, beside a rival of the same file; NaN scores name their layer."""
    (here / "mine_scores.py").write_text(
        "import torch\n"
        "def big(model, batches, loss, power=1.0):\n"
        "    return {n: p.detach().abs() ** power for n, p in model.named_parameters()}\n"
        "def bad(model, batches, loss):\n"
        "    return {n: p.detach() * float('nan') for n, p in model.named_parameters()}\n"
    )
    checks = ["--checks", "versus:mine_scores:big", "rearrange", "--out", "study", "--json"]
    assert run("check", *_with_defaults(["mine_scores:big,power=2"]), *checks) == 0
    results = json.loads(capsys.readouterr().out)
    rival = next(v for v in results["verdicts"] if v["check"].startswith("versus"))
    # The square ranks as the value itself does.
    assert (rival["verdict"], rival["drop"]) == ("does not use", 0.0)
    assert run("show", "study") == 0
    capsys.readouterr()
    assert run("check", *_with_defaults(["mine_scores:bad"]), "--out", "other") == 1
    assert "'first.weight'" in capsys.readouterr().err
    sys.modules.pop("mine_scores", None)
