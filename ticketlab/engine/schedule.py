"""From epochs to steps: how many there are, where a rewinding point lies, and the learning rate of each."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ticketlab.engine.recipe import Recipe
from ticketlab.errors import InputError


@dataclass(frozen=True)
class Schedule:
    """The steps of a recipe on ``examples`` training examples."""

    recipe: Recipe
    examples: int

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise InputError(f"asked to train on data, got {self.examples} examples.")
        if self.step_of(self.recipe.epochs) < 1:
            raise InputError(
                f"asked for {self.recipe.epochs:g} epochs, got data of which one epoch has {self.per_epoch} "
                f"steps: at least {1 / self.per_epoch:.3g} epochs make a step."
            )

    @property
    def per_epoch(self) -> int:
        """The steps of one epoch. The last batch may be smaller, but is never a single example.

        Batch norm cannot normalise one example of 1x1 maps in training; with batches of one, all are kept.
        """
        whole, rest = divmod(self.examples, self.recipe.batch_size)
        alone = rest == 1 and min(self.recipe.batch_size, self.examples) > 1
        return whole + (1 if rest and not alone else 0)

    def step_of(self, epoch: float) -> int:
        """The number of steps before that point of the training, which is rounded to a whole step."""
        return round(epoch * self.per_epoch)

    def epoch_of(self, step: int) -> float:
        """The point after so many steps, in epochs; whole numbers are ints."""
        whole, rest = divmod(step, self.per_epoch)
        return whole + rest / self.per_epoch if rest else whole

    def span(self, start: float, until: float | None) -> tuple[int, int]:
        """The first step and the one after the last, from epoch ``start`` to epoch ``until`` (None: the recipe's end).

        Beyond the recipe's end its last learning rate goes on.

        Raises:
            InputError: there is no such part.
        """
        end = self.recipe.epochs if until is None else until
        if not (math.isfinite(end) and 0 <= start <= end):
            raise InputError(
                f"asked to train from epoch {start:g} to epoch {end:g}, got a recipe of {self.recipe.epochs:g} epochs."
            )
        return self.step_of(start), self.step_of(end)

    def lr(self, step: int) -> float:
        """The learning rate of a step (0 is the first), warm-up included."""
        rate = self.recipe.lr_at(self.epoch_of(step))
        rising = self.recipe.warmup * self.per_epoch
        return rate * min(1.0, (step + 1) / rising) if rising else rate

    def batch(self, step: int) -> tuple[int, slice]:
        """The epoch that a step belongs to, and its slice of that epoch's order."""
        epoch, place = divmod(step, self.per_epoch)
        first = place * self.recipe.batch_size
        return epoch, slice(first, min(first + self.recipe.batch_size, self.examples))
