"""Models whose code does more than to compute: compiled tickets answer as they do, and leave nothing in them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ticketlab.mask import Mask
from ticketlab.sparse.compiled import compile_ticket
from ticketlab.sparse.trace import traced


class Joining(nn.Module):
    """Takes one tensor or a list of them, as blocks of DenseNets do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(8, 5, 1)

    def joined(self, found: Tensor | list[Tensor]) -> Tensor:
        return torch.cat([found] if isinstance(found, Tensor) else found, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.joined(self.norm(self.stem(x)))
        y = torch.relu(self.first(x)) if torch.is_tensor(x) else x["maps"]
        return self.second(self.joined([x, y])).mean((2, 3))


class Keeping(nn.Module):
    """Keeps what it computes, for whoever asks later."""

    kept: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.kept = torch.relu(self.first(x))
        return self.second(self.kept).mean((2, 3))


class Counting(nn.Module):
    """Counts its calls, in buffers that its answers depend on."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.first, self.norm, self.way = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), way
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "in place":
            self.calls += 1
        elif self.way == "anew":
            self.calls = self.calls + 1
        y = self.norm(self.first(x))
        if self.way == "of inputs":
            self.calls = self.calls + y.mean()
        return y.mean((2, 3)) * self.calls


def check(model: nn.Module, calls: int = 1) -> str:
    torch.manual_seed(0)
    mask = Mask({n: torch.rand(p.shape) < 0.5 for n, p in model.named_parameters() if p.dim() == 4})
    plain = mask.apply_(copy.deepcopy(model.eval())).double()
    fast = compile_ticket(model, mask, path="sparse")
    for _ in range(calls):
        x = torch.randn(3, 3, 8, 8)
        with torch.no_grad():
            torch.testing.assert_close(fast(x).double(), plain(x.double()), rtol=1e-4, atol=1e-5)
    return fast.path


def test_code_that_asks_for_tensors() -> None:
    assert check(Joining()).startswith("sparse")


def test_code_that_keeps_what_it_computes() -> None:
    model = Keeping()
    assert check(model).startswith("sparse")
    traced(model)
    assert model.kept is None


@pytest.mark.parametrize("way", ["in place", "anew", "of inputs"])
def test_code_that_writes_buffers(way: str) -> None:
    model = Counting(way)
    path = check(model, calls=3)
    assert path.startswith("layer by layer") and "calls change its buffers" in path
    assert not model.calls


def test_messages_name_the_class_of_the_model() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 3))
    assert "asked for a sparse Sequential, got SiLU" in check(model)


class Deciding(nn.Module):
    """Its code decides at each call what a graph would hold for good."""

    def __init__(self, by: str) -> None:
        super().__init__()
        self.first, self.norm, self.last, self.by = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3), by

    def forward(self, x: Tensor) -> Tensor:
        found = self.last(torch.relu(self.norm(self.first(x)))).mean((2, 3))
        if self.by == "type":
            return 2 * found if type(x) is Tensor else found
        return found * (1 + float(torch.rand(1))) if self.by == "chance" else found


@pytest.mark.parametrize("path", ["auto", "sparse", "dense"])
@pytest.mark.parametrize("by", ["type", "chance"])
def test_a_graph_that_answers_otherwise_than_its_model_is_not_used(by: str, path: str) -> None:
    torch.manual_seed(0)
    model = Deciding(by).eval()
    mask = Mask({n: torch.rand(p.shape) < 0.3 for n, p in model.named_parameters() if p.dim() > 1})
    fast = compile_ticket(model, mask, path)
    mask.apply_(model)
    for held in (copy.deepcopy(fast), fast):
        for images in (2, 9):
            x = torch.randn(images, 3, 9, 9)
            state = torch.get_rng_state()
            with torch.no_grad():
                wanted = model(x)
            after = torch.get_rng_state()
            torch.set_rng_state(state)
            torch.testing.assert_close(held(x), wanted, rtol=1e-4, atol=1e-5)
            assert torch.equal(torch.get_rng_state(), after)
            if path == "sparse":
                assert "layer by layer" in held.path and "answers otherwise than its graph" in held.path


def test_the_model_itself_is_held_until_the_first_call_only() -> None:
    torch.manual_seed(0)
    model = Deciding("").eval()
    fast = compile_ticket(model, {"first.weight": torch.rand(4, 3, 3, 3) < 0.3}, "sparse")
    assert fast._own is not None
    fast(torch.randn(2, 3, 9, 9))
    assert fast._own is None and fast.path.startswith("sparse (")
