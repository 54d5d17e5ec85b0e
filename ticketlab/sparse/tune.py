"""Which tile, block and kind of list suits each pass of each layer, measured once on each machine.

A choice decides the order of summation. So it is made by density and shape, not by the very mask: tickets of the same
layer ratios are then computed alike; and whoever must get the same bits again keeps ``SparseModel.choices``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import torch

from ticketlab.measurements import keep, place, recalled
from ticketlab.processor import processor
from ticketlab.sparse.library import library
from ticketlab.sparse.net import SHAPES, Choice, Net

_BLOCKS = (0, 8, 16, 32, 64, 128)
# Another choice than the usual one must be this much faster: noise should not decide what bits come out.
_CLEARLY = 0.93


def tune(net: Net) -> dict[tuple[int, str], Choice]:
    """Measure what is not known yet, and let every pass of the net run in its best way; the choices by layer and pass.

    Takes seconds to minutes on weights and activations as they are, and keeps what it finds in the user's cache folder.
    """
    found = {}
    for layer in net.layers:
        for which in net.passes:
            choice = _known(net, layer, which)
            if choice is None or not net.possible(layer, which, choice):
                choice = _measured(net, layer, which)
                keep(_file(net, layer, which), astuple(choice))
            net.choose(layer, which, choice)
            found[layer, which] = choice
    return found


def candidates(net: Net, layer: int, which: str) -> Iterator[Choice]:
    """What may be best: large tiles; lists that are shared where the layer is not very sparse."""
    density = net.density(layer)
    inputs = net.channels(layer)[which == "input_gradient"]
    for quad in (False, True):
        if density < 0.3 if quad else density > 0.9:
            continue
        shapes = [s for s in range(len(SHAPES)) if net.possible(layer, which, Choice(quad, s, 0))]
        large = max(math.prod(SHAPES[s]) for s in shapes) / 2
        # The lists of a shared weight gradient know no tiles, and no blocks.
        alone = quad and which == "weight_gradient"
        blocks = [b for b in ((0, 32) if quad else _BLOCKS) if b < inputs]
        for shape in [s for s in shapes if math.prod(SHAPES[s]) >= large][: 1 if alone else None]:
            yield from (Choice(quad, shape, block) for block in ((0,) if alone else blocks))


def _measured(net: Net, layer: int, which: str) -> Choice:
    usual = net.choice(layer, which)

    def seconds(choice: Choice, runs: int) -> float:
        net.choose(layer, which, choice)
        return net.seconds(layer, which, runs)

    first = {choice: seconds(choice, 2) for choice in {usual: 0, **dict.fromkeys(candidates(net, layer, which), 0)}}
    second = {choice: seconds(choice, 5) for choice in (usual, *sorted(first, key=lambda c: first[c])[:3])}
    best = min(second, key=lambda c: second[c])
    return best if second[best] < _CLEARLY * second[usual] else usual


def _file(net: Net, layer: int, which: str) -> Path:
    # Two digits of the density: what suits 10.2% suits 9.8%.
    layer_facts = (net.facts(layer), f"{net.density(layer):.1e}", which)
    return place("sparse", (library().name, *layer_facts, torch.get_num_threads(), processor()))


def _known(net: Net, layer: int, which: str) -> Choice | None:
    match recalled(_file(net, layer, which)):
        case [bool(quad), int(shape), int(block)] if 0 <= shape < 2**20 and 0 <= block < 2**20:
            return Choice(quad, shape, block)
    return None
