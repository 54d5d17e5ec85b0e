from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from ticketlab.stats import feasible, half_widths, next_look, p_decide, seeds_needed

from .studies import UNTIL_DECIDED, compare, judge, settings


@pytest.mark.parametrize(
    ("n", "theta", "sd", "cut", "chance"),
    [
        (5, 0, 0.3, 0.05, 0.8463),
        (8, 0.5, 0.4, 0.05, 0.8828),
        (12, 0.1, 0.4, 0.05 / 12, 0.5846),
        (5, 1, 0.5, 0.05, 0.909),
    ],
)
def test_p_decide(n: int, theta: float, sd: float, cut: float, chance: float) -> None:
    assert p_decide(n, theta, sd, 0.5, cut, cut) == pytest.approx(chance, abs=1e-4)


def test_chance_of_a_difference_is_the_noncentral_t() -> None:
    for n, effect in ((3, 2.0), (5, 1.0), (12, 0.7)):
        power = TTestPower().power(effect, n, 0.05)
        # A hair's margin leaves only the difference.
        assert p_decide(n, effect, 1.0, 1e-12, 0.05, 0.05) == pytest.approx(power, abs=2e-4)


RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0)
EQUIVALENCE = {
    1: "3/3 3/3 3/3 4/4 4/5 5/6 8/9 11/13 15/19 21/26 36/45",
    4: "3/3 4/4 4/5 5/6 6/7 8/9 11/13 16/18 23/27 31/37 53/63",
    12: "3/4 4/4 5/6 6/7 8/9 10/11 14/16 19/22 28/33 39/45 65/77",
    32: "4/4 5/5 6/7 7/8 9/10 11/13 16/18 23/26 33/38 45/53 77/90",
}
EFFECTS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0)
DIFFERENCE = {
    1: "34/44 16/21 10/13 6/7 5/5 4/4 3/3 3/3 3/3",
    4: "48/61 24/29 15/18 9/10 7/7 5/5 4/5 4/4 3/3",
    12: "60/73 29/35 18/22 11/12 8/9 6/6 5/5 4/4 4/4",
    32: "70/85 34/41 21/25 12/14 9/10 7/7 6/6 5/5 4/4",
}


def fewest(chances: np.ndarray) -> str:
    return "/".join(str(3 + int(np.argmax(chances >= power))) for power in (0.8, 0.9))


@pytest.mark.parametrize("m", EQUIVALENCE)
def test_seeds_for_a_verdict(m: int) -> None:
    seeds = range(3, 120)
    found = [fewest(p_decide(seeds, 0, r, 1.0, 0, 0.05 / m)) for r in RATIOS]
    assert " ".join(found) == EQUIVALENCE[m]
    found = [fewest(p_decide(seeds, theta, 1.0, 1e-12, 0.05 / m, 0)) for theta in EFFECTS]
    assert " ".join(found) == DIFFERENCE[m]


def test_seeds_needed() -> None:
    assert seeds_needed(5, 0.3, 0.5, 0.5, 0.05, 0.05)[1] == 13
    assert seeds_needed(5, 0.3, 0.5, 0.5, 0.05 / 12, 0.05 / 12)[1] == 30
    assert seeds_needed(5, -0.45, 0.6, 0.5, 0.05, 0.05)[1] == 14
    low, best, high = seeds_needed(5, 0.3, 0.5, 0.5, 0.05, 0.05)
    assert low is not None and best is not None and high is not None and low < best < high
    assert seeds_needed(5, 0.0, 50.0, 0.5, 0.05, 0.05) == (None, None, None)


@pytest.mark.parametrize(
    ("n", "widths"),
    [
        (3, (2.48, 1.69, 5.12, 3.58, 8.92, 6.28, 14.6, 10.3)),
        (4, (1.59, 1.18, 2.70, 2.09, 3.97, 3.12, 5.55, 4.38)),
        (5, (1.24, 0.95, 1.93, 1.56, 2.63, 2.17, 3.42, 2.85)),
        (6, (1.05, 0.82, 1.56, 1.29, 2.03, 1.72, 2.54, 2.17)),
        (8, (0.84, 0.67, 1.18, 1.00, 1.48, 1.29, 1.77, 1.56)),
        (12, (0.64, 0.52, 0.86, 0.75, 1.04, 0.93, 1.20, 1.09)),
        (20, (0.47, 0.39, 0.62, 0.54, 0.73, 0.66, 0.82, 0.76)),
    ],
)
def test_half_widths(n: int, widths: tuple[float, ...]) -> None:
    found = [float(w) for m in (1, 4, 12, 32) for w in half_widths(n, 0.05 / m, 0.05 / m)]
    assert found == pytest.approx(widths, rel=0.005, abs=0.0051)


def test_feasible_spread_is_the_edge_of_a_verdict() -> None:
    (look,) = feasible(settings(looks=(5,), weights=(1.0,)), 1)
    for factor, verdict in ((0.999, "does not use"), (1.001, "undecided")):
        d = np.array([-1, -1, 0, 1, 1.0]) * look.sd_equiv * factor
        row = judge([compare(93 + d, [93.0] * 5)], settings(looks=(5,), weights=(1.0,)))[0]
        assert row.verdict == verdict


def test_next_look() -> None:
    looks, weights = UNTIL_DECIDED
    plan = settings(looks=looks, weights=weights)

    def after(a: str, b: str, **more: object) -> int | None:
        return next_look(judge([compare(a, b, **more)], plan)[0], plan)

    assert after("93", "93") == 3
    assert after("93 93.1 92.9", "93.1 92.9 93") == 5
    assert after("93 93.1 92.9", "91 91.1 90.9") is None
    assert after("93 93.1 92.9", "93 93.1 92.9", control_ok=False) is None
    assert after("10 10 10", "10 10 10") == 5
    assert after("10 10 10 10 10", "10 10 10 10 10") is None
    assert after("93 93 93", "93 93 10") == 5
    # Hopeless: a spread of many points against a margin of half a point.
    assert after("93 80 92 91 88", "90 93 91 88 89") is None
