"""Compact tickets: coded positions and kept values in a safetensors file, a tenth of the size at 90%, bit-equal."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ticketlab.contents import tensors_digest
from ticketlab.errors import InputError
from ticketlab.export import byte_planes, frames, gaps
from ticketlab.export.byte_planes import Rows, rows_of, tensor_of
from ticketlab.export.index import DTYPES, Entry, as_json, from_json
from ticketlab.mask import Mask
from ticketlab.program import Ticket
from ticketlab.ticket_file import COMPACT, METADATA, TicketFile, checksum, dumps

_INDEX, _GAPS, _VALUES = "index", "gaps", "values"
_LONGEST_INDEX = 2**26


def to_bytes(file: TicketFile) -> bytes:
    """The ticket and its facts as one file. The same ticket gives the same bytes with the same zstandard.

    Raises:
        InputError: a tensor is of a kind that cannot be written, or the mask does not fit the weights.
    """
    from safetensors.torch import save

    entries, coded, values = _encoded(file.ticket)
    index = json.dumps([as_json(entries), list(file.ticket.mask)], separators=(",", ":")).encode()
    parts = {_INDEX: index, _GAPS: b"".join(coded), _VALUES: byte_planes.split(values)}
    tensors = {name: _blob(frames.compressed(content)) for name, content in parts.items()}
    header = {
        "format": COMPACT,
        "sizes": {name: len(content) for name, content in parts.items()},
        "contents": _contents(file.ticket),
        "fingerprint": file.ticket.mask.fingerprint,
        "at": float(file.ticket.at),
        "facts": dict(file.facts),
    }
    header["checksum"] = checksum(header, tensors)
    return save(tensors, {METADATA: dumps(header)})


def check(content: bytes) -> None:
    """Raise ValueError unless what ``to_bytes`` gave reads back as the ticket that it was given."""
    from safetensors.torch import load

    size = int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][METADATA])
    from_tensors(header, load(content))


def from_tensors(header: dict[str, Any], tensors: Mapping[str, Tensor]) -> TicketFile:
    """The ticket in a safetensors file with this header, believing nothing that it says without checking it.

    Raises:
        ValueError, KeyError or TypeError: the file is damaged or lies.
        InputError: zstandard is not installed.
    """
    if set(tensors) != {_INDEX, _GAPS, _VALUES} or any(t.dtype != torch.uint8 or t.ndim != 1 for t in tensors.values()):
        raise ValueError("it holds other tensors than an index, gaps and values")
    if header.pop("checksum") != checksum(header, tensors):
        raise ValueError("its contents do not have the checksum that was written with them")
    facts, fingerprint, at, sizes = header["facts"], header["fingerprint"], header["at"], header["sizes"]
    if not (isinstance(facts, dict) and isinstance(fingerprint, dict) and isinstance(sizes, dict)):
        raise ValueError("the facts, the sizes or the mask's fingerprint are no object")
    if type(at) is not float or not (math.isfinite(at) and at >= 0):
        raise ValueError(f"the epoch is {at!r}")
    if not (type(sizes[_INDEX]) is int and 0 <= sizes[_INDEX] <= _LONGEST_INDEX):
        raise ValueError(f"the index has {sizes[_INDEX]!r} bytes")
    rows, covered = json.loads(frames.opened(_bytes(tensors[_INDEX]), sizes[_INDEX]))
    entries = from_json(rows, sum(t.numel() for t in tensors.values()))
    if sorted(covered) != sorted(name for name, entry in entries.items() if entry.kept is not None):
        raise ValueError("the mask covers other tensors than the index says")
    ticket = _decoded(entries, covered, fingerprint, at, tensors)
    if header["contents"] != _contents(ticket):
        raise ValueError("it does not hold the ticket that was written")
    return TicketFile(ticket, facts)


def _encoded(ticket: Ticket) -> tuple[list[Entry], list[bytes], list[Rows]]:
    """The entries in the weights' order, and coded positions and values of those that have any."""
    entries: list[Entry] = []
    coded: list[bytes] = []
    values: list[Rows] = []
    same = {_key(ticket.weights[name]): name for name in reversed(list(ticket.mask)) if name in ticket.weights}
    for name, weight in ticket.weights.items():
        if DTYPES.get(str(weight.dtype).removeprefix("torch.")) != weight.dtype:
            raise InputError(f"asked to export {name!r}, got a tensor of {weight.dtype}, which no compact file holds.")
        shape, rows = tuple(weight.shape), rows_of(weight)
        if name in ticket.mask:
            kept = _flags(ticket.mask[name], name, shape)
            pruned = rows[~kept]
            stray = np.any(pruned, axis=1)
            positions = [gaps.encode(flags).tobytes() for flags in (kept, stray)]
            lengths = (len(positions[0]), len(positions[1]))
            entries.append(Entry(name, weight.dtype, shape, int(kept.sum()), int(stray.sum()), lengths))
            coded += positions
            values += [rows[kept], pruned[stray]]
        elif (like := same.setdefault(_key(weight), name)) != name:
            entries.append(Entry(name, weight.dtype, shape, like=like))
        else:
            entries.append(Entry(name, weight.dtype, shape))
            values.append(rows)
    if missing := [name for name in ticket.mask if name not in ticket.weights]:
        raise InputError(f"asked to export a ticket, got a mask of {missing[0]!r} and no such weight.")
    return entries, coded, values


