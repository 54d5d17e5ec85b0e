"""train: tickets to the end of the recipe, side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ticketlab import seeding
from ticketlab.contents import tensors_digest
from ticketlab.engine.engine import check_weights
from ticketlab.engine.job import Job, Trained
from ticketlab.engine.kinds import open_engine, parse
from ticketlab.engine.memory import check_memory, estimated
from ticketlab.engine.precision import numerics
from ticketlab.engine.recipe import Recipe, default_for
from ticketlab.engine.schedule import Schedule
from ticketlab.engine.train import Keeper, train_jobs
from ticketlab.errors import InputError
from ticketlab.experiment.api import as_data
from ticketlab.experiment.factory import Factory, ModelLike
from ticketlab.experiment.identity import digest
from ticketlab.experiment.settings import USUAL_ENGINE, asked_engine, checked_device, kernels
from ticketlab.program import Ticket


def train(
    tickets: Sequence[Ticket],
    *,
    model: ModelLike,
    data: Any,
    recipe: Recipe | None = None,
    seeds: Sequence[int] | None = None,
    until: float | None = None,
    engine: str | None = None,
    sparse: str = "auto",
    precision: str = "fp32",
    device: str = "cpu",
    threads: int = 1,
    checkpoints: str | Path | None = None,
    every: float = 60.0,
    tell: Callable[[int, Trained], None] | None = None,
) -> list[Trained]:
    """Train tickets of one architecture, each from its own weights, mask and place in the recipe to the end.

    A ticket's result depends on its weights, mask, seed, the recipe, the engine, the precision and the number of
    threads, and is bit-equal whatever it is trained together with.

    Args:
        tickets: what to train; ``at`` is the epoch of the recipe where training starts.
        model: a registered name, ``package:factory``, a factory, or a module of that architecture.
        data: ``(train, test)``, a ``Data``, or the name of a data set.
        seeds: each ticket's, for order, augmentation and dropout; 0, 1, ... if not given.
        until: the epoch where training stops; if not given, where the ticket says, or at the recipe's end.
        engine: "tuned" if not given; see ``ticketlab bench``; ":K" trains K tickets side by side.
        sparse: "on" trains tickets on the sparse kernels, which is the engine "sparse"; "off" refuses that one.
        precision: "fp32", "bf16" or (on GPUs) "tf32".
        checkpoints: a folder where unfinished trainings are kept, written every ``every`` seconds; called again with
            the same arguments, they go on and end bit-equal.
        tell: called with a ticket's index and result when it is finished.

    Returns:
        One result a ticket: weights, momentum, history, and which test images it gets right in the end.

    Raises:
        InputError: anything wrong with the input, before any training.
    """
    found = as_data(data)
    chosen = recipe or default_for(found.name)
    numbers = list(range(len(tickets))) if seeds is None else list(seeds)
    if not tickets:
        raise InputError("asked to train tickets, got none.")
    if len(numbers) != len(tickets):
        raise InputError(f"asked to train {len(tickets)} tickets, got {len(numbers)} seeds.")
    if engine is not None and not isinstance(engine, str):
        raise InputError(f"asked for engine {engine!r}, got no name: see `ticketlab list engines`.")
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int):
            raise InputError(f"asked for seed {number!r}, got no whole number.")
    if isinstance(threads, bool) or threads < 1:
        raise InputError(f"asked for {threads} threads, got fewer than one.")
    if not (math.isfinite(every) and every >= 0):
        raise InputError(f"asked for a checkpoint every {every} seconds, got no number of at least 0.")
    checked_device(device)
    engine = asked_engine(engine, sparse) or USUAL_ENGINE
    width = parse(engine)[1]
    with numerics(threads, precision):
        factory = Factory(model, found.classes, found.in_shape)
        with seeding.isolated(0, "shape"):
            template = factory()
        jobs = [
            Job(t.weights, t.mask, s, start=t.at, until=t.until if until is None else until)
            for t, s in zip(tickets, numbers, strict=True)
        ]
        check_weights(template, jobs, len(jobs))
        for job in jobs:
            Schedule(chosen, len(found.train)).span(job.start, job.until)
        check_memory(estimated(template, found, chosen), width=width, device=torch.device(device))
        trainer = open_engine(engine, template, found, chosen, precision=precision, device=device)
        found = found.to(device)
        keeper = Keeper(Path(checkpoints), every, ends=True) if checkpoints is not None else None
        how = {**chosen.to_json(), "engine": engine, "precision": precision, "threads": threads, **kernels(engine)}
        same = [factory.identity(), found.fingerprint, how, torch.__version__] if keeper else []
        keys = [digest([*same, j.seed, j.start, j.until, _content(j)]) if keeper else "" for j in jobs]
        trained: list[Trained] = []
        # One pack at a time, so that each is told of as soon as it is finished.
        for first in range(0, len(jobs), trainer.width):
            part = slice(first, first + trainer.width)
            for result in train_jobs(trainer, jobs[part], found, chosen, keys[part], keeper):
                trained.append(result)
                if tell is not None:
                    tell(len(trained) - 1, result)
        if keeper:
            keeper.forget(keys)
    return trained


def _content(job: Job) -> str:
    mask = {} if job.mask is None else {f"mask/{n}": m for n, m in job.mask.items()}
    return tensors_digest({**job.weights, **mask})
