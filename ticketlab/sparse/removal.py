"""Channels that change no answer, removed: constant ones, dead ones and those that nothing reads.

A pruned unit still gives a constant: what its bias and batch norm make of zero. With zero padding that constant ends
at the border, so the next layer cannot just add it to its bias. All constant channels together are one channel of
ones, which that layer reads with the sums of the weights that read them. This is exact but for the rounding of these
sums, and for infinities and NaN, which a pruned weight no longer multiplies.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx, nn

from ticketlab.sparse.nodes import padding
from ticketlab.sparse.steps import Selection, Step

Layer = nn.Conv2d | nn.Linear


@dataclass(frozen=True)
class _Stay:
    """Of one tensor's channels: those that stay, and the constants of those that one channel of ones stands for."""

    kept: Tensor
    constants: Tensor

    @property
    def width(self) -> int:
        return len(self.kept) + self.merges

    @property
    def merges(self) -> bool:
        return bool(self.constants.any())


def without_idle_channels(
    model: fx.GraphModule, steps: Sequence[Step], mask: Mapping[str, Tensor]
) -> tuple[fx.GraphModule, dict[str, Tensor]]:
    """A copy of the model without the channels that can be removed alone, and its mask.

    Channels of sums, of grouped convolutions and of selections stay, and so do the input's and the output's.

    Args:
        model: in eval mode, its batch norms folded, pruned weights zero; ``steps`` as ``traced`` finds them.
        mask: True where a weight lives, for some or all of the layers.
    """
    smaller = copy.deepcopy(model)
    layers = [None if step.module is None else cast(Layer, model.get_submodule(step.module)) for step in steps]
    stays = _stays(steps, layers)
    changed = {name: kept.clone() for name, kept in mask.items()}
    for step, layer, out in zip(steps, layers, range(1, len(steps) + 1), strict=True):
        before, after = stays.get(step.source), stays.get(out)
        if layer is None or (before is None and after is None):
            continue
        name = cast(str, step.module)
        kept = changed.get(f"{name}.weight", torch.ones(layer.weight.shape, dtype=torch.bool))
        weight, bias = layer.weight.detach(), layer.bias
        if before is not None:
            weight, kept = _columns(weight, kept, before)
        if after is not None:
            weight, kept = _rows(weight, after, 0), _rows(kept, after, 0)
            held = weight.new_zeros(len(layer.weight)) if bias is None else bias.detach()
            if bias is not None or after.merges:
                bias = nn.Parameter(_rows(held, after, 1), requires_grad=False)
        owner, _, last = name.rpartition(".")
        setattr(smaller.get_submodule(owner), last, _resized(layer, weight, bias))
        changed[f"{name}.weight"] = kept
    return smaller, changed


def _columns(weight: Tensor, kept: Tensor, stay: _Stay) -> tuple[Tensor, Tensor]:
    """Without the channels that a layer no longer reads; a linear layer reads some pixels of each."""
    channels, shape = len(stay.constants), (len(weight), -1, *weight.shape[2:])
    by_channel = weight.reshape(len(weight), channels, -1)
    parts, alive = [by_channel[:, stay.kept]], [kept.reshape(by_channel.shape)[:, stay.kept]]
    if stay.merges:
        parts.append(_summed(by_channel, stay.constants)[:, None].to(weight))
        alive.append(parts[1] != 0)
    return torch.cat(parts, 1).reshape(shape), torch.cat(alive, 1).reshape(shape)


def _rows(values: Tensor, stay: _Stay, ones: int) -> Tensor:
    more = values.new_full((1, *values.shape[1:]), ones)
    return torch.cat([values[stay.kept], more]) if stay.merges else values[stay.kept]


def _resized(layer: Layer, weight: Tensor, bias: Tensor | None) -> Layer:
    found = copy.deepcopy(layer)
    found.weight = nn.Parameter(weight.to(layer.weight), requires_grad=False)
    found.bias = cast(nn.Parameter, bias)
    if isinstance(found, nn.Conv2d):
        found.in_channels, found.out_channels = weight.shape[1] * found.groups, weight.shape[0]
    else:
        found.in_features, found.out_features = weight.shape[1], weight.shape[0]
    return found


