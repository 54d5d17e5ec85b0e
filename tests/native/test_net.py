"""What a net refuses, and how it lives: order of calls, memory, threads, forks."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import resource
import threading

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ticketlab.errors import InputError
from ticketlab.sparse import Choice, Net, Norm
from ticketlab.sparse.library import level
from ticketlab.sparse.model import SparseModel


def dense(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.bool)


def small(batch: int = 4, norm: Norm | None = None) -> Net:
    net = Net((3, 4, 4), batch)
    net.layer(net.average(net.layer(0, dense(5, 3, 3, 3), norm=norm)), dense(2, 5))
    return net.build()


def test_bad_layers_are_refused() -> None:
    net = Net((3, 4, 4), 4)
    with pytest.raises(InputError, match="2 columns, got 3 inputs"):
        net.layer(0, dense(5, 2, 3, 3))
    with pytest.raises(InputError, match="asked for tensor 7"):
        net.layer(7, dense(5, 3, 3, 3))
    with pytest.raises(InputError, match="larger than its input"):
        net.layer(0, dense(5, 3, 9, 9))
    with pytest.raises(InputError, match="groups"):
        net.layer(0, dense(5, 1, 3, 3), groups=2)
    with pytest.raises(InputError, match="stride"):
        net.layer(0, dense(5, 3, 3, 3), stride=(0, 1))
    with pytest.raises(InputError, match="another shape"):
        net.layer(0, dense(5, 3, 3, 3), residual=0)
    with pytest.raises(InputError, match="bool"):
        net.layer(0, torch.ones(5, 3, 3, 3))
    with pytest.raises(InputError, match="pooling"):
        net.layer(0, dense(5, 3, 3, 3), pool="mean")
    with pytest.raises(InputError, match="without layers"):
        net.build()
    net.layer(0, dense(5, 3, 3, 3))
    net.layer(0, dense(5, 3, 3, 3))
    with pytest.raises(InputError, match="not used"):
        net.build()
    with pytest.raises(InputError, match="asked for a sparse net"):
        Net((3, 4), 4)
    with pytest.raises(InputError, match="too large"):
        big = Net((64, 8192, 8192), 1)
        big.layer(0, dense(1, 64, 3, 3))
        big.build()


def test_bad_calls_are_refused() -> None:
    net = small(norm=Norm())
    x, y = torch.randn(4, 3, 4, 4), torch.tensor([0, 1, 1, 0])
    with pytest.raises(InputError, match="no forward pass"):
        net.backward()
    with pytest.raises(InputError, match="no gradients"):
        net.update(0.1)
    net.forward(x)
    with pytest.raises(InputError, match="no forward pass in training"):
        net.loss(y)
    net.forward(x, training=True)
    with pytest.raises(InputError, match="no loss"):
        net.backward()
    with pytest.raises(InputError, match="class 2, got 2"):
        net.loss(y + 1)
    with pytest.raises(InputError, match="targets"):
        net.loss(y[:3])
    with pytest.raises(InputError, match="from one of"):
        net.backward(torch.ones(4, 3))
    net.backward(torch.ones(4, 2))
    with pytest.raises(InputError, match="input gradient"):
        net.input_gradient()
    with pytest.raises(InputError, match="1 to 4"):
        net.forward(torch.randn(5, 3, 4, 4))
    with pytest.raises(InputError, match="shape"):
        net.forward(torch.randn(4, 3, 4, 5))
    with pytest.raises(InputError, match="built already"):
        net.build()
    with pytest.raises(InputError, match="does not fit"):
        net.choose(0, "forward", Choice(False, 4, 0))
    with pytest.raises(InputError, match="got layers with weights 0, 2"):
        net.read(1, "weight")
    with pytest.raises(InputError, match="asked to set weight"):
        net.write(0, "weight", torch.ones(3))
    one = Net((3,), 1)
    one.layer(0, dense(2, 3), norm=Norm())
    with pytest.raises(InputError, match="more than one input"):
        one.build().forward(torch.ones(1, 3), training=True)


def test_levels_are_named_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="instruction set"):
        level("mmx")
    monkeypatch.setenv("TICKETLAB_SPARSE_LEVEL", "plain")
    assert Net((3, 4, 4), 1).instructions == "plain"


class Tall(nn.Module):
    """Maps one below the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.cat([x, self.conv(x)], 2))


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid()), "Sigmoid"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, dilation=2)), "max-pooling with dilation or indices in 1"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, return_indices=True)), "indices"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.AvgPool2d(2, ceil_mode=True)), "AvgPool2d in 1 with windows of other"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.AvgPool2d(3, padding=1, count_include_pad=False)), "AvgPool2d in 1"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.AvgPool2d(2, divisor_override=3)), "AvgPool2d in 1"),
        (nn.Sequential(nn.Conv2d(3, 4, 4, padding="same")), "padding zeros same in 0"),
        (nn.Sequential(nn.Conv2d(3, 4, 3, padding="same", padding_mode="reflect")), "padding reflect same in 0"),
        (nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(192, 4)), "nothing tells its channels"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(144)), "144 features on 4 channels"),
        (Tall(), "function cat"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=None)), "momentum"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5)), "Dropout"),
        (nn.Sequential(nn.Flatten()), "no layer"),
    ],
)
def test_models_with_something_else_are_refused_by_name(model: nn.Module, what: str) -> None:
    with pytest.raises(InputError, match=what):
        SparseModel(model, {}, (3, 8, 8), 4)


