"""Sizes and names are those of the papers; every model takes every image."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from ticketlab.data.batches import epoch_batches, prepare
from ticketlab.data.load import load
from ticketlab.models.registry import MODELS, build

SMALL = [name for name in MODELS if name != "wrn-28-10"]


@pytest.fixture(autouse=True)
def own_random_state() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def prunable(model: nn.Module) -> dict[str, int]:
    layers = (nn.Conv2d, nn.Linear)
    return {name: m.weight.numel() for name, m in model.named_modules() if isinstance(m, layers)}


def test_resnet32_of_su_2020() -> None:
    """Module order decides the smart ratio: a down-sampling convolution comes after conv2 of its block."""
    expected = {"conv1": 864}
    for group, width in ((1, 32), (2, 64), (3, 128)):
        for block in range(5):
            name, down = f"layer{group}.{block}", group > 1 and block == 0
            before = width // 2 if down else width
            expected |= {f"{name}.conv1": 9 * before * width, f"{name}.conv2": 9 * width**2}
            expected |= {f"{name}.downsample.0": before * width} if down else {}
    for classes, total in ((10, 1_855_584), (100, 1_867_104)):
        sizes = prunable(build("resnet32-su2020", classes, (3, 32, 32)))
        assert list(sizes.items()) == [*expected.items(), ("fc", 128 * classes)]
        assert sum(sizes.values()) == total


def test_vgg19_of_su_2020() -> None:
    places = [0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49]
    widths = [3, 64, 64, 128, 128, *[256] * 4, *[512] * 8]
    expected = {f"features.{p}": 9 * widths[i] * widths[i + 1] for i, p in enumerate(places)}
    for classes, total in ((10, 20_024_000), (100, 20_070_080)):
        model = build("vgg19", classes, (3, 32, 32))
        sizes = prunable(model)
        assert list(sizes.items()) == [*expected.items(), ("classifier", 512 * classes)]
        assert sum(sizes.values()) == total
    assert all(m.bias is not None for m in model.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mlp", 266_610),
        ("resnet20", 272_474),
        ("resnet32", 466_906),
        ("resnet56", 855_770),
        ("wrn-16-4", 2_748_890),
        ("wrn-28-10", 36_479_194),
    ],
)
def test_published_sizes(name: str, parameters: int) -> None:
    shape = (1, 28, 28) if name == "mlp" else (3, 32, 32)
    with torch.device("meta"):
        model = build(name, 10, shape)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 8, 8), (2, 9, 5), (1, 1, 1)])
@pytest.mark.parametrize("name", SMALL)
def test_every_image_size(name: str, shape: tuple[int, int, int]) -> None:
    model = build(name, 7, shape).eval()
    with torch.no_grad():
        assert model(torch.randn(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("name", ["mlp", "conv", "resnet20", "resnet32-su2020", "vgg11", "wrn-16-4"])
def test_every_prunable_weight_gets_a_gradient(name: str) -> None:
    model = build(name, 10, (3, 16, 16))
    model(torch.randn(4, 3, 16, 16)).logsumexp(1).sum().backward()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert module.weight.grad is not None and module.weight.grad.abs().sum() > 0


def test_first_weights() -> None:
    resnet, vgg = build("resnet32-su2020", 100, (3, 32, 32)), build("vgg16", 100, (3, 32, 32))
    deviations = {
        "layer3.1.conv1": (resnet, math.sqrt(2 / (9 * 128))),
        "layer2.0.downsample.0": (resnet, math.sqrt(2 / 64)),
        "layer2.0.conv1": (resnet, math.sqrt(2 / (9 * 64))),
        "features.7": (vgg, math.sqrt(2 / (9 * 64))),
        "fc": (resnet, 0.01),
        "classifier": (vgg, 0.01),
    }
    for name, (model, deviation) in deviations.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        assert layer.weight.std().item() == pytest.approx(deviation, rel=0.06), name
        assert layer.bias is None or not layer.bias.any()


def test_conv_learns_the_digits() -> None:
    data, model = load("digits"), build("conv", 10, (1, 8, 8))
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(5):
        for batch in epoch_batches(len(data.train), 128, generator):
            optimizer.zero_grad()
            outputs = model(prepare(data, data.train.inputs[batch]))
            nn.functional.cross_entropy(outputs, data.train.targets[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        right = model.eval()(prepare(data, data.test.inputs)).argmax(1) == data.test.targets
    assert right.double().mean() > 0.95
