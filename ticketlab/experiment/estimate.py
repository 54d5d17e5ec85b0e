"""How long a plan will take and what room it needs, from the measured speed of its engine on this machine."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch

from ticketlab.data.variants import examples_left
from ticketlab.engine.choose import Measurements, Speed, Work, choose
from ticketlab.engine.memory import Memory, check_memory, estimated
from ticketlab.experiment.conditions import Conditions
from ticketlab.experiment.context import Context
from ticketlab.experiment.disk import disk_of
from ticketlab.experiment.plan import method_of
from ticketlab.experiment.step import Step
from ticketlab.experiment.store import Store
from ticketlab.program import CLEAN

# Tickets below it are trained as dense nets are, or nearly so: they are counted as such.
_SPARSE = 0.5


@dataclass(frozen=True)
class Estimate:
    """Steps by kind, and how many of them are done.

    Seconds for the rest on ``jobs`` processes, bytes in the memory of each, bytes that the rest adds to the store.
    """

    steps: Mapping[str, int]
    done: int
    seconds: float
    memory: int
    disk: int


def estimate(
    steps: Iterable[Step], conditions: Conditions, context: Context, store: Store | None, jobs: int
) -> Estimate:
    """Count what a plan needs, and time it by a few steps of its engine."""
    planned = list(steps)
    left = [s for s in planned if store is None or s.id not in store]
    work = work_of(left, context, planned)
    speed = speed_of(work, conditions, context)
    seconds = speed.seconds(work.train_images / jobs, work.test_images / jobs) if work.tickets else 0.0
    for step in left:
        if step.kind == "prune":
            method, _ = method_of(step.method, context.methods)
            images = context.data.classes * conditions.scoring["per_class"] if method.reads_data else 1
            seconds += method.rounds * (method.passes * images / speed.train_images_s + 0.005) / jobs
    memory = memory_of(planned, conditions, context).total(context.width)
    kinds, done = Counter(s.kind for s in planned), len(planned) - len(left)
    return Estimate(kinds, done, seconds, memory, disk_of(left, context))


def work_of(steps: Iterable[Step], context: Context, planned: Iterable[Step]) -> Work:
    """The images that the trainings among these steps go through; ``planned`` holds the steps that they build on."""
    n, train, test, tickets = len(context.data.train), 0.0, 0.0, 0
    known = {step.id: step for step in planned}
    sparse: Counter[float] = Counter()
    for step in steps:
        if step.kind == "train":
            epochs = step.params["until"] - step.params["start"]
            images = epochs * examples_left(step.params["variant"], n, step.params["recipe"]["batch_size"])
            train += images
            test += epochs * len(context.data.test)
            tickets += 1
            if (sparsity := _sparsity(step, known)) >= _SPARSE:
                sparse[sparsity] += images
    return Work(train, test, tickets, {sparsity: images / train for sparsity, images in sparse.items() if images})


def _sparsity(step: Step, known: Mapping[str, Step]) -> float:
    """The sparsity of the mask that a step works with, 0 without one; two digits of its density, as a mask has them."""
    while step.kind != "prune":
        if "mask" not in step.inputs or step.inputs["mask"] not in known:
            return 0.0
        step = known[step.inputs["mask"]]
    return 1 - float(f"{1 - step.params['sparsity']:.1e}")


def measurements(conditions: Conditions, context: Context) -> Measurements:
    """What the engines were measured at for these conditions, on this machine."""
    numerics = conditions.numerics
    return Measurements(
        context.template(),
        context.data,
        conditions.training,
        identity=conditions.model["identity"],
        precision=numerics["precision"],
        device=numerics["device"],
        threads=numerics["threads_per_ticket"],
    )


def best_engine(steps: Iterable[Step], conditions: Conditions, context: Context, sparse: bool = True) -> str:
    """The engine that ends these steps first here, with one worker per core (or one on a GPU).

    ``sparse``: whether it may be the one of the sparse kernels.
    """
    planned = list(steps)
    work = work_of(planned, context, planned)
    workers = 1 if torch.device(context.device).type == "cuda" else os.cpu_count() or 1
    tickets, shares = max(1, work.tickets // workers), work.shares if sparse else {}
    share = Work(work.train_images / workers, work.test_images / workers, tickets, shares)
    return choose(measurements(conditions, context), share).spec


def speed_of(work: Work, conditions: Conditions, context: Context) -> Speed:
    """The speed of the engine that is written into the conditions, on that work."""
    return measurements(conditions, context).of_plan(conditions.numerics["engine"], work)


def memory_of(steps: Iterable[Step], conditions: Conditions, context: Context) -> Memory:
    """What one process holds. Where data are tampered with, each ticket of a pack may train on its own version."""
    memory = estimated(context.template(), context.data, conditions.training)
    if any(step.kind == "train" and step.params["variant"] != CLEAN for step in steps):
        train = context.data.train
        own = sum(t.numel() * t.element_size() for t in (train.inputs, train.targets))
        memory = replace(memory, ticket=memory.ticket + own)
    return memory


def check_room(steps: Iterable[Step], conditions: Conditions, context: Context, jobs: int) -> None:
    """Refuse a plan whose processes do not fit into memory.

    Raises:
        InputError: they do not; the message says how many tickets would.
    """
    memory = memory_of(steps, conditions, context)
    check_memory(memory, width=context.width, device=torch.device(context.device), processes=jobs)
