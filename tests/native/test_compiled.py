"""Compiled tickets against the masked models they stand for, whatever path they take; and what they refuse."""

from __future__ import annotations

import copy
import io
import math
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import ticketlab
from native.test_nets import NETS, masked
from ticketlab.errors import DensePathWarning, InputError
from ticketlab.models.wrn import WideResNet
from ticketlab.sparse import compiled, faster, library, one_layer, plans
from ticketlab.sparse.compiled import CompiledTicket, compile_ticket
from ticketlab.speed.turns import Times


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and the kernels that are there already."""
    # Loaded before the cache folder is another one.
    library.library()
    monkeypatch.setenv("TICKETLAB_CACHE", str(tmp_path))
    return tmp_path / "sparse"


@pytest.fixture
def untuned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer in its usual way."""
    monkeypatch.setattr(plans, "tune", lambda net: {})


@pytest.fixture
def choosing(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[str], Callable[[str], None]]]:
    """As if one way were the fastest; with the names of the ways that were measured."""
    seen: list[str] = []
    best = ["sparse"]

    def in_turns(calls: dict[str, Any], *_: object) -> dict[str, Times]:
        seen.extend(calls)
        return {name: Times((0.5 if name == best[0] else 1.0,)) for name in calls}

    monkeypatch.setattr(faster, "in_turns", in_turns)
    yield seen, lambda name: best.__setitem__(0, name)


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """In eval mode, with batch-norm statistics and scales that are not those of the start."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.5)
    return model.eval()


def ticket(name: str, density: float = 0.3, seed: int = 0) -> tuple[nn.Module, dict[str, Tensor], tuple[int, ...]]:
    model, mask, shape = masked(name, density, seed)
    return lively(model, seed), mask, shape


def error(found: Tensor, model: nn.Module, mask: dict[str, Tensor], x: Tensor) -> float:
    """Against the masked model in double precision, as a share of its largest output."""
    assert found.dtype == x.dtype and found.is_contiguous() and not found.requires_grad
    exact = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for n, p in exact.named_parameters():
            if n in mask:
                p.mul_(mask[n])
        wanted = exact(x.double())
    assert found.shape == wanted.shape
    return float((found.double() - wanted).abs().max() / wanted.abs().max().clamp_min(1e-3))


@pytest.mark.usefixtures("untuned")
@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize("name", NETS)
def test_any_batch_size(name: str, density: float) -> None:
    model, mask, shape = ticket(name, density)
    fast = compile_ticket(model, mask, path="sparse")
    for n in (37, 1, 2, 16, 17, 64, 131):
        x = torch.randn(n, *shape)
        assert error(fast(x), model, mask, x) < 1e-5, n
    assert fast.path == f"sparse ({library.level()})" and fast.refused is None


@pytest.mark.usefixtures("untuned")
@pytest.mark.parametrize("level", ["plain", "avx2", "avx512"])
def test_instruction_sets(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if level not in library.library().levels():
        pytest.skip(f"no {level} here")
    monkeypatch.setenv("TICKETLAB_SPARSE_LEVEL", level)
    model, mask, shape = ticket("resnet")
    fast, x = compile_ticket(model, mask, path="sparse"), torch.randn(5, *shape)
    assert error(fast(x), model, mask, x) < 1e-5 and fast.path == f"sparse ({level})"


def test_everything_is_tuned_and_measured_once(cache: Path, choosing: Any) -> None:
    seen, choose = choosing
    model, mask, shape = ticket("resnet")
    fast, x = compile_ticket(model, mask), torch.randn(6, *shape)
    assert fast.path == "not chosen yet: the first call does" and not cache.exists()
    assert error(fast(x), model, mask, x) < 1e-5
    assert seen == ["dense", "dense, channels last", "sparse", "sparse, pixels in lanes"]
    assert fast.path.startswith("sparse (")
    shown = repr(fast)
    assert "layer1.0.conv1: " in shown and shown.count("kept, Choice(") == 16 and "sparse (" in shown
    tuned = [file for file in cache.iterdir() if not file.name.startswith("whole-")]
    assert tuned
    # Five to eight inputs run alike, and so does another ticket of the same counts.
    fast(torch.randn(8, *shape))
    compile_ticket(model, mask)(x)
    assert len(seen) == 4
    for name in ("dense, channels last", "dense"):
        choose(name)
        (file,) = cache.glob("whole-*")
        file.write_text('["sparse"]')
        seen.clear()
        other = compile_ticket(model, mask)
        assert error(other(x), model, mask, x) < 1e-5 and other.path == f"{name}: measured faster at batch 8"
        assert len(seen) == 4 and other.refused is None and repr(other).count("\n") == 0


@pytest.mark.usefixtures("untuned")
def test_what_has_no_weights_counts_for_what_was_measured(choosing: Any) -> None:
    """Another pooling takes another time: it is measured, too."""
    seen, _ = choosing
    torch.manual_seed(0)
    first, last = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 16, 10)
    mask = {"0.weight": torch.rand(8, 3, 3, 3) < 0.3}
    for pool, measured in ((nn.MaxPool2d(2), True), (nn.MaxPool2d(3, 2, 1), True), (nn.MaxPool2d(2), False)):
        model = nn.Sequential(first, pool, nn.Flatten(), last).eval()
        compile_ticket(model, mask)(torch.randn(9, 3, 8, 8))
        assert bool(seen) is measured
        seen.clear()


@pytest.mark.usefixtures("untuned")
def test_pixels_in_lanes_are_measured_for_a_few_images(choosing: Any) -> None:
    seen, choose = choosing
    choose("sparse, pixels in lanes")
    model, mask, shape = ticket("vgg")
    fast = compile_ticket(model, mask)
    for images in (1, 3, 8):
        x = torch.randn(images, *shape)
        assert error(fast(x), model, mask, x) < 1e-5
        assert fast.path == f"sparse ({library.level()}), pixels in lanes"
    seen.clear()
    fast(torch.randn(9, *shape))
    assert seen == ["dense", "dense, channels last", "sparse"]


@pytest.mark.usefixtures("untuned")
def test_what_is_asked_for_without_measuring(choosing: Any) -> None:
    seen, _ = choosing
    model, mask, shape = ticket("conv")
    fast = compile_ticket(model, mask, path="sparse")
    for images, ending in ((4, "), pixels in lanes"), (5, f"({library.level()})")):
        x = torch.randn(images, *shape)
        assert error(fast(x), model, mask, x) < 1e-5 and fast.path.endswith(ending)
    model, mask, shape = ticket("mlp")
    flat, x = compile_ticket(model, mask, path="sparse"), torch.randn(1, *shape)
    assert error(flat(x), model, mask, x) < 1e-5 and "pixels" not in flat.path and not seen


def test_what_is_measured_is_right_whatever_it_is(cache: Path) -> None:
    model, mask, shape = ticket("conv")
    fast = compile_ticket(model, mask)
    for n in (1, 33):
        x = torch.randn(n, *shape)
        assert error(fast(x), model, mask, x) < 1e-5
        assert fast.path.startswith(("sparse (", "dense"))
    assert len(list(cache.glob("whole-*"))) == 2


@pytest.mark.usefixtures("untuned")
@pytest.mark.parametrize("density", [0.0, 0.1])
def test_linear_layers_as_csr(choosing: Any, density: float) -> None:
    seen, choose = choosing
    choose("dense, linear layers as CSR")
    model, mask, shape = ticket("mlp", density)
    fast, x = compile_ticket(model, mask), torch.randn(7, *shape)
    found = fast(x)
    if "dense, linear layers as CSR" not in seen:
        pytest.skip("torch has no CSR products here")
    assert error(found, model, mask, x) < 1e-5 and fast.path.startswith("dense, linear layers as CSR: measured")
    assert "dense, channels last" not in seen


@pytest.mark.usefixtures("untuned")
def test_constants_flow_on_across_padding() -> None:
    """A pruned channel gives relu(beta), which the next layer's zero padding ends at the border."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(5, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)),
    )
    lively(model)
    with torch.no_grad():
        model[0].bias.zero_()
        model[1].running_mean.zero_()
        model[1].bias.copy_(torch.tensor([0.7, -0.7, 0.9, 0.4, 0.0, 0.3]))
    mask = {f"{i}.weight": torch.ones(model[i].weight.shape, dtype=torch.bool) for i in (0, 3, 7)}
    # Channels 0, 2 and 3 are constant, 1 and 4 zero, and only 5 sees the image.
    mask["0.weight"][:5] = False
    # Of the next layer one channel reads constants alone, another nothing.
    mask["3.weight"][1, 5], mask["3.weight"][2] = False, False
    x = torch.randn(9, 2, 12, 12)
    fast = compile_ticket(model, mask, path="sparse")
    assert error(fast(x), model, mask, x) < 1e-5
    smaller, _ = plans.without_idle(fast._held[0], fast._held[1], (2, 12, 12))
    assert smaller.get_submodule("0").out_channels == 2 and smaller.get_submodule("3").in_channels == 2


