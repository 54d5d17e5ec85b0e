"""Simulated studies, judged by the functions that judge real ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ticketlab.stats import Comparison, Settings, Verdict, judge
from ticketlab.stats.evidence import Evidence, weigh
from ticketlab.stats.health import yardstick
from ticketlab.stats.replay import Looks, Outcome, replay

LINES = yardstick(10_000, 10.0, 94.6)
UNTIL_DECIDED = (3, 5, 8, 12, 20), (0.05, 0.10, 0.20, 0.25, 0.40)


def settings(**changes: object) -> Settings:
    """CIFAR-10 with a margin of 0.5 points, one look at three seeds."""
    usual = {"test_size": 10_000, "chance": 10.0, "dense": (94.6,), "margin": 0.5, "looks": (3,), "weights": (1.0,)}
    return Settings(**{**usual, **changes})  # type: ignore[arg-type]


def compare(a: Sequence[float] | str, b: Sequence[float] | str, check: str = "rearrange", **more: object) -> Comparison:
    arms = [tuple(map(float, arm.split())) if isinstance(arm, str) else tuple(arm) for arm in (a, b)]
    return Comparison("snip", check, 0.9, *arms, **more)  # type: ignore[arg-type]


def single(a: Sequence[float] | str, b: Sequence[float] | str, **changes: object) -> Verdict:
    """One comparison, judged at all its seeds."""
    c = compare(a, b)
    return judge([c], settings(looks=(c.seeds,), **changes))[0]


def evidence_at(a: np.ndarray, b: np.ndarray, looks: Sequence[int], margin: float, image: float) -> list[Evidence]:
    return [weigh(a[..., :n], b[..., :n], LINES, margin, image) for n in looks]


def simulate(
    a: np.ndarray,
    b: np.ndarray,
    looks: Sequence[int],
    weights: Sequence[float],
    margin: float = 0.5,
    alpha: float = 0.05,
    image: float = 0.01,
) -> tuple[Outcome, np.ndarray]:
    """The outcomes, and which are void, of (studies, comparisons, seeds). Arms that are void from five seeds on get
    no more seeds, as in a real study."""
    evidence = evidence_at(a, b, looks, margin, image)
    names = ("p_diff", "p_equiv", "direction", "no_equality", "void")
    arrays = {name: np.stack([getattr(e, name) for e in evidence], axis=-2) for name in names}
    for k in range(1, len(looks)):
        if looks[k - 1] >= 5:
            stopped = arrays["void"][..., k - 1, :]
            for name, value in (("p_diff", 1.0), ("p_equiv", 1.0), ("no_equality", True), ("void", True)):
                arrays[name][..., k, :] = np.where(stopped, value, arrays[name][..., k, :])
    outcome = replay(Looks(**arrays), weights, alpha)
    return outcome, arrays["void"][..., -1, :] & ~outcome.decided


def shares(outcome: Outcome) -> dict[str, float]:
    """How often each verdict falls."""
    diff, equiv, up = outcome.diff, outcome.equiv, outcome.direction > 0
    return {
        "uses": (diff & ~equiv & up).mean(),
        "better": (diff & ~equiv & ~up).mean(),
        "does not": equiv.mean(),
        "negligible": (equiv & diff).mean(),
        "undecided": (~diff & ~equiv).mean(),
    }


def agrees(rate: float, reference: float, studies: int, reference_se: float = 0.002) -> bool:
    """Within four combined standard errors of a simulated reference, which is rounded to three digits."""
    se = np.sqrt(max(rate * (1 - rate), 1 / studies) / studies + reference_se**2)
    return abs(rate - reference) <= 4 * se + 0.0005


def at_most(rate: float, level: float, studies: int) -> bool:
    """Within three standard errors of keeping a level."""
    return rate <= level + 3 * np.sqrt(level * (1 - level) / studies)


def normal_pairs(
    rng: np.random.Generator, studies: int, n: int, theta: float, sd: float
) -> tuple[np.ndarray, np.ndarray]:
    """Single comparisons with drops of mean theta and sd `sd`, both arms equally noisy and independent."""
    a = rng.normal(93 + theta, sd / np.sqrt(2), (studies, 1, n))
    return a, rng.normal(93, sd / np.sqrt(2), (studies, 1, n))
