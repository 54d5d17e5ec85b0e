"""find: the ticket of any method, with the training that it needs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ticketlab.engine.recipe import Recipe
from ticketlab.errors import InputError
from ticketlab.experiment.api import as_data
from ticketlab.experiment.factory import ModelLike
from ticketlab.experiment.plan import ORIGINAL, Arm, plan
from ticketlab.experiment.prepare import MethodLike, prepare
from ticketlab.experiment.run import InProcess
from ticketlab.program import Ticket


def find(
    model: ModelLike,
    method: MethodLike,
    sparsity: float,
    *,
    data: Any,
    recipe: Recipe | None = None,
    seed: int = 0,
    per_class: int = 10,
) -> Ticket:
    """The ticket as its last training starts: mask, start weights (with buffers), and the epoch to start from.

    Runs the method's whole program but its last training, so it trains where the method needs that (``lottery``,
    ``imp``). Given a module, its weights are the initialisation; a name or factory is drawn with ``seed``.

    Args:
        data: ``(train, test)``, a ``Data``, or the name of a data set.

    Raises:
        InputError: anything wrong with the input, before any training.
    """
    with tempfile.TemporaryDirectory(prefix="ticketlab-") as scratch:
        prepared = prepare(
            [method],
            model=model,
            data=as_data(data),
            sparsity=[sparsity],
            folder=Path(scratch),
            recipe=recipe,
            per_class=per_class,
            # Nothing is compared, so that any check will do and any test set is fine enough.
            checks=["rearrange"],
            margin=1e9,
        )
        study = prepared.study
        planned = plan(study, prepared.methods, seeds=[seed])
        start = planned.arms[Arm(study.methods[0], ORIGINAL, study.sparsities[0], seed)].start
        assert start.mask is not None
        store = prepared.store
        needed = planned.ancestors([start.mask, start.weights])
        InProcess(prepared.context).run(needed, store, lambda step, seconds, linked: None)
        lost = (store.facts(start.mask) or {}).get("diverged_at")
        if lost is not None:
            raise InputError(
                f"asked for a ticket of {study.methods[0]}, got a training that diverged in epoch {lost} before the "
                "pruning. Lower the learning rate."
            )
        return Ticket(store.mask(start.mask), store.tensors(start.weights, "weights"), float(start.at))
