"""A reproduced table in words: the cells beside the published figures, and what they say about the paper's claims."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import compress
from typing import TYPE_CHECKING, Any

from ticketlab.report import words
from ticketlab.reproduce.compare import PUBLISHED_RUNS, Finding, Line
from ticketlab.reproduce.published import Figure, Figures
from ticketlab.reproduce.records import Record
from ticketlab.reproduce.table import Table

if TYPE_CHECKING:
    from rich.console import Console

CELLS = ("cell", "published", "repr.", "ours", "n", "diff.", "s.e.", "best", "epochs seen")
CLAIMS = ("claim", "published", "ours", "interval", "n", "s.e.", "verdict", "holds")
DIVERGED = "†"
NOT_THE_PROTOCOL = "THIS IS NOT THE PAPER'S PROTOCOL."


@dataclass(frozen=True)
class Reproduction:
    """All that there is to say about a table.

    Attributes:
        left_out: how many records were not counted in, by the reason.
    """

    table: Table
    figures: Figures
    lines: Sequence[Line]
    findings: Sequence[Finding]
    records: Sequence[Record]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The comparison in plain values; NaN is null."""
        plain: dict[str, Any] = {
            "table": self.table.name,
            "title": self.table.title,
            "paper": self.table.paper,
            "protocol": "quick" if self.table.quick else "paper",
            "note": self.table.note,
            "published_runs_assumed": PUBLISHED_RUNS,
            "left_out": dict(self.left_out),
            "cells": [
                {
                    **asdict(line),
                    "cell": line.cell.id,
                    **{
                        name: getattr(line, name)
                        for name in ("n", "diverged", "mean", "sd", "best_mean", "difference", "standard_errors")
                    },
                }
                for line in self.lines
            ],
            "claims": [asdict(finding) for finding in self.findings],
        }
        return _finite(plain)  # type: ignore[no-any-return]


def heading(found: Reproduction) -> list[str]:
    """What the table is, and whether it is the paper's."""
    table = found.table
    run = sum(line.n > 0 for line in found.lines)
    lines = [f"{table.title} ({table.name})", f"{table.paper}. {run} of {len(found.lines)} cells have run."]
    if table.quick:
        networks = ", ".join(f"{model} for {name}" for name, model in table.networks.items())
        epochs = f"{table.training.epochs:g} epochs" if table.training else "the data's own epochs"
        lines.append(
            f"{NOT_THE_PROTOCOL} --quick trains {networks} on {table.train or 'all'} images for {epochs}"
            f"{'; published figures stand beside it for orientation' if _compared(found) else ''}. "
            f"{' '.join(table.note.split())}"
        )
    return lines


def _compared(found: Reproduction) -> bool:
    """Whether anybody else has figures for these cells."""
    return any(line.published or line.reproduced for line in found.lines)


def _shown(names: Sequence[str], found: Reproduction) -> list[bool]:
    """Which columns there are. Standard errors from a figure of another protocol would mean nothing."""
    left_out = {"s.e."} if found.table.quick else set()
    if not _compared(found):
        left_out |= {"published", "repr.", "diff.", "s.e."}
    return [name not in left_out for name in names]


def header(names: Sequence[str], found: Reproduction) -> tuple[str, ...]:
    """The columns."""
    return tuple(compress(names, _shown(names, found)))


def sections(found: Reproduction) -> list[tuple[str, list[tuple[str, ...]]]]:
    """The rows of cells by data set and network."""
    by_place: dict[tuple[str, str], list[Line]] = {}
    for line in found.lines:
        by_place.setdefault((line.cell.dataset, line.cell.network), []).append(line)
    shown = _shown(CELLS, found)
    return [
        (f"{dataset} / {network}", [tuple(compress(_cells(line), shown)) for line in lines])
        for (dataset, network), lines in by_place.items()
    ]


def claims(found: Reproduction) -> list[tuple[str, ...]]:
    """One row a claim and place, those with no run left out."""
    rows = [
        (
            _claim(f),
            words.points(f.published, sign=True) or "-",
            words.points(f.difference, sign=True) or "-",
            words.interval(f.low, f.high) or "-",
            str(f.n),
            _rounded(f.standard_errors),
            f.verdict,
            "open" if f.holds is None else "yes" if f.holds else "NO",
        )
        for f in found.findings
        if f.n
    ]
    shown = _shown(CLAIMS, found)
    return [tuple(compress(row, shown)) for row in rows]


def notes(found: Reproduction) -> list[str]:
    """How to read the numbers."""
    told = [f"LEFT OUT: {number} {_trainings(number)}: {why}." for why, number in found.left_out.items()]
    told += [
        "Accuracies are percent of the test set after the last epoch, ± the standard deviation over n seeds. best: the "
        "best epoch, chosen by the test set; it is shown only because published figures may be such.",
        *_about_differences(found),
        "epochs seen: all epochs that the weights were trained for. Rewinding the learning rate trains longer.",
    ]
    if diverged := sum(line.diverged for line in found.lines):
        told.append(f"{DIVERGED}: {diverged} {_trainings(diverged)} diverged and count as chance.")
    told += _about_claims([f for f in found.findings if f.n], found.table.quick or not _compared(found))
    if found.records:
        told.append(_where(found))
    if failed := [f"{line.cell.id} ({line.failed_controls})" for line in found.lines if line.failed_controls]:
        told.append(f"CONTROLS FAILED: what a check should have changed, it did not: {', '.join(failed)}.")
    if any(line.reproduced for line in found.lines) and found.figures.reproduction.note:
        told.append(f"repr.: {' '.join(found.figures.reproduction.note.split())}")
    return told


