"""Reading a results document that may be incomplete: missing keys, null numbers and unknown names are all fine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Results = Mapping[str, Any]


def rows(results: Results, key: str) -> list[Row]:
    """The list of rows under `key`; a missing list is empty."""
    return [row for row in results.get(key) or [] if isinstance(row, Mapping)]


def part(results: Results, key: str) -> Row:
    """The sub-document under `key`; a missing one is empty."""
    found = results.get(key)
    return found if isinstance(found, Mapping) else {}


def number(value: Any) -> float | None:
    """A finite number, or None for null, nan, infinities and anything that is not a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def pair(value: Any, length: int = 2) -> list[float | None]:
    """A short list of numbers, padded with None."""
    items = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    return [number(item) for item in (items + [None] * length)[:length]]


def _in_order(names: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(str(name) for name in names if name))


def retrainings(results: Results) -> list[tuple[str, str]]:
    """For each method that does not train from the initialisation: what its last training starts from."""
    return [
        (str(row.get("label")), str(row["retraining"])) for row in rows(results, "methods") if row.get("retraining")
    ]


def methods(results: Results) -> list[str]:
    """The labels of all methods that were asked about, in their own order."""
    return _in_order(
        [row.get("label") for row in rows(results, "methods")]
        + [row.get("method") for key in ("verdicts", "not_applicable") for row in rows(results, key)]
    )


def checks(results: Results) -> list[str]:
    """The names of all checks, in their own order."""
    return _in_order(
        [row.get("name") for row in rows(results, "checks")]
        + [row.get("check") for key in ("verdicts", "not_applicable") for row in rows(results, key)]
    )


def sparsities(results: Results) -> list[float]:
    """All sparsities of the study, ascending."""
    listed = list(results.get("sparsities") or []) + [row.get("sparsity") for row in rows(results, "verdicts")]
    return sorted({value for value in map(number, listed) if value is not None})


def phrase(results: Results, check: str) -> str:
    """What a check does to the tampered ticket, in a few words; its name where nothing is said."""
    told = {str(row.get("name")): row.get("phrase") for row in rows(results, "checks")}
    return str(told.get(check) or check)


def verdicts(results: Results) -> dict[tuple[str, str, float], Row]:
    """The verdict rows by (method, check, sparsity)."""
    found = {}
    for row in rows(results, "verdicts"):
        sparsity = number(row.get("sparsity"))
        if sparsity is not None:
            found[str(row.get("method")), str(row.get("check")), sparsity] = _shown(row)
    return found


def _shown(row: Row) -> Row:
    """Without an interval that no test rests on: one over dead tickets describes nothing."""
    if str(row.get("ci_covers") or "").startswith("all pairs"):
        return {**row, "ci_low": None, "ci_high": None, "ci_level": None}
    return row


def in_order(results: Results, sparsity: float) -> list[Row]:
    """The verdict rows of one sparsity, by method and then by check."""
    table = verdicts(results)
    keys = [(m, c, sparsity) for m in methods(results) for c in checks(results)]
    return [table[key] for key in keys if key in table]


def why_not(results: Results) -> dict[tuple[str, str], str]:
    """Why a check cannot be applied to a method, by (method, check)."""
    return {
        (str(row.get("method")), str(row.get("check"))): str(row.get("why") or "not applicable")
        for row in rows(results, "not_applicable")
    }
