"""Feeds a reader many inputs and shrinks what breaks it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from .reader import Reader


@dataclass(frozen=True)
class _Shown:
    """An input, of which a report shows the beginning."""

    value: Any

    def __repr__(self) -> str:
        return f"{self.value!r:.3000}"


def fuzz(reader: Reader, inputs: int, start: int | None = None) -> Counter[str]:
    """Count what became of the inputs; with ``start``, other ones than always.

    Raises:
        AssertionError, or whatever the reader raised: with the smallest input that was found for it.
    """
    counted: Counter[str] = Counter()

    def feed(shown: _Shown) -> None:
        counted[reader.outcome(shown.value)] += 1

    usual = settings(
        max_examples=inputs,
        deadline=None,
        derandomize=start is None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    test = usual(given(reader.inputs().map(_Shown))(feed))
    (test if start is None else seed(start)(test))()
    return counted
