"""What a training is asked for, and what it leaves behind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ticketlab.data.types import Split
from ticketlab.mask import Mask


@dataclass(frozen=True)
class Job:
    """One ticket to train.

    Attributes:
        weights: the state dict (parameters and buffers) to start from.
        mask: which weights live; None trains the dense net.
        seed: decides order, augmentation and dropout, each step's by itself.
        split: the examples to train on; None takes the data's own training split.
        start, until: from which to which epoch of the recipe, fractions allowed; None is its end.
        momentum: the optimizer's buffers at ``start``; None starts with none.
    """

    weights: Mapping[str, Tensor]
    mask: Mask | None
    seed: int
    split: Split | None = None
    start: float = 0.0
    until: float | None = None
    momentum: Mapping[str, Tensor] | None = None


@dataclass
class Trained:
    """What a training leaves behind.

    ``history`` has one entry per epoch: epoch (1 = after the first), lr (at the epoch's first step), loss (mean over
    the epoch), accuracy (percent of the test set). ``correct`` says of each test image whether the last epoch's model
    is right. ``momentum`` belongs to the weights where training stopped. ``diverged_at`` is the epoch in which the loss
    was no longer finite, ``diverged_step`` the step (1 = the first).
    """

    weights: dict[str, Tensor]
    momentum: dict[str, Tensor]
    correct: Tensor
    history: list[dict[str, float]] = field(default_factory=list)
    diverged_at: int | None = None
    diverged_step: int | None = None

    @property
    def accuracy(self) -> float:
        """Test accuracy in percent after the last epoch, never the best one; NaN if training diverged."""
        return math.nan if self.diverged_at is not None else percent(self.correct)


def percent(right: Tensor) -> float:
    """The share of True, in percent."""
    return 100.0 * int(right.sum()) / right.numel()


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model's state dict; a model may keep other things there (``get_extra_state``)."""
    return {n: t for n, t in model.state_dict().items() if isinstance(t, Tensor)}


def clones(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same values, copied to the CPU in plain layout."""
    plain = torch.contiguous_format
    return {n: t.detach().to("cpu", copy=True).contiguous(memory_format=plain) for n, t in tensors.items()}
