"""The two baselines: training as it is done without ticketlab's engines. One ticket, eager, NCHW, fp32.

`papers_loop` is the loop of the code of Su et al. (2020), which GraSP's (2020) code began: PIL pictures, the mask read
off the weights again in every step, the loss and the accuracy fetched in every step.
`tensor_loop` is what one writes for nets so small that pictures would take most of the time: data are a tensor, the
mask is kept, nothing is fetched.

Both give one number per step, the images that it trained, for ever.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from support.pictures import loader
from ticketlab.data.batches import epoch_batches, prepare
from ticketlab.data.types import Data
from ticketlab.engine.recipe import Recipe
from ticketlab.mask import Mask


def papers_loop(model: nn.Module, mask: Mask, data: Data, recipe: Recipe) -> Iterator[int]:
    """Train as the papers' code does."""
    mask.apply_(model)
    optimizer, criterion = sgd(model, recipe), nn.CrossEntropyLoss()
    batches = loader(data, recipe.batch_size)
    model.train()
    while True:
        loss_sum, right, seen = 0.0, 0, 0
        for inputs, targets in batches:
            optimizer.zero_grad()
            outputs = model(inputs)
            loss = criterion(outputs, targets)
            loss.backward()
            for module in model.modules():
                if isinstance(module, (nn.Conv2d, nn.Linear)):
                    alive = module.weight.data.ne(0).float()
                    module.weight.grad.data.mul_(alive)
            optimizer.step()
            loss_sum += loss.item()
            right += outputs.max(1)[1].eq(targets).sum().item()
            seen += len(targets)
            yield len(targets)


def tensor_loop(model: nn.Module, mask: Mask, data: Data, recipe: Recipe) -> Iterator[int]:
    """Train with the data in one tensor and the mask in others."""
    mask.apply_(model)
    optimizer, criterion = sgd(model, recipe), nn.CrossEntropyLoss()
    kept = [(parameter, mask[name].float()) for name, parameter in mask.match(model).items()]
    draw = torch.Generator().manual_seed(0)
    model.train()
    while True:
        for index in epoch_batches(len(data.train), recipe.batch_size, draw):
            batch = data.train.take(index)
            inputs = prepare(data, batch.inputs, generator=draw, augment=recipe.augment)
            optimizer.zero_grad()
            criterion(model(inputs), batch.targets).backward()
            for parameter, ones in kept:
                parameter.grad.mul_(ones)
            optimizer.step()
            yield len(batch)


def sgd(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """torch's optimiser as it comes."""
    return torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
