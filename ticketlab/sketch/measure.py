"""The error of a sketch, measured over many random masks at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ticketlab import seeding
from ticketlab.errors import InputError
from ticketlab.sketch.draws import Draws
from ticketlab.sketch.expected import check_reached
from ticketlab.sketch.probabilities import check_draws, check_finite, check_product, checked, column_norms

# What is held at once about fits the processor's cache: this many draws, or numbers of the drawn columns.
_INDICES = 1 << 17
_NUMBERS = 1 << 19
_CACHE = 1 << 21


class Measured(NamedTuple):
    """A mean over masks, its standard error, and how many masks it is over."""

    mean: float
    standard_error: float
    masks: int


def measured_error(
    X: Tensor, w: Tensor, p: Tensor, s: int, masks: int, generator: torch.Generator | None = None
) -> Measured:
    """The mean of ``|X (m * w) - X w|^2`` over ``masks`` rescaled masks of ``s`` draws with replacement.

    Masks are never laid out: a mask's product is the sum of the ``s`` drawn columns, ``x_i w_i / (s p_i)``.

    Args:
        X: (n, d). w: (d,). p: (d,), probabilities of one draw.
        masks: at least 2, for a standard error.

    Raises:
        InputError: shapes that do not fit, NaN, s < 1, a zero probability where a weight matters, fewer than 2 masks.
    """
    if check_draws(masks, "masks") < 2:
        raise InputError(f"asked for a mean with its standard error, got {masks} masks. Use 2 or more.")
    return mean_of(torch.cat(list(sketch_errors(X, w, p, s, masks, generator))))


def mean_of(errors: Tensor) -> Measured:
    """The mean of independent errors (masks,) with its standard error."""
    if errors.numel() < 2:
        raise InputError(f"asked for a mean with its standard error, got {errors.numel()} masks. Use 2 or more.")
    errors = errors.double()
    return Measured(float(errors.mean()), float(errors.std() / len(errors) ** 0.5), len(errors))


def sketch_errors(
    X: Tensor, w: Tensor, p: Tensor, s: int, masks: int, generator: torch.Generator | None = None
) -> Iterator[Tensor]:
    """The errors of ``masks`` masks one after the other, in pieces (masks of the piece,).

    Bad input raises at once, not with the first piece.
    """
    check_product(X, w)
    s, masks = check_draws(s), check_draws(masks, "masks")
    if w.ndim != 1 or p.ndim != 1:
        raise InputError(f"asked to measure one sketch, got w {tuple(w.shape)} and p {tuple(p.shape)} instead of (d,).")
    p = checked(p.detach(), len(w))
    check_reached(column_norms(X.detach()) * w.detach().abs(), p)
    generator = generator if generator is not None else seeding.generator(0, "sketch")
    return _pieces(X.detach(), w.detach(), p, s, masks, Draws(p, masks * s, generator))


def _pieces(X: Tensor, w: Tensor, p: Tensor, s: int, masks: int, draws: Draws) -> Iterator[Tensor]:
    # Lengths are all that counts, so n > d rows may be turned into d.
    rows = torch.linalg.qr(X, mode="r").R if X.shape[0] > X.shape[1] else X
    columns = ((rows * w) / (s * p.where(p > 0, torch.ones_like(p)))).to(X.dtype).mT.contiguous()
    target = rows @ w
    counted = _counting_is_faster(columns, s)
    if counted:
        at_once = max(1, _NUMBERS // max(s, len(columns)))
    else:
        at_once = max(1, (_INDICES if X.dtype == torch.float32 else _NUMBERS // len(rows)) // s)
    for start in range(0, masks, at_once):
        size = min(at_once, masks - start)
        index = draws.take(size * s).to(X.device).view(size, s)
        sums = _counts(index, len(columns)).to(columns) @ columns if counted else _sums(columns, index)
        yield (sums - target).square().sum(1)


def _counting_is_faster(columns: Tensor, s: int) -> bool:
    """Whether to multiply all columns with the counts or to add up the drawn ones, in rough measured nanoseconds."""
    d, n = columns.shape
    adding = s * n * (1 if columns.nbytes < _CACHE else 4)
    return adding > d * (10 + n / 4)


def _counts(index: Tensor, d: int) -> Tensor:
    """How often each mask drew each coordinate, (masks, d)."""
    places = index + torch.arange(0, len(index) * d, d, device=index.device)[:, None]
    return places.view(-1).bincount(minlength=len(index) * d).view(-1, d)


def _sums(columns: Tensor, index: Tensor) -> Tensor:
    """The sums of the drawn columns, (masks, s) -> (masks, n)."""
    if columns.dtype == torch.float32:
        return functional.embedding_bag(index, columns, mode="sum")
    # Torch's embedding_bag has no fast path for float64: laying out the columns takes a quarter of the time.
    return columns.index_select(0, index.view(-1)).view(*index.shape, -1).sum(1)


def mask_errors(X: Tensor, w: Tensor, masks: Tensor) -> Tensor:
    """``|X (m * w) - X w|^2`` of masks that are laid out, (masks, d) -> (masks,)."""
    check_product(X, w)
    if w.ndim != 1 or masks.ndim != 2 or masks.shape[1] != len(w):
        raise InputError(
            f"asked for w (d,) and masks (masks, d), got w {tuple(w.shape)} and masks {tuple(masks.shape)}."
        )
    change = masks.to(w) - 1
    check_finite(change, "masks")
    return (change * w @ X.mT).square().sum(1)
