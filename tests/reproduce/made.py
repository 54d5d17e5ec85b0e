"""A table and records made up for tests of what is said about them: no training, numbers to check by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ticketlab.data.names import DATASETS
from ticketlab.engine.recipe import Recipe
from ticketlab.experiment.factory import Factory
from ticketlab.reproduce.cells import Cell
from ticketlab.reproduce.published import Figure, Figures, Source
from ticketlab.reproduce.records import Record
from ticketlab.reproduce.table import Claim, Row, Table

RECIPE = Recipe(epochs=160)
NUMERICS = {"device": "cpu", "precision": "fp32", "threads_per_ticket": 1, "engine": "tuned", "torch": "2.4"}
DIGITS = DATASETS["digits"]
IDENTITY = Factory("conv", DIGITS.classes, DIGITS.shape).identity()


def table(**changes: Any) -> Table:
    """Two sparsities of snip, random tickets, learning-rate rewinding and the last one under a check."""
    values: dict[str, Any] = {
        "name": "made",
        "path": Path("made.toml"),
        "title": "A table",
        "paper": "Nobody, 2020",
        "about": "",
        "datasets": ("digits",),
        "sparsities": (0.9, 0.5),
        "seeds": 3,
        "per_class": 10,
        "networks": {"net": "conv"},
        "training": RECIPE,
        "rows": (
            Row("snip", {"net": "snip,mode=eval"}, None),
            Row("random", {"net": "smart-ratio"}, None),
            Row("rewound", {"net": "lr-rewinding"}, None),
            Row("moved", {"net": "lr-rewinding"}, "weight-shuffle"),
        ),
        "claims": (
            Claim("snip beats random", "snip", "random", "higher"),
            Claim("snip is random", "snip", "random", "equal"),
            Claim("moving costs", "rewound", "moved", "higher"),
        ),
        "quick": False,
        "note": "",
        "train": None,
        "test": None,
    }
    return Table(**{**values, **changes})


def record(row: str, sparsity: float | None, seed: int, accuracy: float | None, **changes: Any) -> Record:
    """A record as the table wants it."""
    found = next((r for r in table().rows if r.name == row), None)
    values: dict[str, Any] = {
        "table": "made",
        "protocol": "paper",
        "dataset": "digits",
        "network": "net",
        "row": row,
        "sparsity": sparsity,
        "seed": seed,
        "method": found.methods["net"] if found else "dense",
        "check": found.check if found else None,
        "accuracy": accuracy,
        "best": None if accuracy is None else min(100.0, accuracy + 0.5),
        "epochs_seen": 320 if row in ("rewound", "moved") else 160,
        "seconds": 30,
        "exact_sparsity": sparsity or 0,
        "control": {"passed": True, "summary": "moved"} if row == "moved" else None,
        "data": {"name": "digits", "train": 1437, "test": 10000, "fingerprint": "data"},
        "model": {"name": "conv", "identity": IDENTITY, "prunable": 1000},
        "recipe": RECIPE.to_json(),
        "numerics": NUMERICS,
        "provenance": {"commit": "0123456789abcdef+changes", "machine": "a machine"},
        "finished": "2025-01-31T12:00:00Z",
        "step": f"{row}{sparsity}{seed}",
        "per_class": 10,
    }
    return Record(**{**values, **changes})


def figures(**published: tuple[float, float | None]) -> Figures:
    """The paper's figures of rows at 90%."""
    found = {("made", "digits", "net", row, 0.9): Figure(*figure) for row, figure in published.items()}
    return Figures("made", Source(found), Source())


def runs(row: str, sparsity: float | None, *accuracies: float | None, **changes: Any) -> list[Record]:
    """A record for each seed."""
    return [record(row, sparsity, seed, accuracy, **changes) for seed, accuracy in enumerate(accuracies)]


def cell(row: str, sparsity: float | None = 0.9) -> Cell:
    """The cell."""
    return Cell("digits", "net", row, sparsity)
