"""Sizes beyond all sense: refused before any arithmetic on them overflows."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ticketlab.errors import InputError
from ticketlab.sparse import Net

BOTH = pytest.mark.parametrize("lanes", ["images", "pixels"])


@BOTH
@pytest.mark.parametrize(
    "options",
    [
        # Four times the first is nothing in 32 bits.
        {"dilation": (2**30, 2**30)},
        {"padding": (2**30, 2**30)},
        {"padding": (2**20, 2**20)},
        {"dilation": (2**20, 1), "padding": (2**20, 0)},
        {"stride": (2**31 - 1, 1), "padding": (2**31 - 1, 0)},
    ],
)
def test_convolutions(options: dict[str, Any], lanes: Any) -> None:
    net = Net((1, 5, 5), 1, training=False, lanes=lanes)
    with pytest.raises(InputError, match=r"places|too large|larger than its input"):
        net.layer(0, torch.ones(1, 1, 5, 5, dtype=torch.bool), **options)
        net.build()


def test_strides_that_split_a_map_into_more_than_can_be_counted() -> None:
    net = Net((2, 5, 5), 1, training=False, lanes="pixels")
    net.layer(0, torch.ones(1, 2, 3, 3, dtype=torch.bool), stride=(2**16, 2**16))
    with pytest.raises(InputError, match="too large"):
        net.build()


@BOTH
def test_a_kernel_that_a_stride_would_carry_over_the_edge(lanes: Any) -> None:
    net = Net((1, 5, 5), 1, training=False, lanes=lanes)
    with pytest.raises(InputError, match="larger than its input"):
        net.layer(0, torch.ones(1, 1, 6, 5, dtype=torch.bool), stride=(2, 1))


@BOTH
@pytest.mark.parametrize("side", [2**20, 2**31 - 1])
def test_inputs(side: int, lanes: Any) -> None:
    with pytest.raises(InputError, match="too large"):
        Net((side, side, side), 1, training=False, lanes=lanes)
