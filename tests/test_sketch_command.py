"""ticketlab sketch: the theory on data, the same numbers each time, and errors before any work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import refused, run

from ticketlab.commands.sketch_options import draws_of, kinds_of
from ticketlab.errors import InputError

SMALL = [
    "sketch",
    "--limit-train",
    "100",
    "--classes",
    "0",
    "3",
    "--masks",
    "50",
    "--steps",
    "20",
    "--draws",
    "2",
    "10%",
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test starts in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(*SMALL, *arguments, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_whole_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*SMALL, "--out", "first") == 0
    out, err = capsys.readouterr()
    assert max(map(len, out.splitlines())) <= 80 and "report: first/report.html" in err
    results = json.loads(Path("first/results.json").read_text())
    assert " ".join(results["answer"][0].split()) in " ".join(out.split()).replace("- ", "")
    assert results["command"] == f"ticketlab {' '.join(SMALL)} --out first"
    assert results["plan"]["draws"] == [2, 6] and results["data"]["examples"] == 100
    assert "pruning as sketching" in Path("first/report.html").read_text(encoding="utf-8")
    assert run(*SMALL, "--out", "second") == 0
    again = json.loads(Path("second/results.json").read_text())
    assert {**again, "command": ""} == {**results, "command": ""}


def test_places(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "--html", "page.html")
    assert Path("page.html").is_file()
    kept = list(Path("runs").iterdir())
    assert len(kept) == 1 and kept[0].name.startswith("sketch-digits-")
    assert json.loads((kept[0] / "results.json").read_text()) == found
    printed(capsys)
    assert list(Path("runs").iterdir()) == kept
    printed(capsys, "--seed", "1")
    assert len(list(Path("runs").iterdir())) == 2


def test_options_are_heard(capsys: pytest.CaptureFixture[str]) -> None:
    asked = [
        "--kinds",
        "uniform",
        "optimal:0.7+column-norm:0.3",
        "--distances",
        "0.5",
        "--standardise",
        "--init-std",
        "2",
    ]
    found = printed(capsys, *asked)
    assert [kind["name"] for kind in found["kinds"]] == ["uniform", "optimal, 30% column-norm"]
    assert [end["name"] for end in found["ends"]] == ["start", "0.5 of the way", "gradient descent, 20 steps"]
    assert found["data"]["standardised"] and found["plan"]["std"] == 2 and found["plan"]["classes"] == [0, 3]


def test_more_features_than_examples(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "--limit-train", "20", "--steps", "0")
    assert found["data"]["examples"] == 20 and len(found["ends"]) == 4
    assert found["ends"][-1]["loss"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--masks", "1"], "asked for --masks 1, got too few"),
        (["--steps", "-1"], "asked for --steps -1, got a negative number"),
        (["--distances", "nan"], "asked for --distances nan, got no share"),
        (["--init-std", "0"], "asked for --init-std 0, got none from"),
        (["--draws", "0"], "asked for --draws 0, got no number of draws"),
        (["--init-std", "1e-300"], "got none from"),
        (["--distances", "1e150"], "got no share"),
        (["--distances", "0.5", "0.50000001"], "got two of one name"),
        (["--draws", "5.5"], "neither a number nor a share"),
        (["--kinds", "optimal:nan"], "do not sum to 1"),
        (["--kinds", "optimal:0.9+uniform:0.1", "optimal:0.90000001+uniform:0.09999999"], "two mixtures of one name"),
        (["--draws", "many"], "got 'many', which is no number"),
        (["--kinds", "optimul"], "Did you mean 'optimal'?"),
        (["--kinds", "optimal:0.5+uniform:0.4"], "do not sum to 1"),
        (["--kinds", "snip:0.5+snip:0.5"], "got snip twice"),
        (["--classes", "11"], "asked for a linear model of 11, got examples of 0, 1"),
        (["--data", "nowhere"], "got no such data set"),
        (["--data-dir", "x"], "has no files"),
        (["--html", "."], "name a file"),
    ],
)
def test_refusals(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refused(capsys, "sketch", *arguments)


def test_draws() -> None:
    assert draws_of(["32", "10%", "0.1", "1.0", "0.01%"], 64) == (1, 6, 32, 64)
    with pytest.raises(InputError):
        draws_of(["nan"], 64)


def test_kinds() -> None:
    assert kinds_of(["optimal:1", "uniform"]) == {"optimal": "optimal", "uniform": "uniform"}
    assert "optimal, 10% uniform" in kinds_of(None)


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom ticketlab.cli import main\n"
        "try:\n    main(['sketch', '--help'])\nexcept SystemExit as e:\n    code = e.code\n"
        "sys.exit(bool(code or {'torch', 'numpy'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 0 and "--distances" in found.stdout and "10%" in found.stdout
