"""torch's own ways to run a folded network: as it is, channels last, and linear layers as CSR matrices."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, fx, nn

from ticketlab.engine.engine import in_channels_last

Call = Callable[[Tensor], Tensor]


def plain(model: nn.Module) -> Call:
    """As it is."""

    def call(inputs: Tensor) -> Tensor:
        with torch.no_grad():
            outputs: Tensor = model(inputs)
        return outputs

    return call


def channels_last(model: nn.Module) -> Call | None:
    """With weights and images stored channels last; None for a model without convolutions."""
    if not any(isinstance(m, nn.Conv2d) for m in model.modules()):
        return None
    call = plain(in_channels_last(copy.deepcopy(model)))
    return lambda inputs: call(inputs.contiguous(memory_format=torch.channels_last)).contiguous()


class CsrLinear(nn.Module):
    """A linear layer (N, I) to (N, O) whose weight is a CSR matrix."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        with warnings.catch_warnings():
            # torch calls its own CSR matrices beta.
            warnings.simplefilter("ignore")
            self.weight = layer.weight.detach().to_sparse_csr()
        self.bias = None if layer.bias is None else layer.bias.detach()[:, None]

    def forward(self, x: Tensor) -> Tensor:
        columns = self.weight @ x.t() if self.bias is None else torch.addmm(self.bias, self.weight, x.t())
        return columns.t()


def csr(model: nn.Module) -> Call | None:
    """With all linear layers as CSR matrices; None for a model with other layers, or where torch cannot do it."""
    if not isinstance(model, fx.GraphModule) or any(isinstance(m, nn.Conv2d) for m in model.modules()):
        return None
    turned = copy.deepcopy(model)
    for name, layer in list(turned.named_modules()):
        if isinstance(layer, nn.Linear):
            owner, _, last = name.rpartition(".")
            setattr(turned.get_submodule(owner), last, CsrLinear(layer))
    try:
        features = next(m.in_features for m in model.modules() if isinstance(m, nn.Linear))
        plain(turned)(torch.zeros(1, features, dtype=torch.float32))
    except (RuntimeError, StopIteration):
        # Without MKL torch cannot multiply them.
        return None
    call = plain(turned)
    return lambda inputs: call(inputs).contiguous()
