"""torch.fx on models of any kind: what is traced is what runs, and tracing leaves no traces in the model."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, fx, nn


class _Standing(fx.Proxy):
    """What stands for a tensor, also to code that asks whether it has one (as DenseNets do)."""

    # nn.Module asks whether what a model keeps is a parameter or a buffer.
    _is_param = _is_buffer = False

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return Tensor


class _Tracer(fx.Tracer):
    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Standing(node, self)

    def create_arg(self, a: Any) -> Any:
        # torch.fx would take it for a parameter.
        return a.node if type(a) is _Standing else super().create_arg(a)


def traced_copy(model: nn.Module) -> fx.GraphModule:
    """The model as a graph with its own parameters, and its class's name in ``meta``, where copies have it too.

    Raises:
        Exception: whatever the model's own code does with what is no tensor, or if it writes its buffers.
    """
    # Its code runs, and may keep what it computes, or count: the model is not to know.
    copied = copy.deepcopy(model, {id(p): p for p in model.parameters()})
    before = _buffers(copied)
    graph = _Tracer().trace(copied)
    if _buffers(copied) != before:
        # A graph would have them as they are after one call, whenever it is called.
        raise ValueError("calls change its buffers")
    found = fx.GraphModule(copied, graph, type(model).__name__)
    found.meta["name"] = name_of(model)
    return found


def name_of(model: nn.Module) -> str:
    """The class of a model, or of the one that a graph was made of."""
    name: str = model.meta.get("name", "GraphModule") if isinstance(model, fx.GraphModule) else type(model).__name__
    return name


def _buffers(model: nn.Module) -> list[tuple[int, int]]:
    """Tells whether somebody wrote a model's buffers."""
    # What is written anew is a proxy then, of which nothing can be asked.
    return [(id(held), held._version if _counts(held) else 0) for held in model.buffers()]


def _counts(held: object) -> bool:
    return type(held) is not _Standing and isinstance(held, Tensor) and not held.is_inference()
