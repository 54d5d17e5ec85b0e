"""Rounds: how the kept count shrinks when a method prunes in steps."""

from __future__ import annotations

import math

from ticketlab import budget
from ticketlab.errors import InputError


def kept_after(total: int, sparsity: float, round_: int, rounds: int) -> int:
    """Weights kept after round ``round_`` of ``rounds`` on the exponential path ``(1 - sparsity)^(round_/rounds)``.

    Between rounds the number removed is rounded down, as the Synaptic-Flow code does (with another rounding 1-3%
    of the final positions differ); after the last round it is exactly ``round((1 - sparsity) * total)``.
    """
    if round_ >= rounds:
        return budget.total(total, sparsity)
    density = float((1 - sparsity) ** (round_ / rounds))
    return total - math.floor((1 - density) * total)


def sparsity_after(sparsity: float, round_: float, rounds: int) -> float:
    """The sparsity after a round of the same path: every round removes the same share of what remains."""
    return sparsity if round_ >= rounds else 1 - (1 - sparsity) ** (round_ / rounds)


def rounds_needed(sparsity: float, share: float) -> int:
    """Rounds that removing ``share`` of the rest each time takes to reach ``sparsity``, at least one.

    Raises:
        InputError: such a share never gets there.
    """
    if not 0 < share < 1:
        raise InputError(f"asked to prune in rounds of share {share}, got no share: it needs 0 < share < 1.")
    if sparsity <= 0:
        return 1
    return max(1, math.ceil(math.log(1 - sparsity) / math.log(1 - share) - 1e-9))
