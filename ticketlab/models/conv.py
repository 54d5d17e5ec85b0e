"""A small convolutional net that trains on a laptop in a second."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from ticketlab.models.init import kaiming_out


def conv(num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    """Three 3x3 convolutions (16, 32, 64) with batch norm, halving the size twice, then one linear layer.

    Takes images of any size; 23,824 prunable weights for (1, 8, 8) and ten classes.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    widths = (in_shape[0], 16, 32, 64)
    for i in (1, 2, 3):
        layers[f"conv{i}"] = nn.Conv2d(widths[i - 1], widths[i], 3, padding=1, bias=False)
        layers[f"bn{i}"] = nn.BatchNorm2d(widths[i])
        layers[f"relu{i}"] = nn.ReLU()
        if i < 3:
            layers[f"pool{i}"] = nn.MaxPool2d(2, ceil_mode=True)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(widths[3], num_classes)
    model = nn.Sequential(layers)
    kaiming_out(model)
    return model
