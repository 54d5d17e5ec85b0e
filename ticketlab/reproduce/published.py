"""What others measured for a table's cells: the paper, and an independent reproduction of it."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ticketlab.errors import InputError
from ticketlab.reproduce.cells import Cell
from ticketlab.reproduce.schema import Place
from ticketlab.reproduce.table import DENSE, Table

COLUMNS = ("table", "dataset", "network", "method", "sparsity", "accuracy_percent", "std_percent")
_Key = tuple[str, str, str, str, float]


@dataclass(frozen=True)
class Figure:
    """Test accuracy in percent; ``sd`` is None where a single number was given."""

    mean: float
    sd: float | None


@dataclass(frozen=True)
class Source:
    """One file of figures, and the comment at its head: where they are from, and how they differ."""

    figures: Mapping[_Key, Figure] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Figures:
    """The figures beside a table's file. They belong to the paper's protocol, never to the quick form.

    Attributes:
        table: the table's name in the files: that of its own file.
    """

    table: str
    paper: Source
    reproduction: Source

    @classmethod
    def load(cls, table: Table) -> Figures:
        """Read ``published.csv`` and ``reproduction.csv`` beside the table's file; what is not there has no figures.

        Raises:
            InputError: a damaged file, with the line.
        """
        sources = (read(table.path.parent / name) for name in ("published.csv", "reproduction.csv"))
        return cls(table.path.stem, *sources)

    def published(self, cell: Cell) -> Figure | None:
        """The paper's figure for a cell, or None."""
        return self.paper.figures.get(self._key(cell))

    def reproduced(self, cell: Cell) -> Figure | None:
        """The independent reproduction's figure for a cell, or None."""
        return self.reproduction.figures.get(self._key(cell))

    def _key(self, cell: Cell) -> _Key:
        # The dense nets of a paper's tables are the same ones, and are written down once.
        table = DENSE if cell.sparsity is None else self.table
        return (table, cell.dataset, cell.network, cell.row, cell.sparsity or 0.0)


def read(path: Path) -> Source:
    """The figures in a file; none if there is no file.

    Raises:
        InputError: a damaged file, with the line.
    """
    if not path.is_file():
        return Source()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"asked for the figures in {path}, got a file that cannot be read: {error}.") from error
    figures: dict[_Key, Figure] = {}
    header = False
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        place = Place(str(path), f"line {number}")
        try:
            values = next(csv.reader([line], strict=True))
        except csv.Error as error:
            raise place.error(f"asked for values between commas, got {error}.") from error
        if not header:
            if tuple(values) != COLUMNS:
                raise place.error(f"asked for the columns {','.join(COLUMNS)}, got {line[:80]!r}.")
            header = True
            continue
        if len(values) != len(COLUMNS):
            raise place.error(f"asked for {len(COLUMNS)} values, got {len(values)}.")
        sparsity, mean = (_number(values[i], COLUMNS[i], most, place) for i, most in ((4, 1.0), (5, 100.0)))
        sd = _number(values[6], COLUMNS[6], math.inf, place) if values[6].strip() else None
        key = (values[0], values[1], values[2], values[3], sparsity)
        if key in figures:
            raise place.error("asked for each cell once, got one for the second time.")
        figures[key] = Figure(mean, sd)
    return Source(figures, "\n".join(line.lstrip("# ") for line in lines if line.startswith("#")).strip())


def _number(text: str, column: str, most: float, place: Place) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 <= value <= most and math.isfinite(value)):
        what = f"0 to {most:g}" if math.isfinite(most) else "0 or more"
        raise place.error(f"asked for {column} as a number of {what}, got {text!r}.")
    return value
