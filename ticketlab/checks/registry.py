"""The registry of checks: name -> Check, and the ones that run when nobody says which."""

from __future__ import annotations

from collections.abc import Sequence

from ticketlab import spec
from ticketlab.checks import tampered_data, tampered_ticket
from ticketlab.checks.check import Check
from ticketlab.errors import InputError, unknown

RANDOM_TICKET = "smart-ratio"

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        tampered_data.CORRUPTED,
        tampered_data.RANDOM_LABELS,
        tampered_data.RANDOM_PIXELS,
        tampered_data.HALF_DATA,
        tampered_data.HALF_DATA_SU2020,
        tampered_ticket.REARRANGE,
        tampered_ticket.WEIGHT_SHUFFLE,
        tampered_ticket.REINIT,
        tampered_ticket.INVERT,
        tampered_ticket.versus(RANDOM_TICKET),
    )
}

# What decides the question with the fewest trainings, and the positive control that shows the method can fail.
DEFAULT = ("corrupted", "rearrange", "reinit", "invert", f"versus:{RANDOM_TICKET}")


def resolve(name: str) -> Check:
    """The check of that name; ``versus:SPEC`` compares with any method, plain ``versus`` with the random ticket.

    Raises:
        InputError: an unknown check, or an unknown method to compare with.
    """
    if name == "versus":
        name = f"versus:{RANDOM_TICKET}"
    if name.startswith("versus:"):
        other = name.removeprefix("versus:")
        method, options = spec.resolve(other)
        return tampered_ticket.versus(spec.label(method.name, options))
    if name not in CHECKS:
        raise unknown("check", name, [*CHECKS, "all"])
    return CHECKS[name]


def resolve_all(names: Sequence[str] | None) -> list[Check]:
    """The checks named, in order and once each; None gives the default ones, "all" every one."""
    chosen: list[str] = []
    for name in names if names is not None else DEFAULT:
        chosen += list(CHECKS) if name == "all" else [resolve(name).name]
    if not chosen:
        raise InputError("asked for no check at all, got nothing to compare.")
    return [resolve(name) for name in dict.fromkeys(chosen)]