def test_memory_is_given_back() -> None:
    def held() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    def once() -> None:
        net = Net((16, 32, 32), 64)
        net.layer(net.layer(0, dense(16, 16, 3, 3), norm=Norm()), dense(16, 16, 3, 3))
        net.build().forward(torch.zeros(64, 16, 32, 32), training=True)

    once()
    gc.collect()
    before = held()
    for _ in range(5):
        once()
    gc.collect()
    # Each of them takes 25 MB and more.
    assert held() - before < 60e6


def test_two_python_threads_at_once() -> None:
    nets = [small(norm=Norm()) for _ in range(2)]
    x, y = torch.randn(4, 3, 4, 4), torch.tensor([0, 1, 1, 0])
    losses: list[list[float]] = [[], []]

    def train(i: int) -> None:
        torch.manual_seed(0)
        nets[i].write(0, "weight", torch.linspace(-1, 1, 135).view(5, 3, 3, 3))
        losses[i] += [nets[i].step(x, y, 0.1) for _ in range(200)]

    held = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        threads = [threading.Thread(target=train, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        torch.set_num_threads(held)
    assert losses[0] == losses[1] and len(losses[0]) == 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_goes_on_with_threads_of_its_own() -> None:
    held = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        net, x = small(), torch.randn(4, 3, 4, 4)
        net.write(0, "weight", torch.linspace(-1, 1, 135).view(5, 3, 3, 3))
        net.write(2, "weight", torch.ones(2, 5))
        wanted = net.forward(x)
        child = os.fork()
        if child == 0:
            # torch's own threads do not survive a fork, so the child touches nothing of torch but memory.
            os._exit(0 if net.forward(x).tolist() == wanted.tolist() else 1)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        torch.set_num_threads(held)


def test_only_what_a_pass_left_is_read() -> None:
    """Not more images than it had, and nothing before it, after a refused one, or after a measurement."""
    net = small()
    with pytest.raises(InputError, match="got no such pass"):
        net.activation(1)
    with pytest.raises(InputError, match="one value for each channel"):
        alone = Net((3, 1, 1), 4)
        alone.layer(0, dense(5, 3, 1, 1), norm=Norm(1e-5, 0.1, True))
        alone.build().forward(torch.randn(1, 3, 1, 1), training=True)
    answers = Net((3, 4, 4), 40, training=False)
    answers.layer(0, dense(5, 3, 3, 3))
    answers.build().forward(torch.randn(40, 3, 4, 4))
    with pytest.raises(InputError, match="not for training"):
        answers.forward(torch.randn(1, 3, 4, 4), training=True)
    assert answers.activation(1).shape == (40, 5, 2, 2)
    answers.forward(torch.randn(2, 3, 4, 4))
    answers.seconds(0, "forward", 1)
    with pytest.raises(InputError, match="got no such pass"):
        answers.activation(1)


def test_a_net_is_not_copied() -> None:
    for make in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(InputError, match="native memory"):
            make(small())


@pytest.mark.parametrize("instructions", ["plain", None])
def test_averages_that_a_padded_convolution_reads(instructions: str | None) -> None:
    torch.manual_seed(0)
    net = Net((3, 6, 6), 5, instructions=instructions, input_gradient=True)
    mean = net.average(net.layer(0, dense(4, 3, 3, 3), relu=True))
    net.layer(mean, dense(6, 4, 3, 3), padding=(1, 1))
    net.build()
    first, last, x = torch.randn(4, 3, 3, 3), torch.randn(6, 4, 3, 3), torch.randn(5, 3, 6, 6)
    net.write(0, "weight", first)
    net.write(2, "weight", last)
    held = [t.double().requires_grad_() for t in (x, first, last)]
    hidden = functional.conv2d(held[0], held[1]).relu().mean((2, 3), keepdim=True)
    wanted = functional.conv2d(hidden, held[2], padding=1).flatten(1)
    torch.testing.assert_close(net.forward(x, training=True).double(), wanted.detach(), rtol=1e-5, atol=1e-5)
    net.backward(torch.ones_like(wanted).float())
    wanted.sum().backward()
    gradients = (net.input_gradient(), net.read(0, "weight", "gradient"), net.read(2, "weight", "gradient"))
    for found, exact in zip(gradients, held, strict=True):
        torch.testing.assert_close(found.double(), exact.grad, rtol=1e-4, atol=1e-5)


def test_threads_round_as_their_caller_does() -> None:
    net = Net((16, 16, 16), 64, training=False)
    net.layer(0, dense(16, 16, 1, 1))
    net.build()
    net.write(0, "weight", torch.full((16, 16, 1, 1), 1e-20))
    x = torch.full((64, 16, 16, 16), 1e-20)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert net.forward(x).count_nonzero() == x.numel(), "threads exist now, and keep tiny numbers"
        if torch.set_flush_denormal(True):
            for _ in range(5):
                assert not net.forward(x).any()
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)
