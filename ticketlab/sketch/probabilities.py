"""Sampling probabilities: which coordinates a sketch of ``X w`` draws how often."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from ticketlab.errors import InputError, unknown

KINDS = ("optimal", "magnitude", "column-norm", "uniform", "snip", "synflow")


class NormalisedWarning(UserWarning):
    """Probabilities did not sum to one and were divided by their sum."""


def probabilities(X: Tensor, w: Tensor, kind: str | Mapping[str, float], *, grad: Tensor | None = None) -> Tensor:
    """How likely one draw of a sketch of ``X w`` takes each coordinate.

    - "optimal": ``|x_i| |w_i|`` over its sum, the smallest expected error (Drineas, Kannan & Mahoney 2006, lemma 4).
    - "magnitude": ``|w_i|``, the optimum where all columns are equally long, so without data (derived here).
    - "column-norm": ``|x_i|``, the data without the weights.
    - "uniform": ``1 / d``.
    - "snip": ``|w_i g_i|`` with ``g = dL/dw``; the optimum for the scalar ``<g, w>`` (SNIP's own normalisation).
    - "synflow": ``|w_i| dR/d|w_i|`` with ``R = 1^T |w|``, which for one linear output is ``|w_i|``.
    - a mixture, ``{"magnitude": 0.9, "uniform": 0.1}``: shares of several kinds.

    Args:
        X: the data, (n, d); column ``x_i`` belongs to ``w_i``.
        w: the weights, (..., d).
        grad: the loss's gradient at ``w``, (..., d), for "snip".

    Returns:
        (..., d), rows that sum to one.

    Raises:
        InputError: shapes that do not fit, NaN or infinity, an unknown kind, or scores that are all zero.
    """
    check_product(X, w)
    if isinstance(kind, Mapping):
        return _mixture(X, w, kind, grad)
    if kind not in KINDS:
        raise unknown("kind of probability", kind, KINDS)
    if kind == "snip":
        if grad is None:
            raise InputError("asked for the probabilities of snip, got no gradient. Pass grad=dL/dw.")
        if grad.shape != w.shape:
            raise InputError(f"asked for snip with weights {tuple(w.shape)}, got a gradient {tuple(grad.shape)}.")
        check_finite(grad, "gradients")
    scores = {
        "optimal": lambda: to_one(column_norms(X)) * to_one(w.abs()),
        "magnitude": lambda: w.abs(),
        "column-norm": lambda: column_norms(X).expand_as(w),
        "uniform": lambda: torch.ones_like(w),
        "snip": lambda: to_one(w.abs()) * to_one(_given(grad).abs()),
        "synflow": lambda: w.abs(),
    }[kind]()
    return from_scores(scores, f"{kind} scores")


def _mixture(X: Tensor, w: Tensor, shares: Mapping[str, float], grad: Tensor | None) -> Tensor:
    for name in shares:
        if name not in KINDS:
            raise unknown("kind of probability", name, KINDS)
    if any(not 0 <= share <= 1 for share in shares.values()) or not abs(sum(shares.values()) - 1) <= 1e-9:
        raise InputError(f"asked for a mixture with shares that sum to one, got {dict(shares)}.")
    parts = [share * probabilities(X, w, name, grad=grad) for name, share in shares.items() if share > 0]
    return torch.stack(parts).sum(0)


def from_scores(scores: Tensor, what: str = "scores") -> Tensor:
    """Scores, (..., d), none negative, divided by their sum.

    Raises:
        InputError: NaN or infinity, a negative score, or scores that are all zero.
    """
    check_finite(scores, what)
    if bool((scores < 0).any()):
        raise InputError(f"asked for probabilities from {what}, got negative ones, the least {float(scores.min()):g}.")
    if bool((scores.amax(-1) == 0).any()):
        raise InputError(f"asked for probabilities from {what}, got zeros only.")
    # The sum of huge scores would overflow, that of tiny ones would vanish.
    scaled = to_one(scores)
    return scaled / scaled.sum(-1, keepdim=True)


def checked(p: Tensor, size: int) -> Tensor:
    """Probabilities (..., size) divided by their sum; a warning tells if it was not one, up to rounding in float32.

    Raises:
        InputError: the wrong number of them, NaN, a negative one, or zeros only.
    """
    if p.ndim == 0 or p.shape[-1] != size or p.numel() == 0:
        raise InputError(f"asked to sketch {size} coordinates, got probabilities of shape {tuple(p.shape)}.")
    normalised = from_scores(p, "given probabilities")
    off = (p.detach().sum(-1, dtype=torch.float64) - 1).abs().reshape(-1)
    # Whoever made them in half precision did nothing wrong either.
    if bool((off > max(1e-6, 8 * torch.finfo(p.dtype).eps * size**0.5)).any()):
        total = float(p.detach().reshape(-1, size)[off.argmax()].sum(dtype=torch.float64))
        text = f"the probabilities sum to {total:.8g}, not to 1: divided by their sum."
        warnings.warn(text, NormalisedWarning, stacklevel=_level_of_the_caller())
    return normalised


def column_norms(X: Tensor) -> Tensor:
    """The lengths of the columns of X, (n, d) -> (d,)."""
    return lengths(X, 0)


def lengths(values: Tensor, dim: int) -> Tensor:
    """Euclidean lengths along a dimension, also where the squares would leave the range of the numbers."""
    largest: Tensor = torch.linalg.vector_norm(values, math.inf, dim=dim, keepdim=True)
    limits = torch.finfo(values.dtype)
    low, high = (limits.tiny / limits.eps) ** 0.5, (limits.max / values.shape[dim]) ** 0.5
    plain: Tensor = torch.linalg.vector_norm(values, dim=dim)
    if not bool(((largest > 0) & ((largest < low) | (largest > high))).any()):
        return plain
    scaled: Tensor = torch.linalg.vector_norm(values / largest.where(largest > 0, torch.ones_like(largest)), dim=dim)
    return largest.squeeze(dim) * scaled


def check_product(X: Tensor, w: Tensor) -> None:
    """Refuse data and weights that cannot be multiplied, or hold NaN."""
    if X.ndim != 2 or w.ndim == 0 or X.shape[1] != w.shape[-1]:
        raise InputError(f"asked for X (n, d) and w (..., d), got X {tuple(X.shape)} and w {tuple(w.shape)}.")
    if 0 in X.shape or w.numel() == 0:
        raise InputError(f"asked for X (n, d) and w (..., d), got no numbers: {tuple(X.shape)} and {tuple(w.shape)}.")
    check_finite(X, "data")
    check_finite(w, "weights")
    if (X.dtype, X.device) != (w.dtype, w.device):
        raise InputError(f"asked for X and w alike, got X {X.dtype} on {X.device} and w {w.dtype} on {w.device}.")


def check_rows(**tensors: Tensor) -> None:
    """Refuse tensors (..., d) whose leading dimensions do not fit together."""
    shapes = {name: tuple(values.shape) for name, values in tensors.items()}
    try:
        torch.broadcast_shapes(*shapes.values())
    except RuntimeError:
        named = " and ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(f"asked for rows that fit together, got {named}.") from None


def check_finite(values: Tensor, what: str) -> None:
    """Refuse values that are not real floating-point numbers, or hold NaN or infinity."""
    if not values.is_floating_point():
        raise InputError(f"asked for {what} as floating-point numbers, got {values.dtype}.")
    bad = int((~values.isfinite()).sum())
    if bad:
        raise InputError(f"asked for finite {what}, got {bad} NaN or infinite values out of {values.numel()}.")


def check_inclusion(q: Tensor) -> None:
    """Refuse inclusion probabilities outside [0, 1]."""
    check_finite(q, "inclusion probabilities")
    if bool(((q < 0) | (q > 1)).any()):
        raise InputError(f"asked for inclusion probabilities in [0, 1], got {float(q.min()):g} to {float(q.max()):g}.")


def check_draws(s: int, what: str = "draws") -> int:
    """A number of draws as a whole number; refuse one that is none."""
    try:
        whole = int(s)
    except (TypeError, ValueError, OverflowError):
        whole = 0
    if isinstance(s, bool) or whole != s or whole < 1:
        raise InputError(f"asked for {s} {what}, got no whole number from 1 on.")
    return whole


def to_one(values: Tensor) -> Tensor:
    """Divided by the largest of each row, so that products and sums stay within the range of the numbers."""
    largest = values.amax(-1, keepdim=True)
    return values / largest.where(largest > 0, torch.ones_like(largest))


def _given(grad: Tensor | None) -> Tensor:
    assert grad is not None
    return grad


def _level_of_the_caller() -> int:
    """The stack level of the code that called this package, for the function that called this one."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("ticketlab.sketch."):
        level, frame = level + 1, frame.f_back
    return level
