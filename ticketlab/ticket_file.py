"""Tickets on disk: safetensors with the weights, one bit per weight for the mask, and the facts in the header."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ticketlab import packing
from ticketlab.contents import tensors_digest
from ticketlab.errors import InputError
from ticketlab.mask import Mask
from ticketlab.program import Ticket

FORMAT = "ticketlab-ticket-1"
COMPACT = "ticketlab-compact-1"
# One entry holds the whole header: safetensors writes several in an order that changes from process to process.
METADATA = "ticketlab"
_MASK, _WEIGHTS = "mask/", "weights/"


@dataclass(frozen=True)
class TicketFile:
    """A ticket, and the facts that were written with it, in plain values."""

    ticket: Ticket
    facts: dict[str, Any]


def save_ticket(path: str | os.PathLike[str], ticket: Ticket, facts: Mapping[str, Any]) -> None:
    """Write a ticket; the file appears whole or not at all. The same ticket and facts give the same bytes.

    Args:
        facts: any JSON object without NaN or infinities.

    Raises:
        InputError: the file cannot be written.
    """
    from safetensors.torch import save

    header = {
        "format": FORMAT,
        "shapes": [[name, list(kept.shape)] for name, kept in ticket.mask.items()],
        "fingerprint": ticket.mask.fingerprint,
        "at": float(ticket.at),
        "facts": dict(facts),
    }
    tensors = {_MASK + name: packing.pack(kept) for name, kept in ticket.mask.items()}
    # Copies: tied weights share their memory, which safetensors does not store.
    tensors |= {_WEIGHTS + name: w.detach().cpu().contiguous().clone() for name, w in ticket.weights.items()}
    header["checksum"] = checksum(header, tensors)
    packing.write_atomically(Path(path), save(tensors, {METADATA: dumps(header)}))


def load_ticket(path: str | os.PathLike[str]) -> TicketFile:
    """Read a ticket that ``ticketlab train`` or ``ticketlab export`` (compact) wrote: ``.ticket`` and ``.facts``.

    The weights are bit-equal to those written: ``model.load_state_dict(load_ticket(path).ticket.weights)``.

    Raises:
        InputError: the file is missing, unreadable, damaged, or not a ticket.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise InputError(f"asked for the ticket file {path}, got no such file.")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = _header(file.metadata(), path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        if header["format"] == COMPACT:
            from ticketlab.export.compact import from_tensors

            return from_tensors(header, tensors)
        return _checked(header, tensors)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError, RecursionError, OSError) as error:
        if isinstance(error, InputError):
            raise
        why = f"no {error}" if isinstance(error, KeyError) else error
        raise InputError(f"asked for a ticket in {path}, got a file that cannot be read: {why}.") from error


def is_ticket(metadata: Mapping[str, str] | None) -> bool:
    """Whether a safetensors file with this metadata says that it is a ticket."""
    return METADATA in (metadata or {})


def _header(metadata: Mapping[str, str] | None, path: Path) -> dict[str, Any]:
    found = metadata or {}
    header = json.loads(found.get(METADATA, "{}"))
    tag = header.get("format", found.get("format")) if isinstance(header, dict) else None
    if tag not in (FORMAT, COMPACT):
        raise InputError(
            f"asked for a ticket in {path}, got format {tag!r}; tickets say {FORMAT!r}. Write one with ticketlab train."
        )
    return dict(header)


def _checked(header: dict[str, Any], tensors: dict[str, Tensor]) -> TicketFile:
    """The ticket, believing nothing that the file says without checking it."""
    if header.pop("checksum") != checksum(header, tensors):
        raise ValueError("its contents do not have the checksum that was written with them")
    shapes = packing.read_shapes(dumps(header["shapes"]))
    weights = {n.removeprefix(_WEIGHTS): t for n, t in tensors.items() if n.startswith(_WEIGHTS)}
    if len(tensors) != len(shapes) + len(weights):
        raise ValueError("it holds tensors that belong neither to the mask nor to the weights")
    for name, shape in shapes.items():
        if tuple(weights[name].shape) != shape:
            raise ValueError(f"the mask of {name!r} has shape {shape}, its weights {tuple(weights[name].shape)}")
    facts, fingerprint, at = header["facts"], header["fingerprint"], header["at"]
    if not (isinstance(facts, dict) and isinstance(fingerprint, dict)):
        raise ValueError("the facts or the mask's fingerprint are no object")
    if type(at) is not float or not (math.isfinite(at) and at >= 0):
        raise ValueError(f"the epoch is {at!r}")
    mask = {name: packing.unpack_checked(name, tensors[_MASK + name], shape) for name, shape in shapes.items()}
    return TicketFile(Ticket(Mask(mask, fingerprint), weights, at), facts)


def checksum(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """A hash over the header and every tensor's name, type, shape and bytes (hex)."""
    return hashlib.sha256((dumps(header) + tensors_digest(tensors)).encode()).hexdigest()


def dumps(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
