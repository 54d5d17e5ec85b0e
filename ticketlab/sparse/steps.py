"""What a traced model is made of: one step for each layer of the sparse net."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Pair = tuple[int, int]


@dataclass(frozen=True)
class Maximum:
    """A max-pooling of any window, in pixels (rows, columns); padding never wins."""

    kernel: Pair
    stride: Pair
    padding: Pair
    ceil: bool


@dataclass(frozen=True)
class Selection:
    """A frozen convolution that passes channels on, each with the mean over its window.

    With a window of one pixel and the residual, batch norm and ReLU that follow every layer, it is what is done to a
    tensor elsewhere than after the layer that gives it.

    Attributes:
        channels: how many it reads, all of its source's.
        outputs: how many it gives; those that it has nothing for are zero.
        first: where the channels begin among the outputs.
        window, stride, padding: in pixels (rows, columns).
    """

    channels: int
    outputs: int
    first: int = 0
    window: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)

    @property
    def groups(self) -> int:
        """As many as channels where each of them stays in its place."""
        return self.channels if self.channels == self.outputs else 1

    def mask(self) -> Tensor:
        """Where its weights are: (outputs, channels / groups, rows, columns)."""
        places = torch.ones(self.outputs, 1, dtype=torch.bool)
        if self.groups == 1:
            places = torch.zeros(self.outputs, self.channels, dtype=torch.bool)
            places[self.first : self.first + self.channels].fill_diagonal_(True)
        return places[:, :, None, None].repeat(1, 1, *self.window)


@dataclass
class Step:
    """One layer of the plan; tensors are numbered from 0, the input, in the order of the steps that give them.

    Attributes:
        source: the tensor it reads.
        module: name of the convolution or linear layer. Without it the step is a selection, a maximum, or else the mean
            over each map.
        norm: name of the batch norm after it.
        residual: the tensor added after that.
        relu, pool: what comes last; pool is None, "floor" or "ceil".
        selection, maximum: what it is if it has no module.
    """

    source: int
    module: str | None
    norm: str | None = None
    residual: int | None = None
    relu: bool = False
    pool: str | None = None
    selection: Selection | None = None
    maximum: Maximum | None = None
