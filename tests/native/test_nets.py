"""Whole nets against torch: gradients, SGD, running statistics, and what must not change a single bit."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from native.reference import gradients
from native.structures import Anywhere, DenseNet, imagenet_resnet, inception, preactivation
from ticketlab.errors import InputError
from ticketlab.models.conv import conv
from ticketlab.models.mlp import mlp
from ticketlab.models.resnet import resnet14_slim
from ticketlab.models.vgg import vgg19_slim
from ticketlab.sparse import Choice
from ticketlab.sparse.library import library
from ticketlab.sparse.model import SparseModel


def lenet(num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    side = (in_shape[1] - 4) // 2
    return nn.Sequential(
        *(nn.Conv2d(in_shape[0], 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 12, 3, stride=2, bias=False)),
        *(nn.ReLU(), nn.Flatten(), nn.Linear(12 * ((side - 1) // 2) ** 2, 20), nn.BatchNorm1d(20), nn.ReLU()),
        nn.Linear(20, num_classes),
    )


# Image sizes that halve to odd ones on the way.
NETS: dict[str, tuple[Callable[..., nn.Module], int]] = {
    "resnet": (resnet14_slim, 16),
    "vgg": (vgg19_slim, 24),
    "conv": (conv, 10),
    "mlp": (mlp, 8),
    "lenet": (lenet, 18),
    "imagenet-resnet": (imagenet_resnet, 33),
    "preactivation": (preactivation, 10),
    "densenet": (DenseNet, 9),
    "inception": (inception, 14),
    "anywhere": (Anywhere, 8),
}


def masked(name: str, density: float = 0.3, seed: int = 0) -> tuple[nn.Module, dict[str, Tensor], tuple[int, int, int]]:
    build, size = NETS[name]
    torch.manual_seed(seed)
    model = build(10, (3, size, size)).train()
    mask = {n: torch.rand(p.shape) < density for n, p in model.named_parameters() if p.dim() > 1}
    with torch.no_grad():
        for n, p in model.named_parameters():
            p.mul_(mask[n]) if n in mask else p.add_(0.1 * torch.rand(p.shape))
    return model, mask, (3, size, size)


def batch(shape: tuple[int, ...], n: int = 37, seed: int = 5) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn((n, *shape), generator=draw), torch.randint(10, (n,), generator=draw)


def loaded(name: str, batch: int = 40, **more: Any) -> tuple[SparseModel, nn.Module, dict[str, Tensor]]:
    model, mask, shape = masked(name)
    sparse = SparseModel(model, mask, shape, batch, **more)
    sparse.load(model.state_dict())
    return sparse, model, mask


def distance(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm().clamp_min(1e-12))


@pytest.mark.parametrize("level", ["plain", "avx2", "avx512"])
@pytest.mark.parametrize("name", NETS)
def test_gradients_are_as_exact_as_torchs(name: str, level: str) -> None:
    """In the median over layers and batches: one ReLU that decides otherwise in fp32 moves every layer before it."""
    if level not in library().levels():
        pytest.skip(f"no {level} here")
    sparse, model, mask = loaded(name, instructions=level)
    double = copy.deepcopy(model).double()
    ours, theirs = [], []
    for seed in range(5):
        x, y = batch(sparse.net.shape, seed=seed)
        exact_loss, exact = gradients(double, x, y)
        torch_loss, torchs = gradients(model, x, y)
        sparse.net.forward(x, training=True)
        assert sparse.net.loss(y) == pytest.approx(exact_loss, abs=max(2e-6, 2 * abs(torch_loss - exact_loss)))
        sparse.net.backward()
        found = sparse.read("gradient")
        for n, slope in exact.items():
            kept = slope * mask[n] if n in mask else slope
            if float(kept.norm()) > 1e-6:
                ours.append(distance(found[n], kept))
                theirs.append(distance(torchs[n] * mask.get(n, 1), kept))
    assert statistics.median(ours) < 2 * statistics.median(theirs)
    assert statistics.median(ours) < 1e-5


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("name", [name for name in NETS if name not in ("vgg", "mlp")])
def test_steps_are_those_of_torchs_sgd(name: str, nesterov: bool) -> None:
    sparse, model, mask = loaded(name)
    double = copy.deepcopy(model).double()
    settings = {"momentum": 0.9, "weight_decay": 1e-3, "nesterov": nesterov}
    optimizer = torch.optim.SGD(double.parameters(), lr=0.01, **settings)  # type: ignore[arg-type]
    alive = {n: mask[n].double() for n in mask}
    for step in range(3):
        x, y = batch(sparse.net.shape, n=40 - 3 * step, seed=step)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(double(x.double()), y)
        loss.backward()
        for n, p in double.named_parameters():
            if n in alive and p.grad is not None:
                p.grad.mul_(alive[n])
        optimizer.step()
        assert sparse.net.step(x, y, 0.01, **settings) == pytest.approx(loss.item(), rel=1e-4)  # type: ignore[arg-type]
    found, momentum = sparse.read(), sparse.read("momentum")
    for n, p in double.named_parameters():
        assert distance(found[n], p.detach()) < 1e-3, n
        held = optimizer.state[p]["momentum_buffer"]
        if float(held.norm()) > 1e-4:
            assert distance(momentum[n], held) < 2e-2, n
        if n in mask:
            assert not found[n][~mask[n]].any() and not momentum[n][~mask[n]].any()
    for n, value in sparse.buffers().items():
        assert distance(value, double.state_dict()[n]) < 1e-4, n
    x, y = batch(sparse.net.shape, seed=9)
    assert distance(sparse.net.forward(x), double.eval()(x.double()).detach()) < 1e-3


def test_running_statistics_and_logits_to_rounding() -> None:
    sparse, model, _ = loaded("resnet")
    x, _ = batch(sparse.net.shape)
    double = copy.deepcopy(model).double()
    exact = double(x.double()).detach()
    assert distance(sparse.net.forward(x, training=True), exact) < 1e-6
    for n, value in sparse.buffers().items():
        assert distance(value, double.state_dict()[n]) < 1e-6, n
    assert distance(sparse.net.forward(x), double.eval()(x.double()).detach()) < 1e-6


@pytest.mark.parametrize("name", [name for name in NETS if name not in ("conv", "lenet")])
def test_bits_do_not_depend_on_the_number_of_threads(name: str) -> None:
    def trained(threads: int) -> dict[str, Tensor]:
        held = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            sparse, _, _ = loaded(name)
            for step in range(3):
                sparse.net.step(*batch(sparse.net.shape, seed=step), 0.05, momentum=0.9)
            return {**sparse.read(), **sparse.buffers()}
        finally:
            torch.set_num_threads(held)

    one = trained(1)
    for threads in (2, 3, 4):
        other = trained(threads)
        assert all(torch.equal(one[n], other[n]) for n in one)


def test_the_same_choices_give_the_same_bits_after_a_restart() -> None:
    sparse, model, mask = loaded("resnet")
    sparse.net.choose(2, "forward", Choice(False, 0, 3))
    for step in range(2):
        sparse.net.step(*batch(sparse.net.shape, seed=step), 0.05, momentum=0.9)
    other = SparseModel(model, mask, sparse.net.shape, sparse.net.batch, choices=sparse.choices)
    assert other.choices == sparse.choices
    other.load({**model.state_dict(), **sparse.read(), **sparse.buffers()}, sparse.read("momentum"))
    x, y = batch(sparse.net.shape, seed=7)
    assert sparse.net.step(x, y, 0.05, momentum=0.9) == other.net.step(x, y, 0.05, momentum=0.9)
    assert all(torch.equal(value, other.read()[n]) for n, value in sparse.read().items())


def test_nearly_constant_channels_keep_their_digits() -> None:
    """Means that fp32 cannot hold, far from zero: neither sums of squares nor a rounded mean leave much of these."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    model[1].eps = 1e-12
    with torch.no_grad():
        # The convolution itself is then exact: powers of two, and inputs of few digits.
        model[0].weight.copy_(torch.tensor([[1, 0], [0, -2], [4, 0], [0, 0.5]])[:, :, None, None])
    mask = {"0.weight": model[0].weight.detach() != 0}
    sparse = SparseModel(model, mask, (2, 4, 4), 50)
    sparse.load(model.state_dict())
    x, y = 1000 + torch.randint(8, (50, 2, 4, 4)) * 2.0**-13, torch.randint(3, (50,))
    _, exact = gradients(copy.deepcopy(model).double(), x, y)
    sparse.net.forward(x, training=True)
    sparse.net.loss(y)
    sparse.net.backward()
    for n, found in sparse.read("gradient").items():
        if n != "0.weight":
            assert distance(found, exact[n]) < 1e-5, n
    before = sparse.net.activation(1)
    wanted = torch.relu(model[1].double()(model[0].double()(x.double()))).detach()
    assert distance(before, wanted) < 1e-6


