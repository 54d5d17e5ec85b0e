"""How much of each layer every method keeps: one row per layer, one marker per method, on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ticketlab.report import svg, words
from ticketlab.report.reading import Results, Row, methods, number, rows

WIDTH, RIGHT, TOP, BOTTOM = 480.0, 22.0, 8.0, 36.0
GAP = 48.0  # between the layer names and the axis: the place of empty layers


def by_sparsity(results: Results, sparsity: float) -> list[Row]:
    """The layer rows of one sparsity, in the order of the methods."""
    names = [*methods(results)]
    found = [row for row in rows(results, "layers") if number(row.get("sparsity")) == sparsity and row.get("names")]
    order = {name: at for at, name in enumerate(names)}
    return sorted(found, key=lambda row: order.get(str(row.get("label")), len(order)))


def shares(row: Row) -> list[float | None]:
    """The kept share of each layer, between 0 and 1."""
    pairs = zip(row.get("kept") or [], row.get("sizes") or [], strict=False)
    return [None if number(k) is None or not number(s) else float(k) / float(s) for k, s in pairs]


def legend(results: Results) -> list[tuple[str, str]]:
    """(marker, method) in the colours of the figure."""
    labels = dict.fromkeys(str(row.get("label")) for row in rows(results, "layers"))
    return [(svg.swatch(_index(results, label)), label) for label in labels]


def _index(results: Results, label: str) -> int:
    """The series number of a label: the methods first, then whatever they were compared with."""
    others = [str(row.get("label")) for row in rows(results, "layers")]
    return list(dict.fromkeys([*methods(results), *others])).index(label)


def plot(results: Results, sparsity: float) -> str:
    """The figure of one sparsity; empty layers stand at the left edge, apart from the axis."""
    found = by_sparsity(results, sparsity)
    if not found:
        return ""
    names = [str(name) for name in found[0]["names"]]
    step = 24.0 if len(names) <= 12 else 15.0
    left = min(150.0, 18 + 5.9 * min(22, max(map(len, names))))
    known = [share for row in found for share in shares(row) if share]
    lowest = min([*known, 1 - sparsity]) if known or sparsity < 1 else 0.01
    across = svg.Scale(math.log10(lowest) - 0.08, 0.0, left + GAP, WIDTH - RIGHT)
    height = TOP + step * len(names) + BOTTOM
    empty = any(share == 0 for row in found for share in shares(row))
    parts = [_axes(across, names, step, left, sparsity, empty)]
    for row in found:
        parts.append(_series(row, across, step, left, _index(results, str(row.get("label")))))
    label = f"Share of weights kept in each layer at sparsity {words.percent(sparsity)}; the table has the numbers."
    return svg.figure(WIDTH, height, label, *parts, class_="layers")


def _series(row: Row, across: svg.Scale, step: float, left: float, index: int) -> str:
    colour, shape = svg.style(index)
    spots: list[tuple[float, float]] = []
    marks = []
    for at, share in enumerate(shares(row)):
        y = TOP + step * (at + 0.5)
        if share is None:
            continue
        x = across(math.log10(share)) if share > 0 else left + 14
        spots.append((x, y))
        marks.append(svg.marker("cross" if share == 0 else shape, x, y, 3.4, class_="gone" if share == 0 else None))
    return svg.tag("g", svg.line(spots, class_="thread"), *marks, class_=f"dots {colour}")


def _round_shares(across: svg.Scale) -> list[float]:
    """1, 2, 5 of every power of ten over a short axis; the powers alone over a long one."""
    steps = (1, 2, 5) if across.low > -2.2 else (1, 3) if across.low > -3.2 else (1,)
    powers = range(math.floor(across.low), 1)
    return [m * 10.0**p for p in powers for m in steps if across.low <= math.log10(m * 10.0**p) <= 1e-9]


def _axes(across: svg.Scale, names: Sequence[str], step: float, left: float, sparsity: float, empty: bool) -> str:
    floor = TOP + step * len(names)
    parts = []
    for at, name in enumerate(names):
        y = TOP + step * (at + 0.5)
        cut = name if len(name) <= 22 else name[:10] + "…" + name[-11:]
        parts.append(svg.tag("g", svg.title(name), svg.text(left - 8, y + 3.5, cut, text_anchor="end")))
        parts.append(svg.line([(left, y), (WIDTH - RIGHT, y)], class_="grid"))
    for share in _round_shares(across):
        x = across(math.log10(share))
        parts.append(svg.line([(x, TOP), (x, floor)], class_="grid"))
        parts.append(svg.text(x, floor + 14, words.percent(share), text_anchor="middle"))
    if empty:
        parts.append(svg.text(left + 14, floor + 14, "none", text_anchor="middle"))
    overall = across(math.log10(max(1 - sparsity, 1e-9)))
    parts.append(svg.line([(overall, TOP), (overall, floor)], class_="dense"))
    told = "kept share of the layer"
    parts.append(svg.text((left + WIDTH) / 2, floor + 30, told, text_anchor="middle", class_="note"))
    return "".join(parts)
