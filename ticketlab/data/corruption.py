"""Corrupted data for the sanity checks of Su et al. 2020 (arXiv 2009.11094), with proof of what changed.

Every function leaves its argument alone and returns a new Split and facts: plain numbers, measured on both.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator, Tensor

from ticketlab.data.types import Split
from ticketlab.errors import InputError

Facts = dict[str, float | int | bool]
_CHUNK = 2**24  # stored values handled at a time, which bounds the extra memory


def random_labels(split: Split, classes: int, generator: Generator) -> tuple[Split, Facts]:
    """Every label drawn anew, uniformly over the classes: about 1 in `classes` stays right by chance."""
    corrupt = Split(split.inputs, _drawn(split.targets, classes, generator))
    return corrupt, _compare(split, corrupt)


def random_pixels(split: Split, generator: Generator) -> tuple[Split, Facts]:
    """Within each image an own uniform permutation of all its C·H·W stored values, across the channels."""
    corrupt = Split(_permuted(split.inputs, generator), split.targets)
    return corrupt, _compare(split, corrupt)


def corrupted(split: Split, classes: int, generator: Generator) -> tuple[Split, Facts]:
    """Random labels and then random pixels, which the paper calls corrupted data."""
    labels = _drawn(split.targets, classes, generator)
    corrupt = Split(_permuted(split.inputs, generator), labels)
    return corrupt, _compare(split, corrupt)


def half(split: Split, generator: Generator) -> tuple[Split, Facts]:
    """A uniformly random half of the examples (rounded down, at least one), untouched and in stored order."""
    count = max(1, len(split) // 2)
    index = torch.randperm(len(split), generator=generator, device=generator.device)[:count].sort().values
    kept = split.take(index.to(split.targets.device))
    different = len(set(index.tolist()))
    facts = _compare(Split(split.inputs[index], split.targets[index]), kept)
    return kept, facts | {"count_before": len(split), "images_kept": different / len(split)}


def first_half(split: Split, batch_size: int) -> tuple[Split, Facts]:
    """The half data of Su et al. as coded: the first half of the batches as stored, in that order in every epoch.

    Two changes at once: fewer examples, and no shuffling. Of CIFAR's 50,000 in batches of 64 it is 390 batches.
    """
    count = whole_batches_of_half(len(split), batch_size)
    kept = Split(split.inputs[:count], split.targets[:count], ordered=True)
    facts = _compare(Split(split.inputs[:count], split.targets[:count]), kept)
    # Of data that are stored class by class, the first half lacks half of the classes: something else than half.
    every = len(kept.targets.unique()) == len(split.targets.unique())
    more = {
        "count_before": len(split),
        "count_of_half_the_batches": len(split) // batch_size // 2 * batch_size,
        "images_kept": count / len(split),
        "order_fixed": kept.ordered,
        "every_class": every,
    }
    return kept, facts | more


def check_first_half(split: Split, batch_size: int) -> None:
    """Refuse data of which the first half of the batches is no half of the data.

    Raises:
        InputError: fewer than two batches, or classes of which the first half has no example.
    """
    if len(split) < 2 * batch_size:
        raise InputError(
            f"asked for the first half of the batches of {batch_size}, got {len(split)} examples: not two batches."
        )
    kept = split.targets[: whole_batches_of_half(len(split), batch_size)]
    left, classes = len(kept.unique()), len(split.targets.unique())
    if left < classes:
        raise InputError(
            f"asked for the first half of the data as stored, got data stored class by class: {left} of {classes} "
            "classes are in it. Ask for half-data, which draws its half."
        )


def whole_batches_of_half(examples: int, batch_size: int) -> int:
    """How many examples half of the full batches hold, at least one batch."""
    return min(examples, max(1, examples // batch_size // 2) * batch_size)


def _drawn(targets: Tensor, classes: int, generator: Generator) -> Tensor:
    return torch.randint(classes, targets.shape, generator=generator, device=generator.device).to(targets)


def _permuted(inputs: Tensor, generator: Generator) -> Tensor:
    """NumPy shuffles rows independently in one call; its seed is one draw from `generator`."""
    seed = torch.randint(2**62, (1,), generator=generator, device=generator.device).item()
    shuffled = np.random.default_rng(int(seed)).permuted(inputs.cpu().flatten(1).numpy(), axis=1)
    return torch.from_numpy(shuffled).reshape(inputs.shape).to(inputs.device)


def _compare(before: Split, after: Split) -> Facts:
    """The shares are of examples, except `pixels_moved`: the share of stored values that differ.

    `values_kept`: every image holds the same values as before, as often as before, wherever they are.
    """
    count, moved, untouched, same_values = len(before), 0, 0, True
    old, new = before.inputs.flatten(1), after.inputs.flatten(1)
    step = max(1, _CHUNK // max(1, old.shape[1]))
    if before.inputs is after.inputs:
        untouched = count
    else:
        for start in range(0, count, step):
            a, b = old[start : start + step].cpu(), new[start : start + step].cpu()
            differing = (a != b).sum(1)
            moved += int(differing.sum())
            untouched += int((differing == 0).sum())
            same_values = same_values and bool((_values(a) == _values(b)).all())
    changed = int((before.targets != after.targets).sum())
    return {
        "count_before": count,
        "count_after": len(after),
        "labels_changed": changed / count,
        "labels_kept": changed == 0,
        "pixels_moved": moved / max(1, old.numel()),
        "images_kept": untouched / count,
        "values_kept": same_values,
    }


def _values(rows: Tensor) -> Tensor:
    """What each row holds, whatever the order: its histogram if it is of bytes, else its sorted values."""
    if rows.dtype == torch.uint8:
        return torch.stack([torch.bincount(row, minlength=256) for row in rows])
    return rows.sort(1).values
