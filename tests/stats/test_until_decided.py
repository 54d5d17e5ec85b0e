"""Seeds for the undecided only: error rates, verdicts and seeds of the whole scheme, futility included."""

from __future__ import annotations

import numpy as np
import pytest

from ticketlab.errors import InputError
from ticketlab.stats import BETTER_WITHOUT, DOES_NOT_USE, USES, Grant, Settings, Verdict, grow, judge

from .rounds import until_decided
from .studies import UNTIL_DECIDED, agrees, at_most, compare, normal_pairs, settings, shares
from .test_error_rates import MIXED, family, family_errors

LOOKS, WEIGHTS = UNTIL_DECIDED
PLAN = settings(looks=LOOKS, weights=WEIGHTS)
STUDIES = 10_000
FAMILIES = 1_500


@pytest.mark.parametrize(
    ("r", "theta", "uses", "does_not", "mean_n"),
    [
        (0.2, 0.0, 0.000, 1.000, 4.5),
        (0.6, 0.0, 0.002, 0.995, 7.9),
        (0.6, 1.0, 0.982, 0.018, 7.8),
        (1.0, 0.0, 0.012, 0.956, 13.9),
        (1.0, 0.5, 0.352, 0.519, 15.6),
        (1.0, 1.0, 0.948, 0.032, 12.5),
        (1.5, 3.0, 1.000, 0.000, 7.0),
    ],
)
def test_rates_and_seeds(r: float, theta: float, uses: float, does_not: float, mean_n: float) -> None:
    """The references know of no stopping for futility: what it costs these rows is below what can be seen."""
    a, b = normal_pairs(np.random.default_rng(int(10 * r + theta)), STUDIES, 20, theta, r)
    outcome, seeds = until_decided(a, b, margin=1.0)
    s = shares(outcome)
    assert agrees(s["uses"], uses, STUDIES) and agrees(s["does not"], does_not, STUDIES)
    assert seeds.mean() == pytest.approx(mean_n, abs=0.2)
    if theta == 0:
        assert at_most(outcome.diff.mean(), 0.05, STUDIES)
    if theta == 1:
        assert at_most(outcome.equiv.mean(), 0.05, STUDIES)


def test_futility_saves_seeds_and_adds_no_false_claim() -> None:
    a, b = normal_pairs(np.random.default_rng(2), STUDIES, 20, 0.0, 1.5)
    on, seeds = until_decided(a, b, margin=1.0, alpha=0.05 / 12)
    off, all_seeds = until_decided(a, b, margin=1.0, alpha=0.05 / 12, futility=False)
    # The row of the reference: .066 "does not use", .930 undecided, 19.9 seeds.
    assert agrees(off.equiv.mean(), 0.066, STUDIES) and all_seeds.mean() == pytest.approx(19.9, abs=0.1)
    assert seeds.mean() < 13
    # Whoever stops early claims nothing that would not have been claimed; little that would have been is lost.
    assert not (on.decided & ~off.decided).any()
    assert off.decided.mean() - on.decided.mean() < 0.03


@pytest.mark.parametrize(
    ("theta", "sd", "errors", "mean_n"),
    [(MIXED, 0.3, (0.029, 0.012), 9.3), ([0.0] * 12, 0.4, (0.035, 0.0), 15.1), ([0.5] * 12, 0.4, (0.0, 0.034), 13.7)],
)
def test_families_keep_both_levels(theta: list[float], sd: float, errors: tuple[float, float], mean_n: float) -> None:
    a, b = family(np.random.default_rng(4), theta, sd, FAMILIES)
    outcome, seeds = until_decided(a, b)
    found = family_errors(outcome, theta)
    for rate, reference in zip(found, errors, strict=True):
        assert agrees(rate, reference, FAMILIES, 0.004) and at_most(rate, 0.05, FAMILIES)
    assert seeds.mean() == pytest.approx(mean_n, abs=0.5)


def test_looks_at_full_level_would_break_both_levels() -> None:
    """The control: the tests above notice a scheme that does not pay for its looks."""
    full = [1.0] * len(LOOKS)
    for theta, sd in ((0.0, 0.5), (0.5, 0.5)):
        pairs = normal_pairs(np.random.default_rng(5), STUDIES, 20, theta, sd)
        outcome, _ = until_decided(*pairs, weights=full, futility=False)
        assert not at_most((outcome.equiv if theta else outcome.diff).mean(), 0.05, STUDIES)
    a, b = family(np.random.default_rng(4), MIXED, 0.3, FAMILIES)
    outcome, seeds = until_decided(a, b, weights=full, futility=False)
    wrong, missed = family_errors(outcome, MIXED)
    assert agrees(wrong, 0.118, FAMILIES, 0.006) and not at_most(wrong, 0.05, FAMILIES)
    assert agrees(missed, 0.061, FAMILIES, 0.006) and seeds.mean() == pytest.approx(6.8, abs=0.2)


