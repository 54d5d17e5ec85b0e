"""What must hold for any data."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ticketlab.stats import Comparison, Settings, Verdict, judge
from ticketlab.stats.paired import estimate

from .studies import settings

# No deadline: the first example imports scipy. Always the same examples: a build must not fail by chance.
usual = hypothesis_settings(deadline=None, derandomize=True)

PLAN = {"looks": (3, 5, 8), "weights": (0.3, 0.3, 0.4)}
ILLNESS = st.sampled_from(["", "", "", "one dead", "many dead", "straggler", "diverged"])


@st.composite
def comparison(draw: st.DrawFn, check: str = "0", seeds: int = 8, healthy: bool = False) -> Comparison:
    """Tickets around 90%, with a drop and a spread near the margin and perhaps something wrong."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    spread = draw(st.sampled_from([0.0, 0.02, 0.1, 0.3, 1.0]))
    drop = draw(st.sampled_from([-1.0, -0.5, -0.2, 0.0, 0.05, 0.2, 0.5, 1.0]))
    a, b = rng.normal(90, spread, seeds), rng.normal(90 - drop, spread, seeds)
    for arm in (a, b):
        illness = "" if healthy else draw(ILLNESS)
        if illness == "many dead":
            arm[rng.uniform(size=seeds) < 0.7] = 10.0
        elif illness:
            arm[rng.integers(seeds)] = {"one dead": 10.0, "straggler": 75.0, "diverged": np.nan}[illness]
    # Accuracies lie on the grid of the test images.
    return Comparison("snip", check, 0.9, tuple(a.round(2)), tuple(b.round(2)))


@st.composite
def report(draw: st.DrawFn) -> list[Comparison]:
    return [draw(comparison(check=str(i))) for i in range(draw(st.integers(1, 4)))]


def cut(c: Comparison, n: int) -> Comparison:
    return dataclasses.replace(c, original=c.original[:n], tampered=c.tampered[:n])


def facts(v: Verdict) -> dict[str, object]:
    """Everything but the wording, which may name the seeds that were not used."""
    return {k: x for k, x in v.to_json().items() if k != "reason"}


def plan(multiplicity: str = "holm") -> Settings:
    return settings(**PLAN, multiplicity=multiplicity)


FLIPPED = {"uses": "better without", "better without": "uses"}


@usual
@given(comparison())
def test_swapping_the_arms_flips_the_direction(c: Comparison) -> None:
    (v,) = judge([c], plan())
    (w,) = judge([dataclasses.replace(c, original=c.tampered, tampered=c.original)], plan())
    assert w.verdict == FLIPPED.get(v.verdict, v.verdict)
    assert (w.p_diff, w.p_equiv) == pytest.approx((v.p_diff, v.p_equiv))
    assert w.drop == pytest.approx(-v.drop, abs=1e-9) and w.dead == v.dead[::-1]


