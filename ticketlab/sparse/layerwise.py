"""A model of any kind, layer by layer: its own code runs, and its pruned layers run on the sparse kernels."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ticketlab.errors import InputError
from ticketlab.sparse.library import level
from ticketlab.sparse.one_layer import Layer, SparseLayer
from ticketlab.sparse.plans import wrong
from ticketlab.sparse.unfused import unfuse


class SparseLinear(nn.Linear):
    """A linear layer that computes what it did, on the kernels where it can.

    Its weights stay where they were: code that reads them instead of calling the layer finds them.
    """

    _kernels: SparseLayer

    def forward(self, input: Tensor) -> Tensor:
        """(..., features) to (..., O)."""
        found = self._kernels(self, input)
        return super().forward(input) if found is None else found


class SparseConv2d(nn.Conv2d):
    """A convolution that computes what it did, on the kernels where it can."""

    _kernels: SparseLayer

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) or (C, H, W), as torch's."""
        found = self._kernels(self, input)
        return super().forward(input) if found is None else found


class LayerByLayer:
    """A copy of a model whose pruned layers run on the kernels.

    Several threads may call it: each layer serves one at a time.

    Args:
        model: in eval mode, pruned weights zero; not changed. The copy shares its parameters.
        mask: True where a weight lives, by parameter name.
        path: "auto" takes the faster way of each layer, "sparse" the kernels.

    Raises:
        InputError: there is no layer that the kernels can run alone.
    """

    def __init__(self, model: nn.Module, mask: Mapping[str, Tensor], path: str) -> None:
        self._plain, self._always = model, path == "sparse"
        self._model = copy.deepcopy(model, {id(p): p for p in model.parameters()})
        self._pruned = sum(not bool(kept.all()) for kept in mask.values())
        self._layers: list[SparseLayer] = []
        self._sparsify(mask)
        if not self._layers:
            raise InputError("nor can a layer of it run alone: none is a pruned nn.Linear or nn.Conv2d that they know")
        self._first = threading.Lock()
        self._compared = False

    def _sparsify(self, mask: Mapping[str, Tensor]) -> None:
        kept = {id(p): mask[name] for name, p in self._model.named_parameters() if name in mask}
        owners = Counter(id(p) for m in self._model.modules() for p in m._parameters.values() if p is not None)
        for name, module in self._model.named_modules():
            alive = kept.get(id(module._parameters.get("weight")))
            if alive is None or bool(alive.all()) or not _alone(module, owners):
                continue
            layer: Layer = module
            kernels = SparseLayer(layer, alive, name, self._always)
            # Its class changes and not the model, so that whatever holds the layer, under any name, still does.
            layer.__class__ = SparseLinear if isinstance(layer, nn.Linear) else SparseConv2d
            layer._kernels = kernels  # type: ignore[assignment]
            self._layers.append(kernels)
        for module in self._model.modules():
            if type(module) is nn.TransformerEncoderLayer:
                inside = [m._kernels for m in (module.linear1, module.linear2) if isinstance(m, SparseLinear)]
                if inside:
                    unfuse(module, inside, self._always)

    def __call__(self, *inputs: Any, **more: Any) -> Any:
        """What the model answers; the first answer is compared with the dense one, if the inputs can be copied.

        Raises:
            InputError: it is another answer, or with path "sparse" a layer that the kernels cannot run.
        """
        if not self._compared:
            with self._first:
                if not self._compared:
                    return self._compare(inputs, more)
        return self._model(*inputs, **more)

    def _compare(self, inputs: tuple[Any, ...], more: dict[str, Any]) -> Any:
        found, why = compared(self._model, self._plain, inputs, more)
        if why:
            raise InputError(f"asked for layers on the kernels, got outputs that {why} those of the dense path")
        self._compared = True
        return found

    @property
    def sparse(self) -> int:
        """How many layers ran on the kernels when they ran last."""
        return sum(layer.sparse for layer in self._layers)

    @property
    def refused(self) -> str | None:
        """Why none of the layers that ran can run on the kernels; None where one can, whether used or not."""
        why = [layer.refused for layer in self._layers if layer.last]
        return why[0] if why and all(why) else None

    @property
    def path(self) -> str:
        """How the layers ran last, in words."""
        if all(layer.last is None for layer in self._layers):
            return "layer by layer: none has run yet"
        if not self.sparse:
            return f"dense: {self.refused or 'no layer measured faster on the kernels'}"
        return f"layer by layer ({level()}): {self.sparse} of {self._pruned} layers sparse"

    @property
    def layers(self) -> tuple[str, ...]:
        """How each layer ran last, in words."""
        return tuple(f"{one.name}: {one.kept:.1%} kept, {one.last or 'not called yet'}" for one in self._layers)


