"""Compact tickets: safetensors files with compressed parts, whose index may lie."""

from __future__ import annotations

import functools
import json

import numpy as np
import torch
from hypothesis import strategies as st
from safetensors.torch import load

from ticketlab.export import compact, frames
from ticketlab.mask import Mask
from ticketlab.program import Ticket
from ticketlab.ticket_file import TicketFile

from . import safetensors_files
from .damage import altered, as_json, damaged, in_bytes, plain
from .reader import Reader, file
from .safetensors_files import steady
from .tickets import NAME, read_ticket, signed


@functools.cache
def _compact_file() -> bytes:
    draw = torch.Generator().manual_seed(0)
    kept = {"a.weight": torch.arange(600).reshape(30, 20) % 7 == 0, "b.weight": torch.ones(2, 2, 2, dtype=torch.bool)}
    weights = {n: torch.where(k, torch.rand(k.shape, generator=draw), -0.0) for n, k in kept.items()}
    weights |= {"norm.count": torch.tensor(3), "tied": weights["a.weight"], "flag": torch.tensor([True, False])}
    return steady(compact.to_bytes(TicketFile(Ticket(Mask(kept, {"seed": 1}), weights, 3.0), {"layers": [1]})))


@st.composite
def _consistent(draw: st.DrawFn) -> bytes:
    """By someone who knows how checksums are made, and writes frames that can be opened."""
    header, _ = safetensors_files.parts(_compact_file())
    said = json.loads(header["__metadata__"]["ticketlab"])
    tensors = load(_compact_file())
    for name in sorted(tensors):
        content = frames.opened(tensors[name].numpy().tobytes(), said["sizes"][name])
        if draw(st.booleans()):
            lie = draw(altered(json.loads(content), most=2)) if name == "index" else None
            content = in_bytes(as_json(lie)) if name == "index" else draw(damaged(content, most=2))
            packed = frames.compressed(content)
            if draw(st.integers(0, 3)) == 0:
                packed = draw(damaged(packed, most=2))
            tensors[name] = torch.from_numpy(np.frombuffer(packed, np.uint8).copy())
            said["sizes"][name] = len(content)
    said.pop("checksum")
    return signed(plain(draw(altered(said, most=draw(st.integers(0, 2))))), tensors)


READERS = [
    Reader(
        "compact",
        _compact_file,
        lambda: st.one_of(safetensors_files.any_of(_compact_file()), _consistent(), _consistent()),
        file(NAME),
        read_ticket,
        12,
    )
]
