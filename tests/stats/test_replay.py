"""Looks in order: what a later look may change, and what it may not."""

from __future__ import annotations

import numpy as np
import pytest

from ticketlab.stats import half_widths, judge
from ticketlab.stats.evidence import weigh
from ticketlab.stats.health import study_yardstick
from ticketlab.stats.judge import one
from ticketlab.stats.replay import Looks, Outcome, replay
from ticketlab.stats.row import row

from .studies import LINES, compare, settings

HALVES = (0.5, 0.5)
NEAR = 0.015
"""Weighted by a half it is 0.03: too large for two comparisons, small enough once the other one is decided."""


def looks(p_diff: list, p_equiv: list, no_equality: list | None = None, void: list | None = None) -> Looks:
    """Two looks at two comparisons, all in the direction of a cost."""
    none = np.zeros((2, 2), dtype=bool)
    return Looks(
        p_diff=np.array(p_diff, dtype=float),
        p_equiv=np.array(p_equiv, dtype=float),
        direction=np.ones((2, 2), dtype=int),
        no_equality=none if no_equality is None else np.array(no_equality, dtype=bool),
        void=none if void is None else np.array(void, dtype=bool),
    )


ONES = [[1, 1], [1, 1]]
OTHER_LATER = [[NEAR, 1], [1, 1e-6]]


def test_a_cutoff_relaxed_by_another_decides_an_earlier_near_miss() -> None:
    for outcome in (replay(looks(OTHER_LATER, ONES), HALVES, 0.05), replay(looks(ONES, OTHER_LATER), HALVES, 0.05)):
        assert outcome.decided.all() and outcome.look.tolist() == [1, 1]
    assert replay(looks(OTHER_LATER, ONES), HALVES, 0.05).diff_look.tolist() == [0, 1]
    assert replay(looks(ONES, OTHER_LATER), HALVES, 0.05).equiv_look.tolist() == [0, 1]


def test_what_is_dead_or_late_now_bars_an_earlier_near_miss() -> None:
    ill = [[0, 0], [1, 0]]
    outcome = replay(looks(ONES, OTHER_LATER, no_equality=ill), HALVES, 0.05)
    assert outcome.decided.tolist() == [False, True] and outcome.p_equiv[0] == 1
    outcome = replay(looks(OTHER_LATER, ONES, void=ill), HALVES, 0.05)
    assert outcome.decided.tolist() == [False, True] and outcome.p_diff[0] == 1


def test_a_decided_comparison_is_not_renamed() -> None:
    # The first uses at once; its near miss of equality would count as soon as the second is equal.
    outcome = replay(looks([[1e-6, 1], [1e-6, 1]], OTHER_LATER), HALVES, 0.05)
    assert outcome.equiv.tolist() == [False, True] and outcome.look.tolist() == [0, 1]
    assert outcome.cut_equiv.tolist() == pytest.approx([0.025, 0.05])


def test_difference_and_equality_may_come_from_two_looks() -> None:
    c = compare([93.40, 93.42, 93.44, 93.1, 93.1], [93.0] * 5)
    plan = settings(looks=(3, 5), weights=HALVES)
    outcome = one(replay(looks(OTHER_LATER, [[1, 1], [NEAR, 1e-6]]), HALVES, 0.05), 0)
    assert outcome.diff and outcome.equiv
    a, b = np.array(c.original), np.array(c.tampered)
    evidence = [weigh(a[:n], b[:n], LINES, plan.margin, plan.image) for n in (3, 5)]
    v = row(c, evidence, outcome, 2, plan, LINES)
    assert (v.n, v.decided_at, v.qualifier) == (3, 5, "negligible use")
    assert v.drop == pytest.approx(0.42) and v.eq_low is not None and v.eq_high is not None
    assert (v.eq_low + v.eq_high) / 2 == pytest.approx((a - b).mean())


def test_undecided_outcome_is_that_of_the_last_look() -> None:
    outcome: Outcome = replay(looks(ONES, ONES), HALVES, 0.05)
    assert outcome.look.tolist() == [1, 1] and not outcome.decided.any()


@pytest.mark.parametrize(("factor", "qualifier"), [(1.001, "by more than the margin"), (0.999, "")])
def test_by_more_than_the_margin_holds_for_the_whole_family(factor: float, qualifier: str) -> None:
    d = np.array([-1.0, -1.0, 0.0, 1.0, 1.0])
    far, _ = half_widths(5, 0.05 / 2, 0.05)
    b = 93 - 0.5 - float(far) * factor - d
    rows = [compare([93.0] * 5, b, "one"), compare([93.0] * 5, [93.0] * 5, "two")]
    v = judge(rows, settings(looks=(5,), weights=(1.0,)))[0]
    assert (v.verdict, v.qualifier) == ("uses", qualifier)


def test_later_seeds_do_not_move_the_lines() -> None:
    c = compare([60.0, 61, 62, 99], [59.0, 60, 61, 99])
    assert study_yardstick([c], settings(dense=None)).dead_line == pytest.approx(15.2)
    assert study_yardstick([c], settings(dense=(94.6, 94.6, 94.6, 20.0))).dead_line == pytest.approx(18.46)
