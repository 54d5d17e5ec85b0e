"""Kept weights under optimisers of torch, beside the masked model that `enforce` holds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn import functional

import ticketlab
from ticketlab.errors import InputError
from ticketlab.sparse import KeptWeights

SHAPE, BATCH = (1, 8, 8), 20
OPTIMISERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05),
}


def ticket() -> tuple[nn.Module, ticketlab.Mask]:
    torch.manual_seed(0)
    model = tiny.Net()
    # At zero the ReLU of a channel without weights would hang on rounding.
    nn.init.uniform_(model.norm.bias, 0.1, 0.5)
    return model, ticketlab.prune(model, "random", 0.7, seed=1)


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(3)
    classes = tiny.CLASSES
    return [
        (torch.randn(BATCH, *SHAPE, generator=draw), torch.randint(classes, (BATCH,), generator=draw))
        for _ in range(count)
    ]


@pytest.mark.parametrize("name", list(OPTIMISERS))
def test_any_optimiser_trains_them_as_the_masked_model(name: str) -> None:
    model, mask = ticket()
    sparse = KeptWeights(model, mask, SHAPE, BATCH)
    dense = copy.deepcopy(model).double()
    optimiser, theirs = OPTIMISERS[name](sparse.parameters()), OPTIMISERS[name](dense.parameters())
    ticketlab.enforce(dense, mask, theirs)
    for inputs, targets in batches(5):
        losses = []
        for net, steps, x in ((sparse, optimiser, inputs), (dense, theirs, inputs.double())):
            loss = functional.cross_entropy(net(x), targets)
            steps.zero_grad()
            loss.backward()
            steps.step()
            losses.append(float(loss.detach()))
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    wanted = dense.state_dict()
    found = sparse.state()
    # Every tensor of the model but the count of batches.
    assert {*found} == {n for n in wanted if not n.endswith("num_batches_tracked")}
    for key, value in found.items():
        torch.testing.assert_close(value, wanted[key].float(), rtol=2e-3, atol=2e-4, msg=key)
    for key, alive in mask.items():
        assert not found[key][~alive].any() and found[key][alive].any()
    # State for what lives, and for nothing else.
    held = sum(p.numel() for p in sparse.parameters())
    assert held == mask.kept + sum(p.numel() for n, p in model.named_parameters() if n not in mask)
    for state in optimiser.state.values():
        assert all(
            t.numel() <= 1 or any(t.shape == p.shape for p in sparse.kept) for t in state.values() if torch.is_tensor(t)
        )
    # In evaluation mode the two answer alike, in parts where there are many.
    many = torch.randn(2 * BATCH + 3, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(sparse.eval()(many), dense.eval()(many.double()).float(), rtol=1e-2, atol=1e-2)


def test_gradients_are_of_the_last_pass_alone() -> None:
    model, mask = ticket()
    sparse = KeptWeights(model, mask, SHAPE, BATCH)
    (first, targets), (second, _) = batches(2)
    loss = functional.cross_entropy(sparse(first), targets)
    sparse(second)
    with pytest.raises(InputError, match="gradients of pass 1, got kernels that hold pass 2"):
        loss.backward()


def test_what_they_refuse() -> None:
    model, mask = ticket()
    with pytest.raises(InputError):
        KeptWeights(model, {"nothing": torch.ones(2, 2, dtype=torch.bool)}, SHAPE, BATCH)
    sparse = KeptWeights(model, mask, SHAPE, BATCH)
    with pytest.raises(InputError, match="gradients of the inputs"):
        sparse(torch.randn(2, *SHAPE, requires_grad=True))
    with pytest.raises(InputError, match="1 to 20"):
        sparse(torch.randn(21, *SHAPE))
    with pytest.raises(InputError, match="state\\(\\) loads"):
        sparse.state_dict()
