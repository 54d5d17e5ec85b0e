"""Facts that controls are made of: comparisons of two tickets, as plain numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from ticketlab.mask import Mask
from ticketlab.program import Ticket


def counts_equal(a: Mask, b: Mask) -> bool:
    """Every layer keeps the same number of weights."""
    return a.counts() == b.counts()


def moved(a: Mask, b: Mask) -> float:
    """The share of a's kept positions that b does not keep."""
    lost = sum(int((a[n] & ~b[n]).sum()) for n in a)
    return lost / a.kept if a.kept else 0.0


def kept_values(ticket: Ticket) -> dict[str, Tensor]:
    """The start values of the kept weights, per layer, in position order."""
    return {name: ticket.weights[name][kept] for name, kept in ticket.mask.items()}


def values_changed(a: Ticket, b: Ticket) -> float:
    """The share of kept positions whose start value differs (masks must be equal)."""
    old, new = kept_values(a), kept_values(b)
    changed = sum(int((old[n] != new[n]).sum()) for n in old)
    return changed / a.mask.kept if a.mask.kept else 0.0


def multisets_equal(a: Ticket, b: Ticket) -> bool:
    """Every layer's kept values are the same ones, in whatever order, bit for bit."""
    old, new = kept_values(a), kept_values(b)
    return all(torch.equal(old[n].sort().values, new[n].sort().values) for n in old)


def others_equal(a: Ticket, b: Ticket) -> bool:
    """Everything that the mask does not cover (biases, norms, buffers) starts from the same values."""
    names = [n for n in a.weights if n not in a.mask]
    return list(a.weights) == list(b.weights) and all(torch.equal(a.weights[n], b.weights[n]) for n in names)


def weights_equal(a: Ticket, b: Ticket) -> bool:
    """All start values, covered or not, are the same."""
    return list(a.weights) == list(b.weights) and all(torch.equal(a.weights[n], b.weights[n]) for n in a.weights)


def share(value: float) -> str:
    """A fraction as a percentage for a sentence."""
    return f"{100 * value:.0f}%" if value in (0.0, 1.0) or value >= 0.1 else f"{100 * value:.1f}%"
