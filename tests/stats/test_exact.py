"""Verdicts computed by hand, and the same tests in other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.weightstats import ttost_paired

from ticketlab.stats import Comparison, judge, sentence

from .studies import UNTIL_DECIDED, compare, settings, single

ROWS = [
    # original, tampered, images, (drop, sd, difference interval, equivalence interval, p_diff, p_equiv), verdict
    (
        "93.02 92.71 93.30",
        "91.29 91.02 91.57",
        10_000,
        (1.7167, 0.0231, 1.6593, 1.7740, 1.6777, 1.7556, 6.032e-5, 0.99994),
        "uses",
        "by more than the margin",
    ),
    (
        "92.55 92.61 92.48 92.70 92.59",
        "92.60 92.55 92.52 92.66 92.61",
        10_000,
        (-0.0020, 0.0492, -0.0631, 0.0591, -0.0489, 0.0449, 0.93194, 1.128e-5),
        "does not use",
        "",
    ),
    (
        "94.10 94.22 93.95 94.15 94.05",
        "93.88 94.00 93.76 93.93 93.85",
        10_000,
        (0.2100, 0.0141, 0.1924, 0.2276, 0.1965, 0.2235, 4.906e-6, 6.765e-7),
        "does not use",
        "negligible use",
    ),
    (
        "92.8 93.1 92.4",
        "92.5 92.9 92.7",
        10_000,
        (0.0667, 0.3215, -0.7319, 0.8652, -0.4753, 0.6086, 0.75382, 0.072331),
        "undecided",
        "",
    ),
    (
        "91.90 91.70 92.10 91.85 91.95",
        "92.45 92.30 92.71 92.38 92.52",
        10_000,
        (-0.5720, 0.0335, -0.6136, -0.5304, -0.6039, -0.5401, 2.800e-6, 0.99571),
        "better without",
        "",
    ),
    (
        "96.9444 97.2222 96.6667",
        "96.6667 96.9444 96.3889",
        360,
        (0.2778, 0.1134, -0.0039, 0.5595, 0.0866, 0.4689, 0.05132, 0.03846),
        "does not use",
        "",
    ),
    (
        "93.0 93.1 92.9 93.0 93.2",
        "93.0 93.0 92.9 93.1 88.0",
        10_000,
        (1.0400, 2.3266, -1.8488, 3.9288, -1.1781, 3.2581, 0.3741, 0.6844),
        "undecided",
        "",
    ),
]


@pytest.mark.parametrize("row", ROWS)
def test_single_comparisons(row: tuple) -> None:
    a, b, images, numbers, verdict, qualifier = row
    *shown, p_diff, p_equiv = numbers
    v = single(a, b, test_size=images)
    assert [v.drop, v.sd, v.ci_low, v.ci_high, v.eq_low, v.eq_high] == pytest.approx(shown, abs=1e-4)
    assert (v.p_diff, v.p_equiv) == pytest.approx((p_diff, p_equiv), rel=1e-3)
    assert (v.verdict, v.qualifier) == (verdict, qualifier)
    assert (v.ci_level, v.eq_level) == pytest.approx((0.95, 0.90))


def test_seeds_needed_by_an_undecided_one() -> None:
    v = single("92.8 93.1 92.4", "92.5 92.9 92.7")
    assert v.seeds_needed is not None and v.seeds_needed[1] == 6


@pytest.mark.parametrize(
    ("a", "b", "p_diff", "verdict", "reason"),
    [
        ("93.1 92.8 93.0", "10 10 10", 0.03125, "uses", "collapse"),
        ("93 93 93 93 93", "10 10 10 10 10", 0.00195, "uses", "collapse"),
        ("10 10 10 10 10", "93 93 93 93 93", 0.00195, "better without", "collapse"),
        ("10 10 10", "10 10 10", 1, "void", "both at chance"),
        ("93.0 93.1 92.9 93.2 93.0", "92.9 93.0 10 10 10", 0.058, "undecided", "unstable"),
        ("93.0 93.1 92.9 93.2 93.0", "92.9 nan inf 10 10", 0.02148, "uses", "collapse"),
        ("93 93.1 10 92.9 93.2", "92.9 93.2 93.0 92.8 93.1", 0.782, "undecided", "unstable"),
        ("93 10 93.1 92.9 93", "92.9 93.1 10 93 93.2", None, "undecided", "unstable"),
        ("10 10 10 10 93", "10 10 10 93 93", 1, "void", "both at chance"),
        ("93 93.1 10 93.2 93.1 93", "91.01 91 91 91.2 91.1 91", None, "uses", "survivors"),
    ],
)
def test_collapse(a: str, b: str, p_diff: float | None, verdict: str, reason: str) -> None:
    v = single(a, b)
    assert v.verdict == verdict and v.reason.startswith(reason) and v.p_equiv == 1
    assert p_diff is None or v.p_diff == pytest.approx(p_diff, abs=0.002)
    assert (v.eq_low, v.eq_high) == (None, None)


def test_diverged_ticket_counts_at_chance_in_the_drop() -> None:
    assert single("93 93 93", "nan inf 10").drop == pytest.approx(83)


def test_straggler_blocks_equality_but_stays_in_the_mean() -> None:
    a, b = [93.0] * 40, [93.0] * 39 + [80.0]
    v = single(a, b)
    assert (v.stragglers, v.dead, v.p_equiv, v.verdict) == (1, (0, 0), 1, "undecided")
    assert v.drop == pytest.approx(13 / 40)
    # Without the guard, this margin would have been kept.
    assert abs(v.drop) + 1.7 * v.sd / math.sqrt(40) < 1.0
    assert single(a, b, margin=1.0).verdict == "undecided"


def test_dense_net_at_chance_makes_all_void() -> None:
    v = single("93 93 93", "93 93 93", dense=(10.5, 10.2))
    assert (v.verdict, v.reason) == ("void", "the dense net did not learn")


def test_without_dense_run_the_best_ticket_sets_the_lines() -> None:
    assert single("60 61 62", "17 18 17", dense=None).dead == (0, 0)
    assert single("60 61 95", "17 18 17", dense=None).dead == (0, 2 + 1)


def test_failed_control_and_identical_tickets() -> None:
    same = {"a": "93 93 93", "b": "93 93 93"}
    rows = judge([compare(**same, control_ok=False, control_note="the mask has holes")], settings())
    assert (rows[0].verdict, rows[0].reason, rows[0].drop) == ("void", "the mask has holes", 0)
    assert rows[0].ci_covers == "all pairs, dead ones included"
    rows = judge([compare("93.1 92 93.5", "93 93 93", identical=True)], settings())
    assert (rows[0].verdict, rows[0].drop, rows[0].reason) == ("does not use", 0, "identical masks")
    assert (rows[0].ci_low, rows[0].ci_high, rows[0].ci_covers) == (0, 0, "identical tickets")
    assert "came out the same" in sentence(rows[0])


def test_sequence_of_looks_in_a_family() -> None:
    a = (93.02, 92.71, 93.30, 92.95, 93.11, 92.88, 93.20, 93.05)
    shuffle = (91.29, 91.02, 91.57, 91.40, 91.21, 91.10, 91.66, 91.33)
    rearrange = (93.00, 92.80, 93.21, 92.90, 93.20, 92.85, 93.11, 93.10)
    labels = (92.80, 92.70, 92.75, 93.00, 92.60, 92.55, 93.05, 92.50)
    looks, weights = UNTIL_DECIDED

    def after(n: int) -> list:
        arms = {"weight-shuffle": shuffle, "rearrange": rearrange, "random-labels": labels}
        rows = [compare(a[:n], b[:n], check) for check, b in arms.items()]
        return judge(rows, settings(looks=looks, weights=weights))

    s, r, lab = after(3)
    assert [v.verdict for v in (s, r, lab)] == ["uses", "undecided", "undecided"]
    assert (s.p_diff_seq, r.p_equiv_seq) == pytest.approx((0.001206, 0.110893), rel=1e-3)
    assert (lab.p_diff_seq, lab.p_equiv_seq) == (1, 1)
    assert (lab.cut_diff, lab.cut_equiv) == pytest.approx((0.025, 0.05 / 3))
    assert (s.ci_low, s.ci_high) == pytest.approx((1.3399, 2.0934), abs=1e-4)
    s, r, lab = after(5)
    assert [v.verdict for v in (s, r, lab)] == ["uses", "does not use", "undecided"]
    assert s.p_diff_seq == pytest.approx(0.001206, rel=1e-3) and s.decided_at == 3
    assert (r.p_equiv_seq, lab.p_equiv_seq) == pytest.approx((0.000879, 0.556593), rel=1e-3)
    assert (lab.cut_diff, lab.cut_equiv) == pytest.approx((0.025, 0.025))
    assert (r.eq_low, r.eq_high) == pytest.approx((-0.2101, 0.2021), abs=1e-4)
    s, r, lab = after(8)
    assert [v.verdict for v in (s, r, lab)] == ["uses", "does not use", "undecided"]
    assert (lab.p_diff_seq, lab.p_equiv_seq) == pytest.approx((0.061823, 0.095546), rel=1e-3)
    shown = (lab.ci_low, lab.ci_high, lab.eq_low, lab.eq_high)
    assert shown == pytest.approx((-0.0582, 0.6257, -0.0133, 0.5808), abs=1e-4)
    assert lab.seeds_needed is not None and lab.seeds_needed[1] == 12


def test_unfrozen_p_values_of_the_same_looks() -> None:
    a = np.array([93.02, 92.71, 93.30, 92.95, 93.11, 92.88, 93.20, 93.05])
    shuffle = np.array([91.29, 91.02, 91.57, 91.40, 91.21, 91.10, 91.66, 91.33])
    rearrange = np.array([93.00, 92.80, 93.21, 92.90, 93.20, 92.85, 93.11, 93.10])
    for n, weight, p_diff, p_equiv in ((5, 0.1, 6.627e-5, 0.000879), (8, 0.2, 6.63e-9, 7.33e-7)):
        plan = {"looks": (n,), "weights": (1.0,)}
        s, r = judge([compare(a[:n], shuffle[:n], "s"), compare(a[:n], rearrange[:n], "r")], settings(**plan))
        assert (s.p_diff / weight, r.p_equiv / weight) == pytest.approx((p_diff, p_equiv), rel=2e-3)


def test_p_values_equal_scipy_and_statsmodels() -> None:
    rng = np.random.default_rng(0)
    for n in (3, 5, 12, 20):
        a, b = rng.normal(93, 0.4, n), rng.normal(92.8, 0.3, n)
        v = single(a, b)
        assert v.p_diff == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue, rel=1e-9)
        assert v.p_equiv == pytest.approx(ttost_paired(a, b, -0.5, 0.5)[0], rel=1e-9)
        interval = scipy_stats.ttest_rel(a, b).confidence_interval()
        assert (v.ci_low, v.ci_high) == pytest.approx(tuple(interval), rel=1e-9)
        assert v.correlation == pytest.approx(np.corrcoef(a, b)[0, 1])
        w = single(a, b, test="welch")
        assert w.p_diff == pytest.approx(scipy_stats.ttest_ind(a, b, equal_var=False).pvalue, rel=1e-9)


def test_too_few_seeds_give_no_interval() -> None:
    plan = settings(looks=(5,), weights=(1.0,))
    for n in range(5):
        v = judge([compare([93.0] * n, [92.0] * n)], plan)[0]
        assert (v.verdict, v.ci_low, v.n) == ("undecided", None, n)
        assert f"needs 5 seeds, has {n}" in v.reason
        assert v.drop == (pytest.approx(1.0) if n else None)


def test_only_planned_looks_are_judged() -> None:
    a, b = [93.0, 93.4, 92.7, 93.1, 93.0, 92.9, 93.0], [92.8, 93.3, 92.9, 93.0, 92.1, 99.0, 99.0]
    v = judge([compare(a, b)], settings(looks=(5, 10), weights=(0.8, 0.2)))[0]
    assert v.n == 5 and "first 5 of 7 seeds; the next look is at 10" in v.reason
    v = judge([compare(a, b)], settings(looks=(5,), weights=(1.0,)))[0]
    assert "more seeds than planned" in v.reason


def test_json_has_no_nan() -> None:
    v = judge([Comparison("snip", "x", math.nan, (93.0, math.nan), (math.inf, 92.0))], settings())[0]
    values = v.to_json()
    assert values["sparsity"] is None and values["dead"] == [1, 1]
    assert all(math.isfinite(x) for x in values.values() if isinstance(x, float))
