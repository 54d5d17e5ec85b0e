"""The results as tables for other programs: CSV with one row per verdict or per run, and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from ticketlab.report import words
from ticketlab.report.latex import escape
from ticketlab.report.reading import Results, Row, in_order, number, pair, part, rows, sparsities

# fmt: off
VERDICT_COLUMNS = (
    "method", "check", "sparsity", "n", "drop", "ci_low", "ci_high", "ci_level", "eq_low", "eq_high",
    "eq_level", "margin", "p_diff", "p_equiv", "p_diff_seq", "p_equiv_seq", "cut_diff", "cut_equiv",
    "verdict", "qualifier", "reason", "decided_at", "dead_original", "dead_tampered", "stragglers", "sd",
    "correlation", "seeds_needed_low", "seeds_needed", "seeds_needed_high", "population_low",
    "population_high", "population_holds", "sentence",
)
RUN_COLUMNS = (
    "arm", "method", "check", "sparsity", "seed", "accuracy", "best", "epochs_seen", "seconds", "status",
    "step",
)
# fmt: on


def to_csv(results: Results) -> str:
    """One row per verdict; what is not known is an empty field."""
    return _csv(VERDICT_COLUMNS, map(_flat, rows(results, "verdicts")))


def runs_csv(results: Results) -> str:
    """One row per run."""
    return _csv(RUN_COLUMNS, rows(results, "runs"))


def _flat(row: Row) -> dict[str, Any]:
    dead, needed = pair(row.get("dead")), pair(row.get("seeds_needed"), 3)
    late = row.get("stragglers")
    return {
        **row,
        "dead_original": dead[0],
        "dead_tampered": dead[1],
        "stragglers": sum(filter(None, pair(late))) if isinstance(late, (list, tuple)) else late,
        "seeds_needed_low": needed[0],
        "seeds_needed": needed[1],
        "seeds_needed_high": needed[2],
    }


def _csv(columns: Sequence[str], found: Iterable[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in found:
        writer.writerow([_field(row.get(column)) for column in columns])
    return text.getvalue()


def _field(value: Any) -> str:
    """Numbers in full, without a fraction that is zero; never nan or inf."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        found = number(value)
        if found is None:
            return ""
        return str(int(found)) if found == int(found) and abs(found) < 1e15 else repr(found)
    return "" if value is None else str(value)


def to_latex(results: Results) -> str:
    """A booktabs table; the caption states seeds, margin and interval levels."""
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{_caption(results)}}}",
        "\\begin{tabular}{llrrrl}",
        "\\toprule",
        "Method & Check & $n$ & Drop & Interval & Verdict \\\\",
    ]
    for sparsity in sparsities(results):
        found = in_order(results, sparsity)
        if found:
            lines += ["\\midrule", f"\\multicolumn{{6}}{{l}}{{Sparsity {escape(words.percent(sparsity))}}} \\\\"]
            lines += [_latex_row(row) for row in found]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""])


def _latex_row(row: Row) -> str:
    low, high = words.points(row.get("ci_low")), words.points(row.get("ci_high"))
    notes = [str(row["qualifier"])] if row.get("qualifier") else []
    notes += [note for note in (words.collapsed(row), words.stragglers(row)) if note]
    verdict = words.verdict(row) + (f" ({'; '.join(notes)})" if notes else "")
    cells = [
        escape(str(row.get("method"))),
        escape(str(row.get("check"))),
        words.short(row.get("n")) or "--",
        _math(words.points(row.get("drop"))),
        f"{_math(low)} to {_math(high)}" if low and high else "--",
        escape(verdict),
    ]
    return " & ".join(cells) + " \\\\"


def _math(text: str) -> str:
    return f"${text}$" if text else "--"


def _caption(results: Results) -> str:
    found, statistics = rows(results, "verdicts"), part(results, "statistics")
    seeds = sorted({int(n) for n in (number(row.get("n")) for row in found) if n is not None})
    n = "$n$ seeds" if not seeds else f"$n = {seeds[0]}$" if len(seeds) == 1 else f"$n = {seeds[0]}$ to ${seeds[-1]}$"
    margin = words.points(statistics.get("margin"))
    title = str(results.get("title") or "results").rstrip(".")
    told = [f"Drop in accuracy when a ticket is tampered with, in points ({n} seeds): {escape(title)}."]
    if not seeds:
        told = [f"Drop in accuracy when a ticket is tampered with, in points: {escape(title)}; no verdict yet."]
    told.append(f"Margin {margin} points." if margin else "No margin.")
    levels = sorted({round(100 * v, 2) for v in (number(row.get("ci_level")) for row in found) if v is not None})
    if levels:
        span = f"{levels[0]:g}" if len(levels) == 1 else f"{levels[0]:g} to {levels[-1]:g}"
        told.append(f"Difference intervals of level {span}\\%, after correction for {_family(statistics)}.")
    return " ".join(told)


def _family(statistics: Row) -> str:
    size, looks = statistics.get("family_size"), len(statistics.get("looks") or [])
    return f"{words.short(size) or '?'} comparisons and {looks or 1} look{'s' if looks > 1 else ''}"
