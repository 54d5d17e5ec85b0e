"""How many bytes a plan leaves in its store."""

from __future__ import annotations

from collections.abc import Iterable

from ticketlab.engine.job import tensors_of
from ticketlab.experiment.context import Context
from ticketlab.experiment.step import Step
from ticketlab.parameters import prunable

# Measured on stores of studies: what is written down about a step, with its entries in the store's lists; about each
# epoch of a training; about each layer of a mask; and the name, type and shape of a tensor beside its bytes.
RECORD, EPOCH, LAYER, HEADER = 1300, 115, 120, 105


def disk_of(steps: Iterable[Step], context: Context) -> int:
    """The bytes that these steps will take; those that turn out to share a result of another step take fewer.

    An initialisation leaves the weights; a training a byte for each test image and, if something builds on it, the
    weights and their momentum; pruning and rearranging a bit for each prunable weight; shuffling values the weights.
    """
    model = context.template()
    tensors = tensors_of(model)
    weights = sum(t.numel() * t.element_size() + HEADER for t in tensors.values())
    layers = prunable(model)
    mask = sum(w.numel() // 8 + LAYER for w in layers.values())
    total = 0
    for step in steps:
        total += RECORD
        if step.kind == "init" or (step.kind == "transform" and "weights" in step.inputs):
            total += weights
        elif step.kind in ("prune", "transform"):
            total += mask
        elif step.kind == "train":
            epochs = step.params["until"] - step.params["start"]
            total += len(context.data.test) + HEADER + round(EPOCH * epochs) + 2 * weights * step.params["keep"]
    return total
