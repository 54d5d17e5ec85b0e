"""The numbers of one verdict: shown so that no interval contradicts it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ticketlab.stats.comparison import Comparison, Settings
from ticketlab.stats.evidence import Evidence, weigh
from ticketlab.stats.health import Yardstick
from ticketlab.stats.holm import smallest_cutoff
from ticketlab.stats.population import population_interval
from ticketlab.stats.power import seeds_needed
from ticketlab.stats.reason import reason
from ticketlab.stats.replay import Outcome
from ticketlab.stats.student import t_quantile
from ticketlab.stats.verdict import BETTER_WITHOUT, DOES_NOT_USE, UNDECIDED, USES, VOID, Verdict


def row(
    c: Comparison, evidence: Sequence[Evidence], outcome: Outcome, family: int, settings: Settings, lines: Yardstick
) -> Verdict:
    """The verdict of one comparison from its evidence at the looks it reached and its place in the family.

    A decided comparison shows the look that gave its decisive p-value, an undecided one the last look it reached.
    """
    reached = len(evidence) - 1
    diff, equiv = bool(outcome.diff), bool(outcome.equiv)
    spoiled = not c.control_ok or not lines.learned
    untested = spoiled or c.identical or reached < 0
    look = int(outcome.diff_look) if diff else int(outcome.equiv_look) if equiv else reached
    eq_look = int(outcome.equiv_look) if equiv else look
    n = c.seeds if untested else settings.looks[look]
    if untested:
        a, b = (np.array(arm, dtype=float) for arm in (c.original, c.tampered))
        e = eq = weigh(a, b, lines, settings.margin, settings.image, settings.test)
    else:
        e, eq = evidence[look], evidence[eq_look]

    if spoiled or (not (diff or equiv) and not c.identical and bool(e.void)):
        verdict = VOID
    elif equiv:
        verdict = DOES_NOT_USE
    elif diff:
        verdict = USES if outcome.direction > 0 else BETTER_WITHOUT
    else:
        verdict = UNDECIDED

    cut_diff, cut_equiv = float(outcome.cut_diff), float(outcome.cut_equiv)
    est, collapsed = e.estimate, bool(e.collapsed)
    drop: float | None = float(est.drop)
    low = high = level = eq_low = eq_high = eq_level = None
    qualifier = "negligible use" if outcome.direction > 0 else "negligible gain"
    qualifier = qualifier if diff and equiv else ""
    if c.identical and not spoiled:
        drop = 0.0
    elif int(est.pairs) < 3:
        drop = _drop_of_all(c, n, lines.chance)
    elif verdict != VOID and not untested:
        # Among survivors the p-value counted twice, so the interval takes half the level.
        spent = cut_diff * settings.weights[look] / (2 if collapsed else 1)
        half = float(t_quantile(spent / 2, est.df) * est.se)
        low, high, level = float(est.drop) - half, float(est.drop) + half, 1 - spent
        sure = smallest_cutoff(settings.alpha, family, settings.multiplicity) * settings.weights[look]
        if verdict == USES and not collapsed and est.drop - t_quantile(sure / 2, est.df) * est.se > settings.margin:
            qualifier = "by more than the margin"
        if not eq.no_equality:
            spent = cut_equiv * settings.weights[eq_look]
            half = float(t_quantile(spent, eq.estimate.df) * eq.estimate.se)
            eq_low, eq_high = float(eq.estimate.drop) - half, float(eq.estimate.drop) + half
            eq_level = 1 - 2 * spent

    needed = None
    if verdict == UNDECIDED and not untested and not collapsed:
        plan = [(m, w) for m, w in zip(settings.looks, settings.weights, strict=True) if m > n]
        cut = 0.0 if e.no_equality else cut_equiv
        needed = seeds_needed(n, float(est.drop), float(est.sd), settings.margin, cut_diff, cut, plan)

    population = None
    if low is not None and not collapsed and c.correct_original is not None and c.correct_tampered is not None:
        population = population_interval(c.correct_original[:n], c.correct_tampered[:n])

    decided = verdict not in (UNDECIDED, VOID)
    decided_at = None if not decided else n if untested else settings.looks[min(int(outcome.look), reached)]
    return Verdict(
        method=c.method,
        check=c.check,
        sparsity=c.sparsity,
        n=n,
        drop=drop,
        ci_low=low,
        ci_high=high,
        ci_level=level,
        eq_low=eq_low,
        eq_high=eq_high,
        eq_level=eq_level,
        margin=settings.margin,
        p_diff=1.0 if untested else float(e.p_diff),
        p_equiv=float(outcome.p_equiv) if untested else float(eq.p_equiv),
        p_diff_seq=float(outcome.p_diff),
        p_equiv_seq=float(outcome.p_equiv),
        cut_diff=cut_diff,
        cut_equiv=cut_equiv,
        verdict=verdict,
        qualifier=qualifier,
        reason=reason(c, e, verdict, n, decided_at, needed, settings, lines),
        decided_at=decided_at,
        dead=(int(e.dead_original), int(e.dead_tampered)),
        stragglers=(int(e.stragglers_original), int(e.stragglers_tampered)),
        sd=float(est.sd) if est.pairs >= 3 else None,
        correlation=_correlation(c, n, lines),
        seeds_needed=needed,
        population_low=None if population is None else population[0],
        population_high=None if population is None else population[1],
        population_holds=None if population is None else -settings.margin < population[0] and population[1] < settings.margin,
    )


def _drop_of_all(c: Comparison, n: int, chance: float) -> float | None:
    """The mean drop of all pairs, a diverged ticket counted at chance: shown where hardly any pair survives."""
    if n == 0:
        return None
    arms = [[x if math.isfinite(x) else chance for x in arm[:n]] for arm in (c.original, c.tampered)]
    return (math.fsum(arms[0]) - math.fsum(arms[1])) / n


def _correlation(c: Comparison, n: int, lines: Yardstick) -> float | None:
    """Pearson's correlation of the arms over the pairs that both live: it tells whether pairing pays."""
    a, b = np.array(c.original[:n], dtype=float), np.array(c.tampered[:n], dtype=float)
    alive = ~(lines.dead(a) | lines.dead(b))
    a, b = a[alive], b[alive]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.clip(np.corrcoef(a, b)[0, 1], -1.0, 1.0))
