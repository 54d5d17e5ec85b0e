"""Which way to run a network, or a part of it, is the fastest here, measured once for each batch size and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from ticketlab.measurements import keep, place, recalled
from ticketlab.processor import processor
from ticketlab.sparse.library import library
from ticketlab.sparse.net import Net
from ticketlab.speed.turns import in_turns

_ROUNDS, _SECONDS = 7, 0.02


def fastest(ways: Mapping[str, Callable[[Tensor], Tensor]], inputs: Tensor, net: Net, of: str = "whole") -> str:
    """The name of the fastest way on these inputs, all of them in turns; from the user's cache folder if it is there.

    Args:
        net: of the sparse way; its structure stands for what is run.
        of: what is run, for the file's name.
    """
    return measured(ways, inputs, net.structure, of)


def measured(ways: Mapping[str, Callable[[Tensor], Tensor]], inputs: Tensor, facts: object, of: str) -> str:
    """The same, where ``facts`` are what the times depend on beside the machine, the threads and the inputs' shape."""
    machine = (library().name, torch.__version__, torch.get_num_threads(), processor())
    file = place("sparse", (machine, facts, tuple(inputs.shape), sorted(ways)), f"{of}-")
    if isinstance(held := recalled(file), str) and held in ways:
        return held
    times = in_turns({name: partial(way, inputs) for name, way in ways.items()}, _ROUNDS, _SECONDS)
    # What else runs slows some turns down, and torch's threads more than ours: the fastest turns are compared.
    found = min(times, key=lambda name: times[name].low)
    keep(file, found)
    return found
