"""The pairs of tickets that a study compares, and how they are judged: as far as its store has them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ticketlab import stats
from ticketlab.errors import InputError
from ticketlab.experiment.arms import DENSE, ORIGINAL, Arm, Plan, Trained
from ticketlab.experiment.settings import judging
from ticketlab.experiment.store import Store
from ticketlab.experiment.study import Compared, Study
from ticketlab.stats.plan import MANY_IMAGES


def compared(study: Study, plan: Plan) -> list[Compared]:
    """Every comparison of the study, in the order of the report."""
    return [
        (method, check, sparsity)
        for method in study.methods
        for check in study.checks
        for sparsity in study.sparsities
        if Arm(method, check, sparsity, 0) in plan.arms
    ]


def comparison(
    plan: Plan, store: Store, method: str, check: str, sparsity: float, images: bool = True
) -> stats.Comparison:
    """The pairs of the leading seeds that are finished in both arms: later ones wait for the gap to close.

    With ``images``, with each ticket's answers to the single test images too.
    """
    original: list[float] = []
    tampered: list[float] = []
    right: tuple[list[Any], list[Any]] = ([], [])
    controls = []
    for seed in range(plan.seeds(method, check, sparsity)):
        pair = [plan.arms[Arm(method, c, sparsity, seed)] for c in (ORIGINAL, check)]
        accuracies = [accuracy(store, t) for t in pair]
        control = store.facts(pair[1].control or "")
        if accuracies[0] is None or accuracies[1] is None or control is None:
            break
        original.append(accuracies[0])
        tampered.append(accuracies[1])
        controls.append(control)
        for bits, trained in zip(right, pair, strict=True):
            if images:
                bits.append(store.tensors(trained.final, "correct")["correct"].numpy())
    failed = [c["summary"] for c in controls if not c["passed"]]
    return stats.Comparison(
        method,
        check,
        sparsity,
        tuple(original),
        tuple(tampered),
        control_ok=not failed,
        control_note=f"the control failed: {failed[0]}" if failed else "",
        identical=bool(controls) and all(c["equal"] for c in controls),
        correct_original=np.stack(right[0]) if right[0] else None,
        correct_tampered=np.stack(right[1]) if right[1] else None,
    )


def accuracy(store: Store, trained: Trained) -> float | None:
    """Last-epoch test accuracy in percent, NaN if training diverged, None if it is not finished."""
    facts = store.facts(trained.final)
    if facts is None:
        return None
    return math.nan if facts["accuracy"] is None else float(facts["accuracy"])


def dense_accuracies(plan: Plan, store: Store) -> list[float]:
    """Those of the dense runs that are finished, by seed, in percent."""
    dense = [accuracy(store, plan.arms[Arm("", DENSE, None, s)]) for s in sorted(plan.dense_seeds())]
    return [a for a in dense if a is not None]


def settings_of(study: Study, dense: list[float]) -> tuple[stats.Settings | None, str]:
    """How to judge, and the margin's rule in words; None as long as the margin waits for the first dense run."""
    wanted, test = study.statistics, study.data["test"]
    asked = wanted["margin"]
    share = str(asked).endswith("%") or (asked is None and test < MANY_IMAGES)
    rule = f"{asked or '2%'} of (dense - chance)" if share else f"{asked or '0.5'} points, as asked"
    if asked is None:
        rule = rule.replace("as asked", "the default")
    if share and not any(math.isfinite(a) for a in dense):
        return None, rule
    try:
        # The dense runs of the first look fix a share: later seeds must not move the margin under earlier verdicts.
        margin = stats.resolve_margin(asked, test, study.data["chance"], dense[: wanted["looks"][0]])
    except InputError:
        # Fixed before the first run, it turned out finer than the test set because the dense net is poor.
        margin = 300 / test
        rule += f", raised to three of {test} test images"
    return judging(wanted, test, study.data["chance"], margin, tuple(dense) or None), rule
