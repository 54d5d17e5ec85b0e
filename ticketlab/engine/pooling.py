"""Max pooling that a compiler can fuse: comparisons instead of a search for where the largest value was."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ComparingMaxPool2d(nn.MaxPool2d):
    """Pooling of 2x2 windows; as in torch, the first of equal values gets the gradient.

    A NaN that comes first loses to a number: a net with NaNs is lost in either way, and its loss says so.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (N, C, H, W) to outputs (N, C, H/2, W/2); sides that are not even go torch's way."""
        if x.shape[-2] % 2 or x.shape[-1] % 2:
            whole: Tensor = super().forward(x)
            return whole
        upper = _larger(x[..., 0::2, 0::2], x[..., 0::2, 1::2])
        lower = _larger(x[..., 1::2, 0::2], x[..., 1::2, 1::2])
        return _larger(upper, lower)


def _larger(first: Tensor, second: Tensor) -> Tensor:
    found: Tensor = torch.where(first >= second, first, second)
    return found


def pool_by_comparison(model: nn.Module) -> None:
    """Let the model's 2x2 poolings compare, in place."""
    for module in model.modules():
        if type(module) is nn.MaxPool2d and not module.return_indices and _settings(module) == (2, 2, 0, 1):
            # The module stays itself, with its hooks; only its arithmetic changes.
            module.__class__ = ComparingMaxPool2d


def _settings(module: nn.MaxPool2d) -> tuple[object, ...]:
    found = []
    for value in (module.kernel_size, module.stride, module.padding, module.dilation):
        sides = set(value) if isinstance(value, tuple) else {value}
        found.append(sides.pop() if len(sides) == 1 else None)
    return tuple(found)
