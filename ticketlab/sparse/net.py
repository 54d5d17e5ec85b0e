"""A network whose pruned weights cost nothing: forward, backward and SGD on the kept ones, in exact fp32."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from ctypes import POINTER, byref, c_double, c_float, c_int, c_void_p
from dataclasses import dataclass
from typing import Literal, NoReturn

import torch
from torch import Tensor

from ticketlab.errors import InputError, unknown
from ticketlab.sparse.library import LEVELS, LayerSpec, level, library

PASSES = ("forward", "input_gradient", "weight_gradient")
# The tiles that kernels hold in registers, by number: blocks of images, rows and columns of pixels.
SHAPES = (
    *((1, 1, 1), (1, 1, 2), (1, 1, 4), (1, 1, 8), (1, 1, 16), (1, 2, 2), (1, 2, 4), (1, 2, 8), (1, 4, 4)),
    *((2, 1, 1), (4, 1, 1), (8, 1, 1), (16, 1, 1), (2, 2, 2), (4, 2, 2)),
)
Part = Literal["weight", "bias", "gamma", "beta"]
Kind = Literal["value", "momentum", "gradient"]
# What a vector of the kernels holds a number of.
Lanes = Literal["images", "pixels"]
_PARTS, _KINDS = ("weight", "bias", "gamma", "beta"), ("value", "momentum", "gradient")
_POOLS = {None: 0, "floor": 1, "ceil": 2}


@dataclass(frozen=True)
class Choice:
    """How one pass of one layer runs. It decides the order of summation, and so the last bits.

    Attributes:
        quad: whether four output channels share a list of taps, which pays in near-dense layers.
        shape: which tile of pixels is held in registers, of ``SHAPES``.
        block: how many input channels' taps run together; 0 takes all.
    """

    quad: bool
    shape: int
    block: int


@dataclass(frozen=True)
class Norm:
    """Batch norm after a layer; ``affine`` trains gamma and beta. ``momentum`` is torch's."""

    eps: float = 1e-5
    momentum: float = 0.1
    affine: bool = True


