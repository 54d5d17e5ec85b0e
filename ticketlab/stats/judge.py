"""From accuracies to verdicts: a pure function of the data and the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ticketlab.errors import InputError
from ticketlab.stats.comparison import Comparison, Settings
from ticketlab.stats.evidence import Evidence, weigh
from ticketlab.stats.health import Yardstick, study_yardstick
from ticketlab.stats.replay import Looks, Outcome, replay
from ticketlab.stats.row import row
from ticketlab.stats.student import Array
from ticketlab.stats.verdict import Verdict


@dataclass(frozen=True)
class Track:
    """The evidence of one comparison at the looks it reached, and what it brings to the family at every look."""

    comparison: Comparison
    evidence: tuple[Evidence, ...]
    p_diff: Array
    p_equiv: Array
    direction: Array
    no_equality: Array
    void: Array


def track(comparison: Comparison, settings: Settings, lines: Yardstick) -> Track:
    """Weigh a comparison at each look on exactly the first seeds of that look, never on those that are finished."""
    a = np.array(comparison.original, dtype=float)
    b = np.array(comparison.tampered, dtype=float)
    evidence = tuple(
        weigh(a[:n], b[:n], lines, settings.margin, settings.image, settings.test)
        for n in settings.looks
        if n <= comparison.seeds
    )
    spoiled = not comparison.control_ok or not lines.learned
    p_diff, p_equiv = np.ones(len(settings.looks)), np.ones(len(settings.looks))
    direction = np.zeros(len(settings.looks), dtype=int)
    no_equality, void = np.zeros((2, len(settings.looks)), dtype=bool)
    if spoiled:
        void[:] = no_equality[:] = True
    elif comparison.identical:
        p_equiv[:] = 0.0
    else:
        for k, e in enumerate(evidence):
            p_diff[k], p_equiv[k], direction[k] = e.p_diff, e.p_equiv, e.direction
            no_equality[k:], void[k:] = e.no_equality, e.void
    return Track(comparison, evidence, p_diff, p_equiv, direction, no_equality, void)


def stack(tracks: Sequence[Track]) -> Looks:
    """The tracks side by side, down to the last look that any of them reached."""
    depth = max(1, *(len(t.evidence) for t in tracks))
    names = ("p_diff", "p_equiv", "direction", "no_equality", "void")
    return Looks(*(np.stack([getattr(t, name)[:depth] for t in tracks], axis=-1) for name in names))


def families(methods: Sequence[str], settings: Settings) -> list[Array]:
    """The column numbers of each family: the whole report, or one family per method."""
    if settings.family == "report":
        return [np.arange(len(methods))]
    return [np.flatnonzero([m == name for m in methods]) for name in dict.fromkeys(methods)]


def judge(comparisons: Sequence[Comparison], settings: Settings) -> list[Verdict]:
    """The verdict on each comparison, in the order given.

    The chance that the list holds any false difference is at most `settings.alpha`, and so is the chance that it
    holds any false "does not use", over all planned looks and any stopping rule (paired differences normal).
    `comparisons` must be all that the study planned: the void ones, and those without seeds so far, count in the
    family. Raises `InputError` when a comparison is given twice.
    """
    if not comparisons:
        return []
    keys = [(c.method, c.check, c.sparsity) for c in comparisons]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"asked for one comparison per method, check and sparsity, got {key} more than once.")
    lines = study_yardstick(comparisons, settings)
    tracks = [track(c, settings, lines) for c in comparisons]
    groups = families([c.method for c in comparisons], settings)
    outcome = replay(stack(tracks), settings.weights, settings.alpha, settings.multiplicity, groups)
    sizes = {int(i): len(group) for group in groups for i in group}
    return [row(t.comparison, t.evidence, one(outcome, i), sizes[i], settings, lines) for i, t in enumerate(tracks)]


def one(outcome: Outcome, i: int) -> Outcome:
    """The outcome of comparison number `i` alone."""
    return Outcome(**{name: value[..., i] for name, value in vars(outcome).items()})
