"""``ticketlab list``."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


def run_list(options: argparse.Namespace) -> int:
    """Print a registry: a name and what it is on one line, its facts below."""
    entries = {
        "methods": _methods,
        "checks": _checks,
        "models": _models,
        "data": _data,
        "engines": _engines,
        "recipes": _recipes,
    }[options.what]()
    if options.json:
        print(json.dumps(entries, indent=1))
        return 0
    console = Console(highlight=False)
    shown = Table.grid(padding=(0, 2, 0, 0))
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    for entry in entries:
        shown.add_row(Text(entry["name"], "bold"), Text(entry["summary"]))
        facts = [f"{k}: {v}" for k, v in entry.items() if k not in ("name", "summary") and v not in ("", None)]
        if facts:
            shown.add_row("", Text(" · ".join(facts), "dim"))
    console.print(shown)
    if options.what in _NOTES:
        console.print(Padding(Text(_NOTES[options.what], style="italic"), (1, 0, 0, 0)))
    return 0


_NOTES = {
    "methods": (
        "Options are part of a method's name: grasp,temperature=1. Every method also takes budget=global|uniform|erk|"
        "smart|ratios:METHOD (the counts of another method in every layer, its options after slashes), select=top-k|"
        "inverted|random|sampled, rounds=N and mode=train|eval|keep (batch norm while scoring). rewind and epochs are "
        "epochs, or a share of the recipe's: 25%. "
        "module:function is a score of your own. "
        "Every method with a score has a twin that draws its mask in proportion to the score: NAME+sampled, with "
        "temperature=A (score^A), mix=SHARE (of uniform drawing), draw=every|last (round) and, for prune alone, "
        "replacement=true; an option that the method has already is called draw_OPTION there."
    ),
    "checks": "versus:METHOD compares with any other method. Without --checks the default ones run.",
    "models": "package:factory is a model of your own, called with num_classes and in_shape if it takes them.",
}


def _methods() -> list[dict[str, Any]]:
    from ticketlab.methods import METHODS, SAMPLED
    from ticketlab.spec import label

    return [
        {
            "name": m.name,
            "summary": m.summary,
            "needs": m.needs,
            "rounds": m.rounds if m.rounds > 1 else None,
            "last training starts from": m.retraining or None,
            "options": label("", dict(m.options)).lstrip(",").replace(",", ", "),
            "paper": m.paper,
        }
        for m in METHODS.values()
        if not m.name.endswith(SAMPLED)
    ]


def _checks() -> list[dict[str, Any]]:
    from ticketlab.checks import CHECKS, DEFAULT

    return [
        {
            "name": c.name,
            "summary": c.phrase,
            "belief": c.belief,
            "default": "yes" if c.name in DEFAULT else None,
            "paper": c.paper,
        }
        for c in CHECKS.values()
    ]


def _models() -> list[dict[str, Any]]:
    from ticketlab.models.registry import MODELS

    return [{"name": name, "summary": m.summary, "paper": m.paper} for name, m in MODELS.items()]


def _engines() -> list[dict[str, Any]]:
    from ticketlab.engine.names import ENGINES

    return [{"name": name, "summary": summary} for name, summary in ENGINES.items()]


def _recipes() -> list[dict[str, Any]]:
    from ticketlab.reproduce import table

    found = [table.load(name) for name in table.names()]
    return [
        {
            "name": t.name,
            "summary": t.title,
            "data": ", ".join(t.datasets),
            "networks": ", ".join(t.networks),
            "rows": ", ".join(row.name for row in t.rows),
            "paper": t.paper,
        }
        for t in found
    ]


def _data() -> list[dict[str, Any]]:
    from ticketlab.data.names import DATASETS
    from ticketlab.engine.recipe import default_for

    return [
        {
            "name": name,
            "summary": d.summary,
            "classes": d.classes,
            "default epochs": default_for(name).epochs,
            "source": d.source,
        }
        for name, d in DATASETS.items()
    ]
