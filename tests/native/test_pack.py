"""Images into blocks of lanes and back: nothing is lost on the way, whatever the shape, the border and the batch."""

from __future__ import annotations

import itertools

import pytest
import torch

from ticketlab.sparse import Net
from ticketlab.sparse.library import library


@pytest.mark.parametrize("level", ["plain", "avx2", "avx512"])
@pytest.mark.parametrize(
    "shape", [(1,), (3,), (300,), (1030,), (2, 1, 1), (5, 3, 7), (3, 17, 1), (70, 2, 2), (2, 9, 33)]
)
def test_there_and_back(shape: tuple[int, ...], level: str) -> None:
    if level not in library().levels():
        pytest.skip(f"no {level} here")
    before = torch.get_num_threads()
    try:
        for border, threads in itertools.product((0, 1, 2) if len(shape) == 3 else (0,), (1, 3)):
            torch.set_num_threads(threads)
            net = Net(shape, 83, instructions=level, training=False)
            kernel = () if len(shape) == 1 else (3, 3) if border else (1, 1)
            net.layer(0, torch.ones(2, shape[0], *kernel, dtype=torch.bool), padding=(border, border))
            net.build()
            for n in (83, 1, 16, 19, 64):
                x = torch.randn(n, *shape)
                net.forward(x)
                assert torch.equal(net.activation(0).view(x.shape), x), (border, threads, n)
    finally:
        torch.set_num_threads(before)
