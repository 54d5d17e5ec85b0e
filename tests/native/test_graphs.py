"""Nets whose tensors are read by several layers, in any order: whose gradient comes first, which part comes last."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from native.reference import rounding
from ticketlab.sparse import Net, Norm

CHANNELS = 6


def drawn(seed: int) -> list[dict[str, object]]:
    """Layers that all keep the shape; every tensor is read by something."""
    draw = random.Random(seed)
    layers: list[dict[str, object]] = []
    unread = [0]
    while len(layers) < 9 or len(unread) > 1:
        known = list(range(len(layers) + 1))
        source = unread.pop(0) if unread else draw.choice(known)
        residual = None
        if len(layers) > 8 or draw.random() < 0.6:
            residual = unread.pop(0) if unread and draw.random() < 0.7 else draw.choice(known)
        # A tensor may stay unread for a while, so that others come in between.
        if draw.random() < 0.4 and len(layers) < 7 and source not in unread:
            unread.append(source)
        norm, relu = draw.random() < 0.6, draw.random() < 0.6
        layers.append({"source": source, "residual": residual, "norm": norm, "relu": relu})
        unread.append(len(layers))
    return layers


@pytest.mark.parametrize("seed", range(30))
def test_gradients_through_any_graph(seed: int) -> None:
    layers = drawn(seed)
    torch.manual_seed(seed)
    net = Net((CHANNELS, 5, 5), 9, input_gradient=True)
    weights: list[Tensor] = []
    for i, layer in enumerate(layers):
        mask = torch.rand(CHANNELS, CHANNELS, 3, 3) < 0.3
        weights.append(torch.randn(mask.shape) * mask * 0.6)
        norm = Norm() if layer["norm"] else None
        found = net.layer(
            layer["source"],  # type: ignore[arg-type]
            mask,
            padding=(1, 1),
            bias=True,
            norm=norm,
            residual=layer["residual"],  # type: ignore[arg-type]
            relu=bool(layer["relu"]),
        )
        assert found == i + 1
    net.build()
    x = torch.randn(9, CHANNELS, 5, 5)
    exact = x.double().requires_grad_()
    held = [w.double().requires_grad_() for w in weights]
    tensors = [exact]
    for i, layer in enumerate(layers):
        net.write(i, "weight", weights[i])
        y = functional.conv2d(tensors[layer["source"]], held[i], padding=1)  # type: ignore[call-overload]
        if layer["norm"]:
            y = functional.batch_norm(y, None, None, training=True)
        if layer["residual"] is not None:
            y = y + tensors[layer["residual"]]  # type: ignore[call-overload]
        tensors.append(torch.relu(y) if layer["relu"] else y)
    found_output = net.forward(x, training=True)
    assert rounding(found_output, tensors[-1].detach()) < 1e-5
    dy = torch.randn(found_output.shape)
    tensors[-1].backward(dy.double())
    net.backward(dy)
    assert exact.grad is not None
    assert rounding(net.input_gradient(), exact.grad) < 2e-5
    for i, w in enumerate(held):
        assert w.grad is not None
        assert rounding(net.read(i, "weight", "gradient"), w.grad * (weights[i] != 0)) < 2e-5, i
