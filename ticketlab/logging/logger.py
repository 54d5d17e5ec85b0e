"""The interface that a logger fills, and what it is told of a training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ticketlab.errors import InputError


@dataclass(frozen=True)
class Training:
    """A finished training, in plain values.

    Attributes:
        step: the id of its step, by which it is known again.
        label: "snip · rearrange, 90%, seed 2".
        where: data set and model, "digits/conv".
        method: the method's spec, or "" for a dense net; None for a training that is not a ticket's last one, such as
            the dense one in which a lottery ticket is found. So are ``check`` ("original", "dense", "rearrange") and
            ``sparsity`` (the fraction removed; None for dense nets too).
        accuracy: percent after the last epoch; None if it diverged.
        history: one entry an epoch, with ``epoch``, ``lr``, ``loss`` (training) and ``accuracy`` (test, percent).
        seconds: its computing time; 0 where another training's result served.
        finished: seconds since 1970.
    """

    step: str
    label: str
    where: str
    method: str | None
    check: str | None
    sparsity: float | None
    seed: int
    accuracy: float | None
    history: tuple[dict[str, Any], ...]
    seconds: float
    finished: float


class Logger(Protocol):
    """Hears of finished trainings."""

    def training(self, record: Training) -> None:
        """Called once for every finished training of a run, and at its start for those that earlier runs finished.

        A logger that keeps what it was told therefore looks at ``record.step`` first.
        """

    def close(self) -> None:
        """No more trainings in this run."""


def as_logger(thing: Logger | Callable[[Training], object]) -> Logger:
    """A logger as it is; a function of a record as one.

    Raises:
        InputError: it is neither.
    """
    # A class is a logger that somebody forgot to make.
    if not isinstance(thing, type):
        if callable(getattr(thing, "training", None)) and callable(getattr(thing, "close", None)):
            return thing  # type: ignore[return-value]
        if callable(thing):
            return _Function(thing)
    raise InputError(
        f"asked for a logger, got {thing!r}: an object with training(record) and close() is needed, or a function of a "
        "record."
    )


class _Function:
    def __init__(self, function: Callable[[Training], object]) -> None:
        self._function = function

    def training(self, record: Training) -> None:
        self._function(record)

    def close(self) -> None:
        pass
