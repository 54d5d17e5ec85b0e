"""Positions as gaps: one byte for the distance to the next one, which an entropy coder brings close to the bound."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Flags = NDArray[np.bool_]

# This byte says "255 further, and nothing is here"; smaller ones say how many positions are skipped.
_FURTHER = 255


def encode(flags: Flags) -> Bytes:
    """The rarer of the two values' positions; of flags (n,) at most n bytes."""
    positions = np.flatnonzero(flags != _mostly(flags.size, int(flags.sum())))
    skipped = np.diff(positions, prepend=-1) - 1
    ends = np.cumsum(skipped // _FURTHER + 1)
    coded = np.full(int(ends[-1]) if ends.size else 0, _FURTHER, np.uint8)
    coded[ends - 1] = skipped % _FURTHER
    return coded


def decode(coded: Bytes, size: int, true: int) -> Flags:
    """The inverse of ``encode``: ``size`` flags, of which ``true`` are set.

    Raises:
        ValueError: the bytes are not those of such flags.
    """
    mostly = _mostly(size, true)
    here = coded != _FURTHER
    positions = np.cumsum(np.where(here, coded.astype(np.int64) + 1, _FURTHER))[here] - 1
    if positions.size != (size - true if mostly else true) or (coded.size and not here[-1]):
        raise ValueError("the coded positions are not as many as were said")
    if positions.size and positions[-1] >= size:
        raise ValueError("a coded position lies beyond the last weight")
    flags = np.full(size, mostly, np.bool_)
    flags[positions] = not mostly
    return flags


def _mostly(size: int, true: int) -> bool:
    return 2 * true > size
