"""The one exception that bad input raises: it names what was asked for, what was found, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """The user's input cannot be used. The command line prints the message and exits with code 2."""


class FailedStep(InputError):
    """A step of a study cannot be computed with this input. The command line prints the message and exits with 1."""


class EmptyLayerWarning(UserWarning):
    """A mask keeps no weight of some layer. A result, not an error: the network may still train around it."""


class DensePathWarning(UserWarning):
    """A compiled ticket runs on torch's dense path, as the sparse kernels cannot serve it. The message says why."""


def unknown(kind: str, asked: str, known: Iterable[str]) -> InputError:
    """An error for a name that is not there, with the nearest names that are."""
    names = list(known)
    near = difflib.get_close_matches(str(asked), names, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Known: {', '.join(names)}."
    return InputError(f"asked for {kind} {asked!r}, got no such {kind}. {hint}")
