from __future__ import annotations

import numpy as np
import pytest

from ticketlab.errors import InputError
from ticketlab.stats import Comparison, judge, plan_looks, population_interval, resolve_margin
from ticketlab.stats.health import yardstick

from .studies import compare, settings


def test_plans() -> None:
    assert plan_looks(5) == ((5, 10, 20), (0.8, 0.1, 0.1))
    assert plan_looks(7, final=True) == ((7,), (1.0,))
    looks, weights = plan_looks(3, until_decided=True)
    assert looks == (3, 5, 8, 12, 20) and sum(weights) == pytest.approx(1)
    with pytest.raises(InputError, match="got 2 seeds"):
        plan_looks(2)
    with pytest.raises(InputError, match="Choose one"):
        plan_looks(5, final=True, until_decided=True)


@pytest.mark.parametrize(
    ("asked", "images", "dense", "margin"),
    [
        (None, 10_000, None, 0.5),
        (None, 360, (98.0,), 1.76),
        ("2%", 10_000, (94.0, 94.4), 1.684),
        ("0.5", 10_000, None, 0.5),
        (1.5, 360, None, 1.5),
        ("0.03", 10_000, None, 0.03),
    ],
)
def test_margin(asked: str | float | None, images: int, dense: tuple[float, ...] | None, margin: float) -> None:
    assert resolve_margin(asked, images, 10.0, dense) == pytest.approx(margin)


@pytest.mark.parametrize(
    ("asked", "images", "dense", "message"),
    [
        (0.5, 360, None, "1.8 of your 360 test images"),
        (None, 360, None, "no finished dense run"),
        ("2%", 10_000, (float("nan"),), "no finished dense run"),
        ("2%", 10_000, (9.0,), "At least 3 images"),
        ("two", 10_000, None, "got 'two'"),
        ("nan", 10_000, None, "At least 3 images"),
    ],
)
def test_refused_margins(asked: str | float | None, images: int, dense: tuple[float, ...] | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_margin(asked, images, 10.0, dense)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 1.0}, "alpha between 0 and 1, got 1.0"),
        ({"margin": 0.0}, "margin above 0 points, got 0.0"),
        ({"chance": 0.0}, "chance accuracy"),
        ({"dense": ()}, "dense accuracies"),
        ({"test_size": 0}, "at least one image"),
        ({"looks": (2,)}, "looks at 3 seeds or more"),
        ({"looks": (5, 5), "weights": (0.5, 0.5)}, "looks that increase"),
        ({"looks": (5, 8)}, "one weight for each of the 2 looks, got 1"),
        ({"looks": (5, 8), "weights": (0.5, 0.6)}, "sum to 1"),
        ({"looks": (5, 8), "weights": (1.5, -0.5)}, "weights above 0"),
        ({"looks": (), "weights": ()}, "at least one look"),
        ({"multiplicity": "bonferroni"}, "holm, bh, none"),
    ],
)
def test_refused_settings(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings(**changes)


def test_refused_comparisons() -> None:
    with pytest.raises(InputError, match="3 original and 2 tampered"):
        compare("93 93 93", "93 93")
    with pytest.raises(InputError, match="more than once"):
        judge([compare("93", "93"), compare("94", "94")], settings())
    assert judge([], settings()) == []


def test_lines() -> None:
    for images, chance, dense, line in ((10_000, 10, 94.6, 18.46), (10_000, 1, 74.6, 8.36), (360, 10, 97, 18.7)):
        assert yardstick(images, chance, dense).dead_line == pytest.approx(line, abs=0.01)
    assert not yardstick(360, 10, 12).learned


def test_stragglers_are_far_below_the_median_of_the_living() -> None:
    lines = yardstick(10_000, 10.0, 94.6)
    arm = np.array([[93, 93, 84, 10, 10, 10, np.nan], [93, 93, 93, 93, 93, 93, 84.6]])
    assert lines.stragglers(arm).sum(-1).tolist() == [1, 0]


def test_population_fields() -> None:
    rng = np.random.default_rng(0)
    right = rng.uniform(size=(2, 4, 10_000)) < 0.93
    arms = [tuple(100 * arm.mean(1)) for arm in right]
    (v,) = judge(
        [Comparison("snip", "x", 0.9, *arms, correct_original=right[0], correct_tampered=right[1])], settings()
    )
    assert v.n == 3 and v.population_low is not None and v.population_high is not None and v.drop is not None
    assert v.population_low < v.drop < v.population_high
    assert (v.population_low, v.population_high) == pytest.approx(population_interval(right[0][:3], right[1][:3]))
    assert v.population_holds == (max(-v.population_low, v.population_high) < 0.5)
    with pytest.raises(InputError, match="same seeds x test images"):
        population_interval(right[0], right[1, :3])
