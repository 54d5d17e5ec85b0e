"""export_ticket: one finished ticket, written for whoever reads it next."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ticketlab import packing
from ticketlab.errors import InputError, unknown
from ticketlab.export import compact, dense, onnx_file
from ticketlab.export.network import network_of
from ticketlab.export.sizes import dense_bytes, entropy_bytes
from ticketlab.program import Ticket
from ticketlab.ticket_file import TicketFile, load_ticket

FORMATS = ("compact", "onnx", "dense")


def export_ticket(
    ticket: Ticket | TicketFile | str | os.PathLike[str],
    to: str | os.PathLike[str],
    format: str = "compact",
    *,
    model: str | None = None,
) -> dict[str, Any]:
    """Write a ticket to a file, which appears whole or not at all, after checking what will be in it.

    Args:
        ticket: a ticket, what ``load_ticket`` gave, or the path of a file that it reads.
        format: "compact" (mask and kept values, compressed; ``load_ticket`` reads it, bit-equal), "onnx" (the network,
            pruned weights as zeros) or "dense" (a safetensors state dict, pruned weights as zeros).
        model: for ONNX: the model's name or ``package:factory``, if the facts do not name a registered one.

    Returns:
        Plain values: format, bytes of the file, dense_bytes of all weights and buffers, entropy_bytes (what positions
        and values need that have no pattern), and for ONNX its max_difference in ONNX Runtime (share of the largest
        output; None if that is not installed).

    Raises:
        InputError: anything wrong with the input or the file, or a package that is not installed.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    file = _file(ticket)
    found: dict[str, Any] = {"format": format}
    if format == "compact":
        content = compact.to_bytes(file)
        compact.check(content)
    elif format == "dense":
        content = dense.to_bytes(file.ticket)
    else:
        network = network_of(file, model)
        content = onnx_file.to_bytes(network.model, network.in_shape, file.facts)
        found["max_difference"] = apart = onnx_file.difference(content, network.model, network.in_shape)
        if apart is not None and not apart <= onnx_file.TOLERANCE:
            raise InputError(
                f"asked for ONNX of {network.name}, got outputs that differ by {apart:.1e} of the largest; "
                f"at most {onnx_file.TOLERANCE:.0e} is rounding."
            )
    packing.write_atomically(Path(to), content)
    sizes = {"dense_bytes": dense_bytes(file.ticket), "entropy_bytes": round(entropy_bytes(file.ticket))}
    return {**found, "bytes": len(content), **sizes}


def _file(ticket: Ticket | TicketFile | str | os.PathLike[str]) -> TicketFile:
    if isinstance(ticket, TicketFile):
        return ticket
    if isinstance(ticket, Ticket):
        return TicketFile(ticket, {})
    if isinstance(ticket, (str, os.PathLike)):
        return load_ticket(ticket)
    raise InputError(f"asked to export a ticket, got {type(ticket).__name__}.")
