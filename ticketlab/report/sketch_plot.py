"""Errors over the number of draws: the figures of a study of the theory, one for each end point."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ticketlab.report import sketch_reading as reading
from ticketlab.report import svg
from ticketlab.report.sketch_reading import Document, Row
from ticketlab.report.sketch_words import figures

WIDTH, HEIGHT = 480.0, 360.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 14.0, 50.0
# Powers of ten that a bound may lie above all errors and still be drawn.
_ABOVE = 1.2


def rescaled(document: Document, at: str) -> str:
    """Measured errors with intervals as points, formulas as lines, bounds dashed; both axes logarithmic."""
    across, up = _across(document), _up(document, at)
    parts = [_axes(document, across, up, _powers(up), linear=False)]
    kinds = reading.names(document, "kinds")
    # A series is shifted as a whole: points that would hide each other stand side by side, on their own lines.
    shifted = {
        kind: svg.Scale(across.low, across.high, across.start + offset, across.end + offset)
        for index, kind in enumerate(kinds)
        for offset in [(index - (len(kinds) - 1) / 2) * 2.2]
    }
    parts += [_bound(document, at, name, kind, shifted[kind], up) for name, kind in reading.held(document)]
    parts += [_kind(document, at, kind, index, shifted[kind], up) for index, kind in enumerate(kinds)]
    told = f"{at}: relative error of rescaled masks over the number of draws. The numbers are in the table below."
    return svg.figure(WIDTH, HEIGHT, told, *parts, class_="panel plot")


def binary(document: Document, at: str) -> str:
    """The same for masks of ones and zeros, and for the shrunk sketch; the vertical axis is linear."""
    found = [reading.relative(document, at, row["error"]) or 0.0 for row in reading.binary(document, at)]
    across, up = _across(document), svg.Scale(0.0, max([1.25, *[1.1 * value for value in found]]), HEIGHT - BOTTOM, TOP)
    parts = [_axes(document, across, up, up.ticks(5), linear=True)]
    for index, name in enumerate(reading.masks(document)):
        rows = [(int(row["kept"]), row["error"], row["standard_error"]) for row in reading.binary(document, at, name)]
        parts.append(_plain(document, at, index, rows, name, across, up))
    rows = [(int(row["draws"]), row["shrunk"], 0.0) for row in reading.cells(document, at, "optimal")]
    if rows:
        parts.append(_plain(document, at, len(reading.masks(document)), rows, SHRUNK, across, up))
    told = f"{at}: relative error of binary masks over the number of weights kept. The numbers are in the table below."
    return svg.figure(WIDTH, HEIGHT, told, *parts, class_="panel plot")


SHRUNK = "optimal sketch, best shrunk (formula)"


def legend(document: Document) -> list[tuple[str, str]]:
    """(marker, kind) of the rescaled masks, then (dashes, bound)."""
    series = [(svg.swatch(index), kind) for index, kind in enumerate(reading.names(document, "kinds"))]
    held = dict.fromkeys(name for name, _ in reading.held(document))
    return series + [(_dashes(name), f"bound: {name}") for name in held]


def binary_legend(document: Document) -> list[tuple[str, str]]:
    """(marker, mask) of the binary masks and the shrunk sketch."""
    names = [*reading.masks(document), *([SHRUNK] if "optimal" in reading.names(document, "kinds") else [])]
    return [(svg.swatch(index), name) for index, name in enumerate(names)]


def above(document: Document, at: str) -> list[str]:
    """The bounds that lie above the figure, with their value at the most draws."""
    up, told = _up(document, at), []
    for name, kind in reading.held(document):
        last = max(reading.bound(document, at, name, kind), default=None)
        if last and last[1] > 0 and math.log10(last[1]) > up.high:
            told.append(f"{reading.bound_name(name, kind)} ({figures(last[1])} with {last[0]:,} draws)")
    return told


def _dashes(name: str) -> str:
    line = svg.line([(0, 6), (26, 6)], class_=f"bound b-{name}")
    return svg.tag("svg", line, viewBox="0 0 26 12", class_="dashes", aria_hidden="true")


def _across(document: Document) -> svg.Scale:
    draws = [int(s) for s in document["plan"]["draws"]]
    room = 0.06 * max(math.log10(max(draws) / min(draws)), 0.3)
    return svg.Scale(math.log10(min(draws)) - room, math.log10(max(draws)) + room, LEFT + 8, WIDTH - RIGHT - 8)


def _up(document: Document, at: str) -> svg.Scale:
    """Room for all errors and for the line of 1; for bounds only where they are near."""
    found = [reading.relative(document, at, row[key]) for row in reading.cells(document, at) for key in _KEYS]
    known = [math.log10(value) for value in found if value is not None and value > 0]
    low, high = min([*known, 0.0]) - 0.25, max([*known, 0.0]) + 0.25
    bounds = [
        math.log10(value)
        for name, kind in reading.held(document)
        for _, value in reading.bound(document, at, name, kind)
        if value > 0
    ]
    return svg.Scale(low, max([high, *[b + 0.1 for b in bounds if b <= high + _ABOVE]]), HEIGHT - BOTTOM, TOP)


_KEYS = ("measured", "formula")


def _powers(up: svg.Scale) -> list[float]:
    return [float(power) for power in range(math.ceil(up.low), math.floor(up.high) + 1)]


def _axes(document: Document, across: svg.Scale, up: svg.Scale, ticks: Sequence[float], *, linear: bool) -> str:
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for tick in ticks:
        y = up(tick)
        parts.append(svg.line([(LEFT, y), (right, y)], class_="grid"))
        parts.append(svg.text(LEFT - 6, y + 3.5, f"{tick:g}" if linear else _power(tick), text_anchor="end"))
    size, before = int(document["data"]["size"]), -math.inf
    for s in document["plan"]["draws"]:
        x = across(math.log10(s))
        parts.append(svg.line([(x, TOP), (x, floor)], class_="grid"))
        # Numbers that would touch their neighbour are left to the table.
        if x - before >= 34:
            parts.append(svg.text(x, floor + 14, f"{s:,}", text_anchor="middle"))
            parts.append(svg.text(x, floor + 27, f"{figures(100 * s / size, 2)}%", text_anchor="middle", class_="note"))
            before = x
    one = up(1.0 if linear else 0.0)
    parts.append(svg.line([(LEFT, one), (right, one)], class_="one"))
    where = {"x": right, "y": one - 5, "text_anchor": "end"} if linear else {"x": LEFT + 4, "y": one + 12}
    parts.append(svg.text(content="1: as bad as predicting zero", class_="note", **where))
    told = "weights kept, and as a share of all" if linear else "draws, and as a share of the weights"
    parts.append(svg.text((LEFT + right) / 2, HEIGHT - 6, told, text_anchor="middle", class_="note"))
    return "".join(parts)


def _power(tick: float) -> str:
    return f"{10.0**tick:g}" if -3 <= tick <= 3 else f"1e{tick:g}"


def _bound(document: Document, at: str, name: str, kind: str, across: svg.Scale, up: svg.Scale) -> str:
    """A dashed line, cut where it leaves the figure."""
    found = [(math.log10(s), math.log10(value)) for s, value in reading.bound(document, at, name, kind) if value > 0]
    shown = _inside(found, across, up)
    told = svg.title(f"bound: {reading.bound_name(name, kind)}")
    return svg.tag("g", told, svg.line(shown, class_=f"bound b-{name}")) if len(shown) > 1 else ""


def _inside(points: list[tuple[float, float]], across: svg.Scale, up: svg.Scale) -> list[tuple[float, float]]:
    """The part of a falling line that lies below the figure's top."""
    kept: list[tuple[float, float]] = []
    for at, (x, y) in enumerate(points):
        if y <= up.high:
            if not kept and at:
                (x0, y0) = points[at - 1]
                kept.append((across(x0 + (x - x0) * (y0 - up.high) / (y0 - y)), up(up.high)))
            kept.append((across(x), up(y)))
    return kept


