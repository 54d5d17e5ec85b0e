"""Which way to run a whole network is the fastest here, measured once for each batch size and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ticketlab.data import cache
from ticketlab.errors import InputError
from ticketlab.packing import write_atomically
from ticketlab.sparse.build import built
from ticketlab.sparse.net import Net
from ticketlab.sparse.tune import processor
from ticketlab.speed.turns import in_turns

_ROUNDS, _SECONDS = 7, 0.02


def fastest(ways: Mapping[str, Callable[[Tensor], Tensor]], inputs: Tensor, net: Net) -> str:
    """The name of the fastest way on these inputs, all of them in turns; from the user's cache folder if it is there.

    Args:
        net: of the sparse way; its layers and how much they keep stand for the network.
    """
    file = _file(ways, inputs, net)
    with suppress(OSError, ValueError, TypeError):
        if (held := json.loads(file.read_text())) in ways:
            return str(held)
    times = in_turns({name: partial(way, inputs) for name, way in ways.items()}, _ROUNDS, _SECONDS)
    # What else runs slows some turns down, and torch's threads more than ours: the fastest turns are compared.
    found = min(times, key=lambda name: times[name].low)
    # A folder that cannot be written costs another measurement, nothing else.
    with suppress(InputError, OSError):
        write_atomically(file, json.dumps(found).encode())
    return found


def _file(ways: Mapping[str, object], inputs: Tensor, net: Net) -> Path:
    layers = [(net.facts(layer), f"{net.density(layer):.1e}") for layer in net.layers]
    machine = (built().name, torch.__version__, torch.get_num_threads(), processor())
    facts = (machine, layers, tuple(inputs.shape), sorted(ways))
    return cache.folder() / "sparse" / f"whole-{hashlib.sha256(repr(facts).encode()).hexdigest()[:24]}.json"
