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


def without_dropout(model: nn.Module) -> nn.Module:
    """A copy of a model in eval mode without dropout; one that torch.fx could not trace is only copied.

    Args:
        model: what ``folded`` gave.
    """
    plain = copy.deepcopy(model)
    if isinstance(plain, fx.GraphModule):
        for node in [node for node in plain.graph.nodes if _drops(plain, node)]:
            node.replace_all_uses_with(node.all_input_nodes[0])
            plain.graph.erase_node(node)
        plain.recompile()
    return plain


def with_global_means(model: nn.Module, shape: Sequence[int]) -> nn.Module:
    """A copy whose average pools over whole maps are global means.

    Args:
        model: what ``folded`` gave.
        shape: of one input.
    """
    plain = copy.deepcopy(model)
    if not isinstance(plain, fx.GraphModule) or not has_average_pools(plain):
        return plain
    with torch.no_grad():
        ShapeProp(plain).propagate(torch.zeros(1, *shape, dtype=torch.float32))
    for number, node in enumerate(list(plain.graph.nodes)):
        if (window := _window(plain, node)) is None:
            continue
        (before,) = node.all_input_nodes
        sizes = before.meta["tensor_meta"].shape
        if len(sizes) == 4 and tuple(sizes[2:]) == window:
            plain.add_submodule(f"whole_map_{number}", nn.AdaptiveAvgPool2d(1))
            with plain.graph.inserting_before(node):
                node.replace_all_uses_with(plain.graph.call_module(f"whole_map_{number}", (before,)))
            plain.graph.erase_node(node)
    plain.recompile()
    return plain


def has_average_pools(model: fx.GraphModule) -> bool:
    """Whether there are average pools that may turn out to be means over whole maps."""
    return any(_window(model, node) is not None for node in model.graph.nodes)


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
