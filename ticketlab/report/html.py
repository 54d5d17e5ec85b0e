"""The results as one HTML file that needs nothing else: no request leaves it, no script is required."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from ticketlab.packing import write_atomically
from ticketlab.report import accuracy, forest, notes, ratios, strip, words
from ticketlab.report.reading import (
    Results,
    Row,
    checks,
    in_order,
    methods,
    number,
    part,
    phrase,
    retrainings,
    rows,
    sparsities,
    verdicts,
    why_not,
)

HERE = Path(__file__).parent


def write(results: Results, path: str | Path) -> None:
    """Write the page to `path`.

    Raises:
        InputError: it cannot be written there.
    """
    write_atomically(Path(path), page(results).encode())


def page(results: Results) -> str:
    """The whole page as text; the same results always give the same text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(points=words.points, percent=words.percent, short=words.short, p=words.p_value)
    environment.filters["safe_svg"] = Markup
    environment.globals["w"] = words
    return environment.get_template("page.html").render(
        **_context(results),
        css=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        js=Markup((HERE / "page.js").read_text(encoding="utf-8")),
        document=Markup(_document(results)),
    )


def _context(results: Results) -> dict[str, Any]:
    shown = sparsities(results)
    found = rows(results, "verdicts")
    return {
        "title": str(results.get("title") or "ticketlab results"),
        "answer": notes.answer(results).splitlines(),
        "facts": notes.headline(results),
        "warnings": notes.warnings(results),
        "foot": notes.foot(results),
        "margin": notes.margin(results),
        "checks": [(name, phrase(results, name), _belief(results, name)) for name in checks(results)],
        "matrices": [_matrix(results, s) for s in shown if in_order(results, s)],
        "forests": [_forest(results, s) for s in shown if in_order(results, s)],
        "summary": rows(results, "summary_rows"),
        "panels": _panels(results, shown),
        "arms": accuracy.legend(results),
        "dense_values": [words.points(value) for value in part(results, "dense").get("values") or []],
        "layers": [_layer(results, s) for s in shown if ratios.by_sparsity(results, s)],
        "layer_legend": ratios.legend(results),
        "controls": sorted(rows(results, "controls"), key=lambda row: row.get("passed") is not False),
        "sure": [row for s in shown for row in in_order(results, s)],
        "undecided": sum(row.get("verdict") == "undecided" for row in found),
        "runs": rows(results, "runs"),
        "not_applicable": rows(results, "not_applicable"),
        "diagnosis": rows(results, "diagnosis"),
        "methods": rows(results, "methods"),
        "retrainings": retrainings(results),
        "command": str(results.get("command") or ""),
        "setup": _setup(results),
        "total_time": notes.total_time(results),
        "created": words.short(results.get("created")),
        "version": words.short(results.get("ticketlab")),
    }


def _belief(results: Results, check: str) -> str:
    told = {str(row.get("name")): row.get("belief") for row in rows(results, "checks")}
    return str(told.get(check) or "")


def _matrix(results: Results, sparsity: float) -> dict[str, Any]:
    table, missing = verdicts(results), why_not(results)
    lines = []
    for method in methods(results):
        cells = []
        for check in checks(results):
            row = table.get((method, check, sparsity))
            cells.append({"check": check, "row": row, "why": missing.get((method, check), "")})
        lines.append({"method": method, "cells": cells})
    return {"sparsity": sparsity, "checks": checks(results), "lines": lines}


def _forest(results: Results, sparsity: float) -> dict[str, Any]:
    found = in_order(results, sparsity)
    axis = forest.axis_of(found)
    groups: dict[str, list[tuple[Row, str]]] = {}
    for row in found:
        groups.setdefault(str(row.get("method")), []).append((row, forest.row_plot(row, axis)))
    return {"sparsity": sparsity, "groups": groups, "axis": forest.axis_plot(axis)}


def _panels(results: Results, shown: list[float]) -> list[tuple[str, str]]:
    if len(shown) != 1:
        return accuracy.panels(results, shown)
    return [(method, strip.panel(results, method)) for method, _ in accuracy.panels(results, shown)]


def _layer(results: Results, sparsity: float) -> dict[str, Any]:
    found = ratios.by_sparsity(results, sparsity)
    shares = [ratios.shares(row) for row in found]
    names = [str(name) for name in found[0]["names"]]
    lines = []
    for at, name in enumerate(names):
        size = number((found[0].get("sizes") or [None])[at]) if at < len(found[0].get("sizes") or []) else None
        kept = [words.percent(share[at], 2) if at < len(share) else "" for share in shares]
        lines.append((name, "" if size is None else f"{size:,.0f}", kept))
    labels = [str(row.get("label")) for row in found]
    return {"sparsity": sparsity, "figure": ratios.plot(results, sparsity), "labels": labels, "lines": lines}


def _setup(results: Results) -> list[tuple[str, list[tuple[str, str]]]]:
    """The groups of plain settings; nested values are left to the full document."""
    groups = []
    for name in ("data", "model", "recipe", "scoring", "numerics", "statistics"):
        pairs = part(results, name).items()
        told = [(str(k).replace("_", " "), words.short(v)) for k, v in pairs if not isinstance(v, dict)]
        if told:
            groups.append((name, told))
    return groups


def _document(results: Results) -> str:
    """The whole document as escaped JSON text, one line per row."""
    lines = []
    for key, value in results.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            inner = ",\n  ".join(json.dumps(item, ensure_ascii=False, default=str) for item in value)
            lines.append(f"{json.dumps(key)}: [\n  {inner}\n ]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False, default=str)}")
    return escape("{\n " + ",\n ".join(lines) + "\n}", quote=False)
