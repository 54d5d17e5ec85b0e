"""The exact k-th largest of many scores, without sorting them or putting them into one vector.

A radix selection: floats are read as integers of the same order, and histograms of 16 bits at a time, most
significant first, narrow down the value. Each pass streams over the tensors in chunks, so the extra memory is a
few megabytes (and the candidates of the last passes), not several copies of the scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_CHUNK = 1 << 18
_DIGITS = 1 << 16
_FEW = 1 << 21


def kth_largest(scores: Sequence[Tensor], k: int) -> float:
    """The k-th largest value (k = 1 is the maximum) over all elements of all tensors, exactly.

    Args:
        scores: tensors of any shapes, all float32 or all float64, finite.
        k: between 1 and the number of elements.
    """
    double = scores[0].dtype == torch.float64
    parts: list[Tensor] = [s.reshape(-1) for s in scores]
    prefix = 0
    for shift in (48, 32, 16, 0) if double else (16, 0):
        histogram = torch.zeros(_DIGITS, dtype=torch.int64)
        gathered: list[Tensor] = []
        count = 0
        for keys in _keys(parts, prefix, shift, double):
            digits = (keys >> shift).bitwise_and_(_DIGITS - 1)
            histogram += torch.bincount(digits.to(torch.int32), minlength=_DIGITS).cpu()
        # The sign bit makes the top digit count from the negative end: put it in the order of the values.
        top = shift == (48 if double else 16)
        ordered = torch.cat([histogram[_DIGITS // 2 :], histogram[: _DIGITS // 2]]) if top else histogram
        above = ordered.flip(0).cumsum(0)
        position = int(torch.searchsorted(above, k))
        digit = _DIGITS - 1 - position
        count = int(ordered[digit])
        k -= int(above[position]) - count
        prefix = prefix * _DIGITS + (digit - _DIGITS // 2 if top else digit)
        if shift and count <= _FEW:
            gathered = [keys.clone() for keys in _keys(parts, prefix, shift - 16, double, match=shift)]
            return _to_float(int(torch.cat(gathered).kthvalue(count - k + 1).values), double)
    return _to_float(prefix, double)


def _keys(
    parts: Sequence[Tensor], prefix: int, shift: int, double: bool, match: int | None = None
) -> Iterator[Tensor]:
    """Chunks of integer keys in the order of the values, only those whose digits above ``shift`` are ``prefix``."""
    integer, last = (torch.int64, 63) if double else (torch.int32, 31)
    magnitude = torch.iinfo(integer).max
    top = shift == (48 if double else 16)
    matched = shift + 16 if match is None else match
    for part in parts:
        for chunk in part.split(_CHUNK):
            # Adding zero turns -0.0 into 0.0: the two are equal as scores, so they must tie.
            bits = (chunk + 0.0).view(integer)
            keys = bits.bitwise_xor_((bits >> last).bitwise_and_(magnitude))
            yield keys if top and match is None else keys[(keys >> matched) == prefix]


def _to_float(key: int, double: bool) -> float:
    integer, real = (torch.int64, torch.float64) if double else (torch.int32, torch.float32)
    bits = key if key >= 0 else key ^ torch.iinfo(integer).max
    return float(torch.tensor([bits], dtype=integer).view(real))
