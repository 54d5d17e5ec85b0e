"""Batches between ranks: tensors as their bytes, what holds them as JSON. No pickle: nothing that arrives runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ticketlab.distributed.ranks import broadcast_bytes, broadcast_text, rank
from ticketlab.errors import InputError


def checked(value: Any, what: str) -> Any:
    """The value, after checking that it can be sent; nothing is copied.

    Raises:
        InputError: it holds something other than dense tensors, tuples, lists, dicts with text keys and plain values.
    """
    _outline(value, [], what)
    return value


def broadcast_value(value: Any, source: int) -> Any:
    """The value of rank ``source``, which is ``checked``; on other ranks its tensors are on the CPU."""
    tensors: list[Tensor] = []
    outline = json.dumps(_outline(value, tensors, "a value")) if rank() == source else None
    found = json.loads(broadcast_text(outline, source))
    return _rebuilt(found, iter(tensors), source)


def _outline(value: Any, tensors: list[Tensor], what: str) -> Any:
    """The structure as JSON; its tensors go into the list, in order."""
    # Subclasses are refused, as another type would arrive: a model may look at a named tuple's fields.
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise InputError(f"asked to share {what} between ranks, got a tensor that is not dense ({value.layout}).")
        tensors.append(value)
        return {"tensor": [str(value.dtype).removeprefix("torch."), list(value.shape)]}
    if type(value) in (tuple, list):
        return {type(value).__name__: [_outline(part, tensors, what) for part in value]}
    if type(value) is dict and all(type(key) is str for key in value):
        return {"dict": [[key, _outline(part, tensors, what)] for key, part in value.items()]}
    if value is None or type(value) in (bool, int, float, str):
        return {"plain": value}
    raise InputError(
        f"asked to share {what} between ranks, got {type(value).__name__} in it. "
        "Use tensors in tuples, lists and dicts, and plain values."
    )


def _rebuilt(outline: Any, tensors: Iterator[Tensor], source: int) -> Any:
    ((kind, content),) = outline.items()
    if kind == "tensor":
        dtype, shape = content
        return _sent(next(tensors, None), getattr(torch, dtype), shape, source)
    if kind == "dict":
        return {key: _rebuilt(part, tensors, source) for key, part in content}
    if kind == "plain":
        return content
    parts = [_rebuilt(part, tensors, source) for part in content]
    return tuple(parts) if kind == "tuple" else parts


def _sent(mine: Tensor | None, dtype: torch.dtype, shape: list[int], source: int) -> Tensor:
    """One tensor of rank ``source``; there it stays as it is."""
    content = None if mine is None else _bytes_of(mine)
    found = broadcast_bytes(content, math.prod(shape) * dtype.itemsize, source)
    return found.view(dtype).reshape(shape) if mine is None else mine


def _bytes_of(tensor: Tensor) -> Tensor:
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
    return plain.reshape(-1).view(torch.uint8)
