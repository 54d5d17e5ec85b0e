"""``ticketlab check --until-decided``: what it runs, says and refuses; and what a dry run says of time and disk."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tiny
from commands import run

import ticketlab
from ticketlab.report import require

STUDY = ["--data", "digits", "--limit-train", "60", "--limit-test", "40", "--model", "tiny:net", "--epochs", "2"]
STUDY += ["--batch-size", "6", "--margin", "20", "--sparsity", "0.5", "--jobs", "1", "--checks", "rearrange", "reinit"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(tiny.__file__).parent))
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


def message(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run("check", "magnitude", *STUDY, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return " ".join(err.split())


def test_a_study_until_decided(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["check", "magnitude", *STUDY, "--until-decided", "--json"]
    assert run(*asked) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["complete"] and results["statistics"]["until_decided"]
    granted = {row["check"]: row["seeds"] for row in results["granted"]}
    assert set(granted) == {"rearrange", "reinit"} and set(granted.values()) <= {3, 5, 8, 12, 20}
    for row in results["verdicts"]:
        # Nobody is left undecided without a reason.
        assert row["verdict"] != "undecided" or granted[row["check"]] == 20 or "stopped at" in row["reason"]
    folder = next(Path("runs").iterdir())
    assert run("show", str(folder), "--json") == 0
    assert json.loads(capsys.readouterr().out) == results
    assert run(*asked) == 0 and len(list(Path("runs").iterdir())) == 1
    # Fixed seeds are another study: it gets a folder of its own.
    assert run("check", "magnitude", *STUDY, "--seeds", "3", "--json") == 0
    assert len(list(Path("runs").iterdir())) == 2
    capsys.readouterr()
    assert "add --until-decided" in message(capsys, "--seeds", "3", "--out", str(folder))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "5"], "asked for 5 seeds, got a study that goes on until decided"),
        (["--final"], "asked for a final look, got a study that goes on until decided"),
    ],
)
def test_what_it_does_not_go_with(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert said in message(capsys, "--until-decided", "--out", "study", *arguments)
    assert not Path("study").exists()


def test_a_dry_run_says_the_least_and_the_most(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "magnitude", *STUDY, "--until-decided", "--dry-run", "--out", "study") == 0
    out = capsys.readouterr().out
    first = re.search(r"first look, 3 seeds: (\d+) steps \(.*\), 0 of them done", out)
    most = re.search(r"at most, if nothing is decided by 20 seeds: (\d+) steps, .+, .+ MB of disk", out)
    # Three seeds of two checks, with an original, a dense run and what they are made of; twenty of all but the dense.
    assert first and most and 20 / 3.5 < int(most[1]) / int(first[1]) < 20 / 3
    assert re.search(r"estimated disk: \d+\.\d MB in the store", out)
    assert run("check", "magnitude", *STUDY, "--seeds", "3", "--dry-run", "--out", "study") == 0
    fixed = capsys.readouterr().out
    assert fixed.startswith(f"{first[1]} steps") and "at most" not in fixed and "estimated disk" in fixed
    assert list(here.iterdir()) == []


def test_the_library_has_it_too(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"model": tiny.net, "data": tiny.data(), "sparsity": 0.8, "recipe": tiny.RECIPE}
    report = ticketlab.check("snip", checks=["rearrange"], margin=20, until_decided=True, **asked)
    (row,) = report.results["granted"]
    assert report.results["complete"] and row["seeds"] in (3, 5, 8, 12, 20)
    assert require.parse("snip:rearrange=decided", report.results).expected == "decided"
    with pytest.raises(ticketlab.InputError, match="asked for 4 seeds, got a study that goes on until decided"):
        ticketlab.check("snip", seeds=4, until_decided=True, **asked)
