"""Verdicts as sentences. They say what the numbers say: a drop never goes without its interval and seeds."""

from __future__ import annotations

from ticketlab.stats.phrases import phrase, rival
from ticketlab.stats.reason import IDENTICAL
from ticketlab.stats.verdict import DOES_NOT_USE, UNDECIDED, USES, VOID, Verdict


def sentence(v: Verdict) -> str:
    """The verdict on one comparison, with its drop (points), interval and number of seeds."""
    if v.verdict == VOID:
        return f"Void: {_void(v)}."
    if v.verdict == UNDECIDED:
        return _undecided(v)
    if v.reason == IDENTICAL:
        return f"{_act(v)} changes nothing: the tickets came out the same{_over(v.n)}."
    if any(v.dead) and v.reason.startswith("collapse"):
        worse = _collapse(v) if v.verdict == USES else f"{_tickets(v)} survive more often: {_dead(v)} are at chance."
        return f"{worse}{_meaning(v)}"
    if v.verdict == DOES_NOT_USE:
        return _does_not_use(v)
    other = rival(v.check)
    size = _points(abs(v.drop or 0.0))
    survivors = f", among the pairs that both survive; {_dead(v)} are at chance" if any(v.dead) else ""
    more = f", more than the margin of {v.margin:g}" if v.qualifier else ""
    if v.verdict == USES:
        claim = f"{v.method} beats {other} by" if other else f"{_act(v)} costs"
        return f"{claim} {size} ({_interval(v)}{_seeds(v)}){more}{survivors}.{_meaning(v)}"
    claim = f"{other} is better by" if other else f"{_tickets(v)} are better by"
    return f"{claim} {size} ({_interval(v, -1)}{_seeds(v)}){survivors}."


def _does_not_use(v: Verdict) -> str:
    other = rival(v.check)
    span = _range(v.eq_low, v.eq_high)
    if v.qualifier:
        gain = v.qualifier == "negligible gain"
        claim = f"{v.method} beats {other} by" if other else f"{_act(v)} costs"
        if gain:
            claim = f"{other} is better by" if other else f"{_tickets(v)} are better by"
        text = f"{claim} {_points(abs(v.drop or 0.0))} ({_interval(v, -1 if gain else 1)}{_seeds(v)}): "
        text += f"real, but inside the margin of {v.margin:g}"
    elif other:
        text = f"{v.method} does not beat {other} by more than the margin: they differ by less than "
        text += f"{_points(v.margin, '{:g}')} ({span}{_seeds(v)})"
    else:
        text = f"{_act(v)} changes accuracy by less than the margin of {v.margin:g} points ({span}{_seeds(v)})"
    if v.population_holds is False:
        text += " on these test images; with other test images the drop could exceed the margin"
    missed = 100 * (1 - 0.05 ** (1 / v.n))
    return f"{text}. No ticket collapsed; collapse in up to {missed:.0f}% of seeds is not excluded."


def _undecided(v: Verdict) -> str:
    if any(v.dead):
        return f"Undecided: unstable, {_dead(v)} are at chance."
    if v.ci_low is None:
        drop = "" if v.drop is None else f" The drop so far is {_points(v.drop)}."
        return f"Undecided: {v.reason}.{drop}"
    text = f"Undecided: anything from {_range(v.ci_low, v.ci_high)} points fits these {v.n} seeds."
    if v.stragglers:
        text += (
            f" {v.stragglers} straggler{'s' if v.stragglers > 1 else ''} far below the others: equality is not claimed."
        )
    if "not within" in v.reason:
        return f"{text} {v.reason[v.reason.index('not within') :].capitalize()}."
    best = v.seeds_needed[1] if v.seeds_needed else None
    if best is not None:
        text += f" About {best - v.n} more seeds ({best} in all) would decide with probability 0.8 or more."
    return text


def _void(v: Verdict) -> str:
    return f"{_dead(v)} are at chance; nothing to compare" if v.reason.startswith("both at chance") else v.reason


def _collapse(v: Verdict) -> str:
    other = rival(v.check)
    claim = f"{v.method} beats {other}: tickets collapse" if other else f"{_act(v)} makes tickets collapse"
    return f"{claim}: {_dead(v)} are at chance."


def _dead(v: Verdict) -> str:
    second = rival(v.check) or "tampered"
    first = v.method if rival(v.check) else "original"
    return f"{v.dead[0]} of {v.n} {first} and {v.dead[1]} of {v.n} {second} tickets"


def _meaning(v: Verdict) -> str:
    if v.verdict != USES or rival(v.check):
        return ""
    return f" This method's result depends on {phrase(v.check).need}."


def _act(v: Verdict) -> str:
    return f"Taking {rival(v.check)} instead" if rival(v.check) else phrase(v.check).act


def _tickets(v: Verdict) -> str:
    return f"Tickets of {rival(v.check)}" if rival(v.check) else phrase(v.check).tickets


def _points(x: float, form: str = "{:.2f}") -> str:
    return f"{form.format(x)} points"


def _range(low: float | None, high: float | None) -> str:
    return "no interval" if low is None or high is None else f"{low:.2f} to {high:.2f}"


def _interval(v: Verdict, sign: int = 1) -> str:
    if v.ci_low is None or v.ci_high is None:
        return "no interval"
    low, high = sorted((sign * v.ci_low, sign * v.ci_high))
    return _range(low, high)


def _seeds(v: Verdict) -> str:
    return f"; {v.n} seeds"


def _over(n: int) -> str:
    return f" in all {n} seeds" if n else ""
