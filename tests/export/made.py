"""Tickets that are hard to write down: signs of zeros, payloads of NaN, pruned weights that are not zero, tied ones."""

from __future__ import annotations

import tiny
import torch
from torch import Tensor

import ticketlab
from ticketlab.program import Ticket
from ticketlab.ticket_file import TicketFile

FACTS = {
    "method": "snip",
    "accuracy": 93.25,
    "nested": {"é": [1, None, True]},
    "model": {"name": "tiny:net"},
    "data": {"name": "tiny", "classes": 3, "in_shape": [1, 8, 8]},
}


def bits(tensor: Tensor) -> Tensor:
    """A tensor's bytes."""
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def same(one: Tensor, other: Tensor) -> bool:
    """Bit for bit, whatever the numbers are."""
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(bits(one), bits(other))


def ticket(sparsity: float = 0.7) -> TicketFile:
    """A trained tiny net's, as `ticketlab train` leaves it."""
    torch.manual_seed(0)
    model = tiny.Net()
    mask = ticketlab.prune(model, "magnitude", sparsity)
    return TicketFile(Ticket(mask, mask.apply_(model).state_dict(), 2.0), FACTS)


def odd_ticket() -> TicketFile:
    """With everything that arithmetic would not keep."""
    file = ticket()
    weights = {name: w.clone() for name, w in file.ticket.weights.items()}
    kept = file.ticket.mask["second.weight"]
    second = weights["second.weight"]
    # Minus zeros are what a product with a mask leaves; the others are what nothing should leave, and some do.
    second[~kept] = torch.where(torch.arange(int((~kept).sum())) % 2 == 0, -0.0, 0.0)
    second.view(torch.int32)[tuple((~kept).nonzero()[3])] = 0x7FC00123
    second.view(torch.int32)[tuple(kept.nonzero()[0])] = -0x3FFEDD
    second.view(torch.int32)[tuple(kept.nonzero()[1])] = 1
    weights["last.bias"][0] = -0.0
    weights["last.bias"][1] = float("inf")
    weights["tied.weight"] = second.clone()
    weights["almost.weight"] = torch.where(second == 0, 0.0, second)
    return TicketFile(Ticket(file.ticket.mask, weights, 0.5), FACTS)
