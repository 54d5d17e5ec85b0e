"""The exact k-th largest of many scores, without sorting them or putting them into one vector.

A radix selection. Floats are read as integers in the same order; a histogram over their top 16 bits finds the narrow
range that holds the k-th largest, and only the few values in that range are looked at again. Every pass streams over
the tensors in chunks, so the extra memory is some megabytes, not several copies of the scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_CHUNK = 1 << 20
_BINS = 1 << 16
_FEW = 1 << 21


def kth_largest(scores: Sequence[Tensor], k: int) -> float:
    """The k-th largest value (k = 1 is the maximum) over all elements of all tensors, exactly.

    Args:
        scores: tensors of any shapes, all float32 or all float64, finite.
        k: between 1 and the number of elements.
    """
    double = scores[0].dtype == torch.float64
    parts: list[Tensor] = [s.reshape(-1) for s in scores]
    low, high, k, count = _top_range(parts, k, double)
    for shift in (32, 16, 0) if double else (0,):
        if count <= _FEW:
            keys = _gathered(parts, low, high, double, count)
            return _to_float(int(keys.kthvalue(count - k + 1).values), double)
        # The range around zero is twice as wide as the others.
        bins = ((high - low) >> shift) + 1
        histogram = torch.zeros(bins, dtype=torch.int64)
        for keys in _keys(parts, low, high, double):
            histogram += torch.bincount((keys.long() - low) >> shift, minlength=bins).cpu()
        digit, k, count = _descend(histogram, k)
        low += digit << shift
        high = low + (1 << shift) - 1
    return _to_float(low, double)


def _top_range(parts: Sequence[Tensor], k: int, double: bool) -> tuple[int, int, int, int]:
    """The keys (first, last) that share their top 16 bits with the k-th largest, its rank there, how many there are."""
    integer, shift = (torch.int64, 48) if double else (torch.int32, 16)
    raw = torch.zeros(_BINS, dtype=torch.int64)
    for part in parts:
        for chunk in part.split(_CHUNK):
            digits = (chunk.view(integer) >> shift).bitwise_and_(_BINS - 1)
            raw += torch.bincount(digits, minlength=_BINS).cpu()
    # Sign and magnitude: the bins of negative values lie in the upper half, in falling order. The two bins next to
    # zero become one, as -0.0 and 0.0 are equal scores and must tie.
    half = _BINS // 2
    ordered = torch.cat([raw[half + 1 :].flip(0), raw[:1] + raw[half : half + 1], raw[1:half]])
    digit, k, count = _descend(ordered, k)
    top = digit - (half - 1)
    if top == 0:
        return -(1 << shift), (1 << shift) - 1, k, count
    first = (top if top > 0 else top - 1) << shift
    return first, first + (1 << shift) - 1, k, count


def _descend(histogram: Tensor, k: int) -> tuple[int, int, int]:
    """The bin of the k-th largest, its rank within that bin, and how many values the bin has."""
    above = histogram.flip(0).cumsum(0)
    position = int(torch.searchsorted(above, k))
    digit = len(histogram) - 1 - position
    count = int(histogram[digit])
    return digit, k - (int(above[position]) - count), count


def _keys(parts: Sequence[Tensor], low: int, high: int, double: bool) -> Iterator[Tensor]:
    """The values between two keys, as keys: integers in the order of the values."""
    integer, last = (torch.int64, 63) if double else (torch.int32, 31)
    least, most = _to_float(low, double), _to_float(high, double)
    for part in parts:
        for chunk in part.split(_CHUNK):
            # Adding zero makes -0.0 and 0.0 the same key.
            bits = (_where(chunk, (chunk >= least) & (chunk <= most)) + 0.0).view(integer)
            keys = bits ^ (bits >> last).bitwise_and_(torch.iinfo(integer).max)
            # Where the range ends just below zero, its bound is -0.0, which lets every zero pass.
            yield keys[keys <= high] if high == -1 else keys


def _gathered(parts: Sequence[Tensor], low: int, high: int, double: bool, count: int) -> Tensor:
    """The keys in the range, in one tensor made beforehand: small pieces kept between large ones that are freed would
    scatter the memory, by half a gigabyte for a billion scores."""
    gathered = torch.empty(count, dtype=torch.int64 if double else torch.int32, device=parts[0].device)
    filled = 0
    for keys in _keys(parts, low, high, double):
        gathered[filled : filled + len(keys)] = keys
        filled += len(keys)
    return gathered


def _where(chunk: Tensor, wanted: Tensor) -> Tensor:
    """The few wanted elements; on the CPU by numpy, which skips what is not wanted in half the time."""
    return torch.from_numpy(chunk.numpy()[wanted.numpy()]) if chunk.device.type == "cpu" else chunk[wanted]


def _to_float(key: int, double: bool) -> float:
    integer, real = (torch.int64, torch.float64) if double else (torch.int32, torch.float32)
    bits = key if key >= 0 else key ^ torch.iinfo(integer).max
    return float(torch.tensor([bits], dtype=integer).view(real))
