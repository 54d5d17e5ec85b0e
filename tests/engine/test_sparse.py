"""The sparse engine: which jobs go to its kernels, that they train as exactly as torch, and what it refuses."""

from __future__ import annotations

import copy
import os
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from native.structures import DenseNet, imagenet_resnet, inception, preactivation
from torch import Tensor, nn
from torch.nn import functional

import ticketlab
from engine.engines import (
    ENGINES,
    LONG,
    Dropped,
    equal,
    images,
    job,
    kernels_needed,
    net,
    run,
    same,
    some_mask,
    stopping,
    ticket,
)
from engine.engines import together as packed
from ticketlab.data.load import load
from ticketlab.data.types import Data
from ticketlab.data.user import from_user
from ticketlab.engine import sparse_fit
from ticketlab.engine.feed import Feed
from ticketlab.engine.job import Job
from ticketlab.engine.kinds import open_engine
from ticketlab.engine.recipe import Recipe
from ticketlab.engine.schedule import Schedule
from ticketlab.engine.sparse import Sparse
from ticketlab.errors import InputError
from ticketlab.models.conv import conv
from ticketlab.models.resnet import resnet14_slim, resnet32_su2020
from ticketlab.models.vgg import vgg19, vgg19_slim
from ticketlab.sparse import library

NETS: dict[str, Callable[..., nn.Module]] = {"conv": conv, "resnet": resnet14_slim, "vgg": vgg19_slim}


@pytest.fixture(autouse=True)
def kernels() -> None:
    kernels_needed()


def pictures(n: int = 200, side: int = 16) -> Data:
    draw = torch.Generator().manual_seed(3)
    targets = torch.arange(n) % 10
    patterns = torch.randint(255, (10, 3, side, side), generator=draw)
    noisy = 0.6 * patterns[targets] + 0.4 * torch.randint(255, (n, 3, side, side), generator=draw)
    split = (noisy.to(torch.uint8), targets)
    return from_user((split, split), "pictures")


def thin(kind: str, data: Data, sparsity: float = 0.8, seed: int = 0) -> tuple[nn.Module, ticketlab.Mask]:
    torch.manual_seed(seed)
    model = NETS[kind](data.classes, data.in_shape)
    return model, ticketlab.prune(model, "random", sparsity, seed=seed)


# Which kernels train what.


def test_tickets_are_trained_on_the_kernels_and_dense_jobs_as_tuned_does() -> None:
    engine = ENGINES["sparse"](net(), images(), LONG)
    assert isinstance(engine, Sparse)
    mostly = ticketlab.Mask({n: torch.rand(m.shape) < 0.95 for n, m in some_mask(net()).items()})
    for asked, sparse in ((ticket(1), True), (ticket(3), False), (job(net(), mostly), False), (ticket(2), True)):
        engine.load([asked])
        assert (engine._model is not None) == sparse
        if not sparse:
            assert same(packed("sparse", [asked])[0], packed("tuned", [asked])[0])


def test_whether_a_ticket_is_dense_goes_by_its_products_not_by_its_weights() -> None:
    model = nn.Sequential(
        *(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.Conv2d(4, 1, 3, padding=1),
            nn.Flatten(),
            nn.Linear(64, 128),
            nn.Linear(128, 3),
        )
    )
    pixels = {"0.weight": 64, "1.weight": 64, "3.weight": 1, "4.weight": 1}
    engine = ENGINES["sparse"](model, images(), LONG)
    assert isinstance(engine, Sparse) and engine._pixels == pixels
    first = torch.zeros(4, 1, 3, 3, dtype=torch.bool)
    share = sparse_fit.arithmetic({"0.weight": first}, pixels, dict(model.named_parameters()))
    assert share == pytest.approx(1 - 36 * 64 / (72 * 64 + 64 * 128 + 128 * 3))


def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(packed("sparse", [ticket(1)])[0])
    finally:
        torch.set_num_threads(before)
    assert same(found[0], found[1]) and same(found[0], found[2])


