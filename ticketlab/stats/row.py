"""The numbers of one verdict: shown so that no interval contradicts it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ticketlab.stats.comparison import FEWEST_SEEDS, Comparison, Settings
from ticketlab.stats.evidence import Evidence, weigh
from ticketlab.stats.health import Yardstick
from ticketlab.stats.holm import smallest_cutoff
from ticketlab.stats.paired import Estimate, estimate
from ticketlab.stats.population import population_interval
from ticketlab.stats.power import seeds_needed
from ticketlab.stats.reason import reason
from ticketlab.stats.replay import Outcome
from ticketlab.stats.student import Array, t_quantile
from ticketlab.stats.verdict import BETTER_WITHOUT, DOES_NOT_USE, UNDECIDED, USES, VOID, Verdict


class Interval(NamedTuple):
    low: float | None = None
    high: float | None = None
    level: float | None = None

    def inside(self, margin: float) -> bool | None:
        return None if self.low is None or self.high is None else -margin < self.low and self.high < margin


def row(
    c: Comparison, evidence: Sequence[Evidence], outcome: Outcome, family: int, settings: Settings, lines: Yardstick
) -> Verdict:
    """The verdict of one comparison from its evidence at the looks it reached and its place in the family.

    A decided comparison shows the look that gave its decisive p-value, an undecided one the last look it reached.
    """
    diff, equiv = bool(outcome.diff), bool(outcome.equiv)
    spoiled = not c.control_ok or not lines.learned
    reached = len(evidence) - 1
    untested = spoiled or c.identical or reached < 0
    look = int(outcome.diff_look) if diff else int(outcome.equiv_look) if equiv else reached
    eq_look = int(outcome.equiv_look) if equiv else look
    if untested:
        n = c.seeds
        e = eq = weigh(*_arms(c, n), lines, settings.margin, settings.image, settings.test)
    else:
        n = settings.looks[look]
        e, eq = evidence[look], evidence[eq_look]
    verdict = _verdict(outcome, spoiled or (not (diff or equiv) and bool(e.void)))
    ordinary = not untested and verdict != VOID
    collapsed = bool(e.collapsed)
    few = e.estimate.pairs < FEWEST_SEEDS

    ci = eq_ci = Interval()
    if ordinary and not few:
        # Among survivors the p-value counted twice, so the interval takes half the level.
        spent = float(outcome.cut_diff) * settings.weights[look] / (2 if collapsed else 1)
        ci = _around(e.estimate, spent / 2, 1 - spent)
    if ordinary and not eq.no_equality:
        spent = float(outcome.cut_equiv) * settings.weights[eq_look]
        eq_ci = _around(eq.estimate, spent, 1 - 2 * spent)

    covers = "" if ci.low is None else "surviving pairs" if collapsed else "pairs"
    if ci.low is None and reached >= 0 and not (c.identical and not spoiled):
        # No test rests on this one; it keeps the numbers of a row complete where too few tickets survive.
        ci = _of_all(c, n, float(outcome.cut_diff) * settings.weights[max(look, 0)], lines.chance, settings)
        covers = "all pairs, dead ones included"
    if c.identical and not spoiled:
        ci, covers = Interval(0.0, 0.0, None), "identical tickets"

    needed = None
    if verdict == UNDECIDED and ordinary and not collapsed:
        plan = [(m, w) for m, w in zip(settings.looks, settings.weights, strict=True) if m > n]
        cuts = float(outcome.cut_diff), 0.0 if e.no_equality else float(outcome.cut_equiv)
        needed = seeds_needed(n, float(e.estimate.drop), float(e.estimate.sd), settings.margin, *cuts, plan)

    population = Interval()
    if ordinary and not (few or collapsed) and c.correct_original is not None and c.correct_tampered is not None:
        population = Interval(*population_interval(c.correct_original[:n], c.correct_tampered[:n]))

    decided_at = None
    if verdict not in (UNDECIDED, VOID):
        decided_at = n if untested else settings.looks[min(int(outcome.look), reached)]
    qualifier = ""
    if diff and equiv:
        qualifier = "negligible use" if outcome.direction > 0 else "negligible gain"
    elif verdict == USES and not collapsed:
        sure = smallest_cutoff(settings.alpha, family, settings.multiplicity) * settings.weights[look]
        beyond = e.estimate.drop - t_quantile(sure / 2, e.estimate.df) * e.estimate.se > settings.margin
        qualifier = "by more than the margin" if beyond else ""
    drop = _drop_of_all(c, n, lines.chance) if covers.startswith("all") or few else float(e.estimate.drop)
    return Verdict(
        method=c.method,
        check=c.check,
        sparsity=c.sparsity,
        n=n,
        drop=0.0 if c.identical and not spoiled else drop,
        ci_low=ci.low,
        ci_high=ci.high,
        ci_level=ci.level,
        ci_covers=covers,
        eq_low=eq_ci.low,
        eq_high=eq_ci.high,
        eq_level=eq_ci.level,
        margin=settings.margin,
        p_diff=1.0 if untested else float(e.p_diff),
        p_equiv=float(outcome.p_equiv) if untested else float(eq.p_equiv),
        p_diff_seq=float(outcome.p_diff),
        p_equiv_seq=float(outcome.p_equiv),
        cut_diff=float(outcome.cut_diff),
        cut_equiv=float(outcome.cut_equiv),
        verdict=verdict,
        qualifier=qualifier,
        reason=reason(c, e, verdict, n, decided_at, needed, settings, lines),
        decided_at=decided_at,
        dead=(int(e.dead_original), int(e.dead_tampered)),
        stragglers=int(e.stragglers),
        sd=None if few else float(e.estimate.sd),
        correlation=_correlation(c, n, lines),
        seeds_needed=needed,
        population_low=population.low,
        population_high=population.high,
        population_holds=population.inside(settings.margin),
    )


def _verdict(outcome: Outcome, void: bool) -> str:
    if void:
        return VOID
    if outcome.equiv:
        return DOES_NOT_USE
    if outcome.diff:
        return USES if outcome.direction > 0 else BETTER_WITHOUT
    return UNDECIDED


def _around(e: Estimate, tail: float, level: float) -> Interval:
    half = float(t_quantile(tail, e.df) * e.se)
    return Interval(float(e.drop) - half, float(e.drop) + half, level)


def _arms(c: Comparison, n: int) -> tuple[Array, Array]:
    return np.array(c.original[:n], dtype=float), np.array(c.tampered[:n], dtype=float)


def _drop_of_all(c: Comparison, n: int, chance: float) -> float | None:
    """The mean drop of all pairs, a diverged ticket counted at chance: shown where hardly any pair survives."""
    if n == 0:
        return None
    original, tampered = _all_arms(c, n, chance)
    return (math.fsum(original) - math.fsum(tampered)) / n


def _of_all(c: Comparison, n: int, spent: float, chance: float, settings: Settings) -> Interval:
    """The difference interval over all pairs, dead ones included."""
    arms = _all_arms(c, n, chance)
    return _around(estimate(*arms, np.ones(n, dtype=bool), settings.image, settings.test), spent / 2, 1 - spent)


def _all_arms(c: Comparison, n: int, chance: float) -> tuple[Array, Array]:
    """Both arms with diverged tickets at chance."""
    original, tampered = (np.where(np.isfinite(arm), arm, chance) for arm in _arms(c, n))
    return original, tampered


def _correlation(c: Comparison, n: int, lines: Yardstick) -> float | None:
    """Pearson's correlation of the arms over the pairs that both live: it tells whether pairing pays."""
    a, b = _arms(c, n)
    alive = ~(lines.dead(a) | lines.dead(b))
    a, b = a[alive], b[alive]
    if len(a) < FEWEST_SEEDS or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.clip(np.corrcoef(a, b)[0, 1], -1.0, 1.0))
