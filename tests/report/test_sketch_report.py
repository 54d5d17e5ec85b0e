"""The report of the theory on data: what it says is what was found, and the page needs nothing else."""

from __future__ import annotations

import copy
import html
import io
import json
import re
from typing import Any

import pytest
import torch
from rich.console import Console

from ticketlab.report import sketch_findings, sketch_html, sketch_plot, sketch_terminal
from ticketlab.report import sketch_reading as reading
from ticketlab.report.sketch_words import count, figures, share, with_interval
from ticketlab.sketch.document import document
from ticketlab.sketch.linear import Regression, start
from ticketlab.sketch.study import Plan, study_from

from .test_html import EVIL, Nesting

Document = dict[str, Any]
MIXED = {"optimal": 0.9, "column-norm": 0.1}
KINDS = {"optimal": "optimal", "magnitude": "magnitude", "uniform": "uniform", "optimal, 10% column-norm": MIXED}


def made(*, zero: bool = False, kinds: dict[str, Any] = KINDS, draws: tuple[int, ...] = (1, 6, 60)) -> Document:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    problem = Regression(X, torch.randn(2, 6, generator=generator, dtype=torch.float64), 6, torch.zeros(2).double())
    w0 = start((0, 1), 6, 1.0, 0)
    w0[0, 2] *= 0 if zero else 1
    plan = Plan(kinds, draws, (0.0, 0.5, 1.0), (0, 1), steps=3, masks=50, std=1.0, seed=0)
    result = document(
        study_from(problem, plan, w0), data={"name": "noise", "standardised": False}, command="ticketlab x"
    )
    result["answer"] = sketch_findings.findings(result)
    return result


DOCUMENTS = {
    "full": made(),
    "undefined cells": made(zero=True),
    "one kind, one draw": made(kinds={"uniform": "uniform"}, draws=(4,)),
    "no bounds, no optimum": made(kinds={"magnitude": "magnitude", "uniform": "uniform"}),
}


@pytest.mark.parametrize("found", DOCUMENTS.values(), ids=DOCUMENTS)
def test_the_page_needs_nothing_else(found: Document) -> None:
    before = copy.deepcopy(found)
    page = sketch_html.page(found)
    assert page == sketch_html.page(found) and found == before
    assert "http" not in page and "@import" not in page and "<script" not in page
    assert not re.search(r"\ssrc\s*=|url\((?!data:|#)|<link|<iframe|<object|<form", page)
    assert not re.search(r"\b(nan|NaN|inf|None|undefined:? *</)\b", page[: page.index('id="document"')])
    check = Nesting()
    check.feed(page)
    assert check.open == ["html"] or not check.open
    assert len(check.ids) == len(set(check.ids))
    assert {target[1:] for target in re.findall(r'href="([^"]*)"', page)} <= set(check.ids)
    assert page.count('class="panel plot"') == 2 * len(found["ends"])
    text = page[page.index('id="document">') + len('id="document">') :]
    assert json.loads(html.unescape(text[: text.index("</pre>")])) == found


def test_labels_are_escaped() -> None:
    found = made()
    found["data"]["name"], found["title"], found["command"] = EVIL, EVIL, EVIL
    assert "<script" not in sketch_html.page(found) and "--><b>" not in sketch_html.page(found)


@pytest.mark.parametrize("found", DOCUMENTS.values(), ids=DOCUMENTS)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_terminal(found: Document, encoding: str) -> None:
    raw = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    sketch_terminal.render(found, Console(file=raw, width=80))
    raw.seek(0)
    lines = raw.read().splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "Relative error at the start" in text and "closed form" in text
    assert ("is undefined at" in text) == any(row["why"] for row in found["cells"])


def test_where_the_sketch_gets_below_one() -> None:
    found = made()
    draws = reading.crossing(found, "start", "optimal")
    energy = reading.end(found, "start")["energy"]
    cell = reading.cells(found, "start", "optimal")[1]
    assert draws == pytest.approx(cell["formula"] * cell["draws"] / energy)
    assert f"more than {count(draws)} draws at the start" in " ".join(found["answer"])
    bound = reading.bound_crossing(found, "closed form", "ratio", "optimal")
    end = reading.crossing(found, "closed form", "optimal")
    assert bound is not None and end is not None and bound >= end


def test_agreement_counts() -> None:
    found = made()
    for row in found["cells"]:
        row.update(measured=10.0, standard_error=1.0, formula=10.0)
    found["cells"][0].update(formula=14.0)
    found["cells"][1].update(formula=16.0)
    found["cells"][2].update(measured=None, standard_error=None, formula=None, why="no scores")
    n = len(found["cells"])
    assert reading.agreement(found) == (n - 1, n - 3, n - 2, n - 1, n - 3, 1)
    said = sketch_findings.findings(found)[0]
    assert f"in {n - 3} of {n - 1} cells." in said and "1 cells are undefined" in said
    found["cells"][3].update(standard_error=2.0)
    assert reading.agreement(found)[3:5] == (n - 2, n - 4)
    assert "In the other 1 the error rests on" in sketch_findings.findings(found)[0]


def test_bounds_far_above_are_told_in_words() -> None:
    found = made()
    for row in found["cells"]:
        if "ratio" in row["bounds"]:
            row["bounds"]["ratio"] = 1e12
    told = sketch_plot.above(found, "start")
    assert len(told) == 1 and told[0].startswith("ratio (")
    assert "Bounds above the figure: ratio" in sketch_html.page(found)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0.0, "0"),
        (0.01234, "0.0123"),
        (6.355, "6.36"),
        (99.99, "100"),
        (1234.0, "1,230"),
        (1.26e6, "1.3e6"),
    ],
)
def test_figures(value: float | None, text: str) -> None:
    assert figures(value) == text


def test_intervals_and_counts() -> None:
    assert with_interval(0.5532, 0.0101) == "0.55±0.01"
    assert with_interval(41.2, 2.8) == "41±3"
    assert with_interval(1234.0, 400.0) == "1,234±400"
    assert with_interval(0.0, 0.0) == "0" and with_interval(None, 1.0) == ""
    assert with_interval(2e6, 3e5) == "2.0e6±3.0e5"
    assert count(34.2) == "35" and share(6, 64) == "9.4%" and share(700, 64) == "11 times"
