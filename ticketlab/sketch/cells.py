"""One measurement: the error of one kind of mask at one end point, beside its formula and its bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ticketlab import seeding
from ticketlab.errors import InputError
from ticketlab.sketch.bounds import mixture_bound, movement_bound, near_optimality_bound, ratio_bound
from ticketlab.sketch.expected import Spread, best_shrinkage, draw_spread, error_at, variance_of
from ticketlab.sketch.masks import sample_mask
from ticketlab.sketch.measure import Measured, mean_of

Kind = str | Mapping[str, float]

# Numbers of masks that are laid out at once.
_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Cell:
    """The error of one kind of mask at one end point with one number of draws.

    ``measured`` over random masks, ``standard_error`` of that mean, from its exact variance; ``formula`` the exact
    expectation, ``shrunk`` what is left of it when each model's sketch is multiplied with the best factor, ``bounds``
    what the theory says at most. ``why``: the reason where nothing of this is defined.
    """

    kind: str
    end: str
    draws: int
    measured: float | None = None
    standard_error: float | None = None
    formula: float | None = None
    shrunk: float | None = None
    bounds: dict[str, float] = field(default_factory=dict)
    why: str = ""


def cells_of(
    X: Tensor, w0: Tensor, w: Tensor, p: Tensor, empty: Sequence[Cell], kind: Kind, masks: int, seed: int
) -> Iterator[Cell]:
    """Cells of one kind and end point filled in, one for each number of draws; see :func:`cell`."""
    spread = None
    with suppress(InputError):
        spread = draw_spread(X, w, p)
    for one in empty:
        yield cell(X, w0, w, p, one, kind, masks, seed, spread)


def cell(
    X: Tensor,
    w0: Tensor,
    w: Tensor,
    p: Tensor,
    empty: Cell,
    kind: Kind,
    masks: int,
    seed: int,
    spread: Spread | None = None,
) -> Cell:
    """A cell filled in.

    Args:
        X: (n, d). w0, w, p: (models, d), the weights at the start, those at the end point, probabilities of one draw.
        empty: the cell with its names and its number of draws.
        kind: what ``p`` was made by: it decides which bounds hold.
        masks: random masks to each model.
        spread: :func:`draw_spread` of it, if it is known already: it is the same for every number of draws.
    """
    s = empty.draws
    try:
        exact = error_at(X, w, p, s).total
    except InputError as error:
        return replace(empty, why=str(error))
    generator = seeding.generator(seed, "sketch study", empty.kind, empty.end, s)
    seen = measured(X, w, p, s, masks, generator)
    return replace(
        empty,
        measured=seen.mean,
        standard_error=float((variance_of(spread or draw_spread(X, w, p), s).sum() / masks).sqrt()),
        formula=float(exact.sum()),
        shrunk=float(best_shrinkage(X, w, exact).error.sum()),
        bounds=_bounds(X, w0, w, s, kind),
    )


def measured(X: Tensor, w: Tensor, p: Tensor, s: int, masks: int, generator: torch.Generator) -> Measured:
    """The mean of ``sum over models |X (m * w) - X w|^2`` over ``masks`` rescaled masks a model, drawn with ``p``.

    Args:
        X: (n, d). w, p: (models, d).
    """
    errors = []
    at_once = max(1, _AT_ONCE // max(w.numel(), w.shape[0] * s))
    for first in range(0, masks, at_once):
        drawn = sample_mask(p, s, generator, masks=min(at_once, masks - first))
        errors.append((((drawn - 1) * w) @ X.mT).square().sum((1, 2)))
    return mean_of(torch.cat(errors))


def _bounds(X: Tensor, w0: Tensor, w: Tensor, s: int, kind: Kind) -> dict[str, float]:
    """The bounds that hold for masks of this kind, by name; those that are infinite are left out."""
    shares = {kind: 1.0} if isinstance(kind, str) else dict(kind)
    found: dict[str, Callable[[], Tensor]] = {}
    if shares.get("optimal") == 1:
        found["ratio"] = lambda: ratio_bound(X, w0, w, s)
        found["near-optimality"] = lambda: near_optimality_bound(X, w0, w, s)
        found["movement"] = lambda: movement_bound(X, w0, w, s)
    if share := shares.get("column-norm"):
        found["mixture"] = lambda: mixture_bound(X, w, s, share)
    values = {}
    for name, bound in found.items():
        try:
            value = float(bound().sum())
        except InputError:
            # A weight that the start never draws matters at the end.
            continue
        if value < float("inf"):
            values[name] = value
    return values
