"""What a mask that knows no data costs: by formula and as measured, at every end point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from ticketlab.errors import InputError
from ticketlab.sketch.cells import Cell
from ticketlab.sketch.ends import End
from ticketlab.sketch.expected import error_at, product_energy
from ticketlab.sketch.probabilities import probabilities

WITH, WITHOUT = "optimal", "magnitude"


@dataclass(frozen=True)
class Price:
    """What drawing by ``|w|`` instead of ``|x||w|`` multiplies the leading term of the error with, at an end point.

    ``formula`` and ``measured`` over all models, ``low`` and ``high`` the measurement's 95% interval; ``least`` and
    ``most`` the formula over single models. At the start the formula is ``1 + CV^2`` (T4). None where one of the two is
    not defined.
    """

    end: str
    formula: float | None
    least: float | None
    most: float | None
    measured: float | None
    low: float | None
    high: float | None


def prices(X: Tensor, w0: Tensor, reached: Sequence[tuple[End, Tensor]], cells: Iterable[Cell]) -> list[Price]:
    """The price at every end point; measured where ``cells`` have both kinds of masks.

    Args:
        X: (n, d). w0: (models, d). reached: end points with their weights (models, d).
    """
    known = list(cells)
    found = []
    for end, w in reached:
        energy = float(product_energy(X, w).sum())
        seen = _measured([c for c in known if c.end == end.name], energy)
        try:
            found.append(Price(end.name, *_exact(X, w0, w), *seen))
        except InputError:
            # A weight that matters has probability zero.
            found.append(Price(end.name, None, None, None, *seen))
    return found


def _exact(X: Tensor, w0: Tensor, w: Tensor) -> tuple[float, float, float]:
    """The ratio of the leading terms over all models, and its least and most over single ones."""
    energy = product_energy(X, w)
    best, other = (error_at(X, w, probabilities(X, w0, kind), 1).total + energy for kind in (WITH, WITHOUT))
    if bool((best <= 0).any()):
        raise InputError("asked for the price of leaving out the data, got a product that is zero in every coordinate.")
    single = other / best
    return float(other.sum() / best.sum()), float(single.min()), float(single.max())


def _measured(cells: list[Cell], energy: float) -> tuple[float | None, float | None, float | None]:
    """The ratio of the leading terms ``s error + |X w|^2``, averaged over the numbers of draws, with its interval."""
    leading = {}
    for kind in (WITH, WITHOUT):
        here = [
            (c.draws * c.measured, c.draws * c.standard_error)
            for c in cells
            if c.kind == kind and c.measured is not None and c.standard_error is not None
        ]
        if not here:
            return None, None, None
        mean = sum(value for value, _ in here) / len(here) + energy
        leading[kind] = mean, sum(error**2 for _, error in here) ** 0.5 / len(here)
    (best, best_se), (other, other_se) = leading[WITH], leading[WITHOUT]
    ratio = other / best
    half = 1.96 * ratio * ((best_se / best) ** 2 + (other_se / other) ** 2) ** 0.5
    return ratio, ratio - half, ratio + half
