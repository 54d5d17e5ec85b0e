"""Replaying the looks in order: who is decided when, and by which evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ticketlab.stats.comparison import Multiplicity
from ticketlab.stats.holm import cutoff
from ticketlab.stats.student import Array


@dataclass(frozen=True)
class Looks:
    """Evidence of a family: arrays with the last two axes (looks, comparisons)."""

    p_diff: Array
    p_equiv: Array
    direction: Array
    no_equality: Array
    void: Array


@dataclass(frozen=True)
class Outcome:
    """Where each comparison (last axis) stands: frozen at the deciding look, otherwise at the last one.

    `p_diff` and `p_equiv` are the smallest weighted p-values so far, `diff_look` and `equiv_look` the looks that
    gave them, `direction` that of `diff_look`; `look` is the deciding one (for undecided ones the last).
    """

    p_diff: Array
    p_equiv: Array
    cut_diff: Array
    cut_equiv: Array
    direction: Array
    diff_look: Array
    equiv_look: Array
    look: Array

    @property
    def diff(self) -> Array:
        return self.p_diff <= self.cut_diff

    @property
    def equiv(self) -> Array:
        return self.p_equiv <= self.cut_equiv

    @property
    def decided(self) -> Array:
        return self.diff | self.equiv


def replay(
    looks: Looks,
    weights: Sequence[float],
    alpha: float,
    rule: Multiplicity = "holm",
    families: Sequence[Array] | None = None,
) -> Outcome:
    """Go through the looks; at each, two families of p-values are cut off separately, one per kind of claim.

    A p-value is divided by the weight of its look and the smallest one so far counts (Bonferroni over looks), which
    makes it valid under any stopping rule. Mixing the two kinds in one Holm would spend the level that right
    "equal" verdicts free on the comparisons that look different by chance. `families` holds the column numbers of
    each family (default: one family).
    """
    shape = (*looks.p_diff.shape[:-2], looks.p_diff.shape[-1])
    families = [np.arange(shape[-1])] if families is None else families
    now = Outcome(*(np.ones(shape) for _ in range(4)), *(np.zeros(shape, dtype=int) for _ in range(4)))
    open_ = np.ones(shape, dtype=bool)
    best_diff, best_equiv = np.ones(shape), np.ones(shape)
    direction, diff_look, equiv_look = now.direction, now.diff_look, now.equiv_look
    for k, weight in enumerate(weights[: looks.p_diff.shape[-2]]):
        diff, equiv = looks.p_diff[..., k, :] / weight, looks.p_equiv[..., k, :] / weight
        better_diff, better_equiv = open_ & (diff < best_diff), open_ & (equiv < best_equiv)
        best_diff, best_equiv = np.where(better_diff, diff, best_diff), np.where(better_equiv, equiv, best_equiv)
        direction = np.where(better_diff, looks.direction[..., k, :], direction)
        diff_look, equiv_look = np.where(better_diff, k, diff_look), np.where(better_equiv, k, equiv_look)
        # A dead ticket or straggler seen now also bars the equality that an earlier look came close to.
        p_diff = np.where(open_, np.where(looks.void[..., k, :], 1.0, best_diff), now.p_diff)
        p_equiv = np.where(open_, np.where(looks.no_equality[..., k, :], 1.0, best_equiv), now.p_equiv)
        cut_diff, cut_equiv = now.cut_diff.copy(), now.cut_equiv.copy()
        for members in families:
            for p, cut in ((p_diff, cut_diff), (p_equiv, cut_equiv)):
                cut[..., members] = cutoff(p[..., members], alpha, rule)[..., None]
        now = Outcome(
            p_diff,
            p_equiv,
            np.where(open_, cut_diff, now.cut_diff),
            np.where(open_, cut_equiv, now.cut_equiv),
            direction,
            diff_look,
            equiv_look,
            np.where(open_, k, now.look),
        )
        open_ = ~now.decided
    return now
