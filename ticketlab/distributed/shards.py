"""Sharded data, put together again in the order of one process."""

from __future__ import annotations

from collections.abc import Iterable

from ticketlab.distributed.ranks import exchange, rank, together, world
from ticketlab.distributed.values import broadcast_value, checked
from ticketlab.scoring import Batch


def gathered(batches: Iterable[Batch] | None) -> list[Batch]:
    """On rank 0 the batches of all ranks, in the order that one process would read them; none on the others.

    Rank ``r`` of ``W`` holds batches ``r``, ``r + W``, ... of the whole, as ``batches[r::W]`` does. Their turns go on
    without a rank that has no more, so shards may be uneven or empty. Batches keep their sizes, types and bits; what
    rank 0 got from others is on the CPU. One batch at a time is under way.

    Args:
        batches: of this rank: ``(inputs, targets)``, each a tensor, or tuples, lists or dicts of tensors.

    Raises:
        InputError: on all ranks, if one rank's batches cannot be read or sent.
    """
    given = batches if batches is not None else []
    if world() == 1:
        return list(given)
    step = "their batches"
    mine = together(step, lambda: [checked(batch, f"batch {i} of rank {rank()}") for i, batch in enumerate(given)])
    counts = [int(count) for count in exchange(step, str(len(mine)))]
    found = []
    for turn in range(max(counts)):
        for source in (r for r, count in enumerate(counts) if turn < count):
            batch = broadcast_value(mine[turn] if source == rank() else None, source)
            if rank() == 0:
                found.append(batch)
    return found