def _stays(steps: Sequence[Step], layers: Sequence[Layer | None]) -> dict[int, _Stay]:
    constants, read = _constants(steps, layers), _read(steps, layers)
    found: dict[int, _Stay] = {}
    for out, (step, layer) in enumerate(zip(steps, layers, strict=True), start=1):
        if layer is None:
            # Poolings have no weights: they go with their source, which a selection does not let go.
            if step.source in found:
                found[out] = found[step.source]
            continue
        value = constants[out]
        # A batch norm that was not folded has as many channels as it has.
        fixed = _groups(layer) > 1 or step.residual is not None or step.norm is not None
        if fixed or not _alone(out, steps, layers):
            continue
        constant = ~value.isnan() & read[out]
        if int((constant & (value != 0)).sum()) < 2:
            # One of them is a channel as it is.
            constant &= value == 0
        kept = (read[out] & ~constant).nonzero().flatten()
        held = torch.where(constant, value, 0)
        if len(kept) == 0 and not held.any():
            kept = torch.zeros(1, dtype=torch.int64)
        stay = _Stay(kept, held)
        if stay.width < len(value):
            found[out] = stay
    return found


def _alone(tensor: int, steps: Sequence[Step], layers: Sequence[Layer | None]) -> bool:
    """Whether only layers that take any number of channels read a tensor, themselves or through poolings."""
    if tensor == len(steps):
        return False
    for out, (step, layer) in enumerate(zip(steps, layers, strict=True), start=1):
        if step.residual == tensor or (step.source == tensor and step.selection):
            return False
        if step.source == tensor and not (_alone(out, steps, layers) if layer is None else _groups(layer) == 1):
            return False
    return True


def _constants(steps: Sequence[Step], layers: Sequence[Layer | None]) -> list[Tensor]:
    """For every tensor the value of each channel that is the same at all pixels of all inputs; NaN for others."""
    # How many channels the input has does not matter: none of them is constant.
    found = [torch.empty(0)]
    for step, layer in zip(steps, layers, strict=True):
        before = found[step.source]
        if step.selection:
            # What batch norms make of constants, and sums of them, is not followed any further.
            found.append(torch.full((step.selection.outputs,), torch.nan, dtype=torch.float64))
            continue
        if layer is None:
            found.append(before)
            continue
        bias = torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias.detach()
        value = _through(layer, bias.double(), before)
        if step.residual is not None:
            other = found[step.residual]
            value = value + other if len(other) else value * torch.nan
        if step.relu:
            value = value.clamp_min(0)
        # Batch norm that was not folded has its own say.
        finite = value.isfinite() & (step.norm is None)
        found.append(torch.where(finite, value, torch.nan))
    return found


def _through(layer: Layer, bias: Tensor, before: Tensor) -> Tensor:
    weight = layer.weight.detach()
    if _groups(layer) > 1 or len(before) == 0:
        return torch.where((weight != 0).flatten(1).any(1), torch.nan, bias)
    by_channel = weight.reshape(len(weight), len(before), -1)
    # Zero goes on as zero across any padding; other constants end there.
    known = before == 0 if isinstance(layer, nn.Conv2d) and padding(layer) != (0, 0) else ~before.isnan()
    moving = ((by_channel != 0).any(2) & ~known).any(1)
    value = bias + _summed(by_channel, torch.where(known, before, 0)).sum(1)
    return torch.where(moving, torch.nan, value)


def _summed(weight: Tensor, constants: Tensor) -> Tensor:
    """What constant channels bring to each output at each place of the kernel, in double precision.

    Large layers have few of them: the rest is not turned into doubles.
    """
    some = constants.nonzero().flatten()
    return (weight[:, some].double() * constants[some, None]).sum(1)


def _read(steps: Sequence[Step], layers: Sequence[Layer | None]) -> list[Tensor]:
    """For every tensor but the input which of its channels something reads that is read itself."""
    found = [torch.empty(0, dtype=torch.bool)]
    for step, layer in zip(steps, layers, strict=True):
        own = len(layer.weight) if layer else step.selection.outputs if step.selection else len(found[step.source])
        found.append(torch.zeros(own, dtype=torch.bool))
    found[-1] |= True
    for out in range(len(steps), 0, -1):
        step, layer = steps[out - 1], layers[out - 1]
        before, wanted = found[step.source], found[out]
        if len(before):
            if layer is None:
                before |= _selected(step.selection, wanted)
            elif _groups(layer) > 1:
                before |= True
            else:
                by_channel = (layer.weight.detach() != 0).reshape(len(wanted), len(before), -1)
                before |= (by_channel.any(2) & wanted[:, None]).any(0)
        if step.residual is not None and len(found[step.residual]):
            found[step.residual] |= wanted
    return found


def _selected(selection: Selection | None, wanted: Tensor) -> Tensor:
    return wanted if selection is None else wanted[selection.first : selection.first + selection.channels]


def _groups(layer: Layer) -> int:
    return layer.groups if isinstance(layer, nn.Conv2d) else 1
