"""Accuracy of every run by arm, one line per arm: the figure of a study with one sparsity."""

from __future__ import annotations

from statistics import fmean

from ticketlab.report import axis, svg
from ticketlab.report.accuracy import arm_runs, arms
from ticketlab.report.reading import Results, number, part

WIDTH, LEFT, RIGHT, TOP, STEP, STRIP = 360.0, 124.0, 16.0, 16.0, 24.0, 44.0


def panel(results: Results, method: str) -> str:
    """The figure of one method; runs far below the others stand at the left edge, apart from the axis."""
    names = [arm for arm in arms(results) if arm_runs(results, method, arm)]
    across = svg.Scale(*axis.limits(results), LEFT + STRIP + 8, WIDTH - RIGHT)
    floor = TOP + STEP * len(names)
    parts = [_axes(results, across, floor)]
    for at, arm in enumerate(names):
        y = TOP + STEP * (at + 0.5)
        colour, shape = svg.style(arms(results).index(arm))
        parts.append(svg.text(LEFT - 8, y + 3.5, arm if len(arm) <= 20 else arm[:19] + "…", text_anchor="end"))
        runs, alive = arm_runs(results, method, arm), []
        marks = []
        for run in runs:
            value = number(run.get("accuracy"))
            if axis.apart(run, across.low):
                marks.append(axis.mark_apart(run, LEFT + STRIP / 2, y, across.low))
            elif value is not None:
                marks.append(svg.marker(shape, across(value), y, 3.0))
            if value is not None and not axis.collapsed(run):
                alive.append(value)
        if alive and fmean(alive) >= across.low:
            parts.append(svg.tag("path", d=f"M{across(fmean(alive)):.1f} {y - 8:.1f}v16", class_=f"mean {colour}"))
        parts.append(svg.tag("g", *marks, class_=f"dots {colour}"))
    label = f"{method}: last-epoch accuracy of every run, by arm. The numbers are in the table of runs."
    return svg.figure(WIDTH, floor + 34, label, *parts, class_="panel")


def _axes(results: Results, across: svg.Scale, floor: float) -> str:
    parts = [svg.tag("rect", x=LEFT, y=TOP, width=STRIP, height=floor - TOP, class_="strip")]
    parts.append(svg.text(LEFT + STRIP / 2, TOP - 5, "off axis", text_anchor="middle", class_="note"))
    for tick in across.ticks(4):
        parts.append(svg.line([(across(tick), TOP), (across(tick), floor)], class_="grid"))
        parts.append(svg.text(across(tick), floor + 14, f"{tick:g}", text_anchor="middle"))
    dense = number(part(results, "dense").get("mean"))
    if dense is not None:
        parts.append(svg.line([(across(dense), TOP), (across(dense), floor)], class_="dense"))
        parts.append(svg.text(across(dense), TOP - 5, "dense", text_anchor="middle", class_="note"))
    parts.append(svg.text((LEFT + WIDTH) / 2, floor + 29, "accuracy, %", text_anchor="middle", class_="note"))
    return "".join(parts)
