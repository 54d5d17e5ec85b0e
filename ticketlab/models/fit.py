"""Does a model fit a data set? One forward pass that leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ticketlab.data.batches import prepare
from ticketlab.data.types import Data
from ticketlab.errors import InputError


def check_fit(model: nn.Module, data: Data) -> None:
    """Raise InputError unless the model takes this data's inputs and gives (N, classes) finite numbers.

    One forward pass of two examples in eval mode; the model and torch's random state are left as they were.
    """
    asked = f"asked for a model from {data.in_shape} to {data.classes} classes ({data.name})"
    if any(is_lazy(t) for t in (*model.parameters(), *model.buffers())):
        raise InputError(f"{asked}, got one with lazy layers; run one forward pass in its factory")
    weight = next(model.parameters(), torch.empty(0))
    batch = prepare(data, data.train.inputs[torch.tensor([0, -1])]).to(weight.device)
    try:
        with _untouched(model, weight.device), torch.no_grad():
            output = model.eval()(batch)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        reason = str(error).strip().split("\n")[0][:300] or type(error).__name__
        got = f"got one that cannot take a batch of shape {tuple(batch.shape)}"
        raise InputError(f"{asked}, {got}: {reason}") from error
    if not isinstance(output, torch.Tensor):
        raise InputError(f"{asked}, got one that returns a {type(output).__name__}; a tensor is needed")
    if output.shape != (len(batch), data.classes):
        expected = (len(batch), data.classes)
        raise InputError(f"{asked}, got outputs {tuple(output.shape)} for 2 examples; {expected} is needed")
    if not output.isfinite().all():
        raise InputError(f"{asked}, got NaN or infinite outputs from its first weights")


@contextmanager
def _untouched(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Put back modes, parameters, buffers and the random state, whatever the body does."""
    modes = [(m, m.training, dict(m._buffers)) for m in model.modules()]
    values = [(t, t.detach().clone()) for t in (*model.parameters(), *model.buffers())]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            for module, training, buffers in modes:
                module.training = training
                module._buffers = buffers
            with torch.no_grad():
                for tensor, value in values:
                    if not torch.equal(tensor, value):
                        tensor.copy_(value)
