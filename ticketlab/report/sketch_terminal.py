"""A study of the theory in a terminal: the end points, the errors at the start and at the end, and what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticketlab.report import sketch_reading as reading
from ticketlab.report.sketch_html import facts, undefined
from ticketlab.report.sketch_reading import Document, Row
from ticketlab.report.sketch_words import figures, with_interval

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_LABEL, _COLUMN = 24, 11
_PLAIN = str.maketrans({"²": "^2", "±": "~", "·": "-", "–": "-", "−": "-"})


def render(document: Document, console: Console) -> None:
    """Print the study; the last lines are the answer."""
    _say(console, str(document["title"]), "bold")
    for name, value in facts(document):
        _say(console, f"{name}: {value}")
    console.print()
    console.print(_ends(document, console))
    _say(console, "Rescaled masks: measured ± 95% interval, the exact formula below; then bounds.", "dim")
    shown = dict.fromkeys((reading.names(document, "ends")[0], reading.farthest(document)))
    for at in shown:
        _say(console, f"Relative error at the {_named(at)} (1: as bad as predicting zero)", "bold")
        console.print(_errors(document, at, console))
    for line in undefined(document):
        _say(console, f"- {line}")
    if len(document["ends"]) > len(shown):
        _say(console, "All end points, numbers and plots are in the report.", "dim")
    console.print()
    for line in document["answer"]:
        _say(console, f"- {line}", "bold")


def _named(at: str) -> str:
    return "start" if at == "start" else f"end point: {at}"


def _ends(document: Document, console: Console) -> Table:
    table = _table(["end point", "moved, std", "squared error", "|Xw|²", "price, no data"], console)
    price = {row["end"]: row for row in document["prices"]}
    for row in document["ends"]:
        values = [row["movement"], row["loss"], row["energy"], price[row["name"]]["formula"]]
        table.add_row(_plain(console, str(row["name"])), *[_plain(console, figures(value)) for value in values])
    return table


def _errors(document: Document, at: str, console: Console) -> Table:
    draws = _fitting([int(s) for s in document["plan"]["draws"]], (console.width - _LABEL) // _COLUMN)
    size = int(document["data"]["size"])
    table = _table(["mask", *[f"{s:,} of {size:,}" for s in draws]], console)
    for kind in reading.names(document, "kinds"):
        found = {int(row["draws"]): row for row in reading.cells(document, at, kind)}
        table.add_row(kind, *[_plain(console, _cell(document, at, found[s])) for s in draws])
    table.add_section()
    for name, kind in reading.held(document):
        values = {s: figures(value) for s, value in reading.bound(document, at, name, kind)}
        table.add_row(f"bound: {reading.bound_name(name, kind)}", *[values.get(s, "") for s in draws])
    table.add_section()
    for name in reading.masks(document):
        kept = {int(row["kept"]): row for row in reading.binary(document, at, name)}
        values = {s: figures(reading.relative(document, at, row["error"])) for s, row in kept.items()}
        table.add_row(f"binary: {name}", *[values.get(s, "") for s in draws])
    shrunk = {int(row["draws"]): row["shrunk"] for row in reading.cells(document, at, "optimal")}
    if shrunk:
        table.add_row("optimal, best shrunk", *[figures(reading.relative(document, at, shrunk[s])) for s in draws])
    return table


def _cell(document: Document, at: str, row: Row) -> str:
    if row["why"]:
        return "undefined"
    mean, error, exact = (reading.relative(document, at, row[k]) for k in ("measured", "standard_error", "formula"))
    return f"{with_interval(mean, None if error is None else 1.96 * error)}\n{figures(exact)}"


def _fitting(draws: list[int], room: int) -> list[int]:
    """At most as many of the numbers as there is room for, the first and the last among them."""
    room = max(2, room)
    if len(draws) <= room:
        return draws
    return [draws[round(at * (len(draws) - 1) / (room - 1))] for at in range(room)]


def _table(heads: list[str], console: Console) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), expand=False)
    table.add_column(heads[0], overflow="fold", max_width=30 if len(heads[1]) > 12 else _LABEL)
    for head in heads[1:]:
        table.add_column(_plain(console, head), justify="right", overflow="fold")
    return table


def _plain(console: Console, text: str) -> str:
    """The text in what the terminal can show: a console without UTF-8 gets plain letters."""
    return text.translate(_PLAIN) if console.options.ascii_only else text


def _say(console: Console, text: str, style: str = "") -> None:
    from rich.text import Text

    console.print(Text(_plain(console, text), style=style), highlight=False)
