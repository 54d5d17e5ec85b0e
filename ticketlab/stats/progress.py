"""Whether a comparison gets more seeds."""

from __future__ import annotations

from ticketlab.stats.comparison import Settings
from ticketlab.stats.power import p_decide
from ticketlab.stats.reason import BOTH_AT_CHANCE
from ticketlab.stats.verdict import UNDECIDED, VOID, Verdict

HOPELESS = 0.1
ENOUGH_COLLAPSED = 5


def next_look(verdict: Verdict, settings: Settings) -> int | None:
    """The number of seeds, in all, to run next for a comparison; None when it needs no more.

    Stopping is never a false claim, so it costs no level: void comparisons stop (after two arms at chance from five
    seeds on), and undecided ones when the last look would decide them with a chance below 0.1.
    """
    upcoming = next((look for look in settings.looks if look > verdict.n), None)
    if verdict.verdict == VOID:
        return upcoming if verdict.reason == BOTH_AT_CHANCE and verdict.n < ENOUGH_COLLAPSED else None
    if verdict.verdict != UNDECIDED or upcoming is None:
        return None
    # Below the first look, or with dead tickets, there is no estimate to plan with.
    if verdict.n < settings.looks[0] or any(verdict.dead) or verdict.drop is None or verdict.sd is None:
        return upcoming
    weight = settings.weights[-1]
    cut_equiv = 0.0 if verdict.stragglers else verdict.cut_equiv * weight
    chance = p_decide(
        settings.looks[-1], abs(verdict.drop), verdict.sd, settings.margin, verdict.cut_diff * weight, cut_equiv
    )
    return upcoming if chance >= HOPELESS else None
