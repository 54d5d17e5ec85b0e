"""A data set by name."""

from __future__ import annotations

from pathlib import Path

from ticketlab.data.batches import rank_in_class
from ticketlab.data.digits import digits
from ticketlab.data.names import DATASETS
from ticketlab.data.types import Augment, Data, Split
from ticketlab.errors import InputError, unknown


def load(
    name: str,
    data_dir: str | Path | None = None,
    limit_train: int | None = None,
    limit_test: int | None = None,
) -> Data:
    """The data set `name` on the CPU.

    `limit_train` and `limit_test` keep that many examples, as equally spread over the classes as can be: the
    first ones of each class, so a smaller limit is a subset of a larger one.

    Raises InputError for an unknown name or data that cannot be had.
    """
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    info = DATASETS[name]
    if name == "digits":
        train, test = digits()
    else:
        raise NotImplementedError(name)
    return Data(
        name,
        limited(train, limit_train),
        limited(test, limit_test),
        info.classes,
        info.mean,
        info.std,
        Augment(info.pad, info.flip),
    )


def limited(split: Split, limit: int | None) -> Split:
    """At most `limit` examples, class-balanced, in stored order."""
    if limit is None:
        return split
    if limit < 1:
        raise InputError(f"asked to keep {limit} of {len(split)} examples; at least one is needed")
    targets = split.targets
    turn = rank_in_class(targets) * (targets.max() + 1) + targets
    return split.take(turn.argsort()[:limit].sort().values)
