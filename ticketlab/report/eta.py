"""How long the rest of a study takes, from the steps measured so far."""

from __future__ import annotations

from collections import Counter


class Eta:
    """Mean seconds by kind of step, divided by how many steps ran at the same time.

    Args:
        kinds: how many steps of each kind there will be in all. Without it the mix of the rest is taken to be the mix
            seen so far.
    """

    def __init__(self, kinds: dict[str, int] | None = None) -> None:
        self._planned = kinds
        self.start()

    def start(self) -> None:
        """Forget what was measured."""
        self._steps: Counter[str] = Counter()
        self._seconds: dict[str, float] = {}
        self._last = 0.0

    def add(self, kind: str, seconds: float, elapsed: float) -> None:
        """One step took so long; `elapsed` is the wall-clock time of the study so far."""
        self._steps[kind] += 1
        self._seconds[kind] = self._seconds.get(kind, 0.0) + max(0.0, seconds)
        self._last = elapsed

    def left(self, steps: int, elapsed: float) -> float | None:
        """Seconds until `steps` more are finished, or None while there is nothing to go by."""
        if not self._steps or steps <= 0:
            return None if steps > 0 else 0.0
        work = self._work(steps)
        if work is None:
            return None
        total = sum(self._seconds.values())
        at_once = total / self._last if total > 0 and self._last > 0 else 1.0
        return max(0.0, work / max(at_once, 0.01) - max(0.0, elapsed - self._last))

    def _work(self, steps: int) -> float | None:
        done = sum(self._steps.values())
        if not self._planned:
            return steps * sum(self._seconds.values()) / done
        left = {kind: max(0, count - self._steps[kind]) for kind, count in self._planned.items()}
        if any(count and not self._steps[kind] for kind, count in left.items()):
            return None
        known = sum(count * self._seconds[kind] / self._steps[kind] for kind, count in left.items() if count)
        # Steps finished by an earlier run of the study were planned too, but will not come again.
        planned = sum(left.values())
        return known * steps / planned if planned else 0.0
