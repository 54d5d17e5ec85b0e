"""A study that goes on until decided, look by look, simulated many times at once by the functions that decide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ticketlab.stats.grow import ENOUGH, hopeless
from ticketlab.stats.replay import Looks, Outcome, replay

from .studies import UNTIL_DECIDED, evidence_at, settings

_STOPPED = {"p_diff": 1.0, "p_equiv": 1.0, "direction": 0}


def until_decided(
    a: np.ndarray,
    b: np.ndarray,
    margin: float = 0.5,
    alpha: float = 0.05,
    weights: Sequence[float] = UNTIL_DECIDED[1],
    futility: bool = True,
) -> tuple[Outcome, np.ndarray]:
    """The outcomes, and the seeds that each comparison got, of (studies, comparisons, 20) tickets that all train.

    Other weights than the plan's are for showing what would go wrong.
    """
    looks = UNTIL_DECIDED[0]
    plan = settings(margin=margin, alpha=alpha, looks=looks, weights=UNTIL_DECIDED[1])
    evidence = evidence_at(a, b, looks, margin, plan.image)
    seeds = np.full(a.shape[:-1], looks[0])
    going = np.ones(a.shape[:-1], dtype=bool)
    so_far: dict[str, list[np.ndarray]] = {name: [] for name in (*_STOPPED, "no_equality", "void")}
    for look, e in zip(looks, evidence, strict=True):
        seeds = np.where(going, look, seeds)
        for name, arrays in so_far.items():
            stopped = _STOPPED.get(name, arrays[-1] if arrays else False)
            arrays.append(np.where(going, getattr(e, name), stopped))
        outcome = replay(Looks(**{n: np.stack(x, axis=-2) for n, x in so_far.items()}), weights, alpha)
        going = going & ~outcome.decided
        if futility and look >= ENOUGH:
            cut_equiv = np.where(e.no_equality, 0.0, outcome.cut_equiv)
            open_ = tuple(x[going] for x in (e.estimate.drop, e.estimate.sd, outcome.cut_diff, cut_equiv))
            going[going] = ~hopeless(*open_, plan)
    return outcome, seeds
