"""The evidence of one comparison at one look: health first, then the two p-values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ticketlab.stats.comparison import FEWEST_SEEDS, Test
from ticketlab.stats.health import Yardstick, share_p_array
from ticketlab.stats.paired import Estimate, estimate
from ticketlab.stats.student import Array


@dataclass(frozen=True)
class Evidence:
    """Per comparison: p-values, the direction of the difference (+1: tampering costs), and the state of health.

    `estimate` covers the pairs in which both tickets live. `by_share` says that the difference is one of how many
    tickets died; `no_equality` that a dead ticket or a straggler forbids claiming equality.
    """

    estimate: Estimate
    p_diff: Array
    p_equiv: Array
    direction: Array
    dead_original: Array
    dead_tampered: Array
    stragglers: Array
    by_share: Array
    no_equality: Array
    void: Array

    @property
    def collapsed(self) -> Array:
        """True where at least one ticket is dead."""
        return (self.dead_original > 0) | (self.dead_tampered > 0)


def weigh(
    original: Array, tampered: Array, lines: Yardstick, margin: float, image: float, test: Test = "paired"
) -> Evidence:
    """Weigh the two arms (percent; last axis over seeds). `margin` and `image`, one test image, are in points.

    Survivors are tested for a difference as usual, dead shares by Barnard's test; the smaller p counts twice
    (Bonferroni). Arms that are both mostly dead are void: 10.00 against 10.00 is not "equal".
    """
    n = original.shape[-1]
    dead_a, dead_b = lines.dead(original), lines.dead(tampered)
    x, y = dead_a.sum(-1), dead_b.sum(-1)
    pairs = estimate(original, tampered, ~(dead_a | dead_b), image, test)
    testable = pairs.pairs >= FEWEST_SEEDS
    p_pairs = np.where(testable, pairs.p_diff(), 1.0)
    p_share = share_p_array(x, y, n)
    collapsed = (x > 0) | (y > 0)
    by_share = collapsed & (~testable | (p_share < p_pairs))
    p_diff = np.where(testable, np.minimum(1.0, 2 * np.minimum(p_share, p_pairs)), p_share)
    p_diff = np.where(collapsed, p_diff, p_pairs)
    void = (2 * x > n) & (2 * y > n)
    late = lines.stragglers(original).sum(-1) + lines.stragglers(tampered).sum(-1)
    no_equality = collapsed | (late > 0) | ~testable
    return Evidence(
        estimate=pairs,
        p_diff=np.where(void, 1.0, p_diff),
        p_equiv=np.where(no_equality, 1.0, pairs.p_equiv(margin)),
        direction=np.where(by_share, np.sign(y - x), np.sign(pairs.drop)).astype(int),
        dead_original=x,
        dead_tampered=y,
        stragglers=late,
        by_share=by_share,
        no_equality=no_equality,
        void=void,
    )
