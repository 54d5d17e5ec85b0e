"""What ``ticketlab sketch`` makes of its options."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from ticketlab.errors import InputError, unknown
from ticketlab.sketch.cells import Kind
from ticketlab.sketch.probabilities import KINDS

_DEFAULT = (
    "optimal",
    "magnitude",
    "synflow",
    "uniform",
    "column-norm",
    "snip",
    "optimal:0.9+uniform:0.1",
    "optimal:0.9+column-norm:0.1",
)


def checked_options(options: argparse.Namespace) -> None:
    """Refuse numbers that cannot be, before data are read.

    Raises:
        InputError: see above.
    """
    if options.masks < 2:
        raise InputError(f"asked for --masks {options.masks}, got too few for an interval. Use 2 or more.")
    if options.steps < 0:
        raise InputError(f"asked for --steps {options.steps}, got a negative number. Use 0 for no gradient descent.")
    for distance in options.distances:
        if not 0 <= distance < math.inf:
            raise InputError(f"asked for --distances {distance:g}, got no share of the way. Use 0 or more.")
    if options.init_std is not None and not 0 < options.init_std < math.inf:
        raise InputError(f"asked for --init-std {options.init_std:g}, got no spread to draw weights from.")
    # The data's size is not known yet; what is no number at all is refused here.
    draws_of(options.draws, 1)


def kinds_of(texts: Sequence[str] | None) -> dict[str, Kind]:
    """Kinds of probabilities by their label: "optimal", or the mixture "optimal:0.9+uniform:0.1".

    Raises:
        InputError: a kind that is not there, or shares that do not sum to one.
    """
    found: dict[str, Kind] = {}
    for text in texts or _DEFAULT:
        label, kind = _kind(text)
        found[label] = kind
    return found


def _kind(text: str) -> tuple[str, Kind]:
    shares: dict[str, float] = {}
    parts = text.split("+")
    for part in parts:
        name, _, share = part.partition(":")
        if name not in KINDS:
            raise unknown("kind of probability", name, KINDS)
        if name in shares:
            raise InputError(f"asked for the mixture {text!r}, got {name} twice.")
        shares[name] = _number(share, f"the mixture {text!r}") if share else 1.0
    if abs(sum(shares.values()) - 1) > 1e-9 or min(shares.values()) <= 0:
        raise InputError(
            f"asked for the mixture {text!r}, got shares that are not positive or do not sum to 1. "
            "Write optimal:0.9+uniform:0.1."
        )
    if len(parts) == 1:
        return text.partition(":")[0], text.partition(":")[0]
    first, *rest = shares
    return ", ".join([first, *(f"{100 * shares[name]:g}% {name}" for name in rest)]), shares


def draws_of(texts: Sequence[str], size: int) -> tuple[int, ...]:
    """Numbers of draws, ascending, none twice: "32" is a number, "10%" and "0.1" are shares of ``size`` weights.

    Raises:
        InputError: no number, or not above zero.
    """
    found = set()
    for text in texts:
        value = _number(text.removesuffix("%"), f"--draws {text}")
        if not 0 < value <= 1e6:
            raise InputError(f"asked for --draws {text}, got no number of draws. Write 32, 10% or 0.1.")
        if text.endswith("%"):
            value = value / 100 * size
        elif "." in text:
            value = value * size
        found.add(max(1, round(value)))
    return tuple(sorted(found))


def _number(text: str, asked: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"asked for {asked}, got {text!r}, which is no number.") from None
