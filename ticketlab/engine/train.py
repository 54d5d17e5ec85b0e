"""Train tickets in packs, and keep what is needed to go on when a training is stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ticketlab.data.types import Data
from ticketlab.engine import checkpoint as checkpoints
from ticketlab.engine.engine import Engine
from ticketlab.engine.job import Job, Trained
from ticketlab.engine.loop import Checkpoint, Training
from ticketlab.engine.recipe import Recipe
from ticketlab.engine.schedule import Schedule
from ticketlab.errors import InputError

Tell = Callable[[str, Mapping[str, Any]], None]

# Steps between two looks at the clock.
_BURST = 8


class Keeper:
    """Keeps checkpoints of unfinished trainings in a folder, one file each, written every so many seconds.

    Args:
        ends: whether finished trainings are kept too, until they are forgotten: for results that go nowhere else yet.
        tell: called about once a second with a training's key and how far it is (see :meth:`Training.told`).
    """

    def __init__(self, folder: Path, every: float = 60.0, ends: bool = False, tell: Tell | None = None) -> None:
        self._folder = folder
        self._every = every
        self.ends = ends
        self._last = time.monotonic()
        self._tell = tell
        self._told = -math.inf

    def show(self, keys: Sequence[str], training: Training) -> None:
        """Say how far a pack is, now and then."""
        if self._tell and time.monotonic() - self._told >= 1:
            self._told = time.monotonic()
            for k, key in enumerate(keys):
                self._tell(key, training.told(k))

    def found(self, key: str) -> Checkpoint | None:
        """Where a training was when it was stopped, or None."""
        return checkpoints.load(key, self._path(key))

    def due(self) -> bool:
        """Whether it is time to write again."""
        return time.monotonic() - self._last >= self._every

    def keep(self, held: Iterable[tuple[str, Checkpoint]]) -> None:
        """Write the checkpoints of a pack."""
        for key, checkpoint in held:
            try:
                checkpoints.save(checkpoint, key, self._path(key))
            except InputError:
                # On a full disk the training goes on: only what a kill would cost is more.
                if self.ends:
                    raise
        self._last = time.monotonic()

    def forget(self, keys: Iterable[str]) -> None:
        """Remove what finished trainings no longer need."""
        for key in keys:
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.safetensors"


def train_jobs(
    engine: Engine,
    jobs: Sequence[Job],
    data: Data,
    recipe: Recipe,
    keys: Sequence[str] | None = None,
    keeper: Keeper | None = None,
) -> list[Trained]:
    """Train tickets in packs of the engine's width; results in the order of the jobs.

    Args:
        data: on the engine's device, as the jobs' splits are.
        keys: names of the trainings for ``keeper``, which lets a stopped training go on; it ends bit-equal.
    """
    names = [""] * len(jobs) if keys is None else list(keys)
    resumed = [keeper.found(name) if keeper else None for name in names]
    alike: dict[object, list[int]] = {}
    for k, (job, held) in enumerate(zip(jobs, resumed, strict=True)):
        examples = len(data.train if job.split is None else job.split)
        span = Schedule(recipe, examples).span(job.start, job.until)
        alike.setdefault((examples, span, held.progress.step if held else None), []).append(k)
    results: dict[int, Trained] = {}
    for group in alike.values():
        for first in range(0, len(group), engine.width):
            pack = group[first : first + engine.width]
            stopped = [c for c in (resumed[k] for k in pack) if c is not None]
            training = Training(engine, [jobs[k] for k in pack], data, recipe, stopped or None)
            while not training.finished:
                training.advance(_BURST)
                if keeper:
                    keeper.show([names[k] for k in pack], training)
                if keeper and keeper.due() and not training.finished:
                    keeper.keep((names[k], training.checkpoint(i)) for i, k in enumerate(pack))
            results |= {k: training.result(i) for i, k in enumerate(pack)}
            if keeper and keeper.ends:
                keeper.keep((names[k], training.checkpoint(i)) for i, k in enumerate(pack))
    return [results[k] for k in range(len(jobs))]
