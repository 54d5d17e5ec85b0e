"""Tickets, and the programs that make them: lists of stages, each from ticket to ticket.

A program is data. A sanity check edits it; the plan turns its stages into steps; nothing here computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from ticketlab.errors import InputError
from ticketlab.mask import Mask

CLEAN = "clean"


@dataclass(frozen=True)
class Ticket:
    """A sparse subnetwork: which weights live, the values to start from, and where in the schedule to start.

    ``weights`` is a state dict (parameters and buffers), ``at`` the epoch of the recipe where training goes on.
    """

    mask: Mask
    weights: Mapping[str, Tensor]
    at: float = 0.0


@dataclass(frozen=True)
class Train:
    """Train the current ticket up to epoch ``until`` (None: the recipe's end) on the named variant of the data."""

    until: float | None = None
    data: str = CLEAN


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
    """Take the weights back to those of epoch ``to`` of the first training (0: the initialisation)."""

    to: float = 0.0


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


def rewound(to: float = 0.0) -> Program:
    """Train, prune once, rewind to epoch ``to``, train again (one-shot lottery ticket)."""
    return (Train(), Prune(), Rewind(to), Train())


def iterative(rounds: int, to: float = 0.0) -> Program:
    """``rounds`` times train, prune an equal share of the rest, rewind; then train (iterative magnitude pruning)."""
    stages: list[Stage] = []
    for round_ in range(1, rounds + 1):
        stages += [Train(), Prune(of_path=round_ / rounds), Rewind(to)]
    return (*stages, Train())
