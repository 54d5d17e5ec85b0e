"""The smart ratio of random tickets (Su et al. 2020): what a layer keeps by its depth, and the authors' code."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import numpy as np

from ticketlab.errors import InputError

FORMS = ("resnet", "vgg")
_FALL: dict[str, Callable[[int], int]] = {
    "quadratic": lambda k: k**2 + k,
    "linear": lambda k: k,
    "cubic": lambda k: k**3,
}
DECAYS = (*_FALL, "ascending", "uniform", "balanced")


def targets(
    shapes: Mapping[str, Sequence[int]], kept: int, form: str, decay: str, linear_keep: float, floor: int
) -> dict[str, Fraction]:
    """The exact version: what every layer keeps before rounding, ``kept`` in all."""
    sizes = {n: math.prod(s) for n, s in shapes.items()}
    floors = {n: min(floor * s[0], sizes[n]) for n, s in shapes.items()}
    fixed = _fixed(shapes, sizes, floors, kept, linear_keep, floor)
    others = [n for n in shapes if n not in fixed]
    goal, room = kept - sum(fixed.values()), sum(sizes[n] for n in others)
    if goal > room:
        # Nearly dense: the linear layer must give up its fixed share for the total to be exact.
        return {n: Fraction(fixed[n] + goal - room if n in fixed else sizes[n]) for n in shapes}
    weights = _weights(sizes, form, decay)
    divide = share if decay == "balanced" else _carry
    raised: set[str] = set()
    while True:
        rest = goal - sum(floors[n] for n in raised)
        target = divide(rest, {n: weights[n] for n in others if n not in raised}, sizes)
        # What raises these is taken from the others, so some of those may be next.
        below = {n for n in target if target[n] < floors[n]}
        if not below:
            return {n: target.get(n, Fraction(fixed.get(n, floors[n]))) for n in shapes}
        raised |= below


def share(goal: int, weights: Mapping[str, Fraction], sizes: Mapping[str, int]) -> dict[str, Fraction]:
    """``goal`` in proportion to the weights, no layer above its size; what full layers cannot take, the others share.

    That always ends: a layer is full only if its share of the rest is more than it has.
    """
    full: set[str] = set()
    while True:
        free = [n for n in weights if n not in full]
        weight = sum((weights[n] for n in free), Fraction(0))
        scale = (goal - sum(sizes[n] for n in full)) / weight if weight else Fraction(0)
        over = {n for n in free if scale * weights[n] > sizes[n]}
        if not over:
            return {n: Fraction(sizes[n]) if n in full else scale * weights[n] for n in weights}
        full |= over


def _carry(goal: int, weights: Mapping[str, Fraction], sizes: Mapping[str, int]) -> dict[str, Fraction]:
    """As ``share``, but what is over moves to the layers after, and from the end back, until it is placed."""
    weight = sum(weights.values(), Fraction(0))
    target = {n: goal * w / weight if weight else Fraction(0) for n, w in weights.items()}
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


def _weights(sizes: Mapping[str, int], form: str, decay: str) -> dict[str, Fraction]:
    """Every layer's size times its ratio."""
    weights = {}
    for index, (name, size) in enumerate(sizes.items(), 1):
        k = len(sizes) - index + 1
        if decay == "ascending":
            ratio = _ratio(k, index, form, "quadratic")
        elif decay in _FALL:
            ratio = _ratio(index, k, form, decay)
        else:
            ratio = Fraction(1, max(size, 1) if decay == "balanced" else 1)
        weights[name] = ratio * size
    return weights


def _ratio(index: int, k: int, form: str, decay: str) -> Fraction:
    return Fraction(_FALL[decay](k), index**2 if form == "vgg" else 1)


def _fixed(
    shapes: Mapping[str, Sequence[int]],
    sizes: Mapping[str, int],
    floors: Mapping[str, int],
    kept: int,
    linear_keep: float,
    floor: int,
) -> dict[str, int]:
    """The last linear layer's count, once it and the other layers' floors are known to fit."""
    linear = {n: round(linear_keep * sizes[n]) for n in [n for n, s in shapes.items() if len(s) == 2][-1:]}
    asked = f"asked the smart ratio to keep {kept} of {sum(sizes.values())} weights, but"
    for name, count in linear.items():
        if count > kept:
            raise InputError(
                f"{asked} the linear layer {name!r} alone keeps {count} (linear_keep={linear_keep:g}). "
                "Lower linear_keep or the sparsity."
            )
    fixed = {n: max(count, floors[n]) for n, count in linear.items()}
    least = sum({**floors, **fixed}.values())
    if least > kept:
        part = "".join(f", {count} of them in the linear layer {n!r}" for n, count in fixed.items())
        raise InputError(f"{asked} floor={floor} needs {least}{part}. Lower the floor, linear_keep or the sparsity.")
    return fixed


def su2020(
    shapes: Mapping[str, Sequence[int]], sparsity: float, form: str, decay: str, linear_keep: float
) -> dict[str, int]:
    """The authors' arithmetic: single precision, every product rounded down, overflow moved forward only."""
    f32 = np.float32
    size = {n: f32(math.prod(s)) for n, s in shapes.items()}
    linear = [n for n, s in shapes.items() if len(s) == 2]
    whole, flat = sum(size.values(), f32(0)), sum((size[n] for n in linear), f32(0))
    kept = int(f32(1 - sparsity) * whole)
    goal = kept - int(f32(linear_keep) * flat)
    if goal < 0:
        raise InputError(
            f"asked the smart ratio to keep {kept} of {int(whole)} weights, "
            f"but the linear layers alone keep {kept - goal} (linear_keep={linear_keep:g})."
        )
    keep = dict.fromkeys(shapes, f32(linear_keep))
    depth = {n: index for index, n in enumerate(shapes, 1) if n not in linear}
    if decay == "uniform":
        # PyTorch divides an integer by a tensor as a product with the reciprocal.
        keep |= dict.fromkeys(depth, f32(goal) * (f32(1) / max(whole - flat, f32(1))))
    else:
        ascending, last = decay == "ascending", len(shapes) + 1
        ratio = {n: f32(_FALL["quadratic"](i) if ascending else _FALL[decay](last - i)) for n, i in depth.items()}
        by = {n: f32(i**2 if form == "vgg" else 1) for n, i in depth.items()}
        scale = f32(goal / max(1, sum(int(size[n] * ratio[n] / by[n]) for n in depth)))
        keep |= _forward({n: ratio[n] * scale / by[n] for n in depth}, size)
    return {n: int(min(keep[n], f32(1)) * size[n]) for n in shapes}


def _forward(keep: dict[str, np.float32], size: Mapping[str, np.float32]) -> dict[str, np.float32]:
    """Their overflow loop, which ends at the first layer with room: what overflows later is clipped and lost."""
    one, surplus = np.float32(1), 0
    for name, ratio in keep.items():
        room = int((one - ratio) * size[name])
        if ratio >= one:
            surplus += int((ratio - one) * size[name])
            keep[name] = one
        elif room >= surplus:
            keep[name] = ratio + np.float32(surplus) * (one / size[name])
            surplus = 0
        else:
            surplus -= room
            keep[name] = one
        if surplus == 0:
            break
    return keep
