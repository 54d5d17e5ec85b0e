"""What is judged: the accuracies of one comparison, and the settings of the study."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from ticketlab.errors import InputError
from ticketlab.stats.student import Array

Multiplicity = Literal["holm", "bh", "none"]
Family = Literal["report", "method"]
Test = Literal["paired", "welch"]

FEWEST_SEEDS = 3
"""With two seeds on a grid of test images, false claims reach 12% at a nominal 5%."""


@dataclass(frozen=True)
class Comparison:
    """Original against tampered tickets of one method, check and sparsity (a fraction).

    Accuracies are in percent, in seed order, the two arms paired by seed; nan or inf says that training diverged.
    `control_ok=False` makes the comparison void, `control_note` says why. `identical` says that every pair of
    tickets came out the same, so that there is nothing to test. `correct_*` hold per-image correctness as
    booleans, seeds x test images. Raises `InputError` when the arms differ in length.
    """

    method: str
    check: str
    sparsity: float
    original: tuple[float, ...]
    tampered: tuple[float, ...]
    control_ok: bool = True
    control_note: str = ""
    identical: bool = False
    correct_original: Array | None = field(default=None, repr=False, compare=False)
    correct_tampered: Array | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.original) != len(self.tampered):
            raise InputError(
                f"asked for pairs of tickets in {self.name}, got {len(self.original)} original and "
                f"{len(self.tampered)} tampered accuracies. Give one of each per seed, in the same order."
            )

    @property
    def name(self) -> str:
        return f"{self.method}:{self.check}@{self.sparsity:g}"

    @property
    def seeds(self) -> int:
        return len(self.original)


@dataclass(frozen=True)
class Settings:
    """How a study is judged; fixed before its first run.

    `chance`, `dense` (accuracies of dense runs) and `margin` are in percentage points, `test_size` in images.
    `looks` are the seed counts at which verdicts may fall and `weights` the share of `alpha` spent at each.
    Raises `InputError` for settings under which the stated error rates would not hold.
    """

    test_size: int
    chance: float
    dense: tuple[float, ...] | None
    margin: float
    alpha: float = 0.05
    looks: tuple[int, ...] = (5, 10, 20)
    weights: tuple[float, ...] = (0.8, 0.1, 0.1)
    multiplicity: Multiplicity = "holm"
    family: Family = "report"
    test: Test = "paired"

    def __post_init__(self) -> None:
        def need(ok: bool, wanted: str, got: object) -> None:
            if not ok:
                raise InputError(f"asked for {wanted}, got {got}.")

        need(self.test_size >= 1, "a test set of at least one image", self.test_size)
        need(0 < self.chance < 100, "a chance accuracy between 0 and 100 percent", self.chance)
        need(self.dense is None or len(self.dense) > 0, "dense accuracies, or None for no dense run", self.dense)
        need(0 < self.margin < math.inf, "a margin above 0 points", self.margin)
        need(0 < self.alpha < 1, "an alpha between 0 and 1", self.alpha)
        need(len(self.looks) > 0, "at least one look", self.looks)
        need(
            len(self.weights) == len(self.looks),
            f"one weight for each of the {len(self.looks)} looks",
            f"{len(self.weights)} weights",
        )
        need(min(self.looks) >= FEWEST_SEEDS, f"looks at {FEWEST_SEEDS} seeds or more", self.looks)
        need(list(self.looks) == sorted(set(self.looks)), "looks that increase", self.looks)
        need(all(w > 0 for w in self.weights), "weights above 0", self.weights)
        total = math.fsum(self.weights)
        need(abs(total - 1) < 1e-9, "weights that sum to 1", f"{self.weights} with sum {total:g}")
        for key, known in (
            ("multiplicity", ("holm", "bh", "none")),
            ("family", ("report", "method")),
            ("test", ("paired", "welch")),
        ):
            need(getattr(self, key) in known, f"{key} to be one of {', '.join(known)}", repr(getattr(self, key)))

    @property
    def image(self) -> float:
        """One test image, in points."""
        return 100 / self.test_size
