"""Convolutions of small maps as matrix products: library convolutions are slow where a map is 4x4 and below."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SMALL = 4


class ProductConv2d(nn.Conv2d):
    """A convolution computed as im2col and one matrix product: the same sums in another order."""

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (N, C, H, W) to outputs (N, C_out, H_out, W_out)."""
        n, channels, height, width = x.shape
        (kh, kw), (sh, sw), (ph, pw) = self.kernel_size, self.stride, _pair(self.padding)
        rows, columns = (height + 2 * ph - kh) // sh + 1, (width + 2 * pw - kw) // sw + 1
        padded = functional.pad(x.permute(0, 2, 3, 1), (0, 0, pw, pw, ph, ph))
        taps = padded.unfold(1, kh, sh).unfold(2, kw, sw)
        patches = taps.permute(0, 1, 2, 4, 5, 3).reshape(n * rows * columns, kh * kw * channels)
        filters = self.weight.permute(0, 2, 3, 1).reshape(self.out_channels, -1)
        out = functional.linear(patches, filters, self.bias)
        out = out.view(n, rows, columns, self.out_channels).permute(0, 3, 1, 2)
        # In the layout that came in, which the rest of the model may rely on.
        return out if x.is_contiguous(memory_format=torch.channels_last) else out.contiguous()


def _pair(padding: str | tuple[int, ...]) -> tuple[int, int]:
    assert not isinstance(padding, str)
    return padding[0], padding[1]


def small_maps(model: nn.Module, inputs: Tensor) -> list[str]:
    """Names of the convolutions that a product may serve and whose maps are 4x4 and below for such inputs."""
    found: dict[str, bool] = {}
    handles = []
    for name, module in model.named_modules():
        if type(module) is nn.Conv2d and _plain(module):

            def look(_: nn.Module, __: object, out: Tensor, name: str = name) -> None:
                found[name] = found.get(name, True) and max(out.shape[2:]) <= SMALL

            handles.append(module.register_forward_hook(look))
    try:
        modes = {m: m.training for m in model.modules()}
        with torch.no_grad():
            model.eval()(inputs)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return [name for name, small in found.items() if small]


def _plain(module: nn.Conv2d) -> bool:
    return (
        module.groups == 1
        and not isinstance(module.padding, str)
        and module.padding_mode == "zeros"
        and tuple(module.dilation) == (1, 1)
    )


def small_maps_as_products(model: nn.Module, inputs: Tensor) -> None:
    """Turn those convolutions into products, in place; parameters and their names stay."""
    for name in small_maps(model, inputs):
        # The module stays itself, with its hooks and parameters; only its arithmetic changes.
        model.get_submodule(name).__class__ = ProductConv2d
