"""Accuracy of every run: over sparsity for each method, or by arm where there is one sparsity only.

Runs that would squash the axis lie in a strip below it.
"""

from __future__ import annotations

from statistics import fmean
from typing import NamedTuple

from ticketlab.report import axis, svg, words
from ticketlab.report.reading import Results, Row, checks, methods, number, part, rows

WIDTH, HEIGHT = 360.0, 250.0
LEFT, RIGHT, TOP, BOTTOM, STRIP = 38.0, 12.0, 14.0, 34.0, 28.0
ORIGINAL = "original"


class Frame(NamedTuple):
    """The shared vertical axis, the place of the strip below it, and the dense line."""

    scale: svg.Scale
    strip: float
    dense: float | None
    label: str


def arms(results: Results) -> list[str]:
    """The arms of the legend: the original first, then the checks."""
    return [ORIGINAL, *checks(results)]


def arm_runs(results: Results, method: str, arm: str) -> list[Row]:
    """The runs of one arm; the tampered arm of a `versus:` check is the other method's own original."""
    found = rows(results, "runs")
    own = [run for run in found if run.get("method") == method and run.get("check") == arm]
    if own or not arm.startswith("versus:"):
        return own
    other = arm.removeprefix("versus:")
    return [run for run in found if run.get("method") == other and run.get("check") == ORIGINAL]


def legend(results: Results) -> list[tuple[str, str]]:
    """(marker, arm) for every arm that any method has runs in."""
    named = enumerate(arms(results))
    return [(svg.swatch(i), arm) for i, arm in named if any(arm_runs(results, m, arm) for m in methods(results))]


def frame(results: Results) -> Frame:
    """One vertical axis for all methods, so that the panels can be compared."""
    scale = svg.Scale(*axis.limits(results), HEIGHT - BOTTOM - STRIP - 8, TOP)
    dense = number(part(results, "dense").get("mean"))
    return Frame(scale, HEIGHT - BOTTOM - 9, dense, axis.strip_label(results))


def panel(results: Results, method: str, shown: list[float], frame: Frame) -> str:
    """The figure of one method over its sparsities."""
    across = svg.Scale(-0.5, len(shown) - 0.5, LEFT, WIDTH - RIGHT)
    names = [arm for arm in arms(results) if arm_runs(results, method, arm)]
    parts = [_axes(shown, across, frame)]
    marks = []
    for place, arm in enumerate(names):
        colour, shape = svg.style(arms(results).index(arm))
        means = []
        runs = arm_runs(results, method, arm)
        for at, sparsity in enumerate(shown):
            offset = (place - (len(names) - 1) / 2) * min(17.0, 0.75 * (across(1) - across(0)) / max(1, len(names)))
            x = across(at) + offset
            here = [run for run in runs if number(run.get("sparsity")) == sparsity]
            marks.append(svg.tag("g", *[_dot(run, x, frame, shape) for run in here], class_=f"dots {colour}"))
            alive = [number(run.get("accuracy")) for run in here if not axis.collapsed(run)]
            values = [value for value in alive if value is not None]
            if values and fmean(values) >= frame.scale.low:
                means.append((x, frame.scale(fmean(values))))
        if len(means) > 1:
            parts.append(svg.line(means, class_=f"trend {colour}"))
        parts += [svg.tag("path", d=f"M{x - 5:.1f} {y:.1f}h10", class_=f"mean {colour}") for x, y in means]
    label = f"{method}: last-epoch accuracy of every run, by sparsity and arm. The numbers are in the table of runs."
    return svg.figure(WIDTH, HEIGHT, label, *parts, *marks, class_="panel")


def _dot(run: Row, x: float, frame: Frame, shape: str) -> str:
    if axis.apart(run, frame.scale.low):
        return axis.mark_apart(run, x, frame.strip, frame.scale.low)
    value = number(run.get("accuracy"))
    return svg.marker(shape, x, frame.scale(value), 2.8) if value is not None else ""


def _axes(shown: list[float], across: svg.Scale, frame: Frame) -> str:
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for tick in frame.scale.ticks(5):
        y = frame.scale(tick)
        parts.append(svg.line([(LEFT, y), (right, y)], class_="grid"))
        parts.append(svg.text(LEFT - 6, y + 3.5, f"{tick:g}", text_anchor="end"))
    top = floor - STRIP
    parts.append(svg.tag("rect", x=LEFT, y=top, width=right - LEFT, height=STRIP, class_="strip"))
    parts.append(svg.line([(LEFT, frame.strip), (right, frame.strip)], class_="chance"))
    parts.append(svg.text(LEFT + 4, top + 10, frame.label, class_="note"))
    if frame.dense is not None:
        y = frame.scale(frame.dense)
        parts.append(svg.line([(LEFT, y), (right, y)], class_="dense"))
        parts.append(svg.text(right, y - 4, "dense", text_anchor="end", class_="note"))
    for at, sparsity in enumerate(shown):
        parts.append(svg.text(across(at), HEIGHT - 18, words.percent(sparsity), text_anchor="middle"))
    parts.append(svg.text((LEFT + right) / 2, HEIGHT - 3, "sparsity", text_anchor="middle", class_="note"))
    return "".join(parts)


def panels(results: Results, shown: list[float]) -> list[tuple[str, str]]:
    """(method, figure) for every method that has runs."""
    shared = frame(results)
    have = {str(run.get("method")) for run in rows(results, "runs") if number(run.get("accuracy")) is not None}
    return [(m, panel(results, m, shown, shared)) for m in methods(results) if m in have]
