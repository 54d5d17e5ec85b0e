"""What a model writes over, and under which names it is read afterwards: as torch runs it, or refused."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import ticketlab
from native.reference import rounding
from ticketlab.errors import InputError
from ticketlab.sparse import tracing
from ticketlab.sparse.model import SparseModel

Body = Callable[["Written", Tensor], Tensor]


class Written(nn.Module):
    """A convolution, what ``body`` makes of it, and a linear layer on the means."""

    def __init__(self, body: Body, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.one, self.two = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.same, self.norm = nn.Identity(), nn.BatchNorm2d(4)
        self.body, self.fc = body, nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.body(self, self.first(x)).mean((2, 3)))
        return logits


def joined_alone(m: Written, x: Tensor) -> Tensor:
    """What is joined is copied, if it is a single tensor too."""
    y = torch.cat([x], 1)
    functional.relu_(y)
    return y + m.one(x)


def joined_twice(m: Written, x: Tensor) -> Tensor:
    y = m.one(x)
    first, second = torch.cat([x, y], 1), torch.cat([x, y], 1)
    functional.relu_(first)
    return first + second


def second_relu(m: Written, x: Tensor) -> Tensor:
    """Another ReLU changes nothing, but what it gives is another tensor."""
    y = torch.relu(m.one(x))
    z = torch.relu(y)
    z += m.two(x)
    return m.norm(z) + y


def read_before(m: Written, x: Tensor) -> Tensor:
    """The ReLU after the maximum must not become that of what the maximum read."""
    y = functional.max_pool2d(x, 3, 1, 1)
    z = m.one(x)
    functional.relu_(x)
    return torch.relu(y) + z + x


def other_name(m: Written, x: Tensor) -> Tensor:
    y = m.same(x)
    y += m.one(x)
    return m.norm(y) + x


def flattened(m: Written, x: Tensor) -> Tensor:
    y = x.flatten(1)
    y.relu_()
    return m.two(x) + x


BODIES = ((joined_alone, 4), (joined_twice, 8), (second_relu, 4), (read_before, 4), (other_name, 4), (flattened, 4))


@pytest.mark.parametrize(("body", "channels"), BODIES)
def test_what_is_written_over(body: Body, channels: int) -> None:
    torch.manual_seed(0)
    model = Written(body, channels).train()
    mask = {n: torch.ones(p.shape, dtype=torch.bool) for n, p in model.named_parameters() if p.dim() > 1}
    x = torch.randn(4, 3, 6, 6)
    sparse = SparseModel(model, mask, (3, 6, 6), 4)
    sparse.load(model.state_dict())
    wanted = copy.deepcopy(model).double()(x.double()).detach()
    assert rounding(sparse.net.forward(x, training=True), wanted) < 1e-5
    model.eval().requires_grad_(False)
    wanted = copy.deepcopy(model).double()(x.double())
    compiled = ticketlab.compile_ticket(model, mask, "sparse")
    assert rounding(compiled(x), wanted) < 1e-5
    assert compiled.path.startswith("sparse")


def test_joining_into_another_tensor_is_refused() -> None:
    def body(m: Written, x: Tensor) -> Tensor:
        y, z = m.one(x), m.two(x)
        return torch.cat([y, z], 1, out=torch.cat([x, x], 1))

    with pytest.raises(InputError, match="cat, which the sparse kernels do not know"):
        SparseModel(Written(body, 8), {}, (3, 6, 6), 2)


def test_numbers_are_not_written_over() -> None:
    class Counts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            rows = more = x.shape[0]
            more *= 3
            x *= more
            return x + rows

    x = torch.ones(2, 5)
    assert torch.equal(tracing.traced_copy(Counts())(x.clone()), Counts()(x.clone()))


@pytest.mark.parametrize("where", ["hook", "pre-hook", "forward", "forward of a layer"])
def test_what_wraps_a_forward_is_run(where: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 10)).eval()
    changed = model[0] if where == "forward of a layer" else model
    inner = changed.forward
    if where == "hook":
        model.register_forward_hook(lambda _, __, outputs: outputs * 2)
    elif where == "pre-hook":
        model.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 2,))
    else:
        changed.forward = lambda inputs: inner(inputs) * 2  # type: ignore[method-assign]
    model[1].running_mean.fill_(0.5)
    mask = {"3.weight": torch.ones(10, 64, dtype=torch.bool)}
    x = torch.randn(3, 3, 6, 6)
    with torch.no_grad(), pytest.warns(ticketlab.errors.DensePathWarning):
        wanted = model(x)
        assert torch.allclose(ticketlab.compile_ticket(model, mask)(x), wanted, atol=1e-5)
    with pytest.raises(InputError):
        SparseModel(model, mask, (3, 6, 6), 3)
