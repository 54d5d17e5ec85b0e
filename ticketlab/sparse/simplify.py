"""A model that only answers, without what does nothing then, and with its pools as the sparse kernels know them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

_DROPOUTS = nn.modules.dropout._DropoutNd


def simplified(model: nn.Module, shape: Sequence[int]) -> nn.Module:
    """A copy of a model in eval mode without dropout, its average pools over whole maps as global means.

    Args:
        model: what ``folded`` gave; one that torch.fx could not trace is only copied.
        shape: of one input.
    """
    plain = copy.deepcopy(model)
    if not isinstance(plain, fx.GraphModule):
        return plain
    graph = plain.graph
    for node in list(graph.nodes):
        if _drops(plain, node):
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.erase_node(node)
    pools = {node: window for node in graph.nodes if (window := _window(plain, node)) is not None}
    if pools:
        plain.recompile()
        with torch.no_grad():
            ShapeProp(plain).propagate(torch.zeros(1, *shape))
    for number, (node, window) in enumerate(pools.items()):
        before = node.all_input_nodes[0].meta["tensor_meta"].shape
        if len(before) == 4 and tuple(before[2:]) == window:
            plain.add_submodule(f"whole_map_{number}", nn.AdaptiveAvgPool2d(1))
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.call_module(f"whole_map_{number}", (node.all_input_nodes[0],)))
            graph.erase_node(node)
    plain.recompile()
    return plain


def _drops(model: nn.Module, node: fx.Node) -> bool:
    """Whether a node is a dropout, which does nothing in eval mode."""
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), _DROPOUTS)
    # A function's default is to drop; a model that was traced in eval mode says that it is not training.
    trains: Any = node.args[2] if len(node.args) > 2 else node.kwargs.get("training", True)
    return node.target in (functional.dropout, functional.dropout2d) and trains is False


def _window(model: nn.Module, node: fx.Node) -> tuple[int, int] | None:
    """The window of an average pool without padding; None for everything else."""
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        if not isinstance(module, nn.AvgPool2d) or module.divisor_override is not None:
            return None
        size, padding = module.kernel_size, module.padding
    elif node.target is functional.avg_pool2d and {*node.kwargs} <= {"kernel_size", "stride"} and len(node.args) <= 3:
        given: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("kernel_size")
        size, padding = given, 0
    else:
        return None
    if padding not in (0, (0, 0)):
        return None
    if isinstance(size, int):
        return size, size
    return (size[0], size[1]) if isinstance(size, tuple) and all(isinstance(n, int) for n in size) else None


def has_average_pools(model: nn.Module) -> bool:
    """Whether there are average pools that may turn out to be means over whole maps."""
    return isinstance(model, fx.GraphModule) and any(_window(model, node) is not None for node in model.graph.nodes)
