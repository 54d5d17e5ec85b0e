"""What pattern a mask has: hardware for sparsity takes some patterns and no others."""

from __future__ import annotations

from torch import Tensor

from ticketlab.mask import Mask

# Below this share, whole channels are an accident of a sparse mask.
_MOSTLY = 0.9


def structure_of(mask: Mask) -> str:
    """ "none" (nothing removed), "channels" (nearly all removed weights are whole units), "2:4" or "unstructured"."""
    if mask.kept == mask.total:
        return "none"
    removed = {name: ~kept.reshape(kept.shape[0], -1) for name, kept in mask.items() if kept.numel() and kept.ndim > 1}
    whole = sum(int(gone[gone.all(1)].sum()) for gone in removed.values())
    if whole >= _MOSTLY * (mask.total - mask.kept):
        return "channels"
    if removed and all(two_of_four(gone) for gone in removed.values() if gone.any()):
        return "2:4"
    return "unstructured"


def two_of_four(gone: Tensor) -> bool:
    """Whether of every four weights in a row (units, weights) exactly two are removed."""
    rows, columns = gone.shape
    return columns % 4 == 0 and bool((gone.reshape(rows, columns // 4, 4).sum(2) == 2).all())