def _kind(document: Document, at: str, kind: str, index: int, across: svg.Scale, up: svg.Scale) -> str:
    colour, shape = svg.style(index)
    formula, marks = [], []
    for row in reading.cells(document, at, kind):
        x = across(math.log10(int(row["draws"])))
        exact = reading.relative(document, at, row["formula"])
        if exact is not None and exact > 0:
            formula.append((x, up(math.log10(exact))))
        marks.append(_point(document, at, row, x, shape, up))
    return svg.tag("g", svg.line(formula, class_="formula"), *marks, class_=f"dots {colour}") if formula else ""


def _point(document: Document, at: str, row: Row, x: float, shape: str, up: svg.Scale) -> str:
    mean = reading.relative(document, at, row["measured"])
    error = reading.relative(document, at, row["standard_error"])
    if mean is None or error is None or mean <= 0:
        return ""
    low = max(mean - 1.96 * error, 10**up.low)
    ends = [(x, up(math.log10(low))), (x, up(min(math.log10(mean + 1.96 * error), up.high)))]
    told = f"{row['kind']}, {row['draws']:,} draws: measured {figures(mean)} ± {figures(1.96 * error, 2)}"
    told += f", formula {figures(reading.relative(document, at, row['formula']))}"
    mark = svg.marker(shape, x, up(math.log10(mean)), 3.0)
    return svg.tag("g", svg.title(told), svg.line(ends, class_="interval"), mark)


def _plain(
    document: Document,
    at: str,
    index: int,
    rows: Sequence[tuple[int, float | None, float]],
    name: str,
    across: svg.Scale,
    up: svg.Scale,
) -> str:
    """One series of the linear figure."""
    colour, shape = svg.style(index)
    spots, marks = [], []
    for s, error, spread in rows:
        value = reading.relative(document, at, error)
        if value is None:
            continue
        half = 1.96 * (reading.relative(document, at, spread) or 0.0)
        x, y = across(math.log10(s)), up(value)
        told = f"{name}, {s:,} kept: {figures(value)}" + (f" ± {figures(half, 2)}" if half else "")
        spots.append((x, y))
        bar = svg.line([(x, up(max(value - half, up.low))), (x, up(min(value + half, up.high)))], class_="interval")
        marks.append(svg.tag("g", svg.title(told), bar if half else "", svg.marker(shape, x, y, 3.0)))
    return svg.tag("g", svg.line(spots, class_="formula"), *marks, class_=f"dots {colour}") if spots else ""
