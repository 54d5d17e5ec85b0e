"""Several sparsities at once: one row per method and check."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ticketlab.stats.comparison import Comparison, Settings
from ticketlab.stats.health import study_yardstick
from ticketlab.stats.judge import Track, families, judge, one, stack, track
from ticketlab.stats.replay import replay
from ticketlab.stats.verdict import BETTER_WITHOUT, DOES_NOT_USE, UNDECIDED, USES, Verdict


@dataclass(frozen=True)
class Across:
    """One summary row. `mean` is the verdict on the drop averaged over the sparsities (its `sparsity` is nan), None
    if `note` gives a reason against averaging. `everywhere` is the verdict that holds at each sparsity."""

    method: str
    check: str
    sparsities: tuple[float, ...]
    mean: Verdict | None
    everywhere: str
    note: str


def across(comparisons: Sequence[Comparison], settings: Settings) -> list[Across]:
    """Summary rows over the sparsities: each of the two columns is a family of its own, methods x checks.

    The sparsities of one seed are averaged first: they are no replicates, and taking them for independent doubles
    the false claims. "Everywhere" needs the largest p-value of the sparsities (an intersection-union test, Berger
    1982), all in one direction. Checks with a single sparsity have no row.
    """
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for c in comparisons:
        groups.setdefault((c.method, c.check), []).append(c)
    groups = {key: group for key, group in groups.items() if len(group) > 1}
    if not groups:
        return []
    lines = study_yardstick(comparisons, settings)
    tracks = {key: [track(c, settings, lines) for c in group] for key, group in groups.items()}
    notes = {key: _note(group) for key, group in tracks.items()}
    # A row that cannot be averaged stays in the family: the family was fixed before the first run.
    means = judge([_average(groups[key], notes[key]) for key in groups], settings)
    family = families([method for method, _ in groups], settings)
    weakest = stack([_weakest([_so_far(t, settings.weights) for t in group]) for group in tracks.values()])
    outcome = replay(weakest, settings.weights, settings.alpha, settings.multiplicity, family)
    rows = []
    for i, (key, group) in enumerate(groups.items()):
        single = one(outcome, i)
        everywhere = UNDECIDED
        if single.equiv:
            everywhere = DOES_NOT_USE
        elif single.diff:
            everywhere = USES if single.direction > 0 else BETTER_WITHOUT
        mean = None if notes[key] else means[i]
        rows.append(Across(*key, tuple(c.sparsity for c in group), mean, everywhere, notes[key]))
    return rows


def _note(tracks: Sequence[Track]) -> str:
    """Why the sparsities of a row cannot be averaged; empty if they can."""
    for t in tracks:
        if t.void.any():
            return f"void at sparsity {t.comparison.sparsity:g}"
        if any(e.collapsed for e in t.evidence):
            return f"dead tickets at sparsity {t.comparison.sparsity:g}"
    return ""


def _average(group: Sequence[Comparison], note: str) -> Comparison:
    """The comparison of per-seed means, over the seeds that every sparsity has."""
    n = min(c.seeds for c in group)

    def mean(arms: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
        return tuple(math.fsum(arm[i] for arm in arms) / len(arms) for i in range(n))

    return Comparison(
        method=group[0].method,
        check=group[0].check,
        sparsity=math.nan,
        original=mean([c.original for c in group]),
        tampered=mean([c.tampered for c in group]),
        control_ok=not note,
        control_note=note,
        identical=all(c.identical for c in group),
    )


def _so_far(t: Track, weights: Sequence[float]) -> Track:
    """The same evidence, at each look the best until then: sparsities may be decided at looks of their own."""
    w = np.array(weights)
    p_diff, p_equiv = (np.minimum.accumulate(p / w) * w for p in (t.p_diff, t.p_equiv))
    # The direction of a look counts as long as its evidence is the best.
    best = [int(np.argmin((t.p_diff / w)[: k + 1])) for k in range(len(w))]
    return dataclasses.replace(t, p_diff=p_diff, p_equiv=p_equiv, direction=t.direction[best])


def _weakest(tracks: Sequence[Track]) -> Track:
    """The evidence that holds at every sparsity: the largest p-values, and no difference without one direction."""
    directions = np.stack([t.direction for t in tracks])
    agree = (directions == directions[0]).all(0)
    return dataclasses.replace(
        tracks[0],
        evidence=max((t.evidence for t in tracks), key=len),
        p_diff=np.where(agree, np.max([t.p_diff for t in tracks], axis=0), 1.0),
        p_equiv=np.max([t.p_equiv for t in tracks], axis=0),
        no_equality=np.any([t.no_equality for t in tracks], axis=0),
        void=np.any([t.void for t in tracks], axis=0),
    )
