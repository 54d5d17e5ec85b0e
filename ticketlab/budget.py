"""Budgets: how many weights each layer keeps, as exact integers.

Every function here takes a model, or the shapes of its prunable weights as ``{name: shape}``, and the sparsity
(fraction removed), and returns ``{name: kept}``. A weight of two dimensions counts as linear, of more as convolution.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
from torch import nn

from ticketlab import smart_ratio
from ticketlab.errors import InputError, unknown
from ticketlab.mask import Mask
from ticketlab.parameters import prunable
from ticketlab.smart_ratio import DECAYS, FORMS

Shapes = Mapping[str, Sequence[int]]
Counts = dict[str, int]

_NUMBERS = (int, float, np.floating)


def total(count: int, sparsity: float) -> int:
    """How many of ``count`` weights are kept: Python's ``round((1 - sparsity) * count)``.

    Raises:
        InputError: the sparsity is not in [0, 1).
    """
    check_sparsity(sparsity)
    return round((1 - float(sparsity)) * count)


def check_sparsity(sparsity: float) -> None:
    """Refuse what is no fraction removed; percentages are the usual slip."""
    if not (isinstance(sparsity, _NUMBERS) and 0 <= sparsity < 1):
        hint = f" Did you mean {sparsity / 100:g}?" if isinstance(sparsity, _NUMBERS) and 1 < sparsity < 100 else ""
        raise InputError(f"asked for sparsity {sparsity}, got a fraction removed outside [0, 1).{hint}")


def uniform(model: nn.Module | Shapes, sparsity: float) -> Counts:
    """The same keep ratio in every layer, rounded by largest remainder to the exact total."""
    sizes = _sizes(model)
    kept = total(sum(sizes.values()), sparsity)
    return largest_remainder({n: Fraction(kept * m, sum(sizes.values())) for n, m in sizes.items()}, sizes, kept)


def erk(model: nn.Module | Shapes, sparsity: float) -> Counts:
    """Erdős-Rényi-kernel densities (Evci et al. 2020): proportional to sum(shape) / prod(shape), none above 1.

    Layers whose density would exceed 1 are kept dense and the others share the rest.
    """
    shapes = _shapes(model)
    sizes = _sizes(shapes)
    kept = total(sum(sizes.values()), sparsity)
    weights = {n: Fraction(sum(s)) for n, s in shapes.items()}
    return largest_remainder(smart_ratio.share(kept, weights, sizes), sizes, kept)


def from_mask(mask: Mask) -> Counts:
    """The per-layer counts of another mask (ratio transplant)."""
    return {name: kept for name, (kept, _) in mask.counts().items()}


def smart(
    model: nn.Module | Shapes,
    sparsity: float,
    form: str = "resnet",
    linear_keep: float = 0.3,
    decay: str = "quadratic",
    compat: str | None = None,
    floor: int = 0,
) -> Counts:
    """The smart ratio of random tickets (Su et al. 2020): deeper layers keep less.

    With L layers l = 1..L in module order, k = L - l + 1, a layer's keep ratio is proportional to ``k^2 + k``
    ("quadratic"), ``k`` ("linear") or ``k^3`` ("cubic"); the form "vgg" divides by l^2. "ascending" is the mirror
    image of "quadratic" (l and k change places): ``l^2 + l``, which "vgg" divides by k^2. For both forms, "uniform"
    is the same ratio in every layer (the paper calls it balanced) and "balanced" the same number of weights.

    The last linear layer keeps ``linear_keep`` whatever the sparsity and the decay. What exceeds a full layer goes to
    the layers after it, and what the last cannot take, back to those before it; "balanced" shares it out equally.

    Args:
        floor: the least number of weights a layer keeps per output channel, where it has as many. Layers below it
            are raised to it, the last linear layer too, and the others share the rest. With 1, none is left empty.
        compat: "su2020" gives the counts of the authors' code instead: every linear layer keeps ``linear_keep``,
            products are rounded down, and surplus beyond the first layer with room is lost. Its "ascending" is
            divided by l^2 in the form "vgg", which makes it nearly uniform. It has no "balanced" and no floor.

    Raises:
        InputError: an unknown option, or a budget smaller than the linear layer's fixed part and the floors.
    """
    if form not in FORMS:
        raise unknown("form of the smart ratio", form, FORMS)
    if decay not in DECAYS:
        raise unknown("decay of the smart ratio", decay, DECAYS)
    if compat not in (None, "su2020"):
        raise unknown("compat", str(compat), ["su2020"])
    if not 0 <= linear_keep <= 1:
        raise InputError(f"asked for linear_keep {linear_keep}, got a keep ratio outside [0, 1].")
    if not isinstance(floor, int) or floor < 0:
        raise InputError(f"asked for floor {floor}, got no whole number of weights per output channel from 0 on.")
    if compat and (floor or decay == "balanced"):
        asked = f"floor={floor}" if floor else "decay='balanced'"
        raise InputError(f"asked for {asked} with compat={compat!r}, got code of Su et al. that has no such option.")
    check_sparsity(sparsity)
    shapes = _shapes(model)
    if compat:
        return smart_ratio.su2020(shapes, sparsity, form, decay, linear_keep)
    sizes = _sizes(shapes)
    kept = total(sum(sizes.values()), sparsity)
    return largest_remainder(smart_ratio.targets(shapes, kept, form, decay, linear_keep, floor), sizes, kept)


def largest_remainder(target: Mapping[str, Fraction], sizes: Mapping[str, int], kept: int) -> Counts:
    """Integers that sum to ``kept``: every target rounded down, the largest remainders up, none above its size.

    Equal remainders go to the earlier layer.

    Raises:
        InputError: the layers together have fewer weights than ``kept``.
    """
    room = sum(sizes[n] for n in target)
    if kept > room:
        raise InputError(f"asked to keep {kept} weights, got layers with {room} in all.")
    counts = {n: min(math.floor(t), sizes[n]) for n, t in target.items()}
    missing = kept - sum(counts.values())
    while missing > 0:
        ranked = sorted((n for n in target if counts[n] < sizes[n]), key=lambda n: counts[n] - target[n])
        for name in ranked[:missing]:
            counts[name] += 1
        missing = kept - sum(counts.values())
    return counts


def _shapes(model: nn.Module | Shapes) -> dict[str, tuple[int, ...]]:
    if isinstance(model, nn.Module):
        return {name: tuple(weight.shape) for name, weight in prunable(model).items()}
    return {name: tuple(shape) for name, shape in model.items()}


def _sizes(model: nn.Module | Shapes) -> dict[str, int]:
    return {n: math.prod(s) for n, s in _shapes(model).items()}
