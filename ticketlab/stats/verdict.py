"""The verdict on one comparison, with every number that supports it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

USES = "uses"
DOES_NOT_USE = "does not use"
BETTER_WITHOUT = "better without"
UNDECIDED = "undecided"
VOID = "void"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One row of a report. Drops, intervals, margin and sd are in percentage points; None: not available.

    `n` is the number of seeds behind the numbers: those of the deciding look, or of the last look reached.
    [ci_low, ci_high] excludes 0 exactly if a difference is claimed, [eq_low, eq_high] lies inside the margin
    exactly if "no more than the margin" is claimed. `ci_covers` says what the first is of: "pairs", "surviving pairs",
    "identical tickets", or "all pairs, dead ones included": then no test rests on it, and reports do not show it.
    `p_diff_seq`, `p_equiv_seq` are the smallest weighted p-values over the looks, compared with `cut_diff` and
    `cut_equiv`. `dead` counts (original, tampered), `stragglers` both arms. `seeds_needed` is (low, best, high), seeds
    in all.
    """

    method: str
    check: str
    sparsity: float
    n: int
    drop: float | None
    ci_low: float | None
    ci_high: float | None
    ci_level: float | None
    ci_covers: str
    eq_low: float | None
    eq_high: float | None
    eq_level: float | None
    margin: float
    p_diff: float
    p_equiv: float
    p_diff_seq: float
    p_equiv_seq: float
    cut_diff: float
    cut_equiv: float
    verdict: str
    qualifier: str
    reason: str
    decided_at: int | None
    dead: tuple[int, int]
    stragglers: int
    sd: float | None
    correlation: float | None
    seeds_needed: tuple[int | None, int | None, int | None] | None
    population_low: float | None
    population_high: float | None
    population_holds: bool | None

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; what is not a finite number becomes None."""

        def plain(value: Any) -> Any:
            if isinstance(value, tuple):
                return [plain(v) for v in value]
            return None if isinstance(value, float) and not math.isfinite(value) else value

        return {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    @property
    def decided(self) -> bool:
        return self.verdict not in (UNDECIDED, VOID)
