"""Reading the document of a study of the theory: rows by name, errors relative to predicting zero, agreement."""

from __future__ import annotations

from typing import Any, NamedTuple

Row = dict[str, Any]
Document = dict[str, Any]

BOUNDS = ("ratio", "near-optimality", "movement", "mixture")


def names(document: Document, part: str) -> list[str]:
    """The names of the "kinds" or the "ends", in their order."""
    return [str(row["name"]) for row in document[part]]


def end(document: Document, name: str) -> Row:
    """The end point of this name."""
    return next(row for row in document["ends"] if row["name"] == name)


def farthest(document: Document) -> str:
    """The end point that stands for the end of training: the largest share of the way to the closed form."""
    way = [row for row in document["ends"] if row["distance"] is not None]
    return str(max(way, key=lambda row: float(row["distance"]))["name"])


def cells(document: Document, at: str, kind: str | None = None) -> list[Row]:
    """The cells of one end point, of one kind or all, in order."""
    return [row for row in document["cells"] if row["end"] == at and kind in (None, row["kind"])]


def binary(document: Document, at: str, mask: str | None = None) -> list[Row]:
    """The binary masks of one end point."""
    return [row for row in document["binary"] if row["end"] == at and mask in (None, row["mask"])]


def masks(document: Document) -> list[str]:
    """The names of the binary masks."""
    return list(dict.fromkeys(str(row["mask"]) for row in document["binary"]))


def relative(document: Document, at: str, value: float | None) -> float | None:
    """An error divided by that of predicting zero, ``|X w|^2``."""
    energy = float(end(document, at)["energy"])
    return None if value is None or energy <= 0 else float(value) / energy


def held(document: Document) -> list[tuple[str, str]]:
    """(bound, kind) for every bound and the kinds of masks that it holds for."""
    known = {(name, str(row["kind"])) for row in document["cells"] for name in row["bounds"]}
    return [(name, kind) for name in BOUNDS for kind in names(document, "kinds") if (name, kind) in known]


def bound_name(name: str, kind: str) -> str:
    """A bound in words: those of the optimal masks need no more than their name."""
    return name if kind == "optimal" else f"{name} ({kind})"


def bound(document: Document, at: str, name: str, kind: str) -> list[tuple[int, float]]:
    """(draws, relative bound) where a bound is finite."""
    found = [
        (int(row["draws"]), relative(document, at, row["bounds"][name]))
        for row in cells(document, at, kind)
        if name in row["bounds"]
    ]
    return [(draws, value) for draws, value in found if value is not None]


def crossing(document: Document, at: str, kind: str) -> float | None:
    """How many draws bring the exact error below that of predicting zero; formulas fall as 1 over the draws."""
    known = [row for row in cells(document, at, kind) if row["formula"] is not None]
    value = relative(document, at, known[0]["formula"]) if known else None
    return None if value is None else value * int(known[0]["draws"])


def bound_crossing(document: Document, at: str, name: str, kind: str) -> float | None:
    """How many draws bring a bound below 1."""
    found = bound(document, at, name, kind)
    return found[0][0] * found[0][1] if found else None


class Agreement(NamedTuple):
    """How many cells have their formula near what was measured, in exact standard errors.

    ``clear``: those whose standard error is below a tenth of the formula, ``clear3`` of them within 3. In the others
    the error rests on weights that the masks hardly ever drew, and a measurement hardly tests the formula.
    """

    cells: int
    within3: int
    within5: int
    clear: int
    clear3: int
    undefined: int


def agreement(document: Document) -> Agreement:
    """Counted over all cells."""
    known = [row for row in document["cells"] if row["measured"] is not None]
    within3, within5 = (sum(near(row, times) for row in known) for times in (3, 5))
    clear = [row for row in known if float(row["standard_error"]) <= 0.1 * float(row["formula"])]
    clear3 = sum(near(row, 3) for row in clear)
    return Agreement(len(known), within3, within5, len(clear), clear3, len(document["cells"]) - len(known))


def near(row: Row, times: float) -> bool:
    """Whether the formula lies within so many standard errors of the measurement."""
    gap = abs(float(row["measured"]) - float(row["formula"]))
    # A mask that is never wrong has no spread; then rounding is all that is left.
    return gap <= times * float(row["standard_error"]) + 1e-9 * abs(float(row["formula"]))


def deviation(row: Row) -> float | None:
    """Measured minus formula, in standard errors."""
    if row["measured"] is None or not row["standard_error"]:
        return None
    return (float(row["measured"]) - float(row["formula"])) / float(row["standard_error"])
