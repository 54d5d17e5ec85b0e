"""Arithmetic and traffic, against numbers worked out by hand."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import nn

import ticketlab
from ticketlab.speed.structure import structure_of
from ticketlab.speed.work import work_of

# Outputs times weights of one output: 4 x 4 x 4 of 9, 2 x 2 x 8 of 36, 3 of 32.
FLOPS = {"first.weight": 2 * 64 * 9, "second.weight": 2 * 32 * 36, "last.weight": 2 * 3 * 32}
MOVED = 4 * ((64 + 64) + (64 + 32) + (32 + 3))


def test_by_hand() -> None:
    model = tiny.Net()
    mask = ticketlab.Mask.dense(ticketlab.prunable(model))
    dense = work_of(model, mask, (1, 8, 8))
    assert dense.dense_flops == dense.kept_flops == sum(FLOPS.values())
    assert dense.activation_bytes == MOVED and dense.density == 1
    assert dense.weight_bytes == 4 * sum(p.numel() for p in model.parameters())
    kept = {name: torch.zeros_like(flags) for name, flags in mask.items()}
    kept["second.weight"].view(-1)[:72] = True
    kept["last.weight"][:] = True
    sparse = work_of(model, ticketlab.Mask(kept), (1, 8, 8))
    assert sparse.kept_flops == pytest.approx(FLOPS["second.weight"] / 4 + FLOPS["last.weight"])
    assert dense.weight_bytes - sparse.weight_bytes == 4 * (36 + 216)
    assert sparse.arithmetic_s(10, 1e6) == pytest.approx(10 * sparse.kept_flops / 1e6)
    assert sparse.traffic_s(10, 1e6) == pytest.approx((10 * MOVED + sparse.weight_bytes) / 1e6)


def test_layers_without_a_mask_and_groups_count_as_they_are() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=4, padding=1), nn.Flatten(), nn.Linear(8 * 25, 2, bias=False))
    kept = torch.zeros(8, 1, 3, 3, dtype=torch.bool)
    kept[::2] = True
    found = work_of(model, ticketlab.Mask({"0.weight": kept}), (4, 5, 5))
    convolution, linear = 2 * 8 * 25 * 9, 2 * 2 * 200
    assert found.dense_flops == convolution + linear and found.kept_flops == convolution / 2 + linear


def _mask(kept: torch.Tensor) -> ticketlab.Mask:
    return ticketlab.Mask({"a": torch.ones(3, 4, dtype=torch.bool), "w": kept})


def test_structures() -> None:
    whole = torch.ones(8, 16, dtype=torch.bool)
    assert structure_of(_mask(whole)) == "none"
    rows = whole.clone()
    rows[::2] = False
    assert structure_of(_mask(rows)) == "channels"
    pairs = whole.clone()
    pairs[:, 1::4] = pairs[:, 2::4] = False
    assert structure_of(_mask(pairs)) == "2:4"
    pairs[0, 1], pairs[0, 0] = True, False
    assert structure_of(_mask(pairs)) == "2:4"
    pairs[0, 4] = False
    assert structure_of(_mask(pairs)) == "unstructured"
    assert structure_of(_mask(torch.rand(8, 16) > 0.5)) == "unstructured"