class Branches(nn.Module):
    """Sums, groups and a grouped convolution, whose channels stay; a chain inside, whose channels may go."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.inner = nn.Conv2d(8, 12, 3, padding=1)
        self.outer = nn.Conv2d(12, 8, 3, padding=1, bias=False)
        self.grouped = nn.Conv2d(8, 8, 3, groups=4, stride=2)
        self.narrow = nn.Conv2d(8, 10, 1)
        self.last = nn.Linear(10, 7)
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in (8, 12, 8, 8, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norms[0](self.stem(x)))
        y = torch.relu(self.norms[1](self.inner(x)))
        x = torch.relu(self.norms[2](self.outer(y)) + x)
        x = torch.relu(self.norms[4](self.narrow(torch.relu(self.norms[3](self.grouped(x))))))
        return self.last(x.mean((2, 3)))


@pytest.mark.usefixtures("untuned")
@pytest.mark.parametrize("seed", range(12))
def test_idle_channels_anywhere(seed: int) -> None:
    model = lively(Branches(), seed)
    mask = {}
    for n, p in model.named_parameters():
        if p.dim() > 1:
            # Whole units, whole inputs and single weights are pruned.
            mask[n] = torch.rand(p.shape) < 0.6
            mask[n] &= (torch.rand(len(p)) < 0.6).view(-1, *[1] * (p.dim() - 1))
            mask[n] &= (torch.rand(p.shape[1]) < 0.7).view(1, -1, *[1] * (p.dim() - 2))
    x = torch.randn(4, 3, 9, 9)
    fast = compile_ticket(model, mask, path="sparse")
    assert error(fast(x), model, mask, x) < 1e-5
    smaller, _ = plans.without_idle(fast._held[0], fast._held[1], (3, 9, 9))
    assert error(smaller(x).detach(), model, mask, x) < 1e-5
    assert smaller.get_submodule("inner").out_channels < 12
    assert smaller.get_submodule("stem").out_channels == smaller.get_submodule("grouped").out_channels == 8


@pytest.mark.usefixtures("untuned")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["imagenet-resnet", "preactivation", "densenet", "inception", "anywhere"])
def test_idle_channels_around_selections_and_poolings(name: str, seed: int) -> None:
    model, mask, shape = ticket(name, 0.8, seed)
    for n in mask:
        mask[n] &= (torch.rand(len(mask[n])) < 0.6).view(-1, *[1] * (mask[n].dim() - 1))
    x = torch.randn(4, *shape)
    fast = compile_ticket(model, mask, path="sparse")
    assert error(fast(x), model, mask, x) < 1e-5
    smaller, less = plans.without_idle(fast._held[0], fast._held[1], shape)
    assert error(smaller(x).detach(), model, mask, x) < 1e-5
    removed = any(less[n].shape != mask[n].shape for n in mask)
    # Sums and selections read every layer of one of them; another has few channels that they do not read.
    assert removed == (name != "anywhere") or name == "inception"


@pytest.mark.usefixtures("untuned")
def test_constants_flow_through_max_pooling() -> None:
    torch.manual_seed(0)
    pool = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3), pool, nn.ReLU(), nn.Conv2d(6, 5, 3), nn.Flatten(), nn.Linear(80, 3)
    ).eval()
    mask = {"0.weight": torch.ones(6, 2, 3, 3, dtype=torch.bool)}
    # Two of these are constant and become one, one is zero.
    mask["0.weight"][:3] = False
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([0.7, 0.9, -0.4, 0.1, 0.2, 0.3]))
    x = torch.randn(9, 2, 12, 12)
    fast = compile_ticket(model, mask, path="sparse")
    assert error(fast(x), model, mask, x) < 1e-5
    smaller, _ = plans.without_idle(fast._held[0], fast._held[1], (2, 12, 12))
    assert smaller.get_submodule("0").out_channels == smaller.get_submodule("3").in_channels == 4


@pytest.mark.usefixtures("untuned")
@pytest.mark.parametrize("empty", ["first", "middle", "all"])
@pytest.mark.parametrize("name", NETS)
def test_empty_layers(name: str, empty: str) -> None:
    model, mask, shape = ticket(name)
    names = list(mask)
    for n in {"first": names[:1], "middle": names[1:2], "all": names}[empty]:
        mask[n] = torch.zeros_like(mask[n])
    x = torch.randn(5, *shape)
    assert error(compile_ticket(model, mask, path="sparse")(x), model, mask, x) < 1e-5


@pytest.mark.usefixtures("untuned")
def test_nan_and_infinity() -> None:
    model, _, shape = ticket("lenet")
    fast = compile_ticket(model, {}, path="sparse")
    x = torch.randn(4, *shape)
    x[1, 0, 2, 2], x[2, 1, 3, 3], x[3, 0, 0, 0] = math.nan, math.inf, -math.inf
    with torch.no_grad():
        assert torch.equal(fast(x).isfinite(), model(x).isfinite())
    # A pruned weight passes nothing on, where zero times infinity would make NaN of it.
    mask = {"0.weight": torch.ones(6, 3, 5, 5, dtype=torch.bool)}
    mask["0.weight"][:, 0] = False
    x = torch.randn(4, *shape)
    finite = compile_ticket(model, mask, path="sparse")(x)
    x[:, 0] = math.inf
    wild = compile_ticket(model, mask, path="sparse")(x)
    x[:, 0] = 0
    assert wild.isfinite().all() and torch.allclose(wild, finite, atol=1e-6) and error(wild, model, mask, x) < 1e-5


@pytest.mark.usefixtures("untuned")
def test_inputs_of_any_strides_and_no_inputs_at_all() -> None:
    model, mask, shape = ticket("conv")
    fast = compile_ticket(model, mask, path="sparse")
    x = torch.randn(6, *shape)
    wide = torch.randn(12, *shape)[::2]
    turned = x.contiguous(memory_format=torch.channels_last)
    for some in (wide, turned, x.transpose(2, 3), x[:, [0]].expand(6, *shape)):
        assert error(fast(some), model, mask, some) < 1e-5
    assert fast(x[:0]).shape == (0, 10)
    # A single image is a batch of one to torch's convolutions; here it is what torch makes of it.
    single = nn.Conv2d(3, 2, 3)
    with torch.no_grad():
        assert torch.equal(compile_ticket(single, {}, path="sparse")(x[0]), single(x[0]))
    maps = compile_ticket(single, {}, path="sparse")
    assert error(maps(x), single, {}, x) < 1e-6
    pixels = x[:, :, :3, :3]
    assert maps(pixels).shape == (6, 2, 1, 1) and error(maps(pixels), single, {}, pixels) < 1e-6
    with pytest.raises(RuntimeError, match="channels"):
        maps(x[:, :2])
    with pytest.raises(TypeError):
        maps()


class Flattening(nn.Module):
    """The ways in which people flatten and average."""

    def __init__(self, way: Callable[[Tensor], Tensor], features: int = 4) -> None:
        super().__init__()
        self.conv, self.drop, self.fc = nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.Linear(features, 5)
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        x = functional.dropout(torch.relu(self.conv(x)), 0.2, self.training)
        return self.fc(self.drop(self.way(x)))


WAYS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "view": (lambda x: x.view(x.size(0), -1), 144),
    "shape": (lambda x: x.reshape(x.shape[0], -1), 144),
    "size": (lambda x: torch.flatten(x, start_dim=1).view((x.size()[0], -1)), 144),
    "mean": (lambda x: x.mean([2, 3]), 4),
    "kept": (lambda x: torch.mean(x, dim=(-1, -2), keepdim=True).flatten(1), 4),
    "adaptive": (lambda x: functional.adaptive_avg_pool2d(x, 1).flatten(1), 4),
    "pool": (lambda x: functional.avg_pool2d(x, 6).view(x.size(0), -1), 4),
    "module": (nn.Sequential(nn.AvgPool2d((6, 6)), nn.Flatten()), 4),
}


@pytest.mark.usefixtures("untuned")
@pytest.mark.parametrize("way", WAYS)
def test_flattening_and_averaging(way: str) -> None:
    torch.manual_seed(0)
    model = Flattening(*WAYS[way]).train()
    x = torch.randn(5, 3, 8, 8)
    fast = compile_ticket(model, {"conv.weight": torch.rand(4, 3, 3, 3) < 0.5}, path="sparse")
    with torch.no_grad():
        model.conv.weight.zero_()
    assert fast.path.startswith("not chosen")
    assert fast(x).std() > 0
    model = Flattening(*WAYS[way])
    assert error(compile_ticket(model, {}, path="sparse")(x), model, {}, x) < 1e-5


@pytest.mark.usefixtures("untuned")
def test_uneven_average_pools_of_a_part_of_the_map_run_dense() -> None:
    uneven = nn.AvgPool2d(4, ceil_mode=True)
    model = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.ReLU(), uneven, nn.AdaptiveAvgPool2d(1)), nn.Flatten(), nn.Linear(4, 2)
    )
    fast = compile_ticket(model, {}, path="auto")
    whole, part = torch.randn(2, 3, 6, 6), torch.randn(2, 3, 7, 7)
    fast(whole)
    assert fast.refused is None
    with pytest.warns(DensePathWarning, match="AvgPool2d"):
        assert error(fast(part), model, {}, part) < 1e-5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert error(fast(part), model, {}, part) < 1e-5
    assert "AvgPool2d" in (fast.refused or "") and fast.path.startswith("dense: asked for")
    fast(whole)
    assert fast.refused is None
    with pytest.raises(InputError, match=r"asked for the sparse path of Sequential, got none: .*AvgPool2d"):
        compile_ticket(model, {}, path="sparse")(part)


def test_models_of_which_the_kernels_know_no_layer_run_dense() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular")
    odd = nn.Sequential(conv, nn.Softsign(), nn.Flatten(), nn.Linear(256, 5)).eval()
    mask = {"0.weight": torch.rand(4, 3, 3, 3) < 0.3}
    with pytest.warns(DensePathWarning, match="Sequential runs on torch's dense path: .*circular .*; nor can a layer"):
        fast = compile_ticket(odd, mask)
    x = torch.randn(3, 3, 8, 8)
    assert error(fast(x), odd, mask, x) < 1e-5 and "circular" in fast.path and "circular" in repr(fast)
    assert fast.path == f"dense: {fast.refused}"
    with pytest.raises(InputError, match="asked for the sparse path of Sequential, got none"):
        compile_ticket(odd, mask, path="sparse")
    asked = compile_ticket(odd, mask, path="dense")
    assert error(asked(x), odd, mask, x) < 1e-5 and asked.path == "dense: as asked"


@pytest.mark.usefixtures("untuned")
def test_wide_resnets() -> None:
    torch.manual_seed(0)
    wide = lively(WideResNet(10, 1, 10, 3))
    mask = {n: torch.rand(p.shape) < 0.3 for n, p in wide.named_parameters() if p.dim() == 4}
    fast, x = compile_ticket(wide, mask, path="sparse"), torch.randn(3, 3, 8, 8)
    assert error(fast(x), wide, mask, x) < 1e-5 and fast.refused is None and "sparse" in fast.path


class Shared(nn.Module):
    """A layer that runs twice, or two that share a weight."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        if tied:
            self.two.weight = self.one.weight
        self.tied = tied

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.relu(self.one(x))) if self.tied else self.one(torch.relu(self.one(x)))


