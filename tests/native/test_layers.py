"""Every kernel against torch in double precision: shapes, strides, groups, densities, tails of batches, all levels."""

from __future__ import annotations

import random

import pytest
import torch

from native.reference import Case, rounding, run
from ticketlab.sparse import Choice, Net
from ticketlab.sparse.library import library
from ticketlab.sparse.net import PASSES

LEVELS = ("plain", "avx2", "avx512")
# Sums of up to a few thousand products of fp32 values around 1.
BOUND = 5e-6


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> str:
    if request.param not in library().levels():
        pytest.skip(f"no {request.param} here")
    return str(request.param)


def agree(case: Case, instructions: str, net: Net | None = None) -> None:
    for name, (found, wanted) in run(case, instructions, net).items():
        assert found.shape == wanted.shape, (case, name)
        # The bias before a batch norm has no effect; torch finds rounding noise there.
        if name == "bias" and case.norm:
            assert not found.any() and wanted.abs().max() < 1e-9
        else:
            assert rounding(found, wanted) < BOUND, (case, name)


def some_case(draw: random.Random) -> Case:
    groups = draw.choice([1, 1, 1, 2, 3])
    kernel = (draw.choice([1, 2, 3, 3, 5]), draw.choice([1, 3, 3, 4]))
    dilation = draw.choice([(1, 1), (1, 1), (2, 1)])
    padding = (draw.choice([0, 1, 2]), draw.choice([0, 1, 3]))
    # The window must fit into the padded map.
    least = [max(2, d * (k - 1) + 1 - 2 * p) for k, p, d in zip(kernel, padding, dilation, strict=True)]
    return Case(
        shape=(groups * draw.choice([1, 2, 5]), least[0] + draw.randrange(8), least[1] + draw.randrange(18)),
        outputs=groups * draw.choice([1, 3, 4, 7]),
        kernel=kernel,
        density=draw.choice([0.0, 0.02, 0.1, 0.3, 0.6, 1.0]),
        images=draw.choice([2, 5, 16, 19, 33]),
        bias=draw.random() < 0.3,
        norm=draw.random() < 0.4,
        relu=draw.random() < 0.4,
        seed=draw.randrange(1000),
        more={
            "stride": (draw.choice([1, 1, 2, 3]), draw.choice([1, 1, 2, 3])),
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
        },
    )


@pytest.mark.parametrize("seed", range(25))
def test_any_convolution_agrees_with_torch(seed: int, level: str) -> None:
    agree(some_case(random.Random(seed)), level)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (4, 4), (5, 7), (8, 8), (16, 16), (9, 32)])
@pytest.mark.parametrize("density", [0.05, 0.9])
def test_every_size_of_map(size: tuple[int, int], density: float, level: str) -> None:
    case = Case((12, *size), 20, (3, 3), density, images=64, norm=True, relu=True, more={"padding": (1, 1)})
    agree(case, level)


@pytest.mark.parametrize("pool", ["floor", "ceil"])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_pooling(pool: str, norm: bool, size: tuple[int, int], level: str) -> None:
    agree(Case((3, *size), 6, (3, 3), 0.5, 18, norm=norm, bias=True, relu=True, pool=pool), level)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_residual(norm: bool, relu: bool, level: str) -> None:
    case = Case((6, 7, 7), 6, (3, 3), 0.3, 9, residual=True, norm=norm, relu=relu, more={"padding": (1, 1)})
    agree(case, level)


@pytest.mark.parametrize("shape", [(40,), (3, 5, 4), (64, 1, 1)])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_linear(shape: tuple[int, ...], density: float, level: str) -> None:
    for images in (1, 33, 64):
        agree(Case(shape, 10, None, density, images, bias=True, relu=True), level)


def test_every_choice_gives_the_same(level: str) -> None:
    case = Case((20, 8, 8), 12, (3, 3), 0.4, images=64, norm=True, more={"padding": (1, 1)})
    net, tried = case.net(level), 0
    for which in PASSES:
        for choice in (Choice(quad, shape, block) for quad in (False, True) for shape in range(15) for block in (0, 7)):
            if net.possible(0, which, choice):
                net.choose(0, which, choice)
                assert net.choice(0, which) == choice
                agree(case, level, net)
                tried += 1
    assert tried > 20


def test_empty_rows_and_columns(level: str) -> None:
    case = Case((8, 6, 6), 9, (3, 3), 0.5, images=7, norm=True, relu=True)
    mask = case.mask()
    mask[2:5] = False
    mask[:, 3] = False
    case.mask = lambda: mask  # type: ignore[method-assign]
    agree(case, level)


def test_smaller_batches_than_the_net_was_built_for(level: str) -> None:
    case = Case((5, 6, 6), 8, (3, 3), 0.3, images=40, norm=True, relu=True)
    net = case.net(level)
    for images in (40, 3, 17, 40, 32, 1):
        case.images = images
        agree(case, level, net)


def test_inputs_in_any_layout() -> None:
    case = Case((4, 6, 6), 5, (3, 3), images=6)
    net = case.net()
    net.write(0, "weight", torch.randn(5, 4, 3, 3))
    x = torch.randn(6, 4, 6, 6)
    wanted = net.forward(x)
    for other in (x.to(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3), x.double()):
        assert torch.equal(net.forward(other), wanted)
    every_other = torch.stack([x, x + 1], 1).flatten(0, 1)[::2]
    assert torch.equal(net.forward(every_other), wanted)


def test_gradients_are_those_of_finite_differences() -> None:
    """Of the kernels' own forward pass, without torch's autograd."""
    case = Case((2, 4, 4), 3, (3, 3), 0.7, images=4, norm=True, more={"padding": (1, 1)})
    net = case.net()
    draw = torch.Generator().manual_seed(0)
    x, weight = torch.randn(4, 2, 4, 4, generator=draw), torch.randn(3, 2, 3, 3, generator=draw) * case.mask()
    net.write(0, "weight", weight)
    dy = torch.randn(net.forward(x, training=True).shape, generator=draw)
    net.backward(dy)
    slope, step = net.read(0, "weight", "gradient"), 1e-2

    def at(w: torch.Tensor) -> float:
        net.write(0, "weight", w)
        return float((net.forward(x, training=True).double() * dy).sum())

    for place in case.mask().nonzero()[:8].tolist():
        shift = torch.zeros_like(weight)
        shift[tuple(place)] = step
        measured = (at(weight + shift) - at(weight - shift)) / (2 * step)
        assert measured == pytest.approx(float(slope[tuple(place)]), rel=2e-2, abs=2e-2)
