"""The index of a compact ticket: which tensors there are, what each keeps, and how much room all of it may take."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

_FLOATS = ("float64", "float32", "float16", "bfloat16", "complex64", "float8_e4m3fn", "float8_e5m2")
_WHOLE = ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool")
DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in (*_FLOATS, *_WHOLE)}

# What a small file may grow to, and any other for each of its bytes: well beyond every ticket of a use, well below
# what a frame of repeated zeros could claim.
_ALWAYS, _PER_BYTE = 2**28, 1000


@dataclass(frozen=True)
class Entry:
    """A tensor: its values are in the file, or (``like``) they are bit for bit those of another.

    Attributes:
        kept: how many weights the mask keeps; None where no mask covers the tensor.
        strays: how many pruned weights are not plain zero (minus zero, mostly).
        gap_bytes: the lengths of the coded positions of mask and strays.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    kept: int | None = None
    strays: int = 0
    gap_bytes: tuple[int, int] = (0, 0)
    like: str | None = None

    @property
    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def stored(self) -> int:
        """How many values of it are in the file."""
        return 0 if self.like is not None else self.numel if self.kept is None else self.kept + self.strays


def as_json(entries: Iterable[Entry]) -> list[list[Any]]:
    """Plain values."""
    listed: list[list[Any]] = []
    for entry in entries:
        row: list[Any] = [entry.name, str(entry.dtype).removeprefix("torch."), list(entry.shape)]
        if entry.like is not None:
            row.append(entry.like)
        elif entry.kept is not None:
            row += [entry.kept, entry.strays, *entry.gap_bytes]
        listed.append(row)
    return listed


def from_json(rows: Any, file_bytes: int) -> dict[str, Entry]:
    """The entries by name, from a file of so many bytes, believing none of them.

    Raises:
        ValueError, TypeError or KeyError: they are damaged, or claim more memory than such a file may take.
    """
    entries = [_entry(row) for row in rows]
    found = {entry.name: entry for entry in entries}
    if len(found) != len(entries):
        raise ValueError("a tensor is listed twice")
    for entry in entries:
        if entry.like is not None:
            other = found[entry.like]
            if other.like is not None or (other.dtype, other.shape) != (entry.dtype, entry.shape):
                raise ValueError(f"{entry.name!r} cannot be like {entry.like!r}")
    wanted, most = sum(e.numel * e.dtype.itemsize for e in entries), max(_ALWAYS, _PER_BYTE * file_bytes)
    if wanted > most:
        raise ValueError(f"its tensors would take {wanted:,} bytes, a file of this size may take {most:,}")
    return found


def _entry(row: Any) -> Entry:
    name, dtype, shape, *more = row
    if not isinstance(name, str) or not isinstance(shape, list) or len(shape) > 64:
        raise ValueError("the list of tensors is damaged")
    size = tuple(_count(n, 2**62) for n in shape)
    plain = Entry(name, DTYPES[dtype], size)
    if not more:
        return plain
    if len(more) == 1 and isinstance(more[0], str):
        return Entry(name, plain.dtype, size, like=more[0])
    kept, strays, mask_bytes, stray_bytes = more
    kept = _count(kept, plain.numel)
    lengths = (_count(mask_bytes, plain.numel), _count(stray_bytes, plain.numel))
    return Entry(name, plain.dtype, size, kept, _count(strays, plain.numel - kept), lengths)


def _count(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"the list of tensors says {value!r} where a number from 0 to {most} belongs")
    return value
