"""A torch model as the list of layers that the sparse kernels know, found by tracing it."""

from __future__ import annotations

from torch import fx, nn

from ticketlab.errors import InputError
from ticketlab.sparse import nodes
from ticketlab.sparse.nodes import pair
from ticketlab.sparse.steps import Maximum, Selection, Step
from ticketlab.sparse.tracing import is_torchs_own, name_of

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def traced(model: nn.Module) -> tuple[Step, ...]:
    """The model's layers in order: convolutions, linear layers and poolings with what follows each of them.

    Raises:
        InputError: it has something that the sparse kernels do not know; the message names it.
    """
    try:
        graph = nodes.graph(model)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"asked for a sparse {name_of(model)}, got a model that cannot be traced: {first}") from error
    return _Walk(model, dict(model.named_modules())).steps(graph)


class _Walk:
    """What follows a layer becomes a part of its step, if nothing else reads the layer; else it is a selection's."""

    def __init__(self, model: nn.Module, modules: dict[str, nn.Module]) -> None:
        self._name = name_of(model)
        self._modules = modules
        self._steps: list[Step] = []
        # Of every tensor; nothing but its readers tells those of the input.
        self._channels: list[int | None] = [None]
        # The layer of each parameter, to find those that two layers share.
        self._owners: dict[int, str] = {}
        # The tensor of each node, and the node that its memory was taken for: equal tensors may lie in two places.
        self._of: dict[fx.Node, int] = {}
        self._memory: dict[fx.Node, fx.Node] = {}
        # The tensors that were joined, by their parts.
        self._joined: dict[tuple[int, ...], int] = {}

    def steps(self, graph: fx.Graph) -> tuple[Step, ...]:
        for node in graph.nodes:
            if node.op == "placeholder":
                if self._of:
                    raise self._unknown("a second input")
                self._of[node], self._memory[node] = 0, node
                self._channels[0] = nodes.channels_wanted(node, self._modules)
            elif node.op == "output":
                if not isinstance(node.args[0], fx.Node) or self._of.get(node.args[0]) != len(self._steps):
                    raise self._unknown("an output that its last layer does not give")
            elif not nodes.is_size(node):
                module = self._module_of(node)
                self._of[node] = self._tensor(node)
                shares = nodes.shares_memory(node, module)
                memory = self._memory[node] = self._memory[node.all_input_nodes[0]] if shares else node
                if nodes.in_place(node, module):
                    # Whoever reads the operand from now on, under any of its names, reads what was written over it.
                    self._of |= {name: self._of[node] for name, held in self._memory.items() if held is memory}
        if not any(step.module for step in self._steps):
            raise self._unknown("no layer with weights")
        return tuple(self._steps)

    def _tensor(self, node: fx.Node) -> int:
        module = self._module_of(node)
        if module is not None:
            return self._called(node, str(node.target), module)
        if node.op in ("call_function", "call_method"):
            if node.target in nodes.RELUS:
                return self._relu(node)
            if node.target in nodes.ADDS and not {*node.kwargs} - {"other"}:
                return self._add(node)
            if node.target in nodes.CATS and (parts := nodes.parts(node)):
                return self._join([self._of[part] for part in parts])
            if (node.target in nodes.FLATTENS and nodes.flattens(node)) or (
                node.target in nodes.VIEWS and nodes.keeps_images(node)
            ):
                return self._source(node)
            if pooling := nodes.pooling(node):
                return self._pool(node, str(node), pooling)
            if nodes.over_maps(node):
                return self._new(Step(self._source(node), None))
        raise self._unknown(f"{node.op.removeprefix('call_')} {getattr(node.target, '__name__', node.target)}")

    def _called(self, node: fx.Node, name: str, module: nn.Module) -> int:
        if not is_torchs_own(module):
            raise self._unknown(f"a forward of its own, hooks or parametrisations on {name}")
        if isinstance(module, nn.Conv2d | nn.Linear):
            if isinstance(module, nn.Conv2d) and nodes.padding(module) is None:
                raise self._unknown(f"padding {module.padding_mode} {module.padding} in {name}")
            self._only(name)
            return self._new(Step(self._source(node), name))
        if isinstance(module, _NORMS):
            return self._norm(node, name, module)
        if isinstance(module, nn.ReLU):
            return self._relu(node)
        if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
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

    def _norm(self, node: fx.Node, name: str, module: nn.BatchNorm1d | nn.BatchNorm2d) -> int:
        if module.momentum is None or not module.track_running_stats:
            raise self._unknown(f"batch norm without a momentum or running statistics in {name}")
        self._only(name)
        source = self._source(node)
        if self._channels[source] not in (None, module.num_features):
            raise self._unknown(f"{name} of {module.num_features} features on {self._channels[source]} channels")
        step = self._alone(node, source)
        if step is None or step.norm is not None or not _ends_in_weights(step):
            return self._new(self._selection(source, module.num_features, norm=name))
        step.norm = name
        return source

    def _relu(self, node: fx.Node) -> int:
        source = self._source(node)
        before = self._steps[source - 1] if source else None
        # A second ReLU changes nothing; the maximum and the ReLU may change places.
        if before is not None and before.relu:
            return source
        step = self._alone(node, source)
        if before is not None and before.maximum and not self._read_elsewhere(node, source):
            first = next(name for name, tensor in self._of.items() if tensor == source)
            step = self._alone(first, before.source)
        if step is None:
            return self._new(self._selection(source, relu=True))
        step.relu = True
        return source

    def _pool(self, node: fx.Node, name: str, module: nn.MaxPool2d | nn.AvgPool2d) -> int:
        source, kernel = self._source(node), pair(module.kernel_size)
        stride, padding = pair(module.stride), pair(module.padding)
        if isinstance(module, nn.AvgPool2d):
            uneven = module.ceil_mode or (padding != (0, 0) and not module.count_include_pad)
            if uneven or module.divisor_override is not None:
                raise self._unknown(f"AvgPool2d in {name} with windows of other sizes than their divisors")
            channels = self._known_channels(source)
            more = Selection(channels, channels, window=kernel, stride=stride, padding=padding)
            return self._new(Step(source, None, selection=more))
        if pair(module.dilation) != (1, 1) or module.return_indices:
            raise self._unknown(f"max-pooling with dilation or indices in {name}")
        step = self._alone(node, source)
        halves = (kernel, stride, padding) == ((2, 2), (2, 2), (0, 0))
        if not halves or step is None or step.residual is not None or step.pool:
            return self._new(Step(source, None, maximum=Maximum(kernel, stride, padding, module.ceil_mode)))
        step.pool = "ceil" if module.ceil_mode else "floor"
        return source

    def _add(self, node: fx.Node) -> int:
        inputs = [*node.args, *node.kwargs.values()]
        if len(inputs) != 2 or not all(isinstance(i, fx.Node) for i in inputs):
            raise self._unknown("a sum of something else than two tensors")
        first, last = sorted(self._of[i] for i in inputs if isinstance(i, fx.Node))
        one, other = self._channels[first], self._channels[last]
        if one != other and None not in (one, other):
            raise self._unknown(f"a sum of {one} and {other} channels")
        step = self._alone(node, last)
        if step is None or first == last or not _ends_in_weights(step):
            return self._new(self._selection(last, residual=first))
        step.residual = first
        return last

    def _join(self, tensors: list[int]) -> int:
        """A concatenation; of what was joined before it takes as much as it can."""
        every = tuple(tensors)
        for count in range(len(tensors), 1, -1):
            known = self._joined.get(every[:count])
            if known is not None and not self._steps[known - 1].relu:
                tensors = [known, *tensors[count:]]
                break
        if len(tensors) == 1:
            return tensors[0]
        widths = [self._known_channels(tensor) for tensor in tensors]
        joined = None
        for i, (tensor, width) in enumerate(zip(tensors, widths, strict=True)):
            selection = Selection(width, sum(widths), sum(widths[:i]))
            joined = self._new(Step(tensor, None, residual=joined, selection=selection))
        assert joined is not None
        self._joined[every] = joined
        return joined

    def _selection(
        self,
        source: int,
        channels: int | None = None,
        *,
        norm: str | None = None,
        residual: int | None = None,
        relu: bool = False,
    ) -> Step:
        channels = channels or self._known_channels(source)
        return Step(source, None, norm, residual, relu, selection=Selection(channels, channels))

    def _alone(self, node: fx.Node, tensor: int) -> Step | None:
        """The convolution, linear layer or selection that gives a tensor, if a node is all that reads it."""
        if tensor == 0 or self._read_elsewhere(node, tensor):
            return None
        step = self._steps[tensor - 1]
        return step if step.module or step.selection else None

    def _read_elsewhere(self, node: fx.Node, tensor: int) -> bool:
        """Whether another node reads a tensor too, under any of its names: what only passes it on gives it another."""
        # Those that read it before all its names were written over are known as steps alone.
        if sum(tensor in (step.source, step.residual) for step in self._steps) > (node in self._of):
            return True
        names = [held for held, number in self._of.items() if number == tensor]
        users = [user for held in names for user in held.users]
        return any(user is not node and self._of.get(user) != tensor for user in users)

    def _new(self, step: Step) -> int:
        self._steps.append(step)
        if step.module is not None:
            self._channels.append(nodes.channels_given(self._modules[step.module]))
        else:
            self._channels.append(step.selection.outputs if step.selection else self._channels[step.source])
        return len(self._steps)

    def _only(self, name: str) -> None:
        """A net holds every layer once, with parameters of its own."""
        for parameter in self._modules[name].parameters(recurse=False):
            if (other := self._owners.setdefault(id(parameter), name)) != name:
                raise self._unknown(f"parameters that {other} and {name} share")
        if any(name in (step.module, step.norm) for step in self._steps):
            raise self._unknown(f"{name}, which runs twice")

    def _module_of(self, node: fx.Node) -> nn.Module | None:
        return self._modules[str(node.target)] if node.op == "call_module" else None

    def _known_channels(self, tensor: int) -> int:
        if (found := self._channels[tensor]) is None:
            raise self._unknown("something else than a layer on the input, so that nothing tells its channels")
        return found

    def _source(self, node: fx.Node) -> int:
        return self._of[node.all_input_nodes[0]]

    def _unknown(self, what: str) -> InputError:
        return InputError(f"asked for a sparse {self._name}, got {what}, which the sparse kernels do not know.")


def _ends_in_weights(step: Step) -> bool:
    """Whether nothing but a batch norm follows a step's weights so far."""
    return step.residual is None and not step.relu and step.pool is None
