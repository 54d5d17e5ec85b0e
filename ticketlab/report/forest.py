"""The forest plot: one row per comparison, its drop with both intervals, over the band of the margin.

Positions are percentages, so that the plot follows the width of its column and text keeps its size.
"""

from __future__ import annotations

from ticketlab.report import svg, words
from ticketlab.report.reading import Row, number


def axis_of(found: list[Row]) -> svg.Scale:
    """One axis for many rows, in percent of the width. A few very wide rows do not squash the others: they are cut."""
    margin = max([number(row.get("margin")) or 0.0 for row in found], default=0.0)
    spans = [_span(row) for row in found]
    low = _limit([-span[0] for span in spans if span], 1.6 * margin)
    high = _limit([span[1] for span in spans if span], 1.6 * margin)
    return svg.Scale(-low, high, 2.0, 98.0)


def _limit(ends: list[float], least: float) -> float:
    """The end of the axis on one side: the largest end that does not lie far beyond the bulk of the rows."""
    ends = sorted(end for end in ends if end > 0)
    bulk = ends[int(0.75 * (len(ends) - 1))] if ends else 0.0
    near = [end for end in ends if end <= 3 * max(bulk, least)]
    return max(1.08 * max(near, default=0.0), least) or 1.0


def _span(row: Row) -> tuple[float, float] | None:
    ends = [number(row.get(key)) for key in ("drop", "ci_low", "ci_high", "eq_low", "eq_high")]
    known = [end for end in ends if end is not None]
    return (min(known), max(known)) if known else None


def row_plot(row: Row, axis: svg.Scale) -> str:
    """The picture of one comparison."""
    parts = [_band(row, axis)]
    for low, high, kind in (("eq_low", "eq_high", "eq"), ("ci_low", "ci_high", "ci")):
        ends = number(row.get(low)), number(row.get(high))
        if ends[0] is not None and ends[1] is not None:
            parts.append(_interval(ends[0], ends[1], axis, kind))
    drop = number(row.get("drop"))
    if drop is not None and axis.low <= drop <= axis.high:
        parts.append(svg.tag("circle", cx=_at(axis, drop), cy="50%", r=4.5, class_="point"))
    elif drop is not None:
        parts.append(_arrow(drop > axis.high, "far"))
    told = f"drop {words.points(drop)}, {words.interval(row.get('ci_low'), row.get('ci_high')) or 'no interval'}"
    kind = f"row-plot v-{words.verdict_key(row)}"
    return svg.tag("svg", *parts, class_=kind, role="img", aria_label=told if drop is not None else "no drop")


def _band(row: Row, axis: svg.Scale) -> str:
    margin = number(row.get("margin"))
    zero = svg.tag("line", x1=_at(axis, 0), x2=_at(axis, 0), y1="0", y2="100%", class_="zero")
    if not margin:
        return zero
    width = axis(min(margin, axis.high)) - axis(max(-margin, axis.low))
    left = _at(axis, max(-margin, axis.low))
    return svg.tag("rect", x=left, y="0", width=f"{width:.2f}%", height="100%", class_="band") + zero


def _interval(low: float, high: float, axis: svg.Scale, kind: str) -> str:
    if high < axis.low or low > axis.high:
        return ""
    y = "50%" if kind == "ci" else "78%"
    ends = [_at(axis, max(low, axis.low)), _at(axis, min(high, axis.high))]
    bar = svg.tag("line", x1=ends[0], x2=ends[1], y1=y, y2=y, class_=kind)
    cut = [_arrow(False, kind) if low < axis.low else "", _arrow(True, kind) if high > axis.high else ""]
    return bar + (cut[0] + cut[1] if kind == "ci" else "")


def _arrow(right: bool, kind: str) -> str:
    """The sign that something lies beyond the axis."""
    path = "M-7 -4.5L0 0L-7 4.5" if right else "M7 -4.5L0 0L7 4.5"
    shape = svg.tag("path", svg.title("beyond the axis"), d=path, class_="beyond" if kind == "ci" else "beyond far")
    return svg.tag("svg", shape, x="99%" if right else "1%", y="50%", overflow="visible")


def _at(axis: svg.Scale, value: float) -> str:
    return f"{axis(value):.2f}%"


def axis_plot(axis: svg.Scale) -> str:
    """The numbers below the rows."""
    marks = [
        svg.tag("line", x1=_at(axis, tick), x2=_at(axis, tick), y1="0", y2="5", class_="tick")
        + svg.text(_at(axis, tick), "19", f"{tick:g}", text_anchor="middle")
        for tick in axis.ticks(5)
    ]
    return svg.tag("svg", *marks, class_="axis-plot", aria_hidden="true")
