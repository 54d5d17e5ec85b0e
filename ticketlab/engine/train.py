"""The masked training loop: one ticket, from one epoch of the recipe to another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from ticketlab import seeding
from ticketlab.data.batches import epoch_batches, prepare
from ticketlab.data.types import Data, Split
from ticketlab.enforcement import enforce
from ticketlab.engine.recipe import Recipe
from ticketlab.mask import Mask


@dataclass
class Trained:
    """What a training leaves behind.

    ``history`` has one entry per epoch: epoch (1 = the first), lr, loss (mean over the epoch), accuracy (percent of
    the test set). ``correct`` says of each test image whether the last epoch's model is right. ``momentum`` belongs
    to the weights where training stopped. ``diverged_at`` is the epoch in which the loss was no longer finite.
    """

    weights: dict[str, Tensor]
    momentum: dict[str, Tensor]
    correct: Tensor
    history: list[dict[str, float]] = field(default_factory=list)
    diverged_at: int | None = None

    @property
    def accuracy(self) -> float:
        """Test accuracy in percent after the last epoch, never the best one; NaN if training diverged."""
        return math.nan if self.diverged_at is not None else percent(self.correct)


def train(
    model: nn.Module,
    mask: Mask | None,
    data: Data,
    split: Split,
    recipe: Recipe,
    seed: int,
    *,
    start: int = 0,
    until: int | None = None,
    momentum: Mapping[str, Tensor] | None = None,
) -> Trained:
    """Train ``model`` in place on ``split`` from epoch ``start`` to epoch ``until`` of the recipe.

    Order, augmentation and dropout of epoch e depend on (seed, e) alone, so a training cut in two, with the momentum
    handed over, ends bit-equal to one in a piece. Pruned weights are exactly zero throughout. The test set (of
    ``data``, never of a tampered split) is evaluated after every epoch and chooses nothing.

    Args:
        mask: which weights live; None trains the dense net.
        split: the examples to train on; ``data`` says how to normalise and augment them.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )
    _put_momentum(model, optimizer, momentum or {})
    guard = enforce(model, mask, optimizer) if mask is not None else None
    trained = Trained({}, {}, torch.zeros(len(data.test), dtype=torch.bool))
    for epoch in range(start, recipe.epochs if until is None else until):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr_at(epoch)
        with seeding.isolated(seed, "dropout", epoch):
            loss = _one_epoch(model, optimizer, data, split, recipe, seed, epoch, device)
        if not math.isfinite(loss):
            trained.diverged_at = epoch + 1
            break
        trained.correct = correct(model, data, device)
        trained.history.append(
            {"epoch": epoch + 1, "lr": recipe.lr_at(epoch), "loss": loss, "accuracy": percent(trained.correct)}
        )
    if not trained.history and trained.diverged_at is None:
        trained.correct = correct(model, data, device)
    if guard is not None:
        guard.remove()
    trained.weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    trained.momentum = {
        name: optimizer.state[p]["momentum_buffer"].detach().cpu().clone()
        for name, p in model.named_parameters()
        if optimizer.state.get(p, {}).get("momentum_buffer") is not None
    }
    return trained


def _one_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Data,
    split: Split,
    recipe: Recipe,
    seed: int,
    epoch: int,
    device: torch.device,
) -> float:
    """One pass; the mean loss. Losses add up on the device: reading one per step would wait for it each time."""
    model.train()
    order = seeding.generator(seed, "order", epoch)
    augmentation = seeding.generator(seed, "augment", epoch)
    total, seen = torch.zeros((), dtype=torch.float64, device=device), 0
    for index in epoch_batches(len(split), recipe.batch_size, order):
        batch = split.take(index.to(split.targets.device)).to(device)
        if len(batch) == 1 and min(recipe.batch_size, len(split)) > 1:
            # A last batch of one: batch norm in train mode cannot normalise a single example of 1x1 maps.
            continue
        seen += len(batch)
        inputs = prepare(data, batch.inputs, generator=augmentation, augment=recipe.augment)
        loss = functional.cross_entropy(model(inputs), batch.targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.detach().double() * len(batch)
    return float(total) / seen


@torch.no_grad()
def correct(model: nn.Module, data: Data, device: torch.device, batch_size: int = 512) -> Tensor:
    """For every test image, in order, whether the model's answer is right (bool, on the CPU)."""
    model.eval()
    answers = []
    for inputs, targets in zip(data.test.inputs.split(batch_size), data.test.targets.split(batch_size), strict=True):
        answers.append(model(prepare(data, inputs.to(device))).argmax(1).cpu() == targets.cpu())
    return torch.cat(answers)


def percent(right: Tensor) -> float:
    """The share of True, in percent."""
    return 100.0 * int(right.sum()) / right.numel()


def _put_momentum(model: nn.Module, optimizer: torch.optim.Optimizer, momentum: Mapping[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        if name in momentum:
            optimizer.state[parameter]["momentum_buffer"] = momentum[name].to(parameter.device, copy=True)
