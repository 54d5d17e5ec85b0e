"""``ticketlab list``."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


def run_list(options: argparse.Namespace) -> int:
    """Print a registry as a table."""
    rows = {"methods": _methods, "checks": _checks, "models": _models, "data": _data}[options.what]()
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    console = Console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(rows[0]):
        table.add_column(column, overflow="fold", no_wrap=index == 0, style="bold" if index == 0 else "")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)
    return 0


def _methods() -> list[dict[str, Any]]:
    from ticketlab.methods import METHODS
    from ticketlab.spec import label

    return [
        {
            "method": m.name,
            "what it does": m.summary,
            "needs": m.needs,
            "options": label("", dict(m.options)).lstrip(","),
            "paper": m.paper,
        }
        for m in METHODS.values()
    ]


def _checks() -> list[dict[str, Any]]:
    from ticketlab.checks import CHECKS, DEFAULT

    return [
        {
            "check": c.name,
            "what it does": c.phrase,
            "the belief it tests": c.belief,
            "default": "yes" if c.name in DEFAULT else "",
            "paper": c.paper,
        }
        for c in CHECKS.values()
    ]


def _models() -> list[dict[str, Any]]:
    from ticketlab.models.registry import MODELS

    return [{"model": name, "what it is": m.summary, "paper": m.paper} for name, m in MODELS.items()]


def _data() -> list[dict[str, Any]]:
    from ticketlab.data.names import DATASETS

    return [
        {"data": name, "what it is": d.summary, "classes": d.classes, "shape": "x".join(map(str, d.shape))}
        for name, d in DATASETS.items()
    ]
