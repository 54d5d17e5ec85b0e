"""Bounds on the error, at the end of training, of a mask drawn before it, and the price of leaving the data out.

The mask is drawn with the best probabilities for the initial weights, ``p0_i = |x_i| |w0_i| / Z0``. All of this is
derived here; the constants of the paper (Bar & Giryes 2023) are not known to us. Each bound but "mixture" grows with
``1 / |w0_i|``, whose mean over Gaussian initialisations is infinite: they hold for the weights at hand, not on average.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ticketlab.errors import InputError
from ticketlab.sketch.expected import optimal_error, product_energy
from ticketlab.sketch.probabilities import check_draws, check_product, check_rows, column_norms, from_scores


def ratio_bound(X: Tensor, w0: Tensor, w_end: Tensor, s: int) -> Tensor:
    """``(1/s) (max_i r_i^2 Z0^2 - |X w_end|^2)`` with ``r_i = |w_end_i| / |w0_i|``."""
    norms = _checked_norms(X, w0, w_end, s)
    largest = _over(w_end.abs(), w0.abs(), norms).amax(-1)
    return ((largest * (norms * w0.abs()).sum(-1)).square() - product_energy(X, w_end)) / s


def relative_bound(X: Tensor, w0: Tensor, w_end: Tensor, s: int, delta: float) -> Tensor:
    """``((1 + delta)^2 Z0^2 - |X w_end|^2) / s`` where no weight moved by more than ``delta`` of itself.

    Raises:
        InputError: a weight moved further.
    """
    norms = _checked_norms(X, w0, w_end, s)
    most = float(_over((w_end - w0).abs(), w0.abs(), norms).max())
    # What was moved by exactly delta may have been rounded up.
    if not most <= delta + 16 * torch.finfo(w0.dtype).eps * (1 + delta):
        raise InputError(
            f"asked for weights that move by at most {delta:g} of themselves, got one that moves {most:g}."
        )
    return ((1 + max(delta, most)) ** 2 * (norms * w0.abs()).sum(-1).square() - product_energy(X, w_end)) / s


def near_optimality_bound(X: Tensor, w0: Tensor, w_end: Tensor, s: int) -> Tensor:
    """``(1/s) (Z*^2 / beta - |X w_end|^2)`` with ``beta = min_i p0_i / p*_i``.

    DKM call such ``p0`` nearly optimal.
    """
    norms = _checked_norms(X, w0, w_end, s)
    # Z*^2 / beta is Z* Z0 max_i r_i, which needs no division by a Z* that may be zero.
    largest = _over(w_end.abs(), w0.abs(), norms).amax(-1)
    leading = largest * (norms * w0.abs()).sum(-1) * (norms * w_end.abs()).sum(-1)
    return (leading - product_energy(X, w_end)) / s


def movement_bound(X: Tensor, w0: Tensor, w_end: Tensor, s: int) -> Tensor:
    """``2 err(w0) + (2/s) (Z0 sum_i |x_i| D_i^2 / |w0_i| - |X D|^2)`` with ``D = w_end - w0``."""
    norms = _checked_norms(X, w0, w_end, s)
    moved = w_end - w0
    cost = (norms * w0.abs()).sum(-1) * (norms * moved.abs() * _over(moved.abs(), w0.abs(), norms)).sum(-1)
    return 2 * optimal_error(X, w0, s) + 2 / s * (cost - product_energy(X, moved))


def mixture_bound(X: Tensor, w_end: Tensor, s: int, share: float) -> Tensor:
    """``(1/(share s)) (sum_j |x_j|) sum_i |x_i| w_end_i^2``, finite for every initialisation.

    For masks drawn with ``(1 - share) p0 + share |x_i| / sum_j |x_j|``, whatever ``p0`` is.
    """
    check_product(X, w_end)
    check_draws(s)
    if not 0 < share <= 1:
        raise InputError(f"asked to mix in a share of {share}, got no share: it needs 0 < share <= 1.")
    norms = column_norms(X)
    return norms.sum() * (norms * w_end.square()).sum(-1) / (share * s)


class Bounds(NamedTuple):
    """The four bounds, in the units of the error."""

    ratio: Tensor
    near_optimality: Tensor
    movement: Tensor
    mixture: Tensor


def bounds(X: Tensor, w0: Tensor, w_end: Tensor, s: int, share: float = 0.1) -> Bounds:
    """All bounds: of masks drawn with the best probabilities for ``w0``, "mixture" of those mixed with ``share``."""
    return Bounds(
        ratio_bound(X, w0, w_end, s),
        near_optimality_bound(X, w0, w_end, s),
        movement_bound(X, w0, w_end, s),
        mixture_bound(X, w_end, s, share),
    )


def data_free_price(X: Tensor, w: Tensor) -> Tensor:
    """``1 + CV^2``: what drawing by ``|w_i|`` alone multiplies the leading term of the best error with, exactly.

    CV is the coefficient of variation of the column lengths ``|x_i|`` under the weights ``|w_i| / sum |w|``. Where all
    columns are equally long, leaving out the data costs nothing.
    """
    norms, share = _columns_and_shares(X, w)
    return (share * norms.square()).sum(-1) / (share * norms).sum(-1).square()


def worst_data_free_price(X: Tensor, w: Tensor) -> Tensor:
    """``1 / beta`` with ``beta`` the weighted mean column length over the largest: a bound on the price."""
    norms, share = _columns_and_shares(X, w)
    return 1 / (share * norms).sum(-1)


def _columns_and_shares(X: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Column lengths over the largest, (d,), and ``|w_i| / sum |w|``, (..., d); with them go all units."""
    check_product(X, w)
    norms = column_norms(X)
    if not bool(((norms * (w != 0)) > 0).any(-1).all()):
        raise InputError("asked for the price of leaving out the data, got a product that is zero in every coordinate.")
    return norms / norms.max(), from_scores(w.abs(), "weights")


def _checked_norms(X: Tensor, w0: Tensor, w_end: Tensor, s: int) -> Tensor:
    """The column lengths of X, after checking the input."""
    check_product(X, w0)
    check_product(X, w_end)
    check_rows(w0=w0, w_end=w_end)
    check_draws(s)
    return column_norms(X)


def _over(value: Tensor, by: Tensor, norms: Tensor) -> Tensor:
    """``value / by`` where the data is not zero; what the mask never draws must not matter at the end."""
    value = value * (norms > 0)
    lost = int(((by == 0) & (value > 0)).sum())
    if lost:
        raise InputError(
            f"asked for a bound at the end of training, got {lost} coordinates that matter there and have "
            "probability zero at the start."
        )
    return value / by.where(by > 0, torch.ones_like(by))
