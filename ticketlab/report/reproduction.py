"""A reproduced table in words: the cells beside the published figures, and what they say about the paper's claims."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ticketlab.report import words
from ticketlab.reproduce.compare import PUBLISHED_RUNS, Finding, Line
from ticketlab.reproduce.published import Figure, Figures
from ticketlab.reproduce.records import Record
from ticketlab.reproduce.table import Table

if TYPE_CHECKING:
    from rich.console import Console

CELLS = ("cell", "published", "repr.", "ours", "n", "diff.", "s.e.", "best", "epochs")
CLAIMS = ("claim", "published", "ours", "interval", "n", "s.e.", "seen", "holds")
NOT_THE_PROTOCOL = "THIS IS NOT THE PAPER'S PROTOCOL."


@dataclass(frozen=True)
class Reproduction:
    """All that there is to say about a table."""

    table: Table
    figures: Figures
    lines: Sequence[Line]
    findings: Sequence[Finding]
    records: Sequence[Record]

    def to_json(self) -> dict[str, Any]:
        """The comparison in plain values; NaN is null."""
        plain: dict[str, Any] = {
            "table": self.table.name,
            "title": self.table.title,
            "paper": self.table.paper,
            "protocol": "quick" if self.table.quick else "paper",
            "note": self.table.note,
            "published_runs_assumed": PUBLISHED_RUNS,
            "cells": [
                {
                    "cell": line.cell.id,
                    **{key: value for key, value in asdict(line).items() if key != "cell"},
                    **{
                        name: getattr(line, name)
                        for name in ("n", "mean", "sd", "best_mean", "difference", "standard_errors")
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
            f"{NOT_THE_PROTOCOL} --quick trains {networks} on {table.train or 'all'} images for {epochs}; published "
            f"figures stand beside it for orientation. {' '.join(table.note.split())}"
        )
    return lines


def sections(found: Reproduction) -> list[tuple[str, list[tuple[str, ...]]]]:
    """The rows of cells by data set and network."""
    by_place: dict[tuple[str, str], list[Line]] = {}
    for line in found.lines:
        by_place.setdefault((line.cell.dataset, line.cell.network), []).append(line)
    quick = found.table.quick
    return [
        (f"{dataset} / {network}", [_cells(line, quick) for line in lines])
        for (dataset, network), lines in by_place.items()
    ]


def claims(found: Reproduction) -> list[tuple[str, ...]]:
    """One row a claim and place, those with no run left out."""
    return [
        (
            f"{f.claim.text} ({f.dataset} / {f.network}, {words.percent(f.sparsity)})",
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


def notes(found: Reproduction) -> list[str]:
    """How to read the numbers."""
    margins = {f"{f.dataset} / {f.network}": f.margin for f in found.findings if f.n and f.margin is not None}
    told = [
        "Accuracies are percent of the test set after the last epoch, ± the standard deviation over n seeds. best: the "
        "best epoch, chosen by the test set; it is shown only because published figures may be such.",
        "diff.: ours minus published; s.e.: how many standard errors that is, with the published ± taken as the "
        f"standard deviation of {PUBLISHED_RUNS} runs (their number is not stated)"
        + ("; not given here, where another protocol makes the difference." if found.table.quick else "."),
        "epochs: all epochs that the weights were trained for. Rewinding the learning rate trains longer.",
    ]
    if margins:
        told.append(
            "A claim is a difference of two rows, paired by seed; one Holm family at 5% for each network and data set; "
            f"'no different' is within {', '.join(f'{m:.2f} points ({place})' for place, m in margins.items())}. "
            "s.e.: how many standard errors our difference is from the published one. open: too few seeds to tell."
        )
    where = sorted({place for line in found.lines for place in line.where})
    if where:
        told.append(f"Run on: {', '.join(where)}.")
    failed = sum(line.failed_controls for line in found.lines)
    if failed:
        told.append(f"{failed} CONTROLS FAILED: what a check should have changed, it did not.")
    if any(line.reproduced for line in found.lines) and found.figures.reproduction.note:
        told.append(f"repr.: {' '.join(found.figures.reproduction.note.split())}")
    return told


def render(found: Reproduction, console: Console) -> None:
    """Print it: the cells, the claims, how to read them."""
    from rich import box
    from rich.table import Table as Printed

    def printed(header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> None:
        shown = Printed(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for index, name in enumerate(header):
            shown.add_column(name, justify="left" if index < left else "right", overflow="fold")
        for row in rows:
            shown.add_row(*row, style="dim" if "not run" in row else None)
        console.print(shown)

    title, *rest = heading(found)
    console.print(title, style="bold", highlight=False, markup=False)
    for line in rest:
        style = "bold red" if line.startswith(NOT_THE_PROTOCOL) else ""
        console.print(line, style=style, highlight=False, markup=False)
    for name, rows in sections(found):
        console.print(f"\n{name}", style="bold", highlight=False, markup=False)
        printed(CELLS, rows, 1)
    if told := claims(found):
        console.print("\nWhat this says about the paper's claims", style="bold", highlight=False)
        printed(CLAIMS, told, 1)
    for line in notes(found):
        console.print(f"- {line}", style="dim", highlight=False, markup=False)


def markdown(found: Reproduction) -> str:
    """The same as Markdown; cells that have not run are counted, not listed."""
    parts = [f"**{heading(found)[0]}**", "", " ".join(heading(found)[1:]), ""]
    header = ("network", *CELLS)
    rows = [(name, *row) for name, found_rows in sections(found) for row in found_rows if "not run" not in row]
    parts += _table(header, rows)
    if told := claims(found):
        parts += ["", *_table(CLAIMS, told)]
    parts += ["", *(f"- {line}" for line in notes(found))]
    return "\n".join(parts) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _cells(line: Line, quick: bool) -> tuple[str, ...]:
    cell = line.cell
    name = cell.row if cell.sparsity is None else f"{words.percent(cell.sparsity)} {cell.row}"
    return (
        name,
        _figure(line.published),
        _figure(line.reproduced),
        _figure(Figure(line.mean, line.sd)) if line.mean is not None else "not run",
        str(line.n or ""),
        words.points(line.difference, sign=True),
        "" if quick else _rounded(line.standard_errors),
        words.points(line.best_mean),
        "" if line.epochs_seen is None else f"{line.epochs_seen:g}",
    )


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    if math.isnan(figure.mean):
        return "diverged"
    return f"{figure.mean:.2f}" + ("" if figure.sd is None else f"±{figure.sd:.2f}".replace("±0.", "±."))


def _rounded(standard_errors: float | None) -> str:
    return "" if standard_errors is None else f"{standard_errors:+.1f}"


def _finite(value: Any) -> Any:
    """The same plain values with null for NaN, which is no JSON."""
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
