"""Every engine, as tests open it: compiled ones without their compiler, the GPU's on a stand-in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn import functional

from ticketlab.data.types import Augment, Data
from ticketlab.engine.engine import Engine, Setting, probed
from ticketlab.engine.graph import Direct, Graphs
from ticketlab.engine.job import Job
from ticketlab.engine.job import Trained as Trained
from ticketlab.engine.kinds import example, open_engine
from ticketlab.engine.recipe import Recipe
from ticketlab.engine.stacked import Stacked
from ticketlab.engine.train import train_jobs
from ticketlab.mask import Mask
from ticketlab.parameters import prunable
from ticketlab.sparse import missing

LONG = Recipe(epochs=4, batch_size=9, lr=0.05, augment=True)
CPU = torch.device("cpu")


class Dropped(tiny.Net):
    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(super().forward(x), 0.3, self.training)


def stacked(model: nn.Module, data: Data, recipe: Recipe, width: int = 8, compiled: bool = False) -> Engine:
    return Stacked(
        Setting(model, recipe, "fp32", CPU), width, example(data, CPU), probed(model, example(data, CPU)), compiled
    )


def graphs(model: nn.Module, data: Data, recipe: Recipe, width: int = 8) -> Engine:
    inputs = example(data, CPU)
    return Graphs(Setting(model, recipe, "fp32", CPU), width, inputs, probed(model, inputs), lambda _: Direct())


def opened(spec: str) -> Callable[..., Engine]:
    return lambda model, data, recipe: open_engine(spec, model, data, recipe)


def stopping(kind: type[Engine], at: int) -> tuple[list[int], Callable[..., Any]]:
    """A kind of engine's step that is interrupted at this call of it; and a list with an entry for each call."""
    step: Callable[..., Any] = kind.step
    calls: list[int] = []

    def stopped(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return step(*arguments)

    return calls, stopped


def kernels_needed() -> None:
    """Skip where there is no compiler: there are no sparse kernels to test then."""
    if (why := missing()) and "compiler" in why:
        pytest.skip(why)


def sparse(model: nn.Module, data: Data, recipe: Recipe) -> Engine:
    kernels_needed()
    return open_engine("sparse", model, data, recipe)


ENGINES: dict[str, Callable[..., Engine]] = {
    **{spec: opened(spec) for spec in ("plain", "tuned", "tuned+im2col")},
    "sparse": sparse,
    "stacked": stacked,
    "graph": graphs,
}
WIDE = ("stacked", "graph")


def net(seed: int = 0, kind: type[tiny.Net] = tiny.Net) -> tiny.Net:
    torch.manual_seed(seed)
    return kind()


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {n: t.clone() for n, t in model.state_dict().items()}


def some_mask(model: nn.Module, seed: int = 3) -> Mask:
    draw = torch.Generator().manual_seed(seed)
    return Mask({n: torch.rand(w.shape, generator=draw) < 0.4 for n, w in prunable(model).items()})


def images(n: int = 60) -> Data:
    return replace(tiny.data(train=n), augment=Augment(pad=1, flip=True))


def job(model: nn.Module, mask: Mask | None = None, seed: int = 1, **more: Any) -> Job:
    return Job(weights(model), mask, seed, **more)


def ticket(number: int, **more: Any) -> Job:
    """Tickets that differ in everything: weights, mask (the third is dense), seed."""
    model = net(number)
    return job(model, some_mask(model, number) if number % 3 else None, seed=number, **more)


def run(
    model: nn.Module,
    recipe: Recipe = LONG,
    mask: Mask | None = None,
    data: Data | None = None,
    engine: str = "tuned",
    **more: Any,
) -> Trained:
    data = data or images()
    return train_jobs(ENGINES[engine](model, data, recipe), [job(model, mask, **more)], data, recipe)[0]


def together(engine: str, jobs: list[Job], recipe: Recipe = LONG, data: Data | None = None) -> list[Trained]:
    data = data or images()
    return train_jobs(ENGINES[engine](net(), data, recipe), jobs, data, recipe)


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[n], b[n]) for n in a)


def same(one: Trained, other: Trained) -> bool:
    """Whether two trainings left the same behind, bit by bit."""
    return (
        equal(one.weights, other.weights)
        and equal(one.momentum, other.momentum)
        and one.history == other.history
        and torch.equal(one.correct, other.correct)
        and (one.diverged_at, one.diverged_step) == (other.diverged_at, other.diverged_step)
    )
