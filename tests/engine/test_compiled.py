"""Engines with the real compiler: packing changes nothing, and the mathematics is that of the eager ones."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

from engine.engines import LONG, Trained, images, job, net, same, some_mask, ticket
from ticketlab.engine.kinds import open_engine
from ticketlab.engine.train import train_jobs

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="torch.compile needs a C++ compiler"
)


@pytest.mark.parametrize("spec", ["stacked:8", "compiled"])
def test_compiled_packs(spec: str) -> None:
    """Tickets alone, among three and among eight; the smaller last batch goes uncompiled."""
    data, recipe = images(), replace(LONG, epochs=2)
    trainer = open_engine(spec, net(), data, recipe)

    def together(numbers: list[int]) -> list[Trained]:
        return train_jobs(trainer, [ticket(n) for n in numbers], data, recipe)

    alone = together([1])[0]
    assert same(together([2, 1, 3])[1], alone)
    if trainer.width == 8:
        assert same(together([2, 3, 4, 5, 6, 7, 8, 1])[7], alone)
    gentle = replace(recipe, epochs=1, lr=0.01)
    eager, compiled = (
        train_jobs(open_engine(kind, net(), data, gentle), [job(net(), some_mask(net()))], data, gentle)[0]
        for kind in ("plain", spec)
    )
    for name, value in eager.weights.items():
        torch.testing.assert_close(compiled.weights[name], value, rtol=1e-3, atol=1e-5)
