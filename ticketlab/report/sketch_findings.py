"""What a study of the theory says, in sentences made from its numbers: the same in the terminal and on the page."""

from __future__ import annotations

from ticketlab.report import sketch_reading as reading
from ticketlab.report.sketch_reading import Document
from ticketlab.report.sketch_words import count, figures, share


def findings(document: Document) -> list[str]:
    """A few sentences; those whose numbers are missing are left out."""
    said = [_agreement(document), _threshold(document), _best(document), _price(document), _bounds(document)]
    return [line for line in [*said, _binary(document)] if line]


def _agreement(document: Document) -> str:
    found = reading.agreement(document)
    if not found.cells:
        return "No cell could be measured: no kind of mask is defined here."
    text = (
        f"Where the masks can tell (a standard error below a tenth of the formula), the formula lies within 3 standard "
        f"errors of the measured mean in {found.clear3} of {found.clear} cells."
    )
    if found.clear < found.cells:
        within3, others = found.within3 - found.clear3, found.cells - found.clear
        text += (
            f" In the other {others} the error rests on weights that are hardly ever drawn, and the intervals are as "
            f"long as the error itself: {within3} are within 3. Of all {found.cells} cells, {found.within5} are "
            "within 5."
        )
    return text + (f" {found.undefined} cells are undefined." if found.undefined else "")


def _threshold(document: Document) -> str:
    """Where the rescaled sketch begins to be worth anything."""
    size, last = int(document["data"]["size"]), reading.farthest(document)
    first = reading.names(document, "ends")[0]
    descent = [str(row["name"]) for row in document["ends"] if row["distance"] is None]
    told = []
    for at in dict.fromkeys((first, last, *descent)):
        draws = reading.crossing(document, at, "optimal")
        if draws is not None:
            place = "at the start" if at == first else f"at the end ({_place(document, at)})"
            told.append(f"more than {count(draws)} draws {place}, {share(draws, size)} of the {size:,} weights")
    if not told:
        return ""
    return f"The rescaled optimal mask beats predicting zero (relative error 1) only with {'; with '.join(told)}."


def _place(document: Document, at: str) -> str:
    moved = figures(float(reading.end(document, at)["movement"]), 2)
    return f"{at}, moved by {moved} initial standard deviations"


def _best(document: Document) -> str:
    """Which kind is best at the end, and what knowing the start's weights is worth there."""
    last = reading.farthest(document)
    found = {}
    for kind in reading.names(document, "kinds"):
        draws = reading.crossing(document, last, kind)
        if draws is not None:
            found[kind] = draws
    if len(found) < 2 or last == reading.names(document, "ends")[0]:
        return ""
    best = min(found, key=lambda kind: found[kind])
    text = f"At the end point ({last}) the masks drawn by '{best}' have the least error"
    if "optimal" in found and best != "optimal":
        text += f", {figures(found['optimal'] / found[best], 2)} times less than those that were optimal at the start"
    return text + "."


def _price(document: Document) -> str:
    first, last = document["prices"][0], reading.farthest(document)
    if first["formula"] is None:
        return ""
    text = (
        f"Without data (drawn by |w| instead of |x||w|) the leading term of the error at the start is "
        f"{figures(first['formula'])} times as large: 1 + CV² of the column lengths, "
        f"{figures(first['least'])} to {figures(first['most'])} over the models"
    )
    if first["measured"] is not None:
        text += f"; measured {figures(first['measured'])} ({figures(first['low'])} to {figures(first['high'])})"
    end = next(row for row in document["prices"] if row["end"] == last)
    return text + (
        f". At the end point ({last}) the formula says {figures(end['formula'])}."
        if end != first and end["formula"] is not None
        else "."
    )


def _bounds(document: Document) -> str:
    """How many draws each bound needs to be below 1 at the end."""
    last, size = reading.farthest(document), int(document["data"]["size"])
    needed = [(pair, reading.bound_crossing(document, last, *pair)) for pair in reading.held(document)]
    told = [f"{reading.bound_name(*pair)} {share(draws, size)}" for pair, draws in needed if draws is not None]
    if not told:
        return ""
    return (
        f"The bounds at the end point ({last}) are vacuous, above 1, up to this many draws, as a share of the number "
        f"of weights: {', '.join(told)}."
    )


def _binary(document: Document) -> str:
    """The masks of practice beside the sketch of theory, near 10% of the weights."""
    last, size = reading.farthest(document), int(document["data"]["size"])
    kept = sorted({int(row["kept"]) for row in document["binary"]}, key=lambda k: abs(k / size - 0.1))
    if not kept:
        return ""
    told = [
        f"{row['mask']} {figures(reading.relative(document, last, row['error']), 2)}"
        for row in reading.binary(document, last)
        if row["kept"] == kept[0]
    ]
    sketch = [r for r in reading.cells(document, last, "optimal") if r["draws"] == kept[0] and r["formula"] is not None]
    for row in sketch:
        whole, shrunk = (figures(reading.relative(document, last, row[key]), 2) for key in ("formula", "shrunk"))
        told.append(f"the rescaled optimal mask {whole}, and {shrunk} once shrunk by the best factor")
    return (
        f"Binary masks, not rescaled, are another thing: with {kept[0]:,} weights kept ({share(kept[0], size)}), "
        f"at the end point ({last}), the relative errors are: {', '.join(told)}."
    )
