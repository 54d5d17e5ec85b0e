"""The exact expected error of a sketch: no sampling, one formula (Drineas, Kannan & Mahoney 2006, lemma 3).

A sketch of ``X w`` draws ``s`` coordinates with probabilities ``p`` and replacement; the mask holds
``m_i = c_i / (s p_i)`` for a coordinate drawn ``c_i`` times, so that ``X (m * w)`` has the mean ``X w``. "Error" is the
squared length of ``X (m * w) - X w`` throughout.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ticketlab.errors import InputError
from ticketlab.sketch.probabilities import (
    check_draws,
    check_finite,
    check_inclusion,
    check_product,
    check_rows,
    checked,
    column_norms,
    from_scores,
    lengths,
    to_one,
)


def expected_error(X: Tensor, w: Tensor, p: Tensor, s: int) -> Tensor:
    """``(1/s) (sum_i |x_i|^2 w_i^2 / p_i - |X w|^2)``: the expected error of ``s`` draws, exactly (DKM 2006).

    Args:
        X: (n, d). w: (..., d). p: (..., d), probabilities of one draw. s: the number of draws.

    Returns:
        (...), in squared units of ``X w``.

    Raises:
        InputError: shapes that do not fit, NaN, s < 1, or a zero probability where a weight matters.
    """
    check_product(X, w)
    check_draws(s)
    p = checked(p, X.shape[1])
    check_rows(w=w, p=p)
    return _remaining(_leading(column_norms(X) * w.abs(), p), product_energy(X, w), s)


def optimal_error(X: Tensor, w: Tensor, s: int) -> Tensor:
    """``(1/s) ((sum_i |x_i| |w_i|)^2 - |X w|^2)``: the least that any probabilities reach (DKM 2006, lemma 4)."""
    check_product(X, w)
    check_draws(s)
    return _remaining((column_norms(X) * w.abs()).sum(-1).square(), product_energy(X, w), s)


def error_variance(X: Tensor, w: Tensor, p: Tensor, s: int) -> Tensor:
    """The variance of one mask's error around :func:`expected_error`, exactly (derived here).

    With ``Y`` one draw's deviation ``x_i w_i / p_i - X w`` and ``C`` its covariance, the error is ``|sum_t Y_t|^2``
    over ``s^2``; the terms are uncorrelated, so it varies by ``Var |Y|^2 / s^3 + 2 (s - 1) |C|_F^2 / s^3``. Use it for
    the standard error of a measurement: one estimated from masks is far too small where heavy coordinates are hardly
    ever drawn.

    Returns:
        (...), in the fourth power of the units of ``X w``.
    """
    return variance_of(draw_spread(X, w, p), check_draws(s))


class Spread(NamedTuple):
    """What one draw's deviation ``Y`` is like, for any number of draws: ``Var |Y|^2`` and ``|Cov Y|_F^2``, (...)."""

    lengths: Tensor
    covariance: Tensor


def variance_of(spread: Spread, s: int) -> Tensor:
    """:func:`error_variance` of ``s`` draws, from what is the same for any number of them."""
    return (spread.lengths + 2 * (s - 1) * spread.covariance) / float(s) ** 3


def draw_spread(X: Tensor, w: Tensor, p: Tensor) -> Spread:
    """The part of :func:`error_variance` that takes long, and that no number of draws changes."""
    check_product(X, w)
    p = checked(p, X.shape[1])
    check_rows(w=w, p=p)
    check_reached(column_norms(X) * w.abs(), p)
    shape = torch.broadcast_shapes(w.shape, p.shape)
    rows = zip(w.expand(shape).reshape(-1, shape[-1]), p.expand(shape).reshape(-1, shape[-1]), strict=True)
    lengths, covariance = zip(*(_spread(X, one, odds) for one, odds in rows), strict=True)
    return Spread(torch.stack(lengths).view(shape[:-1]), torch.stack(covariance).view(shape[:-1]))


