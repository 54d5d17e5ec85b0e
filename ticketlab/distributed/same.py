"""One mask and one set of weights on all ranks, shown by their hashes."""

from __future__ import annotations

import torch
from torch import nn

from ticketlab.contents import tensors_digest
from ticketlab.distributed.ranks import agree, rank, together, world
from ticketlab.distributed.values import broadcast_value
from ticketlab.errors import InputError
from ticketlab.mask import Mask
from ticketlab.parameters import bare


def same_mask(mask: Mask | None = None) -> Mask:
    """Rank 0's mask on every rank: broadcast, one bit a weight, and compared by its hash.

    Args:
        mask: needed on rank 0. A rank that brings one of its own too must bring the same; ``None`` takes rank 0's.

    Raises:
        InputError: on all ranks, naming those that brought another mask or received another than was sent; or rank 0
            has none.
    """
    step = "mask"
    brought = together(step, lambda: _brought(mask))
    if world() == 1:
        return brought[0]
    agree(step, "".join(own.digest() for own in brought))
    sent = torch.frombuffer(bytearray(brought[0].to_bytes()), dtype=torch.uint8) if rank() == 0 else None
    content = broadcast_value(sent, 0)
    found = together(step, lambda: Mask.from_bytes(content.numpy().tobytes(), f"what rank {rank()} received"))
    agree("received mask", found.digest())
    return found


def same_weights(model: nn.Module) -> str:
    """The hash (hex) of the model's parameters, after comparing it between all ranks.

    Buffers are left out: batch-norm statistics differ between ranks until DistributedDataParallel copies those of
    rank 0. So are the prefixes that wrappers put before names.

    Raises:
        InputError: on all ranks, naming those whose parameters differ from those of rank 0.
    """
    step = "weights"
    digest = together(step, lambda: tensors_digest({bare(name): p for name, p in model.named_parameters()}))
    agree(step, digest)
    return digest


def _brought(mask: object) -> list[Mask]:
    """This rank's mask; empty if it has none, as every rank but the first may."""
    if isinstance(mask, Mask):
        return [mask]
    if mask is None and rank() > 0:
        return []
    raise InputError(f"asked for a Mask on rank {rank()}, got {'none' if mask is None else type(mask).__name__}.")
