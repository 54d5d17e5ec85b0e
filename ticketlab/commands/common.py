"""What several commands make of their options, and what they refuse before anything long."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ticketlab.data.load import load
from ticketlab.data.types import Data
from ticketlab.engine.recipe import Recipe, adjusted, default_for
from ticketlab.errors import InputError
from ticketlab.experiment.factory import ModelLike
from ticketlab.experiment.identity import digest
from ticketlab.experiment.single import Single, single
from ticketlab.experiment.step import Step
from ticketlab.experiment.store import Store
from ticketlab.experiment.where import Where


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The data set's recipe with the changes asked for."""
    changes = ("epochs", "batch_size", "lr", "momentum", "weight_decay", "schedule", "warmup", "augment")
    return adjusted(default_for(options.data), **{name: getattr(options, name) for name in changes})


def data_of(options: argparse.Namespace) -> Data:
    """The data set asked for."""
    return load(options.data, options.data_dir, options.limit_train, options.limit_test)


def default_folder(options: argparse.Namespace, leave_out: set[str]) -> Path:
    """runs/ and a name made from the options but those left out: the same for requests that can share their steps."""
    # Where it is left open, a folder keeps the name that it had before there was a choice.
    open_ = {"sparse"} if getattr(options, "sparse", None) == "auto" else set()
    kept = {name: repr(value) for name, value in vars(options).items() if name not in leave_out | open_}
    model = options.model.replace(":", "-").replace("/", "-")
    return Path("runs") / f"{options.data}-{model}-{digest(kept)[:6]}"


def where_of(options: argparse.Namespace, jobs: int | None = None) -> Where:
    """The processes asked for; by default ``jobs`` of this machine, or one per core."""
    default = (os.cpu_count() or 1) if jobs is None else jobs
    asked = default if options.jobs is None else options.jobs
    if options.slurm and options.jobs is None:
        raise InputError("asked for --slurm, got no number of workers to start. Add --jobs N.")
    return Where(asked, options.scheduler, options.slurm, options.dashboard)


def loggers_of(options: argparse.Namespace) -> list[Any]:
    """What is told of finished trainings, opened before anything long."""
    if not options.tensorboard:
        return []
    from ticketlab.logging.tensorboard import TensorBoard

    return [TensorBoard(options.tensorboard)]


def request(options: argparse.Namespace, model: ModelLike, data: Data) -> Single:
    """The single ticket that the options ask for, checked and planned."""
    return single(
        options.method,
        model=model,
        data=data,
        sparsity=options.sparsity,
        seed=options.seed,
        recipe=recipe_of(options),
        per_class=options.per_class,
        device=options.device,
        precision=options.precision,
        engine=options.engine,
        sparse=options.sparse,
        checkpoint_every=options.checkpoint_every,
    )


def work_store(options: argparse.Namespace) -> Store:
    """Where the steps of a single ticket are kept; requests that differ in the ticket alone share them."""
    if options.store:
        return Store(options.store)
    ticket = {"command", "method", "sparsity", "seed", "weights", "out", "work", "store", "json", "checkpoint_every"}
    folder = Path(options.work) if options.work else default_folder(options, ticket)
    _check_place(folder.absolute(), f"asked to keep finished steps in {folder}, got")
    return Store(folder / "store")


def shell(arguments: list[str]) -> str:
    """A command line as one would type it."""
    return shlex.join(["ticketlab", *arguments])


def tell_failed(failed: Iterable[tuple[str, str]]) -> None:
    """A line on stderr for each step that failed, by its label and its error."""
    for label, error in failed:
        print(f"failed: {label}: {error}".splitlines()[0], file=sys.stderr)


def unfinished(steps: Iterable[Step], store: Store) -> dict[str, int]:
    """How many steps of each kind the store lacks."""
    return dict(Counter(step.kind for step in steps if step.id not in store))


def check_writable(path: Path, what: str, example: str) -> None:
    """Refuse a file that could not be written, now and not after hours of training.

    Args:
        what: what will be written, for the message: "the report".
        example: a name for the file: "report.html".

    Raises:
        InputError: the path is a folder, or nothing may be written where it is.
    """
    asked = f"asked to write {what} to {path}, got"
    try:
        if path.is_dir():
            raise InputError(f"{asked} a folder: name a file, {path / example}.")
        if path.exists() and not path.is_file():
            # Files are written whole and then renamed: a device would be replaced.
            raise InputError(f"{asked} no ordinary file.")
    except OSError as error:
        raise InputError(f"{asked} {error.strerror or error}.") from error
    _check_place(path.absolute().parent, asked)


def _check_place(folder: Path, asked: str) -> None:
    """Refuse a folder that is not there and cannot be made, or in which nothing may be written."""
    try:
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            raise InputError(f"{asked} {folder}, which is not a folder.")
    except OSError as error:
        raise InputError(f"{asked} {error.strerror or error}.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{asked} {folder}, where nothing may be written.")
