"""What can be said of a model, of a node of its graph or of a module, without a walk over all of them."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from ticketlab.sparse.steps import Pair
from ticketlab.sparse.tracing import IADD, check_bare, traced_copy

RELUS = (torch.relu, functional.relu, torch.relu_, "relu", "relu_")
ADDS = (operator.add, operator.iadd, IADD, torch.add, "add", "add_")
CATS = (torch.cat, torch.concat, torch.concatenate)
FLATTENS = (torch.flatten, "flatten")
VIEWS = ("view", "reshape", torch.reshape)
_MEANS = (torch.mean, "mean")
_IN_PLACE = (operator.iadd, IADD, "add_", torch.relu_, "relu_")
_MAXIMUM = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_AVERAGE = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")


def graph(model: nn.Module) -> fx.Graph:
    """The model's own graph if it is one: tracing disturbs whatever other threads run meanwhile."""
    check_bare(model)
    if isinstance(model, fx.GraphModule):
        called = [model.get_submodule(str(node.target)) for node in model.graph.nodes if node.op == "call_module"]
        if not any(True for module in called for _ in module.children()):
            return model.graph
    return traced_copy(model).graph


def pair(value: Any) -> Pair:
    """Rows and columns of a size that may be one number for both."""
    if isinstance(value, int):
        return value, value
    rows, columns = value if len(value) == 2 else (*value, *value)
    return rows, columns


def padding(layer: nn.Conv2d) -> Pair | None:
    """Zeros on either side of a convolution's maps; None where it pads with something else, or sides differ."""
    if layer.padding_mode != "zeros":
        return None
    if layer.padding == "valid":
        return 0, 0
    if layer.padding == "same":
        total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return None if any(t % 2 for t in total) else (total[0] // 2, total[1] // 2)
    return pair(layer.padding)


def pooling(node: fx.Node) -> nn.MaxPool2d | nn.AvgPool2d | None:
    """The module that does what a call of a pooling function does; None for other calls."""
    if node.target is functional.max_pool2d:
        return nn.MaxPool2d(**dict(zip(_MAXIMUM, node.args[1:], strict=False)) | _named(node))
    if node.target is functional.avg_pool2d:
        return nn.AvgPool2d(**dict(zip(_AVERAGE, node.args[1:], strict=False)) | _named(node))
    return None


def _named(node: fx.Node) -> dict[str, Any]:
    return {name: value for name, value in node.kwargs.items() if name != "input"}


def in_place(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a sum or a ReLU writes over its first operand."""
    if isinstance(module, nn.ReLU):
        return module.inplace
    return node.target in _IN_PLACE or (node.target is functional.relu and bool(given(node, "inplace")))


def shares_memory(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether what a node gives lies where its first operand does: written over it, or looked at in another way."""
    if in_place(node, module) or isinstance(module, nn.Identity | nn.Dropout | nn.Flatten):
        return True
    return module is None and node.target in (*FLATTENS, *VIEWS)


def parts(node: fx.Node) -> list[fx.Node] | None:
    """What a concatenation along channels joins; None for one along anything else."""
    tensors: Any = node.args[0] if node.args else node.kwargs.get("tensors")
    if (
        given(node, "dim") not in (1, -3)
        or not isinstance(tensors, list | tuple)
        or not tensors
        or "out" in node.kwargs
    ):
        return None
    found = [part for part in tensors if isinstance(part, fx.Node)]
    return found if len(found) == len(tensors) else None


def channels_wanted(node: fx.Node, modules: Mapping[str, nn.Module]) -> int | None:
    """How many channels those who read a tensor want it to have; None if that tells nobody."""
    for module in (modules[str(user.target)] for user in node.users if user.op == "call_module"):
        for name in ("in_channels", "in_features", "num_features"):
            if isinstance(found := getattr(module, name, None), int):
                return found
    return None


def channels_given(layer: nn.Module) -> int:
    """How many channels a convolution or linear layer gives."""
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    return layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features


def is_size(node: fx.Node) -> bool:
    """Whether a node is a tensor's shape or a part of it, and does nothing but say how many images there are."""
    part = node.target is operator.getitem and isinstance(node.args[0], fx.Node) and _is_shape(node.args[0])
    return (part or _is_shape(node)) and all(user.target in (operator.getitem, *VIEWS) for user in node.users)


def _is_shape(node: fx.Node) -> bool:
    return node.target == "size" or (node.target is getattr and node.args[1] == "shape")


def keeps_images(node: fx.Node) -> bool:
    """Whether a view is a flattening: (N, -1), or a shape made of the number of images."""
    sizes = node.args[1:]
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = tuple(sizes[0])
    if len(sizes) != 2 or sizes[1] != -1 or not isinstance(sizes[0], fx.Node):
        return False
    first = sizes[0]
    if first.target == "size":
        return first.args[1:] == (0,) or first.kwargs == {"dim": 0}
    return bool(first.target is operator.getitem and first.args[1] == 0)


def over_maps(node: fx.Node) -> bool:
    """Whether a node is the mean over rows and columns."""
    if node.target is functional.adaptive_avg_pool2d:
        return given(node, "output_size") in (1, (1, 1), [1, 1])
    dims, others = given(node, "dim"), {*node.kwargs} - {"dim", "keepdim"}
    if node.target not in _MEANS or others or not isinstance(dims, tuple | list):
        return False
    return {*dims} in ({2, 3}, {-1, -2})


def flattens(node: fx.Node) -> bool:
    """Whether a flattening keeps the images apart, and nothing else."""
    held: dict[str, Any] = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | dict(node.kwargs)
    return bool(held.get("start_dim", 0) == 1 and held.get("end_dim", -1) == -1)


def given(node: fx.Node, name: str) -> Any:
    """The second argument, however it was given."""
    return node.args[1] if len(node.args) > 1 else node.kwargs.get(name)
