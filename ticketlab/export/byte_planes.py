"""Numbers as planes of bytes: exponents of weights are alike, last bits are noise, and each compresses best alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.uint8]


def rows_of(tensor: Tensor) -> Rows:
    """The bytes of every number, (numel, bytes per number)."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().reshape(flat.numel(), flat.element_size())


def tensor_of(rows: Rows, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """The inverse of ``rows_of``.

    Raises:
        ValueError: a byte is neither true nor false.
    """
    if dtype == torch.bool and rows.size and int(rows.max()) > 1:
        raise ValueError("a truth value is neither 0 nor 1")
    return torch.from_numpy(np.ascontiguousarray(rows).reshape(-1)).view(dtype).reshape(shape)


def split(parts: Sequence[Rows]) -> bytes:
    """The first byte of all numbers of all parts, then the second, and so on."""
    widest = max((part.shape[1] for part in parts), default=0)
    return b"".join(part[:, k].tobytes() for k in range(widest) for part in parts if k < part.shape[1])


def join(planes: bytes, sizes: Sequence[tuple[int, int]]) -> list[Rows]:
    """The inverse of ``split`` for parts of these sizes, (numel, bytes per number).

    Raises:
        ValueError: there are more or fewer bytes than that.
    """
    if len(planes) != sum(numel * width for numel, width in sizes):
        raise ValueError("the values are not as many as were said")
    parts: list[Rows] = [np.empty(size, np.uint8) for size in sizes]
    content, at = np.frombuffer(planes, np.uint8), 0
    for k in range(max((width for _, width in sizes), default=0)):
        for part in parts:
            if k < part.shape[1]:
                part[:, k] = content[at : at + len(part)]
                at += len(part)
    return parts