def _about_differences(found: Reproduction) -> list[str]:
    if not _compared(found):
        return []
    if found.table.quick:
        return ["diff.: ours minus published, which here is mostly the other protocol."]
    return [
        "diff.: ours minus published; s.e.: how many standard errors that is, with the published ± taken as the "
        f"standard deviation of {PUBLISHED_RUNS} runs (their number is not stated); blank where either has no ±."
    ]


def _about_claims(shown: Sequence[Finding], alone: bool) -> list[str]:
    if not shown:
        return []
    places: dict[float, list[str]] = {}
    for f in shown:
        places.setdefault(f.margin, []).append(f"{f.dataset} / {f.network}")
    same = "; ".join(f"{m:.2f} points ({', '.join(dict.fromkeys(where))})" for m, where in places.items())
    told = [
        "A claim is a difference of two rows, paired by seed under equal numerics, and judged once, at all planned "
        "seeds; one Holm family at 5% for each network and data set, with all that has not run counted in; "
        f"'no different' is within {same}."
        + ("" if alone else " s.e.: how many standard errors our difference is from the published one.")
    ]
    open_ = Counter(f.reason or "nothing is clear at these seeds" for f in shown if f.verdict == "undecided")
    if open_:
        told.append("open: " + "; ".join(f"{why} ({n} of them)" for why, n in open_.most_common(6)) + ".")
    spoiled: dict[str, list[str]] = {}
    for f in shown:
        if f.reason and f.verdict != "undecided" and (f.verdict == "void" or f.collapsed):
            spoiled.setdefault(f"{f.verdict}, {f.reason}", []).append(_claim(f))
    told += [f"{why}: {'; '.join(where)}." for why, where in spoiled.items()]
    return told


def _where(found: Reproduction) -> str:
    """What the results come from: every record holds all of it."""
    where = sorted({place for line in found.lines for place in line.where})
    commits = sorted({_commit(r.provenance.get("commit")) for r in found.records})
    seconds, number = words.duration(sum(r.seconds for r in found.records)), len(found.records)
    return (
        f"Run on {', '.join(where)}; {number} {_trainings(number)}, {seconds} for the last part of each in all; "
        f"commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}."
    )


def _commit(told: object) -> str:
    """Short; "+changes" says that the code was not that of the commit."""
    name, plus, changes = str(told or "unknown").partition("+")
    return name[:12] + plus + changes


def _trainings(number: int) -> str:
    return "training" if number == 1 else "trainings"


def render(found: Reproduction, console: Console) -> None:
    """Print it: the cells, the claims, how to read them."""
    from rich import box
    from rich.table import Table as Printed
    from rich.text import Text

    def say(text: str, style: str = "") -> None:
        # As Text: names and notes are a file's own, and none of it is markup.
        console.print(Text(text, style))

    def printed(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        shown = Printed(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for index, name in enumerate(names):
            shown.add_column(Text(name), justify="right" if index else "left", overflow="fold")
        for row in rows:
            shown.add_row(*map(Text, row), style="dim" if "not run" in row else None)
        console.print(shown)

    title, *rest = heading(found)
    say(title, "bold")
    for line in rest:
        say(line, "bold red" if line.startswith(NOT_THE_PROTOCOL) else "")
    for name, rows in sections(found):
        say(f"\n{name}", "bold")
        printed([name.replace(" ", "\n") for name in header(CELLS, found)], rows)
    if told := claims(found):
        whose = "paper's " if _compared(found) else ""
        say(f"\nWhat this says about the {whose}claims", "bold")
        printed(header(CLAIMS, found), told)
    for line in notes(found):
        say(f"- {line}", "bold" if line.startswith(("LEFT OUT", "CONTROLS FAILED")) else "dim")


def markdown(found: Reproduction) -> str:
    """The same as Markdown; cells that have not run are counted, not listed."""
    parts = [f"**{heading(found)[0]}**", "", " ".join(heading(found)[1:]), ""]
    rows = [(name, *row) for name, found_rows in sections(found) for row in found_rows if "not run" not in row]
    parts += _table(("network", *header(CELLS, found)), rows)
    if told := claims(found):
        parts += ["", *_table(header(CLAIMS, found), told)]
    parts += ["", *(f"- {line}" for line in notes(found))]
    return "\n".join(parts) + "\n"


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [names, ["---"] * len(names), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _cells(line: Line) -> tuple[str, ...]:
    cell = line.cell
    name = cell.row if cell.sparsity is None else f"{words.percent(cell.sparsity)} {cell.row}"
    return (
        name,
        _figure(line.published),
        _figure(line.reproduced),
        _ours(line),
        str(line.n or ""),
        words.points(line.difference, sign=True),
        _rounded(line.standard_errors),
        words.points(line.best_mean),
        "" if line.epochs_seen is None else f"{line.epochs_seen:g}",
    )


def _ours(line: Line) -> str:
    if line.mean is None:
        return "not run"
    if line.diverged == line.n:
        return "diverged"
    return _figure(Figure(line.mean, line.sd)) + (DIVERGED if line.diverged else "")


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    return f"{figure.mean:.2f}" + ("" if figure.sd is None else f"±{figure.sd:.2f}".replace("±0.", "±."))


def _claim(f: Finding) -> str:
    return f"{f.claim.text} ({f.dataset} / {f.network}, {words.percent(f.sparsity)})"


def _rounded(standard_errors: float | None) -> str:
    if standard_errors is None:
        return ""
    text = f"{standard_errors:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def _finite(value: Any) -> Any:
    """The same plain values with null for NaN, which is no JSON."""
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
