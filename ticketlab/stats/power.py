"""How likely a verdict is, and how many seeds it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ticketlab.stats.comparison import FEWEST_SEEDS, Settings
from ticketlab.stats.holm import smallest_cutoff
from ticketlab.stats.student import Array, Number, t_quantile

MOST_SEEDS = 200
POWER = 0.8


@lru_cache(maxsize=8)
def _spreads(seeds: tuple[int, ...]) -> Array:
    """400 mid-quantiles of sample sd / true sd for each seed count: (seeds, 400)."""
    from scipy.special import gammaincinv

    half = (np.array(seeds)[:, None] - 1) / 2
    return np.asarray(np.sqrt(gammaincinv(half, (np.arange(400) + 0.5) / 400) / half))


def p_decide(
    seeds: int | Sequence[int], theta: Number, sd: Number, margin: float, cut_diff: Number, cut_equiv: Number
) -> Array:
    """The chance that `seeds` pairs decide a comparison with the true drop `theta` and the sd `sd` (points).

    `cut_diff` and `cut_equiv` are the p-values needed. Differences are taken as normal, the test as paired: for
    the Welch test the answer is a little pessimistic. One chance for each entry of `seeds`, or, for a single count,
    for each entry of the others.
    """
    from scipy.special import ndtr

    counts = (seeds,) if isinstance(seeds, int) else tuple(seeds)
    shape = np.broadcast_shapes(np.shape(seeds), *map(np.shape, (theta, sd, cut_diff, cut_equiv)))
    theta, sd, cut_diff, cut_equiv = (np.asarray(x, dtype=float)[..., None] for x in (theta, sd, cut_diff, cut_equiv))
    n = np.array(counts, dtype=float)[:, None]
    scale = sd / np.sqrt(n)
    se = _spreads(counts) * scale
    far = t_quantile(cut_diff / 2, n - 1) * se
    near = np.maximum(margin - t_quantile(cut_equiv, n - 1) * se, 0.0)

    def within(bound: Array) -> Array:
        return np.asarray(ndtr((bound - theta) / scale) - ndtr((-bound - theta) / scale))

    # Decided: |drop| >= far or |drop| < near. The two overlap when near > far.
    chance = 1 - np.where(near >= far, 0.0, within(far) - within(near))
    return np.asarray(chance.mean(-1).reshape(shape))


def seeds_needed(
    seeds: int,
    drop: float,
    sd: float,
    margin: float,
    cut_diff: float,
    cut_equiv: float,
    plan: Sequence[tuple[int, float]] = (),
) -> tuple[int | None, int | None, int | None]:
    """Seeds in all (low, best, high) that would decide with a chance of 0.8, given the estimates from `seeds`.

    Of the looks still planned, (seeds, weight), the first that suffices; when none does, the fewest seeds of a
    fresh study, up to 200 (None: more). low and high take the sd from its 80% interval. Points throughout.
    """
    from scipy.special import gammaincinv

    df = seeds - 1

    def fewest(spread: float) -> int | None:
        for n, w in plan:
            if p_decide(n, abs(drop), spread, margin, cut_diff * w, cut_equiv * w) >= POWER:
                return n
        free = range(max(FEWEST_SEEDS, seeds + 1, *(n + 1 for n, _ in plan)), MOST_SEEDS + 1)
        good = p_decide(free, abs(drop), spread, margin, cut_diff, cut_equiv) >= POWER
        return int(free[int(np.argmax(good))]) if good.any() else None

    def spread_at(quantile: float) -> float:
        return sd * math.sqrt(df / (2 * float(gammaincinv(df / 2, quantile))))

    return fewest(spread_at(0.9)), fewest(sd), fewest(spread_at(0.1))


def half_widths(seeds: Number, cut_diff: float, cut_equiv: float) -> tuple[Array, Array]:
    """Half-widths of the two intervals in units of sd(d): |drop| must exceed the first to be a difference,
    margin - |drop| the second to be no difference."""
    n = np.asarray(seeds, dtype=float)
    return t_quantile(cut_diff / 2, n - 1) / np.sqrt(n), t_quantile(cut_equiv, n - 1) / np.sqrt(n)


@dataclass(frozen=True)
class Feasible:
    """What a look can show at best. `sd_equiv`: the largest sd(d) at which "does not use" is possible;
    `sd_diff`: the largest at which a drop of one margin is seen as a difference. Points."""

    seeds: int
    sd_diff: float
    sd_equiv: float


def feasible(settings: Settings, family: int) -> list[Feasible]:
    """The largest spreads that leave a verdict possible, for each look and a family of `family` comparisons."""
    rows = []
    for n, w in zip(settings.looks, settings.weights, strict=True):
        cut = smallest_cutoff(settings.alpha, family, settings.multiplicity) * w
        far, near = half_widths(n, cut, cut)
        rows.append(Feasible(n, settings.margin / float(far), settings.margin / float(near)))
    return rows
