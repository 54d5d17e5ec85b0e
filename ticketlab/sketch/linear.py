"""Linear models that the theory is tried on: their data, where they start and where their training ends.

One model a class, ``+1`` for its examples and ``-1`` for all others, all of them on the same data and at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ticketlab import seeding
from ticketlab.errors import InputError

# Numbers of a float64 matrix that is factorised in memory: 2 GB.
_MOST = 1 << 28


@dataclass(frozen=True, eq=False)
class Regression:
    """Least squares in float64: ``X`` (rows, d), targets ``Y`` (models, rows).

    ``examples``: how many rows the data had before they were turned (see :func:`regression`). ``rest``: (models,), the
    squared length of the targets that no weights can reach.
    """

    X: Tensor
    Y: Tensor
    examples: int
    rest: Tensor

    def loss(self, w: Tensor) -> Tensor:
        """The mean squared error over the examples, (models, d) -> (models,)."""
        return ((w @ self.X.mT - self.Y).square().sum(-1) + self.rest) / self.examples

    def gradient(self, w: Tensor) -> Tensor:
        """Of half the mean squared error, (models, d)."""
        return (w @ self.X.mT - self.Y) @ self.X / self.examples


def features(inputs: Tensor, standardise: bool) -> Tensor:
    """Examples as rows in float64, (n, ...) -> (n, d); uint8 pixels become [0, 1].

    With ``standardise`` every column is centred and scaled to variance 1; a constant column becomes zero.

    Raises:
        InputError: more numbers than a matrix in memory should have.
    """
    if inputs.numel() > _MOST:
        each = inputs[0].numel()
        raise InputError(
            f"asked for linear models of {len(inputs):,} examples of {each:,} numbers, got more than the {_MOST:,} "
            f"numbers that are factorised in memory. Use --limit-train {_MOST // each} or fewer."
        )
    X = inputs.flatten(1).double() / (1 if inputs.is_floating_point() else 255)
    if not standardise:
        return X
    X = X - X.mean(0)
    spread = X.square().mean(0).sqrt()
    # What rounding leaves of a constant column is no spread.
    constant = spread <= 1e-12 * spread.max()
    return torch.where(constant, torch.zeros_like(X), X / spread.where(~constant, torch.ones_like(spread)))


def targets(labels: Tensor, classes: Sequence[int]) -> Tensor:
    """+1 for the class and -1 for the others, a row for each of ``classes``: (n,) -> (models, n).

    Raises:
        InputError: a class without examples, or one named twice.
    """
    known = sorted(set(labels.tolist()))
    missing = [c for c in classes if c not in known]
    if missing or not classes:
        asked = ", ".join(map(str, missing)) or "no class"
        raise InputError(f"asked for a linear model of {asked}, got examples of {', '.join(map(str, known))}.")
    if len(set(classes)) < len(classes):
        raise InputError(f"asked for one model a class, got a class named twice: {', '.join(map(str, classes))}.")
    return torch.stack([torch.where(labels == c, 1.0, -1.0) for c in classes]).double()


def regression(X: Tensor, Y: Tensor) -> Regression:
    """Least squares of ``X`` (n, d) on ``Y`` (models, n), with at most ``d`` rows.

    The theory, the end points and the gradients see the data through lengths and products alone, which an orthogonal
    turn of the rows keeps: beyond the ``d``-th, all rows of ``X`` can be turned to zero.

    Raises:
        InputError: X is zero.
    """
    if not bool((X != 0).any()):
        raise InputError("asked for linear models, got data that are zero in every coordinate.")
    n, d = X.shape
    if n <= d:
        return Regression(X, Y, n, torch.zeros(len(Y), dtype=X.dtype))
    turned = torch.linalg.qr(torch.cat([X, Y.mT], dim=1), mode="r").R
    return Regression(turned[:d, :d].contiguous(), turned[:d, d:].mT.contiguous(), n, turned[d:, d:].square().sum(0))


def start(classes: Sequence[int], size: int, std: float, seed: int) -> Tensor:
    """Gaussian weights, (models, size); those of a class do not depend on which others there are."""
    generators = [seeding.generator(seed, "sketch start", c) for c in classes]
    return std * torch.stack([torch.randn(size, generator=g, dtype=torch.float64) for g in generators])


def closed_form(problem: Regression, w0: Tensor) -> Tensor:
    """``w0 + X^+ (y - X w0)``: of all least-squares solutions the nearest to ``w0``, (models, d) -> (models, d).

    Gradient descent from ``w0`` ends there when it is given forever.
    """
    wanted = (problem.Y - w0 @ problem.X.mT).mT
    # By singular values: columns may depend on each other, and a pixel that is always black is a column of zeros.
    change: Tensor = torch.linalg.lstsq(problem.X, wanted, driver="gelsd").solution.mT
    return w0 + change


def gradient_descent(problem: Regression, w0: Tensor, steps: int) -> tuple[Tensor, int]:
    """Full-batch gradient descent from ``w0`` at the rate ``1 / L``, and how many steps it took.

    It stops early where the gradient has shrunk to rounding. ``L`` is the largest curvature of the loss.
    """
    curvature = torch.linalg.matrix_norm(problem.X, 2).square() / problem.examples
    w, first = w0, float(problem.gradient(w0).norm())
    for step in range(steps):
        gradient = problem.gradient(w)
        if float(gradient.norm()) <= 1e-12 * first:
            return w, step
        w = w - gradient / curvature
    return w, steps


def movement(w0: Tensor, w_end: Tensor, std: float) -> float:
    """How far weights are from where they started, root mean square over all of them, in units of ``std``."""
    return float((w_end - w0).square().mean().sqrt()) / std
