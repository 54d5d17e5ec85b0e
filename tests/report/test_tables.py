"""Tables hold every row, no nan, and LaTeX that compiles."""

from __future__ import annotations

import csv
import io
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketlab.report import tables
from ticketlab.report.latex import escape

from . import sample

NASTY = 'a_b & 50% $x$ #1 {c} \\d ~ ^ <e> |f| "g" [h] * `i` --j λ μ × ≤ − é 漢'


def parsed(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_reads_back() -> None:
    results = sample.results()
    found = parsed(tables.to_csv(results))
    assert len(found) == len(results["verdicts"])
    for row, read in zip(results["verdicts"], found, strict=True):
        assert (row["method"], row["check"], row["verdict"]) == (read["method"], read["check"], read["verdict"])
        for key in ("drop", "ci_low", "eq_high", "sd"):
            assert (row[key] is None and read[key] == "") or float(read[key]) == row[key]
        assert [int(read["dead_original"]), int(read["dead_tampered"])] == row["dead"]
        assert read["sentence"] == row["sentence"]


def test_runs_csv_reads_back() -> None:
    results = sample.partial()
    found = parsed(tables.runs_csv(results))
    assert [read["status"] for read in found] == [run["status"] for run in results["runs"]]
    assert found[-1]["accuracy"] == ""


def test_no_nan_text() -> None:
    results = sample.results()
    results["verdicts"][0] |= {"drop": math.nan, "ci_high": math.inf, "stragglers": [1, 2], "dead": None}
    row = parsed(tables.to_csv(results))[0]
    assert row["drop"] == row["ci_high"] == row["dead_original"] == ""
    assert row["stragglers"] == "3"
    assert not {"nan", "inf", "None"} & {field for line in parsed(tables.to_csv(results)) for field in line.values()}


@pytest.mark.parametrize("results", [{}, sample.empty(), sample.partial()], ids=["nothing", "empty", "partial"])
def test_incomplete_results(results: dict[str, Any]) -> None:
    assert len(parsed(tables.to_csv(results))) == len(results.get("verdicts", []))
    assert tables.to_latex(results).rstrip().endswith("\\end{table}")


def test_latex_says_n_margin_and_level() -> None:
    text = tables.to_latex(sample.results())
    caption = next(line for line in text.splitlines() if line.startswith("\\caption"))
    assert "$n = 5$ seeds" in caption and "Margin 1.74 points" in caption and "99.9\\%" in caption
    assert text.count(" \\\\\n") == len(sample.results()["verdicts"]) + 3
    assert "scores:my\\_score" in text and "$-" in text


@given(st.text(max_size=40))
def test_latex_escapes_everything(text: str) -> None:
    found = escape(text)
    bare = found.replace("\\textbackslash{}", "").replace("\\textasciitilde{}", "").replace("\\textasciicircum{}", "")
    for special in "$&#%_{}":
        bare = bare.replace(f"\\{special}", "")
    assert not any(c in bare for c in "&#%_~^")
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    assert "\n" not in found


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
def test_latex_compiles(tmp_path: Path) -> None:
    results = sample.results()
    results["title"] = results["verdicts"][3]["method"] = results["methods"][0]["label"] = NASTY
    table = tables.to_latex(results)
    document = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}\n{table}\\end{{document}}\n"
    (tmp_path / "t.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, errors="replace")
    if "not found" in done.stdout and "booktabs" in done.stdout:
        pytest.skip("no booktabs here")
    assert done.returncode == 0, done.stdout[-2000:]