def _spread(X: Tensor, w: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    used = p > 0
    p, draws = p[used], (X * w)[:, used] / p[used]
    away = draws - (X @ w)[:, None]
    lengths = away.square().sum(0)
    covariance = (away * p) @ away.mT
    return (p * (lengths - (p * lengths).sum()).square()).sum(), covariance.square().sum()


class EndError(NamedTuple):
    """The expected error of a mask that was drawn before training, at the end of training: optimal + excess."""

    total: Tensor
    optimal: Tensor
    excess: Tensor


def error_at(X: Tensor, w_end: Tensor, p0: Tensor, s: int) -> EndError:
    """The expected error at ``w_end`` of masks drawn with ``p0``, which knew other weights (derived here).

    Exactly ``optimal + excess``: what the best probabilities for ``w_end`` would leave, and the price of having chosen
    before, ``(Z^2/s) chi2(p* || p0)`` with ``p*_i = |x_i| |w_end_i| / Z`` and ``chi2 = sum p*_i^2 / p0_i - 1``. The
    end point must not depend on the mask: it is that of the dense net. Of a retrained ticket this says nothing.

    Raises:
        InputError: as :func:`expected_error`.
    """
    check_product(X, w_end)
    check_draws(s)
    p0 = checked(p0, X.shape[1])
    check_rows(w_end=w_end, p0=p0)
    a = column_norms(X) * w_end.abs()
    check_reached(a, p0)
    total = a.sum(-1, keepdim=True)
    # As sum (Z p* - Z p0)^2 / p0 it is never negative by rounding. Where p0 is zero, so is p*.
    gap = a - total * p0
    excess = (gap * (gap / p0.where(p0 > 0, torch.ones_like(p0)))).sum(-1) / s
    optimal = _remaining(total.squeeze(-1).square(), product_energy(X, w_end), s)
    return EndError(optimal + excess, optimal, excess)


def expected_error_over_data(second_moment: Tensor, w: Tensor, p: Tensor, s: int, rows: int) -> Tensor:
    """``(n/s) (sum_i v_i w_i^2 / p_i - w^T S w)``: averaged over random data as well (derived here).

    Args:
        second_moment: of a row of X: ``S`` (d, d), or its diagonal ``v`` (d,) for uncorrelated columns of mean zero.
        w: (..., d). p: (..., d). s: draws. rows: how many rows X has.
    """
    check_draws(s)
    check_draws(rows, "rows")
    full = second_moment.ndim == 2
    if second_moment.ndim not in (1, 2) or (full and second_moment.shape[0] != second_moment.shape[1]):
        raise InputError(f"asked for second moments (d, d) or (d,), got {tuple(second_moment.shape)}.")
    variances = second_moment.diagonal() if full else second_moment
    check_product(variances[None], w)
    check_finite(second_moment, "second moments")
    if bool((variances < 0).any()):
        raise InputError(f"asked for second moments, got a negative one, {float(variances.min()):g}.")
    p = checked(p, w.shape[-1])
    check_rows(w=w, p=p)
    length = ((w @ second_moment) * w).sum(-1) if full else (variances * w.square()).sum(-1)
    return rows * _remaining(_leading(variances.sqrt() * w.abs(), p), length, s)


def product_probabilities(A: Tensor, B: Tensor) -> Tensor:
    """The best probabilities for a sketch of ``A B``: ``|A_i| |B_i|`` by columns of A and rows of B (DKM 2006)."""
    _check_matrices(A, B)
    return from_scores(to_one(column_norms(A)) * to_one(lengths(B, -1)), "the matrices")


def product_error(A: Tensor, B: Tensor, p: Tensor, s: int) -> Tensor:
    """``(1/s) (sum_i |A_i|^2 |B_i|^2 / p_i - |A B|_F^2)``: the expected squared Frobenius error (DKM 2006, lemma 3).

    Args:
        A: (n, d). B: (..., d, q). p: (..., d). s: draws of column-row pairs, with replacement.
    """
    _check_matrices(A, B)
    check_draws(s)
    p = checked(p, A.shape[1])
    check_rows(B=B[..., 0], p=p)
    pairs = column_norms(A) * lengths(B, -1)
    return _remaining(_leading(pairs, p), (A @ B).square().sum((-2, -1)), s)


def optimal_product_error(A: Tensor, B: Tensor, s: int) -> Tensor:
    """``(1/s) ((sum_i |A_i| |B_i|)^2 - |A B|_F^2)``, the least that any probabilities reach."""
    _check_matrices(A, B)
    check_draws(s)
    pairs = column_norms(A) * lengths(B, -1)
    return _remaining(pairs.sum(-1).square(), (A @ B).square().sum((-2, -1)), s)


def kernel_probabilities(J: Tensor) -> Tensor:
    """``|j_i|^2 / |J|_F^2``: the best for a sketch of the tangent kernel ``J J^T`` (derived here).

    Args:
        J: the Jacobian of the outputs (examples and classes) in the weights, (n, d).
    """
    return product_probabilities(J, _transposed(J))


def kernel_error(J: Tensor, p: Tensor, s: int) -> Tensor:
    """``(1/s) (sum_i |j_i|^4 / p_i - |J J^T|_F^2)``: the expected error of ``J diag(m) J^T`` (derived here)."""
    return product_error(J, _transposed(J), p, s)


def _transposed(J: Tensor) -> Tensor:
    if J.ndim != 2:
        raise InputError(f"asked for a Jacobian (n, d), got {tuple(J.shape)}.")
    return J.mT


def poisson_error(X: Tensor, w: Tensor, inclusion: Tensor) -> Tensor:
    """``sum_i |x_i|^2 w_i^2 (1 - q_i) / q_i``: the expected error of a rescaled Poisson mask, exactly, for any data.

    Coordinates are kept independently with probability ``q_i`` (..., d), so their errors add up.

    Raises:
        InputError: shapes that do not fit, a ``q_i`` outside [0, 1], or zero for a coordinate that matters.
    """
    check_product(X, w)
    check_inclusion(inclusion)
    if inclusion.ndim == 0 or inclusion.shape[-1] != X.shape[1]:
        raise InputError(f"asked to sketch {X.shape[1]} coordinates, got inclusion {tuple(inclusion.shape)}.")
    check_rows(w=w, inclusion=inclusion)
    a = column_norms(X) * w.abs()
    check_reached(a, inclusion)
    return (a * (a * (1 - inclusion) / inclusion.where(a > 0, torch.ones_like(a)))).sum(-1)


class Shrunk(NamedTuple):
    """The factor that an unbiased sketch is best multiplied with, and the error that is left."""

    factor: Tensor
    error: Tensor


def best_shrinkage(X: Tensor, w: Tensor, error: Tensor) -> Shrunk:
    """``F / (F + V)`` with ``F = |X w|^2``, for an unbiased sketch of expected error ``V``; ``F V / (F + V)`` is left.

    Of a product that is zero without error, nothing needs to be shrunk: the factor is 1.
    """
    check_product(X, w)
    check_finite(error, "errors")
    if bool((error < 0).any()):
        raise InputError(f"asked for the shrinkage of expected errors, got a negative one, {float(error.min()):g}.")
    energy = product_energy(X, w)
    total = energy + error
    factor = torch.where(total > 0, energy / total.where(total > 0, torch.ones_like(total)), torch.ones_like(total))
    return Shrunk(factor, factor * error)


def product_energy(X: Tensor, w: Tensor) -> Tensor:
    """``|X w|^2``, (...)."""
    return (w @ X.mT).square().sum(-1)


def check_reached(amplitudes: Tensor, p: Tensor) -> None:
    """Refuse a zero probability where ``|x_i| |w_i|`` is not zero: no draw would ever find that coordinate."""
    missed = int(((amplitudes > 0) & (p <= 0)).sum())
    if missed:
        raise InputError(
            f"asked for positive probabilities where weights matter, got zero for {missed} of them. "
            "Mix in a uniform share."
        )


def _leading(amplitudes: Tensor, p: Tensor) -> Tensor:
    """``sum_i a_i^2 / p_i`` over the coordinates that matter."""
    check_reached(amplitudes, p)
    # Not by the square, which would vanish for tiny weights before a tiny probability makes up for it.
    return (amplitudes * (amplitudes / p.where(p > 0, torch.ones_like(p)))).sum(-1)


def _remaining(leading: Tensor, energy: Tensor, s: int) -> Tensor:
    """The variance ``(leading - energy) / s``, which rounding must not make negative."""
    return (leading - energy).clamp_min(0) / s


def _check_matrices(A: Tensor, B: Tensor) -> None:
    if B.ndim < 2:
        raise InputError(f"asked for A (n, d) and B (..., d, q), got A {tuple(A.shape)} and B {tuple(B.shape)}.")
    check_product(A, B.mT)
