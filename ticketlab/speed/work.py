"""How much arithmetic and memory traffic a network is, dense and with only the kept weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ticketlab.mask import Mask

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Work:
    """Of one image, in floating-point operations (a multiplication and an addition are two) and bytes.

    Attributes:
        dense_flops: of all convolutions and matrix products.
        kept_flops: of those with kept weights only; layers without a mask count in full.
        activation_bytes: inputs and outputs of these layers in fp32, each moved once.
        weight_bytes: kept weights in fp32, without their positions; once for a whole batch.
    """

    dense_flops: float
    kept_flops: float
    activation_bytes: float
    weight_bytes: float

    @property
    def density(self) -> float:
        """The share of the arithmetic that is left."""
        return self.kept_flops / self.dense_flops if self.dense_flops else 1.0

    def arithmetic_s(self, batch: int, peak: float) -> float:
        """Seconds of the kept arithmetic of a batch at a rate in FLOP/s."""
        return batch * self.kept_flops / peak

    def traffic_s(self, batch: int, rate: float) -> float:
        """Seconds to move weights and activations of a batch once at a rate in bytes/s."""
        return (batch * self.activation_bytes + self.weight_bytes) / rate


def work_of(model: nn.Module, mask: Mask, in_shape: tuple[int, ...]) -> Work:
    """Counted in one forward pass of a copy in eval mode."""
    counted = copy.deepcopy(model).eval()
    saved: list[float] = []
    moved: list[float] = []
    parameters = mask.match(counted)
    names = {id(weight): name for name, weight in parameters.items()}

    def count(name: str | None) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            moved.append(4.0 * (given[0].numel() + output.numel()))
            if name is not None:
                weight = parameters[name]
                flops = 2.0 * output.numel() * (weight.numel() // weight.shape[0])
                saved.append(flops * (1 - int(mask[name].sum()) / weight.numel()))

        return hook

    for layer in counted.modules():
        if isinstance(layer, _LAYERS):
            layer.register_forward_hook(count(names.get(id(layer.weight))))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        counted(torch.zeros(1, *in_shape))
    dense = float(counter.get_total_flops())
    rest = sum(p.numel() for p in counted.parameters()) - mask.total
    return Work(dense, dense - sum(saved), sum(moved), 4.0 * (mask.kept + rest))
