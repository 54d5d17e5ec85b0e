"""Dead tickets, stragglers, and whether anything can be compared at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ticketlab.stats.comparison import Comparison, Settings
from ticketlab.stats.student import Array

CHANCE_ERRORS = 3.09
"""One in a thousand: how many standard errors above chance a guessing net reaches."""


@dataclass(frozen=True)
class Yardstick:
    """What counts as dead and as far below: all in percent. `learned` is False if the dense net is at chance."""

    chance: float
    dead_line: float
    straggler_gap: float
    learned: bool

    def dead(self, accuracy: Array) -> Array:
        """True where a ticket is at chance or its training diverged."""
        return ~(np.isfinite(accuracy) & (accuracy > self.dead_line))

    def stragglers(self, accuracy: Array) -> Array:
        """True where a living ticket is far below the median of the living tickets of its arm (last axis)."""
        alive = ~self.dead(accuracy)
        if not accuracy.shape[-1]:
            return alive
        ranked = np.sort(np.where(alive, accuracy, np.inf), axis=-1)
        count = alive.sum(-1, keepdims=True)
        low = np.take_along_axis(ranked, np.maximum(count - 1, 0) // 2, axis=-1)
        high = np.take_along_axis(ranked, np.minimum(count // 2, accuracy.shape[-1] - 1), axis=-1)
        return np.asarray(alive & (accuracy < (low + high) / 2 - self.straggler_gap))


def yardstick(test_size: int, chance: float, dense: float) -> Yardstick:
    """The lines for a test set of `test_size` images, `chance` and the `dense` net's accuracy in percent."""
    share = chance / 100
    noise = CHANCE_ERRORS * 100 * math.sqrt(share * (1 - share) / test_size)
    gap = max(0.0, 0.1 * (dense - chance))
    return Yardstick(chance, chance + max(noise, gap), gap, learned=dense > chance + noise)


def study_yardstick(comparisons: Sequence[Comparison], settings: Settings) -> Yardstick:
    """The lines of a study, from its dense runs or, without any, from its best ticket.

    Only the seeds of the first look are used: later seeds must not move the lines under earlier verdicts.
    """
    first = settings.looks[0]
    if settings.dense is not None:
        runs = [a if math.isfinite(a) else settings.chance for a in settings.dense[:first]]
        return yardstick(settings.test_size, settings.chance, math.fsum(runs) / len(runs))
    tickets = [a for c in comparisons for arm in (c.original, c.tampered) for a in arm[:first] if math.isfinite(a)]
    return yardstick(settings.test_size, settings.chance, max(tickets, default=settings.chance))


@lru_cache(maxsize=4096)
def share_p(dead_original: int, dead_tampered: int, seeds: int) -> float:
    """Two-sided p-value of "both arms die equally often" (Barnard 1945): exact for small, independent arms."""
    if dead_original == dead_tampered:
        return 1.0
    if dead_original > dead_tampered:
        return share_p(dead_tampered, dead_original, seeds)
    from scipy.stats import barnard_exact

    table = [[dead_original, dead_tampered], [seeds - dead_original, seeds - dead_tampered]]
    return float(barnard_exact(table, n=16).pvalue)


def share_p_array(dead_original: Array, dead_tampered: Array, seeds: int) -> Array:
    """`share_p` elementwise; each table is computed once."""
    codes, where = np.unique(dead_original * (seeds + 1) + dead_tampered, return_inverse=True)
    values = np.array([share_p(*divmod(int(code), seeds + 1), seeds) for code in codes])
    return values[where].reshape(np.shape(dead_original))
