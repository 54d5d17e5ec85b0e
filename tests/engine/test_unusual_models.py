"""Models that are not the textbook's: they train alike on every engine, or are refused with the reason."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy
import pytest
import tiny
import torch
from torch import Tensor, nn

from engine.engines import ENGINES, LONG, WIDE, Trained, images, job, same, some_mask
from ticketlab.engine import choose, memory
from ticketlab.engine.choose import Measurements, Work, measure
from ticketlab.engine.kinds import open_engine
from ticketlab.engine.precision import numerics
from ticketlab.engine.recipe import Recipe
from ticketlab.engine.train import train_jobs
from ticketlab.errors import InputError
from ticketlab.experiment import execute
from ticketlab.mask import Mask
from ticketlab.parameters import prunable

every = pytest.mark.parametrize("engine", list(ENGINES))


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(1, 4, 3, padding=1)
        self.two = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.last = nn.Linear(128, 3)

    def features(self, x: Tensor) -> Tensor:
        return torch.relu(self.two(torch.relu(self.one(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x).flatten(1))


class Viewed(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.last(x.view(x.size(0), -1))


class Solid(Base):
    """A 5-D parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv3d(1, 2, 3, padding=1)
        self.two = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.one(x[:, :, None]).flatten(1))


class Said(Base):
    """State that is no tensor."""

    def get_extra_state(self) -> dict[str, int]:
        return {"said": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        assert state == {"said": 3}


class Spare(Base):
    """A parameter that the loss does not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(3, 2)


class Late(Base):
    """A layer that is skipped at random in training: its first gradient may come late."""

    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        if not self.training or torch.rand(()) < 0.5:
            x = x + self.extra(x)
        return self.last(x.flatten(1))


class Hidden(Base):
    """A buffer that training changes and the state dict leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ema", torch.zeros(8), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        if self.training:
            with torch.no_grad():
                self.ema.mul_(0.9).add_(0.1 * x.mean((0, 2, 3)))
        return self.last((x - self.ema.clone()[:, None, None]).flatten(1))


class Dice(Base):
    """Randomness of Python and numpy."""

    drawn: list[float]

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.drawn.append(random.random() + float(numpy.random.rand()))
            x = x + self.drawn[-1]
        return super().forward(x)


class Standardised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Linear(64, 500), nn.Linear(500, 500), nn.Linear(500, 3)

    def forward(self, x: Tensor) -> Tensor:
        w = self.two.weight
        w = (w - w.mean(1, keepdim=True)) / (w.std(1, keepdim=True) + 1e-5)
        return self.last(nn.functional.linear(torch.relu(self.one(x.flatten(1))), w))


def trained(engine: str, model: nn.Module, recipe: Recipe = LONG) -> Trained:
    tensors = {n: t.clone() for n, t in model.state_dict().items() if isinstance(t, Tensor)}
    asked = copy.copy(job(nn.Linear(1, 1), some_mask(model), seed=1))
    object.__setattr__(asked, "weights", tensors)
    return train_jobs(ENGINES[engine](model, images(), recipe), [asked], images(), recipe)[0]


# What the sparse kernels do not know.
UNKNOWN = {Solid: "getitem", Standardised: "get_attr"}


@every
@pytest.mark.parametrize("kind", [Viewed, Solid, Said, Spare, Standardised])
def test_they_train(engine: str, kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = kind()
    if engine == "sparse" and kind in UNKNOWN:
        with pytest.raises(InputError, match=f"asked for a sparse {kind.__name__}, got .*{UNKNOWN[kind]}"):
            trained(engine, model)
        return
    gentle = Recipe(epochs=1, batch_size=9, lr=0.01, augment=False)
    found, wanted = trained(engine, model, gentle), trained("plain", model, gentle)
    assert found.diverged_at is None
    for name, value in wanted.weights.items():
        torch.testing.assert_close(found.weights[name], value, rtol=1e-3, atol=1e-5, msg=name)
    for name, alive in some_mask(model).items():
        assert not found.weights[name][~alive].any()


@every
def test_what_the_loss_does_not_reach_stays(engine: str) -> None:
    torch.manual_seed(0)
    model = Spare()
    found = trained(engine, model, Recipe(epochs=2, batch_size=9, lr=0.1, weight_decay=0.5, augment=False))
    assert torch.equal(found.weights["spare.bias"], model.spare.bias)
    assert torch.equal(found.weights["spare.weight"], model.spare.weight * some_mask(model)["spare.weight"])


@pytest.mark.parametrize("engine", ["plain", "tuned", "tuned+im2col"])
@pytest.mark.parametrize("seed", range(4))
def test_a_first_gradient_may_come_late(engine: str, seed: int) -> None:
    torch.manual_seed(0)
    model = Late()
    asked = job(model, some_mask(model), seed=seed)
    found = train_jobs(ENGINES[engine](model, images(), LONG), [asked], images(), LONG)[0]
    assert not torch.equal(found.weights["extra.weight"], model.extra.weight) and found.diverged_at is None


@pytest.mark.parametrize("spec", ["plain", "tuned"])
def test_hidden_state_is_refused(spec: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="changes its buffer 'ema' but leaves it out"):
        open_engine(spec, Hidden(), images(), LONG)
    with pytest.raises(InputError, match="'ema'"):
        tiny.prepared(tmp_path / "s", model=Hidden)


@pytest.mark.parametrize("engine", ["plain", "tuned"])
def test_randomness_of_python_and_numpy_is_seeded_step_by_step(engine: str) -> None:
    torch.manual_seed(0)
    model = Dice()
    Dice.drawn = []
    first = trained(engine, model)
    steps = Dice.drawn[-28:]
    assert len(set(steps)) == 28
    state = random.getstate()
    assert same(first, trained(engine, model)) and Dice.drawn[-28:] == steps
    assert random.getstate() == state
    for wide in WIDE:
        spec = {"stacked": "stacked:2", "graph": "graph:2"}[wide]
        with pytest.raises(InputError, match="random numbers"):
            open_engine(spec, model, images(), LONG)


def test_models_that_cannot_be_copied_are_refused() -> None:
    class Odd(Base):
        def __deepcopy__(self, memo: Any) -> Any:
            raise RuntimeError("Only Tensors created explicitly by the user support the deepcopy protocol")

    with pytest.raises(InputError, match="cannot be copied: Only Tensors"):
        open_engine("tuned", Odd(), images(), LONG)


def test_a_mask_of_other_parameters_is_honoured_or_refused() -> None:
    model = tiny.Net()
    mask = Mask({**Mask.dense(prunable(model)), "norm.weight": torch.tensor([True, False, True, False])})
    for engine in ENGINES:
        trainer = ENGINES[engine](model, images(), LONG)
        if engine in ("stacked", "sparse"):
            with pytest.raises(InputError, match=r"mask of 'norm.weight'.*Use tuned"):
                trainer.load([job(model, mask)])
            continue
        (found,) = train_jobs(trainer, [job(model, mask)], images(), LONG)
        assert found.weights["norm.weight"].count_nonzero() == 2


@every
def test_an_overflow_in_the_last_step_is_a_divergence(engine: str) -> None:
    recipe = Recipe(epochs=1, batch_size=60, lr=1e38, weight_decay=1e4, augment=False)
    torch.manual_seed(0)
    found = trained(engine, tiny.Net(), recipe)
    assert found.diverged_step == 1 == found.diverged_at


# What planning makes of them.


def test_an_engine_that_fails_is_not_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKETLAB_CACHE", str(tmp_path))

    def missing(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("no C++ compiler was found")

    monkeypatch.setattr(torch, "compile", missing)
    with pytest.raises(InputError, match="engine 'compiled', got one that fails here: no C"):
        measure("compiled", tiny.Net(), images(), LONG)
    known = Measurements(tiny.Net(), images(), LONG, identity="net")
    assert choose.choose(known, Work(1e12, 1e12, 80)).spec in ("plain", "tuned", "tuned+im2col")


def test_planning_takes_fractions_of_epochs_and_leaves_the_model_alone(tmp_path: Path) -> None:
    class Counting(Base):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x)

    model, few = Counting(), Recipe(epochs=0.5, batch_size=10)
    state = torch.random.get_rng_state()
    measure("tuned", model, images(), few, seconds=0.01)
    choose.candidates(model, images(), "cpu")
    memory.estimated(model, images(), few)
    assert int(model.calls) == 0 and torch.equal(state, torch.random.get_rng_state())
    tiny.prepared(tmp_path / "s", recipe=few).run()


def test_a_part_of_the_training_without_a_step_is_refused(tmp_path: Path) -> None:
    few = Recipe(epochs=0.2, batch_size=20, augment=False)
    tiny.prepared(tmp_path / "s", ["lottery"], checks=["rearrange"], recipe=few)
    with pytest.raises(InputError, match=r"0.2 epochs|not one falls"):
        tiny.prepared(tmp_path / "t", ["lottery"], checks=["half-data"], recipe=few)
    assert not (tmp_path / "t").exists()


def test_memory_counts_what_grows_with_the_batch_and_the_test_batch() -> None:
    found = [memory.estimated(Standardised(), images(), Recipe(batch_size=b)).ticket for b in (8, 32)]
    assert found[1] < 1.5 * found[0], "a weight made of another one is there once"
    wide = nn.Sequential(
        nn.Conv2d(1, 256, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 3)
    )
    data = tiny.data(test=100)
    assert memory.estimated(wide, data, Recipe(batch_size=4)).ticket > 2 * 64 * 256 * 64 * 4


# Numerics.


def test_fp32_is_fp32_whatever_the_caller_allowed() -> None:
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this torch has no setting of fp32 precision for CPUs")
    places = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv]
    torch.set_float32_matmul_precision("medium")
    try:
        before = [place.fp32_precision for place in places]
        with numerics(1):
            assert [place.fp32_precision for place in places] == ["ieee"] * 3
        assert [place.fp32_precision for place in places] == before != ["ieee"] * 3
    finally:
        torch.set_float32_matmul_precision("highest")
        for place in places:
            place.fp32_precision = "none"


def test_scores_are_fp32_in_a_study_of_another_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tiny.prepared(tmp_path / "s")
    found.context.precision = "tf32"
    seen = []
    find_mask = execute.find_mask

    def looked(*arguments: Any, **options: Any) -> Any:
        seen.append(torch.backends.cudnn.conv.fp32_precision if hasattr(torch.backends, "fp32_precision") else "ieee")
        return find_mask(*arguments, **options)

    monkeypatch.setattr(execute, "find_mask", looked)
    with pytest.raises(KeyboardInterrupt):
        found.run(1, tiny.Counter(stop_after=8))
    assert seen and set(seen) == {"ieee"}


def test_one_channel_is_laid_out_innermost_too() -> None:
    """Its two layouts are the same memory, told apart by strides: else convolutions go on in the slow one."""
    laid = []

    class Watched(tiny.Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            laid.append(x.is_contiguous(memory_format=torch.channels_last))
            return self.last(torch.relu(self.second(torch.relu(self.norm(x)))).flatten(1))

    trained("tuned", Watched())
    laid.clear()
    trained("tuned", Watched())
    assert laid[-20:] == [True] * 20