@pytest.mark.parametrize("tied", [True, False])
def test_shared_layers(tied: bool) -> None:
    torch.manual_seed(0)
    model, mask, x = Shared(tied), {"one.weight": torch.rand(6, 6) < 0.5}, torch.randn(3, 6)
    if tied:
        with pytest.warns(DensePathWarning, match="one and two share"):
            fast = compile_ticket(model, mask)
    else:
        fast = compile_ticket(model, mask, path="sparse")
    model.two.weight = nn.Parameter(model.two.weight.detach() * (mask["one.weight"] if tied else 1))
    assert error(fast(x), model, mask, x) < 1e-5


def test_hooks_and_parametrised_layers_run_dense() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)).eval()
    x = torch.randn(2, 3, 6, 6)
    with torch.no_grad(), pytest.warns(DensePathWarning, match="parametrisations on 0"):
        model[1].running_mean.normal_()
        assert torch.allclose(compile_ticket(model, {})(x), model(x), atol=1e-5)
    hooked = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    hooked[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    with torch.no_grad(), pytest.warns(DensePathWarning, match="hooks"):
        assert torch.allclose(compile_ticket(hooked, {})(x), hooked(x), atol=1e-5)


def test_other_precisions_and_several_inputs_run_dense() -> None:
    model, mask, shape = ticket("conv")
    x = torch.randn(3, *shape).double()
    with pytest.warns(DensePathWarning, match="compute in float32, the model has float64"):
        fast = compile_ticket(model.double(), mask)
    assert fast(x).dtype == torch.float64 and error(fast(x), model, mask, x) < 1e-12
    with pytest.raises(InputError, match=r"torch\.float32, got a ticket compiled in torch\.float64"):
        fast(x.float())

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.fc = nn.Embedding(9, 4), nn.Linear(4, 2)

        def forward(self, tokens: Tensor, scale: Tensor) -> Tensor:
            return self.fc(self.words(tokens)).sum(1) * scale

    both, tokens, scale = Two(), torch.randint(9, (3, 5)), torch.randn(3, 1)
    with torch.no_grad(), pytest.warns(DensePathWarning):
        assert torch.equal(compile_ticket(both, {})(tokens, scale=scale), both(tokens, scale))


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "missing", lambda: "asked for the native sparse kernels, got no C++ compiler")
    model, mask, shape = ticket("conv")
    with pytest.warns(DensePathWarning, match="no C\\+\\+ compiler"):
        fast = compile_ticket(model, mask)
    x = torch.randn(3, *shape)
    assert error(fast(x), model, mask, x) < 1e-5
    assert fast.path == fast.refused or fast.path == f"dense: {fast.refused}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(copy.deepcopy(fast)(x), fast(x))


