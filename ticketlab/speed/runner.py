"""Runners: ways to compute a network's outputs, each behind the same call, so that they can take turns."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ticketlab.errors import InputError
from ticketlab.speed.subject import Subject

# From a batch of fp32 inputs to fp32 outputs, on the device of the inputs, finished when it returns.
Call = Callable[[Tensor], Tensor]


@runtime_checkable
class Choosing(Protocol):
    """A call that chooses how it computes, and says so."""

    @property
    def path(self) -> str:
        """In a few words."""


@dataclass(frozen=True)
class Case:
    """One network, one batch size, one place to run: what a runner prepares itself for."""

    subject: Subject
    batch: int
    threads: int
    device: torch.device


@dataclass(frozen=True)
class Runner:
    """A way to run a network.

    Attributes:
        text: what it is, in a line.
        precision: "fp32" or "bf16".
        start: prepares it for a case; raises InputError, with what to install, where it is not to be had.
        devices: the kinds of devices it runs on.
        reads_onnx: whether it needs the network as an ONNX file.
        kind: "dense" computes every weight, "sparse" only the kept ones, "unpruned" is the network without the mask.
        pattern: the pattern of masks that it is for (see ``structure_of``); None: any. It is left out for others.
    """

    name: str
    text: str
    precision: str
    start: Callable[[Case], Call]
    devices: tuple[str, ...] = ("cpu",)
    kind: str = "dense"
    reads_onnx: bool = False
    pattern: str | None = None


def needs(module: str, install: str) -> Any:
    """The module, or InputError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"not installed: {install}") from error
