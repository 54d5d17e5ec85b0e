"""A pack of tickets on its way through the recipe: the one loop that all engines share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ticketlab import seeding
from ticketlab.data.types import Data
from ticketlab.engine.engine import Engine, State
from ticketlab.engine.feed import Feed
from ticketlab.engine.job import Job, Trained, percent
from ticketlab.engine.recipe import Recipe
from ticketlab.engine.schedule import Schedule
from ticketlab.errors import InputError


def test_batch(recipe: Recipe) -> int:
    """How many test images go through the model at once: it keeps no activations, so four times as many, or 64."""
    return max(64, 4 * recipe.batch_size)


@dataclass
class Progress:
    """What is known of one ticket's training beside its weights: enough, with them, to go on from ``step``."""

    step: int
    losses: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    correct: Tensor | None = None
    diverged_step: int | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A ticket in the middle of its training."""

    state: State
    progress: Progress


class Training:
    """The tickets that an engine holds, step by step. All of them stand at the same step of equal schedules.

    Args:
        data: on the engine's device; its test set is evaluated after every epoch and chooses nothing.
        resumed: checkpoints to go on from, one a job, all at the same step.

    Raises:
        InputError: jobs whose schedules differ, or that are not of the engine's architecture.
    """

    def __init__(
        self,
        engine: Engine,
        jobs: Sequence[Job],
        data: Data,
        recipe: Recipe,
        resumed: Sequence[Checkpoint] | None = None,
    ) -> None:
        splits = [data.train if job.split is None else job.split for job in jobs]
        spans = {(len(s), *Schedule(recipe, len(s)).span(j.start, j.until)) for s, j in zip(splits, jobs, strict=True)}
        steps = {c.progress.step for c in resumed or ()}
        if len(spans) > 1 or len(steps) > 1:
            raise InputError(
                f"asked to train tickets side by side, got schedules that differ: {sorted(spans)} "
                "(examples, first step, end). Pack those that are alike."
            )
        ((examples, self.first, self.end),) = spans
        self.schedule = Schedule(recipe, examples)
        self.engine = engine
        self._data = data
        self._seeds = [job.seed for job in jobs]
        if resumed:
            states = [c.state for c in resumed]
            jobs = [replace(j, weights=s.weights, momentum=s.momentum) for j, s in zip(jobs, states, strict=True)]
        engine.load(jobs)
        self._feed = Feed(data, splits, self._seeds, self.schedule)
        self._progress = [c.progress for c in resumed] if resumed else [Progress(self.first) for _ in jobs]
        self.step = self._progress[0].step
        # Losses of the steps since the last time they were read; reading them waits for the device.
        self._unread: list[Tensor] = []
        # What diverged stays as it was then, while the others of its pack go on.
        lost = [k for k, p in enumerate(self._progress) if p.diverged_step is not None]
        self._lost: dict[int, State] = {k: resumed[k].state for k in lost} if resumed else {}

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train: the end is reached, or every ticket has diverged."""
        return self.step >= self.end or all(p.diverged_step is not None for p in self._progress)

    def advance(self, steps: int) -> None:
        """Train so many more steps, or what is left; evaluate where an epoch ends."""
        with seeding.isolated(self._seeds[0], "training"):
            for _ in range(steps):
                if self.finished:
                    return
                inputs, targets = self._feed.batch(self.step)
                rate = self.schedule.lr(self.step)
                self._unread.append(self.engine.step(inputs, targets, rate, self.step))
                self.step += 1
                if self.step % self.schedule.per_epoch == 0 or self.step == self.end:
                    self._close_epoch()

    def checkpoint(self, k: int) -> Checkpoint:
        """All that is needed to go on with the k-th ticket from here."""
        self._read_losses()
        p = self._progress[k]
        return Checkpoint(
            self._state(k), Progress(self.step, list(p.losses), list(p.history), p.correct, p.diverged_step)
        )

    def told(self, k: int) -> dict[str, Any]:
        """How far the k-th ticket is: epoch, the recipe's epochs, loss and accuracy of its last whole epoch."""
        last = self._progress[k].history[-1] if self._progress[k].history else {}
        now = {"epoch": self.schedule.epoch_of(self.step), "epochs": self.schedule.epoch_of(self.end)}
        return {**now, "loss": last.get("loss"), "accuracy": last.get("accuracy")}

    def result(self, k: int) -> Trained:
        """What the k-th ticket's training leaves behind, once it is finished."""
        state, p = self._state(k), self._progress[k]
        if p.correct is None and p.diverged_step is None:
            # Nothing was left to train: an evaluation.
            p.correct = self._correct()[k]
        right = torch.zeros(len(self._data.test), dtype=torch.bool) if p.correct is None else p.correct
        epoch = None if p.diverged_step is None else (p.diverged_step - 1) // self.schedule.per_epoch + 1
        return Trained(state.weights, state.momentum, right, p.history, epoch, p.diverged_step)

    def _state(self, k: int) -> State:
        return self._lost[k] if k in self._lost else self.engine.state(k)

    def _read_losses(self) -> None:
        if self._unread:
            rows = torch.stack(self._unread).double().cpu().tolist()
            for k, progress in enumerate(self._progress):
                progress.losses += [row[k] for row in rows]
            self._unread = []

    def _close_epoch(self) -> None:
        self._read_losses()
        right = self._correct()
        for k, progress in enumerate(self._progress):
            progress.step = self.step
            if progress.diverged_step is None:
                self._close(k, progress, right[k])
            else:
                progress.losses = []

    def _close(self, k: int, progress: Progress, right: Tensor) -> None:
        first = self.step - len(progress.losses)
        bad = [i for i, loss in enumerate(progress.losses) if not math.isfinite(loss)]
        if bad or (self.step == self.end and not self._finite(k)):
            # Losses are taken before a step: only the weights tell of an overflow in the last one.
            progress.diverged_step = first + bad[0] + 1 if bad else self.step
            self._lost[k] = self.engine.state(k)
            return
        sizes = [part.stop - part.start for _, part in map(self.schedule.batch, range(first, self.step))]
        progress.correct = right
        progress.history.append(
            {
                "epoch": self.schedule.epoch_of(self.step),
                "lr": self.schedule.lr(first),
                "loss": sum(loss * size for loss, size in zip(progress.losses, sizes, strict=True)) / sum(sizes),
                "accuracy": percent(right),
            }
        )
        progress.losses = []

    def _finite(self, k: int) -> bool:
        weights = self.engine.state(k).weights.values()
        return all(bool(w.isfinite().all()) for w in weights if w.is_floating_point())

    def _correct(self) -> Tensor:
        """For every ticket and test image, in order, whether the answer is right: bool (K, N) on the CPU."""
        test = self._data.test
        found = []
        size = test_batch(self.schedule.recipe)
        for inputs, targets in zip(test.inputs.split(size), test.targets.split(size), strict=True):
            found.append((self.engine.answers(self._feed.prepared(inputs)) == targets).cpu())
        return torch.cat(found, 1)
