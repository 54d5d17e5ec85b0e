"""LeNet-300-100 (LeCun et al. 1998), the multilayer perceptron of the pruning literature."""

from __future__ import annotations

import math

from torch import nn


def mlp(num_classes: int, in_shape: tuple[int, ...]) -> nn.Module:
    """Two hidden layers of 300 and 100 units on the flattened input, of any shape (...).

    Weights are Glorot normal and biases zero, as in Frankle & Carbin 2019.
    """
    model = nn.Sequential()
    model.add_module("flatten", nn.Flatten())
    widths = (math.prod(in_shape), 300, 100, num_classes)
    for i in (1, 2, 3):
        layer = nn.Linear(widths[i - 1], widths[i])
        nn.init.xavier_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
        model.add_module(f"fc{i}", layer)
        if i < 3:
            model.add_module(f"relu{i}", nn.ReLU())
    return model
