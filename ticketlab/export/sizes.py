"""How large a ticket's files are, and how small one could be."""

from __future__ import annotations

import math

from ticketlab.mask import Mask
from ticketlab.program import Ticket


def dense_bytes(ticket: Ticket) -> int:
    """Of all weights and buffers, written out."""
    return sum(w.numel() * w.element_size() for w in ticket.weights.values())


def entropy_bytes(ticket: Ticket) -> float:
    """What positions drawn at random in every layer, and kept values without any pattern, need at least.

    H(density) bits for each position of a layer, all bits of the kept values and of whatever no mask covers. A real
    file can be smaller, since the exponents of weights do have a pattern.
    """
    covered = sum(
        mask_bits(ticket.mask, name) / 8 + int(kept.sum()) * ticket.weights[name].element_size()
        for name, kept in ticket.mask.items()
    )
    rest = (w.numel() * w.element_size() for name, w in ticket.weights.items() if name not in ticket.mask)
    return covered + sum(rest)


def mask_bits(mask: Mask, name: str) -> float:
    """Shannon's entropy of one layer's positions, in bits."""
    kept = mask[name]
    density = int(kept.sum()) / kept.numel() if kept.numel() else 0.0
    shares = [share for share in (density, 1 - density) if share]
    return -kept.numel() * sum(share * math.log2(share) for share in shares)
