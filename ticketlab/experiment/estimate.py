"""How long a plan will take, from a few measured training steps on this machine."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from ticketlab import seeding
from ticketlab.engine.recipe import Recipe
from ticketlab.engine.train import _one_epoch, correct
from ticketlab.experiment.execute import Context, numerics
from ticketlab.experiment.plan import method_of
from ticketlab.experiment.step import Step
from ticketlab.experiment.store import Store
from ticketlab.experiment.study import Study


@dataclass(frozen=True)
class Estimate:
    """Steps by kind, how many of them are done, and seconds for the rest on ``jobs`` processes."""

    steps: Mapping[str, int]
    done: int
    seconds: float


def estimate(steps: Iterable[Step], study: Study, context: Context, store: Store | None, jobs: int) -> Estimate:
    """Count what a plan needs and time it by running a few batches of its recipe."""
    planned = list(steps)
    left = [s for s in planned if store is None or s.id not in store]
    per_image, per_test = _measure(study.training, context)
    n = len(context.data.train)
    seconds = 0.0
    for step in left:
        if step.kind == "train":
            share = 0.5 if step.params["variant"] == "half-data" else 1.0
            epochs = step.params["until"] - step.params["start"]
            seconds += epochs * (share * n * per_image + len(context.data.test) * per_test)
        elif step.kind == "prune":
            method, _ = method_of(step.method, context.methods)
            images = context.data.classes * study.scoring["per_class"] if method.reads_data else 1
            seconds += method.rounds * (method.passes * images * per_image + 0.005)
    return Estimate(Counter(s.kind for s in planned), len(planned) - len(left), seconds / jobs)


def _measure(recipe: Recipe, context: Context, batches: int = 6) -> tuple[float, float]:
    """Seconds per training image and per test image, medians over a few batches after a warm-up."""
    with numerics(context.threads), seeding.isolated(0, "estimate"):
        model = context.build().to(context.device)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=recipe.momentum)
        size = min(recipe.batch_size, len(context.data.train))
        part = context.data.train.take(torch.arange(size))
        times = []
        for _ in range(batches):
            started = time.perf_counter()
            _one_epoch(model, optimizer, context.data, part, recipe, 0, 0, torch.device(context.device))
            times.append(time.perf_counter() - started)
        few = type(context.data)(
            context.data.name, part, part, context.data.classes, context.data.mean, context.data.std
        )
        started = time.perf_counter()
        correct(model, few, torch.device(context.device))
        return sorted(times[1:])[len(times[1:]) // 2] / size, (time.perf_counter() - started) / size