@dataclass(frozen=True)
class LayerPlan:
    """How inputs run for which the whole network cannot, and why it cannot."""

    model: LayerByLayer
    why: str
    sparse: bool = False  # as a whole

    @property
    def refused(self) -> str | None:
        """Why the kernels can run none of the layers that ran; None where they can, used or not."""
        return self.model.refused

    @property
    def path(self) -> str:
        """In words, with the reason."""
        return f"{self.model.path}; {self.why.removesuffix('.')}"

    @property
    def layers(self) -> tuple[str, ...]:
        """How each layer runs, in words."""
        return self.model.layers

    def __call__(self, *inputs: Any, **more: Any) -> Any:
        """The outputs."""
        return self.model(*inputs, **more)


def compared(
    ours: nn.Module, theirs: nn.Module, inputs: tuple[Any, ...], more: dict[str, Any]
) -> tuple[Any, str | None]:
    """Our outputs, and what tells them from those of another model in words, where it is more than rounding.

    Inputs of which no copy can be made are used once, and nothing is compared: what a caller's own object does when it
    is used twice, a cache of keys say, is not known.
    """
    try:
        copied = copied_inputs((inputs, more))
    except TypeError:
        return ours(*inputs, **more), None
    before = torch.get_rng_state()
    found = ours(*inputs, **more)
    after = torch.get_rng_state()
    if not torch.equal(before, after):
        torch.set_rng_state(before)
    wanted = theirs(*copied[0], **copied[1])
    torch.set_rng_state(after)
    pairs = list(_tensors(found)), list(_tensors(wanted))
    if len(pairs[0]) != len(pairs[1]):
        return found, "are not as many as"
    off = (wrong(a.contiguous(), b) for a, b in zip(*pairs, strict=True) if b.numel() and b.is_floating_point())
    return found, next(filter(None, off), None)


def _alone(module: nn.Module, owners: Mapping[int, int]) -> bool:
    """Whether a module is a layer of torch's that the kernels know, with weights of its own."""
    if type(module) not in (nn.Linear, nn.Conv2d) or "forward" in module.__dict__:
        return False
    if module._forward_pre_hooks or module._forward_hooks:
        return False
    if isinstance(module, nn.Conv2d) and (module.padding_mode != "zeros" or isinstance(module.padding, str)):
        return False
    held = [p for p in module._parameters.values() if p is not None]
    return all(
        (p.dtype, p.device.type, p.layout) == (torch.float32, "cpu", torch.strided) and owners[id(p)] == 1 for p in held
    )


def copied_inputs(value: Any) -> Any:
    """Inputs, with copies of their tensors. TypeError where one is no tensor, plain value or plain container."""
    if isinstance(value, Tensor):
        return value.clone()
    if type(value) in (tuple, list):
        return type(value)(copied_inputs(one) for one in value)
    if type(value) is dict:
        return {key: copied_inputs(one) for key, one in value.items()}
    if value is None or isinstance(value, bool | int | float | complex | str | torch.dtype | torch.device):
        return value
    raise TypeError


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in a value, in order."""
    if isinstance(value, Tensor):
        if not value.is_nested and value.layout == torch.strided:
            yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _tensors(one)