def test_kernels_that_compute_something_else_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model, mask, shape = ticket("conv")
    monkeypatch.setattr(plans.SparseModel, "load", lambda self, weights: None)
    fast, x = compile_ticket(model, mask), torch.randn(3, *shape)
    assert error(fast(x), model, mask, x) < 1e-5 and "of the largest from those of the dense one" in fast.path
    monkeypatch.setattr(one_layer.LayerNet, "write", lambda *_: None)
    fast = compile_ticket(model, mask)
    with pytest.warns(DensePathWarning, match="of the largest from torch's"):
        assert error(fast(x), model, mask, x) < 1e-5


@pytest.mark.usefixtures("untuned")
def test_what_happens_to_the_model_later_does_not_matter() -> None:
    model, mask, shape = ticket("resnet")
    before = {n: v.clone() for n, v in model.state_dict().items()}
    model.train()
    fast, x = compile_ticket(model, mask, path="sparse"), torch.randn(5, *shape)
    assert model.training and all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    wanted = copy.deepcopy(model)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    for m in mask.values():
        m.logical_not_()
    assert error(fast(x), wanted, {n: ~m for n, m in mask.items()}, x) < 1e-5
    assert error(copy.deepcopy(fast)(x), wanted, {n: ~m for n, m in mask.items()}, x) < 1e-5


