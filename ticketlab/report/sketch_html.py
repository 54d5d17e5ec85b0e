"""A study of the theory as one HTML file that needs nothing else: no request leaves it, and it has no script."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from ticketlab.packing import write_atomically
from ticketlab.report import sketch_plot as plot
from ticketlab.report import sketch_reading as reading
from ticketlab.report import words
from ticketlab.report.sketch_reading import Document, Row
from ticketlab.report.sketch_words import figures, with_interval

HERE = Path(__file__).parent


def write(document: Document, path: str | Path) -> None:
    """Write the page to `path`.

    Raises:
        InputError: it cannot be written there.
    """
    write_atomically(Path(path), page(document).encode())


def page(document: Document) -> str:
    """The whole page as text; the same document always gives the same text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(figures=figures, safe_svg=Markup)
    styles = "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "sketch.css"))
    text = escape(json.dumps(document, indent=1, ensure_ascii=False), quote=False)
    return environment.get_template("sketch.html").render(
        **_context(document), css=Markup(styles), document=Markup(text)
    )


def facts(document: Document) -> list[tuple[str, str]]:
    """What was studied, in pairs of a name and a value."""
    data, plan = document["data"], document["plan"]
    classes = [str(c) for c in plan["classes"]]
    return [
        ("data", f"{data['name']}{', standardised' if data['standardised'] else ''}"),
        ("examples", f"{data['examples']:,}"),
        ("weights a model", f"{data['size']:,} ({data['empty_columns']:,} of them see only zeros)"),
        ("models", f"{len(classes)}, for class {', '.join(classes)}"),
        ("masks", f"{plan['masks']:,} to each model in each cell"),
        ("initial std", figures(plan["std"])),
        ("seed", str(plan["seed"])),
    ]


def _context(document: Document) -> dict[str, Any]:
    return {
        "title": str(document["title"]),
        "version": str(document["ticketlab"]),
        "answer": document["answer"],
        "facts": facts(document),
        "ends": document["ends"],
        "legend": plot.legend(document),
        "binary_legend": plot.binary_legend(document),
        "undefined": undefined(document),
        "panels": [_panel(document, row) for row in document["ends"]],
        "prices": document["prices"],
        "command": str(document["command"]),
        "setup": [
            (name, [(key.replace("_", " "), words.short(value)) for key, value in document[name].items()])
            for name in ("data", "plan")
        ],
    }


def undefined(document: Document) -> list[str]:
    """Every kind with cells in which nothing is defined, with the reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in document["cells"]:
        if row["why"]:
            reasons.setdefault((str(row["kind"]), str(row["why"])), []).append(str(row["end"]))
    return [f"{kind} is undefined at {', '.join(dict.fromkeys(at))}: {why}" for (kind, why), at in reasons.items()]


def _panel(document: Document, row: Row) -> dict[str, Any]:
    at = str(row["name"])
    kept = sorted({int(found["kept"]) for found in reading.binary(document, at)})
    return {
        "name": at,
        "movement": row["movement"],
        "rescaled": plot.rescaled(document, at),
        "above": plot.above(document, at),
        "cells": [_line(document, at, cell) for cell in reading.cells(document, at)],
        "binary": plot.binary(document, at),
        "kept": [f"{k:,}" for k in kept],
        "binary_rows": _binary_rows(document, at, kept),
    }


def _line(document: Document, at: str, cell: Row) -> dict[str, str]:
    """One row of the table of all cells."""
    line = {"kind": str(cell["kind"]), "draws": f"{cell['draws']:,}", "why": str(cell["why"])}
    if cell["why"]:
        return line
    mean, error, exact = (reading.relative(document, at, cell[k]) for k in ("measured", "standard_error", "formula"))
    off = reading.deviation(cell)
    bounds = [f"{name} {figures(reading.relative(document, at, value))}" for name, value in cell["bounds"].items()]
    return line | {
        "measured": with_interval(mean, None if error is None else 1.96 * error),
        "formula": figures(exact),
        "absolute": figures(cell["formula"]),
        "deviation": "–" if off is None else f"{off:+.1f}".replace("-0.0", "0.0").replace("+0.0", "0.0"),
        "bounds": ", ".join(bounds),
    }


def _binary_rows(document: Document, at: str, kept: list[int]) -> list[tuple[str, list[str]]]:
    lines = []
    for name in reading.masks(document):
        found = {int(row["kept"]): row for row in reading.binary(document, at, name)}
        lines.append((name, [_spread(document, at, found[k]) if k in found else "" for k in kept]))
    shrunk = {int(r["draws"]): r["shrunk"] for r in reading.cells(document, at, "optimal") if r["shrunk"] is not None}
    if shrunk:
        lines.append((plot.SHRUNK, [figures(reading.relative(document, at, shrunk.get(k))) for k in kept]))
    return lines


def _spread(document: Document, at: str, row: Row) -> str:
    error, spread = (reading.relative(document, at, row[key]) for key in ("error", "standard_error"))
    return with_interval(error, None if spread is None else 1.96 * spread)
