"""The cut-off for the p-values of a family."""

from __future__ import annotations

import numpy as np

from ticketlab.stats.comparison import Multiplicity
from ticketlab.stats.student import Array


def cutoff(p: Array, alpha: float, rule: Multiplicity = "holm") -> Array:
    """The c for which `p <= c` is the family's decision; the last axis of `p` runs over its members.

    "holm" keeps the chance of any false claim below `alpha` (Holm 1979), "bh" the expected share of false claims
    (Benjamini and Hochberg 1995), "none" only that of each member by itself.
    """
    m = p.shape[-1]
    if rule == "none":
        return np.full(p.shape[:-1], alpha)
    ranked = np.sort(p, axis=-1)
    if rule == "bh":
        below = ranked <= alpha * np.arange(1, m + 1) / m
        rejected = np.where(below, np.arange(1, m + 1), 0).max(-1)
        return np.asarray(alpha * np.maximum(1, rejected) / m)
    below = ranked <= alpha / (m - np.arange(m))
    rejected = np.cumprod(below, axis=-1).sum(-1)
    return np.asarray(alpha / np.maximum(1, m - rejected))


def smallest_cutoff(alpha: float, members: int, rule: Multiplicity = "holm") -> float:
    """The cut-off that a member of a family is sure of, whatever the others show."""
    return alpha if rule == "none" else alpha / members
