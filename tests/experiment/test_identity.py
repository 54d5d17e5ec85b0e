"""Source hashes: what an edit reaches and what it does not."""

from __future__ import annotations

import argparse
import copy
import functools
import importlib.util
import itertools
import logging
import os
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from ticketlab.experiment.factory import Factory
from ticketlab.experiment.identity import source

_fresh = itertools.count()
TEXT = '''
"""A module of scores."""
import functools
import torch

POWER = 2.0
TABLE = {"first": [1, 2]}
NAMES = frozenset({"alpha", "beta", "gamma", "delta"})
UNUSED = 1
SHIFT = 0.5
COUNT = 0


def helper(x):
    """Help."""
    return deeper(x) ** POWER


def deeper(x, shift=SHIFT):
    return x.abs()


def mean(x):
    return x


class Base:
    scale = 3


class Scale(Base):
    @property
    def value(self):
        return bonus()


def bonus():
    return 7


def other(x):
    return UNUSED


def logged(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        global COUNT
        COUNT += 1
        return function(*arguments)

    return wrapper


@logged
@torch.no_grad()
def score(model, batches, loss, power=POWER):
    """What it does."""
    # A remark.
    table = TABLE["first"]
    assert "alpha" in NAMES
    return {n: helper(p).mean() * table[0] * Scale().value for n, p in model.named_parameters()}


pair = [lambda x: x + 1, 5]
by_lambda = functools.partial(score, power=1.0)
'''


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a text as the module "edited", as another process would."""

    def as_module(text: str) -> ModuleType:
        path = tmp_path / f"edited_{next(_fresh)}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("edited", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["edited"] = module
        spec.loader.exec_module(module)
        return module

    yield as_module
    sys.modules.pop("edited", None)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("table[0]", "table[1]"),
        ("POWER = 2.0", "POWER = 3.0"),
        ("[1, 2]", "[2, 1]"),
        ('"delta"', '"epsilon"'),
        ("return x.abs()", "return x.abs() + 1"),
        ("SHIFT = 0.5", "SHIFT = 0.6"),
        ("return 7", "return 8"),
        ("scale = 3", "scale = 4"),
        ("power=POWER", "power=1.0"),
        ("@logged\n@torch.no_grad()", "@logged"),
        ("return function(*arguments)", "return function(*arguments) or {}"),
    ],
)
def test_an_edit_of_what_is_used_changes_the_hash(load: Callable[[str], ModuleType], old: str, new: str) -> None:
    assert TEXT.count(old) == 1
    assert source(load(TEXT).score) != source(load(TEXT.replace(old, new)).score)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("UNUSED = 1", "UNUSED = 2"),
        ("return UNUSED", "return 0"),
        ("# A remark.", "# Another one."),
        ('"""What it does."""', '"""What it really does."""'),
        ('"""Help."""\n', "\n"),
        ("table = TABLE", "table  =  TABLE"),
        ("COUNT = 0", "COUNT = 5"),
        # The method .mean() of a tensor is not the function of that name.
        ("def mean(x):\n    return x", "def mean(x):\n    return -x"),
        ('"""A module of scores."""', "import json"),
    ],
)
def test_an_edit_of_anything_else_does_not(load: Callable[[str], ModuleType], old: str, new: str) -> None:
    assert TEXT.count(old) == 1
    assert source(load(TEXT).score) == source(load(TEXT.replace(old, new)).score)


def test_state_that_calls_change_is_no_constant(load: Callable[[str], ModuleType]) -> None:
    module = load(TEXT)
    before = source(module.score)
    module.score(tiny.net(3), [], None)
    assert module.COUNT == 1 and source(module.score) == before


def test_partials_by_their_arguments(load: Callable[[str], ModuleType]) -> None:
    module, edited = load(TEXT), load(TEXT.replace("return 7", "return 8"))
    assert source(module.by_lambda) == source(functools.partial(module.score, power=1.0))
    assert source(module.by_lambda) != source(functools.partial(module.score, power=2.0))
    assert source(module.by_lambda) != source(edited.by_lambda)


def test_lambdas_by_their_own_code(load: Callable[[str], ModuleType]) -> None:
    wanted = source(load(TEXT).pair[0])
    assert source(load(TEXT.replace("x + 1, 5]", "x + 1, 6]  # remark")).pair[0]) == wanted
    assert source(load(TEXT.replace("x + 1, 5]", "x + 2, 5]")).pair[0]) != wanted


def test_closures_and_bound_methods_by_what_they_hold() -> None:
    def make(power: float) -> Callable[[float], float]:
        return lambda x: x**power

    class Scorer:
        def __init__(self, power: float) -> None:
            self.power = power

        def __call__(self, x: float) -> float:
            return x**self.power

    for kind in (make, Scorer, lambda p: Scorer(p).__call__):
        assert source(kind(2.0)) == source(kind(2.0)) != source(kind(3.0))


def test_tensors_by_their_contents() -> None:
    def make(held: torch.Tensor) -> Callable[[], torch.Tensor]:
        return lambda: held

    assert source(make(torch.ones(3))) == source(make(torch.ones(3))) != source(make(torch.zeros(3)))


def test_code_without_a_file() -> None:
    """As in an interactive session: by its bytecode, without addresses."""

    def made(text: str) -> Callable[..., object]:
        space: dict[str, object] = {"__name__": "session"}
        exec(text, space)
        return space["score"]  # type: ignore[return-value]

    text = "K = 2\ndef score(x):\n    return [(lambda y: y * K)(v) for v in x]"
    assert source(made(text)) == source(made(text))
    assert source(made(text)) != source(made(text.replace("y * K", "y + K")))
    assert source(made(text)) != source(made(text.replace("K = 2", "K = 3")))


def test_functions_that_use_each_other_end() -> None:
    assert len(source(_even)) == 32


def _even(n: int) -> bool:
    return n == 0 or _odd(n - 1)


def _odd(n: int) -> bool:
    return n != 0 and _even(n - 1)


HELPER = "SCALE = 2.0\nOTHER = 1\ndef squash(x):\n    return x * SCALE\ndef unused():\n    return OTHER\n"


@pytest.mark.parametrize(
    "text",
    [
        "from helper_of_user import squash\ndef score(x):\n    return squash(x)",
        "import helper_of_user\ndef score(x):\n    return helper_of_user.squash(x)",
        "def score(x):\n    from helper_of_user import squash\n    return squash(x)",
        "import helper_of_user as h\ndef score(x):\n    return getattr(h, 'squash')(x)",
    ],
)
def test_the_users_other_modules_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Callable[[str], ModuleType], text: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def hashed(helper: str) -> str:
        sys.modules.pop("helper_of_user", None)
        (tmp_path / "helper_of_user.py").write_text(helper)
        importlib.invalidate_caches()
        return source(load(text).score)

    first = hashed(HELPER)
    assert hashed("# A remark.\n" + HELPER.replace("OTHER = 1", "OTHER = 2")) == first
    assert hashed(HELPER.replace("x * SCALE", "x + SCALE")) != first
    assert hashed(HELPER.replace("2.0", "3.0")) != first
    sys.modules.pop("helper_of_user", None)


@pytest.mark.parametrize(
    "made",
    [
        lambda p: SimpleNamespace(p=p),
        lambda p: argparse.Namespace(inner=SimpleNamespace(p=[p])),
        lambda p: Config(p),
        lambda p: Slotted(p),
        lambda p: {Config(p), Config(7.0)},
        lambda p: torch.full((2,), p, dtype=torch.bfloat16),
        lambda p: nn.Parameter(torch.full((2,), p)),
        lambda p: _filled(p),
        lambda p: nn.Dropout(p),
        lambda p: Act(p),
        lambda p: re.compile(str(p)),
    ],
)
def test_values_by_what_they_hold(load: Callable[[str], ModuleType], made: Callable[[float], object]) -> None:
    def hashed(p: float) -> set[str]:
        module = load("CFG = None\ndef score(x):\n    return CFG")
        module.CFG = made(p)
        closed = made(p)
        return {source(module.score), source(lambda: closed)}

    assert hashed(0.25) == hashed(0.25)
    assert not hashed(0.25) & hashed(0.5)


def test_the_code_that_runs_not_the_file(load: Callable[[str], ModuleType]) -> None:
    module = load(TEXT)
    before = source(module.score)
    assert module.__file__ is not None
    Path(module.__file__).write_text(TEXT.replace("table[0]", "table[1]"))
    assert source(module.score) == before


def test_layout_does_not_count(load: Callable[[str], ModuleType]) -> None:
    short = "def score(x, y=(1, 2)):\n    return [v for v in max(x, y) if v in {'a', 'b', 'c'}]"
    long = "\n\ndef score(\n    x,\n    y=(1, 2),\n):\n    'Help.'\n    return [\n        v\n"
    long += "        for v in max(\n            x,\n            y,\n        )\n        if v in {'c', 'b', 'a'}\n    ]"
    assert source(load(short).score) == source(load(long).score)


def test_equal_in_every_process(tmp_path: Path) -> None:
    values = (
        "import enum\nclass E(enum.Enum):\n    A = 'a'\n    B = 'b'\nS = {E.A, E.B, ('x', frozenset({'p', 'q'}))}\n"
    )
    (tmp_path / "mine.py").write_text(values + TEXT.replace('table = TABLE["first"]', 'table = TABLE["first"]; S'))
    script = "from ticketlab.experiment.identity import source; import mine; print(source(mine.score))"
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.getcwd()}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1


def test_exotic_values_never_crash() -> None:
    class Hostile:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError(name)

        def __repr__(self) -> str:
            raise RuntimeError

    loop: list[object] = []
    loop += [loop, loop]
    holder = SimpleNamespace()
    holder.me = holder
    exotic: list[object] = [loop, holder, Hostile(), threading.Lock(), iter([1]), logging.getLogger(), sys, object()]
    exotic += [torch.empty(2, device="meta"), torch.eye(2).to_sparse(), weakref.ref(test_code_without_a_file), len]
    exotic += [nn.LazyLinear(2), torch.Generator(), (i for i in "ab"), functools.cache(_even), [].append, 10**5000]
    for value in exotic:
        assert len(source(value)) == 32
        assert source(lambda value=value: value) == source(lambda value=value: value)


def test_models_by_their_layers_and_what_these_hold(load: Callable[[str], ModuleType]) -> None:
    def identity(model: Any) -> str:
        return Factory(model, 3, (1, 8, 8)).identity()

    def factory(k: float) -> Callable[[], nn.Module]:
        holder = {"k": k}
        return lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3), Act(holder["k"]))

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), Act(1.0))
    first = identity(model)
    assert identity(copy.deepcopy(model).eval()) == first
    other = copy.deepcopy(model)
    other[2].k = 5.0
    assert identity(other) != first
    other = copy.deepcopy(model)
    next(other.parameters()).data.add_(1)
    assert identity(other) != first
    assert identity(factory(1.0)) == identity(factory(1.0)) != identity(factory(5.0))

    text = "from torch import nn\nSLOPE = 1\nclass Net(nn.Module):\n    slope = SLOPE\n    def forward(self, x):\n"
    text += "        return x * self.slope\ndef net():\n    return nn.Sequential(Net())\n"
    for made in (lambda m: m.Net, lambda m: m.net, lambda m: m.Net(), lambda m: m.net()):
        assert identity(made(load(text))) == identity(made(load(text)))
        assert identity(made(load(text))) != identity(made(load(text.replace("SLOPE = 1", "SLOPE = 2"))))
        assert identity(made(load(text))) != identity(made(load(text.replace("x * self", "x + self"))))


def _filled(value: float) -> nn.Module:
    layer = nn.Linear(2, 2)
    nn.init.constant_(layer.weight, value)
    nn.init.zeros_(layer.bias)
    return layer


class Act(nn.Module):
    def __init__(self, k: float) -> None:
        super().__init__()
        self.k = k

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.k


@dataclass(frozen=True)
class Config:
    p: float


class Slotted:
    __slots__ = ("__p",)

    def __init__(self, p: float) -> None:
        self.__p = p


def test_editing_ones_score_computes_what_depends_on_it_and_nothing_else(
    tmp_path: Path, load: Callable[[str], ModuleType]
) -> None:
    text = "def mine(model, batches, loss):\n    return {n: p.detach().abs() for n, p in model.named_parameters()}\n"

    def run(text: str) -> list[str]:
        progress = tiny.Counter()
        tiny.prepared(tmp_path / "s", [load(text).mine, "snip"], checks=["rearrange"]).run(1, progress)
        return progress.computed

    first = run(text)
    assert first.count("train") == 3 + 2 * 6
    assert run(text + "\n# A remark.\ndef other(): ...\n") == []
    # Other scores, the same masks: scored again, linked after that.
    same = run(text.replace(".abs()", ".abs() * 2"))
    assert sorted(set(same)) == ["prune"] and len(same) == 3
    edited = run(text.replace(".abs()", ".abs().neg()"))
    assert edited.count("prune") == 3 and edited.count("train") == 6 and "init" not in edited