def one_by_one(a: np.ndarray, b: np.ndarray, plan: Settings) -> tuple[list[Verdict], list[int]]:
    """The rounds as a real study takes them."""
    granted = [plan.looks[0]] * len(a)
    while True:
        found = judge(
            [compare(x[:n], y[:n], str(i)) for i, (x, y, n) in enumerate(zip(a, b, granted, strict=True))], plan
        )
        more = grow(found, granted, plan)
        if all(grant.seeds is None for grant in more):
            return found, granted
        granted = [grant.seeds or n for grant, n in zip(more, granted, strict=True)]


def test_what_is_simulated_is_what_studies_do() -> None:
    theta = [0.0, 0.5, 1.5, 0.2, 0.0, -1.0]
    a, b = family(np.random.default_rng(6), theta, 0.5, 25)
    outcome, seeds = until_decided(a, b)
    stopped = 0
    for i in range(len(a)):
        verdicts, granted = one_by_one(a[i], b[i], PLAN)
        assert granted == seeds[i].tolist()
        assert [v.decided for v in verdicts] == outcome.decided[i].tolist()
        assert [v.verdict == DOES_NOT_USE for v in verdicts] == outcome.equiv[i].tolist()
        ups = outcome.direction[i] > 0
        claimed = [v.verdict in (USES, BETTER_WITHOUT) for v in verdicts]
        assert [v.verdict == USES for v in verdicts if v.verdict in (USES, BETTER_WITHOUT)] == ups[claimed].tolist()
        stopped += sum(not v.decided and n < 20 for v, n in zip(verdicts, granted, strict=True))
    assert stopped, "no comparison was given up"


def test_the_example_of_the_specification() -> None:
    """Shuffle is decided at 3 seeds, rearrange at 5, labels not by 8: each has the seeds of its own."""
    a = np.array([93.02, 92.71, 93.30, 92.95, 93.11, 92.88, 93.20, 93.05])
    arms = {
        "shuffle": [91.29, 91.02, 91.57],
        "rearrange": [93.00, 92.80, 93.21, 92.90, 93.20],
        "labels": [92.80, 92.70, 92.75, 93.00, 92.60, 92.55, 93.05, 92.50],
    }
    rows = [compare(a[: len(b)], b, check) for check, b in arms.items()]
    found = judge(rows, PLAN)
    assert [v.verdict for v in found] == ["uses", "does not use", "undecided"]
    assert [(v.n, v.decided_at) for v in found] == [(3, 3), (5, 5), (8, None)]
    assert [grant.seeds for grant in grow(found, [3, 5, 8], PLAN)] == [None, None, 12]
    for look, expected in ((3, [None, 5, 5]), (5, [None, None, 8])):
        at = judge([compare(a[: min(look, len(b))], b[:look], check) for check, b in arms.items()], PLAN)
        assert [g.seeds for g in grow(at, [min(look, len(b)) for b in arms.values()], PLAN)] == expected


def after(a: str, b: str, **more: object) -> Grant:
    found = judge([compare(a, b, **more)], PLAN)
    return grow(found, [found[0].n], PLAN)[0]


def test_who_gets_no_more_seeds_and_why() -> None:
    assert after("93 93.1 92.9", "91 91.1 90.9") == Grant(None, "decided")
    assert after("93 93.1 92.9", "92 93.1 92.9", control_ok=False) == Grant(None, "void")
    assert after("10 10 10", "10 10 10").seeds == 5 and after("10 10 10 10 10", "10 10 10 10 10").why == "void"
    # Any spread at three seeds is worth two more.
    assert after("93 80 92", "90 93 91").seeds == 5
    hopeless = after("93 80 92 91 88", "90 93 91 88 89")
    assert hopeless == Grant(None, "stopped at 5 seeds: the chance of a verdict by 20 was below 10%")
    wide = " ".join(str(93 + x) for x in (-0.4, 1.0) * 10)
    assert after(wide, "93 " * 20) == Grant(None, "the last look, at 20 seeds, was taken")


def test_what_was_stopped_stays_stopped() -> None:
    """Late evidence at a look that others were judged by could rename their verdicts."""
    near = judge([compare("93 93.1 92.4", "92.5 92.9 92.7")], PLAN)[0]
    assert grow([near, near], [3, 3], PLAN)[0].seeds == 5
    assert [g.seeds for g in grow([near, near], [3, 5], PLAN)] == [None, 8]
    with pytest.raises(InputError, match="each of 2 verdicts, got 1"):
        grow([near, near], [3], PLAN)
