"""A torch model as the list of layers that the sparse kernels know, found by tracing it."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from ticketlab.errors import InputError

_RELUS = (torch.relu, functional.relu, torch.relu_, "relu", "relu_")
_ADDS = (operator.add, operator.iadd, torch.add, "add", "add_")
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_FLATTENS = (torch.flatten, "flatten")
_VIEWS = ("view", "reshape", torch.reshape)
_MEANS = (torch.mean, "mean")


@dataclass
class Step:
    """One layer of the plan; tensors are numbered from 0, the input, in the order of the steps that give them.

    Attributes:
        source: the tensor it reads.
        module: name of the convolution or linear layer; None is the mean over each map.
        norm: name of the batch norm after it.
        residual: the tensor added after that.
        relu, pool: what comes last; pool is None, "floor" or "ceil".
    """

    source: int
    module: str | None
    norm: str | None = None
    residual: int | None = None
    relu: bool = False
    pool: str | None = None


def traced(model: nn.Module) -> tuple[Step, ...]:
    """The model's layers in order: convolutions and linear layers with what follows each of them.

    Raises:
        InputError: it has something that the sparse kernels do not know; the message names it.
    """
    try:
        graph = _graph(model)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        name = type(model).__name__
        raise InputError(f"asked for a sparse {name}, got a model that cannot be traced: {first}") from error
    return _Walk(model, dict(model.named_modules())).steps(graph)


def _graph(model: nn.Module) -> fx.Graph:
    """The model's own graph if it is one: tracing disturbs whatever other threads run meanwhile."""
    if isinstance(model, fx.GraphModule):
        called = [model.get_submodule(str(node.target)) for node in model.graph.nodes if node.op == "call_module"]
        if not any(True for module in called for _ in module.children()):
            return model.graph
    return fx.symbolic_trace(model).graph


