"""Max-pooling of any window against torch in double precision: values, gradients, ties, NaN, threads."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ticketlab.errors import InputError
from ticketlab.sparse import Net
from ticketlab.sparse.library import library

Pair = tuple[int, int]


@pytest.fixture(params=["plain", "avx2", "avx512"])
def level(request: pytest.FixtureRequest) -> str:
    if request.param not in library().levels():
        pytest.skip(f"no {request.param} here")
    return str(request.param)


def pooled(x: Tensor, kernel: Pair, stride: Pair, padding: Pair, ceil: bool, level: str) -> tuple[Tensor, Tensor]:
    """The maxima, and the gradient of the inputs for gradients of 1, 2, 3 and so on."""
    net = Net(x.shape[1:], len(x) + 1, instructions=level, input_gradient=True)
    net.maximum(0, kernel, stride, padding, ceil=ceil)
    found = net.build().forward(x, training=True).view(len(x), x.shape[1], *net._shape(1)[1:])
    net.backward(counting(found))
    answers = Net(x.shape[1:], len(x), instructions=level, training=False, lanes="pixels")
    answers.maximum(0, kernel, stride, padding, ceil=ceil)
    same((answers.build().forward(x).view(found.shape),), (found,))
    return found, net.input_gradient()


def torchs(x: Tensor, kernel: Pair, stride: Pair, padding: Pair, ceil: bool) -> tuple[Tensor, Tensor]:
    held = x.double().requires_grad_()
    found = functional.max_pool2d(held, kernel, stride, padding, ceil_mode=ceil)
    found.backward(counting(found).double())
    assert held.grad is not None
    return found.detach().float(), held.grad.float()


def counting(like: Tensor) -> Tensor:
    """Sums of a few of these are exact in fp32, and tell which of them they are made of."""
    return (torch.arange(like.numel(), dtype=torch.float32) % 4093 + 1).view(like.shape)


def same(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.shape == theirs.shape
        assert torch.equal(ours.nan_to_num(math.pi), theirs.nan_to_num(math.pi))


@pytest.mark.parametrize("seed", range(40))
def test_any_window(seed: int, level: str) -> None:
    draw = random.Random(seed)
    torch.manual_seed(seed)
    kernel = draw.randint(1, 5), draw.randint(1, 5)
    padding = draw.randint(0, kernel[0] // 2), draw.randint(0, kernel[1] // 2)
    stride = draw.randint(1, 4), draw.randint(1, 4)
    size = [max(1, k - 2 * p) + draw.randrange(9) for k, p in zip(kernel, padding, strict=True)]
    shape = draw.choice([1, 3, 17, 40]), draw.choice([1, 2, 5]), *size
    # Few different values have many ties; with padding, negative ones would lose against zeros.
    x = torch.randint(-4, 0, shape).float() if seed % 2 else torch.randn(shape)
    for value in (math.nan, math.inf, -math.inf):
        x[torch.rand(shape) < draw.choice([0, 0, 0.1, 0.5])] = value
    held = torch.get_num_threads()
    torch.set_num_threads(1 + seed % 4)
    try:
        ceil = draw.random() < 0.5
        same(pooled(x, kernel, stride, padding, ceil, level), torchs(x, kernel, stride, padding, ceil))
    finally:
        torch.set_num_threads(held)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_threads_share_the_planes(threads: int, level: str) -> None:
    x = torch.randint(-9, 9, (33, 7, 9, 8)).float()
    held = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        same(pooled(x, (3, 3), (2, 1), (1, 1), True, level), torchs(x, (3, 3), (2, 1), (1, 1), True))
    finally:
        torch.set_num_threads(held)


@pytest.mark.parametrize("order", ["pool first", "pool last"])
def test_gradients_of_several_readers_add_up(order: str, level: str) -> None:
    """A map that a pooling and a padded convolution read: its border stays zero, whichever part comes first."""
    torch.manual_seed(0)
    weight, x = torch.randn(3, 2, 3, 3), torch.randn(9, 2, 7, 7)
    net = Net((2, 7, 7), 9, instructions=level, input_gradient=True)
    eye = torch.eye(2, dtype=torch.bool)[:, :, None, None]
    every = torch.ones(3, 2, 3, 3, dtype=torch.bool)
    source = net.layer(0, eye, relu=True, frozen=True)
    if order == "pool first":
        pool = net.maximum(source, (3, 3), (1, 1), (1, 1))
        conv = net.layer(source, every, padding=(1, 1))
    else:
        conv = net.layer(source, every, padding=(1, 1))
        pool = net.maximum(source, (3, 3), (1, 1), (1, 1))
    wide = torch.eye(3, 2, dtype=torch.bool)[:, :, None, None]
    net.layer(pool, wide, residual=conv, frozen=True)
    net.build().write(conv - 1, "weight", weight)
    held = x.double().requires_grad_()
    hidden, exact = held.relu(), weight.double().requires_grad_()
    largest = functional.max_pool2d(hidden, 3, 1, 1)
    wanted = functional.conv2d(hidden, exact, padding=1) + functional.pad(largest, (0, 0, 0, 0, 0, 1))
    slope = torch.randn(wanted.shape)
    wanted.backward(slope.double())
    for _ in range(2):
        torch.testing.assert_close(net.forward(x, training=True).double(), wanted.detach(), rtol=1e-5, atol=1e-5)
        net.backward(slope)
        torch.testing.assert_close(net.input_gradient().double(), held.grad, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(net.read(conv - 1, "weight", "gradient").double(), exact.grad, rtol=1e-5, atol=1e-4)


def test_bad_windows_are_refused() -> None:
    net = Net((3, 4, 4), 2)
    for kernel, stride, padding, what in (
        ((5, 2), (1, 1), (0, 0), "larger than its input"),
        ((0, 2), (1, 1), (0, 0), "below 1"),
        ((2, 2), (1, 0), (0, 0), "below 1"),
        ((3, 3), (1, 1), (0, 2), "half a window"),
        ((3, 3), (1, 1), (-1, 0), "half a window"),
        ((9999, 9999), (1, 1), (4999, 4999), "too large"),
    ):
        with pytest.raises(InputError, match=what):
            net.maximum(0, kernel, stride, padding)
    with pytest.raises(InputError, match="asked for tensor 3"):
        net.maximum(3, (2, 2), (2, 2))


def test_frozen_layers_stay_as_they_are() -> None:
    net = Net((3, 4, 4), 2)
    window = torch.ones(3, 1, 2, 2, dtype=torch.bool)
    source = net.layer(0, window, groups=3, frozen=True)
    net.layer(source, torch.ones(2, 27, dtype=torch.bool))
    net.build()
    assert net.layers == (1,)
    with pytest.raises(InputError, match="got a frozen one"):
        net.write(0, "weight", torch.ones(3, 1, 2, 2))
    with pytest.raises(InputError, match="got a frozen layer"):
        net.seconds(0, "weight_gradient")
    x = torch.randn(2, 3, 4, 4)
    net.write(1, "weight", torch.ones(2, 27))
    net.step(x, torch.tensor([0, 1]), 0.5, momentum=0.9, weight_decay=0.5)
    net.forward(x)
    torch.testing.assert_close(net.activation(1), functional.avg_pool2d(x, 2, 1))
    assert torch.equal(net.read(0, "weight"), torch.full((3, 1, 2, 2), 0.25))
    for kind in ("momentum", "gradient"):
        assert not net.read(0, "weight", kind).any()  # type: ignore[arg-type]