@pytest.mark.parametrize("n", [1, 9, 64, 67])
def test_any_number_of_answers(n: int) -> None:
    """Test batches are larger than the net's own, and the last piece is odd."""
    data = tiny.data(test=n)
    found = packed("sparse", [ticket(1)], data=data)[0]
    model = net().eval()
    model.load_state_dict(found.weights)
    inputs = Feed(data, [data.train], [1], Schedule(LONG, 60)).prepared(data.test.inputs)
    with torch.no_grad():
        assert torch.equal(found.correct, model(inputs).argmax(1) == data.test.targets)


def test_a_split_larger_or_smaller_than_the_batch() -> None:
    few = replace(LONG, batch_size=500)
    data = tiny.data(train=60)
    other = tiny.data(train=90).train
    for split in (data.train.take(torch.arange(7)), other):
        one, two = (run(net(), few, some_mask(net()), data, engine, split=split) for engine in ("sparse", "plain"))
        for name, value in two.weights.items():
            torch.testing.assert_close(one.weights[name], value, rtol=1e-3, atol=1e-4, msg=name)


# Rounding.


class Renamed(nn.Module):
    """A tensor that is read before and after its batch norm, once under another name; a batch norm after a sum."""

    def __init__(self, num_classes: int, in_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.first, self.third = nn.Conv2d(in_shape[0], 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.same, self.after, self.summed = nn.Identity(), nn.BatchNorm2d(8), nn.BatchNorm1d(8)
        self.side, self.last = nn.Linear(8, 8), nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        held = self.first(x)
        x = torch.relu(self.third(self.after(self.same(held))) + held).mean((2, 3))
        return self.last(torch.relu(self.summed(self.side(x) + x)))


NETS |= {
    "imagenet-resnet": imagenet_resnet,
    "preactivation": preactivation,
    "densenet": DenseNet,
    "inception": inception,
    "renamed": Renamed,
}


def stepped(engine: str, model: nn.Module, mask: ticketlab.Mask, data: Data, recipe: Recipe, steps: int) -> Any:
    """The losses of some steps, and the engine after them."""
    trainer = open_engine(engine, model, data, recipe)
    trainer.load([Job(model.state_dict(), mask, 1)])
    feed = Feed(data, [data.train], [1], Schedule(recipe, len(data.train)))
    losses = [trainer.step(*feed.batch(step), recipe.lr, step) for step in range(steps)]
    return torch.cat(losses).double(), trainer.state(0)


def exact_step(model: nn.Module, mask: ticketlab.Mask, data: Data, recipe: Recipe) -> dict[str, Tensor]:
    """Momentum and weights after the first step, in double precision."""
    exact = mask.apply_(copy.deepcopy(model)).double().train()
    feed = Feed(data, [data.train], [1], Schedule(recipe, len(data.train)))
    inputs, targets = feed.batch(0)
    functional.cross_entropy(exact(inputs[0].double()), targets[0]).backward()
    found = {}
    for name, p in exact.named_parameters():
        assert p.grad is not None
        slope = p.grad * mask.get(name, torch.ones(())) + recipe.weight_decay * p.detach()
        found[f"momentum {name}"] = slope
        found[f"weights {name}"] = p.detach() - recipe.lr * slope
    return found


@pytest.mark.parametrize("kind", NETS)
def test_a_step_is_as_exact_as_torchs(kind: str) -> None:
    """Its error against double precision is at most twice that of torch's fp32, in the median of tickets and layers."""
    data = load("digits") if kind == "conv" else pictures()
    recipe = Recipe(epochs=5, batch_size=50, lr=0.05, augment=False)
    errors: dict[str, dict[str, list[float]]] = {"sparse": {}, "plain": {}}
    for seed in range(5):
        model, mask = thin(kind, data, seed=seed)
        exact = exact_step(model, mask, data, recipe)
        for engine, held in errors.items():
            _, state = stepped(engine, model, mask, data, recipe, 1)
            for name, value in exact.items():
                what, _, parameter = name.partition(" ")
                off = getattr(state, what)[parameter].double() - value
                if float(value.norm()) > 1e-6:
                    held.setdefault(what, []).append(float(off.norm() / value.norm()))
    for what in ("momentum", "weights"):
        ours, torchs = (statistics.median(errors[engine][what]) for engine in ("sparse", "plain"))
        assert 0 < ours < 2 * torchs, what


def drift(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().mean())


@pytest.mark.parametrize("kind", NETS)
def test_losses_drift_from_plain_as_those_of_another_dense_engine_do(kind: str) -> None:
    """Rounding grows from step to step in any fp32 training; what counts is that it grows from as little."""
    data = load("digits") if kind == "conv" else pictures()
    recipe = Recipe(epochs=5, batch_size=50, lr=0.05, augment=False)
    model, mask = thin(kind, data)
    plain, tuned, sparse = (stepped(e, model, mask, data, recipe, 20)[0] for e in ("plain", "tuned", "sparse"))
    assert plain[-1] < plain[0]
    assert drift(sparse[:3], plain[:3]) < 2e-6
    assert drift(sparse, plain) < 1e-6 + 5 * drift(tuned, plain)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("TICKETLAB_DATA"), reason="TICKETLAB_DATA names no folder with CIFAR")
@pytest.mark.parametrize("build", [vgg19, resnet32_su2020])
def test_real_training_gives_the_losses_of_the_dense_path(build: Callable[..., nn.Module]) -> None:
    """200 steps on CIFAR-10 at 90%: no further from plain than twice what another dense fp32 engine is."""
    data = load("cifar10")
    recipe = Recipe(epochs=1)
    torch.manual_seed(0)
    model = build(data.classes, data.in_shape)
    mask = ticketlab.prune(model, "random", 0.9, seed=0)
    plain, tuned, sparse = (stepped(e, model, mask, data, recipe, 200)[0] for e in ("plain", "tuned", "sparse"))
    levels = [float(losses[-50:].mean()) for losses in (plain, tuned, sparse)]
    for end in (5, 20, 50, 200):
        print(
            f"{end} steps: tuned {drift(tuned[:end], plain[:end]):.2g}, sparse {drift(sparse[:end], plain[:end]):.2g}"
        )
    print(f"the last 50 losses: plain, tuned, sparse {levels}")
    # Before rounding has grown the losses are equal in as many digits as fp32 has.
    assert drift(sparse[:5], plain[:5]) < 1e-5 + 2 * drift(tuned[:5], plain[:5])
    assert drift(sparse, plain) < 2 * drift(tuned, plain)
    assert abs(levels[2] - levels[0]) < 0.03 * levels[0]
    assert levels[2] < 0.9 * float(sparse[:10].mean())


def test_verdicts_are_those_of_the_plain_engine() -> None:
    data = load("digits", limit_train=300, limit_test=200)
    recipe = Recipe(epochs=4, batch_size=25, lr=0.1, augment=False)
    found = {}
    for engine in ("plain", "sparse"):
        how: dict[str, Any] = {"sparsity": [0.7, 0.95], "seeds": 3, "checks": ["rearrange", "invert"], "engine": engine}
        found[engine] = ticketlab.check("magnitude", model="conv", data=data, recipe=recipe, margin=5, **how).verdicts
    verdicts = {e: [(v["check"], v["sparsity"], v["verdict"]) for v in rows] for e, rows in found.items()}
    assert verdicts["plain"] == verdicts["sparse"] and len(verdicts["plain"]) == 4
    assert len({verdict for *_, verdict in verdicts["plain"]}) > 1
    assert found["plain"] != found["sparse"], "one engine must not have done the other's work"


# What it refuses, before any training.


class Shared(tiny.Net):
    def __init__(self) -> None:
        super().__init__()
        self.again = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.second(torch.relu(self.norm(self.first(x)))))
        return self.last(torch.relu(self.again(torch.relu(self.again(x)))).flatten(1))