def _decoded(
    entries: Mapping[str, Entry],
    covered: list[str],
    fingerprint: dict[str, Any],
    at: float,
    tensors: Mapping[str, Tensor],
) -> Ticket:
    coded = np.frombuffer(
        frames.opened(_bytes(tensors[_GAPS]), sum(sum(e.gap_bytes) for e in entries.values())), np.uint8
    )
    sizes: list[tuple[int, int]] = []
    for entry in entries.values():
        if entry.kept is not None:
            sizes += [(entry.kept, entry.dtype.itemsize), (entry.strays, entry.dtype.itemsize)]
        elif entry.like is None:
            sizes.append((entry.numel, entry.dtype.itemsize))
    planes = frames.opened(_bytes(tensors[_VALUES]), sum(numel * width for numel, width in sizes))
    values = iter(byte_planes.join(planes, sizes))
    found: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    begin = 0
    for name, entry in entries.items():
        if entry.kept is not None:
            middle = begin + entry.gap_bytes[0]
            end = middle + entry.gap_bytes[1]
            kept = gaps.decode(coded[begin:middle], entry.numel, entry.kept)
            stray = gaps.decode(coded[middle:end], entry.numel - entry.kept, entry.strays)
            begin = end
            rows = np.zeros((entry.numel, entry.dtype.itemsize), np.uint8)
            rows[kept] = next(values)
            rows[np.flatnonzero(~kept)[stray]] = next(values)
            found[name] = tensor_of(rows, entry.dtype, entry.shape)
            masks[name] = torch.from_numpy(kept).reshape(entry.shape)
        elif entry.like is None:
            found[name] = tensor_of(next(values), entry.dtype, entry.shape)
    weights = {name: found[name] if e.like is None else found[e.like].clone() for name, e in entries.items()}
    return Ticket(Mask({name: masks[name] for name in covered}, fingerprint), weights, at)


def _flags(mask: Tensor, name: str, shape: tuple[int, ...]) -> gaps.Flags:
    if tuple(mask.shape) != shape:
        raise InputError(f"asked to export {name!r}, got a mask of shape {tuple(mask.shape)} for weights of {shape}.")
    flags: gaps.Flags = mask.numpy().reshape(-1)
    return flags


def _contents(ticket: Ticket) -> str:
    """A hash over the mask and every weight, whatever file they come from (hex)."""
    return hashlib.sha256((ticket.mask.digest() + tensors_digest(ticket.weights)).encode()).hexdigest()


def _key(tensor: Tensor) -> str:
    return tensors_digest({"": tensor})


def _blob(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8).copy())


def _bytes(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()
