"""prune, for ranks that hold a share of the data each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from ticketlab import pruning
from ticketlab.distributed.ranks import agree, rank, together, world
from ticketlab.distributed.same import same_mask, same_weights
from ticketlab.distributed.shards import gathered
from ticketlab.errors import InputError
from ticketlab.mask import Mask
from ticketlab.methods import Method
from ticketlab.scoring import Batch, ScoreFunction, name_of


def prune(
    model: nn.Module,
    method: str | Method | ScoreFunction,
    sparsity: float,
    *,
    data: Iterable[Batch] | None = None,
    **asked: Any,
) -> Mask:
    """The mask that :func:`ticketlab.prune` finds in one process with all of the data, on every rank.

    Rank 0 gathers the batches (see :func:`gathered`) and scores; the others wait and get its mask, compared by hash.
    So any method and any score of your own gives the single process's mask, bit for bit: batches stay whole and in
    order, and no sum is split. Scoring takes as long and rank 0 as much memory as in one process. A score must not
    talk to other ranks.

    Args:
        model: the same parameters on every rank; buffers (batch-norm statistics) are those of rank 0.
        data: this rank's batches, ``batches[rank::world]`` of the whole.
        asked: everything else that :func:`ticketlab.prune` takes, the same on every rank.

    Warns:
        EmptyLayerWarning: on rank 0, as :func:`ticketlab.prune` does.

    Raises:
        InputError: on all ranks, if the ranks ask for different things, their parameters differ, or rank 0's pruning or
            any rank's data fail. (The rank that failed raises what it met.)
    """
    if world() > 1:
        agree("arguments of prune", _in_words({"method": method, "sparsity": sparsity, **asked}))
        same_weights(model)
        together("a model to score", lambda: _check_scores_alone(model))
    batches = gathered(data)

    def find() -> Mask | None:
        return pruning.prune(model, method, sparsity, data=batches, **asked) if rank() == 0 else None

    return same_mask(together("a mask", find))


def _in_words(asked: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_word(value)}" for name, value in asked.items())


def _word(value: Any) -> str:
    """What can be compared between processes: functions only by their name."""
    if isinstance(value, Mask):
        return value.digest()
    if isinstance(value, Method):
        return value.name
    return name_of(value) if callable(value) else repr(value)


def _check_scores_alone(model: nn.Module) -> None:
    found = next((n for n, m in model.named_modules() if isinstance(m, nn.SyncBatchNorm)), None)
    if found is not None:
        raise InputError(
            f"asked to score on rank 0 alone, got a SyncBatchNorm ({found!r}), which waits for the other ranks. "
            "Prune first, then convert_sync_batchnorm."
        )
