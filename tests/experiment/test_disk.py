"""The disk estimate against what a study leaves in its store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
from torch import nn

from ticketlab.experiment.disk import RECORD, disk_of


def held(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "store").rglob("*") if path.is_file())


def wide(num_classes: int) -> nn.Module:
    """150,000 weights: here tensors count for more than records."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2000), nn.ReLU(), nn.Linear(2000, num_classes))


@pytest.mark.parametrize(
    "changes",
    [
        {"methods": ["snip", "lottery,rewind=1"], "checks": ["all"]},
        {"methods": ["lottery"], "checks": ["rearrange", "weight-shuffle"], "model": wide},
        {"methods": ["snip"], "checks": ["corrupted"], "recipe": tiny.Recipe(epochs=30, batch_size=60, augment=False)},
        {"methods": ["snip"], "checks": ["rearrange"], "data": tiny.data(test=5000)},
    ],
)
def test_the_estimate_is_close(tmp_path: Path, changes: dict[str, Any]) -> None:
    found = tiny.prepared(tmp_path / "s", **changes)
    wanted = found.estimate(1).disk
    found.run()
    # Of two steps with the same contents one holds no tensors: nothing foresees that.
    shared = [s for i, s in found.plan.steps.items() if found.store.linked(i)]
    wanted -= disk_of(shared, found.context) - RECORD * len(shared)
    assert held(tmp_path / "s") / 1.5 < wanted < 1.5 * held(tmp_path / "s")
    assert found.estimate(1).disk == 0, "nothing is left to be written"


def test_what_each_kind_leaves(tmp_path: Path) -> None:
    """Weights, a byte an image, twice the weights where they are kept, a bit a weight."""
    found = tiny.prepared(tmp_path / "s", ["lottery"], checks=["rearrange", "weight-shuffle"], model=wide)
    weights = sum(p.numel() * p.element_size() for p in wide(3).parameters())
    by_kind: dict[str, int] = {}
    for step in found.plan.steps.values():
        name = f"{step.kind} {step.params.get('keep', step.params.get('name', ''))}".strip()
        by_kind[name] = disk_of([step], found.context)
    records = by_kind.pop("control")
    assert 0 < records < 3000
    mask = (64 * 2000 + 2000 * 3) // 8
    expected = {"init": weights, "train True": 2 * weights + 40, "train False": 40, "prune": mask}
    expected |= {"transform rearrange": mask, "transform weight-shuffle": weights}
    assert set(by_kind) == set(expected)
    for name, size in expected.items():
        assert size <= by_kind[name] < size + records + 2000, name
