"""The tampered variants of a training set that the data checks find tickets on, by name."""

from __future__ import annotations

from ticketlab import seeding
from ticketlab.data import corruption
from ticketlab.data.corruption import Facts
from ticketlab.data.types import Data, Split
from ticketlab.errors import unknown

HALF, FIRST_HALF = "half-data", "half-data-su2020"
SMALLER = (HALF, FIRST_HALF)
VARIANTS = ("random-labels", "random-pixels", "corrupted", *SMALLER)


def tampered(data: Data, variant: str, seed: int, batch_size: int = 64) -> tuple[Split, Facts]:
    """The training split in a variant, and the facts of what changed.

    Raises:
        InputError: there is no such variant.
    """
    draw = seeding.generator(seed, "data", variant)
    if variant == HALF:
        return corruption.half(data.train, draw)
    if variant == FIRST_HALF:
        return corruption.first_half(data.train, batch_size)
    if variant == "random-pixels":
        return corruption.random_pixels(data.train, draw)
    if variant == "random-labels":
        return corruption.random_labels(data.train, data.classes, draw)
    if variant == "corrupted":
        return corruption.corrupted(data.train, data.classes, draw)
    raise unknown("data variant", variant, VARIANTS)


def examples_left(variant: str, examples: int, batch_size: int) -> int:
    """How many of so many examples a variant has."""
    if variant == HALF:
        return max(1, examples // 2)
    if variant == FIRST_HALF:
        return corruption.whole_batches_of_half(examples, batch_size)
    return examples
