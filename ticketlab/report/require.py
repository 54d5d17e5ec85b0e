"""Requirements on verdicts: `snip:rearrange=uses`, so that a script can fail when a method stops earning its cost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from ticketlab.errors import InputError, unknown
from ticketlab.report import words
from ticketlab.report.reading import Results, Row, checks, methods, number, sparsities, verdicts, why_not

# what may be required -> the verdicts that satisfy it; undecided and void never do
EXPECTED = {
    "uses": {"uses"},
    "does-not-use": {"does not use"},
    "better": {"better without"},
    "decided": {"uses", "does not use", "better without"},
}
FORM = "METHOD:CHECK=uses, or does-not-use, better, decided, with @0.9 after the check for one sparsity"


class Requirement(NamedTuple):
    """`target` is METHOD:CHECK or METHOD:CHECK@SPARSITY, as written; it needs the known labels to be taken apart."""

    text: str
    target: str
    expected: str


class Target(NamedTuple):
    """What a requirement is about; no sparsity means all of them."""

    method: str
    check: str
    sparsity: float | None


def parse(text: str, results: Results | None = None) -> Requirement:
    """A requirement from its text; with `results` (or the part that names things), its names are checked now."""
    target, equals, expected = text.rpartition("=")
    target, expected = target.strip(), expected.strip()
    if not equals or not target or ":" not in target:
        raise InputError(f"asked for requirement {text!r}, got no METHOD:CHECK=VERDICT. Form: {FORM}.")
    if expected not in EXPECTED:
        raise unknown(f"verdict (in requirement {text!r})", expected, EXPECTED)
    requirement = Requirement(text, target, expected)
    if results is not None:
        resolve(requirement, results)
    return requirement


def resolve(requirement: Requirement, results: Results) -> Target:
    """The method, check and sparsity that a requirement names. Labels may hold `:`, `=`, `,` and `@` themselves."""
    target = requirement.target
    known = {f"{m}:{c}": (m, c) for m in methods(results) for c in checks(results)}
    if target in known:
        return Target(*known[target], None)
    name, at, sparsity = target.rpartition("@")
    if at and name.strip() in known:
        return Target(*known[name.strip()], _sparsity(requirement, sparsity.strip(), sparsities(results)))
    raise _misnamed(requirement, name.strip() if at and _share(sparsity) is not None else target, results)


def _share(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _sparsity(requirement: Requirement, text: str, known: list[float]) -> float:
    asked = _share(text)
    for sparsity in known:
        if asked is not None and abs(sparsity - asked) < 1e-9:
            return sparsity
    raise unknown(f"sparsity (in requirement {requirement.text!r})", text, [f"{s:g}" for s in known])


def _misnamed(requirement: Requirement, target: str, results: Results) -> InputError:
    """The error that points at the half which is wrong."""
    told = f"(in requirement {requirement.text!r})"
    for method in sorted(methods(results), key=len, reverse=True):
        if target.startswith(f"{method}:"):
            return unknown(f"check {told}", target[len(method) + 1 :], checks(results))
    for check in sorted(checks(results), key=len, reverse=True):
        if target.endswith(f":{check}"):
            return unknown(f"method {told}", target[: -len(check) - 1], methods(results))
    pairs = [f"{m}:{c}" for m in methods(results) for c in checks(results)]
    return unknown(f"method and check {told}", target, pairs)


def unmet(requirements: Iterable[Requirement], results: Results) -> list[str]:
    """What is not as required, one line each; empty if all is well."""
    lines = []
    for requirement in requirements:
        lines += _unmet(requirement, resolve(requirement, results), results)
    return lines


def _unmet(requirement: Requirement, target: Target, results: Results) -> list[str]:
    table, missing = verdicts(results), why_not(results)
    wanted = [target.sparsity] if target.sparsity is not None else sparsities(results)
    if why := missing.get((target.method, target.check)):
        return [f"{requirement.text}: not applicable ({why})"]
    if not wanted:
        return [f"{requirement.text}: no verdict yet"]
    lines = []
    for sparsity in wanted:
        row = table.get((target.method, target.check, sparsity))
        if row is None or row.get("verdict") not in EXPECTED[requirement.expected]:
            lines.append(f"{requirement.text}: at {words.percent(sparsity)} {_found(row)}")
    return lines


def _found(row: Row | None) -> str:
    if row is None or not row.get("verdict"):
        return "there is no verdict yet"
    drop, span = words.points(row.get("drop")), words.interval(row.get("ci_low"), row.get("ci_high"))
    n = number(row.get("n"))
    facts = [f"drop {drop}" if drop else "", span, f"{n:g} seeds" if n is not None else ""]
    told = ", ".join(fact for fact in facts if fact)
    return f"the verdict is {words.verdict(row)!r}" + (f" ({told})" if told else "")