class Switched(tiny.Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x)) if self.training else self.first(x)
        return self.last(torch.relu(self.second(torch.relu(x))).flatten(1))


class Still(tiny.Net):
    """Batch norm that is kept from training, as in fine-tuning."""

    def train(self, mode: bool = True) -> Still:
        super().train(mode)
        self.norm.eval()
        return self


class Hooked(tiny.Net):
    def __init__(self) -> None:
        super().__init__()
        self.second.register_forward_hook(lambda _, __, out: 2 * out)


class Replaced(tiny.Net):
    """A layer that is a convolution by name only."""

    def __init__(self) -> None:
        super().__init__()
        self.second.forward = lambda x: 2 * functional.conv2d(x, self.second.weight, None, 2, 1)  # type: ignore


class Looking(tiny.Net):
    """What traces it is no tensor, and finds another model."""

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = super().forward(x)
        return 2 * found if type(x) is Tensor else found


class Double(tiny.Net):
    def __init__(self) -> None:
        super().__init__()
        self.second.double()

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.last(torch.relu(self.second(x.double())).flatten(1).float())


class MixedSum(tiny.Net):
    """A sum of a vector and of a flattened map, which the kernels hold in different shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.side = nn.Linear(self.last.in_features, self.last.in_features)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.second(torch.relu(self.norm(self.first(x))))).flatten(1)
        return self.last(torch.relu(self.side(x) + x))


class Normed(tiny.Net):
    """A weight that is computed from two parameters."""

    def __init__(self) -> None:
        super().__init__()
        nn.utils.parametrizations.weight_norm(self.second)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Dropped, r"draws random numbers in its forward pass \(dropout\)"),
        (Shared, "again, which runs twice"),
        (Switched, "other layers in training"),
        (Still, "do not all go into training mode"),
        (Hooked, "with hooks"),
        (Replaced, "a forward of its own, hooks or parametrisations on second"),
        (Looking, "whose answers its kernels do not give"),
        (Double, "'second.weight' in torch.float64"),
        (Normed, "parametrisations on second"),
        (MixedSum, "a sum of 8 and 32 channels"),
    ],
)
def test_models_that_the_kernels_would_train_otherwise_are_refused(kind: type[nn.Module], said: str) -> None:
    with pytest.raises(InputError, match=f"asked for (engine 'sparse'|a sparse {kind.__name__}), got .*{said}"):
        open_engine("sparse", kind(), images(), LONG)


def test_precisions_and_devices_that_the_kernels_do_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ticketlab.engine.precision._has_bf16", lambda _: True)
    with pytest.raises(InputError, match=r"engine 'sparse', got precision bf16.* Use tuned"):
        open_engine("sparse", net(), images(), LONG, precision="bf16")
    with pytest.raises(InputError, match="engine 'sparse', got device meta"):
        open_engine("sparse", net().to("meta"), images(), LONG, device="meta")


@pytest.fixture
def no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TICKETLAB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("CXX", "no-such-compiler")
    library.library.cache_clear()
    yield
    library.library.cache_clear()


def test_without_a_compiler_it_is_refused_by_name(no_compiler: None, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"asked for the native sparse kernels, got no C\+\+ compiler: tried no-such-c"
    ):
        open_engine("sparse", net(), images(), LONG)
    with pytest.raises(InputError, match="no-such-compiler"):
        tiny.prepared(tmp_path / "s", sparse="on")
    assert not (tmp_path / "s").exists()
    # Left open, it is done without.
    assert tiny.prepared(tmp_path / "s").study.numerics["engine"] == "tuned"


def test_stopped_and_resumed_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {"model": tiny.net, "data": images(), "recipe": LONG, "sparse": "on"}
    tickets = [ticketlab.Ticket(some_mask(net(k), k), net(k).state_dict()) for k in range(2)]
    whole = ticketlab.train(tickets, **asked)
    calls, stopped = stopping(Sparse, 28 + 20)
    kept: dict[str, Any] = {"checkpoints": tmp_path, "every": 0.0}
    with monkeypatch.context() as patch:
        patch.setattr(Sparse, "step", stopped)
        with pytest.raises(KeyboardInterrupt):
            ticketlab.train(tickets, **asked, **kept)
        # Its checkpoints are not those of other kernels, whose bits may differ.
        patch.setattr("ticketlab.experiment.settings.revision", lambda: "other")
        calls.clear()
        with pytest.raises(KeyboardInterrupt):
            ticketlab.train(tickets, **asked, **kept)
        assert len(calls) == 28 + 20
        patch.undo()
        patch.setattr(Sparse, "step", stopped)
        calls.clear()
        again = ticketlab.train(tickets, **asked, **kept)
    assert len(calls) == 12 and all(same(a, b) for a, b in zip(again, whole, strict=True))
    (dense,) = ticketlab.train([ticketlab.Ticket(None, net().state_dict())], **asked)
    (tuned,) = ticketlab.train([ticketlab.Ticket(None, net().state_dict())], **{**asked, "sparse": "off"})
    assert equal(dense.weights, tuned.weights)