@pytest.mark.usefixtures("untuned")
def test_what_a_compiled_ticket_is_not() -> None:
    model, mask, shape = ticket("conv")
    fast = compile_ticket(nn.DataParallel(model), ticketlab.Mask(mask), path="sparse")
    x = torch.randn(3, *shape)
    wanted = fast(x)
    assert not list(fast.parameters()) and not list(fast.buffers())
    for bad, what in (
        (lambda: fast.state_dict(), "state dict of"),
        (lambda: fast.load_state_dict({}), "load weights into"),
        (lambda: pickle.dumps(fast), "asked to pickle"),
        (lambda: torch.save(fast, io.BytesIO()), "asked to pickle"),
        (lambda: fast(x.requires_grad_()), "with gradients"),
        (lambda: fast(x.detach().double()), r"on torch\.float64, got a ticket compiled in torch\.float32"),
        (lambda: fast(x.detach().to(torch.int64)), r"on torch\.int64"),
        (lambda: fast(x.detach().to("meta")), "on meta, got a ticket compiled for cpu"),
        (lambda: fast(x.detach().to_sparse()), "layout"),
    ):
        with pytest.raises(InputError, match=what):
            bad()
    with torch.no_grad():
        assert torch.equal(fast(x), wanted)
    with torch.inference_mode():
        assert torch.equal(fast(x), wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert torch.equal(fast(x), wanted) and fast(x).dtype == torch.float32
    outer = nn.Sequential(fast, nn.Linear(10, 2)).train()
    assert not fast.training and fast.eval() is fast and outer(x.detach()).requires_grad


@pytest.mark.parametrize("best", ["sparse", "dense", "dense, channels last"])
@pytest.mark.usefixtures("untuned")
def test_planned_in_inference_mode_and_asked_outside(best: str, choosing: Any) -> None:
    choosing[1](best)
    model, mask, shape = ticket("resnet")
    fast, x = compile_ticket(model, mask), torch.randn(3, *shape)
    with torch.inference_mode():
        wanted = fast(x)
    assert torch.equal(fast(x), wanted) and error(fast(x), model, mask, x) < 1e-5 and fast.path.startswith(best)
    with torch.inference_mode():
        inside = compile_ticket(model, mask)
    assert torch.equal(inside(x), wanted)


def test_bad_input() -> None:
    model, mask, _ = ticket("conv")
    with pytest.raises(InputError, match="no such parameter"):
        compile_ticket(model, {"nothing.weight": torch.ones(2, dtype=torch.bool)})
    with pytest.raises(InputError, match="has shape"):
        compile_ticket(model, {"fc.weight": torch.ones(2, dtype=torch.bool)})
    with pytest.raises(InputError, match="bool"):
        compile_ticket(model, {n: m.float() for n, m in mask.items()})
    with pytest.raises(InputError, match="asked for path 'sprase'"):
        compile_ticket(model, mask, path="sprase")
    with pytest.raises(InputError, match="got 'weight' without values"):
        compile_ticket(nn.Linear(2, 2, device="meta"), {})
    with pytest.raises(InputError, match="got 'weight' without values"):
        compile_ticket(nn.LazyLinear(2), {})


@pytest.mark.usefixtures("untuned")
def test_threads_at_once() -> None:
    model, mask, shape = ticket("resnet")
    fast = compile_ticket(model, mask, path="sparse")
    batches = [torch.randn(1 + 5 * i, *shape) for i in range(4)]
    wanted = [copy.deepcopy(fast)(x) for x in batches]
    wrong: list[int] = []

    def ask(i: int) -> None:
        for _ in range(20):
            if not torch.equal(fast(batches[i]), wanted[i]):
                wrong.append(i)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.usefixtures("untuned")
def test_many_shapes_hold_a_bounded_number_of_plans() -> None:
    model, mask, _ = ticket("resnet")
    fast = compile_ticket(model, mask, path="sparse")
    for size in range(8, 15):
        x = torch.randn(2, 3, size, size)
        assert error(fast(x), model, mask, x) < 1e-5
    assert isinstance(fast, CompiledTicket) and len(fast._planners) == 4


@pytest.mark.parametrize("held", [b"[" * 200_000, b"\xff", b"", b'"sparser"', b"[true, 99999999999999999999, 0]"])
def test_damaged_measurements_are_made_again(held: bytes, cache: Path) -> None:
    model, mask, shape = ticket("mlp")
    x = torch.randn(2, *shape)
    compile_ticket(model, mask)(x)
    for file in cache.iterdir():
        file.write_bytes(held)
    assert error(compile_ticket(model, mask)(x), model, mask, x) < 1e-5
    assert not any(file.read_bytes() == held for file in cache.iterdir())
