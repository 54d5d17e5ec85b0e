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
        epochs: passes over the training data; fractions are rounded to whole steps.
        lr: the learning rate before the schedule; ``schedule`` "step" multiplies it by 0.1 at each share of the
            training in ``drops``, "cosine" takes it to zero epoch by epoch, "constant" leaves it.
        weight_decay: on every parameter, as in the papers' code.
        warmup: epochs in which the rate grows linearly, step by step, to what the schedule says (Goyal et al. 2017).
        augment: whether the data's own augmentation (crops, flips) is used.
    """

    epochs: float = 160
    batch_size: int = 64
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    nesterov: bool = False
    schedule: str = "step"
    drops: tuple[float, ...] = (0.5, 0.75)
    warmup: float = 0.0
    augment: bool = True

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES)
        for name, value, least, kinds, what in (
            ("epochs", self.epochs, 0, (int, float), "a number above 0"),
            ("batch_size", self.batch_size, 1, int, "a whole number of at least 1"),
            ("lr", self.lr, 0, (int, float), "a number of at least 0"),
            ("momentum", self.momentum, 0, (int, float), "a number of at least 0"),
            ("weight_decay", self.weight_decay, 0, (int, float), "a number of at least 0"),
            ("warmup", self.warmup, 0, (int, float), "a number of at least 0"),
        ):
            number = isinstance(value, kinds) and not isinstance(value, bool)
            if not (number and math.isfinite(value) and value >= least) or (name == "epochs" and value == 0):
                raise InputError(f"asked for {name} {value!r}, got a recipe that needs {what}.")
        if self.epochs == int(self.epochs):
            # 160.0 and 160 are one recipe, with one identity.
            object.__setattr__(self, "epochs", int(self.epochs))
        if self.nesterov and not self.momentum:
            raise InputError("asked for nesterov, got a recipe with momentum 0.")
        if self.warmup >= self.epochs:
            raise InputError(f"asked for {self.warmup:g} epochs of warm-up, got a recipe of {self.epochs:g} epochs.")

    def lr_at(self, epoch: float) -> float:
        """The scheduled learning rate at a point of the training (0 is its start), before any warm-up.

        Beyond the end it stays what it was in the last epoch.
        """
        if self.schedule == "cosine":
            whole = min(math.floor(epoch), math.ceil(self.epochs) - 1)
            return self.lr * 0.5 * (1 + math.cos(math.pi * whole / self.epochs))
        if self.schedule == "constant":
            return self.lr
        # The tolerance is for shares like 0.1 of 30 epochs, which floating point puts above 3.
        passed = sum(epoch >= share * self.epochs - 1e-9 for share in self.drops)
        return float(self.lr * 0.1**passed)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for identities and reports."""
        return {**asdict(self), "drops": list(self.drops)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        """The recipe that ``to_json`` wrote down."""
        return cls(**{**values, "drops": tuple(values["drops"])})


_DEFAULTS = {
    "digits": Recipe(epochs=15, lr=0.1),
    "fashion-mnist": Recipe(epochs=20, lr=0.05),
    "tiny-imagenet": Recipe(epochs=300),
}


def default_for(data: str) -> Recipe:
    """The recipe for a data set: the papers' 160 epochs for CIFAR and 300 for Tiny ImageNet, fewer for small images.

    Data of one's own get CIFAR's.
    """
    return _DEFAULTS.get(data, Recipe())


def adjusted(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with those changes that are not None."""
    return replace(recipe, **{k: v for k, v in changes.items() if v is not None})
