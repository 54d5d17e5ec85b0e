"""What torch.fx makes of a model, with what it passes over: in-place operators, and what wraps the model's forward."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from torch import fx, nn
from torch.nn.utils import parametrize

from ticketlab.errors import InputError


def symbolic_trace(model: nn.Module) -> fx.GraphModule:
    """A model as a graph.

    Raises:
        InputError: the model itself has hooks or another forward than its class.
        Exception: whatever the model's own code does with a proxy.
    """
    check_bare(model)
    return fx.GraphModule(model, _Tracer().trace(model), type(model).__name__)


def check_bare(model: nn.Module) -> None:
    """Refuse a model that does more than the forward of its class, which is all that torch.fx traces."""
    if model._forward_pre_hooks or model._forward_hooks or "forward" in vars(model):
        raise InputError(
            f"asked to trace {type(model).__name__}, got hooks or a forward of its own on the model itself."
        )


def is_torchs_own(layer: nn.Module) -> bool:
    """Whether a call of a layer computes what its class and its parameters say, and the class is one of torch's."""
    changed = layer._forward_pre_hooks or layer._forward_hooks or "forward" in vars(layer)
    changed = changed or parametrize.is_parametrized(layer)
    return not changed and type(layer).__module__.startswith("torch.nn.modules.")


def _written_over(name: str) -> Callable[[Any, Any], Any]:
    of = getattr(operator, name)

    def run(first: Any, other: Any) -> Any:
        return of(first, other)

    # torch.fx would print the operator's own name as a statement, which changes numbers under all of their names.
    run.__name__ = run.__qualname__ = f"run_{name}"
    return run


_OPERATORS = {
    name: _written_over(name)
    for name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "imatmul", "iand", "ior", "ixor")
}
# What `first += other` is in a graph.
IADD = _OPERATORS["iadd"]


class _Proxy(fx.Proxy):
    """To Python a proxy without them has no in-place operators: x += y would be traced as x = x + y."""


def _traced(run: Callable[[Any, Any], Any]) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    return lambda first, other: first.tracer.create_proxy("call_function", run, (first, other), {})


for _name, _run in _OPERATORS.items():
    setattr(_Proxy, f"__{_name}__", _traced(_run))


class _Tracer(fx.Tracer):
    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)