def test_nan_and_infinity_pass_as_in_torch() -> None:
    for relu_then_pool in (True, False):
        tail = [nn.ReLU(), nn.MaxPool2d(2)] if relu_then_pool else [nn.MaxPool2d(2), nn.ReLU()]
        model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), *tail, nn.Flatten(), nn.Linear(32, 3))
        sparse = SparseModel(model, {}, (1, 8, 8), 6)
        sparse.load(model.state_dict())
        x = torch.randn(6, 1, 8, 8)
        x[1, 0, 2, 3], x[3, 0, 0, 0], x[4, 0, 7, 7] = math.nan, math.inf, -math.inf
        wanted, found = model(x), sparse.net.forward(x, training=True)
        assert torch.equal(wanted.isnan(), found.isnan()) and torch.equal(wanted.isinf(), found.isinf())
        assert math.isnan(sparse.net.loss(torch.zeros(6, dtype=torch.int64)))
    sparse, model, _ = loaded("resnet")
    x, y = batch(sparse.net.shape)
    x[5] = math.nan
    assert math.isnan(sparse.net.step(x, y, 0.1))
    assert all(torch.isnan(value).any() for n, value in sparse.read().items() if "fc" in n)
    # Lanes that hold no image repeat one that is there: they bring in no NaN of their own.
    sparse.load(model.state_dict())
    assert math.isfinite(sparse.net.step(*batch(sparse.net.shape, n=33), 0.1))
    # Where every weight lives, images with such values give what they give in torch.
    for name in ("imagenet-resnet", "preactivation", "densenet", "inception", "anywhere"):
        model, _, shape = masked(name, 1.0)
        asked = SparseModel(model.eval(), {}, shape, 9, training=False)
        asked.load(model.state_dict())
        x = torch.randn(9, *shape)
        x[1, 0, 2, 3], x[3, 0, 0, 0], x[5, 0, 7, 7] = math.nan, math.inf, -math.inf
        wanted, found = model(x), asked.net.forward(x)
        assert torch.equal(wanted.isnan(), found.isnan()) and torch.equal(wanted.isinf(), found.isinf())
        assert not wanted[1].isfinite().all() and wanted[0].isfinite().all()


@pytest.mark.parametrize("name", NETS)
def test_a_net_that_only_answers_gives_the_same_answers(name: str) -> None:
    sparse, model, mask = loaded(name)
    for step in range(2):
        sparse.net.step(*batch(sparse.net.shape, seed=step), 0.05)
    asked = SparseModel(model, mask, sparse.net.shape, 40, training=False)
    asked.load({**model.state_dict(), **sparse.read(), **sparse.buffers()})
    x, y = batch(sparse.net.shape)
    assert torch.equal(asked.net.forward(x), sparse.net.forward(x))
    assert {which for _, which in asked.choices} == {"forward"}
    with pytest.raises(InputError, match="not for training"):
        asked.net.step(x, y, 0.1)
    with pytest.raises(InputError, match="not for training"):
        asked.net.choose(0, "weight_gradient", sparse.net.choice(0, "weight_gradient"))
