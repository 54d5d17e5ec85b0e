"""What the worker processes run: the baseline's loop or one of ticketlab's engines, as a number of images per step."""

from __future__ import annotations

from collections.abc import Callable

import torch

from support import plain_loop
from support.work import CLASSES, RECIPE, Work, net, random_data, random_mask
from ticketlab.engine.allocator import keep_freed_memory
from ticketlab.engine.job import Job
from ticketlab.engine.kinds import open_engine
from ticketlab.engine.limits import training_flops
from ticketlab.engine.loop import Training
from ticketlab.engine.precision import numerics

# Trains so many steps and returns when they are done.
Advance = Callable[[int], None]


def baseline(work: Work) -> tuple[int, Advance]:
    """One ticket in the plain loop, with all threads."""
    data, model = random_data(work.shape), net(work)
    training = getattr(plain_loop, work.loop)(model, random_mask(model, 0), data, RECIPE)

    def advance(steps: int) -> None:
        for _ in range(steps):
            next(training)

    return RECIPE.batch_size, advance


def engine(work: Work, spec: str, precision: str, first_seed: int, device: str = "cpu") -> tuple[int, Advance]:
    """A pack of tickets, as many as the engine is wide. Raises InputError where the engine is not available."""
    keep_freed_memory()
    data, model = random_data(work.shape).to(device), net(work)
    opened = open_engine(spec, model, data, RECIPE, precision=precision, device=device)
    seeds = range(first_seed, first_seed + opened.width)
    training = Training(opened, [Job(model.state_dict(), random_mask(model, s), s) for s in seeds], data, RECIPE)

    def advance(steps: int) -> None:
        with numerics(torch.get_num_threads(), precision):
            training.advance(steps)
        if device == "cuda":
            torch.cuda.synchronize()

    return RECIPE.batch_size * opened.width, advance


def flops(work: Work) -> float:
    """FLOPs of training one image, were the net dense."""
    return training_flops(net(work), work.shape, CLASSES)
