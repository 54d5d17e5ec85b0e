"""The end of a report: what each method uses, and what the verdicts are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ticketlab.stats.comparison import Settings
from ticketlab.stats.phrases import phrase, rival
from ticketlab.stats.verdict import BETTER_WITHOUT, DOES_NOT_USE, UNDECIDED, USES, VOID, Verdict


def answer(verdicts: Sequence[Verdict]) -> str:
    """One line for each method and sparsity: what its result depends on, what not, and what stays open."""
    groups: dict[str, list[Verdict]] = {}
    for v in verdicts:
        where = "over all sparsities" if math.isnan(v.sparsity) else f"at {100 * v.sparsity:.5g}%"
        groups.setdefault(f"{v.method} {where}", []).append(v)
    return "\n".join(f"{name}: {_line(group)}." for name, group in groups.items())


def _line(group: Sequence[Verdict]) -> str:
    checks = [v for v in group if not rival(v.check)]
    rivals = [v for v in group if rival(v.check)]

    def found(rows: Sequence[Verdict], verdict: str) -> list[Verdict]:
        return [v for v in rows if v.verdict == verdict]

    parts = []
    if needs := [f"on {phrase(v.check).need}" for v in found(checks, USES)]:
        parts.append(f"its result depends {_list(needs, 'and')}")
    if spared := [f"on {phrase(v.check).need}" for v in found(checks, DOES_NOT_USE)]:
        parts.append(f"its result does not depend {_list(spared, 'or')} (within {group[0].margin:.3g} points)")
    if better := [phrase(v.check).tickets for v in found(checks, BETTER_WITHOUT)]:
        parts.append(f"{_list([t[0].lower() + t[1:] for t in better], 'and')} do better than its own")
    if beaten := [rival(v.check) for v in found(rivals, USES)]:
        parts.append(f"it beats {_list(beaten, 'and')}")
    if close := [rival(v.check) for v in found(rivals, DOES_NOT_USE)]:
        parts.append(f"it does not beat {_list(close, 'or')} by more than the margin of {group[0].margin:.3g} points")
    if ahead := [rival(v.check) for v in found(rivals, BETTER_WITHOUT)]:
        parts.append(f"{_list(ahead, 'and')} {'is' if len(ahead) == 1 else 'are'} better")
    for verdict in (UNDECIDED, VOID):
        if names := [v.check for v in found(group, verdict)]:
            parts.append(f"{verdict}: {', '.join(names)}")
    return "; ".join(parts)


def _list(items: Sequence[str], word: str) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {word} {items[-1]}"


def foot(verdicts: Sequence[Verdict], settings: Settings) -> list[str]:
    """The lines below a report: the family, the looks, what the intervals cover, and the chance of a false claim."""
    m, percent = len(verdicts), f"{100 * settings.alpha:g}%"
    scope = "all of them one family" if settings.family == "report" else "one family for each method"
    rule = {
        "holm": f"Holm for each kind of claim, {scope}",
        "bh": f"Benjamini-Hochberg for each kind of claim, {scope}",
        "none": "each row for itself",
    }[settings.multiplicity]
    reports = "such reports" if settings.family == "report" else "such families"
    chance = {
        "holm": f"At most {percent} of {reports} contain a false 'uses it'; "
        f"at most {percent} a false 'does not use it'.",
        "bh": f"Of the verdicts of each kind about {percent} may be wrong.",
        "none": f"Expect up to about {m * settings.alpha:.2g} false rows of each kind.",
    }[settings.multiplicity]
    looks = ", ".join(map(str, settings.looks))
    return [
        f"{m} comparisons; {rule}; test: {settings.test}.",
        f"Verdicts may fall at {looks} seeds (number of looks: {len(settings.looks)}, all paid for in advance).",
        "Intervals cover variation between training runs (initialisation, data order, mask draw) of this recipe on "
        f"this test set of {settings.test_size:,} images.",
        chance,
    ]
