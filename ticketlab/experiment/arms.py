"""What a plan is made of: the arms of a study, the tickets behind them, and the steps that make those."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count

from ticketlab.experiment.step import Step
from ticketlab.experiment.study import Compared
from ticketlab.stats.comparison import FEWEST_SEEDS

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
        """The first seed whole, so that a small answer is complete early; then the other seeds, one after another.

        In the first seed, what needs no training comes first, so that errors of methods come early. That of all other
        seeds comes before their trainings: it is short, and the engine can then train tickets of several seeds at once.
        """
        trained: dict[str, bool] = {}
        seeds: dict[str, int] = {}
        for i, step in self.steps.items():
            trained[i] = step.kind == "train" or any(trained[j] for j in step.inputs.values())
            seeds[i] = step.params["seed"] if "seed" in step.params else max(seeds[j] for j in step.inputs.values())
        first = min(seeds.values(), default=0)

        def turn(i: str) -> tuple[bool, bool, int]:
            return (seeds[i] != first, trained[i], seeds[i])

        yield from (self.steps[i] for i in sorted(self.steps, key=turn))

    def seeds(self, method: str, check: str, sparsity: float) -> int:
        """How many seeds a comparison has here: 0, 1, ... without a gap."""
        return next(n for n in count() if Arm(method, check, sparsity, n) not in self.arms)

    def dense_seeds(self) -> list[int]:
        """The seeds that have a dense run."""
        return [arm.seed for arm in self.arms if arm.check == DENSE]

    def comparable(self, lost: Container[str]) -> set[Compared]:
        """The comparisons that can come to a verdict without these steps.

        A verdict needs the leading seeds.
        """
        return self._comparisons(lambda step: step not in lost, FEWEST_SEEDS)

    def finished(self, store: Container[str]) -> set[Compared]:
        """The comparisons of which every step is in a store."""
        return self._comparisons(lambda step: step in store)

    def _comparisons(self, fine: Callable[[str], bool], seeds: float = math.inf) -> set[Compared]:
        found: dict[Compared, bool] = {}
        for arm, trained in self.arms.items():
            if arm.check != ORIGINAL and arm.sparsity is not None and arm.seed < seeds:
                steps = (self.arms[replace(arm, check=ORIGINAL)].final, trained.final, trained.control or trained.final)
                key = (arm.method, arm.check, arm.sparsity)
                found[key] = found.get(key, True) and all(fine(step) for step in steps)
        return {key for key, whole in found.items() if whole}

    def ancestors(self, wanted: Iterable[str]) -> list[Step]:
        """The steps with these ids and everything that they need, in an order in which they can run."""
        needed, open_ = set(), list(wanted)
        while open_:
            step = open_.pop()
            if step not in needed:
                needed.add(step)
                open_ += self.steps[step].inputs.values()
        return [step for i, step in self.steps.items() if i in needed]
