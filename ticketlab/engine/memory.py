"""What a training holds in memory, estimated before it starts."""

from __future__ import annotations

import copy
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ticketlab import seeding
from ticketlab.data.types import Data
from ticketlab.engine.kinds import example
from ticketlab.engine.loop import test_batch
from ticketlab.engine.recipe import Recipe
from ticketlab.errors import InputError

# Weights, gradients, momentum, masks, and the update while it is made.
_COPIES = 5
# Activations that are kept for the backward pass, and the gradients of some of them while it runs.
_ACTIVATIONS = 1.5
# What the first version of control groups calls its limit.
_OLD_NAMES = ("memory.limit_in_bytes", "memory.usage_in_bytes")


@dataclass(frozen=True)
class Memory:
    """Bytes: of the data set (one copy a process and device), and of each ticket that is trained side by side."""

    data: int
    ticket: int

    def total(self, width: int) -> int:
        """The peak of a process that trains so many tickets at once."""
        return self.data + width * self.ticket


def estimated(template: nn.Module, data: Data, recipe: Recipe) -> Memory:
    """The memory of a training, from the model's size and forward passes on two and on four examples."""
    model = copy.deepcopy(template).cpu().train()
    parameters = sum(p.numel() * p.element_size() for p in model.parameters())
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    two = example(data, torch.device("cpu"))
    (all_of_two, largest_of_two), (all_of_four, largest_of_four) = (
        _kept(model, two),
        _kept(model, torch.cat([two, two])),
    )
    # What does not grow with the batch (weights that a forward pass makes of others) is there once.
    per_image, largest = max(0.0, all_of_four - all_of_two) / 2, max(0.0, largest_of_four - largest_of_two) / 2
    constant = max(0.0, all_of_two - 2 * per_image)
    batch = min(recipe.batch_size, len(data.train))
    training = constant + _ACTIVATIONS * batch * per_image
    testing = 2 * min(test_batch(recipe), len(data.test)) * largest
    images = sum(t.numel() * t.element_size() for s in (data.train, data.test) for t in (s.inputs, s.targets))
    return Memory(images, int(_COPIES * parameters + buffers + max(training, testing)))


def _kept(model: nn.Module, inputs: Tensor) -> tuple[int, int]:
    """Bytes that a forward pass keeps for the backward pass, parameters not counted: all of them, and the largest."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = max(seen.get(storage.data_ptr(), 0), storage.nbytes())
        return tensor

    with seeding.isolated(0, "memory"), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        held = model(inputs)
    del held
    return sum(seen.values()), max(seen.values(), default=0)


def available(device: torch.device) -> int | None:
    """Bytes that are free on a device (within this process's limit, on a CPU), or None if nothing tells."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = []
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    for folder, limit, used in (("", "memory.max", "memory.current"), ("memory", *_OLD_NAMES)):
        with suppress(OSError, ValueError):
            group = Path("/sys/fs/cgroup") / folder
            # Files that were read stay in memory until it is needed, and count as used.
            lines = (group / "memory.stat").read_text().splitlines()
            cached = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
            found.append(int((group / limit).read_text()) - int((group / used).read_text()) + cached)
    if not found:
        with suppress(OSError, ValueError, AttributeError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found) if found else None


def check_memory(memory: Memory, *, width: int, device: torch.device, processes: int = 1) -> None:
    """Refuse trainings that do not fit into what is free.

    Raises:
        InputError: they do not; the message says how many would.
    """
    free = available(device)
    if free is None or processes * memory.total(width) <= free:
        return
    fitting = (free // processes - memory.data) // memory.ticket
    asked = f"{width} tickets side by side" + (f" in {processes} processes" if processes > 1 else "")
    fewer = f"at most {fitting} would fit" if fitting >= 1 else "not even one would fit"
    raise InputError(
        f"asked for {asked}, about {gigabytes(processes * memory.total(width))}, got {gigabytes(free)} of free memory "
        f"on {device.type}: {fewer}."
    )


def gigabytes(size: float) -> str:
    """A size for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
