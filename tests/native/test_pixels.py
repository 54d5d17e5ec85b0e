"""Networks whose vectors hold neighbouring pixels of one image: the same answers, and nothing of a training."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from native.test_nets import NETS, batch, distance, loaded, masked
from ticketlab.errors import InputError
from ticketlab.sparse import Choice, Net, Norm
from ticketlab.sparse.library import library
from ticketlab.sparse.net import SHAPES

LEVELS = ["plain", "avx2", "avx512"]


def here(level: str) -> str:
    if level not in library().levels():
        pytest.skip(f"no {level} here")
    return level


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", NETS)
def test_nets_answer_as_torch_does(name: str, level: str) -> None:
    sparse, model, _ = loaded(name, 5, training=False, lanes="pixels", instructions=here(level))
    for images in (5, 1, 3):
        inputs, _ = batch(masked(name)[2], images, seed=images)
        with torch.no_grad():
            exact = copy.deepcopy(model).double().eval()(inputs.double())
            theirs = model.eval()(inputs)
        assert distance(sparse.net.forward(inputs), exact) <= 2 * distance(theirs, exact) + 1e-7


def drawn(seed: int) -> tuple[dict[str, Any], tuple[int, ...], tuple[int, int, int], float, int]:
    """A convolution, its weight's shape, an input's, a density, and how many images."""
    draw = random.Random(seed)
    groups = draw.choice([1, 1, 1, 2, 3])
    inputs, outputs = groups * draw.randint(1, 6), groups * draw.randint(1, 6)
    kernel = (draw.randint(1, 5), draw.randint(1, 5))
    pair = {name: (draw.randint(low, high), draw.randint(low, high)) for name, low, high in _RANGES}
    size = [
        max(1, pair["dilation"][i] * (kernel[i] - 1) + 1 - 2 * pair["padding"][i]) + draw.choice([0, 1, 5, 17])
        for i in range(2)
    ]
    density = draw.choice([0.0, 0.02, 0.3, 0.8, 1.0])
    weight = (outputs, inputs // groups, *kernel)
    return {**pair, "groups": groups}, weight, (inputs, size[0], size[1]), density, draw.randint(1, 4)


_RANGES = (("stride", 1, 3), ("padding", 0, 3), ("dilation", 1, 2))


@pytest.mark.parametrize("seed", range(60))
def test_any_convolution(seed: int) -> None:
    options, form, shape, density, images = drawn(seed)
    torch.manual_seed(seed)
    weight, bias = torch.randn(form), torch.randn(form[0])
    mask = torch.rand(form) < density
    relu, norm = seed % 2 == 0, seed % 3 == 0
    inputs = torch.randn(images, *shape)
    exact = nn.functional.conv2d(inputs.double(), (weight * mask).double(), bias.double(), **options)
    pool = [None, None, "floor", "ceil"][seed % 4]
    if pool == "floor" and min(exact.shape[2:]) < 2:
        pool = None
    if norm:
        exact = exact * 2 / math.sqrt(1 + 1e-5)
    # A second layer reads the first one with borders of its own, and a third adds the second to the first.
    wide = torch.randn(form[0], form[0], 3, 3) * (torch.rand(form[0], form[0], 3, 3) < 0.5)
    exact = exact.relu() if relu else exact
    exact = exact if pool is None else nn.functional.max_pool2d(exact, 2, ceil_mode=pool == "ceil")
    middle = nn.functional.conv2d(exact, wide.double(), padding=1).relu()
    whole = nn.functional.conv2d(middle, wide.double(), padding=1) + exact
    for level in library().levels():
        net = Net(shape, 4, training=False, lanes="pixels", instructions=level)
        first = net.layer(0, mask, bias=True, norm=Norm() if norm else None, relu=relu, pool=pool, **options)
        second = net.layer(first, wide != 0, padding=(1, 1), relu=True)
        last = net.layer(second, wide != 0, padding=(1, 1), residual=first)
        net.build()
        net.write(0, "weight", weight)
        net.write(0, "bias", bias)
        if norm:
            net.write(0, "gamma", torch.full((form[0],), 2.0))
        for layer in (1, 2):
            net.write(layer, "weight", wide)
        net.forward(inputs)
        for tensor, wanted in ((first, exact), (second, middle), (last, whole)):
            found = net.activation(tensor)
            assert found.shape == wanted.shape
            assert torch.allclose(found.double(), wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max() + 1))


@pytest.mark.parametrize("level", LEVELS)
def test_any_tile_gives_the_same_bits(level: str) -> None:
    images, _, _ = loaded("resnet", 4, training=False, instructions=here(level))
    pixels = loaded("resnet", 4, training=False, lanes="pixels", instructions=level)[0]
    inputs, _ = batch(masked("resnet")[2], 4)
    before = pixels.net.forward(inputs)
    tried = 0
    for shape in range(len(SHAPES)):
        for layer in pixels.net.layers:
            choice = Choice(False, shape, 0)
            usual = pixels.net.choice(layer, "forward")
            if pixels.net.possible(layer, "forward", choice) and not usual.quad and usual.block == 0:
                pixels.net.choose(layer, "forward", choice)
                tried += 1
        assert torch.equal(pixels.net.forward(inputs), before)
    assert tried > len(SHAPES)
    assert torch.allclose(before, images.net.forward(inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_threads_change_no_bit(threads: int) -> None:
    sparse, _, _ = loaded("vgg", 3, training=False, lanes="pixels")
    inputs, _ = batch(masked("vgg")[2], 3)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = sparse.net.forward(inputs)
        torch.set_num_threads(threads)
        assert torch.equal(sparse.net.forward(inputs), alone)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stays_where_torch_has_it(value: float) -> None:
    """In its own image, and within what the kernels reach: a border that was not zero again would carry it on."""
    torch.manual_seed(0)
    weight = torch.randn(5, 4, 3, 3)
    inputs = torch.randn(3, 4, 7, 9)
    inputs[1, 2, 6, 8] = value
    net = Net((4, 7, 9), 3, training=False, lanes="pixels")
    first = net.layer(0, weight != 0, padding=(1, 1), relu=True, pool="ceil")
    net.layer(first, torch.ones(2, 5, 2, 2, dtype=torch.bool), padding=(1, 1), stride=(2, 2))
    net.build()
    after = torch.randn(2, 5, 2, 2)
    net.write(0, "weight", weight)
    net.write(1, "weight", after)
    found = net.forward(inputs)
    middle = nn.functional.conv2d(inputs, weight, padding=1).relu()
    exact = nn.functional.conv2d(nn.functional.max_pool2d(middle, 2, ceil_mode=True), after, padding=1, stride=2)
    assert not exact.isfinite().all() and exact[[0, 2]].isfinite().all()
    assert torch.allclose(found, exact, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_a_net_with_pixels_in_lanes_only_answers() -> None:
    with pytest.raises(InputError, match="only answers can"):
        Net((3, 8, 8), 1, lanes="pixels")
    sparse, _, _ = loaded("conv", 2, training=False, lanes="pixels")
    inputs, _ = batch(masked("conv")[2], 2)
    with pytest.raises(InputError, match="not for training"):
        sparse.net.forward(inputs, training=True)


def test_strided_inputs_and_many_shapes_in_turn() -> None:
    sparse, model, _ = loaded("lenet", 4, training=False, lanes="pixels")
    inputs, _ = batch(masked("lenet")[2], 4)
    model.eval()
    for some in (inputs[::2], inputs.flip(0), inputs.transpose(2, 3), inputs[:1]):
        with torch.no_grad():
            wanted: Tensor = model(some)
        assert torch.allclose(sparse.net.forward(some), wanted, rtol=1e-4, atol=1e-5)
