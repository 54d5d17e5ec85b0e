"""Models are found by name or reference, called with what they take, and checked without a trace."""

import random
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ticketlab.data.load import load
from ticketlab.data.types import Data, Split
from ticketlab.errors import InputError
from ticketlab.models.fit import check_fit
from ticketlab.models.registry import MODELS, build

FACTORIES = """
import torch
from torch import nn

def plain(num_classes, in_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_shape[-1] ** 2, num_classes))

def fixed():
    return plain(3, (1, 8, 8))

def only_classes(num_classes=5):
    return plain(num_classes, (1, 8, 8))

def inner(num_classes, in_shape=(1, 8, 8), *, depth=1):
    return plain(num_classes, in_shape)

def passes_on(depth=1, **kwargs):
    return inner(**kwargs)

def passes_on_less(**kwargs):
    return only_classes(**kwargs)

def demanding(num_classes, width):
    return plain(num_classes, (1, 8, 8))

def broken(num_classes):
    raise TypeError("a mistake of its own")

def nothing(num_classes):
    return {"a": 1}

class Holder:
    @staticmethod
    def make(num_classes):
        return plain(num_classes, (1, 8, 8))

class Net(nn.Sequential):
    def __init__(self, in_shape, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(in_shape[-1] ** 2, num_classes))

finished = fixed()
number = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with a module of the user's, which is not on the import path."""
    (tmp_path / "own_models.py").write_text(FACTORIES)
    (tmp_path / "needs_more.py").write_text("import not_installed_anywhere")
    monkeypatch.chdir(tmp_path)
    for name in ("own_models", "needs_more"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def classes(model: nn.Module) -> int:
    return int(model(torch.zeros(1, 1, 8, 8)).shape[1])


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        ("plain", 4),
        ("fixed", 3),
        ("only_classes", 4),
        ("inner", 4),
        ("passes_on", 4),
        ("passes_on_less", 4),
        ("Holder.make", 4),
        ("Net", 4),
    ],
)
def test_own_factories(here: Path, factory: str, expected: int) -> None:
    path = list(sys.path)
    assert classes(build(f"own_models:{factory}", 4, (1, 8, 8))) == expected
    assert sys.path == path


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("resnet23", "asked for model 'resnet23'.*Did you mean.*'resnet20'"),
        ("own_models:plane", "no such factory in module 'own_models'. Did you mean 'plain'"),
        ("own_model:plain", "no module 'own_model'; looked on the import path and in {here}"),
        ("needs_more:net", "no module 'not_installed_anywhere', which 'needs_more' imports"),
        ("own_models:", "write it as package.module:factory"),
        (".own_models:plain", "write it as package.module:factory"),
        ("own_models.py:plain", "no module 'own_models.py'"),
        ("own_models:number", "got a int; a function or class is needed"),
        ("own_models:finished", "got a finished model"),
        ("own_models:nothing", "for a torch.nn.Module, got a dict"),
        ("own_models:demanding", "offered num_classes and in_shape, but: missing a required argument: 'width'"),
    ],
)
def test_references_that_lead_nowhere(here: Path, ref: str, says: str) -> None:
    with pytest.raises(InputError, match=says.format(here=re.escape(str(here)))):
        build(ref, 4, (1, 8, 8))


def test_a_mistake_inside_a_factory_stays_visible(here: Path) -> None:
    with pytest.raises(TypeError, match="a mistake of its own"):
        build("own_models:broken", 4, (1, 8, 8))


def test_models_are_fresh_and_seeded() -> None:
    weights = []
    with torch.random.fork_rng():
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            weights.append(next(build("conv", 10, (1, 8, 8)).parameters()))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.fixture
def digits() -> Data:
    return load("digits", limit_train=20, limit_test=10)


class Restless(nn.Module):
    """Changes everything that a forward pass can change."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc = nn.BatchNorm2d(1), nn.Linear(64, 10)
        self.norm.eval()
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("hidden", torch.zeros(3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        self.hidden.add_(torch.rand(3))
        self.norm.train()
        with torch.no_grad():
            self.fc.weight.mul_(2)
        return self.fc(nn.functional.dropout(self.norm(x)).flatten(1))


def state(model: nn.Module) -> dict[str, Tensor]:
    named = (*model.named_parameters(), *model.named_buffers())
    return {name: t.detach().clone() for name, t in named} | {"rng": torch.get_rng_state()}


@pytest.mark.parametrize("breaks", [False, True])
def test_check_leaves_no_trace(digits: Data, breaks: bool) -> None:
    model = Restless()
    if breaks:
        model.fc = nn.Linear(63, 10)
    before, modes, python = state(model), [m.training for m in model.modules()], random.getstate()
    if breaks:
        with pytest.raises(InputError):
            check_fit(model, digits)
    else:
        check_fit(model, digits)
    after = state(model)
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    assert modes == [m.training for m in model.modules()] and random.getstate() == python


@pytest.mark.parametrize("name", ["conv", "mlp", "resnet20", "vgg11"])
def test_registered_models_fit(name: str, digits: Data) -> None:
    check_fit(build(name, 10, (1, 8, 8)), digits)


class Gives(nn.Module):
    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor) -> Any:
        return self.output


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 9)), "got outputs (2, 9) for 2 examples; (2, 10) is needed"),
        (nn.Sequential(nn.Flatten(), nn.Linear(63, 10)), "cannot take a batch of shape (2, 1, 8, 8): mat1 and mat2"),
        (nn.Conv2d(3, 10, 3), "from (1, 8, 8) to 10 classes (digits), got one that cannot take"),
        (Gives((1, 2)), "returns a tuple; a tensor is needed"),
        (Gives(torch.full((2, 10), float("nan"))), "NaN or infinite"),
    ],
)
def test_models_that_do_not_fit(model: nn.Module, says: str, digits: Data) -> None:
    with pytest.raises(InputError, match=re.escape(says)) as error:
        check_fit(model, digits)
    assert str(error.value).count("\n") < 12


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_lazy_layers_are_named(digits: Data) -> None:
    with pytest.raises(InputError, match="lazy layers"):
        check_fit(nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), digits)


def test_one_example_is_enough() -> None:
    split = Split(torch.zeros(1, 5), torch.zeros(1, dtype=torch.int64))
    check_fit(nn.Linear(5, 1), Data("one", split, split, 1))


def test_every_model_says_what_it_is() -> None:
    for name, info in MODELS.items():
        assert info.summary and info.factory.startswith("ticketlab.models."), name


def test_a_factory_itself() -> None:
    assert (
        classes(build(lambda num_classes: nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes)), 6, (1, 8, 8))) == 6
    )
    with pytest.raises(InputError, match="got a finished model"):
        build(nn.Linear(2, 2), 6, (1, 8, 8))
