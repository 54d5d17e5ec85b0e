"""What a plan is made of: the arms of a study, the tickets behind them, and the steps that make those."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ticketlab.experiment.step import Step

ORIGINAL, DENSE = "original", "dense"


@dataclass(frozen=True)
class Arm:
    """One trained ticket: which method, under which check (or "original", or "dense"), how sparse, which seed."""

    method: str
    check: str
    sparsity: float | None
    seed: int


@dataclass(frozen=True)
class Reference:
    """Where a ticket comes from: the steps that made its mask and its weights, and where training goes on.

    ``seen`` counts the epochs that the weights were trained for.
    """

    weights: str
    mask: str | None = None
    at: float = 0
    seen: float = 0


@dataclass(frozen=True)
class Trained:
    """A planned arm: the ticket as its last training starts, that training's step, and its control's.

    ``data`` is the step that tampered with the data, ``read`` the first one that read data to find the ticket.
    """

    start: Reference
    final: str
    seen: float
    data: str | None = None
    read: str | None = None
    control: str | None = None


@dataclass
class Plan:
    """Steps in an order in which they can run, and the arms that they serve."""

    steps: dict[str, Step] = field(default_factory=dict)
    arms: dict[Arm, Trained] = field(default_factory=dict)
    not_applicable: list[dict[str, str]] = field(default_factory=list)

    def ordered(self) -> Iterator[Step]:
        """What needs no training first, so that errors of methods come early; then seed by seed."""
        trained: set[str] = set()
        for step in self.steps.values():
            if step.kind == "train" or any(i in trained for i in step.inputs.values()):
                trained.add(step.id)
        yield from (s for i, s in self.steps.items() if i not in trained)
        yield from (s for i, s in self.steps.items() if i in trained)

    def ancestors(self, wanted: Iterable[str]) -> list[Step]:
        """The steps with these ids and everything that they need, in an order in which they can run."""
        needed, open_ = set(), list(wanted)
        while open_:
            step = open_.pop()
            if step not in needed:
                needed.add(step)
                open_ += self.steps[step].inputs.values()
        return [step for i, step in self.steps.items() if i in needed]
