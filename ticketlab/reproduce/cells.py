"""The cells of a table: one network on one data set, dense or as one row's ticket at one sparsity."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ticketlab.errors import unknown
from ticketlab.reproduce.table import DENSE, Table


@dataclass(frozen=True)
class Cell:
    """A cell. The dense net is the row "dense" without a sparsity."""

    dataset: str
    network: str
    row: str
    sparsity: float | None

    @property
    def id(self) -> str:
        """ "cifar10/resnet32/0.98/random-ticket", or "cifar10/resnet32/dense"."""
        steps = [] if self.sparsity is None else [_spelled(self.sparsity)]
        return "/".join([self.dataset, self.network, *steps, self.row])


def cells(table: Table) -> list[Cell]:
    """All cells in order of priority: for each data set and network the dense net, then each sparsity's rows."""
    return [
        cell
        for dataset in table.datasets
        for network in table.networks
        for cell in (
            Cell(dataset, network, DENSE, None),
            *(Cell(dataset, network, row.name, sparsity) for sparsity in table.sparsities for row in table.rows),
        )
    ]


def select(table: Table, patterns: Sequence[str]) -> list[Cell]:
    """The cells that any of the patterns names, in order of priority; all of them without patterns.

    A pattern is the beginning of an id, up to a slash, and may hold ``*``, ``?`` and ``[...]`` as in file names:
    "cifar10/resnet32", "cifar10/*/0.9", "*/random-ticket". Sparsities count by value: 0.90 is 0.9.

    Raises:
        InputError: a pattern that names no cell.
    """
    every = cells(table)
    chosen: set[Cell] = set()
    for pattern in patterns:
        wanted = "/".join(_canonical(step) for step in pattern.rstrip("/").split("/"))
        matching = [cell for cell in every if _matches(cell.id, wanted)]
        if not matching:
            depth = wanted.count("/") + 1
            known = list(dict.fromkeys("/".join(cell.id.split("/")[:depth]) for cell in every))
            rows = [f"*/{row.name}" for row in table.rows]
            # A row's name alone, or after a star, is most likely meant for all of its cells.
            last = f"*/{wanted.rsplit('/')[-1]}"
            near = (depth == 1 or wanted == last) and difflib.get_close_matches(last, rows, n=1, cutoff=0.7)
            raise unknown("cell", pattern, rows if near else known)
        chosen.update(matching)
    return [cell for cell in every if cell in chosen] if patterns else every


def _matches(id_: str, pattern: str) -> bool:
    return fnmatchcase(id_, pattern) or fnmatchcase(id_, f"{pattern}/*")


def _canonical(step: str) -> str:
    """A sparsity as ids spell it; anything else as it is. No other part of an id begins with a digit or a point."""
    return _spelled(float(step)) if re.fullmatch(r"(\d+\.?\d*|\.\d+)(e-?\d+)?", step) else step


def _spelled(sparsity: float) -> str:
    # The short form only where it reads back as the same number: two cells must never share an id.
    return f"{sparsity:g}" if float(f"{sparsity:g}") == sparsity else repr(sparsity)
