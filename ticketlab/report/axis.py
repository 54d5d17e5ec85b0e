"""The axis of accuracy, shared by all methods: it shows the runs that are alike, and sets the far ones apart.

A collapsed run, or the positive control, would squash everything else into one line. Such runs stand in a strip
beside the axis: a cross for a run at chance, a hollow triangle for one that is merely far below.
"""

from __future__ import annotations

from statistics import quantiles

from ticketlab.report import svg, words
from ticketlab.report.notes import POSITIVE_CONTROL
from ticketlab.report.reading import Results, Row, number, part, rows

FAR = 4.0  # interquartile ranges below the lower quartile


def limits(results: Results) -> tuple[float, float]:
    """The lowest and the highest accuracy on the axis."""
    dense = number(part(results, "dense").get("mean"))
    seen = [run for run in rows(results, "runs") if not collapsed(run) and run.get("check") != POSITIVE_CONTROL]
    known = [value for value in (number(run.get("accuracy")) for run in seen) if value is not None]
    if len(known) > 3:
        first, _, third = quantiles(known, n=4)
        known = [value for value in known if value >= first - FAR * (third - first)]
    known = [*known, *([dense] if dense is not None else [])] or [0.0, 100.0]
    room = max(0.06 * (max(known) - min(known)), 0.3)
    return max(0.0, min(known) - room), min(100.0, max(known) + room)


def collapsed(run: Row) -> bool:
    """Whether a run is at chance or diverged."""
    return run.get("status") in ("dead", "diverged")


def apart(run: Row, low: float) -> str:
    """The marker of a run that is not on the axis: `cross`, `below`, or nothing for one that is."""
    value = number(run.get("accuracy"))
    return "cross" if collapsed(run) else "below" if value is not None and value < low else ""


def mark_apart(run: Row, x: float, y: float, low: float) -> str:
    """A run in the strip beside the axis, with its number as a tooltip."""
    told = f"seed {words.short(run.get('seed'))}: {words.points(run.get('accuracy')) or words.short(run.get('status'))}"
    return svg.tag("g", svg.title(told), svg.marker(apart(run, low), x, y, 3.5), class_="apart")


def strip_label(results: Results) -> str:
    """What stands at the strip."""
    chance = number(part(results, "data").get("chance"))
    return "off axis" if chance is None else f"off axis; chance {round(chance, 2):g}"
