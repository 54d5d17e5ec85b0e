"""Batches for a pack of tickets: data resident on the device as stored, each ticket in its own seeded order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ticketlab import seeding
from ticketlab.data.batches import Draws, augmented, draws, normalised, order
from ticketlab.data.types import Data, Split
from ticketlab.engine.schedule import Schedule


class Feed:
    """Gives every step's batch; an epoch's draws depend on (seed, epoch) alone, so that any step can come first.

    Args:
        splits: each ticket's examples, on the device; tickets that share one share its memory.
    """

    def __init__(self, data: Data, splits: Sequence[Split], seeds: Sequence[int], schedule: Schedule) -> None:
        self._data = data
        self._splits = splits
        self._seeds = seeds
        self._schedule = schedule
        self._epoch = -1
        self._orders: list[Tensor] = []
        self._draws: list[Draws] = []

    @property
    def steps(self) -> int:
        """The steps of one epoch."""
        return self._schedule.per_epoch

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs (K, B, ...) float32, augmented and normalised, and targets (K, B)."""
        epoch, part = self._schedule.batch(step)
        if epoch != self._epoch:
            self._shuffle(epoch)
        where = [order[part] for order in self._orders]
        if all(split is self._splits[0] for split in self._splits):
            flat, targets = self._taken(self._splits[0], torch.cat(where))
        else:
            taken = [self._taken(split, at) for split, at in zip(self._splits, where, strict=True)]
            flat, targets = torch.cat([images for images, _ in taken]), torch.cat([labels for _, labels in taken])
        if self._draws:
            flat = augmented(flat, Draws.joined([d.part(part) for d in self._draws]), self._data.augment.pad)
        inputs = normalised(self._data, flat)
        return inputs.reshape(len(where), -1, *inputs.shape[1:]), targets.reshape(len(where), -1)

    @staticmethod
    def _taken(split: Split, where: Tensor) -> tuple[Tensor, Tensor]:
        return split.inputs.index_select(0, where), split.targets.index_select(0, where)

    def prepared(self, inputs: Tensor) -> Tensor:
        """Stored inputs of the test set as the model takes them."""
        return normalised(self._data, inputs)

    def _shuffle(self, epoch: int) -> None:
        device = self._splits[0].inputs.device
        n = self._schedule.examples
        self._epoch = epoch
        self._orders = [
            torch.arange(n, device=device)
            if split.ordered
            else order(n, seeding.generator(seed, "order", epoch)).to(device)
            for split, seed in zip(self._splits, self._seeds, strict=True)
        ]
        if self._schedule.recipe.augment and (self._data.augment.pad or self._data.augment.flip):
            found = [draws(n, self._data.augment, seeding.generator(s, "augment", epoch)) for s in self._seeds]
            self._draws = [d.to(device) for d in found]
