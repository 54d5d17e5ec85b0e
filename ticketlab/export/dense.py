"""A plain state dict: every weight written out, pruned ones as zeros, for any program that reads safetensors."""

from __future__ import annotations

from torch import Tensor

from ticketlab.program import Ticket


def state_dict(ticket: Ticket) -> dict[str, Tensor]:
    """Copies of all weights and buffers, in which the pruned weights are exactly zero."""
    found = {name: w.detach().cpu().contiguous().clone() for name, w in ticket.weights.items()}
    for name, kept in ticket.mask.items():
        found[name].masked_fill_(~kept, 0)
    return found


def to_bytes(ticket: Ticket) -> bytes:
    """A safetensors file whose tensors ``model.load_state_dict`` takes; tied weights are written under each name."""
    from safetensors.torch import save

    return save(state_dict(ticket), {"format": "pt"})
