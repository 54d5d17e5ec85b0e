"""The training recipe: what all arms of a study share."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from ticketlab.errors import InputError, unknown

SCHEDULES = ("step", "cosine", "constant")


@dataclass(frozen=True)
class Recipe:
    """SGD with momentum, as published for these networks (Su et al. 2020, appendix; their code's defaults).

    Attributes:
        epochs: passes over the training data.
        lr: the learning rate before the schedule; ``schedule`` "step" multiplies it by 0.1 at each share of the
            training in ``drops``, "cosine" takes it to zero, "constant" leaves it.
        weight_decay: on every parameter, as in the papers' code.
        augment: whether the data's own augmentation (crops, flips) is used.
    """

    epochs: int = 160
    batch_size: int = 64
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    nesterov: bool = False
    schedule: str = "step"
    drops: tuple[float, ...] = (0.5, 0.75)
    augment: bool = True

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES)
        for name, whole in (("epochs", self.epochs), ("batch_size", self.batch_size)):
            if isinstance(whole, bool) or not isinstance(whole, int):
                raise InputError(f"asked for {name} {whole!r}, got a recipe that needs a whole number.")
        for name, value, least in (
            ("epochs", self.epochs, 1),
            ("batch_size", self.batch_size, 1),
            ("lr", self.lr, 0),
            ("momentum", self.momentum, 0),
            ("weight_decay", self.weight_decay, 0),
        ):
            if not (math.isfinite(value) and value >= least):
                raise InputError(f"asked for {name} {value}, got a recipe that needs at least {least}.")

        if self.nesterov and not self.momentum:
            raise InputError("asked for nesterov, got a recipe with momentum 0.")

    def lr_at(self, epoch: int) -> float:
        """The learning rate during epoch ``epoch`` (0 is the first)."""
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))
        if self.schedule == "constant":
            return self.lr
        # The tolerance is for shares like 0.1 of 30 epochs, which floating point puts above 3.
        passed = sum(epoch >= share * self.epochs - 1e-9 for share in self.drops)
        return float(self.lr * 0.1**passed)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for identities and reports."""
        return {**asdict(self), "drops": list(self.drops)}


_DEFAULTS = {
    "digits": Recipe(epochs=15, lr=0.1),
    "fashion-mnist": Recipe(epochs=20, lr=0.05),
}


def default_for(data: str) -> Recipe:
    """The recipe for a data set: the papers' 160 epochs for CIFAR and for data of one's own, fewer for small images."""
    return _DEFAULTS.get(data, Recipe())


def adjusted(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with those changes that are not None."""
    return replace(recipe, **{k: v for k, v in changes.items() if v is not None})
