"""Where linear models end: on the way from the start to the closed form, and after steps of gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from ticketlab.sketch.expected import product_energy
from ticketlab.sketch.linear import Regression, closed_form, gradient_descent, movement


@dataclass(frozen=True)
class End:
    """An end point: where it is and how good.

    ``movement``: rms, in units of the initial standard deviation. ``energy``: ``|X w|^2``, the error of predicting
    zero. ``loss``: mean squared error per example and model. ``steps``: of gradient descent, None for the closed form.
    """

    name: str
    distance: float | None
    steps: int | None
    movement: float
    energy: float
    loss: float


def end_points(
    problem: Regression, w0: Tensor, distances: Iterable[float], steps: int, std: float
) -> list[tuple[End, Tensor]]:
    """End points with their weights (models, d): the start, ``w0 + t (w* - w0)`` for every distance, and descent's.

    Args:
        w0: (models, d).
        distances: shares ``t`` of the way to the closed form ``w*``.
        steps: of gradient descent, 0 for none.
        std: of the weights at the start, the unit of movement.
    """
    solved = closed_form(problem, w0)
    # The start itself is always there: it is what the others are compared with.
    found: list[tuple[str, float | None, int | None, Tensor]] = [
        (_named(t), t, None, w0 + t * (solved - w0)) for t in sorted({0.0, *distances})
    ]
    if steps:
        w, taken = gradient_descent(problem, w0, steps)
        found.append((f"gradient descent, {taken:,} steps", None, taken, w))
    return [
        (
            End(
                name,
                distance,
                taken,
                movement(w0, w, std),
                float(product_energy(problem.X, w).sum()),
                float(problem.loss(w).mean()),
            ),
            w,
        )
        for name, distance, taken, w in found
    ]


def _named(distance: float) -> str:
    return {0.0: "start", 1.0: "closed form"}.get(distance, f"{distance:g} of the way")
