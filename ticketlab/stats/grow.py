"""Which comparisons get more seeds: a pure function of what was found so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ticketlab.errors import InputError
from ticketlab.stats.comparison import Settings
from ticketlab.stats.power import p_decide
from ticketlab.stats.reason import BOTH_AT_CHANCE
from ticketlab.stats.student import Array, Number
from ticketlab.stats.verdict import VOID, Verdict

HOPELESS = 0.1
ENOUGH = 5
"""Three seeds are too few to give a comparison up: two arms at chance may be chance, and an sd from two degrees of
freedom would stop nearly a tenth of those that twenty seeds decide (a dozen without a drop, spread of one margin)."""


@dataclass(frozen=True)
class Grant:
    """What a comparison gets next: `seeds` in all, or None and `why` there are no more."""

    seeds: int | None
    why: str = ""


def grow(verdicts: Sequence[Verdict], granted: Sequence[int], settings: Settings) -> list[Grant]:
    """The seeds that each comparison gets for the next look, given those that it was granted so far.

    `verdicts` must be on exactly the seeds granted, all of them finished. Comparisons go from look to look together:
    one that has fewer seeds than the others was stopped, and stays so. Came it back, its late evidence would count at
    a look that others were judged by, and could rename their verdicts.

    Stopping is never a false claim, so it costs no level. Decided comparisons stop; void ones too, and from five seeds
    on those with both arms at chance, and undecided ones that the last look would decide with a chance below 0.1.
    Raises `InputError` unless there is one count for each verdict.
    """
    if len(verdicts) != len(granted):
        raise InputError(f"asked for a count of seeds for each of {len(verdicts)} verdicts, got {len(granted)}.")
    reached = max(granted, default=0)
    return [_grant(v, n, reached, settings) for v, n in zip(verdicts, granted, strict=True)]


def _grant(verdict: Verdict, seeds: int, reached: int, settings: Settings) -> Grant:
    if verdict.decided:
        return Grant(None, "decided")
    if verdict.verdict == VOID and (verdict.reason != BOTH_AT_CHANCE or verdict.n >= ENOUGH):
        return Grant(None, "void")
    upcoming = next((look for look in settings.looks if look > seeds), None)
    if upcoming is None:
        return Grant(None, f"the last look, at {settings.looks[-1]} seeds, was taken")
    if seeds < reached or _futile(verdict, settings):
        return Grant(None, f"stopped at {seeds} seeds: the chance of a verdict by {settings.looks[-1]} was below 10%")
    return Grant(upcoming)


def next_look(verdict: Verdict, settings: Settings) -> int | None:
    """The number of seeds, in all, to run next for a comparison on its own; None when it needs no more."""
    return grow([verdict], [verdict.n], settings)[0].seeds


def _futile(verdict: Verdict, settings: Settings) -> bool:
    # With dead tickets there is no estimate to plan with.
    if verdict.n < max(ENOUGH, settings.looks[0]) or any(verdict.dead) or verdict.drop is None or verdict.sd is None:
        return False
    cut_equiv = 0.0 if verdict.stragglers else verdict.cut_equiv
    return bool(hopeless(verdict.drop, verdict.sd, verdict.cut_diff, cut_equiv, settings))


def hopeless(drop: Number, sd: Number, cut_diff: Number, cut_equiv: Number, settings: Settings) -> Array:
    """Whether the last look would decide with a chance below 0.1, were the truth as estimated. Elementwise.

    `drop` and `sd` are in points; the cuts are those of the family as it stands, before the weight of the look.
    """
    weight, last = settings.weights[-1], settings.looks[-1]
    chance = p_decide(last, np.abs(drop), sd, settings.margin, weight * cut_diff, weight * cut_equiv)
    return chance < HOPELESS
