"""Recipes and schedules: rates as published, warm-up, fractions of epochs, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketlab.engine.recipe import Recipe, adjusted, default_for
from ticketlab.engine.schedule import Schedule
from ticketlab.errors import InputError


@pytest.mark.parametrize(
    ("recipe", "drops"),
    [
        (Recipe(epochs=160), (80, 120)),
        (Recipe(epochs=300), (150, 225)),
        (Recipe(epochs=20), (10, 15)),
        (Recipe(epochs=30, drops=(0.1, 0.7)), (3, 21)),
        (Recipe(epochs=2), (1,)),
        (Recipe(epochs=1), ()),
    ],
)
def test_the_rate_falls_tenfold_at_its_epochs(recipe: Recipe, drops: tuple[int, ...]) -> None:
    rates = [recipe.lr_at(e) for e in range(int(recipe.epochs))]
    assert rates[0] == 0.1
    found = tuple(e for e in range(1, len(rates)) if rates[e] != rates[e - 1])
    assert found == drops
    assert all(rates[e] == pytest.approx(rates[e - 1] / 10) for e in found)


def test_a_drop_within_an_epoch_comes_at_its_step() -> None:
    schedule = Schedule(Recipe(epochs=3, batch_size=10), 100)
    rates = [schedule.lr(step) for step in range(30)]
    assert [s for s in range(1, 30) if rates[s] != rates[s - 1]] == [15, 23]


def test_other_schedules() -> None:
    cosine = Recipe(epochs=4, schedule="cosine")
    assert [cosine.lr_at(e) for e in (0, 2, 2.9)] == pytest.approx([0.1, 0.05, 0.05])
    assert Recipe(schedule="constant").lr_at(159) == 0.1


@pytest.mark.parametrize("schedule", ["step", "cosine", "constant"])
@pytest.mark.parametrize("epochs", [1, 4, 2.5])
def test_beyond_the_end_the_last_rate_goes_on(schedule: str, epochs: float) -> None:
    found = Schedule(Recipe(epochs=epochs, batch_size=10, schedule=schedule), 100)
    end = found.step_of(epochs)
    rates = [found.lr(step) for step in range(end + 40)]
    assert set(rates[end:]) == {rates[end - 1]} and rates[end - 1] > 0
    assert schedule == "constant" or epochs < 2.5 or rates[0] > rates[end]


def test_rates_of_a_training_rewound_to_epoch_40_of_160() -> None:
    """Su et al.: 160 more epochs from epoch 40 on, 40 at 0.1, 40 at 0.01 and 80 at 0.001."""
    schedule = Schedule(Recipe(), 50_000)
    first, end = schedule.span(40, 200)
    assert (first, end) == (40 * 782, 200 * 782)
    rates = [schedule.lr(step) for step in range(first, end)]
    assert [rates.count(rate) for rate in sorted(set(rates), reverse=True)] == [40 * 782, 40 * 782, 80 * 782]
    assert rates == sorted(rates, reverse=True) and sorted(set(rates)) == pytest.approx([0.001, 0.01, 0.1])


def test_a_replayed_training_does_not_warm_up_again() -> None:
    schedule = Schedule(Recipe(epochs=4, batch_size=10, warmup=1, schedule="constant"), 100)
    assert [schedule.lr(step) for step in range(*schedule.span(1, 5))] == [0.1] * 40
    assert schedule.lr(schedule.step_of(0.5)) == pytest.approx(0.06)


def test_warm_up_grows_step_by_step() -> None:
    schedule = Schedule(Recipe(epochs=4, batch_size=10, warmup=0.5, schedule="constant"), 100)
    assert [schedule.lr(step) for step in range(7)] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1])
    whole = Schedule(Recipe(epochs=160, warmup=1), 50000)
    assert whole.lr(0) == pytest.approx(0.1 / 782) and whole.lr(781) == whole.lr(782) == 0.1


@pytest.mark.parametrize(
    ("n", "size", "steps", "last"),
    [
        (50000, 64, 782, 16),
        (100, 10, 10, 10),
        (101, 10, 10, 10),
        (102, 10, 11, 2),
        (5, 64, 1, 5),
        (1, 64, 1, 1),
        (3, 1, 3, 1),
    ],
)
def test_steps_of_an_epoch(n: int, size: int, steps: int, last: int) -> None:
    schedule = Schedule(Recipe(batch_size=size), n)
    epoch, part = schedule.batch(steps - 1)
    assert (schedule.per_epoch, epoch, part.stop - part.start) == (steps, 0, last)
    assert schedule.batch(steps) == (1, slice(0, min(size, n)))


@given(n=st.integers(1, 500), size=st.integers(1, 70), step=st.integers(0, 5000))
def test_points_and_steps_are_one_to_one(n: int, size: int, step: int) -> None:
    schedule = Schedule(Recipe(epochs=10**6, batch_size=size), n)
    assert schedule.step_of(schedule.epoch_of(step)) == step
    if step % schedule.per_epoch == 0:
        assert isinstance(schedule.epoch_of(step), int)


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": 0},
        {"epochs": -1},
        {"epochs": True},
        {"epochs": math.inf},
        {"epochs": "3"},
        {"batch_size": 0},
        {"batch_size": 1.5},
        {"lr": -1.0},
        {"lr": math.nan},
        {"momentum": -0.1},
        {"weight_decay": math.inf},
        {"schedule": "cosin"},
        {"nesterov": True, "momentum": 0.0},
        {"warmup": -1},
        {"epochs": 3, "warmup": 3},
    ],
)
def test_bad_recipes(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"asked for .*, got"):
        Recipe(**bad)


def test_schedules_longer_than_the_data_allow_are_refused() -> None:
    with pytest.raises(InputError, match=r"asked for 0.001 epochs, got .* one epoch has 7 steps: at least 0.143"):
        Schedule(Recipe(epochs=0.001, batch_size=9), 60)
    with pytest.raises(InputError, match="0 examples"):
        Schedule(Recipe(), 0)
    schedule = Schedule(Recipe(epochs=4), 60)
    for start, until in ((0, math.inf), (0, math.nan), (-1, None), (3, 2), (4.5, None)):
        with pytest.raises(InputError, match="got a recipe of 4 epochs"):
            schedule.span(start, until)
    assert schedule.span(4, None) == (4, 4)
    # Beyond the end is a place to train to, and to start from if it is said how far.
    assert (schedule.span(0, 5), schedule.span(4.5, 6)) == ((0, 5), (4, 6))


def test_defaults_and_plain_values() -> None:
    assert default_for("cifar10") == default_for("tiny") == Recipe()
    assert adjusted(Recipe(), lr=None, epochs=3) == Recipe(epochs=3)
    recipe = Recipe(epochs=2.5, drops=(0.2,), warmup=1)
    assert Recipe.from_json(recipe.to_json()) == recipe
    whole = replace(recipe, epochs=2.0)
    assert whole == replace(recipe, epochs=2) and isinstance(whole.epochs, int)
