"""A reproduced table in words: 80 columns, no markup of the file's own, nothing that only looks like a number."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

from reproduce.made import NUMERICS, figures, record, runs, table
from rich.console import Console

from ticketlab.report.reproduction import Reproduction, markdown, notes, render
from ticketlab.reproduce.compare import findings, lines
from ticketlab.reproduce.published import Figure, Figures, Source
from ticketlab.reproduce.records import Record

PAPER = {"snip": (92.0, 0.6), "random": (91.0, None)}
DENSE = runs("dense", None, 95.0, 95.2, 94.9)
SNIP = runs("snip", 0.9, 92.0, 92.1, 91.9)


def reproduction(found: list[Record], others: Figures | None = None, **changes: Any) -> Reproduction:
    wanted, known = table(**changes), others or figures(**PAPER)
    return Reproduction(wanted, known, lines(wanted, known, found), findings(wanted, known, found), found)


def words(found: Reproduction) -> str:
    out = io.StringIO()
    render(found, Console(file=out, width=80))
    return out.getvalue()


def row(found: Reproduction, name: str) -> list[str]:
    return next(line.split() for line in words(found).splitlines() if line.strip().startswith(name))


def test_rows() -> None:
    found = reproduction([*DENSE, *SNIP])
    assert row(found, "90% snip") == ["90%", "snip", "92.00±.60", "-", "92.00±.10", "3", "0.00", "0.0", "92.50", "160"]
    assert row(found, "90% random") == ["90%", "random", "91.00", "-", "not", "run"]
    assert row(found, "dense") == ["dense", "-", "-", "95.03±.15", "3", "95.53", "160"]
    assert words(found).count("not run") == 7 and "2 of 9 cells have run" in words(found)


def test_one_seed_and_seeds_that_diverge() -> None:
    assert row(reproduction(SNIP[:1]), "90% snip")[2:] == ["92.00±.60", "-", "92.00", "1", "0.00", "92.50", "160"]
    some = reproduction(runs("snip", 0.9, 90.0, None))
    assert "50.00±56.57†" in row(some, "90% snip") and "†: 1 training diverged and count as chance" in words(some)
    assert "diverged" in row(reproduction(runs("snip", 0.9, None, None)), "90% snip")


def test_everything_fits_80_columns_and_nothing_is_markup() -> None:
    claims = tuple(replace(claim, text=f"[red]{claim.text}[/nothing] :smile:") for claim in table().claims)
    collapsed = [*DENSE, *SNIP, *runs("random", 0.9, 10.0, 10.0, None)]
    found = reproduction(collapsed, title="[/] {x} :smile:", claims=claims, quick=True, note="[/b] note")
    said = words(found)
    assert max(map(len, said.splitlines())) <= 80
    assert "[/] {x} :smile:" in said and "[/b] note" in said and "[red]snip" in said
    assert "THIS IS NOT THE PAPER'S PROTOCOL." in said and "s.e." not in said
    assert "THIS IS NOT" not in words(reproduction(collapsed))


def test_why_claims_are_open_or_void() -> None:
    told = notes(reproduction([*DENSE, *SNIP[:2], *runs("random", 0.9, 90.0, 90.1)]))
    assert "open: needs 3 seeds, has 2 (2 of them)." in told
    dead = notes(reproduction([*DENSE, *runs("snip", 0.9, 10.0, 10.0, 10.0), *runs("random", 0.9, 10.0, 10.0, None)]))
    assert any(line.startswith("void, both at chance: nothing to compare: snip beats random") for line in dead)


def test_failed_controls_are_named() -> None:
    failed = {"passed": False, "summary": "nothing moved"}
    told = notes(reproduction([record("moved", 0.9, 0, 90.0, control=failed)]))
    assert any(line.startswith("CONTROLS FAILED") and "digits/net/0.9/moved (1)" in line for line in told)


def test_where_it_ran() -> None:
    other = {"numerics": {**NUMERICS, "device": "cuda"}, "provenance": {"commit": None}, "seconds": 7200}
    told = notes(reproduction([*SNIP[:2], record("snip", 0.9, 2, 92.0, **other)]))
    assert (
        "Run on cpu fp32, cuda fp32; 3 trainings, 2h 01m for the last part of each in all; "
        "commits 0123456789ab+changes, unknown."
    ) in told


def test_left_out() -> None:
    found = replace(reproduction([]), left_out={"epochs 80, not 160": 1})
    assert "LEFT OUT: 1 training: epochs 80, not 160." in words(found)
    assert found.to_json()["left_out"] == {"epochs 80, not 160": 1}


def test_the_other_reproduction() -> None:
    theirs = Source({("made", "digits", "net", "snip", 0.9): Figure(91.5, None)}, "Others.\n[/x] One seed.")
    others = Figures("made", figures(**PAPER).paper, theirs)
    found = reproduction(SNIP, others)
    assert "91.50" in row(found, "90% snip") and "repr.: Others. [/x] One seed." in words(found)


def test_json_has_no_nan() -> None:
    found = reproduction([*DENSE, *SNIP, *runs("random", 0.9, None, 10.0, None)])
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    (one,) = (c for c in plain["cells"] if c["cell"] == "digits/net/0.9/random")
    assert one["accuracies"] == [None, 10.0, None] and one["diverged"] == 2 and one["mean"] == 10
    assert reproduction([]).to_json()["cells"][0]["mean"] is None
    quick = reproduction([*DENSE, *SNIP], quick=True).to_json()
    assert {c["standard_errors"] for c in [*quick["cells"], *quick["claims"]]} == {None}


def test_markdown() -> None:
    claims = (replace(table().claims[0], text="a | b"),)
    text = markdown(reproduction([*DENSE, *SNIP, *runs("random", 0.9, 90.0, 90.1, 90.2)], claims=claims))
    assert "| a \\| b (digits / net, 90%) |" in text and "| not run |" not in text
    table_lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({line.replace("\\|", "").count("|") for line in table_lines[:5]}) == 1
