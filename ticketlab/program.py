"""Tickets, and the programs that make them: lists of stages, each from ticket to ticket.

A program is data. A sanity check edits it; the plan turns its stages into steps; nothing here computes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ticketlab.errors import InputError
from ticketlab.mask import Mask

CLEAN = "clean"

# A length or a place of the training: a number of epochs, or a share of the recipe's, "25%".
Epochs = float | str


@dataclass(frozen=True)
class Ticket:
    """A sparse subnetwork: which weights live, the values to start from, and where in the schedule to start.

    ``weights`` is a state dict (parameters and buffers), ``at`` the epoch of the recipe where training goes on,
    ``until`` the one where it ends (None: the recipe's end).
    """

    mask: Mask
    weights: Mapping[str, Tensor]
    at: float = 0.0
    until: float | None = None


@dataclass(frozen=True)
class Train:
    """Train the current ticket on the named variant of the data, with fresh momentum, to the recipe's end.

    ``until`` stops at that epoch instead; ``epochs`` after so many epochs, wherever in the schedule the ticket stands:
    beyond the recipe's end its last learning rate goes on.
    """

    until: float | None = None
    data: str = CLEAN
    epochs: Epochs | None = None


@dataclass(frozen=True)
class Prune:
    """Find a mask for the current weights with the method that the program belongs to.

    ``of_path`` is the share of the way to the asked sparsity, on the path where every prune stage removes the same
    share of what remains; 1 is the sparsity itself. ``invert`` keeps the lowest scores instead of the highest.
    """

    of_path: float = 1.0
    data: str = CLEAN
    invert: bool = False


@dataclass(frozen=True)
class Rewind:
    """Go back to epoch ``to`` of the first training (0: the initialisation).

    Learning rate and data order are those of that epoch again, weights and batch-norm statistics too; without
    ``weights`` these stay as they are (learning-rate rewinding, Renda et al. 2020).
    """

    to: Epochs = 0.0
    weights: bool = True


@dataclass(frozen=True)
class Transform:
    """Change the ticket without looking at data: "rearrange", "weight-shuffle" or "reinit"."""

    name: str


Stage = Train | Prune | Rewind | Transform
Program = tuple[Stage, ...]


@dataclass(frozen=True)
class Edit:
    """What a sanity check does to a program."""

    data: str | None = None
    transform: str | None = None
    invert: bool = False

    def __call__(self, program: Program) -> Program:
        """The tampered program. The last training is never touched: it runs on clean data."""
        last = last_training(program)
        head = [self._tampered(stage) for stage in program[:last]]
        tail = list(program[last:])
        if self.transform:
            head.append(Transform(self.transform))
        return tuple(head + tail)

    def _tampered(self, stage: Stage) -> Stage:
        if self.data and isinstance(stage, (Train, Prune)):
            stage = replace(stage, data=self.data)
        if self.invert and isinstance(stage, Prune):
            stage = replace(stage, invert=True)
        return stage


def last_training(program: Program) -> int:
    """The index of the last train stage: everything before it finds the ticket."""
    return max(i for i, stage in enumerate(program) if isinstance(stage, Train))


def validated(program: Program, name: str) -> Program:
    """The program, after checking that it finds a mask and then trains.

    Raises:
        InputError: it does not end in a training, or prunes nothing before it.
    """
    stages = [type(stage).__name__ for stage in program]
    if not stages or stages[-1] != "Train" or "Prune" not in stages:
        raise InputError(f"asked {name} for a program that prunes and ends in a training, got {stages}.")
    return program


def at_init() -> Program:
    """Prune at initialisation, then train."""
    return (Prune(), Train())


def retrained(back: Rewind | None, rounds: int = 1, epochs: Epochs | None = None) -> Program:
    """Train; then ``rounds`` times prune an equal share of the rest, go ``back``, and train again.

    Without ``back`` training just goes on (fine-tuning). ``epochs`` is the length of every training but the first.
    """
    stages: list[Stage] = [Train()]
    for round_ in range(1, rounds + 1):
        stages += [Prune(of_path=round_ / rounds), *([back] if back else []), Train(epochs=epochs)]
    return tuple(stages)


def keeps_weights(program: Program) -> bool:
    """Whether the ticket's last training starts from weights that an earlier one left."""
    head = program[: last_training(program)]
    kept = False
    for stage in head:
        if isinstance(stage, Train):
            kept = True
        elif (isinstance(stage, Rewind) and stage.weights) or stage == Transform("reinit"):
            kept = False
    return kept


def epochs_of(value: Any, what: str) -> Epochs:
    """A place or length as it is written in a method's options, in its one spelling.

    Raises:
        InputError: neither a number of epochs nor a share such as "25%", or one below zero.
    """
    text = value.strip() if isinstance(value, str) else ""
    try:
        number = float(text.removesuffix("%")) if text.endswith("%") else None if text else float(value)
    except (TypeError, ValueError):
        number = None
    if number is None or isinstance(value, bool) or not (math.isfinite(number) and number >= 0):
        raise InputError(f"asked for {what}={value!r}, got neither epochs (40) nor a share of the recipe's (25%).")
    return f"{number:g}%" if text else number


def in_epochs(value: Epochs, recipe_epochs: float) -> float:
    """The same in epochs, for a recipe of so many."""
    return float(value.removesuffix("%")) / 100 * recipe_epochs if isinstance(value, str) else value
