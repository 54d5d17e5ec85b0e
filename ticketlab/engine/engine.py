"""What every engine does: hold the tickets of a pack and train them one step at a time."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ticketlab import seeding
from ticketlab.engine.job import Job, tensors_of
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
    shapes = {n: tuple(t.shape) for n, t in tensors_of(template).items()}
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


def load_tensors(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load a state dict of tensors; what else a model keeps in its state (``get_extra_state``) stays as it is."""
    other = {n: value for n, value in model.state_dict().items() if not isinstance(value, Tensor)}
    model.load_state_dict({**other, **weights})


def in_channels_last(model: nn.Module) -> nn.Module:
    """The model with its 4-D tensors in channels_last layout, in place."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim == 4:
            tensor.data = channels_innermost(tensor.data)
    return model


def channels_innermost(tensor: Tensor) -> Tensor:
    """A copy in channels_last layout, in its strides too where there is but one channel.

    ``contiguous`` would leave such a tensor as it is, since its memory is the same in both layouts, and convolutions
    would go on in the other one.
    """
    return torch.empty_like(tensor, memory_format=torch.channels_last).copy_(tensor)


def runs_in_channels_last(model: nn.Module, inputs: Tensor) -> bool:
    """Whether a copy of the model trains in that layout; a forward pass with ``view`` may not.

    Decided by the model alone, so that it is the same in every process.
    """
    if inputs.ndim != 4:
        return False
    trial = in_channels_last(copy.deepcopy(model)).train()
    with seeding.isolated(0, "layout"):
        try:
            trial(inputs.contiguous(memory_format=torch.channels_last)).float().sum().backward()
        except RuntimeError:
            return False
    return True


@dataclass(frozen=True)
class Probe:
    """What a model does in training that decides how it can be trained.

    ``random``: it draws random numbers. ``unused``: parameters that no gradient reaches.
    """

    random: bool
    unused: frozenset[str]


def probed(template: nn.Module, inputs: Tensor) -> Probe:
    """Train a copy of a model on two examples, a few times, and look at what it does.

    Raises:
        InputError: it cannot be copied or trained, or changes a buffer that its state dict leaves out.
    """
    try:
        model = copy.deepcopy(template).to(inputs.device).train()
    except RuntimeError as error:
        raise InputError(
            f"asked to train {type(template).__name__}, got a model that cannot be copied: {error}"
        ) from error
    draws, reached = False, set()
    hidden = {n: b.clone() for n, b in model.named_buffers() if n not in model.state_dict()}
    with seeding.isolated(0, "probe"):
        for _ in range(4):
            before = _generators(inputs.device)
            try:
                model(inputs).float().sum().backward()
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                first = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise InputError(
                    f"asked to train {type(template).__name__}, got a model that fails on a batch of two: {first[:200]}"
                ) from error
            draws = draws or before != _generators(inputs.device)
            reached |= {n for n, p in model.named_parameters() if p.grad is not None}
    for name, buffer in model.named_buffers():
        if name in hidden and not torch.equal(hidden[name], buffer):
            raise InputError(
                f"asked to train {type(template).__name__}, got a model that changes its buffer {name!r} but leaves it "
                "out of its state dict: a training that was stopped could not go on. Register it as persistent."
            )
    return Probe(draws, frozenset(n for n, _ in model.named_parameters() if n not in reached))


def _generators(device: torch.device) -> list[bytes]:
    """The states of all global generators."""
    numpy = sys.modules.get("numpy")
    states = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
    others = [random.getstate(), None if numpy is None else numpy.random.get_state()]
    return [*(state.numpy().tobytes() for state in states), *(repr(state).encode() for state in others)]
