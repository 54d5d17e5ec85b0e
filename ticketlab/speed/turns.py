"""Runners in turns, A B C A B C: whatever slows the machine for a while slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_SETTLE = 0.01  # seconds: threads of the runner before may spin for a while before they sleep


@dataclass(frozen=True)
class Times:
    """Seconds of one call, the median of each turn."""

    turns: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of the turns."""
        return statistics.median(self.turns)

    @property
    def low(self) -> float:
        """The fastest turn."""
        return min(self.turns)

    @property
    def high(self) -> float:
        """The slowest turn."""
        return max(self.turns)

    def ratios(self, other: Times) -> Times:
        """How many times as long the other takes, turn by turn: turns side by side had the same machine."""
        return Times(tuple(theirs / mine for mine, theirs in zip(self.turns, other.turns, strict=True)))


def in_turns(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> dict[str, Times]:
    """Every call for about ``seconds``, again and again, ``rounds`` times; the first call of a turn is not counted."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            sleep(_SETTLE)
            call()
            found[name].append(_turn(call, seconds, clock))
    return {name: Times(tuple(turns)) for name, turns in found.items()}


def _turn(call: Callable[[], object], seconds: float, clock: Callable[[], float]) -> float:
    taken: list[float] = []
    until = clock() + seconds
    while not taken or clock() < until:
        began = clock()
        call()
        taken.append(clock() - began)
    return statistics.median(taken)
