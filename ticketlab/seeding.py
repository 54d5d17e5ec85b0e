"""Randomness by name: every draw has its own seed, derived from the study's seed and what the draw is for."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed for one purpose, e.g. ``derive(3, "mask", "conv1.weight")``.

    Distinct purposes get unrelated streams, so that adding a layer or a draw never shifts the others.
    """
    text = "\x1f".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *purpose: object) -> torch.Generator:
    """A CPU generator for one purpose. Always on the CPU: a GPU's stream would give other masks."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


@contextmanager
def isolated(seed: int, *purpose: object) -> Iterator[None]:
    """Run a block under its own global seed; the global states of torch, random and numpy come back as they were."""
    state = random.getstate()
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy is not None else None
    with torch.random.fork_rng(devices=_cuda_devices()):
        reseed(seed, *purpose)
        try:
            yield
        finally:
            random.setstate(state)
            if numpy is not None:
                numpy.random.set_state(numpy_state)


def reseed(seed: int, *purpose: object) -> None:
    """Seed the global generators of torch, random and numpy for one purpose, for good."""
    value = derive(seed, *purpose)
    torch.manual_seed(value)
    random.seed(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(value % 2**32)


def _cuda_devices() -> list[int]:
    """Devices whose random state must be kept; none where CUDA was never started, as asking would start it."""
    return list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
