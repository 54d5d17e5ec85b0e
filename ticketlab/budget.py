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

from ticketlab.errors import InputError, unknown
from ticketlab.mask import Mask
from ticketlab.parameters import prunable

Shapes = Mapping[str, Sequence[int]]
Counts = dict[str, int]

FORMS = ("resnet", "vgg")
_NUMBERS = (int, float, np.floating)
DECAYS = ("quadratic", "linear", "cubic", "ascending", "uniform")


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

    A layer whose density would exceed 1 is kept dense and the others share the rest, worst layer first. That always
    ends: a layer is kept dense only if its share of the rest is more than it has.
    """
    shapes = _shapes(model)
    sizes = _sizes(shapes)
    kept = total(sum(sizes.values()), sparsity)
    raw = {n: Fraction(sum(s), math.prod(s)) for n, s in shapes.items()}
    dense: set[str] = set()
    while True:
        rest = kept - sum(sizes[n] for n in dense)
        open_layers = [n for n in sizes if n not in dense]
        weight = sum((raw[n] * sizes[n] for n in open_layers), Fraction(0))
        scale = rest / weight if weight else Fraction(0)
        over = [n for n in open_layers if scale * raw[n] > 1]
        if not over:
            break
        worst = max(raw[n] for n in over)
        dense.update(n for n in over if raw[n] == worst)
    target = {n: Fraction(sizes[n]) if n in dense else scale * raw[n] * sizes[n] for n in sizes}
    return largest_remainder(target, sizes, kept)


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
) -> Counts:
    """The smart ratio of random tickets (Su et al. 2020): deeper layers keep less.

    With L layers l = 1..L in module order, k = L - l + 1, a layer's keep ratio is proportional to ``k^2 + k``
    ("quadratic"), ``k`` ("linear"), ``k^3`` ("cubic"), ``l^2 + l`` ("ascending") or 1 ("uniform"); the form
    "vgg" divides by l^2. The last linear layer keeps ``linear_keep`` whatever the sparsity. What exceeds a
    full layer goes to the layers after it, and what the last cannot take, back to those before it.

    Args:
        compat: "su2020" gives the counts of the authors' code instead: every linear layer keeps ``linear_keep``,
            products are rounded down, and surplus beyond the first layer with room is lost.

    Raises:
        InputError: an unknown option, or a budget smaller than the linear layer's fixed part.
    """
    if form not in FORMS:
        raise unknown("form of the smart ratio", form, FORMS)
    if decay not in DECAYS:
        raise unknown("decay of the smart ratio", decay, DECAYS)
    if compat not in (None, "su2020"):
        raise unknown("compat", str(compat), ["su2020"])
    if not 0 <= linear_keep <= 1:
        raise InputError(f"asked for linear_keep {linear_keep}, got a keep ratio outside [0, 1].")
    check_sparsity(sparsity)
    shapes = _shapes(model)
    ratios = _decay_ratios(len(shapes), form, decay)
    if compat == "su2020":
        return _smart_su2020(shapes, ratios, sparsity, linear_keep)
    return _smart_exact(shapes, ratios, sparsity, linear_keep)


def _decay_ratios(layers: int, form: str, decay: str) -> list[Fraction]:
    ratios = []
    for index in range(1, layers + 1):
        k = layers - index + 1
        value = {
            "quadratic": k**2 + k,
            "linear": k,
            "cubic": k**3,
            "ascending": index**2 + index,
            "uniform": 1,
        }[decay]
        divide = form == "vgg" and decay != "uniform"
        ratios.append(Fraction(value, index**2) if divide else Fraction(value))
    return ratios


def _smart_exact(shapes: Shapes, ratios: list[Fraction], sparsity: float, linear_keep: float) -> Counts:
    sizes = _sizes(shapes)
    kept = total(sum(sizes.values()), sparsity)
    linear = [n for n, s in shapes.items() if len(s) == 2]
    fixed = {linear[-1]: round(linear_keep * sizes[linear[-1]])} if linear else {}
    goal = kept - sum(fixed.values())
    if goal < 0:
        name, count = next(iter(fixed.items()))
        raise InputError(
            f"asked the smart ratio to keep {kept} of {sum(sizes.values())} weights, but the linear layer {name!r} "
            f"alone keeps {count} (linear_keep={linear_keep:g}). Lower linear_keep or the sparsity."
        )
    others = [n for n in shapes if n not in fixed]
    room = sum(sizes[n] for n in others)
    if goal > room:
        # Nearly dense: the linear layer must give up its fixed share for the total to be exact.
        return {**sizes, **{n: count + goal - room for n, count in fixed.items()}}
    by_name = dict(zip(shapes, ratios, strict=True))
    weight = sum((by_name[n] * sizes[n] for n in others), Fraction(0))
    target = {n: goal * by_name[n] * sizes[n] / weight for n in others} if weight else {}
    counts = largest_remainder(_carry_surplus(target, sizes), sizes, goal)
    return {n: fixed.get(n, counts.get(n, 0)) for n in shapes}


def _carry_surplus(target: dict[str, Fraction], sizes: Mapping[str, int]) -> dict[str, Fraction]:
    """Cap every layer at its size; what is over moves forward, and from the end back, until it is placed."""
    target = dict(target)
    for order in (list(target), list(target)[::-1]):
        carried = Fraction(0)
        for name in order:
            wanted = target[name] + carried
            target[name] = min(wanted, Fraction(sizes[name]))
            carried = wanted - target[name]
        if not carried:
            break
        # What the last layer could not take starts the way back.
        target[order[-1]] += carried
    return target


def _smart_su2020(shapes: Shapes, ratios: list[Fraction], sparsity: float, linear_keep: float) -> Counts:
    """The authors' arithmetic: single precision, every product rounded down, overflow moved forward only."""
    one, f32 = np.float32(1), np.float32
    sizes = _sizes(shapes)
    linear = {n: int(linear_keep * sizes[n]) for n, s in shapes.items() if len(s) == 2}
    convs = {n: r for (n, s), r in zip(shapes.items(), ratios, strict=True) if len(s) != 2}
    kept = int(f32(1 - sparsity) * f32(sum(sizes.values())))
    goal = kept - sum(linear.values())
    if goal < 0:
        raise InputError(
            f"asked the smart ratio to keep {kept} of {sum(sizes.values())} weights, "
            f"but the linear layers alone keep {kept - goal} (linear_keep={linear_keep:g})."
        )
    scale = f32(goal) / f32(max(1, sum(int(sizes[n] * float(r)) for n, r in convs.items())))
    keep = {n: min(f32(scale * f32(float(r))), f32(2**31)) for n, r in convs.items()}
    surplus = 0
    for name in convs:
        size = f32(sizes[name])
        if keep[name] >= one:
            surplus += int((keep[name] - one) * size)
            keep[name] = one
        else:
            room = int((one - keep[name]) * size)
            taken = min(room, surplus)
            keep[name] = one if surplus >= room else keep[name] + f32(taken) / size
            surplus -= taken
        if surplus == 0:
            # Their loop ends here, so that what overflows in a later layer is clipped and lost.
            break
    return {n: linear[n] if n in linear else int(min(keep[n], one) * f32(sizes[n])) for n in shapes}


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
