"""find: the ticket of any method, with the training that it needs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ticketlab.engine.recipe import Recipe
from ticketlab.experiment.api import as_data
from ticketlab.experiment.factory import ModelLike
from ticketlab.experiment.groundwork import MethodLike
from ticketlab.experiment.single import single
from ticketlab.experiment.store import Store
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
    """The ticket as its last training starts: mask, start weights (with buffers), where to start and to end.

    Runs the method's whole program but its last training, so it trains where the method needs that (``lottery``,
    ``imp``). Given a module, its weights are the initialisation; a name or factory is drawn with ``seed``.

    Args:
        data: ``(train, test)``, a ``Data``, or the name of a data set.

    Raises:
        InputError: anything wrong with the input, before any training.
    """
    asked = single(
        method, model=model, data=as_data(data), sparsity=sparsity, seed=seed, recipe=recipe, per_class=per_class
    )
    with tempfile.TemporaryDirectory(prefix="ticketlab-") as scratch:
        return asked.find(Store(Path(scratch)))
