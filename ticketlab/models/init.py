"""How fresh weights are drawn."""

from __future__ import annotations

import math

from torch import nn


def kaiming_out(model: nn.Module) -> None:
    """Convolutions: Kaiming normal by fan-out (He et al. 2015); linear layers: N(0, 0.01²); biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def kaiming_in(model: nn.Module) -> None:
    """Convolutions: N(0, 2 / (k² C_in)), as Su et al. 2020 draw VGG; linear: N(0, 0.01²); biases zero."""
    kaiming_out(model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=math.sqrt(2 / module.weight[0].numel()))
