"""One linear layer or convolution of a model on a sparse net of its own, where that is measured to be faster."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from ticketlab.errors import InputError
from ticketlab.sparse.dense_paths import CsrLinear, channels_last
from ticketlab.sparse.faster import fastest
from ticketlab.sparse.net import Lanes, Net
from ticketlab.sparse.plans import SURELY_PIXELS, wrong
from ticketlab.sparse.tune import tune

Layer = nn.Linear | nn.Conv2d
Call = Callable[[Tensor], Tensor]
# What a part of the inputs and its outputs may take (floats): more would leave the caches. Rows of a linear layer are
# many and small, images few and large, so at least one block of lanes and at most that many run together.
_FLOATS, _FEWEST, _MOST = 1 << 18, 16, 4096
# Inputs that nets are made for, beside the most of a part: tuning takes longer than deciding.
_NETS: dict[Lanes, tuple[int, ...]] = {"images": (1, 16, 128), "pixels": (1, SURELY_PIXELS)}
# Shapes of inputs whose nets are held at once, and those whose decisions are; linear layers see one only.
_HELD, _KNOWN = 4, 256


class SparseLayer:
    """What runs a layer; one thread at a time may use its nets, others wait.

    Args:
        layer: fp32, on the CPU, zero where it is pruned; its weights must stay as they are.
        mask: True where a weight lives.
        name: of the layer, for messages.
        always: whether the kernels run it without being measured.
    """

    def __init__(self, layer: Layer, mask: Tensor, name: str, always: bool) -> None:
        self.name, self.mask, self._always = name, mask, always
        self.kept = float(mask.sum()) / mask.numel()
        # Of the layer as it is now, whatever class it gets; a copy that shares its weights.
        self._layer = copy.copy(layer)
        self._linear = isinstance(layer, nn.Linear)
        self._features = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
        self._values = _values(layer)
        self._lock = threading.Lock()
        self._shapes: OrderedDict[tuple[int, ...], _Shape] = OrderedDict()
        self._last: _Way | None = None

    @property
    def last(self) -> str | None:
        """How it ran last, in words; None before it did."""
        return self._last.text if self._last else None

    @property
    def refused(self) -> str | None:
        """Why the kernels could not run it last; None where they could."""
        return self._last.refused if self._last else None

    @property
    def sparse(self) -> bool:
        """Whether it ran on the kernels last."""
        return self._last is not None and self._last.net is not None

    def pass_over(self, why: str) -> None:
        """Say that torch computed the layer as a part of something larger."""
        self._last = _Way(f"dense: {why}", self.plain, plain=True)

    def __call__(self, layer: Layer, inputs: Tensor) -> Tensor | None:
        """What the layer answers, or None where torch is to answer as if there were no kernels.

        Raises:
            InputError: the kernels have to run the layer and cannot, or compute something else.
        """
        if not self._takes(layer, inputs):
            return None
        linear, single = self._linear, inputs.dim() == 3
        batch = inputs.reshape(-1, self._features) if linear else inputs[None] if single else inputs
        with self._lock:
            way = self._last = self._way(batch)
            if way.net is not None:
                found = way.run(batch)
        if way.net is None:
            if way.plain:
                return None
            found = way.run(batch)
        return found.view(*inputs.shape[:-1], -1) if linear else found[0] if single else found

    def _takes(self, layer: Layer, inputs: Tensor) -> bool:
        """Whether these are inputs that only have to be multiplied; what torch does to others it does itself."""
        if not is_plain(inputs):
            return False
        if inputs.numel() == 0 or not (inputs.dim() if self._linear else inputs.dim() in (3, 4)):
            return False
        return (
            (inputs.device.type, inputs.dtype, inputs.layout) == ("cpu", torch.float32, torch.strided)
            and not (inputs.requires_grad and torch.is_grad_enabled())
            and not torch.is_autocast_enabled("cpu")
            and inputs.shape[-1 if self._linear else -3] == self._features
            and _values(layer) == self._values
        )

    def _way(self, batch: Tensor) -> _Way:
        shape = tuple(batch.shape[1:])
        if shape not in self._shapes:
            self._shapes[shape] = _Shape(self, shape)
            if len(self._shapes) > _KNOWN:
                self._shapes.popitem(last=False)
        self._shapes.move_to_end(shape)
        way = self._shapes[shape].way(batch)
        if len(self._shapes) > _HELD:
            for held in [held for held in self._shapes.values() if held.has_nets][:-_HELD]:
                held.forget_nets()
        return way

    def plain(self, batch: Tensor) -> Tensor:
        """What torch makes of a batch."""
        outputs: Tensor = self._layer(batch)
        return outputs

    def torchs(self) -> dict[str, Call]:
        """The ways that torch has."""
        name, made = (
            ("dense, as CSR", _csr(self._layer))
            if self._linear
            else ("dense, channels last", channels_last(self._layer))
        )
        return {"dense": self.plain} if made is None else {"dense": self.plain, name: made}

    def net(self, shape: tuple[int, ...], most: int, lanes: Lanes, inputs: Tensor) -> LayerNet:
        """A net for so many inputs, tuned on these if it is to be measured.

        Raises:
            InputError: the kernels cannot have it.
        """
        made = LayerNet(shape, most, training=False, lanes=lanes)
        layer = self._layer
        more: dict[str, object] = {}
        if isinstance(layer, nn.Conv2d):
            more = {key: getattr(layer, key) for key in ("stride", "padding", "dilation", "groups")}
        made.layer(0, self.mask, bias=layer.bias is not None, **more)  # type: ignore[arg-type]
        made.build()
        made.write(0, "weight", layer.weight)
        if layer.bias is not None:
            made.write(0, "bias", layer.bias)
        # Who asks for the kernels may want the same bits again: what is measured could decide otherwise then.
        if not self._always:
            # The tuner measures on the activations that are there.
            made.forward(inputs[torch.arange(most) % len(inputs)])
            tune(made)
        return made

    @property
    def always(self) -> bool:
        """Whether the kernels run it without being measured."""
        return self._always


class LayerNet(Net):
    """A net that writes its outputs where they are to be."""

    @property
    def form(self) -> tuple[int, ...]:
        """The shape of one output: (O,) of a linear layer, else (O, H, W)."""
        return self._shape(self._last)[: len(self.shape)]

    def answer(self, inputs: Tensor, outputs: Tensor) -> None:
        """Fill contiguous outputs (N, *form)."""
        self._run(inputs, False)
        self._library.call("output", self._handle, self._last, False, len(inputs), outputs.data_ptr())


@dataclass(frozen=True)
class _Way:
    """How inputs of one shape run: on a net, or on torch, which ``plain`` leaves as it is."""

    text: str
    run: Call
    net: LayerNet | None = None
    plain: bool = False
    refused: str | None = None


class _Shape:
    """The ways of a layer for inputs of one shape."""

    def __init__(self, layer: SparseLayer, shape: tuple[int, ...]) -> None:
        self._layer, self._shape = layer, shape
        self._nets: dict[tuple[int, int, Lanes], LayerNet] = {}
        self._ways: dict[tuple[int, int], _Way] = {}
        # Set with the first outputs, whose size decides it.
        self._most = 0

    def way(self, batch: Tensor) -> _Way:
        if not self._most:
            self._most = self._together(batch)
        size = min(self._most, 1 << (len(batch) - 1).bit_length())
        key = (size, torch.get_num_threads())
        if key not in self._ways:
            # Wherever else the caller makes new tensors.
            with torch.device("cpu"):
                self._ways[key] = self._made(size, batch[torch.arange(size) % len(batch)])
        return self._ways[key]

    @property
    def has_nets(self) -> bool:
        """Whether it holds weights and activations."""
        return bool(self._nets)

    def forget_nets(self) -> None:
        """Keep what was decided for torch; the rest is made again when it is needed."""
        self._nets.clear()
        self._ways = {key: way for key, way in self._ways.items() if way.net is None}

    def _together(self, batch: Tensor) -> int:
        """How many inputs run together: a power of two."""
        outputs = self._layer.plain(batch[:1])
        fit = _FLOATS // (batch[0].numel() + outputs[0].numel())
        return 1 << min(max(fit, _FEWEST), _MOST).bit_length() - 1

    def _made(self, size: int, batch: Tensor) -> _Way:
        layer, dense = self._layer, self._layer.torchs()
        lanes: Lanes = "pixels" if len(self._shape) == 3 and size <= SURELY_PIXELS else "images"
        most = next((n for n in _NETS[lanes] if size <= n < self._most), self._most)
        key = (most, torch.get_num_threads(), lanes)
        try:
            net = self._nets[key] if key in self._nets else layer.net(self._shape, most, lanes, batch)
            run = partial(_in_parts, net, self._most)
            if why := wrong(run(batch), layer.plain(batch)):
                raise InputError(f"asked for {layer.name} on the kernels, got outputs that {why} torch's.")
        except InputError as error:
            if layer.always:
                raise
            return _Way(f"dense: {error}", layer.plain, plain=True, refused=str(error))
        if layer.always or (name := fastest({**dense, "sparse": run}, batch, net, "layer")) == "sparse":
            self._nets[key] = net
            return _Way(f"sparse, {net.lanes} in lanes, {net.choice(0, 'forward')}", run, net)
        kind = "rows" if len(self._shape) == 1 else "images"
        return _Way(f"{name}: measured faster for {size} {kind}", dense[name], plain=name == "dense")


def _in_parts(net: LayerNet, most: int, batch: Tensor) -> Tensor:
    """The outputs for a batch, in parts of one size, as whole blocks of lanes as can be."""
    held = batch.detach().contiguous()
    outputs = held.new_empty(len(held), *net.form)
    if len(held) <= most:
        net.answer(held, outputs)
        return outputs
    parts = -(-len(held) // most)
    size = min(most, -(-len(held) // parts // _FEWEST) * _FEWEST)
    for some, to in zip(held.split(size), outputs.split(size), strict=True):
        net.answer(some, to)
    return outputs


def _csr(layer: Layer) -> Call | None:
    """A linear layer as a CSR matrix, or None where torch cannot multiply one."""
    try:
        matrix = CsrLinear(cast(nn.Linear, layer))
        matrix(layer.weight[:1])
    except RuntimeError:
        # Without MKL.
        return None
    return lambda rows: matrix(rows).contiguous()


def _values(layer: Layer) -> tuple[tuple[int, int], ...]:
    """Tells whether somebody wrote a layer's weights."""
    held = [value for value in (layer.weight, layer.bias) if value is not None]
    return tuple((value.data_ptr(), 0 if value.is_inference() else value._version) for value in held)


def is_plain(inputs: Tensor) -> bool:
    """Whether a tensor has values of its own in memory, and nobody but its reader is to know what is done to them.

    Others stand for several, for derivatives or for no values at all, or are there to record operations of torch's.
    """
    return (
        type(inputs) in (Tensor, nn.Parameter)
        and not (inputs.is_nested or inputs.is_neg())
        and not torch._C._functorch.is_functorch_wrapped_tensor(inputs)
        # Of torch.jit.trace, of make_fx and torch.export, and of forward-mode derivatives.
        and not (torch._C._is_tracing() or torch._C._len_torch_dispatch_stack())
        and forward_ad._current_level < 0
    )
