"""What ``ticketlab sketch`` makes of its options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ticketlab.errors import InputError, unknown
from ticketlab.sketch.cells import Kind
from ticketlab.sketch.probabilities import KINDS

# Beyond this, squares leave the range of floating-point numbers or lose what is added to them.
_FARTHEST = 1e6
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
        if not 0 <= distance <= _FARTHEST:
            raise InputError(f"asked for --distances {distance:g}, got no share of the way from 0 to {_FARTHEST:g}.")
    labels = [f"{distance:g}" for distance in options.distances]
    if len(set(labels)) < len(set(options.distances)):
        raise InputError(f"asked for --distances {' '.join(map(str, options.distances))}, got two of one name.")
    if options.init_std is not None and not 1 / _FARTHEST <= options.init_std <= _FARTHEST:
        raise InputError(
            f"asked for --init-std {options.init_std:g}, got none from {1 / _FARTHEST:g} to {_FARTHEST:g} to draw "
            "weights with."
        )
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
        if found.get(label, kind) != kind:
            raise InputError(f"asked for --kinds {' '.join(texts or ())}, got two mixtures of one name, {label!r}.")
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
    # So that NaN is refused too.
    if not (abs(sum(shares.values()) - 1) <= 1e-9 and min(shares.values()) > 0):
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
        elif value != int(value) or "." in text:
            if value > 1:
                raise InputError(f"asked for --draws {text}, got neither a number nor a share of the weights up to 1.")
            value = value * size
        found.add(max(1, round(value)))
    return tuple(sorted(found))


def _number(text: str, asked: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"asked for {asked}, got {text!r}, which is no number.") from None
