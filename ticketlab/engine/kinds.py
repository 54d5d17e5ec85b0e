"""The engines by name, and how one is opened."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ticketlab.data.batches import normalised
from ticketlab.data.types import Data
from ticketlab.engine.eager import Eager, Options
from ticketlab.engine.engine import Engine, Probe, Setting, probed
from ticketlab.engine.names import ENGINES
from ticketlab.engine.precision import check_precision
from ticketlab.engine.recipe import Recipe
from ticketlab.errors import InputError, unknown

_EAGER = {
    "plain": Options(),
    "tuned": Options(channels_last=True, fused=True),
    "tuned+im2col": Options(channels_last=True, fused=True, products=True),
    "compiled": Options(channels_last=True, fused=True, compiled=True),
    "compiled+im2col": Options(channels_last=True, fused=True, products=True, compiled=True),
}
_WIDE: tuple[str, ...] = ("stacked", "graph")


def parse(spec: str) -> tuple[str, int]:
    """An engine's kind and its width.

    Raises:
        InputError: no such engine, or a width that is no number from 1 to 256.
    """
    kind, colon, width = spec.partition(":")
    if kind in (*_EAGER, "sparse") and not colon:
        return kind, 1
    if kind not in _WIDE:
        raise unknown("engine", spec, ENGINES)
    if not width.isdecimal() or not 1 <= int(width) <= 256:
        raise InputError(f"asked for engine {spec!r}, got no width from 1 to 256: write {kind}:8 for eight tickets.")
    return kind, int(width)


def open_engine(
    spec: str,
    template: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    precision: str = "fp32",
    device: str | torch.device = "cpu",
) -> Engine:
    """An engine for a model's architecture.

    Args:
        spec: a name of ``ENGINES``, with a number for K.
        template: any instance of the model; it is copied, its weights are not used.
        data: tells the shape and number of the inputs.

    Raises:
        InputError: no such engine or precision, or one that this model, machine or device cannot have.
    """
    kind, width = parse(spec)
    check_precision(precision, torch.device(device))
    setting = Setting(template, recipe, precision, torch.device(device))
    inputs = example(data, setting.device)
    probe = probed(template, inputs)
    if kind in _EAGER:
        return Eager(setting, _EAGER[kind], inputs, probe)
    if kind == "sparse":
        # Imported when asked for: tracing takes half a second to import.
        from ticketlab.engine.sparse import Sparse

        return Sparse(setting, inputs, probe, len(data.train), Eager(setting, _EAGER["tuned"], inputs, probe))
    if probe.random:
        raise InputError(
            f"asked for engine {spec!r}, got a model that draws random numbers in its forward pass (dropout): its "
            "tickets would depend on each other. Use tuned or compiled."
        )
    return _wide(kind)(setting, width, inputs, probe)


def _wide(kind: str) -> Callable[[Setting, int, Tensor, Probe], Engine]:
    # Imported when asked for: torch.func and the compiler take a second.
    if kind == "stacked":
        from ticketlab.engine.stacked import Stacked

        return Stacked
    from ticketlab.engine.graph import Graphs

    return Graphs


def example(data: Data, device: torch.device) -> Tensor:
    """Two examples as a model takes them."""
    return normalised(data, data.train.inputs[torch.tensor([0, -1])]).to(device)