@usual
@given(comparison(), st.sampled_from([-3.0, 0.25, 4.0]))
def test_adding_a_constant_to_both_arms_changes_nothing(c: Comparison, shift: float) -> None:
    def moved(arm: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(x if x == 10.0 else x + shift for x in arm)

    (v,) = judge([c], plan())
    (w,) = judge([dataclasses.replace(c, original=moved(c.original), tampered=moved(c.tampered))], plan())
    assert (w.verdict, w.qualifier) == (v.verdict, v.qualifier)
    assert (w.p_diff_seq, w.p_equiv_seq) == pytest.approx((v.p_diff_seq, v.p_equiv_seq), rel=1e-6, abs=1e-12)


@usual
@given(comparison(healthy=True), st.sampled_from([0.25, 0.5, 2.0, 4.0]))
def test_scaling_drop_margin_and_image_together_changes_nothing(c: Comparison, scale: float) -> None:
    a, b, use = np.array(c.original), np.array(c.tampered), np.ones(c.seeds, dtype=bool)
    e, f = estimate(a, b, use, 0.01), estimate(scale * a, scale * b, use, scale * 0.01)
    assert e.p_diff() == pytest.approx(f.p_diff()) and e.p_equiv(0.5) == pytest.approx(f.p_equiv(scale * 0.5))


@usual
@given(comparison(), st.permutations(range(8)))
def test_order_of_the_seeds_within_a_look_is_irrelevant(c: Comparison, order: list[int]) -> None:
    other = dataclasses.replace(
        c, original=tuple(c.original[i] for i in order), tampered=tuple(c.tampered[i] for i in order)
    )
    (v,), (w,) = (judge([x], settings(looks=(8,), weights=(1.0,))) for x in (c, other))
    assert w.verdict == v.verdict and w.p_equiv == pytest.approx(v.p_equiv) and w.p_diff == pytest.approx(v.p_diff)


@usual
@given(report(), comparison(check="added"), st.sampled_from(["holm", "none"]))
def test_adding_a_comparison_decides_no_other(rows: list[Comparison], added: Comparison, rule: str) -> None:
    at_once = settings(looks=(8,), weights=(1.0,), multiplicity=rule)
    for v, w in zip(judge(rows, at_once), judge([*rows, added], at_once), strict=False):
        assert v.decided or not w.decided


@usual
@given(report(), st.sampled_from(["holm", "bh", "none"]))
def test_more_looks_never_change_a_verdict(rows: list[Comparison], rule: str) -> None:
    before: dict[str, Verdict] = {}
    for n in (3, 5, 8):
        for v in judge([cut(c, n) for c in rows], plan(rule)):
            assert v.check not in before or facts(v) == facts(before[v.check])
            if v.decided:
                before[v.check] = v


@usual
@given(report(), st.sampled_from(["holm", "bh", "none"]))
def test_a_study_that_stops_each_comparison_when_decided_ends_the_same(rows: list[Comparison], rule: str) -> None:
    done = judge(rows, plan(rule))
    stopped = [cut(c, v.decided_at or c.seeds) for c, v in zip(rows, done, strict=True)]
    assert [facts(v) for v in judge(stopped, plan(rule))] == [facts(v) for v in done]


def includes(v: Verdict, value: float) -> bool:
    assert v.ci_low is not None and v.ci_high is not None
    return v.ci_low <= value <= v.ci_high


@usual
@given(report(), st.sampled_from(["holm", "bh", "none"]), st.sampled_from(["paired", "welch"]))
def test_no_interval_contradicts_its_verdict(rows: list[Comparison], rule: str, test: str) -> None:
    for v in judge(rows, settings(**PLAN, multiplicity=rule, test=test)):
        inside = v.eq_low is not None and -v.margin < v.eq_low and v.eq_high < v.margin
        assert inside == (v.verdict == "does not use")
        assert v.ci_low is None or includes(v, v.drop)
        untested = v.ci_low is None or v.ci_covers.startswith("all pairs")
        assert v.verdict != "void" or untested
        if untested:
            continue
        if not v.reason.startswith("collapse"):
            claimed = v.verdict in ("uses", "better without") or "negligible" in v.qualifier
            assert claimed == (not includes(v, 0.0))
        if v.verdict in FLIPPED and not any(v.dead):
            assert (v.drop > 0) == (v.verdict == "uses")


@pytest.mark.slow
@hypothesis_settings(max_examples=1000, deadline=None, derandomize=True)
@given(report(), st.sampled_from(["holm", "bh", "none"]))
def test_no_interval_contradicts_its_verdict_in_many_reports(rows: list[Comparison], rule: str) -> None:
    test_no_interval_contradicts_its_verdict.hypothesis.inner_test(rows, rule, "paired")
    test_more_looks_never_change_a_verdict.hypothesis.inner_test(rows, rule)
    test_a_study_that_stops_each_comparison_when_decided_ends_the_same.hypothesis.inner_test(rows, rule)