class Net:
    """Layers from an input to an output; add them in order, then ``build``.

    Same plan, choices and instruction set: the same bits, whatever the number of threads. NaN and infinity go where
    kept weights lead them; a pruned weight passes nothing on, where dense arithmetic makes NaN of zero times infinity.

    Args:
        shape: of one input, (C, H, W) or (features,).
        batch: the most inputs of a step.
        instructions: "plain", "avx2" or "avx512"; None takes TICKETLAB_SPARSE_LEVEL, else the widest there is.
        training: whether ``backward`` is to work; a net that only answers takes less than half the memory.
        input_gradient: whether ``input_gradient`` is to work.
        lanes: what a vector holds: "images", or neighbouring "pixels" of one image, which suits a few images and nets
            that only answer. Outputs are summed in the same order.

    Raises:
        InputError: no native kernels here, or sizes that make no sense.
    """

    def __init__(
        self,
        shape: Sequence[int],
        batch: int,
        *,
        instructions: str | None = None,
        training: bool = True,
        input_gradient: bool = False,
        lanes: Lanes = "images",
    ) -> None:
        if len(shape) not in (1, 3) or min(shape, default=0) < 1 or batch < 1:
            raise InputError(f"asked for a sparse net on {batch} inputs of shape {tuple(shape)}: got no (C, H, W).")
        self.instructions = level(instructions)
        self.shape = tuple(shape)
        self.batch = batch
        self.lanes = lanes
        # The passes that a choice can be made for.
        self.passes = PASSES if training else PASSES[:1]
        self._library = library()
        self._handle = c_void_p()
        sizes = (c_int * 3)(*shape, *((1, 1) if len(shape) == 1 else ()))
        wanted = (training, input_gradient, lanes == "pixels")
        self._library.call("new", LEVELS.index(self.instructions), batch, sizes, *wanted, byref(self._handle))
        weakref.finalize(self, self._library.free, self._handle)
        # Of each layer, None for a pooling.
        self._masks: list[Tensor | None] = []
        self._frozen: set[int] = set()
        self._specs: list[tuple[object, ...]] = []
        self._groups: list[int] = []
        self._last = 0
        self._images = 0
        self._threads = 1
        self._shapes: dict[int, tuple[int, int, int]] = {}

    def layer(
        self,
        source: int,
        mask: Tensor,
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        bias: bool = False,
        norm: Norm | None = None,
        residual: int | None = None,
        relu: bool = False,
        pool: str | None = None,
        frozen: bool = False,
    ) -> int:
        """Add a convolution or linear layer, and return the number of its output.

        In this order: weights, bias, batch norm, residual, ReLU, 2x2 max-pooling.

        Args:
            source: the tensor it reads; 0 is the input, others are what earlier calls returned.
            mask: bool, True where a weight lives: (O, I / groups, kh, kw), or (O, features) for a linear layer, which
                reads its source flattened.
            residual: the tensor to add, of the output's shape.
            pool: None, "floor", or "ceil" for windows that reach over an odd edge.
            frozen: kept weights are one over the kernel's places, for good: nothing trains, writes or tunes them.

        Raises:
            InputError: shapes that do not fit, or a tensor that is not there.
        """
        if mask.dtype != torch.bool or mask.dim() not in (2, 4):
            raise InputError(
                f"asked for a sparse layer, got a {mask.dtype} mask of shape {tuple(mask.shape)}: "
                "it must be a bool tensor of two or four dimensions."
            )
        if pool not in _POOLS:
            raise unknown("pooling", str(pool), [name for name in _POOLS if name])
        positions = mask.reshape(-1).nonzero().reshape(-1).contiguous()
        pair = ctypes.c_int32 * 2
        kernel = (mask.shape[2], mask.shape[3]) if mask.dim() == 4 else (1, 1)
        spec = LayerSpec(
            source=source,
            residual=-1 if residual is None else residual,
            outputs=mask.shape[0],
            columns=mask.shape[1],
            kernel=pair(*kernel),
            stride=pair(*stride),
            padding=pair(*padding),
            dilation=pair(*dilation),
            groups=groups,
            linear=mask.dim() == 2,
            bias=bias,
            norm=norm is not None,
            affine=norm is not None and norm.affine,
            relu=relu,
            pool=_POOLS[pool],
            frozen=frozen,
            eps=norm.eps if norm else 0.0,
            momentum=norm.momentum if norm else 0.0,
            kept=len(positions),
            positions=positions.data_ptr(),
        )
        found = c_int()
        self._library.call("layer", self._handle, byref(spec), byref(found))
        if frozen:
            self._frozen.add(len(self._masks))
        self._masks.append(mask.clone())
        self._groups.append(groups)
        after = (bias, norm is not None, residual is not None, relu, pool)
        self._specs.append((self._shape(source), tuple(mask.shape), stride, padding, dilation, groups, after))
        self._last = found.value
        return found.value

    def average(self, source: int) -> int:
        """Add the mean over each map, and return the number of its output (C, 1, 1)."""
        found = c_int()
        self._library.call("average", self._handle, source, byref(found))
        return self._pooled(found.value, "average", self._shape(source))

    def maximum(
        self,
        source: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int] = (0, 0),
        *,
        ceil: bool = False,
    ) -> int:
        """Add a max-pooling of any window, and return the number of its output.

        As torch's: padding never wins, a NaN does, and of equal values the first one gets the gradient.

        Args:
            kernel, stride, padding: rows and columns, in pixels.
            ceil: whether windows may reach over the bottom and right edges.

        Raises:
            InputError: a window larger than its input, padding of more than half of it, or a tensor that is not there.
        """
        found = c_int()
        sizes = (c_int * 6)(*kernel, *stride, *padding)
        self._library.call("maximum", self._handle, source, sizes, ceil, byref(found))
        return self._pooled(found.value, "maximum", self._shape(source), kernel, stride, padding)

    def _pooled(self, tensor: int, *spec: object) -> int:
        self._masks.append(None)
        self._specs.append(spec)
        self._groups.append(1)
        self._last = tensor
        return tensor

    def build(self) -> Net:
        """Plan the net and take its memory. Weights start at zero, batch norm at its usual values.

        Raises:
            InputError: a layer whose output nothing uses, maps too large for 32-bit offsets, or too little memory.
        """
        self._library.call("build", self._handle)
        return self

    @property
    def layers(self) -> tuple[int, ...]:
        """The numbers of the layers that have weights of their own, in the order in which they were added."""
        return tuple(i for i, mask in enumerate(self._masks) if mask is not None and i not in self._frozen)

    def choice(self, layer: int, which: str) -> Choice:
        """How a pass of a layer runs."""
        held = (c_int * 3)()
        self._library.call("choice", self._handle, layer, self._pass(which), held)
        return Choice(bool(held[0]), held[1], held[2])

    def choose(self, layer: int, which: str, choice: Choice) -> None:
        """Run a pass of a layer in this way from now on.

        Raises:
            InputError: the tile does not fit the layer's map or the instruction set.
        """
        self._library.call("choose", self._handle, layer, self._pass(which), _ints(choice))

    def facts(self, layer: int) -> tuple[object, ...]:
        """Everything but the number of kept weights that decides how long a layer takes on this machine."""
        return (*self._specs[layer], self.batch, self.instructions, self.lanes)

    @property
    def structure(self) -> tuple[object, ...]:
        """Everything but the places of the weights that decides how long the whole net takes on this machine."""
        kept = (None if mask is None else f"{float(mask.sum()) / mask.numel():.1e}" for mask in self._masks)
        return (*zip(self._specs, kept, strict=True), self.batch, self.instructions, self.lanes)

    def channels(self, layer: int) -> tuple[int, int]:
        """How many a layer reads and gives; of a linear layer, how many features it reads."""
        mask = self._mask(layer)
        return mask.shape[1] * self._groups[layer], mask.shape[0]

    def density(self, layer: int) -> float:
        """The fraction of a layer's weights that live."""
        mask = self._mask(layer)
        return float(mask.sum()) / mask.numel()

    def possible(self, layer: int, which: str, choice: Choice) -> bool:
        """Whether ``choose`` would take it."""
        found = c_int()
        self._library.call("possible", self._handle, layer, self._pass(which), _ints(choice), byref(found))
        return bool(found.value)

    def seconds(self, layer: int, which: str, runs: int = 3) -> float:
        """What a pass of a layer takes on a full batch: the fastest of so many runs."""
        found = c_double()
        self._use_threads()
        self._library.call("time", self._handle, layer, self._pass(which), runs, byref(found))
        return found.value

    def read(self, layer: int, part: Part, kind: Kind = "value") -> Tensor:
        """A parameter, its momentum or its gradient, in the parameter's shape with zeros where weights are pruned."""
        kept = self.read_kept(layer, part, kind)
        if part != "weight":
            return kept
        mask = self._mask(layer)
        dense = torch.zeros(mask.shape, dtype=torch.float32, device="cpu")
        dense[mask] = kept
        return dense

    def read_kept(self, layer: int, part: Part, kind: Kind = "value") -> Tensor:
        """The same without the pruned places: one value for each kept weight, in the order of ``mask.nonzero()``."""
        mask = self._mask(layer)
        count = int(mask.sum()) if part == "weight" else mask.shape[0]
        return self._values(layer, _PARTS.index(part) * 3 + _KINDS.index(kind), count)

    def write(self, layer: int, part: Part, values: Tensor, kind: Kind = "value") -> None:
        """Set a parameter or its momentum; what stands at pruned places is not used.

        Raises:
            InputError: values of another shape than the parameter's.
        """
        mask = self._mask(layer)
        shape = mask.shape if part == "weight" else mask.shape[:1]
        if values.shape != shape:
            raise InputError(f"asked to set {part} of {tuple(shape)}, got values of {tuple(values.shape)}.")
        self.write_kept(layer, part, values.detach()[mask] if part == "weight" else values, kind)

    def write_kept(self, layer: int, part: Part, values: Tensor, kind: Kind = "value") -> None:
        """Set what ``read_kept`` gives.

        Raises:
            InputError: another number of values than are kept.
        """
        number = _PARTS.index(part) * 3 + _KINDS.index(kind)
        self._values(layer, number, 0, values.detach().to("cpu", torch.float32))
        if number == 0:
            self._use_threads()
            self._library.call("refresh", self._handle, layer)

    def statistics(self, layer: int) -> tuple[Tensor, Tensor]:
        """Running mean and variance of a layer's batch norm (copies)."""
        outputs = self._mask(layer).shape[0]
        return self._values(layer, 12, outputs), self._values(layer, 13, outputs)

    def set_statistics(self, layer: int, mean: Tensor, variance: Tensor) -> None:
        """Set them."""
        for number, values in ((12, mean), (13, variance)):
            self._values(layer, number, 0, values.detach().to("cpu", torch.float32))

    def forward(self, inputs: Tensor, *, training: bool = False) -> Tensor:
        """The last layer's outputs (N, O), or (N, O, H, W) where it gives maps of more than one pixel.

        ``training`` takes the batch's statistics and updates the running ones; ``backward`` may then follow.

        Raises:
            InputError: inputs of another shape, or more of them than the net was built for; one value for each channel
                in training with batch norm.
        """
        self._run(inputs, training)
        found = self.activation(self._last)
        return found.flatten(1) if found.shape[2:] == (1, 1) else found

    def activation(self, tensor: int) -> Tensor:
        """What a tensor held in the last forward pass (N, C, H, W); 0 is the input."""
        return self._unpacked(tensor, False)

    def input_gradient(self) -> Tensor:
        """The gradient of the inputs, in their shape, after ``backward``.

        Raises:
            InputError: the net was made without it, or there was no such pass.
        """
        return self._unpacked(0, True).view(-1, *self.shape)

    def loss(self, targets: Tensor) -> float:
        """Mean cross-entropy of the last forward pass in training; ``backward`` may follow without a gradient.

        Raises:
            InputError: classes that the output does not have, not as many as there were inputs, or no such pass.
        """
        targets = targets.detach().to("cpu", torch.int64).contiguous()
        if targets.shape != (self._images,):
            raise InputError(f"asked for a loss on {self._images} inputs, got targets of shape {tuple(targets.shape)}.")
        found = c_double()
        self._library.call("loss", self._handle, targets.data_ptr(), None, byref(found))
        return found.value

    def backward(self, output_gradient: Tensor | None = None) -> None:
        """Gradients of all parameters, from that of the output or else of ``loss``.

        Raises:
            InputError: no forward pass in training before it, or a gradient of another shape.
        """
        self._use_threads()
        if output_gradient is None:
            self._library.call("backward", self._handle, None)
            return
        wanted = (self._images, *self._shape(self._last))
        if output_gradient.shape not in (wanted, wanted[: 2 if wanted[2:] == (1, 1) else 4]):
            raise InputError(
                f"asked for gradients from one of {tuple(output_gradient.shape)}, got an output of {wanted}."
            )
        held = output_gradient.detach().to("cpu", torch.float32).contiguous()
        self._library.call("backward", self._handle, held.data_ptr())

    def update(self, lr: float, *, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False) -> None:
        """A step of SGD, as torch.optim.SGD defines it (no dampening), on kept weights and all other parameters."""
        self._use_threads()
        self._library.call("update", self._handle, lr, momentum, weight_decay, nesterov)

    def step(
        self,
        inputs: Tensor,
        targets: Tensor,
        lr: float,
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> float:
        """Forward, loss, backward, update; the loss before the update.

        Raises:
            InputError: see ``forward`` and ``loss``.
        """
        self._run(inputs, True)
        loss = self.loss(targets)
        self.backward()
        self.update(lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
        return loss

    def _run(self, inputs: Tensor, training: bool) -> None:
        images = inputs.shape[0] if inputs.dim() > 1 else 0
        if inputs.shape[1:] != self.shape or not 1 <= images <= self.batch:
            raise InputError(
                f"asked to run inputs of shape {tuple(inputs.shape)}, got a net for 1 to {self.batch} of {self.shape}."
            )
        held = inputs.detach().to("cpu", torch.float32).contiguous()
        self._use_threads()
        self._library.call("forward", self._handle, held.data_ptr(), images, training)
        self._images = images

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be copied or pickled: two objects must not own the same native memory."""
        raise InputError("asked to copy a sparse net, got one that lives in native memory: make another, and load it.")

    def _use_threads(self) -> None:
        if (threads := torch.get_num_threads()) != self._threads:
            self._library.call("threads", self._handle, threads)
            self._threads = threads

    def _shape(self, tensor: int) -> tuple[int, int, int]:
        if tensor not in self._shapes:
            found = (c_int * 3)()
            self._library.call("shape", self._handle, tensor, found)
            self._shapes[tensor] = found[0], found[1], found[2]
        return self._shapes[tensor]

    def _unpacked(self, tensor: int, gradient: bool) -> Tensor:
        held = torch.empty(self._images, *self._shape(tensor), dtype=torch.float32, device="cpu")
        self._library.call("output", self._handle, tensor, gradient, self._images, held.data_ptr())
        return held

    def _mask(self, layer: int) -> Tensor:
        mask = self._masks[layer] if 0 <= layer < len(self._masks) else None
        if mask is None:
            raise InputError(f"asked for layer {layer}, got layers with weights {', '.join(map(str, self.layers))}.")
        return mask

    def _values(self, layer: int, number: int, count: int, values: Tensor | None = None) -> Tensor:
        held = torch.empty(count, dtype=torch.float32, device="cpu") if values is None else values.contiguous()
        data = ctypes.cast(held.data_ptr(), POINTER(c_float))
        self._library.call("values", self._handle, layer, number, values is not None, data, held.numel())
        return held

    def _pass(self, which: str) -> int:
        if which not in PASSES:
            raise unknown("pass", which, PASSES)
        return PASSES.index(which)


def _ints(choice: Choice) -> ctypes.Array[c_int]:
    return (c_int * 3)(choice.quad, choice.shape, choice.block)
