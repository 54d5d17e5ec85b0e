"""torch.fx on models of any kind: what is traced is what runs, and tracing leaves no traces in the model."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from ticketlab.errors import InputError


def traced_copy(model: nn.Module) -> fx.GraphModule:
    """The model as a graph with its own parameters, and its class's name in ``meta``, where copies have it too.

    Raises:
        InputError: the model itself has hooks or another forward than its class.
        Exception: whatever the model's own code does with what is no tensor, or if it writes its buffers.
    """
    check_bare(model)
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


def check_bare(model: nn.Module) -> None:
    """Refuse a model that does more than the forward of its class, which is all that torch.fx traces."""
    if model._forward_pre_hooks or model._forward_hooks or "forward" in vars(model):
        raise InputError(f"asked to trace {name_of(model)}, got hooks or a forward of its own on the model itself.")


def is_torchs_own(layer: nn.Module) -> bool:
    """Whether a call of a layer computes what its class and its parameters say, and the class is one of torch's."""
    changed = layer._forward_pre_hooks or layer._forward_hooks or "forward" in vars(layer)
    changed = changed or parametrize.is_parametrized(layer)
    return not changed and type(layer).__module__.startswith("torch.nn.modules.")


class _Standing(fx.Proxy):
    """What stands for a tensor, also to code that asks whether it has one (as DenseNets do).

    Unlike torch.fx's own it has operators that write over what they are given: x += y would be traced as x = x + y.
    """

    # nn.Module asks whether what a model keeps is a parameter or a buffer.
    _is_param = _is_buffer = False

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return Tensor


def _written_over(name: str) -> Callable[[Any, Any], Any]:
    of = getattr(operator, name)

    def run(first: Any, other: Any) -> Any:
        return of(first, other)

    # torch.fx would print the operator's own name as a statement, which changes numbers under all of their names.
    run.__name__ = run.__qualname__ = f"run_{name}"
    return run


def _traced(run: Callable[[Any, Any], Any]) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    return lambda first, other: first.tracer.create_proxy("call_function", run, (first, other), {})


_OPERATORS = {
    name: _written_over(name)
    for name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "imatmul", "iand", "ior", "ixor")
}
for _name, _run in _OPERATORS.items():
    setattr(_Standing, f"__{_name}__", _traced(_run))
# What `first += other` is in a graph.
IADD = _OPERATORS["iadd"]


class _Tracer(fx.Tracer):
    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Standing(node, self)

    def create_arg(self, a: Any) -> Any:
        # torch.fx would take it for a parameter.
        return a.node if type(a) is _Standing else super().create_arg(a)


def _buffers(model: nn.Module) -> list[tuple[int, int]]:
    """Tells whether somebody wrote a model's buffers."""
    # What is written anew is a proxy then, of which nothing can be asked.
    return [(id(held), held._version if _counts(held) else 0) for held in model.buffers()]


def _counts(held: object) -> bool:
    return type(held) is not _Standing and isinstance(held, Tensor) and not held.is_inference()
