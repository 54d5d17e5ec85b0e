"""What every engine does: hold the tickets of a pack and train them one step at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ticketlab.engine.job import Job
from ticketlab.engine.recipe import Recipe
from ticketlab.errors import InputError


@dataclass(frozen=True)
class State:
    """A ticket's weights (with buffers) and momentum at some step, on the CPU."""

    weights: dict[str, Tensor]
    momentum: dict[str, Tensor]


class Engine(Protocol):
    """Trains up to ``width`` tickets side by side. A ticket's result does not depend on what it is packed with."""

    width: int
    device: torch.device

    def load(self, jobs: Sequence[Job]) -> None:
        """Put weights, masks and momentum of these jobs in place of whatever was there."""

    def step(self, inputs: Tensor, targets: Tensor, lr: float, step: int) -> Tensor:
        """One step of every ticket on its batch (K, B, ...), (K, B); the losses (K,) before it, on the device."""

    def answers(self, inputs: Tensor) -> Tensor:
        """Each ticket's classes (K, N) for inputs (N, ...), in evaluation mode."""

    def state(self, k: int) -> State:
        """Copies of what the k-th ticket has become."""


@dataclass(frozen=True)
class Setting:
    """What an engine is opened for: a model's architecture (its weights are of no matter), and how to train it."""

    template: nn.Module
    recipe: Recipe
    precision: str
    device: torch.device

    def model(self) -> nn.Module:
        """A copy of the template on the device, in training mode."""
        return copy.deepcopy(self.template).to(self.device).train()

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Run a forward pass in the study's precision: fp32, tf32 (set for the process) or bf16 by autocast."""
        # The cache of converted weights would outlive a step, and hold what a captured graph must read anew.
        with torch.autocast(self.device.type, torch.bfloat16, self.precision == "bf16", cache_enabled=False):
            yield


def check_weights(template: nn.Module, jobs: Sequence[Job], width: int) -> None:
    """Refuse jobs that the engine cannot hold: too many, or of another architecture.

    Raises:
        InputError: naming the ticket and what differs.
    """
    if not 1 <= len(jobs) <= width:
        raise InputError(f"asked to train {len(jobs)} tickets at once, got an engine for 1 to {width}.")
    shapes = {n: tuple(t.shape) for n, t in template.state_dict().items() if isinstance(t, Tensor)}
    for k, job in enumerate(jobs):
        for what, tensors in (("weights", job.weights), ("momentum", job.momentum or {}), ("mask", job.mask or {})):
            check_shapes(f"the {what} of ticket {k}", tensors, shapes, complete=what == "weights")


def check_shapes(
    what: str, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], complete: bool
) -> None:
    """Raise InputError unless the tensors have these names (all of them if ``complete``) and shapes."""
    found = {n: tuple(t.shape) for n, t in tensors.items()}
    for name in [*(shapes if complete else ()), *found]:
        if found.get(name) != shapes.get(name):
            raise InputError(
                f"asked to train {what} as {name!r} {shapes.get(name, 'absent')}, got {found.get(name, 'none of it')}: "
                "the tickets of a pack have one architecture."
            )


def draws_randomness(model: nn.Module, inputs: Tensor) -> bool:
    """Whether a forward pass in training mode draws random numbers (dropout, say); the model's copy is used up."""
    device = inputs.device

    def states() -> list[Tensor]:
        return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]

    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        before = states()
        model.train()(inputs)
        return not all(torch.equal(a, b) for a, b in zip(before, states(), strict=True))
