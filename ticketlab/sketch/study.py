"""The theory on data: masks drawn where linear models start, measured where their training ends, beside the formulas.

All models are taken together: an error is the sum over the models, each with a mask of its own, and so are energies,
formulas and bounds. Sums of exact expectations are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ticketlab.errors import InputError
from ticketlab.sketch.binary import Binary, binary_masks
from ticketlab.sketch.cells import Cell, Kind, cells_of
from ticketlab.sketch.ends import End, end_points
from ticketlab.sketch.linear import Regression, start
from ticketlab.sketch.price import Price, prices
from ticketlab.sketch.probabilities import column_norms, probabilities


@dataclass(frozen=True)
class Plan:
    """What is studied.

    ``kinds``: probabilities by their label. ``draws``: numbers of draws. ``distances``: shares ``t`` of the way from
    the start to the end of training. ``steps``: of gradient descent, 0 for none. ``masks``: to each model in each cell.
    ``std``: of the weights at the start.
    """

    kinds: Mapping[str, Kind]
    draws: tuple[int, ...]
    distances: tuple[float, ...]
    classes: tuple[int, ...]
    steps: int
    masks: int
    std: float
    seed: int


@dataclass(frozen=True)
class Study:
    """All that was found. Errors are squared lengths, summed over the models."""

    examples: int
    size: int
    empty_columns: int
    plan: Plan
    ends: tuple[End, ...]
    cells: tuple[Cell, ...]
    binary: tuple[Binary, ...]
    prices: tuple[Price, ...]


def study(problem: Regression, plan: Plan, tick: Callable[[int, int], None] = lambda done, total: None) -> Study:
    """Run the experiment: a pure function of its input.

    Args:
        problem: the data, with one target for each of ``plan.classes``.
        tick: told how many cells of how many are done.

    Raises:
        InputError: numbers that cannot be: fewer than 2 masks, no draws, a start without spread.
    """
    w0 = start(plan.classes, problem.X.shape[1], plan.std, plan.seed)
    return study_from(problem, plan, w0, tick)


def study_from(
    problem: Regression, plan: Plan, w0: Tensor, tick: Callable[[int, int], None] = lambda done, total: None
) -> Study:
    """:func:`study` with the weights at the start given, (models, d)."""
    _check(plan)
    reached = end_points(problem, w0, plan.distances, plan.steps, plan.std)
    cells: list[Cell] = []
    total = len(plan.kinds) * len(plan.draws) * len(reached)
    for name, kind in plan.kinds.items():
        p, why = _drawn_with(problem, w0, kind)
        for end, w in reached:
            empty = [Cell(name, end.name, s, why=why) for s in plan.draws]
            filled = cells_of(problem.X, w0, w, p, empty, kind, plan.masks, plan.seed) if p is not None else empty
            for found in filled:
                cells.append(found)
                tick(len(cells), total)
    binary = [
        one for end, w in reached for one in binary_masks(problem.X, w0, w, plan.draws, plan.masks, plan.seed, end.name)
    ]
    norms = column_norms(problem.X)
    ends = tuple(end for end, _ in reached)
    return Study(
        problem.examples,
        len(norms),
        int((norms == 0).sum()),
        plan,
        ends,
        tuple(cells),
        tuple(binary),
        tuple(prices(problem.X, w0, reached, cells)),
    )


def _check(plan: Plan) -> None:
    if plan.masks < 2:
        raise InputError(f"asked for {plan.masks} masks a cell, got too few for a standard error. Use 2 or more.")
    if not plan.std > 0:
        raise InputError(f"asked for initial weights of standard deviation {plan.std:g}, got no spread to draw from.")
    if not plan.draws or min(plan.draws) < 1 or not plan.kinds:
        raise InputError(f"asked for {len(plan.kinds)} kinds at draws {plan.draws}, got nothing to draw.")
    if plan.steps < 0 or any(not 0 <= t < float("inf") for t in plan.distances):
        what = f"{plan.steps} steps and distances {plan.distances}"
        raise InputError(f"asked for {what}, got one that is negative or infinite.")


def _drawn_with(problem: Regression, w0: Tensor, kind: Kind) -> tuple[Tensor | None, str]:
    """Probabilities for every model, from the start alone; or the reason why there are none."""
    try:
        return probabilities(problem.X, w0, kind, grad=problem.gradient(w0)), ""
    except InputError as error:
        return None, str(error)