class _Walk:
    def __init__(self, model: nn.Module, modules: dict[str, nn.Module]) -> None:
        self._name = type(model).__name__
        self._modules = modules
        self._steps: list[Step] = []
        # The layer of each parameter, to find those that two layers share.
        self._owners: dict[int, str] = {}
        # The tensor of each node.
        self._of: dict[fx.Node, int] = {}

    def steps(self, graph: fx.Graph) -> tuple[Step, ...]:
        for node in graph.nodes:
            if node.op == "placeholder":
                if self._of:
                    raise self._unknown("a second input")
                self._of[node] = 0
            elif node.op == "output":
                if not isinstance(node.args[0], fx.Node) or self._of.get(node.args[0]) != len(self._steps):
                    raise self._unknown("an output that its last layer does not give")
            elif not _is_size(node):
                self._of[node] = self._tensor(node)
        if not self._steps:
            raise self._unknown("no layer with weights")
        return tuple(self._steps)

    def _tensor(self, node: fx.Node) -> int:
        if node.op == "call_module":
            return self._module(node, str(node.target), self._modules[str(node.target)])
        if node.op in ("call_function", "call_method"):
            if node.target in _RELUS:
                return self._relu(node)
            if node.target in _ADDS and not {*node.kwargs} - {"other"}:
                return self._add(node)
            if (node.target in _FLATTENS and _flattens(node)) or (node.target in _VIEWS and _keeps_images(node)):
                return self._source(node)
            if node.target is functional.adaptive_avg_pool2d and _given(node, "output_size") in (1, (1, 1), [1, 1]):
                return self._new(Step(self._source(node), None))
            if node.target in _MEANS and _over_maps(node):
                return self._new(Step(self._source(node), None))
        raise self._unknown(f"{node.op.removeprefix('call_')} {getattr(node.target, '__name__', node.target)}")

    def _module(self, node: fx.Node, name: str, module: nn.Module) -> int:
        if module._forward_pre_hooks or module._forward_hooks or parametrize.is_parametrized(module):
            raise self._unknown(f"hooks or parametrisations on {name}")
        if isinstance(module, nn.Conv2d | nn.Linear):
            if isinstance(module, nn.Conv2d) and (module.padding_mode != "zeros" or isinstance(module.padding, str)):
                raise self._unknown(f"padding {module.padding_mode} {module.padding} in {name}")
            return self._new(Step(self._source(node), name))
        if isinstance(module, _NORMS):
            if module.momentum is None or not module.track_running_stats:
                raise self._unknown(f"batch norm without a momentum or running statistics in {name}")
            step = self._open(node)
            if step.norm is not None:
                raise self._unknown(f"{name} after another batch norm")
            self._only(name)
            step.norm = name
            return self._of[node.all_input_nodes[0]]
        if isinstance(module, nn.ReLU):
            return self._relu(node)
        if isinstance(module, nn.MaxPool2d):
            return self._pool(node, name, module)
        if isinstance(module, nn.AdaptiveAvgPool2d):
            if module.output_size not in (1, (1, 1)):
                raise self._unknown(f"an average pool to {module.output_size} in {name}")
            return self._new(Step(self._source(node), None))
        if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
            return self._source(node)
        if isinstance(module, nn.Identity) or (isinstance(module, nn.Dropout) and module.p == 0):
            return self._source(node)
        raise self._unknown(f"{type(module).__name__} in {name}")

    def _relu(self, node: fx.Node) -> int:
        source = self._source(node)
        # A second ReLU changes nothing; the maximum and the ReLU may change places.
        if source == 0 or not self._steps[source - 1].relu:
            self._open(node, after_pool=True).relu = True
        return source

    def _pool(self, node: fx.Node, name: str, module: nn.MaxPool2d) -> int:
        sizes = [value if isinstance(value, tuple) else (value, value) for value in (module.kernel_size, module.stride)]
        if sizes != [(2, 2), (2, 2)] or module.padding not in (0, (0, 0)) or module.dilation not in (1, (1, 1)):
            raise self._unknown(f"max-pooling other than 2x2 in {name}")
        step = self._open(node, after_relu=True)
        if step.residual is not None:
            raise self._unknown(f"max-pooling after a sum in {name}")
        step.pool = "ceil" if module.ceil_mode else "floor"
        return self._source(node)

    def _add(self, node: fx.Node) -> int:
        inputs = [*node.args, *node.kwargs.values()]
        if len(inputs) != 2 or not all(isinstance(i, fx.Node) for i in inputs):
            raise self._unknown("a sum of something else than two tensors")
        tensors = sorted(self._of[i] for i in inputs if isinstance(i, fx.Node))
        step = self._steps[tensors[1] - 1] if tensors[1] else None
        if step is None or tensors[0] == tensors[1] or not _free(step) or self._read_elsewhere(node, tensors[1]):
            raise self._unknown("a sum whose last part is no layer of its own")
        step.residual = tensors[0]
        return tensors[1]

    def _open(self, node: fx.Node, *, after_relu: bool = False, after_pool: bool = False) -> Step:
        """The layer that a node ends, if nothing else reads its output yet."""
        before = node.all_input_nodes[0]
        source = self._of[before]
        what = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.target)
        if source == 0 or self._read_elsewhere(node, source) or self._steps[source - 1].module is None:
            raise self._unknown(f"{what} on something else than the only use of a layer")
        step = self._steps[source - 1]
        if (step.relu and not after_relu) or (step.pool and not after_pool):
            raise self._unknown(f"{what} after a ReLU or a max-pooling")
        if node.op == "call_module" and isinstance(self._modules[str(what)], _NORMS) and step.residual is not None:
            raise self._unknown(f"{what} after a sum")
        return step

    def _read_elsewhere(self, node: fx.Node, tensor: int) -> bool:
        """Whether another node reads a tensor too, under any of its names: what only passes it on gives it another."""
        names = [held for held, number in self._of.items() if number == tensor]
        return any(user is not node and self._of.get(user) != tensor for held in names for user in held.users)

    def _new(self, step: Step) -> int:
        if step.module is not None:
            self._only(step.module)
        self._steps.append(step)
        return len(self._steps)

    def _only(self, name: str) -> None:
        """A net holds every layer once, with parameters of its own."""
        for parameter in self._modules[name].parameters(recurse=False):
            if (other := self._owners.setdefault(id(parameter), name)) != name:
                raise self._unknown(f"parameters that {other} and {name} share")
        if any(name in (step.module, step.norm) for step in self._steps):
            raise self._unknown(f"{name}, which runs twice")

    def _source(self, node: fx.Node) -> int:
        return self._of[node.all_input_nodes[0]]

    def _unknown(self, what: str) -> InputError:
        return InputError(f"asked for a sparse {self._name}, got {what}, which the sparse kernels do not know.")


def _free(step: Step) -> bool:
    return step.module is not None and step.residual is None and not step.relu and step.pool is None


def _is_size(node: fx.Node) -> bool:
    """Whether a node is a tensor's shape or a part of it, and does nothing but say how many images there are."""
    part = node.target is operator.getitem and isinstance(node.args[0], fx.Node) and _is_shape(node.args[0])
    return (part or _is_shape(node)) and all(user.target in (operator.getitem, *_VIEWS) for user in node.users)


def _is_shape(node: fx.Node) -> bool:
    return node.target == "size" or (node.target is getattr and node.args[1] == "shape")


def _keeps_images(node: fx.Node) -> bool:
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


def _over_maps(node: fx.Node) -> bool:
    dims = _given(node, "dim")
    return not {*node.kwargs} - {"dim", "keepdim"} and isinstance(dims, tuple | list) and {*dims} in ({2, 3}, {-1, -2})


def _given(node: fx.Node, name: str) -> Any:
    """The second argument, however it was given."""
    return node.args[1] if len(node.args) > 1 else node.kwargs.get(name)


def _flattens(node: fx.Node) -> bool:
    given: dict[str, Any] = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | dict(node.kwargs)
    return bool(given.get("start_dim", 0) == 1 and given.get("end_dim", -1) == -1)
