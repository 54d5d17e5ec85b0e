"""Comparing published means and standard deviations, without the pairs behind them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ticketlab.errors import InputError
from ticketlab.stats.comparison import FEWEST_SEEDS
from ticketlab.stats.student import t_quantile, t_tail
from ticketlab.stats.verdict import BETTER_WITHOUT, DOES_NOT_USE, UNDECIDED, USES


@dataclass(frozen=True)
class Summary:
    """The first mean minus the second, in points, with its two intervals and p-values."""

    drop: float
    df: float
    ci_low: float
    ci_high: float
    eq_low: float
    eq_high: float
    p_diff: float
    p_equiv: float
    verdict: str
    qualifier: str
    text: str


def compare_summaries(
    mean1: float, sd1: float, n1: int, mean2: float, sd2: float, n2: int, margin: float, alpha: float = 0.05
) -> Summary:
    """Compare two published results, each a mean and a standard deviation (points) over n runs.

    Welch's test (1947) for the difference, two one-sided Welch tests for "within the margin" (Schuirmann 1987);
    the claim stands alone, in no family. "±" is taken as the standard deviation, never as a standard error.
    Raises `InputError` for fewer than three runs, and when neither result has a spread.
    """
    if min(n1, n2) < FEWEST_SEEDS:
        raise InputError(f"asked for a verdict, got {n1} and {n2} runs. At least {FEWEST_SEEDS} of each are needed.")
    if not (sd1 >= 0 and sd2 >= 0 and 0 < sd1 + sd2 < math.inf):
        raise InputError(f"asked for standard deviations of which one is above 0, got {sd1} and {sd2}.")
    if not (margin > 0 and 0 < alpha < 1 and math.isfinite(mean1) and math.isfinite(mean2)):
        raise InputError(
            "asked for two means, a margin above 0 and an alpha between 0 and 1, "
            f"got {mean1}, {mean2}, {margin} and {alpha}."
        )
    v1, v2 = sd1**2 / n1, sd2**2 / n2
    se = math.sqrt(v1 + v2)
    df = (v1 + v2) ** 2 / (v1**2 / (n1 - 1) + v2**2 / (n2 - 1))
    drop = mean1 - mean2
    p_diff = 2 * float(t_tail(abs(drop) / se, df))
    p_equiv = float(t_tail((margin - abs(drop)) / se, df))
    far, near = float(t_quantile(alpha / 2, df)) * se, float(t_quantile(alpha, df)) * se
    differs = p_diff <= alpha
    qualifier = ""
    if p_equiv <= alpha:
        verdict = DOES_NOT_USE
        qualifier = ("negligible use" if drop > 0 else "negligible gain") if differs else ""
    elif differs:
        verdict = USES if drop > 0 else BETTER_WITHOUT
        qualifier = "by more than the margin" if verdict == USES and drop - far > margin else ""
    else:
        verdict = UNDECIDED
    text = (
        f"{drop:.2f} points ({drop - far:.2f} to {drop + far:.2f}), margin {margin:g}; from means over {n1} and {n2} "
        "runs, not paired, with ± taken as the standard deviation."
    )
    return Summary(
        drop, df, drop - far, drop + far, drop - near, drop + near, p_diff, p_equiv, verdict, qualifier, text
    )
