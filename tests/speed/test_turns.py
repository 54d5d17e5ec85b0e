"""Turns: who is called when, and what is counted. The clock is made by hand."""

from __future__ import annotations

from ticketlab.speed.turns import Times, in_turns


class Clock:
    """Time passes only in calls."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def call(self, name: str, seconds: list[float]) -> None:
        self.order.append(name)
        self.now += seconds[min(self.order.count(name), len(seconds)) - 1]


def test_turns_alternate_and_the_first_call_of_each_is_not_counted() -> None:
    clock, slept = Clock(), []
    calls = {"a": lambda: clock.call("a", [9.0, 0.25, 0.25, 0.25, 0.25]), "b": lambda: clock.call("b", [5.0])}
    found = in_turns(calls, 3, 1.0, lambda: clock.now, slept.append)
    assert "".join(clock.order) == "aaaaabb" * 3 and len(slept) == 6
    assert found["a"] == Times((0.25, 0.25, 0.25)) and found["b"] == Times((5.0, 5.0, 5.0))


def test_the_median_of_a_turn_and_of_turns() -> None:
    clock = Clock()
    seconds = [1.0, 0.125, 0.75, 0.25, 1.0, 0.5, 0.5, 1.0, 2.0]
    found = in_turns({"a": lambda: clock.call("a", seconds)}, 3, 1.0, lambda: clock.now, lambda seconds: None)["a"]
    assert found.turns == (0.25, 0.5, 2.0)
    assert (found.median, found.low, found.high) == (0.5, 0.25, 2.0)


def test_ratios_are_of_turns_side_by_side() -> None:
    ratios = Times((1.0, 2.0, 4.0)).ratios(Times((3.0, 4.0, 4.0)))
    assert ratios.turns == (3.0, 2.0, 1.0) and ratios.median == 2.0
