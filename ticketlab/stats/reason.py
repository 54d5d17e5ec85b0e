"""Why a verdict is what it is, in a few words."""

from __future__ import annotations

from ticketlab.stats.comparison import Comparison, Settings
from ticketlab.stats.evidence import Evidence
from ticketlab.stats.health import Yardstick
from ticketlab.stats.verdict import UNDECIDED, VOID

BOTH_AT_CHANCE = "both at chance: nothing to compare"
IDENTICAL = "identical masks"


def reason(
    c: Comparison,
    e: Evidence,
    verdict: str,
    n: int,
    decided_at: int | None,
    needed: tuple[int | None, int | None, int | None] | None,
    settings: Settings,
    lines: Yardstick,
) -> str:
    """The circumstances of a verdict, joined by semicolons; empty for the ordinary case."""
    x, y = int(e.dead_original), int(e.dead_tampered)
    if not c.control_ok:
        return c.control_note or "the control failed"
    if not lines.learned:
        return "the dense net did not learn" if settings.dense is not None else "no ticket learned"
    if verdict == VOID:
        return BOTH_AT_CHANCE
    if c.identical:
        return IDENTICAL
    parts = []
    dead = f"{x} of {n} original and {y} of {n} tampered tickets at chance"
    if x or y:
        survivors = int(e.estimate.pairs)
        if verdict == UNDECIDED:
            parts.append(f"unstable: {dead}")
        elif e.by_share:
            parts.append(f"collapse: {dead}")
        else:
            parts.append(f"survivors: {dead}, the {survivors} surviving pairs differ")
    late = int(e.stragglers)
    if late and not (x or y):
        parts.append(f"{late} straggler{'s' if late > 1 else ''}: equality is not claimed")
    first, last = settings.looks[0], settings.looks[-1]
    if c.seeds < first:
        parts.append(f"needs {first} seeds, has {c.seeds}")
    elif verdict == UNDECIDED and c.seeds > n:
        upcoming = [m for m in settings.looks if m > n]
        parts.append(
            f"judged on the first {n} of {c.seeds} seeds; the next look is at {upcoming[0]}"
            if upcoming
            else f"judged on the first {n} of {c.seeds} seeds: more seeds than planned, they would not keep the level"
        )
    elif decided_at is not None and c.seeds > decided_at:
        parts.append(f"decided on the first {decided_at} seeds")
    if needed is not None and (needed[1] is None or needed[1] > last):
        more = f"about {needed[1]}" if needed[1] is not None else "more than 200"
        parts.append(f"not within {last} seeds; {more} would be needed")
    return "; ".join(parts)
