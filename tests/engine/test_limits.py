"""Ceilings: operations counted by hand, rates that are numbers, and nothing left changed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ticketlab.engine.limits import copy_bandwidth, matmul_peak, training_flops


def test_a_linear_layer_costs_a_product_forward_and_one_for_the_weights() -> None:
    """The first layer has no gradient to hand on, so 2 products of 2·in·out; further layers have 3."""
    assert training_flops(nn.Linear(7, 5), (7,), 5) == 2 * (2 * 7 * 5)
    two = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
    assert training_flops(two, (7,), 3) == 2 * (2 * 7 * 5) + 3 * (2 * 5 * 3)


def test_convolutions_cost_a_product_per_output_position() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 4, 3, stride=2, padding=1),
        nn.Flatten(),
        nn.Linear(4 * 3 * 3, 10),
    )
    first, second, last = 2 * 36 * 8 * 27, 2 * 9 * 4 * 72, 2 * 36 * 10
    assert training_flops(net, (3, 6, 6), 10) == 2 * first + 3 * second + 3 * last


def test_counting_leaves_the_model_and_the_random_state_alone() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 3)).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    training_flops(net, (1, 4, 4), 3)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module.training for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_peak_is_a_rate(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ticketlab.engine.limits._SIDES", {"cpu": (64, 128)})
    rate = matmul_peak(dtype, 1, seconds=0.02)
    assert math.isfinite(rate) and rate > 1e6


def test_a_bandwidth_is_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ticketlab.engine.limits._COPIED", 2**20)
    rate = copy_bandwidth(1, seconds=0.02)
    assert math.isfinite(rate) and rate > 1e6


def test_the_number_of_threads_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ticketlab.engine.limits._SIDES", {"cpu": (16,)})
    before = torch.get_num_threads()
    matmul_peak(torch.float32, before + 1, seconds=0.01)
    assert torch.get_num_threads() == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_waited_for() -> None:
    """Without waiting, the time would be that of starting the work, and the rate beyond any hardware."""
    assert 1e11 < matmul_peak(torch.float32, None, "cuda", seconds=0.5) < 1e16
    assert 1e9 < copy_bandwidth(None, "cuda", seconds=0.5) < 1e14
