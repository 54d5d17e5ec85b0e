"""What steps need beside their inputs, once a process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from ticketlab import seeding
from ticketlab.data.types import Data, Split
from ticketlab.data.variants import tampered
from ticketlab.engine.engine import Engine
from ticketlab.engine.kinds import open_engine, parse
from ticketlab.engine.recipe import Recipe
from ticketlab.engine.train import Tell
from ticketlab.methods import Method
from ticketlab.program import CLEAN, Program
from ticketlab.pruning import digest_of


@dataclass
class Context:
    """What steps need beside their inputs: the data, the model's factory, and methods that have no spec.

    ``build`` makes a fresh model under the current global random state. A training writes a checkpoint
    ``every`` so many seconds; ``tell`` hears how far it is, in the process that trains.
    """

    data: Data
    build: Callable[[], nn.Module]
    methods: Mapping[str, Method] = field(default_factory=dict)
    device: str = "cpu"
    threads: int = 1
    precision: str = "fp32"
    engine: str = "tuned"
    every: float = 60.0
    batch_size: int = 64
    tell: Tell | None = field(default=None, compare=False)
    _engine: Engine | None = None
    _on_device: Data | None = None
    _digest: tuple[Split, str] | None = None
    _variants: dict[tuple[str, int], tuple[Split, dict[str, Any]]] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        """What worker processes get: programs shape the plan, which is made already, and may be lambdas."""
        methods = {name: replace(method, program=_planned) for name, method in self.methods.items()}
        empty: dict[str, Any] = {"tell": None, "_variants": {}, "_digest": None, "_engine": None, "_on_device": None}
        return {**self.__dict__, "methods": methods, **empty}

    @property
    def width(self) -> int:
        """How many tickets the engine trains side by side."""
        return parse(self.engine)[1]

    @property
    def resident(self) -> Data:
        """The data on the device where tickets are trained: one copy a process."""
        if self._on_device is None:
            self._on_device = self.data.to(self.device)
        return self._on_device

    def template(self) -> nn.Module:
        """A model for its architecture: which weights it has is of no matter, but they are always the same."""
        with seeding.isolated(0, "shape"):
            return self.build()

    def opened(self, recipe: Recipe) -> Engine:
        """The study's engine, opened once a process: what it compiled serves for every ticket."""
        if self._engine is None:
            self._engine = open_engine(
                self.engine, self.template(), self.data, recipe, precision=self.precision, device=self.device
            )
        return self._engine

    def split(self, variant: str, seed: int) -> tuple[Split, dict[str, Any]]:
        """The training data in a variant, and what tampering changed. The last one made is kept in memory."""
        if variant == CLEAN:
            return self.data.train, {}
        if (variant, seed) not in self._variants:
            self._variants.clear()
            self._variants[variant, seed] = tampered(self.data, variant, seed, self.batch_size)
        return self._variants[variant, seed]

    def digest(self, split: Split) -> str:
        """A hash of the examples themselves, computed once for the clean split and the last tampered one."""
        if split is self.data.train:
            return self.data.fingerprint[:16]
        if self._digest is None or self._digest[0] is not split:
            self._digest = split, digest_of([split.inputs, split.targets])
        return self._digest[1]


def _planned(sparsity: float, options: Mapping[str, Any]) -> Program:
    raise AssertionError("a worker plans nothing")
