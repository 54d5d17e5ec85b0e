"""What tests of whole studies share: 60 easy images, a net of a few hundred weights, a recipe of two short epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ticketlab import Recipe
from ticketlab.data.types import Data, Split
from ticketlab.data.user import from_user
from ticketlab.experiment.context import Context
from ticketlab.experiment.factory import Factory
from ticketlab.experiment.prepare import prepare
from ticketlab.experiment.prepared import Prepared
from ticketlab.experiment.step import Step

RECIPE = Recipe(epochs=2, batch_size=10, lr=0.1, augment=False)
CLASSES = 3


class Net(nn.Module):
    """Two convolutions with batch norm, and a linear layer: 36 + 288 + 96 prunable weights."""

    def __init__(self, num_classes: int = CLASSES) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.last = nn.Linear(32, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.last(torch.relu(self.second(x)).flatten(1))


def net(num_classes: int) -> Net:
    """The factory."""
    return Net(num_classes)


def data(train: int = 60, test: int = 40, classes: int = CLASSES, seed: int = 0) -> Data:
    """Images of a pattern for each class with noise on top: learned within two epochs."""
    draw = torch.Generator().manual_seed(seed)
    patterns = torch.randint(2, (classes, 1, 8, 8), generator=torch.Generator().manual_seed(99)) * 160

    def some(n: int) -> tuple[Tensor, Tensor]:
        targets = torch.arange(n) % classes
        noise = torch.randint(90, (n, 1, 8, 8), generator=draw)
        return (patterns[targets] + noise).to(torch.uint8), targets

    return from_user((some(train), some(test)), "tiny")


def prepared(folder: Path, methods: Any = ("snip",), **changes: Any) -> Prepared:
    """A study of the tiny net that could start."""
    asked: dict[str, Any] = {
        "model": net,
        "data": data(),
        "sparsity": [0.8],
        "seeds": 3,
        "recipe": RECIPE,
        "margin": 10,
        "per_class": 4,
    }
    return prepare(list(methods), folder=folder, **{**asked, **changes})


def context(**changes: Any) -> Context:
    """What the steps of a tiny study need."""
    found = data()
    return Context(**{"data": found, "build": Factory(net, found.classes, found.in_shape), **changes})


class Counter:
    """A progress that remembers which steps were computed and which were linked."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.computed: list[str] = []
        self.linked: list[str] = []
        self.done = -1
        self._stop_after = stop_after

    def start(self, total: int, done: int) -> None:
        self.done = done

    def advance(self, kind: str, label: str, seconds: float, linked: bool) -> None:
        (self.linked if linked else self.computed).append(kind)
        if self._stop_after == len(self.computed):
            raise KeyboardInterrupt

    def finish(self) -> None:
        pass


class Deaf:
    """Hears what a runner does; a step that fails is an error."""

    def __init__(self) -> None:
        self.computed: list[str] = []
        self.linked: list[str] = []

    def finished(self, step: Step, seconds: float, linked: bool) -> None:
        (self.linked if linked else self.computed).append(step.id)

    def failed(self, failure: Any) -> None:
        raise failure.error()


def final(study: Prepared, step_id: str) -> Step:
    """A planned step."""
    return study.plan.steps[step_id]


def score(model: nn.Module, batches: Any, loss: Any, power: float = 1.0) -> dict[str, Tensor]:
    """A score of one's own, at the top level of a module: the weight's size to some power."""
    return {name: p.detach().abs() ** power for name, p in model.named_parameters()}


def same(one: Split, other: Split) -> bool:
    """Whether two splits hold the same examples."""
    return torch.equal(one.inputs, other.inputs) and torch.equal(one.targets, other.targets)
